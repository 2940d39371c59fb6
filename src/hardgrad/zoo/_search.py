"""Searching a recipe: over seeds and settings, the weak candidates culled early."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..core import UsageError
from ..search import (
    Candidate,
    Engine,
    Goal,
    InTurn,
    Processes,
    SearchFolder,
    SearchResult,
    Task,
    Together,
    candidates,
)
from ..search import (
    search as run_search,
)
from ..search._candidates import check_fraction, cull_epoch
from ..training import FitResult, RunFolder
from ..training.callbacks import Best, Evaluate
from ._config import from_json, with_settings
from ._launch import float64, reserve_run, train_quietly
from ._recipe import Experiment, Recipe
from ._registry import find
from ._rescore import Rescored, rescore

EngineName = Literal["auto", "vmap", "processes", "turn"]
"""``"vmap"``: all in one program; ``"processes"``: one each; ``"turn"``: one after another, in this process;
``"auto"``: the first where the candidates are alike, else the second."""


@dataclasses.dataclass(frozen=True)
class Found:
    """A recipe's search that is over.

    Attributes:
        result: what it found.
        rescored: the winner's score, found once more from its parameters; None without a winner.
    """

    result: SearchResult
    rescored: Rescored | None


def search(
    name: str,
    config: Any = None,
    *,
    seeds: Sequence[int],
    grid: Mapping[str, Sequence[Any]] | None = None,
    cull_fraction: float = 0.0,
    keep: int = 1,
    engine: EngineName = "auto",
    workers: int | None = None,
    run: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] | None = None,
) -> Found:
    """Search a recipe for its best seed and settings.

    The score is what the recipe's `Best` callback watches; ties are decided by the recipe's own metrics, then by the
    lower number.

    Args:
        name: which recipe.
        config: what all candidates share; None takes the defaults.
        seeds: of the candidates.
        grid: values to try of the config's fields, by name; a field of a field has a dotted name.
        cull_fraction: part of the epochs after which the weak are culled, from 0 (never) to below 1.
        keep: how many go on then.
        engine: how they are trained.
        workers: how many processes at a time; None is one for each core.
        run: a new folder; None takes the next free ``runs/search-NAME-001``.
        say: takes lines on how it goes.

    Raises:
        UsageError: an unknown recipe, a setting that does not fit, an argument out of range, a folder in use.
        SearchInterrupted: on Ctrl-C; `resume_search` goes on.
    """
    recipe: Recipe = find(name).load()
    config = recipe.config() if config is None else config
    if not isinstance(config, recipe.config):
        raise UsageError(f"the recipe '{name}' takes a {recipe.config.__qualname__}, got {config!r}.")
    if "seed" in (grid or {}):
        raise UsageError("seeds are given as seeds (--seeds 0-7), not as a setting.")
    if workers is not None and engine in ("vmap", "turn"):
        raise UsageError(f"workers are about processes; the engine '{engine}' has none.")
    cull_fraction = check_fraction(cull_fraction)
    every = candidates(seeds, epochs=max(1, _epochs(config)), grid=grid)
    every = [dataclasses.replace(one, epochs=_epochs(_config_of(config, one))) for one in every]
    one_of_them = _config_of(config, every[0])
    with _precision(recipe, [one_of_them]):
        experiment = recipe.experiment(one_of_them)
    goal = _goal(name, experiment)
    for one in every:
        if one.epochs < 1:
            raise UsageError("a search needs at least one epoch to rank by.")
        if cull_fraction:
            _check_measured(experiment, goal, one, cull_fraction)
    del experiment
    path = reserve_run(f"search-{name}") if run is None else Path(run)
    settings = {"recipe": name, "config": dataclasses.asdict(config), "workers": workers}
    try:
        return _run(
            name,
            config,
            every,
            goal,
            path,
            engine=engine,
            settings=settings,
            cull_fraction=cull_fraction,
            keep=keep,
            resume=False,
            say=say,
        )
    finally:
        if run is None and not SearchFolder(path).is_search():  # it came to nothing
            for folder in (path / "candidates", path):
                with contextlib.suppress(OSError):
                    folder.rmdir()


def resume_search(run: str | os.PathLike[str], *, say: Callable[[str], None] | None = None) -> Found:
    """Go on with a recipe's search from wherever it was stopped.

    Args:
        run: its folder.
        say: takes lines on how it goes.

    Raises:
        UsageError: not a search, or not one of a recipe.
    """
    folder = SearchFolder.open(run)
    setup = folder.read_setup()
    name, config = searched_recipe(folder)
    workers = setup.settings.get("workers")
    return _run(
        name,
        config,
        list(setup.candidates),
        setup.goal,
        folder.path,
        engine=setup.engine,
        settings={**setup.settings, "workers": workers if isinstance(workers, int) else None},
        cull_fraction=setup.cull_fraction,
        keep=setup.keep,
        resume=True,
        say=say,
    )


def searched_recipe(folder: SearchFolder) -> tuple[str, Any]:
    """The recipe that a search is of, and the config its candidates share.

    Raises:
        UsageError: it is not one of a recipe, or its search.json is damaged.
    """
    settings = folder.read_setup().settings
    if not isinstance(settings.get("recipe"), str):
        raise UsageError(
            f"{folder.path} is not the search of a recipe. Resume it from your own program: search(..., resume=True)."
        )
    return settings["recipe"], from_json(find(settings["recipe"]).load().config, settings.get("config"))


def _run(
    name: str,
    config: Any,
    every: list[Candidate],
    goal: Goal,
    path: Path,
    *,
    engine: str,
    settings: Mapping[str, Any],
    cull_fraction: float,
    keep: int,
    resume: bool,
    say: Callable[[str], None] | None,
) -> Found:
    recipe: Recipe = find(name).load()
    configs = {one.number: _config_of(config, one) for one in every}

    def train(candidate: Candidate, *, run: Path, until: int, resume: bool) -> FitResult:
        return train_quietly(name, configs[candidate.number], run, until=until, resume=resume)

    def describe(task: Task) -> Mapping[str, Any]:
        own = dataclasses.asdict(configs[task.candidate.number])
        return {"recipe": name, "config": own, "run": str(task.path), "until": task.until}

    processes = Processes(
        lambda task: [sys.executable, "-m", "hardgrad.zoo._worker"], describe, workers=settings["workers"]
    )
    engines: dict[str, tuple[Engine, Engine | None]] = {
        "vmap": (Together(train), None),
        "processes": (processes, None),
        "turn": (InTurn(train), None),
        "auto": (Together(train), processes),
    }
    if engine not in engines:
        raise UsageError(f"the engine is one of {', '.join(engines)}; got '{engine}'.")
    first, otherwise = engines[engine]
    with _precision(recipe, list(configs.values())):
        result = run_search(
            every,
            first,
            run=path,
            metric=goal.metric,
            mode=goal.mode,
            ties=goal.ties,
            cull_fraction=cull_fraction,
            keep=keep,
            otherwise=otherwise,
            settings=settings,
            resume=resume,
            say=say,
        )
    if result.winner is None:
        return Found(result, None)
    folder = result.folder
    rescored = rescore(folder.run(result.winner.candidate.number))
    manifest = folder.read_winner() or {}
    RunFolder(folder.path).write_json(folder.winner_path, {**manifest, "scored_again": rescored.as_json()})
    return Found(result, rescored)


def _config_of(config: Any, candidate: Candidate) -> Any:
    """What a candidate is run with."""
    return with_settings(config, {**candidate.settings, "seed": candidate.seed})


def _epochs(config: Any) -> int:
    epochs = getattr(config, "epochs", None)
    if not isinstance(epochs, int):
        raise UsageError("the recipe's config has no field 'epochs' to cull by.")
    return epochs


def _goal(name: str, experiment: Experiment) -> Goal:
    best = next((one for one in experiment.trainer.callbacks if isinstance(one, Best)), None)
    if best is None:
        raise UsageError(f"the recipe '{name}' has no score to rank by: its trainer has no Best callback.")
    return Goal(best.metric, best.mode, tuple(experiment.ties))


def _check_measured(experiment: Experiment, goal: Goal, candidate: Candidate, fraction: float) -> None:
    """Refuse to cull before there is a score."""
    epoch = cull_epoch(fraction, candidate.epochs)
    for one in experiment.trainer.callbacks:
        if isinstance(one, Evaluate) and goal.metric in one.measures and one.first(candidate.epochs) > epoch:
            raise UsageError(
                f"after {epoch} epochs there is nothing to rank by: '{goal.metric}' is measured every {one.every} "
                "epochs. Cull later."
            )


@contextlib.contextmanager
def _precision(recipe: Recipe, configs: Sequence[Any]) -> Iterator[None]:
    """Double precision for all where they ask for it: threads that each set it would undo it for one another."""
    wide = {bool(recipe.float64(config)) for config in configs}
    if wide == {True}:
        with float64():
            yield
    else:
        yield
