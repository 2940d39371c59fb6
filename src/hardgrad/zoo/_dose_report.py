"""What `rational-dose` prints and draws of its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ._dose import ARMS
from ._figures import BLUE, INK, SKY, SOFT, VERMILLION, new_figure
from ._verdicts import compare, spread

Table = Mapping[str, Mapping[str, list[float]]]
"""Arm, figure: a value each seed."""

_ROWS = {**ARMS, "exact": "exact"}
_OURS = "projective"


def table_lines(table: Table) -> list[str]:
    """Mean ± standard deviation over seeds, in at most 80 columns."""
    number = lambda values: f"{np.mean(values):.4f} ± {spread(values):.4f}"
    percent = lambda values: f"{100 * np.mean(values):.3f} ± {100 * spread(values):.3f}"
    first = [("macro-F1", "macro_f1", number), ("direction F1", "direction_f1", number)]
    first += [("error, decades", "finite_mae", number)]
    second = [("false in range", "false_in_range", percent), ("false censored", "false_censored", percent)]
    second += [("accepted", "accept_rate", percent), ("in the gap", "gap_rate", percent)]

    def block(columns: list[tuple[str, str, Callable[[Any], str]]], width: int) -> list[str]:
        head = f"{'':<12}" + "".join(f"{title:>{width}}" for title, _, _ in columns)
        return [head] + [
            f"{label:<12}" + "".join(f"{show(table[name][key]):>{width}}" for _, key, show in columns)
            for name, label in _ROWS.items()
        ]

    return [*block(first, 18), "", "percent", *block(second, 17)]


def verdict_lines(table: Table) -> list[str]:
    """Who won, from the figures, against the best other arm by each."""
    lines, others = [], [name for name in ARMS if name != _OURS]
    for key, title, sign in (
        ("macro_f1", "macro-F1", -1.0),
        ("direction_f1", "direction F1", -1.0),
        ("false_in_range", "false in range", 1.0),
        ("false_censored", "false censored", 1.0),
        ("finite_mae", "error in range", 1.0),
    ):
        words = {name: compare(table[_OURS][key], table[name][key], sign) for name in others}
        rival = min(others, key=lambda name: _worst_last(sign, table[name][key]))
        if set(words.values()) == {"ties with"}:
            lines.append(f"By {title} no arm differs from the projective one.")
        else:
            lines.append(f"By {title} the projective arm {words[rival]} the best other, {ARMS[rival]}.")
    best = max(float(np.mean(table[name]["macro_f1"])) for name in ARMS)
    ceiling = float(np.mean(table["exact"]["macro_f1"]))
    lines.append(f"No arm's macro-F1 is above {best:.4f}; that of the exact answer is {ceiling:.4f}.")
    return lines


def headline(table: Table) -> str:
    """Macro-F1 of the projective arm, beside that of the exact answer."""
    ours, best = table[_OURS]["macro_f1"], table["exact"]["macro_f1"]
    return f"macro-F1 {np.mean(ours):.4f} ± {spread(ours):.4f}; the exact answer has {np.mean(best):.4f}"


def _worst_last(sign: float, values: list[float]) -> float:
    mean = sign * float(np.mean(values))
    return mean if np.isfinite(mean) else np.inf


def confusion_figure(counts: Mapping[str, Any]) -> Any:
    """A panel an arm: shares of each true class answered by each, all seeds together."""
    figure = new_figure(9.0, 2.6)
    names = ("below", "in range", "above")
    panels = figure.subplots(1, len(_ROWS), sharey=True)
    for axis, (name, label) in zip(panels, _ROWS.items(), strict=True):
        found = np.asarray(counts[name], float)
        share = found / np.maximum(found.sum(axis=1, keepdims=True), 1.0)
        axis.imshow(share, cmap="Blues", vmin=0.0, vmax=1.0)
        for i, j in np.ndindex(share.shape):
            color = "white" if share[i, j] > 0.5 else INK
            axis.text(j, i, f"{100 * share[i, j]:.3g} %", ha="center", va="center", fontsize="small", color=color)
        axis.set_title(label, fontsize="medium")
        axis.set_xticks(range(3), names, fontsize="small")
        axis.set_yticks(range(3), names, fontsize="small")
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    panels[0].set_ylabel("truly")
    figure.supxlabel("answered", fontsize="medium")
    return figure


def angle_figure(angles: Mapping[str, Any]) -> Any:
    """How many curves of each kind lie at which angle of (P, Q), and where it is refused."""
    figure = new_figure(7.5, 2.8)
    axis = figure.subplots()
    edges = np.asarray(angles["edges"])
    for (name, counts), color in zip(angles["counts"].items(), (VERMILLION, BLUE, SKY, INK), strict=True):
        axis.stairs(counts, edges, label=name, color=color, fill=name != "flat", alpha=0.6 if name != "flat" else 1.0)
    for side in (-1, 1):
        label = "threshold" if side > 0 else None
        axis.axvline(side * angles["threshold"], color=SOFT, ls="--", lw=1.2, label=label)
    axis.set_yscale("symlog", linthresh=10)
    axis.set_xticks((-90, -45, 0, 45, 90))
    axis.set_xlabel("angle of (P, Q), degrees: -90 is -∞, +90 is +∞")
    axis.set_ylabel("curves")
    axis.legend(ncols=5, frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def seeds_figure(table: Table) -> Any:
    """A dot a seed: macro-F1 and error in range."""
    figure = new_figure(7.5, 2.6)
    panels = figure.subplots(1, 2, sharey=True)
    for axis, key, label in zip(
        panels, ("macro_f1", "finite_mae"), ("macro-F1", "mean error in range, decades"), strict=True
    ):
        for row, name in enumerate(reversed(_ROWS)):
            values = [np.nan if value is None else float(value) for value in table[name][key]]
            color = {_OURS: BLUE, "exact": INK}.get(name, SOFT)
            axis.plot(values, [row] * len(values), "o", color=color, ms=6, alpha=0.75)
        axis.set_xlabel(label)
        axis.set_yticks(range(len(_ROWS)), list(reversed(_ROWS.values())))
        axis.grid(axis="y", color="#d9dee3", lw=0.7)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(left=False)
    return figure
