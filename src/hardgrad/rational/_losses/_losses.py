"""Losses of projective outputs (P, Q) against labels (Y_n, Y_d): how well they fit, and how large Q is kept.

    chordal      mean  |P·Y_d - Q·Y_n| / √((P² + Q² + γ)·(Y_n² + Y_d²))
    implicit     mean  (P·Y_d - Q·Y_n)² / (Q²·Y_d² + P²·Y_n² + γ)
    margin       mean  max(0, τ - |Q|)²
    separation   mean over censored of max(0, |Q| - τ_⊥)²,  mean over the rest of max(0, τ_finite - |Q|)²

Every mean is over all entries unless it says otherwise, or weighted: Σ w·term / Σ w. An entry with weight 0, or
outside a mask, passes no gradient even where it is NaN.

Sources: the chordal distance of two lines through the origin, as of points of the Riemann sphere; the others, the
published system. Its implicit loss squares raw products, and its gradient is NaN for labels above
√max of the dtype; here tuples are brought to size by powers of two first, which changes no digit elsewhere.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact

from ...core import UsageError, one_of
from .._shapes import align, alike

Reduction = Literal["population", "conditional"]
Values = Inexact[Array | np.ndarray, "..."]
Mask = Bool[Array | np.ndarray, "..."]
Weights = Float[Array | np.ndarray, "..."]
Scalar = Float[Array, ""]


def check_static(name: str, value: Any, *, least: float = 0.0, most: float = math.inf, above: bool = False) -> None:
    """Check a number that is known now: finite and in [least, most]. Arrays, traced or not, are taken as they are.

    Raises:
        UsageError: it is not, or no number.
    """
    if isinstance(value, jax.Array | np.ndarray):
        return
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not least <= value <= most or (above and value == least):
        wanted = f"in [{least:g}, {most:g}]" if most < math.inf else f"{'above' if above else 'at least'} {least:g}"
        raise UsageError(f"{name} must be a finite number {wanted}; got {value!r}.")


def mean(terms: Array, mask: Array | None = None, weights: Any = None) -> Array:
    """The mean of terms that are 0 outside a mask, over all entries, or weighted; 0 if all weights are.

    The masking is in front of whatever follows: it stops NaN going forward, not backward.
    """
    if mask is not None:
        mask, terms = align(mask=mask, terms=terms)
        terms = jnp.where(mask, terms, 0.0)
    if weights is None:
        return jnp.mean(terms)
    weights, terms = align(weights=jnp.asarray(weights).astype(terms.dtype), terms=terms)
    weights = jnp.broadcast_to(weights, jnp.broadcast_shapes(weights.shape, terms.shape))
    total = jnp.sum(weights)
    return jnp.sum(jnp.where(weights > 0.0, weights * terms, 0.0)) / jnp.where(total > 0.0, total, 1.0)


def _exponent(magnitude: Array) -> Array:
    return jnp.frexp(jax.lax.stop_gradient(magnitude))[1]


def power_of_two(exponent: Array, dtype: Any) -> Array:
    """2 to the power of an integer, exactly."""
    return jnp.ldexp(jnp.ones((), dtype), exponent)


def to_size(P: Array, Q: Array, root_gamma: Array, shift: Any = 0) -> tuple[Array, Array, Array, Array]:
    """A tuple divided by a power of two, so that nothing under- or overflows when it is squared.

    2^e is the size of the larger of |P| and |Q|, but not below that of √γ·2^-shift: what is smaller, γ decides.

    Returns:
        P·2^-e, Q·2^-e, √γ·2^-(e + shift), and e.
    """
    limits = jnp.finfo(P.dtype)  # type: ignore[no-untyped-call]
    least = jnp.where(root_gamma > 0.0, _exponent(root_gamma), limits.minexp) - shift
    exponent = jnp.maximum(_exponent(jnp.maximum(jnp.abs(P), jnp.abs(Q))), least)
    exponent = jnp.clip(exponent, limits.minexp, limits.maxexp - 2)
    unit = power_of_two(-exponent, root_gamma.dtype).astype(P.dtype)
    return P * unit, Q * unit, jnp.ldexp(root_gamma, -exponent - shift), exponent


def tuple_norm(first: Array, second: Array, root_gamma: Any = 0.0) -> Array:
    """√(|first|² + |second|² + γ), and 1 where that is 0. Of tuples brought `to_size`."""
    square = sum(jnp.square(jnp.real(x)) + jnp.square(jnp.imag(x)) for x in (first, second)) + jnp.square(root_gamma)
    return jnp.sqrt(jnp.where(square > 0.0, square, 1.0))


def chordal_loss(
    P: Values, Q: Values, Y_n: Values, Y_d: Values, gamma: Any = 1e-9, *, weights: Weights | None = None
) -> Scalar:
    """The sine of the angle between outputs and labels, taken as lines: how far P/Q is from Y_n/Y_d.

    For a finite label y and ŷ = P/Q a term is |ŷ - y| / √((1 + ŷ²)(1 + y²)), for a pole |Q|/√(P² + Q²), as long as γ is
    small beside P² + Q². It is at most 1, the same for (P, Q) and (c P, c Q), and so blind to their sign: that takes
    `sign_consistency_loss`. An error is not squared: near a fit its gradient does not fade, so that an optimiser
    whose rate falls to 0 gains digits.

    Value and gradient are finite for all finite outputs and labels.

    Args:
        P: numerators ``[B]`` or ``[B, K]``, real; the result has their dtype, at least float32.
        Q: denominators, of P's shape or ``[B]``.
        Y_n: numerators of the labels, of P's shape.
        Y_d: denominators of the labels, of P's shape.
        gamma: γ ≥ 0, a number or a traced scalar: it bounds the gradient near P = Q = 0, where the term is 0.
        weights: of each sample or entry, ≥ 0.

    Raises:
        UsageError: shapes that don't fit, complex outputs, or a γ out of range.

    Examples:
        >>> P, Q = jnp.array([3.0, 4.0]), jnp.array([2.0, 3.0])
        >>> chordal_loss(P, Q, jnp.array([1.5, 1.0]), jnp.array([1.0, 0.0]))  # 3/2 fits, 4/3 is no pole
        Array(0.3, dtype=float32)
    """
    P, Q, Y_n, Y_d = _real_tuples("chordal", P, Q, Y_n, Y_d, gamma)
    zero = jnp.zeros((), P.dtype)
    Y_n, Y_d, _, _ = to_size(Y_n, Y_d, zero)
    P, Q, root_gamma, _ = to_size(P, Q, jnp.sqrt(jnp.asarray(gamma, P.dtype)))
    cross = P * Y_d - Q * Y_n
    return mean(size(cross) / (tuple_norm(P, Q, root_gamma) * tuple_norm(Y_n, Y_d)), weights=weights)


def _real_tuples(what: str, P: Any, Q: Any, Y_n: Any, Y_d: Any, gamma: Any) -> tuple[Array, Array, Array, Array]:
    """Outputs and labels of one dtype that broadcast against each other, checked."""
    check_static("gamma", gamma)
    P, Q, Y_n, Y_d = alike(P, Q, Y_n, Y_d)
    if jnp.issubdtype(P.dtype, jnp.complexfloating):
        raise UsageError(f"the {what} loss is defined for real outputs, got {P.dtype}.")
    P, Q, Y_n, Y_d = align(P=P, Q=Q, Y_n=Y_n, Y_d=Y_d)
    return P, Q, Y_n, Y_d


def implicit_loss(
    P: Values,
    Q: Values,
    Y_n: Values,
    Y_d: Values,
    gamma: Any = 1e-9,
    *,
    detach_scale: bool = False,
    weights: Weights | None = None,
) -> Scalar:
    """The squared cross product of outputs and labels, normalised: how far P/Q is from Y_n/Y_d.

    For a finite label y and ŷ = P/Q a term is (ŷ - y)²/(1 + ŷ²y²), for a pole Q²/P², as long as γ is small beside
    the scale. It does not see the common sign of (P, Q): that takes `sign_consistency_loss`.

    Value and gradient are finite for all finite outputs and labels, but for those of float16. Where the formula itself
    would leave the dtype's range (a pole with P/Q below 1e-9 in float32, 1e-76 in float64, and γ negligible), its
    denominator has a floor.

    Args:
        P: numerators ``[B]`` or ``[B, K]``, real; the result has their dtype, at least float32.
        Q: denominators, of P's shape or ``[B]``.
        Y_n: numerators of the labels, of P's shape.
        Y_d: denominators of the labels, of P's shape.
        gamma: γ ≥ 0, a number or a traced scalar. With 0 the term of P = Q = 0 is 0, not NaN.
        detach_scale: take the denominator for a constant in the backward pass.
        weights: of each sample or entry, ≥ 0.

    Raises:
        UsageError: shapes that don't fit, complex outputs, or a γ out of range.

    Examples:
        >>> P, Q = jnp.array([3.0, 1.0]), jnp.array([2.0, 0.5])
        >>> implicit_loss(P, Q, jnp.array([1.5, 1.0]), jnp.array([1.0, 0.0]))  # 3/2 fits, 1/0.5 is no pole
        Array(0.125, dtype=float32)
    """
    P, Q, Y_n, Y_d = _real_tuples("implicit", P, Q, Y_n, Y_d, gamma)
    limits = jnp.finfo(P.dtype)  # type: ignore[no-untyped-call]
    root_gamma = jnp.sqrt(jnp.asarray(gamma, P.dtype))
    Y_n, Y_d, _, label_exponent = to_size(Y_n, Y_d, jnp.zeros((), P.dtype))
    P, Q, root_gamma, exponent = to_size(P, Q, root_gamma, label_exponent)
    # A gradient with respect to P is at most floor^(-3/2)·2^-exponent: neither may leave the range, nor floor^-2.
    floor = jnp.maximum(limits.minexp // 2 + 3, -((2 * (exponent + limits.maxexp - 8)) // 3))
    cross = P * Y_d - Q * Y_n
    scale = jnp.square(Q * Y_d) + jnp.square(P * Y_n) + jnp.square(root_gamma) + power_of_two(floor, P.dtype)
    if detach_scale:
        scale = jax.lax.stop_gradient(scale)
    return mean(jnp.square(cross) / scale, weights=weights)


def margin_loss(
    Q: Values,
    tau_train: Any = 1e-4,
    mask_finite: Mask | None = None,
    *,
    reduction: Reduction = "population",
    weights: Weights | None = None,
) -> Scalar:
    """Keep |Q| above a threshold where the label is finite.

    Args:
        Q: denominators ``[B]`` or ``[B, K]``; the result has their dtype, at least float32.
        tau_train: τ ≥ 0, a number or a traced scalar.
        mask_finite: where it counts, of Q's shape, or ``[B, K]`` beside Q ``[B]``. None: everywhere.
        reduction: divide by the number (weight) of all entries, or (``"conditional"``) of those in the mask;
            then the loss is 0 where there are none.
        weights: of each sample or entry, ≥ 0.

    Raises:
        UsageError: shapes that don't fit, an unknown reduction, or a τ out of range.
    """
    check_static("tau_train", tau_train)
    one_of("reduction", reduction, Reduction)
    (Q,) = alike(Q)
    mask = jnp.ones((), bool) if mask_finite is None else jnp.asarray(mask_finite)
    Q, mask = align(Q=Q, mask_finite=mask)
    short = jnp.maximum(0.0, _threshold(tau_train, Q) - size(jnp.where(mask, Q, 0.0)))
    if reduction == "population":
        return mean(jnp.square(short), mask, weights)
    return mean(jnp.square(short), mask, within(mask, short, weights))


def size(Q: Array) -> Array:
    """|Q| with slope 0 at 0, as published; JAX's has slope 1 there."""
    return jnp.abs(Q) if jnp.iscomplexobj(Q) else Q * jax.lax.stop_gradient(jnp.sign(Q))


