"""Curves of one value over epochs or steps: ramp, warm-up, cosine, and any schedule of Optax."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ..core import Progress, UsageError, finite_number, whole_number
from ._plan import Number

Unit = Literal["epoch", "step"]
"""What a curve counts."""


def count_of(progress: Progress, unit: Unit) -> int:
    return progress.epoch if unit == "epoch" else progress.step


def check_curve(unit: Any, *, over: Any = 0, **values: Any) -> None:
    whole_number("over", over, least=0)
    for name, value in values.items():
        finite_number(name, value)
    if unit not in ("epoch", "step"):
        raise UsageError(f"a schedule counts by 'epoch' or 'step', got {unit!r}.")


@dataclasses.dataclass(frozen=True)
class LinearRamp:
    """`start` until `after`, then a straight line to `end` over `over` epochs or steps, then `end`.

    Attributes:
        start: the first value.
        end: the last value.
        over: length of the line.
        after: where it begins.
        unit: ``"epoch"`` or ``"step"``.

    Raises:
        UsageError: a number that is not finite, a length or beginning that is no whole number, or another unit.
    """

    start: Number
    end: Number
    over: int
    after: int = 0
    unit: Unit = "epoch"

    def __post_init__(self) -> None:
        check_curve(self.unit, over=self.over, start=self.start, end=self.end)
        whole_number("after", self.after, least=0)

    @property
    def per_epoch(self) -> bool:
        """Whether it counts epochs."""
        return self.unit == "epoch"

    def __call__(self, progress: Progress) -> float:
        """The value now: a float at its whole ends too, since an int would be another compiled program."""
        done = count_of(progress, self.unit) - self.after
        if done < 0:
            return float(self.start)
        if done >= self.over:
            return float(self.end)
        low, high = sorted((self.start, self.end))  # rounding must not carry the line past its end
        return float(min(max(self.start + (self.end - self.start) * done / self.over, low), high))


@dataclasses.dataclass(frozen=True)
class Warmup:
    """From ``value / over`` in straight steps to `value`, reached at the `over`-th epoch or step.

    Attributes:
        value: what is reached.
        over: after how many.
        unit: ``"epoch"`` or ``"step"``.

    Raises:
        UsageError: a value that is not finite, a length that is no whole number, or another unit.
    """

    value: Number
    over: int
    unit: Unit = "step"

    def __post_init__(self) -> None:
        check_curve(self.unit, over=self.over, value=self.value)

    @property
    def per_epoch(self) -> bool:
        """Whether it counts epochs."""
        return self.unit == "epoch"

    def __call__(self, progress: Progress) -> float:
        """The value now."""
        return self.value * min(1.0, (count_of(progress, self.unit) + 1) / max(1, self.over))


@dataclasses.dataclass(frozen=True)
class Cosine:
    """Half a cosine from `start` to `end` over `over` epochs or steps, then `end`.

    ``end + (start - end) · (1 + cos(π min(1, n / over))) / 2`` (Loshchilov and Hutter 2017,
    arXiv:1608.03983, eq. 5, one cycle).

    Attributes:
        start: the first value.
        end: the last value.
        over: length of the half wave.
        unit: ``"epoch"`` or ``"step"``.

    Raises:
        UsageError: a number that is not finite, a length that is no whole number, or another unit.
    """

    start: Number
    end: Number
    over: int
    unit: Unit = "epoch"

    def __post_init__(self) -> None:
        check_curve(self.unit, over=self.over, start=self.start, end=self.end)

    @property
    def per_epoch(self) -> bool:
        """Whether it counts epochs."""
        return self.unit == "epoch"

    def __call__(self, progress: Progress) -> float:
        """The value now."""
        ratio = min(1.0, count_of(progress, self.unit) / max(1, self.over))
        return self.end + (self.start - self.end) * (1.0 + math.cos(math.pi * ratio)) / 2.0


class FromOptax:
    """A schedule of Optax: a function of the count to a value.

    Where the run's length is known, all values are computed at once, at the first call.

    Args:
        schedule: such as ``optax.warmup_cosine_decay_schedule(...)``.
        unit: ``"epoch"`` or ``"step"``.

    Raises:
        UsageError: another unit.
    """

    def __init__(self, schedule: Any, *, unit: Unit = "step"):
        check_curve(unit)
        self.schedule, self.unit = schedule, unit
        self.per_epoch = unit == "epoch"
        self._table: NDArray[Any] | None = None

    def __repr__(self) -> str:
        name = getattr(self.schedule, "__qualname__", None) or repr(self.schedule)
        return f"FromOptax({name}, unit={self.unit!r})"

    def __call__(self, progress: Progress) -> float:
        """The value now."""
        count = count_of(progress, self.unit)
        total = progress.epochs if self.unit == "epoch" else progress.total_steps
        if total is None or count >= total:
            return float(self._evaluate(count))
        if self._table is None or len(self._table) < total:
            self._table = self._evaluate(np.arange(total))
        return float(self._table[count])

    def _evaluate(self, counts: Any) -> NDArray[Any]:
        each: Any = self.schedule if np.ndim(counts) == 0 else jax.vmap(lambda n: jnp.asarray(self.schedule(n)))
        with jax.numpy_dtype_promotion("standard"):  # Optax multiplies integer counts by floats
            return np.asarray(each(jnp.asarray(counts)))
