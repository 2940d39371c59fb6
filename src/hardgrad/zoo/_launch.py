"""Running a recipe: config in, a finished run folder out."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from ..core import UsageError
from ..training import EpochRecord, FitResult, Run, RunFolder, Status
from ..training._storage import disk_errors
from ..training.callbacks import Callback
from ._config import from_json
from ._recipe import SMOKE_NOTE, Conclusion
from ._registry import find


class EpochLines(Callback):
    """Print a line an epoch.

    Args:
        line: from the epoch's record to the line.
    """

    order: ClassVar[int] = 12

    def __init__(self, line: Callable[[EpochRecord], str]):
        self.line = line

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """Print it at once."""
        print(self.line(record), flush=True)  # noqa: T201 - a recipe's lines are its output


@dataclasses.dataclass(frozen=True)
class Launched:
    """A recipe that has run.

    Attributes:
        folder: its run.
        fit: what the trainer returned.
        result: what result.json holds.
        lines: what the recipe prints at the end.
        notes: what else is to be known of its figures.
    """

    folder: RunFolder
    fit: FitResult
    result: dict[str, Any]
    lines: tuple[str, ...]
    notes: tuple[str, ...] = ()


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C ended a run that had begun, before it concluded. It can be resumed.

    Args:
        path: its folder.
    """

    def __init__(self, path: Path):
        super().__init__(str(path))
        self.path = path


@contextlib.contextmanager
def _told_where(path: Path) -> Iterator[None]:
    """Have Ctrl-C name the run, if there is one by then."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if RunFolder(path).config_path.is_file():
            raise RunInterrupted(path) from interrupt
        raise


def launch(
    name: str,
    config: Any = None,
    *,
    run: str | os.PathLike[str] | None = None,
    callbacks: Sequence[Callback] = (),
    until: int | None = None,
) -> Launched:
    """Run a recipe.

    Args:
        name: which.
        config: its config; None takes the defaults.
        run: a new folder; None takes the next free ``runs/NAME-001``.
        callbacks: besides the recipe's own.
        until: pause after so many epochs, to be resumed later.

    Raises:
        UsageError: an unknown recipe, another recipe's config, or a folder in use.
        RunInterrupted: by a Ctrl-C that is not part of the result: a second one, or one after training.
    """
    recipe = find(name).load()
    config = recipe.config() if config is None else config
    if not isinstance(config, recipe.config):
        raise UsageError(f"the recipe '{name}' takes a {recipe.config.__qualname__}, got {config!r}.")
    if run is not None:
        with _told_where(Path(run)):
            return _run(name, config, Path(run), callbacks, resume=False, until=until)
    path = reserve_run(name)
    try:
        with _told_where(path):
            return _run(name, config, path, callbacks, resume=False, until=until)
    finally:
        if path.is_dir() and not any(path.iterdir()):  # it came to nothing
            path.rmdir()


def resume(run: str | os.PathLike[str], *, callbacks: Sequence[Callback] = (), until: int | None = None) -> Launched:
    """Go on with a recipe's run from its newest checkpoint.

    Args:
        run: its folder.
        callbacks: besides the recipe's own.
        until: pause after so many epochs, to be resumed later.

    Raises:
        UsageError: not a run, or not one of a recipe.
        CheckpointError: the checkpoint is damaged.
        RunInterrupted: see `launch`.
    """
    with _told_where(Path(run)):
        name, config = recipe_of(RunFolder.open(run))
        return _run(name, config, Path(run), callbacks, resume=True, until=until)


def train_quietly(name: str, config: Any, run: Path, *, until: int, resume: bool) -> FitResult:
    """Train a candidate of a search: a run like any other, of which nothing is printed."""
    return _run(name, config, run, (), resume=resume, until=until, quiet=True).fit


def recipe_of(folder: RunFolder) -> tuple[str, Any]:
    """The recipe and config a run was started with.

    Raises:
        UsageError: it was not started by a recipe, or its config.json is damaged.
    """
    if not folder.started_by_recipe():
        raise UsageError(
            f"{folder.path} was not started by a recipe, so that only your own program knows its model. There, "
            "fit(..., resume=True) goes on with it, and hg.export.export_bundle(...) exports it."
        )
    settings = folder.read_json(folder.config_path)["settings"]
    name = settings["recipe"]
    config = from_json(find(name).load().config, settings.get("config"))
    return name, config


def reserve_run(name: str, *, root: Path = Path("runs")) -> Path:
    """Make the first of ``runs/NAME-001``, ``runs/NAME-002``, … that does not exist, and nobody else can."""
    with disk_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        for i in itertools.count(1):
            path = root / f"{name}-{i:03d}"
            with contextlib.suppress(FileExistsError):
                path.mkdir()
                return path
    raise AssertionError  # the count has no end


def _run(
    name: str,
    config: Any,
    path: Path,
    callbacks: Sequence[Callback],
    *,
    resume: bool,
    until: int | None = None,
    quiet: bool = False,
) -> Launched:
    recipe = find(name).load()
    smoke = bool(recipe.smoke) and all(getattr(config, field) == value for field, value in recipe.smoke.items())
    kept: list[tuple[Conclusion, dict[str, Any]]] = []

    def conclude(result: FitResult) -> dict[str, Any]:
        with np.errstate(all="ignore"):  # a diverged run's metrics are not finite, and say so themselves
            conclusion = experiment.conclude(result)
        notes = [*conclusion.notes, *([SMOKE_NOTE] if smoke else [])]
        if result.status is Status.INTERRUPTED:
            notes.append(f"Interrupted after {result.epochs} of {experiment.epochs} epochs: the figures are of these.")
        said = {"headline": conclusion.headline, "lines": list(conclusion.lines), "notes": notes}
        content = {"recipe": name, **said, **conclusion.result}
        kept.append((conclusion, {**result.summary(), **content}))
        return content

    with float64() if recipe.float64(config) else contextlib.nullcontext():
        experiment = recipe.experiment(config)
        own = [one for one in experiment.trainer.callbacks if not (quiet and isinstance(one, EpochLines))]
        result = experiment.fit(
            (*own, *callbacks),
            run=path,
            resume=resume,
            until=until,
            settings={"recipe": name, "config": dataclasses.asdict(config)},
            conclude=conclude,
        )
    if not kept:  # a run that is paused has nothing to conclude yet
        return Launched(RunFolder.open(path), result, result.summary(), ())
    conclusion, content = kept[-1]
    return Launched(RunFolder.open(path), result, content, conclusion.lines, tuple(content["notes"]))


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Double precision for the while: for all threads, since black boxes are called from others."""
    config: Any = jax.config
    before = config.jax_enable_x64
    config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        config.update("jax_enable_x64", before)
