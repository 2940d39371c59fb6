"""What `hybrid-study` says: the table, who is better than the surrogate by how much, and the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.stats  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ..training import RunFolder
from ._figures import BLUE, INK, SKY, SOFT, VERMILLION, new_figure
from ._verdicts import spread

_COLOURS = {
    "surrogate": INK,
    "few": INK,
    "es": SOFT,
    "hybrid": BLUE,
    "turns": SKY,
    "raw": "#0a9396",
    "guided": "#aa4499",
    "calibrated": "#aa4499",
    "tails": VERMILLION,
    "interpolated": VERMILLION,
    "told": VERMILLION,
    "blocks": "#009e73",
}
_DASHES = {"few": ":", "calibrated": ":"}
_OF_FRACTION = {0.1: ":", 1.0: "--"}
_SIGNIFICANT = 0.01


def compared(ours: Any, theirs: Any) -> tuple[float, float]:
    """Mean of the differences seed by seed, and p of Wilcoxon's signed-rank test, two-sided and exact.

    Returns p = 1 if no difference is other than 0, and NaN where one is not finite.
    """
    difference = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    if not np.isfinite(difference).all():
        return float("nan"), float("nan")
    if not difference.any():
        return 0.0, 1.0
    return float(np.mean(difference)), float(scipy.stats.wilcoxon(difference, method="exact").pvalue)


def _losses(row: Mapping[str, Any]) -> NDArray[np.float64]:
    return np.asarray(row["loss"], np.float64)


def study_lines(
    table: Mapping[str, Mapping[str, Any]], head: Mapping[str, Any], spent: int
) -> tuple[dict[str, Any], list[str]]:
    """The comparison with the surrogate, to keep, and the lines to print.

    Args:
        table: by label, the arm's name and its losses ``[levels, seeds]``.
        head: task, levels and seeds.
        spent: evaluations of each arm.
    """
    levels, seeds = head["levels"], head["seeds"]
    base = _losses(table["surrogate"])
    against = {
        label: [compared(losses, theirs) for losses, theirs in zip(_losses(row), base, strict=True)]
        for label, row in table.items()
        if label != "surrogate"
    }
    lines = [
        f"{head['task']}: true loss, {len(seeds)} seeds, {spent} evaluations an arm, held-out samples",
        "mean ± sd by level; + better, - worse than the surrogate at p < 0.01 (Wilcoxon)",
        "",
        f"{'':<22}" + "".join(f"{level:>7g}       " for level in levels).rstrip(),
    ]
    for label, row in table.items():
        cells = []
        for i, losses in enumerate(_losses(row)):
            mark = " "
            if label in against:
                mean, p = against[label][i]
                mark = " " if not p < _SIGNIFICANT else "+" if mean < 0 else "-"
            cells.append(f"{_number(np.mean(losses)):>7}±{_short(spread(losses.tolist()))}{mark}".ljust(14))
        lines.append(f"{label:<22}" + "".join(cells).rstrip())
    lines += ["", *_verdict(table, head, against)]
    kept = {
        "against_surrogate": {
            label: [{"difference": mean, "p": p} for mean, p in pairs] for label, pairs in against.items()
        }
    }
    return kept, lines


def _verdict(
    table: Mapping[str, Mapping[str, Any]], head: Mapping[str, Any], against: Mapping[str, list[tuple[float, float]]]
) -> list[str]:
    """One line a level: whom nobody beats there."""
    lines = []
    for i, level in enumerate(head["levels"]):
        finite = {label: np.mean(_losses(row)[i]) for label, row in table.items()}
        best = min((label for label in finite if np.isfinite(finite[label])), key=lambda label: finite[label])
        if best == "surrogate":
            lines.append(f"At {level:g} the surrogate is best.")
            continue
        mean, p = against[best][i]
        lines.append(f"At {level:g} best: {best}; {abs(mean):.3g} below the surrogate, p = {p:.2g}.")
    return lines + _at_equal_steps(table, head["levels"])


def _at_equal_steps(table: Mapping[str, Mapping[str, Any]], levels: Sequence[float]) -> list[str]:
    """Where the normalised hybrid is worse than a surrogate that takes as many steps, whatever these cost."""
    few = next((_losses(row) for row in table.values() if row["arm"] == "few"), None)
    if few is None:
        return []
    lines = []
    for label, row in table.items():
        if row["arm"] == "hybrid":
            pairs = [compared(ours, theirs) for ours, theirs in zip(_losses(row), few, strict=True)]
            worse = [
                f"{level:g}" for level, (mean, p) in zip(levels, pairs, strict=True) if mean > 0 and p < _SIGNIFICANT
            ]
            lines.append(f"At equal steps {label}: " + (f"worse at {', '.join(worse)}." if worse else "nowhere worse."))
    return lines


def tune_lines(
    table: Mapping[str, Mapping[str, Any]], head: Mapping[str, Any], spent: int
) -> tuple[dict[str, Any], list[str]]:
    """Each arm's best settings at each level, by the mean over seeds: what `CHOSEN` holds."""
    best: dict[str, list[dict[str, float]]] = {}
    lines = [f"{head['task']}: best settings at each level, seeds {head['seeds'][0]} to {head['seeds'][-1]}", ""]
    for name in dict.fromkeys(row["arm"] for row in table.values()):
        rows = [row for row in table.values() if row["arm"] == name]
        means = np.stack([_losses(row).mean(axis=1) for row in rows])
        means = np.where(np.isfinite(means), means, np.inf)
        best[name] = [
            {what: values[i] for what, values in rows[place]["settings"].items()}
            for i, place in enumerate(means.argmin(axis=0).tolist())
        ]
        said = "  ".join("/".join(f"{value:g}" for value in one.values()) for one in best[name])
        lines.append(f"{name:<14}{said}")
    return {"best": best}, lines


def _number(value: Any) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.3f}"


def _short(value: float) -> str:
    return f"{value:.4f}".removeprefix("0") if value < 0.99995 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def figures(folder: RunFolder) -> Mapping[str, Any]:
    """True loss over the dial."""
    result = folder.read_json(folder.result_path)
    rows, levels = result.get("rows"), result.get("levels")
    if not rows or "against_surrogate" not in result:
        return {}
    figure = new_figure(7.5, 3.6)
    axis = figure.subplots()
    for index, (label, row) in enumerate(rows.items()):
        losses = np.asarray([[np.nan if x is None else x for x in level] for level in row["loss"]], np.float64)
        place = np.arange(len(levels)) + 0.04 * (index - len(rows) / 2)
        axis.errorbar(
            place,
            losses.mean(axis=1),
            losses.std(axis=1, ddof=1) if losses.shape[1] > 1 else None,
            marker="o",
            ms=4,
            lw=1.2,
            elinewidth=0.8,
            color=_COLOURS[row["arm"]],
            ls=_OF_FRACTION.get(row["settings"]["fraction"][0], "-")
            if row["arm"] == "hybrid"
            else _DASHES.get(row["arm"], "-"),
            label=label,
        )
    axis.set_xticks(range(len(levels)), [f"{level:g}" for level in levels])
    axis.set_xlabel("dial: the surrogate serves on the left, and fails on the right")
    axis.set_yscale("log")
    axis.set_ylabel("true loss")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.set_label("True loss of each arm at each level, mean and standard deviation over seeds.")
    return {"True loss at equal evaluations": figure}
