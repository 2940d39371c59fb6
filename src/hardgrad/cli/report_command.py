"""``hardgrad report RUN``: one HTML file with curves, schedules and the application's own pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from ..report import write_report
from ..training import RunFolder
from ..zoo import find, recipe_of
from ._options import parse, show_path


@dataclasses.dataclass(frozen=True)
class Options:
    """Which run."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run's folder"""


def run(arguments: list[str]) -> int:
    """Write report.html and its pictures into the run's folder."""
    options = parse(
        Options,
        arguments,
        program="hardgrad report",
        description="Make the HTML report of a run.\n\nExample: hardgrad report runs/hypercausal-depth-001",
    )
    folder = RunFolder.open(options.run)
    name, title, figures = None, options.run.name, {}
    if folder.started_by_recipe():
        name, _ = recipe_of(folder)
        entry = find(name)
        title, figures = f"{name}: {entry.summary}", dict(entry.load().figures(folder))
    path = write_report(folder, title=title, figures=figures)
    print(f"report: {show_path(path)}")
    return 0
