"""How the gradient grows with a horizon or a depth.

Two laws are fitted to the median norm by least squares on its logarithm: a power of the control, |g| ∝ h^a, and an
exponential, |g| ∝ exp(c h). Backpropagation through a recursion gives the second wherever its Jacobian expands (Bengio,
Simard & Frasconi 1994, "Learning long-term dependencies with gradient descent is difficult", IEEE TNN 5(2)).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from ._statistics import Floats

_CLEARLY = 4.0  # times smaller must be the squares of the better law
_STEEP = 4.0  # growth over the whole range below which no law is named


@dataclasses.dataclass(frozen=True)
class Growth:
    """Gradient norms against a control.

    Attributes:
        control: its name.
        values: rising.
        median: of the norms over batches, at each value.
        largest: likewise.
        non_finite: share of the batches whose norm is not finite, at each value.
        power: a of \\|g\\| ∝ h^a; NaN with fewer than two finite medians above 0.
        per_doubling: factor by which the norm grows when the control doubles, 2^a.
        per_step: factor by which it grows a step of the control, e^c.
        law: ``"exponential"``, ``"polynomial"``, ``"linear"``, ``"flat"``, ``"falling"``, ``"overflow"`` (not finite at
            the largest values) or ``"unclear"``.
    """

    control: str
    values: tuple[int, ...]
    median: tuple[float, ...]
    largest: tuple[float, ...]
    non_finite: tuple[float, ...]
    power: float
    per_doubling: float
    per_step: float
    law: str


def growth(control: str, values: Sequence[int], norms: Sequence[Floats]) -> Growth:
    """From the norms at each value, one a batch."""
    finite = [np.isfinite(row) for row in norms]
    median, largest = [], []
    for row, good in zip(norms, finite, strict=True):
        median.append(float(np.median(np.where(np.isnan(row), np.inf, row))))
        largest.append(float(np.max(row[good])) if good.any() else math.inf)
    usable = np.array([math.isfinite(m) and m > 0 for m in median])
    h, y = np.asarray(values, float)[usable], np.log(np.asarray(median)[usable])
    power = rate = math.nan
    law = "unclear"
    if usable.sum() >= 2:
        (power, power_left), (rate, rate_left) = _line(np.log(h), y), _line(h, y)
        law = _law(h, y, power, power_left, rate_left)
    if not all(math.isfinite(m) for m in median):
        law = "overflow"
    return Growth(
        control,
        tuple(int(v) for v in values),
        tuple(median),
        tuple(largest),
        tuple(float(1.0 - good.mean()) for good in finite),
        power,
        2.0**power if math.isfinite(power) else math.nan,
        math.exp(rate) if math.isfinite(rate) else math.nan,
        law,
    )


def _line(x: Floats, y: Floats) -> tuple[float, float]:
    """Slope of the least-squares line, and the squares it leaves."""
    slope, constant = np.polyfit(x, y, 1)
    return float(slope), float(np.sum(np.square(y - slope * x - constant)))


def _law(h: Floats, y: Floats, power: float, power_left: float, rate_left: float) -> str:
    if power < -0.25:
        return "falling"
    if power < 0.25:
        return "flat"
    grown = math.exp(min(float(y.max() - y[0]), 700.0))
    if len(h) >= 3 and grown >= _STEEP:
        if rate_left * _CLEARLY < power_left:
            return "exponential"
        if power_left * _CLEARLY >= rate_left and power > 1.25:
            return "unclear"
    return "linear" if 0.75 <= power <= 1.25 else "polynomial"
