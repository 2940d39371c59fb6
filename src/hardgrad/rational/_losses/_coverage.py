"""Coverage, the share of outputs that are not ⊥, and losses that keep it up.

    coverage          1 - mean(⊥)
    rejection         max(0, target - coverage)²                                    as published: no gradient
    soft coverage     max(0, target - mean σ((|Q| - τ)/temperature))²               as published, on its own
    soft rejection    max(0, target - mean a)²,   a = |Q|/(|Q| + τ) = σ(ln |Q| - ln τ)

The last is what the combined loss trains with. A logistic in ln |Q| needs no temperature: |Q| = τ counts half, as it
does for any scale of Q, 19τ counts 0.95, and the gradient is largest, 1/τ, at Q = 0, where that of every other
threshold loss vanishes.

Source: the published system, but for the soft rejection.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ...core import one_of
from .._policies import GradientPolicy, get_policy
from .._shapes import align, alike
from ._losses import Mask, Scalar, Values, Weights, check_static, mean, size, within

CoverageMode = Literal["under"]


def bottom_of(outputs: Any, tau: Any = None) -> Array:
    """Where outputs are ⊥.

    Args:
        outputs: an array, ⊥ where it is not finite; an array with its ⊥ mask, ``(y, mask)``; or (P, Q), ⊥ where
            Q is not finite, 0, or below `tau` in magnitude.
        tau: the threshold; for (P, Q) only.

    Returns:
        A mask of the shape of the array, its mask, or Q.
    """
    if not isinstance(outputs, tuple | list):
        return ~jnp.isfinite(jnp.asarray(outputs))
    second = jnp.asarray(outputs[1])
    if second.dtype == bool:
        return second
    magnitude = jnp.abs(second)
    return ~jnp.isfinite(second) | (second == 0) | (magnitude < jnp.asarray(tau).astype(magnitude.dtype))


def batch_coverage(outputs: Any, tau: Any = None) -> Scalar:
    """The share of samples without ⊥: of several outputs along the last axis, one that is ⊥ is enough.

    Args:
        outputs: an array, ``(y, mask)`` or (P, Q): see the mask in `bottom_of`.
        tau: the threshold that |Q| must reach; for (P, Q) only.

    Returns:
        The coverage in float32.

    Examples:
        >>> batch_coverage((jnp.ones(4), jnp.array([0.5, 1e-5, -1e-5, jnp.nan])), 1e-4)
        Array(0.25, dtype=float32)
    """
    bottom = bottom_of(outputs, tau)
    return coverage(jnp.any(bottom, axis=-1) if bottom.ndim > 1 else bottom)


def coverage(is_bottom: Mask) -> Scalar:
    """1 - mean(⊥), in float32; NaN of nothing."""
    return 1.0 - jnp.mean(jnp.asarray(is_bottom).astype(jnp.float32))


def rejection_loss(is_bottom: Mask, target_coverage: Any = 0.95, *, policy: GradientPolicy | None = None) -> Scalar:
    """How far coverage is below a target, squared. It is a count and has no gradient: see `soft_rejection_loss`.

    Args:
        is_bottom: where outputs are ⊥, any shape.
        target_coverage: in [0, 1].
        policy: under REJECT the loss is 0. None takes that of the context, or of ``"rejection_loss"``.

    Raises:
        UsageError: a target out of range.
    """
    check_static("target_coverage", target_coverage, most=1.0)
    if (get_policy("rejection_loss") if policy is None else policy) is GradientPolicy.REJECT:
        return jnp.zeros((), jnp.float32)
    return _shortfall(jax.lax.stop_gradient(coverage(is_bottom)), target_coverage)


def _shortfall(covered: Array, target: Any) -> Array:
    return jnp.square(jnp.maximum(0.0, jnp.asarray(target).astype(covered.dtype) - covered))


def soft_coverage_loss(Q: Values, tau: Any, temperature: Any, target: Any, mode: CoverageMode = "under") -> Scalar:
    """How far the mean of σ((|Q| - τ)/temperature) is below a target, squared.

    Args:
        Q: denominators, any shape; the result has their dtype, at least float32.
        tau: τ ≥ 0, a number or a traced scalar, as are the next two.
        temperature: above 0, in the units of Q.
        target: in [0, 1].
        mode: only ``"under"``.

    Raises:
        UsageError: a number out of range, or another mode.
    """
    check_static("tau", tau)
    check_static("temperature", temperature, above=True)
    check_static("target", target, most=1.0)
    one_of("mode", mode, CoverageMode)
    (Q,) = alike(Q)
    magnitude = size(Q)
    tau, temperature = (jnp.asarray(x).astype(magnitude.dtype) for x in (tau, temperature))
    return _shortfall(jnp.mean(jax.nn.sigmoid((magnitude - tau) / temperature)), target)


def soft_rejection_loss(
    Q: Values,
    tau: Any,
    target_coverage: Any = 0.95,
    mask_finite: Mask | None = None,
    *,
    weights: Weights | None = None,
) -> Scalar:
    """How far the mean of |Q|/(|Q| + τ) is below a target, squared: it raises |Q| until outputs are accepted.

    Args:
        Q: denominators ``[B]`` or ``[B, K]``, real; the result has their dtype, at least float32.
        tau: τ ≥ 0, a number or a traced scalar.
        target_coverage: in [0, 1].
        mask_finite: whose coverage it is, of Q's shape, or ``[B, K]`` beside Q ``[B]``; so that poles, whose Q
            should be 0, are left alone. 0 where there are none. None: all entries, as published.
        weights: of each sample or entry, ≥ 0.

    Raises:
        UsageError: shapes that don't fit, or a number out of range.

    Examples:
        >>> soft_rejection_loss(jnp.array([1e-4, 1e-4]), 1e-4, 0.9)  # (0.9 - 0.5)²
        Array(0.16, dtype=float32)
    """
    check_static("tau", tau)
    check_static("target_coverage", target_coverage, most=1.0)
    (Q,) = alike(Q)
    mask = jnp.ones((), bool) if mask_finite is None else jnp.asarray(mask_finite)
    Q, mask = align(Q=Q, mask_finite=mask)
    Q = jnp.where(mask, Q, 0.0)
    magnitude = jnp.where(Q < 0.0, -Q, Q)  # not abs, whose slope at 0 is 0
    limits = jnp.finfo(magnitude.dtype)  # type: ignore[no-untyped-call]
    least = float(limits.tiny) ** 0.5  # the square of what is divided by may not underflow
    tau = jnp.maximum(jnp.asarray(tau).astype(magnitude.dtype), least)
    accepted = 1.0 - tau / (magnitude + tau)
    inside = within(mask, accepted, weights)
    short = _shortfall(mean(accepted, weights=inside), target_coverage)
    return jnp.where(jnp.sum(inside) > 0.0, short, 0.0)
