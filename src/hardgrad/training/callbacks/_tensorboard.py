"""TensorBoard event files. Needs the extra ``tensorboard``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ...core import UsageError, require
from .._record import EpochRecord
from ._base import Callback

if TYPE_CHECKING:
    from .._run import FitResult, Run


class TensorBoard(Callback):
    """Write metrics and controls of every epoch as TensorBoard scalars.

    Args:
        log_dir: where; None is ``tensorboard/`` in the run's folder.

    Raises:
        MissingExtraError: tensorboardX is not installed.
        UsageError: neither a folder nor a run's folder to write to.
    """

    order: ClassVar[int] = 25

    def __init__(self, log_dir: str | None = None):
        require("tensorboardX", extra="tensorboard")
        self.log_dir = log_dir
        self._writer: Any = None

    def on_run_begin(self, run: Run) -> None:
        """Open the event file; steps after the checkpoint are overwritten on resume."""
        if self.log_dir is None and run.folder is None:
            raise UsageError("TensorBoard needs somewhere to write: TensorBoard('logs'), or fit(..., run='runs/name').")
        log_dir = self.log_dir or str(run.folder.path / "tensorboard")  # type: ignore[union-attr]
        writer = require("tensorboardX", extra="tensorboard").SummaryWriter
        self._writer = writer(log_dir, purge_step=run.epoch if run.resumed else None)

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """One point a metric and a control."""
        for name, value in record.metrics.items():
            self._writer.add_scalar(name, value, record.epoch)
        for name, value in record.controls.items():
            self._writer.add_scalar(f"controls/{name}", float(value), record.epoch)

    def on_run_end(self, run: Run, result: FitResult) -> None:
        """Close the file."""
        self._close()

    def on_error(self, run: Run, error: BaseException) -> None:
        """Close the file."""
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
