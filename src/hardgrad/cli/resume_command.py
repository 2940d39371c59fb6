"""``hardgrad resume RUN``: go on with a run, or a search, that was stopped or killed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from ..core import UsageError
from ..search import SearchFolder
from ..training.callbacks import ProgressBar
from ..zoo import resume, resume_search
from ._options import parse, tell
from .run_command import finish
from .search_command import told


@dataclasses.dataclass(frozen=True)
class Options:
    """Which run."""

    run: Annotated[Path, tyro.conf.Positional]
    """the folder of the run or the search"""
    until: int | None = None
    """pause the run after so many of its epochs"""
    quiet: bool = False
    """no progress bar"""


def run(arguments: list[str]) -> int:
    """Resume a run, to the bits of one that was never stopped."""
    options = parse(
        Options,
        arguments,
        program="hardgrad resume",
        description="Go on with a run from its newest checkpoint, or with a search.\n\n"
        "Example: hardgrad resume runs/hypercausal-depth-001",
    )
    if SearchFolder(options.run).is_search():
        if options.until is not None:
            raise UsageError("--until is about a run; a search knows how far its candidates are to go.")
        return told(lambda: resume_search(options.run, say=None if options.quiet else tell))
    callbacks = [] if options.quiet else [ProgressBar()]
    return finish(resume(options.run, callbacks=callbacks, until=options.until))
