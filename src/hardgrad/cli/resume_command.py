"""``hardgrad resume RUN``: go on with a run, a search or a matrix that was stopped or killed."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from ..core import UsageError
from ..search import SearchFolder
from ..training import RunFolder, Status
from ..training.callbacks import Callback, ProgressBar
from ..zoo import Launched, resume, resume_search
from ..zoo._matrix import MatrixFolder
from . import matrix_command
from ._options import parse, tell, unset
from .run_command import trained
from .search_command import told


@dataclasses.dataclass(frozen=True)
class Options:
    """Which run."""

    run: Annotated[Path, tyro.conf.Positional]
    """the folder of the run, the search or the matrix"""
    until: Annotated[int | None, unset("INT")] = None
    """pause the run after so many of its epochs"""
    quiet: bool = False
    """no progress, neither as a bar nor as lines"""


def run(arguments: list[str]) -> int:
    """Resume a run, to the bits of one that was never stopped."""
    options = parse(
        Options,
        arguments,
        program="hardgrad resume",
        description="Go on with a run from its newest checkpoint, with a search or a matrix.\n\n"
        "Example: hardgrad resume runs/hypercausal-depth-001",
    )
    search, matrix = SearchFolder(options.run).is_search(), MatrixFolder(options.run).is_matrix()
    if options.until is not None and (search or matrix):
        raise UsageError(f"--until is about a run; a {'search' if search else 'matrix'} knows how far it is to go.")
    if matrix:
        return matrix_command.filled(MatrixFolder(options.run).read_setup(), options.run, quiet=options.quiet)
    if search:
        return told(lambda: resume_search(options.run, say=None if options.quiet else tell))
    had_ended = _has_ended(RunFolder.open(options.run))

    def go(stopping: Callback) -> Launched:
        callbacks = [stopping] if options.quiet else [ProgressBar(), stopping]
        done = resume(options.run, callbacks=callbacks, until=options.until)
        if had_ended:
            tell("This run had ended: nothing was left to train. It concluded:\n")
        return done

    return trained(go)


def _has_ended(folder: RunFolder) -> bool:
    status = None
    with contextlib.suppress(UsageError):  # missing, or damaged: it is written anew
        result = folder.read_json(folder.result_path)
        status = result.get("status") if isinstance(result, dict) else None
    return status in (Status.COMPLETED.value, Status.STOPPED.value, Status.DIVERGED.value)
