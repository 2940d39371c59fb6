"""The whole matrix, cell after cell; what is finished is kept, and a second call goes on from there.

Every cell goes the same way:

1. The method's grid of six settings is trained on tuning seeds for the whole budget and judged on validation rows; the
   row of the least mean is taken.
2. With it every reported seed is trained for the budget and judged on test rows: scores at equal evaluations.
3. The time of a step is measured, compiled and warm, for one seed alone.
4. A column's clock is the median over its cells of the seconds that step 2 takes one seed. Every reported seed is
   trained once more, for as many steps as fit into it: scores at equal seconds.
"""

from __future__ import annotations

import datetime
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...core import BACKWARD_COSTS, UsageError
from ...training._folder import environment
from .._timing import seconds_a_step
from ._applications import problem
from ._cell import Cell, Shared
from ._methods import ENTRIES, affordable
from ._problem import Problem
from ._setup import MatrixFolder, Setup
from ._table import lines

DIVERGED = 10.0
"""A seed whose score is above so many times the trivial one's, or not finite, has diverged."""
MOST_STEPS = 20
"""Times the steps of the budget that a run at equal seconds may take at most."""

Measure = Callable[[Callable[[int], None]], float]
"""From a function that trains for a number of steps to the seconds of one."""


def run_matrix(
    setup: Setup,
    path: Path,
    *,
    say: Callable[[str], None] | None = None,
    measure: Measure | None = None,
) -> dict[str, Any]:
    """Fill the matrix, or go on with it.

    Args:
        setup: what is compared.
        path: the folder; new, or that of the same matrix, begun before.
        say: told of each finished cell.
        measure: how the time of a step is found; None measures it.

    Returns:
        The content of matrix.json.

    Raises:
        UsageError: the folder holds something else, or a finished cell in it is damaged.
    """
    folder = MatrixFolder(path)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    folder.begin(setup, {"date": date, "environment": environment()})
    tell = say or (lambda text: None)
    if measure is None:
        measure = (lambda train: seconds_a_step(train, least=0.01, repeats=2)) if setup.smoke else seconds_a_step
    with folder.held():
        columns = {name: _Column(setup, folder, name, tell, measure).content() for name in setup.applications}
        content = {
            **folder.read_json(folder.setup_path),
            "tuning": list(setup.chosen_on),
            "rules": RULES,
            "methods": {
                name: {
                    "label": ENTRIES[name].label,
                    "order": ENTRIES[name].order.value,
                    "grid": {what: list(values) for what, values in ENTRIES[name].grid.items()},
                }
                for name in setup.methods
            },
            "columns": columns,
        }
        folder.write_json(folder.matrix_path, content)
        folder.keep_text(folder.table_path, "\n".join(lines(content)) + "\n")
    return content


RULES = {
    "evaluation": "the loss of one minibatch, by the method's contract; a backward pass counts as "
    f"{BACKWARD_COSTS} evaluations",
    "budget": "whole steps only; a method stops at the last step that it can pay",
    "settings": "of each method's grid of six as many rows as of every other's, judged on validation rows and on seeds "
    "that are not reported; the least mean is taken",
    "learning_rate": "falls to 0 along a cosine over all steps of a run",
    "steps_not_finite": "are not taken, and counted",
    "seconds": "the time of a step is that of one seed alone, compiled and warm, in the quickest of several runs of a "
    "tenth of a second or more; scores are not in it",
    "equal_seconds": "the median over a column's methods of the seconds one seed needs for the budget; each is trained "
    f"anew for the steps that fit, at most {MOST_STEPS} times those of the budget, with the settings chosen for it",
    "diverged": f"at least half of the seeds end above {DIVERGED:g} times the trivial answer's score, or not finite",
    "spread": "half of the interquartile range over seeds",
}
"""How the figures were made, in words."""


