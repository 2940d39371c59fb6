"""Orientation of poles: +∞ and -∞ are one point to P/Q, but not one label.

With θ the angle between (P, Q) and the label (Y_n, Y_d), seen as vectors, a pole costs

    "angle"        θ²/2                                 rotates the tuple to the label, however far it is
    "projection"   (1 - cos θ)²/2, |(P, Q)| detached    pulls P through 0 to the side of the label
    "cosine"       1 - cos θ                            as published

averaged over all entries, poles or not. "angle" and "cosine" agree to second order near the label. Opposite to it the
gradient of "cosine" vanishes, as 1 - cos θ has its top there: whole runs end with every pole on the wrong
side. That of "angle" is π/|(P, Q)| and that of "projection" 2/|(P, Q)|.

Source of "cosine": the published system.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ...core import UsageError, one_of
from .._shapes import align, alike
from ._losses import Mask, Scalar, Values, Weights, check_static, mean, to_size, tuple_norm

Orientation = Literal["angle", "projection", "cosine"]
DEFAULT_ORIENTATION: Orientation = "projection"
"""The form that losses take unless told otherwise."""


def sign_consistency_loss(
    P: Values,
    Q: Values,
    Y_n: Values,
    Y_d: Values,
    gamma: Any = 1e-9,
    mask_singular: Mask | None = None,
    epsilon_sing: Any = 1e-3,
    *,
    form: Orientation = DEFAULT_ORIENTATION,
    weights: Weights | None = None,
) -> Scalar:
    """How far tuples point away from the poles they are labelled with.

    Only entries in the mask count and pass a gradient; the mean is over all entries. Scaling (P, Q) up or down
    changes nothing as long as γ is small beside its square.

    Args:
        P: numerators ``[B]`` or ``[B, K]``, real, or complex unless `form` is ``"angle"``; the result has their
            real dtype, at least float32.
        Q: denominators, of P's shape or ``[B]``.
        Y_n: numerators of the labels, of P's shape.
        Y_d: denominators of the labels, of P's shape.
        gamma: γ ≥ 0, added to |(P, Q)|²: it bounds the gradient near P = Q = 0. A number or a traced scalar.
        mask_singular: which entries are poles with a known side. None takes |Y_d| ≤ `epsilon_sing`, and so
            counts ⊥ without a side, lifted to (1, 0), for +∞: mask by ``Targets.orientation != 0`` instead.
        epsilon_sing: see `mask_singular`.
        form: which of the three above.
        weights: of each sample or entry, ≥ 0.

    Raises:
        UsageError: shapes that don't fit, an unknown form, a number out of range, or the angle of complex
            tuples.

    Examples:
        >>> P, Q, Y_n, Y_d = (jnp.array([x]) for x in (-1.0, 1e-3, 1.0, 0.0))  # all but opposite
        >>> for form in ("cosine", "angle", "projection"):
        ...     in_P, in_Q = jax.grad(sign_consistency_loss, (0, 1))(P, Q, Y_n, Y_d, form=form)
        ...     print(f"{form:10} {in_P[0]:7.4f} {in_Q[0]:7.4f}")
        cosine     -0.0000 -0.0010
        angle      -0.0031 -3.1406
        projection -2.0000 -0.0000
    """
    one_of("form", form, Orientation)
    check_static("gamma", gamma)
    check_static("epsilon_sing", epsilon_sing)
    P, Q, Y_n, Y_d = alike(P, Q, Y_n, Y_d)
    P, Q, Y_n, Y_d = align(P=P, Q=Q, Y_n=Y_n, Y_d=Y_d)
    real = jnp.abs(P).dtype
    if mask_singular is None:
        mask = jnp.abs(Y_d) <= jnp.asarray(epsilon_sing).astype(real)
    else:
        mask = jnp.asarray(mask_singular)
    P, Q, Y_n, Y_d, mask = align(P=P, Q=Q, Y_n=Y_n, Y_d=Y_d, mask_singular=mask)
    P, Q, Y_n, Y_d = (jnp.where(mask, array, 1.0) for array in (P, Q, Y_n, Y_d))
    root_gamma = jnp.sqrt(jnp.asarray(gamma).astype(real))
    if form == "angle":
        return mean(_angle(P, Q, Y_n, Y_d, root_gamma), mask, weights)
    P, Q, of_outputs, _ = to_size(P, Q, root_gamma)
    Y_n, Y_d, of_labels, _ = to_size(Y_n, Y_d, root_gamma)
    output_norm, label_norm = tuple_norm(P, Q, of_outputs), tuple_norm(Y_n, Y_d, of_labels)
    if form == "projection":
        cosine = _dot(P, Q, Y_n, Y_d) / (jax.lax.stop_gradient(output_norm) * label_norm)
        return mean(jnp.square(1.0 - cosine) / 2.0, mask, weights)
    cosine = _dot(P, Q, Y_n, Y_d) / (output_norm * label_norm)
    if not jnp.iscomplexobj(P):  # cut to [-1, 1]; unlike jnp.clip with the whole gradient at its ends
        cosine = jnp.where(cosine > 1.0, 1.0, jnp.where(cosine < -1.0, -1.0, cosine))
    return mean(1.0 - cosine, mask, weights)


def _dot(P: Array, Q: Array, Y_n: Array, Y_d: Array) -> Array:
    return jnp.real(P * jnp.conj(Y_n) + Q * jnp.conj(Y_d))


def _angle(P: Array, Q: Array, Y_n: Array, Y_d: Array, root_gamma: Array) -> Array:
    """θ²/2, its gradient damped by r²/(r² + γ); at r = 0, where there is no angle, that of a right one."""
    if jnp.iscomplexobj(P):
        raise UsageError("complex tuples have no angle with a sense: use form='projection', or 'cosine' as published.")
    nothing = jnp.zeros((), P.dtype)
    P, Q, _, exponent = to_size(P, Q, nothing)
    Y_n, Y_d, *_ = to_size(Y_n, Y_d, nothing)
    cross, dot = P * Y_d - Q * Y_n, _dot(P, Q, Y_n, Y_d)
    there = jnp.maximum(jnp.abs(cross), jnp.abs(dot)) > 0.0
    # atan2 jumps from π to -π between the zeros 0.0 and -0.0, which are one place: adding 0.0 leaves the first.
    theta = jnp.arctan2(jnp.where(there, cross, 1.0) + 0.0, jnp.where(there, dot, 0.0))
    half_square = jnp.square(theta) / 2.0
    radius = jnp.square(P) + jnp.square(Q)
    share = radius / (jnp.where(there, radius, 1.0) + jnp.square(jnp.ldexp(root_gamma, -exponent)))
    share = jax.lax.stop_gradient(share)
    return half_square * share + jax.lax.stop_gradient(half_square * (1.0 - share))
