"""What part of a gradient is missing, dead or made by a few examples."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ._statistics import Floats, Interval, mean


@dataclasses.dataclass(frozen=True)
class Blind:
    """Parameters whose gradient is exactly 0 in every estimate.

    Attributes:
        share: of all parameters.
        whole: names of the arrays that consist of them.
        radius: of the ball at which the loss was asked about them; NaN if it was not.
        response: root mean square slope along them times √(their number), less rounding: the norm of the gradient they
            should have had, or more where the loss is rough.
        responds: whether the loss changes along them by more than rounding.
    """

    share: float
    whole: tuple[str, ...]
    radius: float = math.nan
    response: Interval = dataclasses.field(default_factory=lambda: Interval(math.nan, math.nan, math.nan))
    responds: bool = False


def response(slopes: Floats, *, size: int, error: float) -> tuple[Interval, bool]:
    """Of `Blind`, from slopes along directions inside a subspace of `size` coordinates.

    Args:
        slopes: one a direction.
        size: coordinates.
        error: standard deviation of a slope's rounding error.
    """
    squares = mean(size * (np.square(slopes) - error**2))
    found = squares.clip(0.0, math.inf).map(math.sqrt)
    length = float(np.sqrt(np.mean(np.square(slopes))))
    return found, math.isfinite(length) and length > 0 and length > 4.0 * error


@dataclasses.dataclass(frozen=True)
class Rows:
    """Gradient norms of single rows of a batch.

    Attributes:
        norms: falling; rows that are not finite first.
        half: share of the rows that together carry half of the sum of all norms, the largest first.
        largest: over the median; infinite where the median is 0.
        silent: share of rows with a gradient of exactly 0.
        non_finite: share of rows whose gradient is not finite.
    """

    norms: tuple[float, ...]
    half: float
    largest: float
    silent: float
    non_finite: float


def rows(norms: Floats) -> Rows:
    """From one norm a row."""
    finite = np.isfinite(norms)
    good = np.sort(norms[finite])[::-1]
    total = float(good.sum())
    half = math.nan if total <= 0 else (int(np.searchsorted(np.cumsum(good), 0.5 * total)) + 1) / len(good)
    middle = float(np.median(good)) if good.size else math.nan
    worst = float(good[0] / middle) if good.size and middle > 0 else math.inf if total > 0 else math.nan
    in_order = [*([math.inf] * int((~finite).sum())), *good.tolist()]
    silent = float(np.mean(norms == 0))
    return Rows(tuple(in_order), half, worst, silent, float(np.mean(~finite)))