class _Column:
    """One application with every method."""

    def __init__(self, setup: Setup, folder: MatrixFolder, name: str, tell: Any, measure: Measure):
        self.setup, self.folder, self.name, self.tell, self.measure = setup, folder, name, tell, measure
        self.problem = problem(name)
        self._shared = Shared(optimise=not setup.smoke)
        self._cells: dict[tuple[str, int], Cell] = {}
        self._prepared: dict[str, Problem] = {}

    def content(self) -> dict[str, Any]:
        """All cells, those of an earlier call included."""
        cells = {}
        for method in self.setup.methods:
            path = self.folder.cell_path(self.name, method)
            found = self.folder.kept(path)
            if found is None:
                found = self._cell(method)
                self.folder.keep(path, found)
                self.tell(f"{self.name:<11}{ENTRIES[method].label:<21}{summary(found, self.problem.trivial)}")
            cells[method] = found
        whole = [one["steps"] * one["seconds_a_step"] for one in cells.values() if "steps" in one]
        common = statistics.median_low(whole) if whole else None
        for method, found in cells.items():
            if "steps" in found and common is not None:
                found["equal_seconds"] = self._at_equal_seconds(method, found, common)
        one = self.problem
        return {
            "title": one.title,
            "about": one.about,
            "unit": one.unit,
            "parameters": one.parameters,
            "trivial": one.trivial,
            "trivial_is": one.trivial_is,
            "best": one.best,
            "seconds": common,
            "cells": cells,
        }

    def _cell(self, method: str) -> dict[str, Any]:
        """One cell at equal evaluations."""
        try:
            return self._trained(method)
        except UsageError as refusal:
            return {"status": "cannot apply", "reason": str(refusal)}

    def _trained(self, method: str) -> dict[str, Any]:
        """The same where the method applies.

        Raises:
            UsageError: it does not.
        """
        entry, setup, problem = ENTRIES[method], self.setup, self._prepared_for(method)
        costs = entry.costs(problem.parameters)
        steps, spent = affordable(costs, setup.budget)
        if steps == 0:
            raise UsageError(
                f"a step costs {costs[0]:,} evaluations for {problem.parameters} parameters, the budget is "
                f"{setup.budget:,}."
            )
        cell, rows = self._cell_of(method, setup.width), entry.rows[:: len(entry.rows) // setup.rows]
        tried = [(seed, row) for row in rows for seed in setup.chosen_on]
        tuned = cell([seed for seed, _ in tried], [row for _, row in tried], steps, judge="validation").final
        by_row = tuned.reshape(len(rows), -1)
        means = np.where(np.isfinite(by_row), by_row, np.inf).mean(axis=1)
        settings = rows[int(np.argmin(means))]
        trained = cell(setup.seeds, [settings] * len(setup.seeds), steps)
        alone = self._cell_of(method, 1)
        seconds = self.measure(lambda count: alone.train(setup.seeds[0], settings, count))
        return {
            **self._verdict(trained.final, int(trained.refused.sum()), steps),
            "parameters": problem.parameters,
            "costs": list(costs),
            "steps": steps,
            "evaluations": spent,
            "settings": settings,
            "tuning": {"rows": rows, "scores": by_row.tolist()},
            "scores": trained.final.tolist(),
            "refused": trained.refused.tolist(),
            "curve": None if problem.deployed else trained.scores.T.tolist(),
            "seconds_a_step": seconds,
        }

    def _at_equal_seconds(self, method: str, found: Mapping[str, Any], common: float) -> dict[str, Any]:
        path = self.folder.equal_path(self.name, method)
        kept = self.folder.kept(path)
        if kept is not None:
            return kept
        steps = min(int(common / found["seconds_a_step"]), MOST_STEPS * found["steps"])
        if steps == 0:
            made: dict[str, Any] = {
                "status": "cannot apply",
                "reason": f"a step takes {found['seconds_a_step']:.2g} s, the column's clock is {common:.2g} s.",
                "steps": 0,
            }
        else:
            seeds = self.setup.seeds
            cell = self._cell_of(method, self.setup.width)
            trained = cell(seeds, [found["settings"]] * len(seeds), steps, judge="test")
            made = {
                **self._verdict(trained.final, int(trained.refused.sum()), steps),
                "steps": steps,
                "scores": trained.final.tolist(),
            }
        self.folder.keep(path, made)
        return made

    def _verdict(self, scores: Any, refused: int, steps: int) -> dict[str, Any]:
        """Whether the cell diverged, and what is to be said of it."""
        seeds = len(scores)
        lost = int(np.sum(~np.isfinite(scores) | (scores > DIVERGED * self.problem.trivial)))
        said = []
        if lost:
            said.append(f"{lost} of {seeds} seeds end above {DIVERGED:g} times the trivial score or not finite")
        if refused:
            said.append(f"{refused / (seeds * steps):.1%} of the steps were not finite and not taken")
        return {
            "status": "diverged" if 2 * lost >= seeds else "ok",
            "reason": "; ".join(said) + "." if said else None,
            "diverged": lost,
        }

    def _prepared_for(self, method: str) -> Problem:
        if method not in self._prepared:
            self._prepared[method] = ENTRIES[method].prepare(self.problem)
        return self._prepared[method]

    def _cell_of(self, method: str, width: int) -> Cell:
        key = method, width
        if key not in self._cells:
            self._cells[key] = Cell(ENTRIES[method], self._prepared_for(method), width=width, shared=self._shared)
        return self._cells[key]


def summary(found: Mapping[str, Any], trivial: float) -> str:
    """A cell in a few words, for whoever waits."""
    if found["status"] == "cannot apply":
        return "cannot apply"
    share = float(np.median(found["scores"])) / trivial
    return f"{share:8.3f} of trivial, {found['seconds_a_step'] * 1e3:8.3f} ms a step"