def _threshold(tau: Any, Q: Array) -> Array:
    rounded: Array = jnp.asarray(tau).astype(jnp.abs(Q).dtype)
    return rounded


def within(mask: Array, terms: Array, weights: Any = None) -> Array:
    """Weights that are 0 outside a mask."""
    inside = jnp.broadcast_to(mask, jnp.broadcast_shapes(mask.shape, terms.shape)).astype(terms.dtype)
    if weights is None:
        return inside
    weights, inside = align(weights=jnp.asarray(weights).astype(terms.dtype), mask=inside)
    restricted: Array = weights * inside
    return restricted


def scm_separation_losses(
    Q: Values, *, mask_censored: Mask, tau_bot: Any = 1e-2, tau_finite: Any = 5e-2
) -> tuple[Scalar, Scalar]:
    """Push |Q| down where the label is censored, and up where it is not, with a gap between.

    Args:
        Q: denominators; the results have their dtype, at least float32.
        mask_censored: which labels are, of Q's shape.
        tau_bot: where down is far enough.
        tau_finite: where up is; at least `tau_bot`.

    Returns:
        ``(push_down, push_up)``: each the mean over its own group, 0 for an empty one.

    Raises:
        UsageError: shapes that don't fit, or thresholds out of range or order.
    """
    check_static("tau_bot", tau_bot)
    check_static("tau_finite", tau_finite)
    if not any(isinstance(tau, jax.Array | np.ndarray) for tau in (tau_bot, tau_finite)) and tau_bot > tau_finite:
        raise UsageError(f"tau_bot={tau_bot:g} must not be above tau_finite={tau_finite:g}.")
    (Q,) = alike(Q)
    Q, mask = align(Q=Q, mask_censored=jnp.asarray(mask_censored))
    down = jnp.maximum(0.0, size(jnp.where(mask, Q, 0.0)) - _threshold(tau_bot, Q))
    up = jnp.maximum(0.0, _threshold(tau_finite, Q) - size(jnp.where(mask, 0.0, Q)))
    return mean(jnp.square(down), weights=within(mask, down)), mean(jnp.square(up), weights=within(~mask, up))
