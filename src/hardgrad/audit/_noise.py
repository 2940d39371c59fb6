"""How much a gradient estimate scatters, and what it would cost to see through the scatter.

Two kinds of repetition are told apart: other random numbers of the estimator on the same batch, and other batches (with
other random numbers of both objective and estimator). With g the estimates,

    signal-to-noise = √(|E g|² / E|g - E g|²),

both freed of the other's share by U-statistics. The mean of k independent estimates has √k times as much; groups are
averaged to see whether it does. McCandlish et al. 2018 (arXiv:1812.06162, eq. 2.9) call the inverse square of it, over
batches, the simple noise scale in batches.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ._statistics import UNKNOWN, Floats, Interval, Jackknife, cross_mean, ratio, without_one

_DUST = 1e-10  # of the mean square: scatter that is rounding alone


@dataclasses.dataclass(frozen=True)
class Averaged:
    """The mean of several estimates.

    Attributes:
        estimates: how many are averaged.
        evaluations: of the objective, a backward pass counted as two.
        signal_to_noise: of the mean; infinite without scatter.
    """

    estimates: int
    evaluations: int
    signal_to_noise: float


@dataclasses.dataclass(frozen=True)
class Scatter:
    """Repeated estimates at one point.

    Attributes:
        estimates: how many.
        norm: \\|E g\\|, freed of the scatter.
        signal_to_noise: of one estimate; infinite without scatter, 0 where the mean can't be told from 0.
        evaluations_for_one: evaluations at which the mean of estimates has signal-to-noise 1; infinite where the mean
            can't be told from 0.
        averaged: signal-to-noise measured on means of groups.
    """

    estimates: int
    norm: Interval
    signal_to_noise: Interval
    evaluations_for_one: float
    averaged: tuple[Averaged, ...]

    @property
    def quiet(self) -> bool:
        """Whether there is no scatter at all."""
        return math.isinf(self.signal_to_noise.value)


def scatter(gram: Floats, *, cost: int) -> Scatter | None:
    """From inner products ``[estimates, estimates]``; None for fewer than two, or any that is not finite.

    Args:
        gram: the inner products.
        cost: evaluations of an estimate.
    """
    many = len(gram)
    if many < 2 or not np.isfinite(gram).all():
        return None
    whole = _moments(gram)
    if whole[1] <= _DUST * float(np.mean(np.diag(gram))):
        norm = math.sqrt(max(whole[0], 0.0))
        endless = Interval(math.inf, math.inf, math.inf)
        return Scatter(many, Interval(norm, norm, norm), endless, float(cost), ())
    both = Jackknife(np.array(whole), (without_one(gram),)) if many > 2 else None
    root = lambda x: math.sqrt(max(x, 0.0))
    quotient = UNKNOWN if both is None else ratio(both)
    square = UNKNOWN if both is None else ratio(both.map(lambda v: [v[0], np.ones_like(v[0])]))
    value = whole[0] / whole[1]
    return Scatter(
        many,
        Interval(whole[0], square.low, square.high).clip(0.0, math.inf).map(root),
        Interval(value, quotient.low, quotient.high).clip(0.0, math.inf).map(root),
        math.inf if value <= 0 else cost * max(1.0, 1.0 / value),
        tuple(_group(gram, size, whole[0], cost) for size in _sizes(many)),
    )


def _moments(gram: Floats) -> tuple[float, float]:
    """|E g|² and E|g - E g|²."""
    signal = cross_mean(gram)
    return signal, float(np.mean(np.diag(gram))) - signal


def _sizes(many: int) -> list[int]:
    """Powers of two that leave at least four groups."""
    return [2**k for k in range(many.bit_length()) if many // 2**k >= 4] or [1]


def _group(gram: Floats, size: int, signal: float, cost: int) -> Averaged:
    groups = len(gram) // size
    used = gram[: groups * size, : groups * size].reshape(groups, size, groups, size).mean(axis=(1, 3))
    noise = float(np.mean(np.diag(used))) - cross_mean(used)
    found = math.inf if noise <= 0 else math.sqrt(max(signal, 0.0) / noise)
    return Averaged(size, size * cost, found)
