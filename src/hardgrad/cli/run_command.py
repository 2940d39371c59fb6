"""``hardgrad run RECIPE``: run a recipe."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from ..core import UsageError
from ..training import Status
from ..training.callbacks import Callback, ProgressBar, TensorBoard
from ..zoo import Launched, RunInterrupted, find, launch
from ..zoo._config import read_config
from ._options import parse, show_path, tell, unset
from ._stopping import Stopping

_USAGE = """\
usage: hardgrad run RECIPE [options]

Run a recipe: it trains, shows its progress, and leaves a folder under runs/.

examples:
  hardgrad run hypercausal-depth
  hardgrad run hypercausal-depth --smoke
  hardgrad run hypercausal-depth --epochs 32 --estimator autodiff
  hardgrad run hypercausal-depth --config my.json --out runs/mine

'hardgrad run RECIPE --help' lists a recipe's options,
'hardgrad list' the recipes."""

General = TypeVar("General")


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """The same for every recipe."""

    out: Annotated[Path | None, unset("PATH")] = None
    """folder for the run, new; else the next free one under runs/"""
    config: Annotated[Path | None, unset("PATH")] = None
    """JSON file with the recipe's settings; options given as well win"""
    smoke: bool = False
    """the smallest budget that still exercises everything"""
    until: Annotated[int | None, unset("INT")] = None
    """pause after so many of the epochs; 'hardgrad resume' goes on"""
    tensorboard: bool = False
    """write TensorBoard event files too"""
    quiet: bool = False
    """no progress, neither as a bar nor as lines"""


def run(arguments: list[str]) -> int:
    """Run a recipe; 0 when it finished, 1 when it diverged."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0

    def go(stopping: Callback) -> Launched:
        name, general, config = recipe_options("run", RunOptions(), arguments)
        callbacks = [stopping] if general.quiet else [ProgressBar(), stopping]
        if general.tensorboard:
            callbacks.append(TensorBoard())
        return launch(name, config, run=general.out, callbacks=callbacks, until=general.until)

    return trained(go)


def trained(go: Callable[[Callback], Launched]) -> int:
    """Train a run; print what it concluded, or after Ctrl-C how to go on.

    Args:
        go: what trains it, with a callback besides its own.
    """
    stopping = Stopping()
    try:
        with stopping.announced():
            done = go(stopping)
    except RunInterrupted as interrupt:
        path = show_path(interrupt.path)
        tell(f"\ninterrupted: what is saved is saved\nrun: {path}    go on: hardgrad resume {path}")
        return 130
    except KeyboardInterrupt:
        tell("\ninterrupted before the run began: there is nothing to resume")
        return 130
    return finish(done)


def recipe_options(
    command: str, general: General, arguments: list[str], *, default: Any = None
) -> tuple[str, General, Any]:
    """A command that is given a recipe, options of its own, and the recipe's.

    Args:
        command: its name.
        general: the defaults of its own options.
        arguments: as typed.
        default: a config that options override; None takes the recipe's own.

    Returns:
        The recipe's name, the command's options, and the recipe's config.

    Raises:
        UsageError: no recipe, an unknown one, or options that do not fit.
    """
    name, *rest = arguments
    if name.startswith("-"):
        raise UsageError(f"the recipe comes first: hardgrad {command} RECIPE {name} ... See: hardgrad list.")
    recipe = find(name).load()
    default = recipe.config() if default is None else default
    file = _config_file(rest)
    if file is not None:
        default = read_config(recipe.config, file)
    if "--smoke" in rest:
        default = dataclasses.replace(default, **recipe.smoke)
    kind = dataclasses.make_dataclass(
        "Arguments",
        [
            ("general", Annotated[type(general), tyro.conf.arg(name="")]),
            ("recipe", Annotated[recipe.config, tyro.conf.arg(name="")]),
        ],
        frozen=True,
    )
    summary = find(name).summary
    description = f"{summary}{'' if summary.endswith('?') else '.'}\n\nExample: hardgrad {command} {name} --smoke"
    options: Any = parse(
        kind,
        rest,
        program=f"hardgrad {command} {name}",
        description=description,
        default=kind(general, default),
    )
    return name, options.general, options.recipe


def _config_file(arguments: list[str]) -> Path | None:
    """The file after --config, needed before the options are read: they override it."""
    for i, argument in enumerate(arguments):
        if argument == "--config" and i + 1 < len(arguments):
            return Path(arguments[i + 1])
        if argument.startswith("--config="):
            return Path(argument.partition("=")[2])
    return None


def finish(done: Launched) -> int:
    """Print what a recipe concluded and where its run is."""
    path = show_path(done.folder.path)
    for line in done.lines:
        print(line.replace("{run}", str(done.folder.path)))
    fit = done.fit
    if done.notes:
        tell("")
    for note in done.notes:
        tell("\n".join(textwrap.wrap(note, 80)))
    tell(f"\n{fit.status.value}: {fit.reason} ({fit.epochs} epochs, {fit.seconds:.1f} s)")
    if fit.skipped:
        tell(f"{fit.skipped} of {fit.steps} steps were not finite and left out")
    if fit.status is Status.INTERRUPTED:
        tell(f"run: {path}    go on: hardgrad resume {path}")
        return 130
    if fit.status is Status.PAUSED:
        tell(f"run: {path}    go on: hardgrad resume {path}")
        return 0
    tell(f"run: {path}    report: hardgrad report {path}")
    return 1 if fit.status is Status.DIVERGED else 0
