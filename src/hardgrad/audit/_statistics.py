"""Ratios with intervals, from frames of directions and repeated estimates.

Every figure of an audit is a ratio of smooth functions of averages: over F independent frames of directions, and over
K independent estimates. Both are left out one at a time (Efron & Stein 1981, "The jackknife estimate of variance",
Annals of Statistics 9(3)); two independent samples add their variances (Arvesen 1969, "Jackknifing U-statistics",
Annals of Mathematical Statistics 40(6)). With numerator a and denominator b, the interval holds every q with

    (a - q b)² ≤ t² · var(a - q b)

(Fieller 1954, "Some problems in interval estimation", JRSS B 16(2)), t of Student's distribution with the degrees of
freedom of Satterthwaite (1946). Where b can't be told from 0 there is no bounded interval, and none is given.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.stats  # type: ignore[import-untyped]
from numpy.typing import NDArray

LEVEL = 0.95
"""How often an interval holds the truth."""

Floats = NDArray[Any]
"""An array of floats; sums are taken in float64."""


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval.

    Attributes:
        value: the estimate; NaN if there is none.
        low: lower end; NaN where the data do not bound it.
        high: upper end, likewise.

    Examples:
        >>> print(Interval(0.874, 0.81, 0.93))
        0.87 [0.81, 0.93]
    """

    value: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether the data bound it on both sides."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def map(self, function: Callable[[float], float]) -> Interval:
        """The interval of a rising function of the figure."""
        return Interval(*(function(x) if math.isfinite(x) else x for x in (self.value, self.low, self.high)))

    def clip(self, least: float, most: float) -> Interval:
        """The part of it that is possible."""
        return self.map(lambda x: min(max(x, least), most))

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return "-"
        if not self.known:
            return f"{short(self.value)} [?]"
        if short(self.low) == short(self.value) == short(self.high):
            return short(self.value)
        return f"{short(self.value)} [{short(self.low)}, {short(self.high)}]"


UNKNOWN = Interval(math.nan, math.nan, math.nan)


def short(value: float) -> str:
    """A figure in few letters: two decimals from 0.01 to 100, else two digits."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if value == 0 or 0.00995 <= abs(value) < 99.5:
        return f"{value:.2f}"
    return f"{value:.0f}" if 99.5 <= abs(value) < 9999.5 else f"{value:.1e}"


@dataclasses.dataclass(frozen=True)
class Jackknife:
    """A vector of statistics, and what becomes of it when one unit of a sample is left out.

    Attributes:
        whole: of all, ``[statistics]``.
        samples: one array ``[units, statistics]`` for each independent sample.
    """

    whole: Floats
    samples: tuple[Floats, ...]

    def map(self, function: Callable[[Floats], Sequence[Any]]) -> Jackknife:
        """Of functions of the statistics, which stand on the last axis."""

        def apply(x: Floats) -> Floats:
            return np.stack([np.asarray(y, np.float64) for y in function(np.moveaxis(x, -1, 0))], axis=-1)

        with np.errstate(all="ignore"):
            return Jackknife(apply(self.whole), tuple(apply(sample) for sample in self.samples))

    def variance(self, weights: Floats) -> tuple[float, float]:
        """Variance of a weighted sum of the statistics, and its degrees of freedom."""
        total, square = 0.0, 0.0
        for sample in self.samples:
            values = sample @ weights
            units = len(values)
            own = (units - 1) / units * float(np.sum((values - values.mean()) ** 2))
            total += own
            square += own**2 / (units - 1)
        return total, (total**2 / square if square > 0 else math.inf)


def ratio(both: Jackknife) -> Interval:
    """The first of two statistics over the second, by Fieller's theorem."""
    a, b = (float(x) for x in both.whole)
    if not (math.isfinite(a) and math.isfinite(b)) or b == 0:
        return UNKNOWN
    if not all(np.isfinite(sample).all() for sample in both.samples):
        return Interval(a / b, math.nan, math.nan)
    scale = np.array([1.0, -a / b])
    _, freedom = both.variance(scale)
    t2 = float(scipy.stats.t.ppf(0.5 + LEVEL / 2, freedom)) ** 2 if math.isfinite(freedom) else _normal_square()
    of_a, of_b = both.variance(np.array([1.0, 0.0]))[0], both.variance(np.array([0.0, 1.0]))[0]
    joint = (both.variance(np.array([1.0, 1.0]))[0] - of_a - of_b) / 2
    square, cross = b * b - t2 * of_b, a * b - t2 * joint
    if square <= 0:
        return Interval(a / b, math.nan, math.nan)
    # The discriminant (a b - t² Vab)² - (b² - t² Vbb)(a² - t² Vaa), without its large equal terms.
    inside = t2 * (b * b * both.variance(scale)[0] - t2 * max(of_a * of_b - joint * joint, 0.0))
    root = math.sqrt(max(inside, 0.0))
    return Interval(a / b, (cross - root) / square, (cross + root) / square)


def mean(values: Floats) -> Interval:
    """The mean of independent values, with Student's interval."""
    values = np.asarray(values, np.float64)
    if values.size < 2 or not np.isfinite(values).all():
        return Interval(float(values.mean()) if values.size else math.nan, math.nan, math.nan)
    half = float(scipy.stats.t.ppf(0.5 + LEVEL / 2, values.size - 1)) * float(values.std(ddof=1)) / values.size**0.5
    middle = float(values.mean())
    return Interval(middle, middle - half, middle + half)


def _normal_square() -> float:
    return float(scipy.stats.norm.ppf(0.5 + LEVEL / 2)) ** 2


def cross_mean(gram: Floats) -> float:
    """Mean of the entries off the diagonal: an unbiased estimate of ``|E x|²`` from inner products of draws of x."""
    many = len(gram)
    return float((gram.sum() - np.trace(gram)) / (many * (many - 1)))


def without_one(gram: Floats) -> Floats:
    """|E x|² and E|x - E x|² from inner products of draws of x, with each draw left out in turn, ``[draws, 2]``."""
    left, diagonal = len(gram) - 1, np.diag(gram)
    pairs = gram.sum() - np.trace(gram) - 2 * (gram.sum(axis=1) - diagonal)
    signal = pairs / (left * (left - 1))
    return np.stack([signal, (np.trace(gram) - diagonal) / left - signal], axis=-1)
