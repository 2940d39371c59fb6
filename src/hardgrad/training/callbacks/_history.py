"""The records of all epochs, in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

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

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """Keep it."""
        self.records.append(record)
