"""Scoring a finished run once more, from the parameters it kept: the same figure, or something is wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from typing import Any

from ..core import UsageError
from ..training import RunFolder, trained_model
from ..training._data import as_feed
from ..training._trainer import validation_batch
from ..training.callbacks import Evaluate
from ._launch import float64, recipe_of
from ._recipe import Experiment
from ._registry import find

_ROUNDING = {True: 1e-9, False: 1e-4}  # relative, in float64 and else: another program adds up in another order


@dataclasses.dataclass(frozen=True)
class Rescored:
    """A score, and what the reloaded parameters score.

    Attributes:
        metric: which.
        recorded: the score that the run kept.
        again: that of the parameters under ``best/``; None if nothing outside of training gives it.
        reason: why there is none.
        tolerance: the relative difference that rounding explains.
    """

    metric: str
    recorded: float
    again: float | None
    reason: str = ""
    tolerance: float = 0.0

    @property
    def difference(self) -> float:
        """Relative to the recorded one; NaN where there is nothing to compare."""
        if self.again is None:
            return math.nan
        if self.again == self.recorded:
            return 0.0
        return abs(self.again - self.recorded) / max(abs(self.recorded), 1e-300)

    @property
    def same(self) -> bool:
        """Whether the two agree to rounding."""
        return self.difference <= self.tolerance

    def as_json(self) -> dict[str, Any]:
        """For a manifest."""
        return {"value": self.again, "same": self.same if self.again is not None else None, "reason": self.reason}

    def sentence(self) -> str:
        """For a person."""
        if self.again is None:
            return f"not scored again: {self.reason}"
        found = f"scored again from its best parameters: {self.again!r}"
        if self.difference == 0.0:
            return f"{found}, the same to the bit"
        words = "the same to rounding" if self.same else "NOT THE SAME"
        return f"{found}, {words} ({self.difference:.0e} relative)"


def rescore(run: RunFolder) -> Rescored:
    """Reload a run's best parameters and compute their score anew, as its recipe does while training.

    Raises:
        UsageError: the run kept no best, or is no recipe's.
    """
    name, config = recipe_of(run)
    recipe = find(name).load()
    wide = bool(recipe.float64(config))
    with float64() if wide else contextlib.nullcontext():
        experiment: Experiment = recipe.experiment(config)
        model, about = trained_model(run, experiment.model, which="best")
        metric, recorded = str(about["metric"]), float(about["value"])
        for callback in experiment.trainer.callbacks:
            if isinstance(callback, Evaluate) and metric in callback.measures:
                return Rescored(metric, recorded, callback.scores(model)[metric], tolerance=_ROUNDING[wide])
        if experiment.validation is None or not metric.startswith("val_"):
            return Rescored(metric, recorded, None, f"'{metric}' is a figure of training, found nowhere else.")
        record = next((one for one in run.records() if one.epoch == about["epoch"]), None)
        if record is None:
            raise UsageError(f"{run.telemetry_path} lacks epoch {about['epoch']}, whose parameters were the best.")
        found = experiment.trainer.validate(
            model,
            experiment.objective,
            experiment.validation,
            controls=record.controls,
            batch_size=validation_batch(
                experiment.validation, as_feed(experiment.data, batch_size=experiment.batch_size)
            ),
            seed=experiment.seed,
        )
        return Rescored(metric, recorded, found[metric], tolerance=_ROUNDING[wide])
