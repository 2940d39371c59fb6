"""Projective tuples (P, Q): they stand for P/Q, and Q = 0 stands for ⊥. (cP, cQ) stands for the same as (P, Q).

    renormalise    (P, Q) / (s + γ),  s = sqrt(|P|² + |Q|²), by default a constant to the gradient

P may have an axis more than Q, [B, K] beside [B]: K values with one denominator. Then a row (P_1 … P_K, Q) is one
tuple, and its norm is taken over all K + 1 numbers.

All squares are of numbers that were divided by a power of two near the largest of the tuple: nothing under- or
overflows (1e±200 in float64, 1e±30 in float32), and where nothing would have, the division changes no digit.
The published functions square as they are.
"""

from __future__ import annotations

import enum
import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ...core import UsageError, did_you_mean
from . import _array, _value
from ._array import SCMArray
from ._scaling import inverse_power_of_two, magnitude, squared
from ._value import SCMValue


class Projective(NamedTuple):
    """A tuple (P, Q), or arrays of them.

    Attributes:
        numerator: P.
        denominator: Q, of P's shape or without its last axis.
    """

    numerator: Any
    denominator: Any


class GaugePolicy(enum.Enum):
    """Which of all (cP, cQ) that stand for one value is used."""

    CANONICAL_DENOMINATOR = "canonical_denominator"
    UNIT_L2_PROJECTIVE = "unit_l2_projective"
    ANGULAR_UNIT_CIRCLE = "angular_unit_circle"


def encode(v: object) -> Projective:
    """Values as tuples: (v, 1), and (1, 0) for ⊥.

    Args:
        v: a number or `SCMValue`, giving Python numbers; or an array or `SCMArray`, giving arrays, in which
            what is not finite is ⊥.

    Raises:
        UsageError: not numbers, or a single number that is not finite.

    Examples:
        >>> encode(SCMArray(jnp.array([3.0, jnp.inf])))
        Projective(numerator=Array([3., 1.], dtype=float32), denominator=Array([1., 0.], dtype=float32))
    """
    if not _array.is_array(v):
        value = _value.as_value(v)
        return Projective(1.0, 0.0) if value.is_bottom else Projective(value.payload, 1.0)
    payload, bottom = _array.as_array(v)
    return Projective(jnp.where(bottom, 1, payload), (~bottom).astype(payload.dtype))


def decode(P: object, Q: object) -> SCMValue | SCMArray:
    """The values tuples stand for: P/Q as `scm_div` divides, ⊥ where Q = 0.

    No threshold is applied: a deployed model decides with `strict_inference`.

    Args:
        P: numerators: a number, or an array of any shape.
        Q: denominators: a number, or an array of P's shape or without its last axis.

    Returns:
        An `SCMArray` of P's shape if either is an array, else an `SCMValue`.

    Raises:
        UsageError: not numbers, or shapes that don't fit.
        MeadowOverflowError: the quotient of two single numbers is too large for a float.

    Examples:
        >>> decode(3, 2), decode(*encode(SCMValue(None, is_bottom=True)))
        (SCMValue(1.5), SCMValue(⊥))
    """
    if not (_array.is_array(P) or _array.is_array(Q)):
        return _value.divide(P, Q)
    p, q = _tuples(P, Q)
    return _array.divide(p, _beside(p, q))


def renormalize(P: object, Q: object, gamma: float | int = 1e-9, *, stop_gradient: bool = True) -> Projective:
    """The same tuples with a norm of nearly 1: (P, Q)/(s + γ).

    With a constant scale the gradient is that of the result divided by s + γ. A zero tuple stays zero; with
    γ = 0 its gradient is 0 too (the published function gives NaN there). The derivative of the norm of a zero
    tuple is taken as 0.

    Args:
        P: numerators of any shape; NumPy arrays become JAX arrays.
        Q: denominators of P's shape, or without its last axis.
        gamma: γ, at least 0. A tuple shorter than γ stays short.
        stop_gradient: treat s as a constant; otherwise the gradient flows through the norm.

    Returns:
        Arrays of the shapes given. A tuple that is not finite gives NaN or 0.

    Raises:
        UsageError: shapes that don't fit, not numbers, or a negative or infinite gamma.

    Examples:
        >>> renormalize(jnp.array([3e30]), jnp.array([4e30]))
        Projective(numerator=Array([0.6], dtype=float32), denominator=Array([0.8], dtype=float32))
    """
    p, q, scale = _scaled(*_tuples(P, Q))
    length = _norm(p, q)
    if not isinstance(stop_gradient, bool):
        raise UsageError(
            f"stop_gradient must be True or False, got {stop_gradient!r}: False lets the gradient through."
        )
    if stop_gradient:
        length = jax.lax.stop_gradient(length)
    length = length + _checked_gamma(gamma) * scale
    zero = length == 0
    length = jnp.where(zero, 1, length).astype(q.dtype)
    return Projective(jnp.where(_beside(p, zero), 0, p / _beside(p, length)), jnp.where(zero, 0, q / length))


