"""The published hypercausal run's own words: names of parameters, lines of text, shape of a result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import jax

from ..core import split_parameters
from ..training import EpochRecord


def names(count: int) -> list[str]:
    """The published names of 2N parameters: b0_w, b0_b, b1_w, …"""
    return [f"b{i // 2}_{'wb'[i % 2]}" for i in range(count)]


def parameters(model: Any) -> dict[str, float]:
    """The parameters under their published names."""
    leaves = [float(leaf) for leaf in jax.tree.leaves(split_parameters(model)[0])]
    return dict(zip(names(len(leaves)), leaves, strict=True))


def epoch_line(nodes: int) -> Callable[[EpochRecord], str]:
    """The published line of an epoch of a chain of so many nodes."""

    def line(record: EpochRecord) -> str:
        depths = [record.controls["depth"]] * nodes
        rates = f"lr_eff={record.controls['learning_rate']:.3e} eps_eff={record.controls['eps']:.3e}"
        m = record.metrics
        if record.frozen:
            text = f"[Epoch {record.epoch}] FREEZE depth={depths} total={m['loss']:.6f} {rates}"
        else:
            text = (
                f"[Epoch {record.epoch}] total_before={m['loss']:.6f} total_after={m['val_loss']:.6f} "
                f"depth={depths} {rates} ||g||_before={m['gradient_norm']:.3e} ||g||_after={m['clipped_norm']:.3e}"
            )
        return text

    return line


def _terms(metrics: Mapping[str, float], prefix: str = "") -> dict[str, float]:
    terms = {name: metrics[prefix + name] for name in ("task", "cons", "coh")}
    return {**terms, "total": metrics[prefix + "loss"]}


def epoch_as_published(nodes: int, record: EpochRecord) -> dict[str, Any]:
    """An epoch at full precision, under the published names."""
    labels = names(2 * nodes)
    before = _terms(record.metrics)
    epoch: dict[str, Any] = {
        "epoch": record.epoch,
        "depths": [record.controls["depth"]] * nodes,
        "lr_eff": record.controls["learning_rate"],
        "eps_eff": record.controls["eps"],
        "freeze": record.frozen,
        "before": before,
        "after": before if record.frozen else _terms(record.metrics, "val_"),
    }
    if not record.frozen:
        raw = record.arrays["gradient"][0]
        norm, limit = record.metrics["gradient_norm"], record.controls["max_norm"]
        # Worked out again by the rule of `clip_by_global_norm`; its norm, below, is the recorded one.
        clipped = raw if norm <= limit else raw * (limit / norm)
        epoch |= {
            "grads_raw": dict(zip(labels, raw.tolist(), strict=True)),
            "grads_clipped": dict(zip(labels, clipped.tolist(), strict=True)),
            "grad_norm_before": norm,
            "grad_norm_after": record.metrics["clipped_norm"],
        }
    epoch["params_after"] = dict(zip(labels, record.arrays["parameters"][0].tolist(), strict=True))
    return epoch


def closing_lines(channel: int, content: Mapping[str, Any], best: Mapping[str, Any] | None) -> list[str]:
    """What the published program prints after its epochs; ``{run}`` stands for the run's folder."""
    metrics, epochs = content["metrics"], content["epochs"]
    lines = []
    if content["early_stopped_at"] is not None and best is not None:
        frozen = " (freeze)" if epochs[-1]["freeze"] else ""
        lines.append(
            f"Early stopping activated at epoch {content['early_stopped_at']}{frozen}. "
            f"Best total={best['total']:.6f} (epoch {best['epoch']})."
        )
    if best is not None:
        lines += ["", "Best parameters saved at: {run}/best/best_params.json"]
    lines += ["", f"=== Final metrics (channel {channel}) ==="]
    lines += [f"{'SMAPE:':<12}{metrics['smape']:.6f} %", f"{'RMSE:':<12}{metrics['rmse']:.6f}"]
    lines += [
        f"{'Overshoot:':<12}{metrics['overshoot']:.6f}",
        f"{'Robustness:':<12}{metrics['robustness']:.6f}",
    ]
    lines += [
        "",
        f"Best epoch snapshot: {best}",
        "",
        "Telemetry JSONL → {run}/telemetry.jsonl",
        "",
        "Summary:",
    ]
    lines += json.dumps({"best": best, "metrics": metrics}, indent=2).splitlines()
    return lines
