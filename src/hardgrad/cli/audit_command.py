"""``hardgrad audit``: may this gradient be trusted?"""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
import sys
from pathlib import Path
from typing import Annotated, Any, get_args

import tyro

from ..audit import AuditCase
from ..core import UsageError, did_you_mean, dumps, whole_number
from ..training import RunFolder
from ..training._storage import write_text
from ..zoo import recipe_of
from ..zoo._audit import Point, audit_case, audit_recipe, trainable
from ..zoo._choices import EstimatorName
from ._audit_page import write_page
from ._options import check_out, parse, show_path, tell, unset
from .run_command import recipe_options

_USAGE = """\
usage: hardgrad audit RECIPE [options]
       hardgrad audit --model MODULE:FUNCTION [options]

May this gradient be trusted? It is put beside the slope of the loss itself at
several scales; its noise, its growth and its silent parts are measured. A page
of verdicts says what to try next.

examples:
  hardgrad audit classification-rsnn
  hardgrad audit classification-rsnn --at runs/classification-rsnn-001
  hardgrad audit rational-pole --arm epsilon --html pole.html
  hardgrad audit song-coldstart --clip 0 --growth horizon=256,512,1024,2048
  hardgrad audit --model my_model:case

--model imports MODULE from the current folder or the Python path and calls
FUNCTION, which returns a hardgrad.audit.AuditCase: that runs its code.
'hardgrad audit RECIPE --help' lists a recipe's options,
'hardgrad audit --model --help' those for models of your own."""


@dataclasses.dataclass(frozen=True)
class MeasureOptions:
    """What is measured, and how much it may cost."""

    only: Annotated[str, unset("PATTERN")] = ""
    """audit only parameters whose names have this pattern, such as 'layers.1.*'"""
    gradient: Annotated[str, unset("NAME[=STEP]")] = ""
    """another gradient than the one in use: autodiff, central=1e-3, nes=0.1, ..."""
    growth: Annotated[str, unset("CONTROL=VALUES")] = ""
    """a control and its values, horizon=256,512; 'none': do not look at growth"""
    directions: int = 256
    """in which the loss is probed, at each radius"""
    estimates: int = 32
    """repetitions of an estimate that draws random numbers"""
    rows: int = 32
    """rows of a batch that are taken alone"""
    evaluations: int = 20_000
    """of the objective, at most"""
    audit_seed: int = 0
    """of directions, batches and random numbers"""
    html: Annotated[Path | None, unset("PATH")] = None
    """write a page with pictures there"""
    json: Annotated[Path | None, unset("PATH")] = None
    """write all figures there"""


@dataclasses.dataclass(frozen=True)
class RecipeOptions(MeasureOptions):
    """The same for every recipe."""

    at: Annotated[Path | None, unset("PATH")] = None
    """a run of the recipe: its best parameters and its settings"""
    epoch: Annotated[int | None, unset("INT")] = None
    """whose controls hold; else that of the parameters"""
    arm: Annotated[str, unset("NAME")] = ""
    """which arm, where a recipe trains several; else the first"""
    member: int = 0
    """which seed, where an arm trains several"""
    config: Annotated[Path | None, unset("PATH")] = None
    """JSON file with the recipe's settings; options given as well win"""
    smoke: bool = False
    """the smallest budget that still exercises everything"""


@dataclasses.dataclass(frozen=True)
class ModelOptions(MeasureOptions):
    """Of a model of your own."""

    model: Annotated[str, tyro.conf.arg(metavar="MODULE:FUNCTION")] = ""
    """a function that returns an AuditCase; its module is imported, and run"""


