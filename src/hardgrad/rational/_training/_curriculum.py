"""Loss weights that follow schedules."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from ...core import Progress, UsageError, did_you_mean
from ...schedules import Schedule
from .._losses._training_loss import LAMBDAS

_TERMS = [name.removeprefix("lambda_") for name in LAMBDAS]


@dataclasses.dataclass(frozen=True)
class LossWeightsCurriculum:
    """Loss weights by name, each following a schedule; weights without one keep their base value.

    The combined loss has the terms ``fit``, ``margin``, ``sign`` and ``rej``; a loss of one's own is given the
    weights as ``loss_weights``. A published ramp from epoch s to a later epoch e is
    ``LinearRamp(start, end, over=e - s, after=s)``; one with e = s is ``LinearRamp(start, end, over=0, after=s + 1)``.

    Attributes:
        ramps: schedules by the term's name.

    Raises:
        UsageError: a ramp is no schedule.

    Examples:
        >>> from hardgrad.schedules import LinearRamp
        >>> curriculum = LossWeightsCurriculum({"sign": LinearRamp(0.0, 1.0, over=4)})
        >>> curriculum.weights(1, {"sign": 9.0, "margin": 0.5})
        {'sign': 0.25, 'margin': 0.5}
    """

    ramps: Mapping[str, Schedule]

    def __post_init__(self) -> None:
        for name, ramp in self.ramps.items():
            if not callable(ramp):
                raise UsageError(
                    f"the weight of '{name}' must follow a schedule, such as LinearRamp(...); got {ramp!r}."
                )

    def weights(self, epoch: int, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The weights of an epoch: `base`, and over it what the ramps say.

        Raises:
            UsageError: a ramp counts steps, so that an epoch has no one value.
        """
        for name, ramp in self.ramps.items():
            if not getattr(ramp, "per_epoch", False):
                raise UsageError(f"the curriculum of '{name}' changes within an epoch: read it from the plan, by step.")
        now = Progress(epoch=epoch, step=epoch, epochs=epoch + 1)
        return {**(base or {}), **{name: ramp(now) for name, ramp in self.ramps.items()}}


def check_weights(weights: Mapping[str, Any]) -> None:
    """Raise `UsageError` unless all are finite numbers from 0."""
    for name, weight in weights.items():
        number = isinstance(weight, int | float) and not isinstance(weight, bool)
        if not number or not math.isfinite(weight) or weight < 0:
            raise UsageError(f"the weight of '{name}' must be a finite number, at least 0; got {weight!r}.")


def check_terms(names: Any) -> None:
    """Raise `UsageError` for a name that is no term of the combined loss."""
    for name in names:
        if name not in _TERMS:
            raise UsageError(f"the combined loss has no term '{name}'. {did_you_mean(name, _TERMS)}")
