"""Stopping a run whose metric stays below a threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...core import UsageError, whole_number
from .._record import EpochRecord
from ._base import Callback
from ._monitor import value_of

if TYPE_CHECKING:
    from .._run import Run


class StopBelow(Callback):
    """Stop when a metric has been below a threshold for `patience` epochs in a row.

    Where `EarlyStopping` asks whether a metric still improves, this asks whether it is good enough. The threshold
    itself is good enough, rounded to float32, as metrics mostly are; a value that is not a number is not. Epochs that
    lack the metric, as `Evaluate` may leave it, do not count.

    Args:
        metric: such as ``"val_coverage"``.
        threshold: the least value that is good enough.
        patience: after how many epochs in a row to stop, at least 1.

    Raises:
        UsageError: a threshold that is no number, a patience below 1; at the first epoch, an unknown metric.
    """

    order: ClassVar[int] = 50

    def __init__(self, metric: str, threshold: float | int, *, patience: int):
        if threshold != threshold:
            raise UsageError(f"threshold must be a number, got {threshold!r}.")
        self.metric, self.threshold = metric, threshold
        self.patience = whole_number("patience", patience, least=1)
        self.bad = 0

    def on_run_begin(self, run: Run) -> None:
        """Begin anew."""
        self.bad = 0

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """Count, and stop the run if there were enough."""
        value = value_of(run, record, self.metric)
        if value is None:
            return
        with np.errstate(over="ignore"):
            enough = np.float32(value) >= np.float32(self.threshold)
        self.bad = 0 if enough else self.bad + 1
        if self.bad >= self.patience:
            unit = "evaluations" if self.metric in run.measures else "epochs"
            run.stop(f"{self.metric} has been below {self.threshold} for {self.bad} {unit}")

    def state(self) -> Any:
        """The count."""
        return {"bad": self.bad}

    def restore(self, state: Any, run: Run) -> None:
        """Take it back."""
        self.bad = state["bad"]
