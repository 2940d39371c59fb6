"""Watching one metric: the best value, and stopping when it no longer improves.

A monitor names its metric and its direction; nothing is guessed from the name. A value that is not
finite is never best, and counts as no improvement.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from jaxtyping import PyTree

from ...core import (
    CheckpointError,
    UsageError,
    count_parameters,
    did_you_mean,
    dumps,
    named_leaves,
    number,
    whole_number,
)
from .._program import Flat
from .._record import EpochRecord
from .._storage import load_tree, save_tree
from ._base import Callback

if TYPE_CHECKING:
    from .._run import FitResult, Run

Mode = Literal["min", "max"]
"""Which direction is better."""

_FEW = 4096  # parameters that a person may still want to read as JSON


def _check_mode(mode: str) -> None:
    if mode not in ("min", "max"):
        raise UsageError(f"a monitor's direction is 'min' or 'max', got {mode!r}.")


def value_of(run: Run, record: EpochRecord, metric: str) -> float | None:
    """The epoch's value; None in an epoch that a measured metric leaves out.

    Raises:
        UsageError: no epoch has it.
    """
    if metric in record.metrics:
        return float(record.metrics[metric])
    if metric in run.measures:
        return None
    known = {*record.metrics, *run.measures}
    if metric.startswith("val_") and not any(name.startswith("val_") for name in known):
        raise UsageError(f"there is no metric '{metric}' to watch, as nothing is validated: fit(..., validation=...).")
    raise UsageError(f"there is no metric '{metric}' to watch. {did_you_mean(metric, known)}")


def _better(value: float, best: float | None, mode: Mode) -> bool:
    if not math.isfinite(value):
        return False
    return best is None or (value < best if mode == "min" else value > best)


class EarlyStopping(Callback):
    """Stop when a metric has not improved for more than `patience` epochs in a row.

    Frozen epochs count. Improvement is strict. Of a metric that `Evaluate` measures only in some epochs, only those
    count.

    Args:
        metric: such as ``"val_loss"``.
        mode: ``"min"`` or ``"max"``.
        patience: how many epochs without improvement are borne, at least 0.

    Raises:
        UsageError: a wrong direction or a negative patience; at the first epoch, an unknown metric.
    """

    order: ClassVar[int] = 50

    def __init__(self, metric: str, mode: Mode, *, patience: int):
        _check_mode(mode)
        self.metric, self.mode, self.patience = metric, mode, whole_number("patience", patience, least=0)
        self.best: float | None = None
        self.bad = 0

    def on_run_begin(self, run: Run) -> None:
        """Begin anew."""
        self.best, self.bad = None, 0

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """Count, and stop the run if there were too many."""
        value = value_of(run, record, self.metric)
        if value is None:
            return
        if _better(value, self.best, self.mode):
            self.best, self.bad = value, 0
            return
        self.bad += 1
        if self.bad > self.patience:
            unit = "evaluations" if self.metric in run.measures else "epochs"
            run.stop(f"{self.metric} has not improved for {self.bad} {unit}")

    def state(self) -> Any:
        """Best value and count."""
        return {"best": self.best, "bad": self.bad}

    def restore(self, state: Any, run: Run) -> None:
        """Take them back."""
        self.best, self.bad = number(state["best"]), state["bad"]


class Best(Callback):
    """Keep the best parameters: in memory, and under ``best/`` where the run has a folder.

    They are written whenever a checkpoint is, and at the end; where there are at most 4096 of them
    they also stand in ``best/best_params.json``. An epoch that lacks the metric, as `Evaluate` may leave it, is not
    judged.

    Args:
        metric: such as ``"val_loss"``.
        mode: ``"min"`` or ``"max"``.
        describe: from the model to what the JSON file holds; None writes every parameter by name.

    Raises:
        UsageError: a wrong direction; at the first epoch, an unknown metric.
    """

    order: ClassVar[int] = 60

    def __init__(self, metric: str, mode: Mode, *, describe: Callable[[Any], dict[str, Any]] | None = None):
        _check_mode(mode)
        self.metric, self.mode, self.describe = metric, mode, describe
        self.value: float | None = None
        self.epoch: int | None = None
        self._kept: Flat | None = None
        self._written = True

    def on_run_begin(self, run: Run) -> None:
        """Begin anew."""
        self.value = self.epoch = self._kept = None
        self._written = True

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """Take a snapshot if this is the best so far."""
        value = value_of(run, record, self.metric)
        if value is not None and _better(value, self.value, self.mode):
            self.value, self.epoch, self._kept = value, record.epoch, run.snapshot()
            self._written = False

    def on_run_end(self, run: Run, result: FitResult) -> None:
        """Write what is not written yet."""
        self.write(run)

    def write(self, run: Run) -> None:
        """Bring the files up to date."""
        learned = self.learned
        if self._written or run.folder is None or learned is None:
            return
        texts = {}
        if count_parameters(learned) <= _FEW:
            shown = self.describe(run.model_with(learned)) if self.describe else named_leaves(learned)
            texts["best_params.json"] = dumps(shown, indent=2)
        meta = {"metric": self.metric, "value": self.value, "epoch": self.epoch}
        save_tree(run.folder.best_path, learned, meta, texts=texts)
        self._written = True

    @property
    def learned(self) -> PyTree | None:
        """The best parameters, with their running state, or None before the first epoch."""
        return None if self._kept is None else self._kept.tree().learned

    def summary(self) -> dict[str, Any] | None:
        """Epoch, metric and value of the best, or None."""
        if self.epoch is None:
            return None
        return {"epoch": self.epoch, "metric": self.metric, "value": self.value}

    def state(self) -> Any:
        """Epoch and value; the parameters stand under ``best/``."""
        return {"value": self.value, "epoch": self.epoch}

    def restore(self, state: Any, run: Run) -> None:
        """Take them back, and the parameters from disk."""
        self.value, self.epoch = number(state["value"]), state["epoch"]
        if self.epoch is not None and run.folder is not None:
            try:
                learned = load_tree(run.folder.best_path, run.state.learned)
            except CheckpointError as error:
                way_out = f"Delete it and {run.folder.checkpoints_path} to begin the run again from its first epoch."
                raise CheckpointError(f"{error} {way_out}") from error
            self._kept = Flat.of(run.state.with_learned(learned))
