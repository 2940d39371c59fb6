"""What one epoch leaves behind, and how the numbers of its steps become one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core import UsageError, did_you_mean, number

Reducer = str | Callable[[NDArray[Any]], float]
"""``"mean"``, ``"sum"``, ``"min"``, ``"max"``, ``"first"``, ``"last"``, or a function of the steps' values."""

_REDUCERS: dict[str, Callable[[NDArray[Any]], float]] = {
    "mean": lambda x: float(np.mean(x)),
    "sum": lambda x: float(np.sum(x)),
    "min": lambda x: float(np.min(x)),
    "max": lambda x: float(np.max(x)),
    "first": lambda x: float(x[0]),
    "last": lambda x: float(x[-1]),
}


def check_reducers(reducers: Mapping[str, Reducer]) -> None:
    """Raise `UsageError` for a reducer that is neither a known name nor a function."""
    for name, reducer in reducers.items():
        if not callable(reducer) and reducer not in _REDUCERS:
            raise UsageError(f"the reducer of '{name}' is {reducer!r}. {did_you_mean(str(reducer), _REDUCERS)}")


def reduce_steps(values: NDArray[Any], reducer: Reducer, rows: NDArray[Any] | None = None) -> float:
    """One number for an epoch. The mean of one step is that step's value, to the bit.

    Args:
        values: of each step.
        reducer: how.
        rows: of each step's batch, where they differ: a mean counts each step by them. None counts all alike.
    """
    if len(values) == 1 and not callable(reducer):
        return float(values[0])
    if reducer == "mean" and rows is not None:
        return float(np.sum(values * (rows / rows.sum()), dtype=np.float64))
    function = _REDUCERS[reducer] if isinstance(reducer, str) else reducer
    return float(function(values))


def rows_that_differ(rows: Sequence[int | None]) -> NDArray[Any] | None:
    """Rows of each step's batch; None where all have as many, or one has no common leading axis."""
    counts = [count for count in rows if count is not None]
    return np.array(counts) if len(counts) == len(rows) and len(set(counts)) > 1 else None


@dataclasses.dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: which, from 0.
        steps: optimiser steps done since the run began, this epoch's included.
        controls: the controls of its last step.
        metrics: ``loss``, the objective's metrics and the method's diagnostics, reduced over its finite
            steps (over all in an epoch that diverged), see `Trainer`; ``skipped``, the number of steps left out because
            something was not finite; and ``val_`` followed by each of loss and metrics on the validation data.
            Diagnostics are absent where every step was frozen.
        frozen: whether every step was frozen.
        arrays: what the trainer's recorder kept, a leading axis of steps each.
    """

    epoch: int
    steps: int
    controls: Mapping[str, Any]
    metrics: Mapping[str, float]
    frozen: bool = False
    arrays: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The fields as they stand in telemetry."""
        out: dict[str, Any] = {
            "epoch": self.epoch,
            "step": self.steps,
            "frozen": self.frozen,
            "controls": dict(self.controls),
            "metrics": dict(self.metrics),
        }
        if self.arrays:
            out["arrays"] = {name: np.asarray(value).tolist() for name, value in self.arrays.items()}
        return out

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> EpochRecord:
        """The record that `as_json` wrote, to the bit.

        Raises:
            UsageError: the fields are not those of a record.
        """
        try:
            record = cls._from_json(fields)
            numbers = record.metrics.values()
            fits = type(record.epoch) is int and type(record.steps) is int
            if not fits or not all(isinstance(n, int | float) for n in numbers):
                raise TypeError("a number is none")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"an epoch's record does not fit ({type(error).__name__}: {error})") from error
        return record

    @classmethod
    def _from_json(cls, fields: Mapping[str, Any]) -> EpochRecord:
        return cls(
            epoch=fields["epoch"],
            steps=fields["step"],
            controls={k: number(v) for k, v in fields["controls"].items()},
            metrics={k: number(v) for k, v in fields["metrics"].items()},
            frozen=fields["frozen"],
            arrays={k: np.asarray(number(v)) for k, v in fields.get("arrays", {}).items()},
        )