def run(arguments: list[str]) -> int:
    """Audit, print the page, and write what was asked for."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    if any(a == "--model" or a.startswith("--model=") for a in arguments):
        return _model(arguments)
    return _recipe(arguments)


def _recipe(arguments: list[str]) -> int:
    name, *rest = arguments
    folder = _run_of(rest)
    default = None
    if folder is not None:
        theirs, default = recipe_of(folder)
        if theirs != name:
            raise UsageError(
                f"{folder.path} is a run of '{theirs}': hardgrad audit {theirs} --at {show_path(folder.path)}"
            )
    name, options, config = recipe_options("audit", RecipeOptions(), arguments, default=default)
    _check_outs(options)
    point = Point(
        at=folder,
        epoch=options.epoch,
        arm=options.arm,
        member=options.member,
        gradient=read_gradient(options.gradient),
        only=options.only,
        growth=read_growth(options.growth),
    )
    return _told(audit_recipe(name, config, point, **_measure(options)), options)


def _model(arguments: list[str]) -> int:
    if arguments == ["--model", "--help"]:
        arguments = ["--help"]
    options = parse(
        ModelOptions,
        arguments,
        program="hardgrad audit",
        description="Audit a model of your own.\n\nExample: hardgrad audit --model my_model:case --html audit.html",
    )
    _check_outs(options)
    gradient, growth = read_gradient(options.gradient), read_growth(options.growth)
    case = load_case(options.model)
    if gradient is not None:
        from ..zoo._choices import make_estimator

        case = dataclasses.replace(case, estimator=make_estimator(gradient[0], eps=gradient[1]))
    if growth is not None:
        case = dataclasses.replace(case, growth=growth)
    if options.only:
        case = dataclasses.replace(case, trainable=trainable(case.model, options.only))
    if case.title == AuditCase.title:
        case = dataclasses.replace(case, title=options.model)
    return _told(audit_case(case, **_measure(options)), options)


def _measure(options: MeasureOptions) -> dict[str, Any]:
    return {
        "directions": options.directions,
        "estimates": options.estimates,
        "rows": options.rows,
        "evaluations": options.evaluations,
        "seed": whole_number("--audit-seed", options.audit_seed, least=0, most=2**32 - 1),
    }


def _check_outs(options: MeasureOptions) -> None:
    for name, path in (("--html", options.html), ("--json", options.json)):
        check_out(name, path)


def _told(found: Any, options: MeasureOptions) -> int:
    print("\n".join(found.lines()))
    if options.json is not None:
        write_text(options.json, dumps(found.as_json(), indent=2) + "\n")
        tell(f"figures: {show_path(options.json)}")
    if options.html is not None:
        write_page(found, options.html)
        tell(f"page: {show_path(options.html)}")
    return 0


def _run_of(arguments: list[str]) -> RunFolder | None:
    """The run after --at, needed before the options are read: its settings are their defaults."""
    for i, argument in enumerate(arguments):
        if argument == "--at" and i + 1 < len(arguments):
            return RunFolder.open(arguments[i + 1])
        if argument.startswith("--at="):
            return RunFolder.open(argument.partition("=")[2])
    return None


def read_gradient(text: str) -> tuple[EstimatorName, float] | None:
    """An estimator with its step or spread as it is typed: ``autodiff``, ``nes=0.1``; None for nothing.

    Raises:
        UsageError: it is something else.
    """
    if not text:
        return None
    name, _, step = text.partition("=")
    if name not in get_args(EstimatorName):
        raise UsageError(f"--gradient takes {', '.join(get_args(EstimatorName))}; got '{text}'.")
    try:
        value = float(step) if step else 1e-2
    except ValueError:
        value = -1.0
    if not value > 0 or value == float("inf"):
        raise UsageError(f"--gradient {name} takes a step above 0, as in {name}=0.01; got '{text}'.")
    return name, value  # type: ignore[return-value]


def read_growth(text: str) -> tuple[str, list[int]] | None:
    """A control and its values as they are typed: ``horizon=256,512``; None for nothing, no values for ``none``.

    Raises:
        UsageError: it is something else.
    """
    if not text:
        return None
    if text == "none":
        return "", []
    found = re.fullmatch(r"([A-Za-z_]\w*)=(\d{1,9}(?:,\d{1,9})+)", text)
    if found is None:
        raise UsageError(f"--growth takes a control and two values or more, as in horizon=256,512; got '{text}'.")
    return found[1], [int(value) for value in found[2].split(",")]


def load_case(where: str) -> AuditCase:
    """The case that ``module:function`` returns. The module is imported, which runs it.

    Raises:
        UsageError: there is no such module or function, or it returns something else.
    """
    module, colon, name = where.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", module) or not name.isidentifier():
        raise UsageError(f"--model takes MODULE:FUNCTION, as in my_model:case; got '{where}'.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and (module == error.name or module.startswith(f"{error.name}.")):
            raise UsageError(f"there is no module '{module}' here or on the Python path.") from None
        raise
    if not callable(getattr(found, name, None)):
        own = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
        raise UsageError(f"the module '{module}' has no function '{name}'. {did_you_mean(name, own)}")
    case = getattr(found, name)()
    if not isinstance(case, AuditCase):
        raise UsageError(f"{where} must return a hardgrad.audit.AuditCase, got {type(case).__name__}.")
    return case
