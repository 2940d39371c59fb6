"""Schedules of recursion depth, and those that follow it.

Formulas: the published hypercausal system (its advanced training example), with d the depth, e the
epoch from 0:

    depth      round_half_to_even(start + (end - start) · clamp(e / max(1, n), 0, 1))
    decay      (base / (1 + a (d - 1))) · (1 / (1 + b e))
    freeze     true for the one epoch after a watched control changed
"""

from __future__ import annotations

import dataclasses
import math

from ..core import Progress, UsageError, finite_number, whole_number
from ._plan import Number


@dataclasses.dataclass(frozen=True)
class LinearDepth:
    """Depth from `start` to `end`, either direction, rounded half to even.

    Attributes:
        start: depth in epoch 0, at least 1.
        end: depth from epoch `over` on, at least 1.
        over: over how many epochs, at least 0.

    Raises:
        UsageError: a number that is not whole, or out of range.
    """

    start: int
    end: int
    over: int
    per_epoch = True

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            if whole_number(name, getattr(self, name), least=0) < 1:
                raise UsageError(f"a depth is at least 1, got {name}=0.")
        whole_number("over", self.over, least=0)

    def __call__(self, progress: Progress) -> int:
        """The depth in this epoch."""
        ratio = min(max(progress.epoch / max(1, self.over), 0.0), 1.0)
        return round(self.start + (self.end - self.start) * ratio)


@dataclasses.dataclass(frozen=True)
class DecayByDepthAndEpoch:
    """A base value divided as depth and epochs grow.

    Attributes:
        base: the value at depth 1 in epoch 0.
        depth_coefficient: a in the formula above.
        epoch_coefficient: b in the formula above.
        depth: the control that holds the depth.

    Raises:
        UsageError: a number that is not finite.
    """

    base: Number
    depth_coefficient: Number
    epoch_coefficient: Number
    depth: str = "depth"
    per_epoch = True

    def __post_init__(self) -> None:
        for name in ("base", "depth_coefficient", "epoch_coefficient"):
            finite_number(name, getattr(self, name))

    def __call__(self, progress: Progress) -> float:
        """The value in this epoch. The reciprocal is multiplied, not divided by: it fixes the last bit."""
        depth = float(progress.controls[self.depth])
        by_depth = self.base / (1.0 + self.depth_coefficient * (depth - 1.0))
        return by_depth * (1.0 / (1.0 + self.epoch_coefficient * progress.epoch))


@dataclasses.dataclass(frozen=True)
class ThresholdByDepth:
    """A value for each range of depth, such as the norm to clip at.

    Attributes:
        below: pairs ``(bound, value)`` in rising order of bound: `value` holds while depth < bound.
        otherwise: the value from the last bound on. Values may be ``math.inf``: no limit.
        depth: the control that holds the depth.

    Raises:
        UsageError: bounds that do not rise or are not finite, or a value that is no number.
    """

    below: tuple[tuple[Number, Number], ...]
    otherwise: Number
    depth: str = "depth"
    per_epoch = True

    def __post_init__(self) -> None:
        bounds = [finite_number("a bound", bound) for bound, _ in self.below]
        for name, value in [*(("a value", value) for _, value in self.below), ("otherwise", self.otherwise)]:
            if value != math.inf:
                finite_number(name, value)
        if bounds != sorted(set(bounds)):
            raise UsageError(f"the bounds of a threshold must rise, got {bounds}.")

    def __call__(self, progress: Progress) -> float:
        """The value of the first range that holds the depth."""
        depth = progress.controls[self.depth]
        return float(next((value for bound, value in self.below if depth < bound), self.otherwise))


@dataclasses.dataclass(frozen=True)
class FreezeAfterChange:
    """True in the epoch in which a watched control differs from the epoch before; never in epoch 0.

    Under the name ``freeze`` the trainer then evaluates the loss and leaves the parameters alone.

    Attributes:
        watched: names of controls set earlier in the plan.
    """

    watched: tuple[str, ...] = ("depth",)
    per_epoch = True

    def __post_init__(self) -> None:
        if isinstance(self.watched, str):
            raise UsageError(f"watched must be a tuple of names, got {self.watched!r}. Say ('{self.watched}',).")

    def __call__(self, progress: Progress) -> bool:
        """Whether this epoch is frozen."""
        now = [progress.controls[name] for name in self.watched]  # in epoch 0 too: a wrong name fails at once
        previous = progress.previous
        if previous is None:
            return False
        return any(value != previous[name] for name, value in zip(self.watched, now, strict=True))
