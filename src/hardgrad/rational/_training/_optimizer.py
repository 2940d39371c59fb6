"""The optimiser of `SCMTrainer`: its learning rate as a control, its updates from groups of batches."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import optax

from ...core import UsageError, control
from ...estimators import Autodiff
from ...schedules import Constant, FromOptax, Schedule
from ...training import AbstractMethod, GradientMethod, controlled
from ._accumulation import GroupEnds, in_groups
from ._config import Cadence, TrainingConfig


def method_of(optimizer: Any, scheduler: Any, config: TrainingConfig) -> tuple[AbstractMethod, Schedule | None]:
    """The method, and the schedule of its learning rate if that is a control.

    Args:
        optimizer: a function from a learning rate to an Optax transformation, such a transformation, or a method.
        scheduler: a schedule of Optax or of the library, or None.
        config: rate, cadence and size of the groups.

    Raises:
        UsageError: none of these, or a scheduler for an optimiser whose rate is fixed.
    """
    size = config.gradient_accumulation_steps
    if isinstance(optimizer, AbstractMethod | optax.GradientTransformation):
        if scheduler is not None:
            raise UsageError(
                "a scheduler needs the optimiser as a function of the learning rate: optax.adam, not optax.adam(1e-3)."
            )
        if config.learning_rate != TrainingConfig.learning_rate:
            warnings.warn(
                f"learning_rate={config.learning_rate!r} has no effect on an optimiser that is built already; "
                "give it as a function of the rate, such as optax.adam.",
                stacklevel=3,
            )
        return _grouped(optimizer, size), None
    if not callable(optimizer):
        raise UsageError(
            "optimizer must be a function of the learning rate (optax.adam), an Optax transformation "
            f"(optax.adam(1e-3)) or a method; got {optimizer!r}."
        )
    rate = Constant(config.learning_rate) if scheduler is None else _rate(scheduler, config.scheduler_cadence, size)
    return _grouped(_scheduled(optimizer), size), rate


@functools.lru_cache(maxsize=64)  # an optimiser is told by identity: another would compile another program
def _scheduled(factory: Callable[[Any], Any]) -> optax.GradientTransformation:
    return controlled(factory, control("learning_rate"))


@functools.lru_cache(maxsize=64)
def _in_groups(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    return in_groups(optimizer)


def _grouped(optimizer: Any, size: int) -> AbstractMethod:
    method = optimizer if isinstance(optimizer, AbstractMethod) else GradientMethod(Autodiff(), optimizer)
    if size == 1:
        return method
    if not isinstance(method, GradientMethod):
        raise UsageError(f"only a GradientMethod accumulates gradients, not {type(method).__name__}.")
    return GradientMethod(method.estimator, _in_groups(method.optimizer))


def _rate(scheduler: Any, cadence: Cadence, size: int) -> Schedule:
    if cadence == "per_validation_metric":
        raise UsageError(
            "scheduler_cadence='per_validation_metric' is not for schedules here, which are functions of progress "
            "alone. Chain optax.contrib.reduce_on_plateau(...) into the optimiser: it watches the training loss."
        )
    if not callable(scheduler):
        raise UsageError(f"scheduler must be a schedule of Optax or of hardgrad.schedules, got {scheduler!r}.")
    if hasattr(scheduler, "per_epoch"):
        return scheduler  # type: ignore[no-any-return]  # one of the library's
    if cadence == "per_epoch":
        return FromOptax(scheduler, unit="epoch")
    counted = FromOptax(scheduler)
    if cadence == "per_batch" or size == 1:
        return counted
    return lambda progress: counted(GroupEnds(size).by_group(progress))
