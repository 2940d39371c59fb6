"""What is drawn into one axis: lines with honest gaps, marks, shades, scales."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import require
from ..training import EpochRecord
from ._records import Series, runs_of, series, thin
from ._style import GREEN, PURPLE, SKY, SOFT, VERMILLION
from ._text import as_number, count, figure_text, format_number

_FEW, _MANY = 40, 400  # epochs that are worth a dot each; that need a finer pen


def line(
    axis: Any,
    values: Series,
    *,
    label: str,
    color: str,
    dashed: bool = False,
    steps: bool = False,
    dots: bool = False,
) -> None:
    """A line with a gap wherever there is no value; a value between two gaps is a dot, and with `dots` each value.

    Where values were recorded that no axis can show, a triangle at the upper edge says so.
    """
    y = values.drawable
    style: dict[str, Any] = {"color": color, "label": figure_text(label)}
    if len(y) > _MANY:
        style["linewidth"] = 0.8
    if dashed:
        style["dashes"] = (4, 1.6)
    if steps:
        style["drawstyle"] = "steps-mid"
    shown = ~np.isnan(y)
    axis.plot(*thin(values.x, y), **style)
    before, after = np.append(False, shown[:-1]), np.append(shown[1:], False)
    every = (len(y) <= _FEW and not steps) or (dots and len(y) <= _MANY)
    marked = shown if every else shown & ~before & ~after
    if marked.any():
        axis.plot(values.x[marked], y[marked], "o", color=color, markersize=3.2)
    if len(values.lost):
        at_edge(axis, values.lost, marker="^", color=color, height=0.97)


def at_edge(axis: Any, x: NDArray[np.float64], *, marker: str, color: str, height: float) -> None:
    """Marks at a height of the axis, whatever its scale."""
    x, _ = thin(x, np.zeros(len(x)))
    where = axis.get_xaxis_transform()
    axis.plot(x, np.full(len(x), height), marker, color=color, markersize=5, transform=where, clip_on=False)


def shade_frozen(axis: Any, records: Sequence[EpochRecord]) -> None:
    """Shade the epochs in which the parameters were held."""
    shade(axis, [record.frozen for record in records], records)


def shade(axis: Any, flags: Sequence[bool], records: Sequence[EpochRecord]) -> None:
    """Shade the epochs whose flag is up."""
    spans = runs_of(flags, np.array([record.epoch for record in records], np.float64))
    if spans:
        where = axis.get_xaxis_transform()
        axis.broken_barh(spans, (0.0, 1.0), transform=where, facecolor=SKY, alpha=0.28, linewidth=0, zorder=0.5)


def mark_skipped(axis: Any, records: Sequence[EpochRecord]) -> int:
    """A cross at the lower edge for each epoch with skipped steps.

    Returns:
        How many steps were skipped in all.
    """
    skipped = series(records, lambda record: record.metrics.get("skipped"))
    some = np.nan_to_num(skipped.y, nan=0.0, posinf=0.0) > 0
    if some.any():
        at_edge(axis, skipped.x[some], marker="x", color=PURPLE, height=0.03)
    return int(np.sum(skipped.y[some]))


def mark_best(axis: Any, best: Mapping[str, Any], names: Sequence[str]) -> Any:
    """A dotted line at the best epoch, with a ring at its value if the axis shows that metric.

    Args:
        axis: where to.
        best: ``epoch``, ``metric`` and ``value``.
        names: the metrics on this axis.

    Returns:
        The mark, for the legend; None where `best` names no epoch.
    """
    epoch, value = as_number(best.get("epoch")), as_number(best.get("value"))
    if epoch is None or not abs(epoch) < 1e9:
        return None
    name = figure_text(best.get("metric", "value"), 24)
    label = f"best {name}: {figure_text(format_number(best.get('value')), 24)}, epoch {format_number(best['epoch'])}"
    # Given its transform as it is made, else its 0 and 1 would count as values and stretch the axis.
    along = {"transform": axis.get_xaxis_transform(), "dashes": (1, 2), "zorder": 1}
    (mark,) = axis.plot([epoch, epoch], [0.0, 1.0], color=GREEN, linewidth=1.2, **along)
    if best.get("metric") in names and value is not None and math.isfinite(value):
        ring = {"markerfacecolor": "none", "markeredgecolor": GREEN, "markeredgewidth": 1.8}
        (mark,) = axis.plot([epoch], [value], "o", markersize=8, **ring)
    mark.set_label(label)
    return mark


def warmup_ends(records: Sequence[EpochRecord]) -> dict[str, int]:
    """The epoch in which each weight that ramps, a control ``lambda_…``, first has 99 % of its full size.

    A ramp never falls and has an end: one that still grows in the last epoch has none yet.
    """
    ends = {}
    for name in dict.fromkeys(name for record in records for name in record.controls if name.startswith("lambda_")):
        found = series(records, lambda record, name=name: record.controls.get(name))  # type: ignore[misc]
        y = found.drawable
        if np.isnan(y).any() or not 0 <= y[0] < 0.99 * y.max() or (np.diff(y) < 0).any():
            continue
        if y[-2] >= 0.99 * y[-1]:
            ends[name] = int(found.x[np.argmax(y >= 0.99 * y[-1])])
    return ends


def mark_warmups(axis: Any, ends: Mapping[str, int]) -> Any:
    """A faint dashed line at the end of each warm-up.

    Returns:
        The last mark, for the legend; None where there is none.
    """
    mark = None
    for epoch in sorted(set(ends.values())):
        along = {"transform": axis.get_xaxis_transform(), "dashes": (5, 3), "zorder": 0.8}
        (mark,) = axis.plot([epoch, epoch], [0.0, 1.0], color=SOFT, alpha=0.6, linewidth=1.0, **along)
    if mark is not None:
        mark.set_label("end of warm-up")
    return mark


def legend(axis: Any, *, frozen: bool = False, skipped: int = 0) -> None:
    """A legend above the axis, of the lines in it and of the marks that are there."""
    lines = require("matplotlib.lines", extra="plots").Line2D
    patch = require("matplotlib.patches", extra="plots").Patch
    handles, _ = axis.get_legend_handles_labels()
    if any(mark.get_marker() == "^" for mark in axis.get_lines()):
        handles.append(lines([], [], marker="^", linestyle="", color=SOFT, markersize=5, label="not finite"))
    if skipped:
        label = f"{count(skipped, 'step')} skipped"
        handles.append(lines([], [], marker="x", linestyle="", color=PURPLE, markersize=5, label=label))
    if frozen:
        handles.append(patch(facecolor=SKY, alpha=0.28, label="frozen"))
    handles.sort(key=lambda handle: str(handle.get_label()).startswith("best "))
    axis.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=3,
        borderaxespad=0.3,
        columnspacing=1.4,
        handlelength=1.8,
    )


def scale(axis: Any, values: Sequence[Series]) -> None:
    """A logarithmic axis where every value is positive and they span more than a decade."""
    found = np.concatenate([each.drawable for each in values]) if values else np.zeros(0)
    found = found[~np.isnan(found)]
    if len(found) and found.min() > 1e-150 and found.max() > 10 * found.min():
        axis.set_yscale("log")
        if found.max() < 100 * found.min():  # powers of ten alone would leave one label, or none
            ticker = require("matplotlib.ticker", extra="plots")
            axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
            axis.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.4g}"))
            axis.yaxis.set_minor_formatter(ticker.NullFormatter())
    elif len(found) == 0:
        axis.set_yticks([])


def epochs_along(axis: Any, records: Sequence[EpochRecord], *, named: bool = True) -> None:
    """The epochs of the run along the axis, in whole numbers."""
    ticker = require("matplotlib.ticker", extra="plots")
    axis.xaxis.set_major_locator(ticker.MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    first, last = min(record.epoch for record in records), max(record.epoch for record in records)
    room = 0.5 if last - first < 20 else 0.015 * (last - first)
    axis.set_xlim(first - room, last + room)
    if named:
        axis.set_xlabel("epoch")


def validation_line(axis: Any, values: Series) -> None:
    """The counterpart of a line on the validation data: another colour, and dashed for those who see none."""
    line(axis, values, label="validation", color=VERMILLION, dashed=True)
