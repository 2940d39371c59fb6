"""The pictures of an audit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..audit import Agreement, Audit, Growth, Interval, Rows, Scatter
from ._figures import BLUE, INK, SOFT, VERMILLION, new_figure

_LINE = "#d9dee3"


def audit_figures(found: Audit) -> dict[str, Any]:
    """By title; only those there is something to show of.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figures: dict[str, Any] = {}
    judged = [one for one in found.agreements if one.judged]
    if judged:
        figures["Beside the loss itself"] = _agreement(judged, gradient=not found.no_derivative)
    noisy = [
        (name, one)
        for name, one in (("its own random numbers", found.own), ("batches", found.batches))
        if one is not None and _drawable(mean.signal_to_noise for mean in one.averaged)
    ]
    if noisy:
        figures["Signal and noise"] = _noise(noisy)
    if found.growth is not None and _drawable(found.growth.largest):
        figures[f"Growth with {found.growth.control}"] = _growth(found.growth)
    if found.rows is not None and _drawable(found.rows.norms):
        figures["Row by row"] = _rows(found.rows)
    return figures


def _drawable(values: Iterable[float]) -> bool:
    """Whether a logarithmic axis can show any of them."""
    return any(math.isfinite(x) and x > 0 for x in values)


def _bare(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", color=_LINE, lw=0.7)
    axis.set_axisbelow(True)


def _bars(axis: Any, x: Sequence[float], figures: Sequence[Interval], color: str, label: str = "") -> None:
    """Dots with their intervals; where there is no interval, an open dot."""
    for at, one in zip(x, figures, strict=True):
        if not math.isfinite(one.value):
            continue
        if one.known:
            axis.plot([at, at], [one.low, one.high], color=color, lw=1.6, solid_capstyle="butt")
        axis.plot([at], [one.value], "o", color=color, ms=6, mfc=color if one.known else "white", label=label or None)
        label = ""


def _agreement(judged: Sequence[Agreement], *, gradient: bool) -> Any:
    radii = [one.radius for one in judged]
    figure = new_figure(7.5, 2.9)
    beside = gradient and any(math.isfinite(x.value) for one in judged for x in (one.cosine, one.norm_ratio, one.bias))
    panels = figure.subplots(1, 2) if beside else [figure.subplots()]
    if beside:
        _bars(panels[0], radii, [one.cosine for one in judged], BLUE)
        if not any(math.isfinite(one.cosine.value) for one in judged):
            panels[0].text(0.5, 0.5, "not to be told from noise", ha="center", transform=panels[0].transAxes)
        low = min((one.cosine.low for one in judged if one.cosine.known), default=0.0)
        panels[0].set_ylim(-1.05 if low < -0.02 else -0.03, 1.05)
        panels[0].axhline(1.0, color=SOFT, lw=0.8)
        panels[0].set_ylabel("cosine with the slope")
        _bars(panels[1], radii, [one.norm_ratio for one in judged], BLUE, "norm, relative")
        _bars(panels[1], [r * 1.12 for r in radii], [one.bias for one in judged], VERMILLION, "error, relative")
        panels[1].axhline(1.0, color=SOFT, lw=0.8)
        panels[1].set_ylim(bottom=-0.04 * panels[1].get_ylim()[1])
        panels[1].legend(frameon=False, fontsize=8)
    else:
        _bars(panels[0], radii, [one.slope for one in judged], BLUE)
        panels[0].set_ylabel("norm of the averaged loss's slope")
        panels[0].set_ylim(bottom=0.0)
    for axis in panels:
        axis.set_xscale("log")
        axis.set_xlabel("radius of the ball, relative to the parameters")
        _bare(axis)
    figure.set_label(
        "The loss averaged over balls of several radii has a slope"
        + ("; the gradient in use is put beside it." if beside else ".")
        + (" The gradient in use is 0 or not finite: it has no direction." if gradient and not beside else "")
        + " Bars are 95 % intervals; an open dot has none."
    )
    return figure


def _noise(noisy: Sequence[tuple[str, Scatter]]) -> Any:
    figure = new_figure(7.5, 2.9)
    axis = figure.subplots()
    for (name, one), color in zip(noisy, (VERMILLION, BLUE), strict=False):
        x = np.array([mean.evaluations for mean in one.averaged], float)
        axis.plot(x, [mean.signal_to_noise for mean in one.averaged], "o", color=color, ms=6, label=name)
        value = one.signal_to_noise.value
        if value > 0 and math.isfinite(value):
            cost = one.averaged[0].evaluations
            far = np.array([cost, max(4 * x[-1], min(one.evaluations_for_one * 1.5, 1e9))])
            axis.plot(far, value * np.sqrt(far / cost), color=color, lw=1, ls=":")
    axis.axhline(1.0, color=SOFT, lw=0.8)
    axis.set_xscale("log")
    axis.set_yscale("log")
    ticks = sorted({mean.evaluations for _, one in noisy for mean in one.averaged})
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
    axis.set_xlabel("evaluations of the objective")
    axis.set_ylabel("signal-to-noise")
    axis.legend(frameon=False, fontsize=8)
    _bare(axis)
    figure.set_label(
        "Dots: measured on means of groups of estimates. Dotted: the square root law from a single estimate."
    )
    return figure


def _growth(one: Growth) -> Any:
    figure = new_figure(7.5, 2.9)
    axis = figure.subplots()
    axis.plot(one.values, one.median, "o-", color=BLUE, ms=6, lw=1.2, label="median over batches")
    axis.plot(one.values, one.largest, "o", color=INK, ms=3, label="largest")
    axis.set_xscale("log")
    axis.set_xticks(one.values, [str(v) for v in one.values])
    axis.minorticks_off()
    axis.set_yscale("log")
    axis.set_xlabel(one.control)
    axis.set_ylabel("norm of the gradient")
    axis.legend(frameon=False, fontsize=8)
    _bare(axis)
    figure.set_label(f"The gradient's norm against {one.control}, both axes logarithmic: {one.law}.")
    return figure


def _rows(one: Rows) -> Any:
    finite = [x for x in one.norms if math.isfinite(x)]
    figure = new_figure(7.5, 2.6)
    axis = figure.subplots()
    axis.bar(range(1, len(finite) + 1), finite, color=BLUE, width=0.8)
    least = min((x for x in finite if x > 0), default=0.0)
    if least > 0 and finite[0] > 30 * least:
        axis.set_yscale("log")
    axis.set_xlabel("rows of the batch, by falling norm")
    axis.set_ylabel("norm of its gradient")
    _bare(axis)
    lost = len(one.norms) - len(finite)
    figure.set_label(
        f"{one.half:.0%} of the rows carry half of the sum of all norms."
        + (f" {lost} more are not finite and not shown." if lost else "")
    )
    return figure
