"""``hardgrad bench RECIPE``: how fast does it train here?"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from ..core import dumps
from ..report._text import format_seconds
from ..training._storage import write_text
from ..zoo._bench import Speed, bench
from ._options import check_out, show_path, tell, unset
from .run_command import recipe_options

_USAGE = """\
usage: hardgrad bench RECIPE [options]

How fast does a recipe train on this machine? Times its first epoch and the
others, tells steps from all else, and says what a step costs beside one
evaluation of its loss. Nothing is kept but what --json names.

examples:
  hardgrad bench hypercausal-depth
  hardgrad bench song-coldstart --seconds 60
  hardgrad bench digits-lif --variant eprop --json eprop.json

'hardgrad bench RECIPE --help' lists a recipe's options."""


@dataclasses.dataclass(frozen=True)
class BenchOptions:
    """The same for every recipe."""

    seconds: float = 10.0
    """how long epochs are timed, twice; two are timed in any case"""
    json: Annotated[Path | None, unset("PATH")] = None
    """write all figures there"""
    config: Annotated[Path | None, unset("PATH")] = None
    """JSON file with the recipe's settings; options given as well win"""
    smoke: bool = False
    """the smallest budget that still exercises everything"""


def run(arguments: list[str]) -> int:
    """Time a recipe and print the figures."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    name, options, config = recipe_options("bench", BenchOptions(), arguments)
    check_out("--json", options.json)
    found = bench(name, config, seconds=options.seconds)
    print("\n".join(_lines(found)))
    if options.json is not None:
        write_text(options.json, dumps(found.as_json(), indent=2) + "\n")
        tell(f"figures: {show_path(options.json)}")
    return 0


def _lines(found: Speed) -> Iterator[str]:
    about, step, epoch = found.environment, _time(found.step), found.epoch
    load = "" if about["load"] is None else f", load {about['load']:.1f}"
    yield f"{found.recipe} on {about['device']}, {about['cores']} cores{load}; JAX {about['jax']}"
    yield ""
    yield f"{'first epoch':<18}{_time(found.first):>9}  data, model and compiling included"
    yield f"{'each after it':<18}{_time(epoch):>9}  median of {len(found.epochs)}, all of a run on"
    steps = "1 step" if found.steps == 1 else f"{found.steps:g} steps of {step}"
    yield f"{'  its steps':<18}{_time(found.steps_alone):>9}  {found.steps_alone / epoch:.0%}: {steps}"
    if epoch > found.steps_alone:
        rest = _time(epoch - found.steps_alone)
        yield f"{'  what else':<18}{rest:>9}  validation, callbacks, telemetry, checkpoints"
    else:
        yield "  The epochs took less than their steps alone: too short, or too busy a machine."
    yield f"{'its loss once':<18}{_time(found.evaluation):>9}  one batch, without a derivative"
    counted = f"the method evaluates the loss {found.evaluations:.3g} times" if found.evaluations != 1 else ""
    yield f"{'a step':<18}{found.step_in_evaluations:>8.3g}×  its loss{'; ' if counted else ''}{counted}"
    yield ""
    shapes = ", ".join(f"{name}={value}" for name, value in found.static.items())
    paced = f" at {shapes}" if shapes else ""
    yield f"all {found.of} epochs{paced}: about {format_seconds(found.first + (found.of - 1) * epoch)}"


def _time(seconds: float) -> str:
    """Three figures, in the unit that fits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size or unit == "µs":
            break
    return f"{seconds / size:.3g} {unit}"
