"""Metrics of rational models: what a score is worth as a detector of ⊥, and how an arm moves near its poles.

Host code in NumPy: metrics are read once, after training.

Source: the published system. It breaks ties between scores by the order of the rows, so that shuffling a data set
changes its precision and its error rates; here rows of one score are decided together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Num
from numpy.typing import NDArray

from ...core import UsageError, finite_number

Labels = Bool[Array | np.ndarray, "..."] | Int[Array | np.ndarray, "..."]
Values = Num[Array | np.ndarray, "..."]

_TAIL = 0.05  # the share of largest steps that should lie near the poles
_NEAR_POLE = 1e-2  # |sin θ2| below which the power law is fitted
_ANCHORS, _BESIDE, _WINDOW, _LEAST_POINTS = 5, 0.05, 0.2, 4
_LEAST_FIT = 5


class PRCurve(NamedTuple):
    """Precision and recall at every distinct score, the highest first: rows of at least `thresholds[i]` count as
    detected."""

    precision: Float[np.ndarray, " point"]
    recall: Float[np.ndarray, " point"]
    thresholds: Float[np.ndarray, " point"]


class OperatingPoint(NamedTuple):
    """A threshold (rows of at least it count as detected) with its two error rates."""

    threshold: float
    false_positive_rate: float
    false_negative_rate: float


@dataclass(frozen=True)
class BinarySummary:
    """What `binary_summary` finds: counts of valid rows, ROC AUC, average precision, one operating point."""

    valid: int
    positive: int
    negative: int
    roc_auc: float
    pr_auc: float
    at_budget: OperatingPoint


class PoleMetrics(NamedTuple):
    """What `pole_metrics_2d` finds.

    Attributes:
        pole_localisation_error: mean distance of the largest 5 % of steps to θ2 ∈ {0, π}, in radians.
        sign_consistency: share of anchors in θ1 where Δθ2 flips its sign across θ2 = 0; NaN without data.
        slope_error: |slope + 1| of log‖Δθ‖ over log|sin θ2| where |sin θ2| ≤ 0.01; infinite with
            fewer than 5 points. 0 is the exact law 1/|sin θ2|.
        residual_consistency: mean squared distance between the displacement that was asked for and the one
            the predicted step makes.
    """

    pole_localisation_error: float
    sign_consistency: float
    slope_error: float
    residual_consistency: float


def roc_auc(labels: Labels, scores: Values) -> float:
    """Area under the ROC curve: the chance that a positive row scores above a negative one, ties counting half.

    Args:
        labels: true or 1 where positive, any shape.
        scores: of that shape, higher for positive. Rows whose score is NaN are left out, infinities stay.

    Returns:
        NaN when either class is empty.

    Raises:
        UsageError: shapes differ, or a label is neither 0 nor 1.

    Examples:
        >>> import numpy as np
        >>> roc_auc(np.array([True, False, True]), np.array([0.9, 0.5, 0.5]))
        0.75
    """
    hits, misses = _counts(*_valid(labels, scores))[:2]
    positive, negative = hits.sum(), misses.sum()
    if positive == 0 or negative == 0:
        return math.nan
    above = np.cumsum(hits) - hits / 2
    return float(np.sum(above * misses) / (positive * negative))


def pr_curve(labels: Labels, scores: Values) -> PRCurve:
    """Precision and recall, one point for each distinct score; see `roc_auc` for the arguments.

    Recall is NaN without positive rows.
    """
    hits, misses, thresholds = _counts(*_valid(labels, scores))
    found, wrong = np.cumsum(hits), np.cumsum(misses)
    return PRCurve(found / (found + wrong), _share(found, hits.sum()), thresholds)


def pr_auc(labels: Labels, scores: Values) -> float:
    """Average precision: Σ (recall_i - recall_{i-1}) · precision_i, one term for each distinct score.

    See `roc_auc` for the arguments; NaN without positive rows.
    """
    curve = pr_curve(labels, scores)
    if curve.recall.size == 0 or np.isnan(curve.recall[0]):
        return math.nan
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * curve.precision))


def fnr_at_fpr(labels: Labels, scores: Values, *, budget: float) -> OperatingPoint:
    """The lowest threshold whose false-positive rate stays within a budget.

    Args:
        labels: see `roc_auc`.
        scores: see `roc_auc`.
        budget: largest false-positive rate, in [0, 1].

    Returns:
        One of the scores as threshold, or +inf, which detects nothing, when even the highest breaks the budget.
        Rates of an empty class are NaN.

    Raises:
        UsageError: as `roc_auc`, or the budget is out of range.
    """
    if finite_number("budget", budget, least=0.0) > 1.0:
        raise UsageError(f"budget is a rate, from 0 to 1; got {budget!r}.")
    hits, misses, thresholds = _counts(*_valid(labels, scores))
    false_positive, false_negative = _share(np.cumsum(misses), misses.sum()), _share(np.cumsum(hits), hits.sum())
    within = np.flatnonzero(~(false_positive > budget))
    if within.size == 0:
        nothing, one = math.nan if misses.sum() == 0 else 0.0, math.nan if hits.sum() == 0 else 1.0
        return OperatingPoint(math.inf, nothing, one)
    at = within[-1]
    return OperatingPoint(float(thresholds[at]), float(false_positive[at]), float(1.0 - false_negative[at]))


def binary_summary(labels: Labels, scores: Values, *, budget: float = 0.01) -> BinarySummary:
    """All of the above at once, for a score that should be high on ⊥.

    Args:
        labels: see `roc_auc`.
        scores: see `roc_auc`; for a rejection score, pass its negative.
        budget: the false-positive rate of the operating point.

    Examples:
        >>> import numpy as np
        >>> binary_summary(np.array([1, 1, 0, 0]), np.array([0.9, 0.4, 0.6, 0.1]), budget=0.0).at_budget
        OperatingPoint(threshold=0.9, false_positive_rate=0.0, false_negative_rate=0.5)
    """
    positive, valid = _valid(labels, scores)
    return BinarySummary(
        valid=int(positive.size),
        positive=int(positive.sum()),
        negative=int((~positive).sum()),
        roc_auc=roc_auc(positive, valid),
        pr_auc=pr_auc(positive, valid),
        at_budget=fnr_at_fpr(positive, valid, budget=budget),
    )


def pole_metrics_2d(
    inputs: Float[Array | np.ndarray, "row input"],
    predictions: Float[Array | np.ndarray, "prediction step"],
    *,
    first_link: float = 1.0,
    second_link: float = 1.0,
) -> PoleMetrics:
    """How steps (Δθ1, Δθ2) predicted for a planar arm of two links behave near its poles θ2 ∈ {0, π}.

    For the sign, five anchors stand in the middle of five equal shares of the rows, ordered by θ1. Each looks at rows
    within 0.05 of it with 0 < |θ2| < 0.2, needs four of them, on both sides, and compares the majority sign of
    Δθ2 left and right.

    Args:
        inputs: (θ1, θ2, dx, dy), ``[B, 4]``: joint angles in radians and the displacement asked for.
        predictions: (Δθ1, Δθ2), ``[B, 2]``.
        first_link: length of the first link.
        second_link: length of the second.

    Raises:
        UsageError: there are no rows, the shapes are others, or something is not finite.
    """
    rows, steps = np.asarray(inputs, np.float64), np.asarray(predictions, np.float64)
    if not len(rows) or (rows.shape[1], steps.shape) != (4, (len(rows), 2)):
        raise UsageError(f"inputs [B, 4] and predictions [B, 2] are needed, B ≥ 1; got {rows.shape}, {steps.shape}.")
    if not (np.isfinite(rows).all() and np.isfinite(steps).all()):
        raise UsageError("inputs and predictions must be finite; leave rejected rows out.")
    theta1, theta2 = rows[:, 0], rows[:, 1]
    length = np.hypot(steps[:, 0], steps[:, 1])
    folded = np.abs(np.arctan2(np.sin(theta2), np.cos(theta2)))
    largest = np.argsort(-length, kind="stable")[: max(1, int(_TAIL * len(rows)))]
    moved = _hand(theta1 + steps[:, 0], theta2 + steps[:, 1], first_link, second_link)
    missed = moved - _hand(theta1, theta2, first_link, second_link) - rows[:, 2:]
    return PoleMetrics(
        pole_localisation_error=float(np.minimum(folded, np.pi - folded)[largest].mean()),
        sign_consistency=_sign_consistency(theta1, theta2, steps[:, 1]),
        slope_error=_slope_error(np.abs(np.sin(theta2)), length),
        residual_consistency=float(np.sum(missed**2, axis=-1).mean()),
    )


def _valid(labels: Labels, scores: Values) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels and scores, flat, without the rows whose score is NaN."""
    given, score = np.asarray(labels), np.asarray(scores)
    if given.shape != score.shape:
        raise UsageError(f"labels and scores must have one shape; got {given.shape} and {score.shape}.")
    if given.dtype != np.bool_ and not np.isin(given, (0, 1)).all():
        raise UsageError(f"labels must be booleans, or 0 and 1; got {np.unique(given)[:5].tolist()}.")
    flat = score.astype(np.float64).ravel()
    keep = ~np.isnan(flat)
    return given.astype(np.bool_).ravel()[keep], flat[keep]


