"""``hardgrad report RUN``: one HTML file with curves, schedules and the application's own pictures."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from ..core import UsageError
from ..report import Curve, Table, write_report, write_search_report
from ..search import SearchFolder, State, ranked
from ..search._candidates import cull_epoch
from ..training import RunFolder
from ..zoo import find, recipe_of
from ..zoo._matrix import MatrixFolder
from ._options import parse, show_path


@dataclasses.dataclass(frozen=True)
class Options:
    """Which run."""

    run: Annotated[Path, tyro.conf.Positional]
    """the folder of the run or the search"""


def run(arguments: list[str]) -> int:
    """Write report.html and its pictures into the run's folder."""
    options = parse(
        Options,
        arguments,
        program="hardgrad report",
        description="Make the HTML report of a run or a search.\n\nExample: hardgrad report runs/hypercausal-depth-001",
    )
    if MatrixFolder(options.run).is_matrix():
        raise UsageError(f"{options.run} is a matrix; its page is {options.run / 'matrix.html'}.")
    search = SearchFolder(options.run)
    path = _of_search(search) if search.is_search() else _of_run(RunFolder.open(options.run))
    print(f"report: {show_path(path)}")
    return 0


def _of_run(folder: RunFolder) -> Path:
    title, figures = folder.path.name, {}
    if folder.started_by_recipe():
        name, _ = recipe_of(folder)
        entry = find(name)
        title = f"{name}: {entry.summary}"
        if not _paused(folder):  # a recipe draws what it has concluded
            figures = dict(entry.load().figures(folder))
    return write_report(folder, title=title, figures=figures)


def _paused(folder: RunFolder) -> bool:
    result = folder.read_json(folder.result_path) if folder.result_path.is_file() else None
    return isinstance(result, dict) and result.get("status") == "paused"


def _of_search(folder: SearchFolder) -> Path:
    setup = folder.read_setup()
    goal = setup.goal
    standings = ranked(folder.read_table(setup), goal)
    winner = folder.read_winner()
    won = None if winner is None else winner["candidate"]
    done = all(one.over for one in standings)
    settings = list(standings[0].candidate.settings)
    ties = [name for name, _ in goal.ties]
    table = Table(
        "Candidates",
        ["candidate", "seed", *settings, "status", "epochs", goal.metric, *ties, "best epoch", "seconds", "remark"],
        [
            [
                one.candidate.number,
                one.candidate.seed,
                *(one.candidate.settings[name] for name in settings),
                one.state.value + (" ★" if one.candidate.number == won else ""),
                one.epochs,
                one.score,
                *(one.ties.get(name) for name in ties),
                one.best_epoch,
                one.seconds,
                one.message,
            ]
            for one in standings
        ],
        note=f"The best first. Score: the {'lowest' if goal.mode == 'min' else 'highest'} {goal.metric} of its run.",
    )
    curves = [
        Curve(
            one.candidate.label,
            list(folder.run(one.candidate.number).records()),
            culled=one.state is State.CULLED,
            won=one.candidate.number == won,
        )
        for one in standings
    ]
    recipe = setup.settings.get("recipe")
    path = show_path(folder.path)
    if winner is not None:
        outcome, reason = "completed", f"candidate {won} won with {goal.metric} {winner.get('score')}."
        commands = [("Report of the winner's run:", f"hardgrad report {path}/candidates/{won}")]
    else:
        outcome = "failed" if done else "still running"
        reason = "No candidate finished with a finite score." if done else "Some candidates are not done."
        commands = [("Go on with the search:", f"hardgrad resume {path}")]
    return write_search_report(
        folder.path,
        title=f"{recipe}: {len(standings)} candidates" if isinstance(recipe, str) else folder.path.name,
        metric=goal.metric,
        outcome=outcome,
        reason=reason,
        curves=curves,
        table=table,
        cull_epoch=cull_epoch(setup.cull_fraction, setup.candidates[0].epochs) if setup.cull_fraction else None,
        settings=setup.settings,
        commands=commands,
    )
