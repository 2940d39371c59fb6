"""Metrics of sequences, on the host: NumPy, float64, one number each.

With target y, prediction p, T steps; every mean is over t:

    smape          100 · mean( |p - y| / max(|y| + |p|, floor) )            0 … 100
    rmse           sqrt(mean (p - y)²)
    robustness     1 / (1 + mean (p - y)²)                                  (0, 1]
    mape           100 · mean |(y - p) / y|
    mase           mean |y - p| / (mean |y - naive| + offset)
    overshoot      max_t max(0, p - max y) / |max y|
    settling_time  1 + the last t with p outside the band around y_{T-1}
    delta_lag      mean of sign(Δy) · sign(Δp)                              [-1, 1]
    early_auc      area under the ROC curve of scores against events ahead  [0, 1]
    recall_at_lag  share of events flagged at, or up to `lag` steps before  [0, 1]

Source: the published hypercausal system. Where its result is an accident (zero targets, ties, shapes
that broadcast) the result here is defined; the published number stays in reach of an argument, named in
each docstring. Non-finite input gives a non-finite result where it is averaged: nothing is repaired.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import UsageError, one_of, whole_number
from ._losses import check_same_shape

Zeros = Literal["skip", "offset"]


def _pair(one_axis: bool = False, **given: ArrayLike) -> list[NDArray[np.float64]]:
    """float64 arrays of one shape, not empty; raises `UsageError` otherwise."""
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in given.items()}
    check_same_shape(**arrays)
    for name, array in arrays.items():
        if array.size == 0 or (one_axis and array.ndim != 1):
            wanted = "one value a step, [time]" if one_axis else "at least one value"
            raise UsageError(f"{name} must hold {wanted}, got shape {array.shape}.")
    return list(arrays.values())


def smape(target: ArrayLike, prediction: ArrayLike, *, floor: float = 1e-8) -> float:
    """Symmetric mean absolute percentage error, safe at zero.

    The denominator is |y| + |p| without a factor ½, so 100 is the worst; it is reached wherever the
    target is 0 and the prediction is not. Both 0 counts as 0.

    Args:
        target: y, any shape.
        prediction: p, of the same shape.
        floor: least denominator, above 0.

    Raises:
        UsageError: shapes differ or are empty, or floor is not positive.
    """
    y, p = _pair(target=target, prediction=prediction)
    if not floor > 0:
        raise UsageError(f"floor must be positive, got {floor!r}.")
    return float(100.0 * np.mean(np.abs(p - y) / np.maximum(np.abs(y) + np.abs(p), floor)))


def rmse(target: ArrayLike, prediction: ArrayLike) -> float:
    """Root mean squared error.

    Args:
        target: y, any shape.
        prediction: p, of the same shape.

    Raises:
        UsageError: shapes differ or are empty.
    """
    y, p = _pair(target=target, prediction=prediction)
    return float(np.sqrt(np.mean((p - y) ** 2)))


def robustness(target: ArrayLike, prediction: ArrayLike) -> float:
    """1 / (1 + mean squared error): 1 for a perfect prediction, towards 0 as it worsens.

    Args:
        target: y, any shape.
        prediction: p, of the same shape.

    Raises:
        UsageError: shapes differ or are empty.
    """
    y, p = _pair(target=target, prediction=prediction)
    return float(1.0 / (1.0 + np.mean((y - p) ** 2)))


def mape(target: ArrayLike, prediction: ArrayLike, *, zeros: Zeros = "skip") -> float:
    """Mean absolute percentage error.

    Args:
        target: y, any shape.
        prediction: p, of the same shape.
        zeros: ``"skip"`` leaves out the steps whose target is 0 (NaN if all are). ``"offset"`` is the
            published formula, which adds 1e-12 to every target: an error at a zero then counts 1e14-fold.

    Raises:
        UsageError: shapes differ or are empty, or `zeros` is something else.
    """
    one_of("zeros", zeros, Zeros)
    y, p = _pair(target=target, prediction=prediction)
    if zeros == "offset":
        return float(100.0 * np.mean(np.abs((y - p) / (y + 1e-12))))
    usable = y != 0
    if not usable.any():
        return float("nan")
    return float(100.0 * np.mean(np.abs((y[usable] - p[usable]) / y[usable])))


def mase(target: ArrayLike, prediction: ArrayLike, naive: ArrayLike, *, offset: float = 1e-12) -> float:
    """Mean absolute error, in units of a naive prediction's.

    Args:
        target: y, any shape.
        prediction: p, of the same shape.
        naive: the prediction to beat, of the same shape; for instance the target one step late.
        offset: added to the naive error, so that a perfect naive prediction does not divide by 0; above 0.

    Raises:
        UsageError: shapes differ or are empty, or offset is not positive.
    """
    y, p, n = _pair(target=target, prediction=prediction, naive=naive)
    if not offset > 0:
        raise UsageError(f"offset must be positive, got {offset!r}.")
    return float(np.mean(np.abs(y - p)) / (np.mean(np.abs(y - n)) + offset))


def overshoot(target: ArrayLike, prediction: ArrayLike, *, scale: float | None = None) -> float:
    """How far the prediction rises above the target's peak, in units of that peak.

    Args:
        target: y, any shape.
        prediction: p, of the same shape.
        scale: the unit, above 0. None takes |max y|; a peak of exactly 0 is no unit and gives 0.0, as
            published, so name one for such a target.

    Raises:
        UsageError: shapes differ or are empty, or scale is not positive.
    """
    y, p = _pair(target=target, prediction=prediction)
    if scale is not None and not scale > 0:
        raise UsageError(f"scale must be positive, got {scale!r}.")
    peak = np.max(y)
    unit = abs(peak) if scale is None else scale
    return float(np.max(np.maximum(0.0, p - peak)) / unit) if unit != 0 else 0.0


def settling_time(target: ArrayLike, prediction: ArrayLike, *, tol: float = 0.05, floor: float = 0.0) -> int:
    """Steps until the prediction stays within a band around the target's last value.

    The band's half-width is tol·|last|, and `floor` at least. It is the published one for a positive last
    value; there, a negative one made it empty.

    Args:
        target: y, ``[time]``.
        prediction: p, ``[time]``.
        tol: relative half-width, at least 0.
        floor: absolute half-width, at least 0. A target that ends at 0 needs one: without it only
            exact zeros count as settled, as published.

    Returns:
        0 if it never leaves the band, T if it ends outside. A NaN lies outside.

    Raises:
        UsageError: not one axis, lengths differ, empty, or a negative tolerance.
    """
    y, p = _pair(True, target=target, prediction=prediction)
    if not (tol >= 0 and floor >= 0):
        raise UsageError(f"tol and floor must not be negative, got tol={tol!r}, floor={floor!r}.")
    last = y[-1]
    low, high = sorted((last * (1.0 - tol), last * (1.0 + tol)))
    inside = (p >= min(low, last - floor)) & (p <= max(high, last + floor))
    outside = np.flatnonzero(~inside)
    return int(outside[-1]) + 1 if outside.size else 0


def delta_lag(target: ArrayLike, prediction: ArrayLike) -> float:
    """How well directions agree: 1 if they always do, -1 if never; a step without change counts 0.

    Args:
        target: y, ``[time]``.
        prediction: p, ``[time]``.

    Returns:
        NaN for a single step: it has no direction.

    Raises:
        UsageError: not one axis, lengths differ, or empty.
    """
    y, p = _pair(True, target=target, prediction=prediction)
    if y.size < 2:
        return float("nan")
    return float(np.mean(np.sign(np.diff(y)) * np.sign(np.diff(p))))


def early_auc(
    events: ArrayLike, scores: ArrayLike, *, horizon: int = 1, within: bool = False, ties: float = 0.5
) -> float:
    """How well scores rank the steps that precede an event above the others.

    Args:
        events: above 0 where there is one, ``[time]``.
        scores: higher where one is expected, ``[time]``.
        horizon: a step is positive if there is an event exactly so many steps ahead; at least 1. The
            last `horizon` steps, whose future is unknown, count as negative, as published.
        within: positive if there is one at any of 1 … horizon steps ahead.
        ties: what a positive and a negative of equal score count. ½ makes constant scores worth 0.5;
            0.0 is the published choice.

    Returns:
        The share of pairs ranked rightly; 0.5 if there are no positives or no negatives.

    Raises:
        UsageError: not one axis, lengths differ, empty, horizon below 1, or ties outside [0, 1].
    """
    y, s = _pair(True, events=events, scores=scores)
    whole_number("horizon", horizon, least=1)
    if not 0 <= ties <= 1:
        raise UsageError(f"ties must lie between 0 and 1, got {ties!r}.")
    positive = np.zeros(y.size, dtype=bool)
    for ahead in range(1 if within else horizon, min(horizon, y.size - 1) + 1):
        positive[:-ahead] |= y[ahead:] > 0
    high, low = s[positive][:, None], s[~positive][None, :]
    if high.size == 0 or low.size == 0:
        return 0.5
    return float((np.sum(high > low) + ties * np.sum(high == low)) / (high.size * low.size))


def recall_at_lag(events: ArrayLike, flags: ArrayLike, *, lag: int = 1, offset: float = 0.0) -> float:
    """The share of events that were flagged in time: at the event, or up to `lag` steps before.

    Args:
        events: above 0 where there is one, ``[time]``.
        flags: above 0 where one was announced, ``[time]``.
        lag: how early is not too early, at least 0.
        offset: added to the number of events; the published formula has 1e-12.

    Returns:
        0.0 if there are no events.

    Raises:
        UsageError: not one axis, lengths differ, empty, lag below 0, or a negative offset.
    """
    y, f = _pair(True, events=events, flags=flags)
    whole_number("lag", lag, least=0)
    if not offset >= 0:
        raise UsageError(f"offset must not be negative, got {offset!r}.")
    happened = np.flatnonzero(y > 0)
    if happened.size == 0:
        return 0.0
    hits = sum(bool(np.any(f[max(0, t - lag) : t + 1] > 0)) for t in happened)
    return float(hits / (happened.size + offset))
