"""The search itself: train all a part of their way, rank them, let the best go on, and name the winner.

It can be killed at any moment. What is decided stands in ``search.json`` and ``search.csv``, each replaced at once;
everything else follows from the candidates' runs, which resume to the bits. A resumed search ends as one that was
never stopped.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core import UsageError, whole_number
from ..training import RunFolder
from ..training._folder import environment
from ..training._together import NotAlike
from ..training.callbacks import Mode
from ._candidates import Candidate, Goal, check_fraction, cull_epoch
from ._engines import Ended, Engine, Task
from ._folder import SearchFolder, Setup
from ._progress import Progress, Say
from ._standing import Standing, State, chosen, ranked, standing_of, winner_of


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search has found.

    Attributes:
        folder: where it is kept.
        goal: what candidates were ranked by.
        standings: all candidates, the best first.
        winner: the best of those that went to their end; None if none did with a finite score.
    """

    folder: SearchFolder
    goal: Goal
    standings: list[Standing]
    winner: Standing | None


def search(
    candidates: Sequence[Candidate],
    engine: Engine,
    *,
    run: str | os.PathLike[str],
    metric: str,
    mode: Mode,
    ties: Sequence[tuple[str, Mode]] = (),
    cull_fraction: float = 0.0,
    keep: int = 1,
    otherwise: Engine | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    say: Say | None = None,
) -> SearchResult:
    """Train candidates, drop the weak ones early, and find the best.

    All train with the schedules of their whole run. With a `cull_fraction` each pauses after that part of its epochs;
    they are ranked, and only the best go on from where they stand.

    Args:
        candidates: what to compare.
        engine: trains them: `Together`, `Processes` or `InTurn`.
        run: a folder for the search, new unless `resume`.
        metric: the score: each run needs a `Best` callback that watches it.
        mode: its better direction.
        ties: metrics with directions that decide between equal scores, before the lower number does.
        cull_fraction: part of the epochs after which candidates are culled, from 0 (never) to below 1.
        keep: how many go on.
        otherwise: the engine to take if the candidates can't share a program.
        settings: anything JSON can hold, kept in search.json.
        resume: go on with the search in `run`. The same arguments must be given again.
        say: takes lines on how it goes.

    Raises:
        UsageError: an argument out of range, a folder in use, candidates that can't train together and nothing
            else to take.
        SearchInterrupted: on Ctrl-C.
    """
    setup = Setup(
        candidates=tuple(candidates),
        goal=Goal(metric, mode, tuple(ties)),
        cull_fraction=check_fraction(cull_fraction),
        keep=whole_number("keep", keep, least=1),
        engine=engine.name if otherwise is None else "auto",
        settings=dict(settings or {}),
    )
    _check(setup)
    folder = SearchFolder.open(run) if resume else SearchFolder.create(run)
    with folder.held():
        if resume:
            setup = _check_same(folder, setup)
        else:
            folder.write_setup(setup)
        engines = [each for each in (engine, otherwise) if each is not None and setup.engine in (each.name, "auto")]
        try:
            return _Search(folder, setup, engines, say).run()
        except KeyboardInterrupt as interrupt:
            raise SearchInterrupted(folder.path) from interrupt


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a search, which can be resumed.

    Args:
        path: its folder.
    """

    def __init__(self, path: Path):
        super().__init__(str(path))
        self.path = path


class _Search:
    """A search at work."""

    def __init__(self, folder: SearchFolder, setup: Setup, engines: list[Engine], say: Say | None):
        self.folder, self.setup, self.engines = folder, setup, engines
        self.standings = folder.read_table(setup)
        self.progress = Progress(setup.goal, say)

    def run(self) -> SearchResult:
        """From wherever it stands to its end."""
        if self.setup.cull_fraction and self.setup.kept is None:
            self._train([self._task(one, cull_epoch(self.setup.cull_fraction, one.epochs)) for one in self._all])
            self._decide()
        kept = self.setup.kept
        if kept is not None:
            self._cull(kept)
        self._train([self._task(one, one.epochs) for one in self._all if kept is None or one.number in kept])
        goal = self.setup.goal
        winner = winner_of(self.standings, goal)
        if winner is not None:
            self._write_winner(winner)
        return SearchResult(self.folder, goal, ranked(self.standings, goal), winner)

    @property
    def _all(self) -> tuple[Candidate, ...]:
        return self.setup.candidates

    def _task(self, candidate: Candidate, until: int) -> Task:
        number = candidate.number
        return Task(candidate, self.folder.run(number).path, until, self.folder.log(number))

    def _train(self, tasks: Sequence[Task]) -> None:
        """Bring candidates to where their tasks say; those that have got there, or ended, are left alone."""
        todo, done = [], []
        for task in tasks:
            one = self.standings[task.candidate.number]
            there = one.over or (one.state is State.PAUSED and one.epochs >= task.until)
            if there and one.state is not State.CULLED:
                done.append((task, one))
            elif not there:
                todo.append(task)
        if not todo:
            return
        try:
            self._train_with(self.engines[0], todo, done)
        except NotAlike as error:
            if len(self.engines) < 2:
                raise
            self.progress.tell(f"{error.reason}. So they train in processes.")
            for task in todo:
                if task.path.is_dir():
                    RunFolder(task.path).begin_anew()
            self._settle(self.engines[1])
            self._train_with(self.engines[0], todo, done)

    def _train_with(self, engine: Engine, todo: list[Task], done: list[tuple[Task, Standing]]) -> None:
        tasks = engine.gather(todo, done)
        for task in tasks:
            self._update(dataclasses.replace(self._standing(task), state=State.TRAINING, message=""))
        self._write()
        self.progress.follow(tasks)
        running = engine.run(tasks)
        try:
            for ended in running:
                if self.setup.engine == "auto" and ended is not None:
                    self._settle(engine)
                self.progress.look()
                if ended is not None:
                    self._ended(ended)
        finally:
            close = getattr(running, "close", None)
            if close is not None:
                close()

    def _settle(self, engine: Engine) -> None:
        """It has shown that it can do it: a resumed search takes it too."""
        self.setup = dataclasses.replace(self.setup, engine=engine.name)
        self.engines = [engine]
        self.folder.write_setup(self.setup)

    def _ended(self, ended: Ended) -> None:
        """Take in what came of a candidate."""
        task = ended.task
        if ended.error is None:
            try:
                self._update(standing_of(task.candidate, task.path, self.setup.goal))
            except UsageError as error:
                self._update(self._failed(task, str(error)))
        else:
            self._update(self._failed(task, ended.message))
        one = self._standing(task)
        if one.state in (State.DIVERGED, State.FAILED):
            self.progress.tell(f"{task.candidate.number:>3}  {one.state.value}: {' '.join(one.message.split())}")
        self._write()

    def _failed(self, task: Task, message: str) -> Standing:
        folder = RunFolder(task.path)
        try:
            epochs = sum(1 for _ in folder.records())
        except UsageError:
            epochs = 0
        return Standing(task.candidate, State.FAILED, epochs, message=message)

    def _decide(self) -> None:
        """Rank them: the best are to go on. From here on that is so, whatever happens."""
        kept = chosen(self.standings, self.setup.goal, self.setup.keep)
        self.setup = dataclasses.replace(self.setup, kept=tuple(kept))
        self.folder.write_setup(self.setup)

    def _cull(self, kept: Sequence[int]) -> None:
        """Let go of all who wait and are not among the kept."""
        culled = [one for one in self.standings if one.state is State.PAUSED and one.candidate.number not in kept]
        for one in culled:
            self._update(dataclasses.replace(one, state=State.CULLED))
        if culled:
            self._write()
            numbers = ", ".join(str(one.candidate.number) for one in culled)
            self.progress.tell(f"culled: {numbers}; on go: {', '.join(map(str, kept))}")

    def _standing(self, task: Task) -> Standing:
        return self.standings[task.candidate.number]

    def _update(self, standing: Standing) -> None:
        self.standings[standing.candidate.number] = standing

    def _write(self) -> None:
        self.folder.write_table(self.standings, self.setup.goal)

    def _write_winner(self, winner: Standing) -> None:
        """The manifest of the winner: all one needs to find it, and to make it again."""
        goal, number = self.setup.goal, winner.candidate.number
        run = self.folder.run(number)
        states = [one.state for one in self.standings]
        manifest = {
            "schema": "hardgrad.winner",
            "version": 1,
            "candidate": number,
            "seed": winner.candidate.seed,
            "settings": dict(winner.candidate.settings),
            "metric": goal.metric,
            "mode": goal.mode,
            "score": winner.score,
            "best_epoch": winner.best_epoch,
            "ties": dict(winner.ties),
            "epochs": winner.epochs,
            "run": f"candidates/{number}",
            "best": f"candidates/{number}/best",
            "config": run.read_json(run.config_path),
            "search": {
                "engine": self.setup.engine,
                "cull_fraction": self.setup.cull_fraction,
                "keep": self.setup.keep,
                "candidates": len(states),
                **{state.value: states.count(state) for state in dict.fromkeys(states)},
                **self.setup.settings,
            },
            "environment": environment(),
        }
        RunFolder(self.folder.path).write_json(self.folder.winner_path, manifest)


def _check(setup: Setup) -> None:
    """Refuse a search that could only disappoint."""
    if [one.number for one in setup.candidates] != list(range(len(setup.candidates))) or not setup.candidates:
        raise UsageError("the candidates must be numbered from 0, each once, and there must be one.")
    names = {tuple(one.settings) for one in setup.candidates}
    if len(names) > 1:
        raise UsageError("all candidates must have the same settings, if with different values.")
    if not setup.cull_fraction:
        return
    if setup.keep >= len(setup.candidates):
        raise UsageError(f"keeping {setup.keep} of {len(setup.candidates)} candidates culls none. Keep fewer.")
    for one in setup.candidates:
        cull_epoch(setup.cull_fraction, one.epochs)


def _check_same(folder: SearchFolder, setup: Setup) -> Setup:
    """The setup that a search was begun with.

    Raises:
        UsageError: it is another.
    """
    before = folder.read_setup()
    for name in ("candidates", "goal", "cull_fraction", "keep"):
        if getattr(before, name) != getattr(setup, name):
            raise UsageError(f"{folder.path} was begun with other {name.replace('_', ' ')}. Resume it with the same.")
    if before.engine != setup.engine and "auto" not in (before.engine, setup.engine):
        raise UsageError(f"{folder.path} was begun with the engine '{before.engine}'. Resume it with that.")
    return before
