"""The report of a search: who was compared, how their scores went, who was culled, who won."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import require
from ..training import EpochRecord
from ..training._storage import write_text
from ._images import publish
from ._panels import epochs_along, line, scale
from ._records import Series, metric
from ._style import BLUE, GREEN, SOFT, house_style, new_figure
from ._tables import Table, settings_table
from ._template import page
from ._text import count, escape, figure_text, format_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FAINT = 0.35


@dataclasses.dataclass(frozen=True)
class Curve:
    """A candidate's score over its epochs.

    Attributes:
        label: what it is called.
        records: its epochs.
        culled: whether it was trained no further; then it is drawn faintly.
        won: whether it is the winner.
    """

    label: str
    records: Sequence[EpochRecord]
    culled: bool = False
    won: bool = False


def write_search_report(
    path: Path,
    *,
    title: str,
    metric: str,
    outcome: str,
    reason: str,
    curves: Sequence[Curve],
    table: Table,
    cull_epoch: int | None = None,
    settings: Mapping[str, Any] | None = None,
    commands: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write ``report.html`` into a search's folder, and its figure under ``figures/``.

    Args:
        path: the folder.
        title: what the page is called.
        metric: the score.
        outcome: ``"completed"``, ``"failed"`` or ``"still running"``.
        reason: the same in a sentence.
        curves: the candidates.
        table: the candidates in figures.
        cull_epoch: after how many epochs the weak were culled, if they were.
        settings: what the candidates share.
        commands: how to go on: what it does, and what to type.

    Returns:
        The path of the page.

    Raises:
        UsageError: the folder may not be written.
        MissingExtraError: Matplotlib is not installed.
    """
    figure = score_figure(curves, metric, cull_epoch)
    drawn = publish({metric: figure} if figure else {}, path / "figures", set(), turns=True, titled=False)
    shell = "\n".join(f"<p>{escape(what)}</p>\n<pre>{escape(command)}</pre>" for what, command in commands)
    contents = {
        "Candidates": table.as_html(),
        "Scores": "\n".join(drawn) or '<p class="note">Nothing to draw yet: no score has been found.</p>',
        "Settings": settings_table(settings, "Settings") if settings else "",
        "Go on": shell,
    }
    text = page(
        "search",
        title,
        contents,
        badge={"completed": "good", "failed": "bad"}.get(outcome, "note"),
        status=outcome,
        reason=reason,
        footer=f"Search {path}. Epochs count from 0.",
    )
    write_text(path / "report.html", text)
    return path / "report.html"


def score_figure(curves: Sequence[Curve], name: str, cull_epoch: int | None) -> Figure | None:
    """The score of every candidate over epochs; None where there is none yet.

    The winner is drawn last and strongest, the culled faintly.

    Args:
        curves: the candidates.
        name: the metric that is the score.
        cull_epoch: after how many epochs the weak were culled.
    """
    found: list[tuple[Curve, Series]] = [(curve, metric(curve.records, name).measured) for curve in curves]
    found = [(curve, values) for curve, values in found if len(values.x)]
    if not found:
        return None
    with house_style():
        figure = new_figure(3.5)
        axis = figure.subplots()
        for curve, values in sorted(found, key=lambda pair: (pair[0].won, not pair[0].culled)):
            before = len(axis.lines)
            line(axis, values, label=curve.label, color=BLUE if curve.won else SOFT)
            for drawn in axis.lines[before:]:
                drawn.set_alpha(_FAINT if curve.culled else 1.0)
        scale(axis, [values for _, values in found])
        if cull_epoch is not None:
            axis.axvline(cull_epoch - 0.5, color=GREEN, linewidth=1.0, linestyle=":", zorder=0.5)
        lines = require("matplotlib.lines", extra="plots").Line2D
        kinds = [("the winner", BLUE, 1.0)] if any(curve.won for curve, _ in found) else []
        kinds += [("others", SOFT, 1.0)] if any(not (curve.won or curve.culled) for curve, _ in found) else []
        kinds += [("culled", SOFT, _FAINT)] if any(curve.culled for curve, _ in found) else []
        handles = [lines([], [], color=color, alpha=alpha, label=label) for label, color, alpha in kinds]
        axis.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, borderaxespad=0.3)
        axis.set_ylabel(figure_text(name))
        epochs_along(axis, [record for curve, _ in found for record in curve.records])
    figure.set_label(_caption(found, name, cull_epoch))
    return figure


def _caption(found: Sequence[tuple[Curve, Series]], name: str, cull_epoch: int | None) -> str:
    culled = sum(curve.culled for curve, _ in found)
    said = f"{name} of {count(len(found), 'candidate')} over epochs"
    said += f", {culled} of them culled after {count(cull_epoch, 'epoch')}." if cull_epoch is not None else "."
    winner = next(((curve, values) for curve, values in found if curve.won), None)
    if winner is not None and np.isfinite(winner[1].y).any():
        said += f" The winner: {winner[0].label}, last {format_number(float(winner[1].y[-1]))}."
    return said
