"""What a recipe is: a named, runnable pairing of application, method and architecture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core import Objective
from ..export import Exportable
from ..training import FitResult, RunFolder, Trainer
from ..training.callbacks import Callback, Mode

SMOKE_NOTE = "This is a smoke run: nothing can be read from its figures."


@dataclasses.dataclass(frozen=True)
class Conclusion:
    """What a recipe makes of a finished run.

    Attributes:
        result: merged into the run's result.json.
        lines: printed at the end.
        headline: the figure that matters most, beside what it is to be compared with; one line, kept as
            ``"headline"`` and shown by reports and the gallery.
        notes: sentences without which the figures are misread; printed, kept and shown by reports.
    """

    result: Mapping[str, Any]
    lines: tuple[str, ...]
    headline: str
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A recipe made concrete by a config: the arguments of `Trainer.fit`, and what follows it.

    Attributes:
        trainer: the trainer.
        model: the model.
        objective: the objective.
        data: the training data.
        epochs: how many.
        conclude: from the result to what is kept and printed.
        validation: validation data, or None.
        batch_size: rows a step, or None.
        seed: the run's seed.
        ties: metrics with their better direction that decide in a search between equal scores. The score is what the
            trainer's `Best` watches.
    """

    trainer: Trainer
    model: Any
    objective: Objective
    data: Any
    epochs: int
    conclude: Callable[[FitResult], Conclusion]
    validation: Any = None
    batch_size: int | None = None
    seed: int = 0
    ties: tuple[tuple[str, Mode], ...] = ()

    def fit(self, callbacks: Sequence[Callback], *, validate: bool = True, **given: Any) -> FitResult:
        """Train.

        Args:
            callbacks: in the place of the trainer's own.
            validate: whether the validation data are looked at.
            given: what else `Trainer.fit` is to be told: ``run``, ``resume``, ...
        """
        return dataclasses.replace(self.trainer, callbacks=callbacks).fit(
            self.model,
            self.objective,
            self.data,
            epochs=self.epochs,
            validation=self.validation if validate else None,
            batch_size=self.batch_size,
            seed=self.seed,
            **given,
        )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a recipe's module offers under the name ``RECIPE``.

    Attributes:
        config: a frozen dataclass; its fields are the command line's options.
        build: from a config to the model.
        data: from a config to the data.
        experiment: from a config to everything.
        smoke: config fields for the smallest budget that still exercises everything.
        figures: from a run's folder to the application's own pictures, by title.
        float64: whether a config asks for arithmetic in float64.
        export: from a run, its config and its trained model to what ``hardgrad export`` ships; None if there is
            nothing to ship.
    """

    config: type[Any]
    build: Callable[[Any], Any]
    data: Callable[[Any], Any]
    experiment: Callable[[Any], Experiment]
    smoke: Mapping[str, Any]
    figures: Callable[[RunFolder], Mapping[str, Any]]
    float64: Callable[[Any], bool] = lambda config: False
    export: Callable[[RunFolder, Any, Any], Exportable] | None = None
