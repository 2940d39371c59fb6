"""``hardgrad resume RUN``: go on with a run that was stopped or killed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from ..training.callbacks import ProgressBar
from ..zoo import resume
from ._options import parse
from .run_command import finish


@dataclasses.dataclass(frozen=True)
class Options:
    """Which run."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run's folder"""
    quiet: bool = False
    """no progress bar"""


def run(arguments: list[str]) -> int:
    """Resume a run, to the bits of one that was never stopped."""
    options = parse(
        Options,
        arguments,
        program="hardgrad resume",
        description="Go on with a run from its newest checkpoint.\n\n"
        "Example: hardgrad resume runs/hypercausal-depth-001",
    )
    return finish(resume(options.run, callbacks=[] if options.quiet else [ProgressBar()]))
