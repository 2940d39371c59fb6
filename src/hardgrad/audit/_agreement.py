"""Does the gradient point where the loss falls, at several scales?

The reference at radius δ is the gradient of the loss averaged over a ball (Flaxman, Kalai & McMahan 2005, "Online
convex optimization in the bandit setting", Lemma 2.1; arXiv:cs/0408007):

    L_δ(θ) = mean of L over |x - θ| ≤ δ,      ∇L_δ(θ) = n · E[s u],      s(u) = (L(θ + δu) - L(θ - δu)) / (2δ),

u uniform on the unit sphere of the n parameters. Directions come in frames of m orthonormal ones. With p = g·u, the
slope that the gradient g predicts, and β = Σ s p / Σ p², what is left of the slopes is e = s - β p, and

    g·∇L_δ = β |g|²,     |∇L_δ|² = β² |g|² + (n/m)² · mean over frames f ≠ f' of (Σ e u)_f · (Σ e u)_f',
    n E[s²] = β² |g|² + n · mean of e²,

so that only what the gradient does not explain is estimated from few directions: of a linear loss and its own gradient
every figure is exact. The second term is an unbiased U-statistic, and can be negative. Of g from an estimator with
random numbers, |E g|² is likewise the mean over pairs of estimates. See `_statistics` for intervals.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._statistics import UNKNOWN, Floats, Interval, Jackknife, cross_mean, ratio, without_one

_FEWEST_FRAMES = 4
_DROWNED = 0.25  # share of the slopes' mean square that may be rounding
_FLAT = 4.0  # rounding errors of the loss below which all of its changes count as none


@dataclasses.dataclass(frozen=True)
class Agreement:
    """The gradient in use beside the gradient of the loss averaged over a ball.

    Attributes:
        radius: of the ball, relative to the norm of the parameters.
        distance: the same in the parameters' own units, δ.
        sigma: the spread of a Gaussian as wide, δ/√n: what `AntitheticNES` calls sigma.
        state: ``"judged"``; ``"rounding"``: rounding errors drown the slopes; ``"flat"``: the loss does not change,
            or by less than rounding; ``"non-finite"``: too many losses are not finite.
        rounding: share of the slopes' mean square that is rounding.
        non_finite: share of the losses that are not finite.
        slope: norm of the averaged loss's gradient, \\|∇L_δ\\|.
        linear: share of the slopes' mean square that any gradient could explain.
        cosine: of the mean gradient in use and ∇L_δ.
        norm_ratio: \\|E g\\| / \\|∇L_δ\\|.
        bias: \\|E g - ∇L_δ\\| / \\|∇L_δ\\|.
    """

    radius: float
    distance: float
    sigma: float
    state: str
    rounding: float
    non_finite: float
    slope: Interval = UNKNOWN
    linear: Interval = UNKNOWN
    cosine: Interval = UNKNOWN
    norm_ratio: Interval = UNKNOWN
    bias: Interval = UNKNOWN

    @property
    def judged(self) -> bool:
        """Whether there is something to judge by."""
        return self.state == "judged"


@dataclasses.dataclass(frozen=True)
class Directions:
    """What all radii share.

    Attributes:
        gram: inner products of the directions, ``[frames, m, frames, m]``.
        predicted: slopes that each estimate predicts, ``[frames, m, estimates]``.
        of_gradients: inner products of the estimates, ``[estimates, estimates]``.
        size: parameters n.
    """

    gram: Floats
    predicted: Floats
    of_gradients: Floats
    size: int

    @staticmethod
    def of(directions: Any, gradients: Any, *, frames: int) -> Directions:
        """From directions ``[frames · m, n]`` and estimates ``[estimates, n]``."""
        u, g = (np.asarray(x, np.float64) for x in (directions, gradients))
        many = len(u) // frames
        gram = (u @ u.T).reshape(frames, many, frames, many)
        return Directions(gram, (u @ g.T).reshape(frames, many, len(g)), g @ g.T, u.shape[1])


_INNER, _SIGNAL, _SLOPE, _TOTAL = range(4)


def agreement(
    slopes: Floats, shared: Directions, *, radius: float, distance: float, noise: float, non_finite: float
) -> Agreement:
    """Judge one radius.

    Args:
        slopes: ``[frames, m]``, NaN where a loss was not finite.
        shared: what all radii share.
        radius: relative.
        distance: δ.
        noise: standard deviation of the loss's rounding error.
        non_finite: share of the losses.
    """
    whole = np.isfinite(slopes).all(axis=1)
    error = noise / (math.sqrt(2.0) * distance)  # of a slope
    found = Agreement(radius, distance, distance / math.sqrt(shared.size), "non-finite", math.nan, non_finite)
    if whole.sum() < _FEWEST_FRAMES:
        return found
    kept = slopes[whole]
    square = float(np.mean(np.square(kept)))
    share = min(1.0, error**2 / square) if square > 0 else 1.0
    if float(np.max(np.abs(kept))) <= _FLAT * error or square == 0:
        return dataclasses.replace(found, state="flat" if square == 0 else "rounding", rounding=share)
    moments = _jackknife(kept, shared, whole, error**2)
    state = "rounding" if share > _DROWNED else "judged"

    def of(top: Callable[[Any], Any], under: Callable[[Any], Any]) -> Interval:
        return ratio(moments.map(lambda v: [top(v), under(v)]))

    slope = of(_slope, lambda v: np.ones_like(v[_SLOPE])).clip(0.0, math.inf).map(math.sqrt)
    linear = of(_slope, lambda v: v[_TOTAL]).clip(0.0, 1.0)
    found = dataclasses.replace(found, state=state, rounding=share, slope=slope, linear=linear)
    if not np.trace(shared.of_gradients) > 0:
        return found
    cosine = of(lambda v: v[_INNER] / _root(v[_SIGNAL]), lambda v: _root(v[_SLOPE])).clip(-1.0, 1.0)
    lengths = of(lambda v: v[_SIGNAL], _slope).clip(0.0, math.inf).map(math.sqrt)
    off = of(lambda v: v[_SIGNAL] - 2 * v[_INNER] + v[_SLOPE], _slope).clip(0.0, math.inf).map(math.sqrt)
    return dataclasses.replace(found, cosine=cosine, norm_ratio=lengths, bias=off)


def _slope(v: Any) -> Any:
    return v[_SLOPE]


def _root(x: Any) -> Any:
    return np.sqrt(np.where(x > 0, x, np.nan))


def _jackknife(slopes: Floats, shared: Directions, whole: Any, error: float) -> Jackknife:
    """g·∇L_δ, \\|E g\\|², \\|∇L_δ\\|² and n·E[s²], with every frame and every estimate left out in turn."""
    frames, many = slopes.shape
    s, size = slopes.ravel(), shared.size
    each = shared.predicted[whole].reshape(s.size, -1)
    between = shared.gram[whole][:, :, whole].copy()
    between[np.arange(frames), :, np.arange(frames)] = 0.0  # pairs of one frame are no independent draws
    between = between.reshape(s.size, s.size)
    estimates, products = each.shape[1], shared.of_gradients
    p = each.mean(axis=1)
    square = float(products.mean())
    signal = square if estimates == 1 else cross_mean(products)

    def moments(count: int, sums: Sequence[Any], pairs: Sequence[Any], square: Any) -> list[Any]:
        """From sums over directions, and over pairs of them from different frames; |mean g|² is `square`."""
        (sp, pp, ss), (of_sp, of_pp, of_ss) = sums, pairs
        beta = np.where(pp > 0, sp / np.where(pp > 0, pp, 1.0), 0.0)
        share = (size / many) ** 2 / (count * (count - 1))
        left = np.maximum(ss - beta * sp, 0.0) / (count * many)  # mean of e²
        explained = beta * beta * square
        slope = explained + share * (of_ss - 2 * beta * of_sp + beta * beta * of_pp)
        return [beta * square, slope, explained + size * np.maximum(left - error, 0.0)]

    def by_frame(a: Floats, b: Floats) -> tuple[Floats, Floats]:
        """Σ a b in each frame; Σ a (u·u') b' with those of all others."""
        crossed = (a * (between @ b) + b * (between @ a)) / 2
        return (a * b).reshape(frames, many).sum(axis=1), crossed.reshape(frames, many).sum(axis=1)

    sums, pairs = zip(by_frame(s, p), by_frame(p, p), by_frame(s, s), strict=True)
    totals, all_pairs = [x.sum() for x in sums], [x.sum() for x in pairs]

    def joined(found: list[Any], signal: Any) -> Floats:
        inner, slope, total = found
        return np.stack([np.asarray(x, float) for x in np.broadcast_arrays(inner, signal, slope, total)], axis=-1)

    middle = joined(moments(frames, totals, all_pairs, square), signal)
    lost = [total - x for total, x in zip(totals, sums, strict=True)]
    lost_pairs = [total - 2 * x for total, x in zip(all_pairs, pairs, strict=True)]
    samples = [joined(moments(frames - 1, lost, lost_pairs, square), signal)]
    if estimates > 1:
        others = (estimates * p[:, None] - each) / (estimates - 1)  # p without each estimate
        crossed = between @ others
        of_means = products.mean(axis=1)
        squares = (estimates**2 * square - 2 * estimates * of_means + np.diag(products)) / (estimates - 1) ** 2
        own = s @ others, np.sum(others**2, axis=0), totals[2]
        own_pairs = s @ crossed, np.sum(others * crossed, axis=0), all_pairs[2]
        found = moments(frames, own, own_pairs, squares)
        samples.append(joined(found, without_one(products)[:, 0] if estimates > 2 else np.full(2, signal)))
    return Jackknife(middle, tuple(samples))
