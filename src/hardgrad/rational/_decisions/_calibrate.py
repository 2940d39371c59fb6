"""Choosing `tau_infer` from held-out labels.

Of n rows labelled finite, let k be rejected by the threshold: those whose score is below it, and those that are
rejected at any (faults, Q = 0). The exact interval of Clopper and Pearson for the true rate is

    low  = Beta⁻¹(α/2; k, n-k+1)        high = Beta⁻¹(1-α/2; k+1, n-k)        α = 1 - confidence

and the one-sided bound Beta⁻¹(confidence; k+1, n-k). A threshold for a stated rate r puts tau between the k-th and the
(k+1)-th lowest score of the finite rows, with

    k = ⌊r n⌋                                  the share on these labels meets r
    k = the largest whose bound is at most r   ``guarantee=True``: the true rate does, with that confidence

Since k depends on n and r alone, not on the scores, both intervals hold although tau is read off the same rows:
the true rate below the (k+1)-th of n scores is distributed as Beta(k+1, n-k) whatever the scores' distribution
(Wilks 1941). The labels of ⊥ play no part in it, so the interval of recall holds too. A cost is minimised over
both kinds of label; its intervals are nominal, and `assess_threshold` measures on fresh ones.

Rows must be independent. Scores closer than 16 units in the last place count as equal, since programs that round
differently would order them differently: no threshold is put between them.

Sources: Clopper and Pearson, Biometrika 26 (1934); Wilks, Annals of Mathematical Statistics 12 (1941).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ...core import UsageError, finite_number, one_of
from ._calibration import Calibration, check_costs, cost_a_row
from ._decode import InferenceConfig, strict_inference
from ._proportion import Proportion, beta_quantile, check_confidence
from ._scores import Mask, Score, Scores, Values, check_tau, least_magnitude, real_dtype, rejection_score

_TIES = 16  # units in the last place


def calibrate(
    output: Scores | tuple[Values, Values],
    is_bottom: Mask,
    *,
    false_rejection_rate: float | None = None,
    cost: tuple[float, float] | None = None,
    guarantee: bool = False,
    confidence: float = 0.95,
    score: Score = "projective",
    is_finite: Mask | None = None,
    bottom_share: float | None = None,
    minimum_recall: float | None = None,
) -> Calibration:
    """Choose `tau_infer` on rows that were not trained on.

    State what you want: a false-rejection rate (1 % if you state nothing) or costs. The threshold is the largest that
    fits, so as to reject as much ⊥ as it may. It is a number of the scores' dtype, and decoding the same arrays
    with `strict_inference` and the returned ``config()`` gives exactly the counts reported.

    Args:
        output: (P, Q) as a model emits them, ``[B]``, ``[B, K]``, or K outputs sharing ``[B]``; or scores already
            formed (see `rejection_score`). A score that is not finite counts as a fault: rejected at any threshold.
        is_bottom: True where the label is ⊥; of the scores' shape.
        false_rejection_rate: the share of finite rows that may be rejected, in (0, 1).
        cost: (of accepting a ⊥, of rejecting a finite row), both above 0; the mean cost a row is minimised.
        guarantee: hold the rate with `confidence` for rows to come, not only on these.
        confidence: of the guarantee and of all intervals, in (0, 1).
        score: which score to form of (P, Q), or which `output` is: for an array of |Q| say ``"denominator"``.
        is_finite: True where the label is finite; None means not ⊥. Rows that are neither are ignored.
        bottom_share: the share of ⊥ expected in service, for costs; None takes that of the labels.
        minimum_recall: refuse unless this share of ⊥ is rejected (with ``guarantee``: its one-sided lower
            bound).

    Returns:
        The threshold with rates, exact intervals and counts.

    Raises:
        UsageError: an argument is out of range, or the data cannot support the choice: too few finite labels
            for the rate (the message says how many more are needed), faults alone break it, no or too few
            labels of ⊥ where recall or costs ask for them, scores that are all equal, a recall below the minimum,
            or a cost that is least when everything is rejected.

    Examples:
        >>> import numpy as np
        >>> Q = np.concatenate([np.full(50, 1e-3), np.linspace(0.1, 0.5, 400)])
        >>> found = calibrate((np.ones(450), Q), Q < 0.01, false_rejection_rate=0.01)
        >>> print(found.summary())
        tau_infer        0.10296  (projective score, float64)
        chosen for       1 % of finite rows rejected on these labels
        false rejection  1.00 % [0.27, 2.54]  (4 of 400)
          at most        2.27 %  (one-sided)
        recall of ⊥      100.00 % [92.89, 100.00]  (50 of 50)
        intervals        exact, 95 % confidence
        >>> found.config(tau_train=0.2).score
        'projective'
    """
    if cost is not None and (false_rejection_rate is not None or guarantee):
        raise UsageError("state costs, or a false-rejection rate (with or without guarantee), not both.")
    check_confidence(confidence)
    rows = _rows(output, is_bottom, is_finite, score)
    if minimum_recall is not None and finite_number("minimum_recall", minimum_recall, least=0.0) > 1.0:
        raise UsageError(f"minimum_recall is a rate, at most 1; got {minimum_recall!r}.")
    if minimum_recall is not None and not rows.bottom.size:
        raise UsageError("minimum_recall needs rows labelled ⊥; there are none.")
    asked: dict[str, Any]
    if cost is not None:
        costs = check_costs(cost)
        share = _check_share(bottom_share, rows)
        tau = _least_cost(rows, costs, share, confidence)
        asked = {"method": "cost", "cost": costs, "bottom_share": share}
    else:
        if bottom_share is not None:
            raise UsageError("bottom_share weighs costs; it has no part in a false-rejection rate.")
        rate = 0.01 if false_rejection_rate is None else finite_number("false_rejection_rate", false_rejection_rate)
        if not 0.0 < rate < 1.0:
            raise UsageError(f"false_rejection_rate must lie between 0 and 1; got {rate!r}.")
        tau = _for_rate(rows, _allowed(rows, rate, confidence if guarantee else None))
        asked = {"method": "guarantee" if guarantee else "rate", "false_rejection_rate": rate}
    found = _measure(rows, tau, score, confidence, **asked)
    if minimum_recall is not None and found.recall is not None:
        reached = found.recall.lower_bound if guarantee else found.recall.rate
        if reached < minimum_recall:
            which = f"at {100 * confidence:g} % confidence only {reached:.4g}" if guarantee else f"{reached:.4g}"
            raise UsageError(
                f"a recall of ⊥ of {minimum_recall:g} can't be reached: it is {which} "
                f"({found.recall.count} of {found.recall.total}) at tau_infer={tau:.4g}. "
                "Allow more false rejections, label more rows, or train a model that separates better."
            )
    return found


def assess_threshold(
    output: Scores | tuple[Values, Values],
    is_bottom: Mask,
    config: InferenceConfig,
    *,
    confidence: float = 0.95,
    is_finite: Mask | None = None,
) -> Calibration:
    """What a threshold chosen elsewhere does on these rows, with exact intervals; arguments as for `calibrate`.

    Raises:
        UsageError: no row is labelled finite, the threshold is too small for the scores' dtype, or arrays don't fit.

    Examples:
        >>> import numpy as np
        >>> Q = np.array([0.5, 0.9, 1e-4, 0.4])
        >>> found = assess_threshold((np.ones(4), Q), Q < 0.1, InferenceConfig(tau_infer=1e-2))
        >>> found.recall.rate, found.false_rejection.count
        (1.0, 0)
    """
    check_confidence(confidence)
    rows = _rows(output, is_bottom, is_finite, config.score)
    tau = float(check_tau(config.tau_infer, rows.dtype))
    return _measure(rows, tau, config.score, confidence, method="given")


class _Labelled(NamedTuple):
    """Scores by label, sorted, as float64 (which holds every narrower number); -inf where rejected at any threshold."""

    finite: NDArray[np.float64]
    bottom: NDArray[np.float64]
    ignored: int
    dtype: Any

    def always(self, group: NDArray[np.float64]) -> int:
        return int(np.searchsorted(group, 0.0))


def _rows(output: Any, is_bottom: Any, is_finite: Any, score: Score) -> _Labelled:
    """Check the arrays, and part the scores by label."""
    one_of("score", score, Score)
    if isinstance(output, tuple):
        if len(output) != 2:
            raise UsageError(f"output is (P, Q) or an array of scores; got a tuple of {len(output)}.")
        P, Q = map(np.asarray, output)
        scores = np.asarray(rejection_score(P, Q, score))
        least = least_magnitude(scores.dtype)
        # A quotient can overflow where the score would have been accepted: decoding itself says what is lost anyway.
        lost = strict_inference(P, Q, InferenceConfig(tau_infer=least, score=score)).bottom_mask
        if lost.shape != scores.shape:
            scores = np.broadcast_to(scores, lost.shape)
    else:
        scores = np.asarray(output)
        if not jnp.issubdtype(scores.dtype, jnp.floating):
            raise UsageError(f"scores must be floating-point; got {scores.dtype}.")
        if (scores < 0).any():
            raise UsageError(f"scores can't be negative; got {float(scores[scores < 0][0])!r}. Take |Q|.")
        if score == "projective" and (scores > 1).any():
            raise UsageError("projective scores are at most 1; for |Q| say score='denominator'.")
        lost = ~np.isfinite(scores) | (scores < least_magnitude(scores.dtype))
    bottom = np.asarray(is_bottom)
    finite = ~bottom if is_finite is None else np.asarray(is_finite)
    for name, mask in (("is_bottom", bottom), ("is_finite", finite)):
        if mask.dtype != np.bool_ or mask.shape != scores.shape:
            raise UsageError(
                f"{name} must be boolean of the scores' shape {scores.shape}; got {mask.dtype} {mask.shape}."
            )
    if (bottom & finite).any():
        raise UsageError(f"{int((bottom & finite).sum())} rows are labelled both finite and ⊥.")
    ranked = np.where(lost, -np.inf, scores.astype(np.float64))
    if not finite.any():
        raise UsageError("no row is labelled finite: there is nothing to calibrate on.")
    ignored = int((~bottom & ~finite).sum())
    return _Labelled(np.sort(ranked[finite]), np.sort(ranked[bottom]), ignored, real_dtype(scores.dtype))


def _allowed(rows: _Labelled, rate: float, confidence: float | None) -> int:
    """How many finite rows may be rejected; `confidence` None for the share on these labels alone."""
    n, faults = rows.finite.size, rows.always(rows.finite)
    if confidence is None:
        needed, what = math.ceil(1.0 / rate - 1e-9), f"a false-rejection rate of {rate:g}"
        allowed = math.floor(rate * n + 1e-9)
    else:
        needed = math.ceil(math.log1p(-confidence) / math.log1p(-rate) - 1e-9)
        what = f"a guarantee of {rate:g} false rejections at {100 * confidence:g} % confidence"
        allowed = max(_largest_count(n, rate, confidence), 0)
    if n < needed:
        raise UsageError(f"{what} needs at least {needed} finite labels; got {n}: {needed - n} more are needed.")
    if faults > allowed:
        raise UsageError(
            f"{faults} of {n} finite rows are rejected at any threshold (not finite, or Q is 0), and {what} allows "
            f"{allowed}. Mend the model, or allow a higher rate."
        )
    return allowed


def _largest_count(n: int, rate: float, confidence: float) -> int:
    """The largest k whose one-sided bound is at most `rate`; -1 if there is none."""
    low, high = -1, n - 1
    while low < high:
        middle = (low + high + 1) // 2
        within = beta_quantile(confidence, middle + 1, n - middle) <= rate
        low, high = (middle, high) if within else (low, middle - 1)
    return low


def _for_rate(rows: _Labelled, allowed: int) -> float:
    """The threshold between the `allowed`-th lowest finite score and the next, or lower where those tie."""
    _refuse_constant(rows)
    never = rows.always(rows.finite)
    above = rows.finite[never : min(allowed, rows.finite.size - 1) + 1]
    taus = _between(np.concatenate([[-np.inf], above[:-1]]), above, rows.dtype)
    # Below the lowest score there is always room, so that one at least is left.
    return float(taus[~np.isnan(taus)][-1])


def _least_cost(rows: _Labelled, cost: tuple[float, float], share: float, confidence: float) -> float:
    """The threshold of least expected cost; of several, the largest."""
    # With fewer, even an error rate of 0 on the labels leaves the true one open beyond a half.
    needed = math.ceil(math.log((1 - confidence) / 2) / math.log(0.5))
    for name, group in (("⊥", rows.bottom), ("finite", rows.finite)):
        if group.size < needed:
            raise UsageError(
                f"a cost needs at least {needed} labels of each kind at {100 * confidence:g} % confidence; "
                f"got {group.size} {name}: {needed - group.size} more are needed."
            )
    _refuse_constant(rows)
    pooled = np.unique(np.concatenate([rows.finite, rows.bottom]))
    pooled = pooled[pooled > 0]
    taus = _between(np.concatenate([[-np.inf], pooled[:-1]]), pooled, rows.dtype)
    taus = taus[~np.isnan(taus)]
    recall = np.searchsorted(rows.bottom, taus) / rows.bottom.size
    rejected = np.searchsorted(rows.finite, taus) / rows.finite.size
    costs = cost_a_row(cost, share, recall, rejected)
    least = float(np.min(costs, initial=np.inf))
    if cost_a_row(cost, share, 1.0, 1.0) < least:
        raise UsageError(
            f"rejecting every row costs least ({cost_a_row(cost, share, 1.0, 1.0):.4g} a row, the best "
            f"threshold {least:.4g}): this score does not separate ⊥ well enough for such costs."
        )
    return float(taus[np.flatnonzero(costs == least)[-1]])


def _between(below: NDArray[np.float64], above: NDArray[np.float64], dtype: Any) -> NDArray[np.float64]:
    """Thresholds of that dtype that reject `below` and accept `above`, halfway; NaN where these tie."""
    spacing = _TIES * float(jnp.finfo(dtype).eps)  # type: ignore[no-untyped-call]
    floor = np.maximum(below, 0.0)
    halfway = (floor + (above - floor) / 2).astype(dtype).astype(np.float64)
    return np.where(above - floor > spacing * above, np.maximum(halfway, least_magnitude(dtype)), np.nan)


def _refuse_constant(rows: _Labelled) -> None:
    scores = np.concatenate([rows.finite, rows.bottom])
    accepted = scores[scores > 0]
    if not accepted.size:
        raise UsageError("every row is rejected at any threshold (not finite, or Q is 0): there is nothing to choose.")
    if accepted.size == scores.size and accepted.size > 1 and accepted.min() == accepted.max():
        raise UsageError(f"all {scores.size} scores equal {accepted[0]:.6g}: no threshold tells ⊥ from finite.")


def _measure(rows: _Labelled, tau: float, score: Score, confidence: float, **asked: Any) -> Calibration:
    def rejected(group: NDArray[np.float64]) -> Proportion:
        return Proportion(int(np.searchsorted(group, tau)), group.size, confidence)

    return Calibration(
        tau_infer=tau,
        score=score,
        dtype=str(np.dtype(rows.dtype)),
        false_rejection=rejected(rows.finite),
        recall=rejected(rows.bottom) if rows.bottom.size else None,
        faults=rows.always(rows.finite) + rows.always(rows.bottom),
        ignored=rows.ignored,
        **asked,
    )


def _check_share(share: float | None, rows: _Labelled) -> float:
    if share is None:
        return rows.bottom.size / (rows.bottom.size + rows.finite.size)
    if not 0.0 < finite_number("bottom_share", share) < 1.0:
        raise UsageError(f"bottom_share must lie between 0 and 1; got {share!r}.")
    return float(share)