class ProjectiveNormalize(eqx.Module):
    """Brings tuples to the gauge of a policy; the gradient flows through the norm.

    ``canonical_denominator`` leaves them as they come. ``unit_l2_projective`` and ``angular_unit_circle``, two
    names of one formula, divide by s + γ; a zero tuple stays zero.

    Attributes:
        policy: a `GaugePolicy`, or its name.
        gamma: γ, at least 0.
    """

    policy: GaugePolicy = eqx.field(static=True)
    gamma: float | int = eqx.field(static=True)

    def __init__(self, policy: GaugePolicy | str = GaugePolicy.CANONICAL_DENOMINATOR, gamma: float | int = 0.0) -> None:
        """Choose a gauge.

        Raises:
            UsageError: an unknown policy, or a negative or infinite gamma.
        """
        names = [known.value for known in GaugePolicy]
        if isinstance(policy, str) and policy not in names:
            raise UsageError(f"no gauge policy is called {policy!r}. {did_you_mean(policy, names)}")
        self.policy = GaugePolicy(policy)
        self.gamma = _checked_gamma(gamma)

    def __call__(self, P: object, Q: object) -> Projective:
        """Tuples in the chosen gauge; arguments as of `renormalize`."""
        if self.policy is GaugePolicy.CANONICAL_DENOMINATOR:
            return Projective(*_tuples(P, Q))
        return renormalize(P, Q, self.gamma, stop_gradient=False)


def projectively_equal(
    a: tuple[Any, Any], b: tuple[Any, Any], *, rtol: float | int | None = None, atol: float | int | None = None
) -> Bool[Array, ...]:
    """Whether tuples stand for the same value, whatever their scale.

    They do if the sine of the angle between them is at most `rtol`. So (1, 0) and (-1, 0) are equal; a zero
    tuple stands for nothing and equals only a zero tuple; one that is not finite equals none.

    Args:
        a: (P, Q), numbers or arrays.
        b: (P, Q), of the same shapes.
        rtol: largest sine; by default the square root of the dtype's precision, 1.5e-8 in float64.
        atol: compare by the published rule instead, |P_a Q_b - P_b Q_a| ≤ atol, which depends on the scale.

    Returns:
        One truth a tuple, of the shape of Q.

    Raises:
        UsageError: shapes that don't fit, not numbers, or both tolerances given.

    Examples:
        >>> bool(projectively_equal((1e-20, 2e-20), (2.0, 4.0))), bool(projectively_equal((1.0, 2.0), (1.0, 2.1)))
        (True, False)
    """
    first, second = _tuples(*a), _tuples(*b)
    if first[0].shape != second[0].shape or first[1].shape != second[1].shape:
        shapes = [tuple(part.shape for part in sample) for sample in (first, second)]
        raise UsageError(f"tuples to compare must have the same shapes; these have {shapes[0]} and {shapes[1]}.")
    if atol is not None:
        if rtol is not None:
            raise UsageError("give rtol or atol, not both.")
        (p_a, q_a), (p_b, q_b) = first, second
        far = jnp.abs(p_a * _beside(p_a, q_b) - p_b * _beside(p_b, q_a)) > atol
        return ~(jnp.any(far, axis=-1) if p_a.ndim > q_a.ndim else far)
    (p_a, q_a), (p_b, q_b) = (renormalize(*sample, 0.0) for sample in (first, second))
    cosine = _over_tuple(p_a * jnp.conj(p_b), q_a * jnp.conj(q_b))
    sine = _norm(p_a - _beside(p_a, cosine) * p_b, q_a - cosine * q_b)
    precision = jnp.finfo(sine.dtype).eps  # type: ignore[no-untyped-call]
    limit = math.sqrt(precision) if rtol is None else rtol
    return (sine <= limit) & ((_norm(p_a, q_a) == 0) == (_norm(p_b, q_b) == 0))


def _tuples(P: object, Q: object) -> tuple[Array, Array]:
    """(P, Q) as arrays of one dtype whose shapes fit."""
    p, q = _array.as_inexact(P), _array.as_inexact(Q)
    if q.shape != p.shape and not (p.ndim == q.ndim + 1 and q.shape == p.shape[:-1]):
        raise UsageError(
            f"Q must have the shape of P, or lack its last axis (a shared denominator); "
            f"P has {p.shape} and Q has {q.shape}."
        )
    dtype = jnp.result_type(p, q)
    return p.astype(dtype), q.astype(dtype)


def _beside(p: Array, shared: Array) -> Array:
    """What belongs to a tuple, in a form that broadcasts with its numerators."""
    return shared[..., None] if p.ndim > shared.ndim else shared


def _over_tuple(p: Array, q: Array) -> Array:
    """The sum over the numbers of each tuple."""
    return q + (jnp.sum(p, axis=-1) if p.ndim > q.ndim else p)


def _scaled(p: Array, q: Array) -> tuple[Array, Array, Array]:
    """Tuples times a power of two that brings their largest number near 1, and that power."""
    of_p, of_q = magnitude(p), magnitude(q)
    largest = jnp.maximum(jnp.max(of_p, axis=-1, initial=0) if p.ndim > q.ndim else of_p, of_q)
    scale = inverse_power_of_two(largest)
    factor = scale.astype(q.dtype)
    return p * _beside(p, factor), q * factor, scale


def _norm(p: Array, q: Array) -> Array:
    """sqrt(|P|² + |Q|²), with derivative 0 at 0."""
    squares = _over_tuple(squared(p), squared(q))
    zero = squares == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squares)))


def _checked_gamma(gamma: float | int) -> float:
    if not (math.isfinite(gamma) and gamma >= 0):
        raise UsageError(f"gamma must be finite and at least 0, not {gamma}.")
    return float(gamma)
