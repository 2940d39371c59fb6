"""The records of all epochs, in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ...core import CheckpointError
from .._record import EpochRecord
from ._base import Callback

if TYPE_CHECKING:
    from .._run import Run


class History(Callback):
    """Keep every epoch's record; a resumed run reads the earlier ones from its telemetry.

    Attributes:
        records: one an epoch, in order.
    """

    order: ClassVar[int] = 15

    def __init__(self) -> None:
        self.records: list[EpochRecord] = []

    def on_run_begin(self, run: Run) -> None:
        """Begin anew, or with what the telemetry holds of the epochs before."""
        self.records = []
        if run.resumed and run.folder is not None:
            self.records = [record for record in run.folder.records() if record.epoch < run.epoch]
            self._check_whole(run)

    def _check_whole(self, run: Run) -> None:
        epochs = [record.epoch for record in self.records]
        if epochs == list(range(run.epoch)) or run.folder is None:
            return
        good = next((n for n, epoch in enumerate(epochs) if n != epoch), len(epochs))
        raise CheckpointError(
            f"{run.folder.telemetry_path} holds the epochs before {good} and lacks later ones of the {run.epoch} that "
            f"the checkpoint has seen. Put it back, or delete the checkpoints after {good:06d} to resume from there."
        )

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """Keep it."""
        self.records.append(record)
