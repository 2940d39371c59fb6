"""A value drawn anew at every step or epoch."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np

from ..core import Progress, UsageError, whole_number
from ._curves import Unit, check_curve, count_of
from ._plan import Number

_BLOCK = 1024  # draws made at once


@dataclasses.dataclass(frozen=True)
class UniformDraw:
    """An independent uniform draw from [`low`, `high`) for each step or epoch; `low` throughout if both are equal.

    The draw is a function of `seed` and of the step's number alone, so that a resumed run sees the same ones.
    Numbers come from Philox, a generator that can be asked for its n-th block at once
    (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    Attributes:
        low: the least value.
        high: above all values.
        seed: a whole number from 0; other seeds give other draws.
        unit: ``"step"`` or ``"epoch"``.

    Raises:
        UsageError: a bound that is not finite, `low` above `high`, or a wrong seed or unit.

    Examples:
        >>> draw = UniformDraw(5e-5, 2e-4)
        >>> 5e-5 <= draw(Progress(epoch=0, step=7, epochs=1)) < 2e-4
        True
    """

    low: Number
    high: Number
    seed: int = 0
    unit: Unit = "step"

    def __post_init__(self) -> None:
        check_curve(self.unit, low=self.low, high=self.high)
        whole_number("seed", self.seed, least=0, most=2**128 - 1)
        if self.low > self.high:
            raise UsageError(f"low must be at most high, got low={self.low!r} and high={self.high!r}.")

    @property
    def per_epoch(self) -> bool:
        """Whether all steps of an epoch share a value."""
        return self.unit == "epoch" or self.low == self.high

    def __call__(self, progress: Progress) -> float:
        """The value now."""
        return self.at(count_of(progress, self.unit))

    def at(self, count: int) -> float:
        """The value of one step or epoch, counted from 0."""
        if self.low == self.high:
            return float(self.low)
        block, place = divmod(count, _BLOCK)
        return _draws(float(self.low), float(self.high), int(self.seed), block)[place]


@functools.lru_cache(maxsize=16)
def _draws(low: float, high: float, seed: int, block: int) -> tuple[float, ...]:
    # The block stands in a high word of the counter: blocks never overlap.
    random = np.random.Generator(np.random.Philox(key=seed, counter=[0, block, 0, 0]))
    unit = random.random(_BLOCK)
    values = low * (1.0 - unit) + high * unit  # high - low could overflow
    return tuple(np.clip(values, low, math.nextafter(high, low)).tolist())
