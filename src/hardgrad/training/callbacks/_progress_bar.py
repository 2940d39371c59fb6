"""A live bar with the loss and the controls, or a line now and then; on the error stream, for the output's sake."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from .._record import EpochRecord
from ._base import Callback

if TYPE_CHECKING:
    from .._run import FitResult, Run

_SHOW_EVERY = 0.1  # seconds; drawing more often costs more than the eye gains
_SAY_EVERY = 10.0  # seconds between two lines in a log
_BAR, _TIME, _ROOM = 20, 7, 60  # columns of the bar, of the time left, and of a terminal with room for the bar


class ProgressBar(Callback):
    """Epochs done, the epoch's loss, and its controls.

    Args:
        console: where to draw; None is the error stream. What is no terminal, such as a file, gets a line every
            10 seconds instead.
    """

    order: ClassVar[int] = 10

    def __init__(self, console: Console | None = None):
        self.console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._shown = 0.0
        self._controls: Mapping[str, Any] = {}

    def on_run_begin(self, run: Run) -> None:
        """Draw the empty bar, or begin to count the seconds."""
        self._shown = time.monotonic()
        if not self.console.is_terminal:
            return
        bar = [BarColumn(_BAR)] if self.console.width >= _ROOM else []
        columns = (TextColumn("epoch"), *bar, MofNCompleteColumn(), TimeRemainingColumn())
        self._taken = len(f"epoch {run.epochs}/{run.epochs} ") + _TIME + 1 + (_BAR + 1 if bar else 0)
        # Rich would send what is printed to its own console, away from the file it may be piped to.
        self._bar = Progress(
            *columns,
            TextColumn("{task.fields[text]}"),
            console=self.console,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
        )
        self._task = self._bar.add_task("train", total=run.epochs, completed=run.epoch, text="compiling")
        self._bar.start()

    def on_epoch_begin(self, run: Run, controls: Mapping[str, Any]) -> None:
        """Remember the controls."""
        self._controls = controls

    def on_block_end(self, run: Run, done: int, total: int | None) -> None:
        """Move within a long epoch."""
        if not total or done >= total or not self._due():
            return
        if self._bar is not None:
            self._bar.update(self._task, completed=run.epoch + done / total)
        else:
            self._say(f"epoch {run.epoch}/{run.epochs} and {done / total:.0%} of the next")

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """Move, and show the loss and those controls that fit."""
        last = record.epoch + 1 == run.epochs
        if not self._due() and not (last and self._bar is not None):
            return
        parts = [f"loss {record.metrics['loss']:.4g}"]
        parts += [f"{name} {_short(value)}" for name, value in self._controls.items()]
        if self._bar is None:
            self._say(f"epoch {record.epoch + 1}/{run.epochs} {' '.join(parts)}")
            return
        text = _fitting(parts, self.console.width - self._taken)
        # Drawn at once: until its next drawing Rich puts the last one below what is printed.
        self._bar.update(self._task, completed=record.epoch + 1, text=text, refresh=True)

    def on_run_end(self, run: Run, result: FitResult) -> None:
        """Take the bar away."""
        self._stop()

    def on_error(self, run: Run, error: BaseException) -> None:
        """Take the bar away."""
        self._stop()

    def _due(self) -> bool:
        now = time.monotonic()
        if now - self._shown < (_SAY_EVERY if self._bar is None else _SHOW_EVERY):
            return False
        self._shown = now
        return True

    def _say(self, line: str) -> None:
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _fitting(parts: Sequence[str], room: int) -> str:
    """The first part, and of the others those that still fit, whole."""
    text = parts[0]
    for part in parts[1:]:
        text += f" {part}" if len(text) + len(part) < room else ""
    return text


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