def _counts(
    positive: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Positive and negative rows at each distinct score, and those scores, highest first."""
    distinct, index = np.unique(-scores, return_inverse=True)
    hits, misses = (np.bincount(index[kind], minlength=distinct.size).astype(float) for kind in (positive, ~positive))
    return hits, misses, 0.0 - distinct


def _share(part: NDArray[np.float64], whole: float) -> NDArray[np.float64]:
    return part / whole if whole else np.full_like(part, np.nan)


def _hand(theta1: NDArray[np.float64], theta2: NDArray[np.float64], a: float, b: float) -> NDArray[np.float64]:
    """Where the hand is, by forward kinematics."""
    both = theta1 + theta2
    return np.stack([a * np.cos(theta1) + b * np.cos(both), a * np.sin(theta1) + b * np.sin(both)], axis=-1)


def _sign_consistency(theta1: NDArray[np.float64], theta2: NDArray[np.float64], step: NDArray[np.float64]) -> float:
    near = (np.abs(theta2) < _WINDOW) & (theta2 != 0)
    flips = []
    for anchor in np.quantile(theta1, (np.arange(_ANCHORS) + 0.5) / _ANCHORS):
        here = near & (np.abs(theta1 - anchor) <= _BESIDE)
        left, right = np.sign(step[here & (theta2 < 0)]), np.sign(step[here & (theta2 > 0)])
        if left.size and right.size and left.size + right.size >= _LEAST_POINTS:
            flips.append(np.sign(left.sum()) * np.sign(right.sum()) < 0)
    return float(np.mean(flips)) if flips else math.nan


def _slope_error(sine: NDArray[np.float64], length: NDArray[np.float64]) -> float:
    near = (sine <= _NEAR_POLE) & (sine > 0) & (length > 0)
    x, y = np.log10(sine[near]), np.log10(length[near])
    if x.size < _LEAST_FIT or np.ptp(x) == 0:
        return math.inf
    x = x - x.mean()
    return float(abs(np.sum(x * y) / np.sum(x * x) + 1.0))
