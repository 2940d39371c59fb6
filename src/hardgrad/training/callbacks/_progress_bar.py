"""A live bar with the loss and the controls, on the error stream so that output stays clean."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .._record import EpochRecord
from ._base import Callback

if TYPE_CHECKING:
    from .._run import FitResult, Run

_SHOW_EVERY = 0.1  # seconds; drawing more often costs more than the eye gains


class ProgressBar(Callback):
    """Epochs done, the epoch's loss, and its controls.

    Args:
        console: where to draw; None is the error stream, and draws only on a terminal.
    """

    order: ClassVar[int] = 10

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._shown = 0.0
        self._controls: Mapping[str, Any] = {}

    def on_run_begin(self, run: Run) -> None:
        """Draw the empty bar."""
        columns = (TextColumn("epoch"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
        text = TextColumn("{task.fields[text]}", table_column=None)
        # Rich would send what is printed to its own console, away from the file it may be piped to.
        self._bar = Progress(
            *columns,
            text,
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._bar.add_task("train", total=run.epochs, completed=run.epoch, text="compiling")
        self._bar.start()

    def on_epoch_begin(self, run: Run, controls: Mapping[str, Any]) -> None:
        """Remember the controls."""
        self._controls = controls

    def on_block_end(self, run: Run, done: int, total: int | None) -> None:
        """Move within a long epoch."""
        if self._bar is not None and total and done < total and self._due():
            self._bar.update(self._task, completed=run.epoch + done / total)

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """Move, and show loss and controls."""
        if self._bar is None or not (self._due() or record.epoch + 1 == run.epochs):
            return
        parts = [f"loss {record.metrics['loss']:.4g}"]
        parts += [f"{name} {_short(value)}" for name, value in self._controls.items()]
        self._bar.update(self._task, completed=record.epoch + 1, text=" ".join(parts))

    def on_run_end(self, run: Run, result: FitResult) -> None:
        """Take the bar away."""
        self._stop()

    def on_error(self, run: Run, error: BaseException) -> None:
        """Take the bar away."""
        self._stop()

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._shown < _SHOW_EVERY:
            return False
        self._shown = now
        return True

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
