"""The report of a run: one HTML file, readable without a network, a script or this library."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..training import RunFolder, Status
from ..training._storage import write_text
from . import _sections as sections
from ._figures import training_figures
from ._images import publish
from ._sounds import players
from ._summary import FAILED, RUNNING, Summary, summarize
from ._tables import Table
from ._template import page
from ._text import escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BADGES = {
    Status.COMPLETED.value: "good",
    Status.STOPPED.value: "note",
    Status.PAUSED.value: "note",
    Status.DIVERGED.value: "bad",
    Status.INTERRUPTED.value: "warn",
    FAILED: "bad",
    RUNNING: "note",
}


def write_report(
    folder: RunFolder,
    *,
    title: str,
    description: str = "",
    figures: Mapping[str, Figure] | None = None,
    tables: Sequence[Table] = (),
) -> Path:
    """Write ``report.html`` into a run's folder, and each figure as a PNG under ``figures/``.

    The page needs no other file: its pictures, its sounds and its style are in it. It may be written while the run
    goes on, and again afterwards. Everything a run's files say is shown as text, never as markup.

    WAV files in the run's folder ``sounds/`` get players, ``NAME-1-target.wav`` beside ``NAME-1-sung.wav``; 4 MB of
    them at most, and what is left out is said.

    Args:
        folder: the run.
        title: what the page is called, such as the recipe's name.
        description: what was tried, as plain text; an empty line begins a new paragraph.
        figures: the application's own pictures, by title. A figure's label, ``figure.set_label(...)``, is
            its caption and its text for those who can't see it.
        tables: the application's own tables.

    Returns:
        The path of the page.

    Raises:
        UsageError: a file of the run is missing or damaged, or the folder may not be written.
        MissingExtraError: Matplotlib is not installed.
    """
    summary = summarize(folder)
    own = training_figures(summary.records, best=summary.best)
    where, taken = folder.path / "figures", set[str]()
    controls = {title: own.pop(title) for title in ("Schedules",) if title in own}
    curves = publish(own, where, taken, turns=True)
    schedules = publish(controls, where, taken, turns=True, titled=False)  # its section has that title
    given = publish(figures or {}, where, taken, turns=False)
    contents = {
        "Conclusion": sections.conclusion(summary),
        "Key figures": sections.key_figures(summary),
        "Listen": players(folder.path),
        "Curves": sections.curves(curves),
        "Schedules": sections.schedules(schedules, summary.records),
        "Pictures": sections.pictures(given, tables),
        "Epochs": sections.epochs(summary),
        "Settings": sections.settings(summary.config),
        "Run it again": sections.again(folder.path, summary),
    }
    path = folder.path / "report.html"
    write_text(path, _page(title, description, folder.path, summary, contents))
    return path


def _page(title: str, description: str, path: Path, summary: Summary, contents: Mapping[str, str]) -> str:
    paragraphs = [part for part in re.split(r"\n\s*\n", description.strip()) if part]
    return page(
        "run",
        title,
        contents,
        badge=_BADGES.get(summary.status, "note"),
        status=summary.status,
        reason=summary.reason,
        description="\n".join(f"<p>{escape(part)}</p>" for part in paragraphs),
        footer=f"Run {path}" + (f", begun {summary.begun}" if summary.begun else "") + ". Epochs count from 0.",
    )
