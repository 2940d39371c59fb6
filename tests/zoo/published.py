"""The published training run written down as it is described: a plain loop over epochs, probes, steps and nodes.

Float64, one step at a time, the published order of summation; sections 3 to 11 of the behaviour it
follows are named at each function. It shares no code with the package.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def signals(channels: Any, steps: int) -> NDArray[Any]:
    """Section 2."""
    t = np.arange(steps, dtype=float)
    waves = {"sin": np.sin, "cos": np.cos}
    return np.stack([c["amp"] * waves[c["fn"]](c["omega"] * t + c["phase"]) for c in channels], axis=1)


def forward(config: Any, params: list[float], x: Any, y: Any, depth: int) -> tuple[dict[str, float], NDArray[Any]]:
    """Losses over the sequence, and the last node's states (sections 3, 4, 7)."""
    branches, last = config["K"], None
    task = cons = coh = 0.0
    states = []
    for t in range(len(x)):
        s, spreads = x[t], []
        for i, node in enumerate(config["nodes"]):
            w, b = params[2 * i], params[2 * i + 1]
            for _ in range(max(1, int(depth))):
                s = np.tanh(w * s + b)
            span = max(config["span_floor"], node["span"] / (1.0 + config["span_depth_coef"] * (depth - 1)))
            fan = np.stack([np.tanh(1.0 * s + 0.0 + d) for d in np.linspace(-span, span, branches)])
            future = np.mean(fan, axis=0) if config["policy"] == "mean" else np.median(fan, axis=0)
            centre = np.mean(fan, axis=0, keepdims=True)
            distance = (fan - centre) ** 2 if config["coherence_mode"] == "variance" else np.abs(fan - centre)
            spreads.append(float(np.mean(distance)))
        error = s - y[t]
        task += float(np.mean(error**2) if config["task_loss"] == "mse" else np.mean(np.abs(error)))
        if last is not None:
            alpha, beta = config["consistency"]["alpha"], config["consistency"]["beta"]
            cons += alpha * float(np.mean((s - last) ** 2)) + beta * float(np.mean((s - future) ** 2))
        coh += float(np.mean(spreads))
        last = s
        states.append(s)
    steps, weights = len(x), config["weights"]
    task, cons, coh = task / steps, cons / max(1, steps - 1), coh / steps
    total = weights["task"] * task + weights["cons"] * cons + weights["coh"] * coh
    return {"task": task, "cons": cons, "coh": coh, "total": total}, np.array(states)


def norm(values: Any) -> float:
    """Section 13, item 9."""
    total = 0.0
    for value in values:
        total += value * value
    return math.sqrt(total)


def train(config: Any) -> dict[str, Any]:
    """Sections 5, 6, 8, 9 and 10."""
    x = signals(config["input_channels"], config["T"])
    y = np.zeros_like(x) if config["target_channels"] is None else signals(config["target_channels"], config["T"])
    params = [float(node[k]) for node in config["nodes"] for k in "wb"]
    names = [f"b{i // 2}_{'wb'[i % 2]}" for i in range(len(params))]
    schedule, previous, best, best_params, bad, stopped = config["depth_schedule"], None, None, None, 0, None
    epochs = []
    for e in range(config["epochs"]):
        ratio = min(max(e / max(1, schedule["epochs"]), 0.0), 1.0)
        depth = round(schedule["start"] + (schedule["end"] - schedule["start"]) * ratio)
        mean = float(np.mean([depth] * len(config["nodes"])))
        rate = (config["base_lr"] / (1.0 + config["lr_depth_coef"] * (mean - 1.0))) * (
            1.0 / (1.0 + config["lr_epoch_coef"] * e)
        )
        eps = (config["base_eps"] / (1.0 + config["eps_depth_coef"] * (mean - 1.0))) * (
            1.0 / (1.0 + config["eps_epoch_coef"] * e)
        )
        before = forward(config, params, x, y, depth)[0]
        freeze, previous = previous is not None and previous != depth, depth
        record = {
            "epoch": e,
            "depths": [depth] * len(config["nodes"]),
            "lr_eff": rate,
            "eps_eff": eps,
            "freeze": freeze,
            "before": before,
            "after": before,
        }
        if not freeze:
            raw = []
            for j in range(len(params)):
                totals = []
                for sign in (1.0, -1.0):
                    probe = list(params)
                    probe[j] = params[j] + sign * eps
                    totals.append(forward(config, probe, x, y, depth)[0]["total"])
                raw.append((totals[0] - totals[1]) / (2.0 * eps))
            limit = next(
                c["max_norm"]
                for c in config["clip_thresholds"]
                if c["depth_mean_below"] is None or mean < c["depth_mean_below"]
            )
            length = norm(raw)
            clipped = raw if length <= limit or length == 0.0 else [g * (limit / length) for g in raw]
            params = [p - rate * g for p, g in zip(params, clipped, strict=True)]
            record["after"] = forward(config, params, x, y, depth)[0]
            record["grads_raw"] = dict(zip(names, raw, strict=True))
            record["grads_clipped"] = dict(zip(names, clipped, strict=True))
            record["grad_norm_before"], record["grad_norm_after"] = length, norm(clipped)
        record["params_after"] = dict(zip(names, params, strict=True))
        epochs.append(record)
        if best is None or record["after"]["total"] < best["total"]:
            best, best_params, bad = {"epoch": e, **record["after"]}, dict(record["params_after"]), 0
        else:
            bad += 1
        if bad > config["patience"]:
            stopped = e
            break
    states = forward(config, params, x, y, depth)[1]
    channel = config["metric_channel"]
    return {
        "epochs": epochs,
        "best": best,
        "best_params": best_params,
        "metrics": metrics(y[:, channel], states[:, channel], config["smape_eps"]),
        "early_stopped_at": stopped,
        "final_states": states.tolist(),
    }


def metrics(y: Any, p: Any, floor: float) -> dict[str, float]:
    """Section 11."""
    peak = float(np.max(y))
    return {
        "smape": float(100.0 * np.mean(np.abs(p - y) / np.maximum(np.abs(y) + np.abs(p), floor))),
        "rmse": float(np.sqrt(np.mean((p - y) ** 2))),
        "overshoot": 0.0 if peak == 0.0 else float(np.max(np.maximum(0.0, p - peak)) / abs(peak)),
        "robustness": float(1.0 / (1.0 + np.mean((y - p) ** 2))),
    }
