"""A rational function applied to every element: y = P(x)/Q(x), or ⊥.

    P = Σ_k n_k b_k(x),   Q = Σ_k d_k b_k(x)

⊥ where x, a basis function, P or Q is not finite, where Q = 0 or |Q| < ε, and where the quotient or one of its
derivatives, 1/Q and P/Q², leaves the range of the dtype.

Source: the published SCM layer. It has |Q| ≤ ε where its own strict decoding has |Q| < τ; here both are strict.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from ...core import UsageError, whole_number
from .._policies import GradientPolicy, with_policy
from ._bases import AbstractBasis, Basis, as_basis, small_coefficients, weighted_sum


@jax.custom_jvp
def _quotient(numerator: Array, denominator: Array) -> Array:
    """P/Q. JAX's own derivative has P·Q⁻², which is 0·∞ where Q² underflows and P is 0."""
    return numerator / denominator


@_quotient.defjvp
def _quotient_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    (numerator, denominator), (d_numerator, d_denominator) = primals, tangents
    value = _quotient(numerator, denominator)
    return value, d_numerator / denominator - d_denominator * _slope(value, denominator)


def _slope(value: Array, denominator: Array) -> Array:
    """(P/Q)/Q by the reciprocal: the compiler turns two divisions into one by Q²."""
    return value * (1 / denominator)


def _divide(numerator: Array, denominator: Array, bottom: Array, epsilon: float) -> tuple[Array, Array]:
    """``(P/Q, ⊥)``, with 0 and zero gradients at ⊥, which `bottom` is part of."""
    bottom = bottom | ~(jnp.isfinite(numerator) & jnp.isfinite(denominator))
    bottom = bottom | (denominator == 0) | (jnp.abs(denominator) < epsilon)

    def safe(bottom: Array) -> tuple[Array, Array]:
        return jnp.where(bottom, 0, numerator), jnp.where(bottom, 1, denominator)

    P, Q = jax.lax.stop_gradient(safe(bottom))
    value = P / Q
    bottom = bottom | ~(jnp.isfinite(value) & jnp.isfinite(_slope(value, Q)) & jnp.isfinite(1 / Q))
    return _quotient(*safe(bottom)), bottom


class RationalLayer(eqx.Module):
    """x → (y, ⊥), element by element, for x of any shape; the same rational function for all of them.

    The output is 0 at ⊥ and no gradient passes there, whatever arrives. Elsewhere the gradient policy acts on the
    gradient that arrives: the layer's own, else that of the context, else the default of ``"scm_rational"``
    (PROJECT, as published).

    Attributes:
        numerator: n_k, ``[numerator_degree + 1]``; drawn from a normal of deviation 0.01.
        denominator: d_k, ``[denominator_degree + 1]``; at first 1, 0, 0, …, so that Q = 1 in the usual bases.
        basis: the functions b_k.
        policy: the layer's own gradient policy, or None.
        singular_epsilon: ε, finite and at least 0.

    Raises:
        UsageError: a degree is no whole number of at least 0, ε is negative or not finite, the basis is none, or x
            is complex.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import equinox as eqx
        >>> from hardgrad.rational import RationalLayer
        >>> layer = RationalLayer(0, 1, key=jax.random.key(0))
        >>> coefficients = (jnp.array([1.0]), jnp.array([0.0, 1.0]))
        >>> layer = eqx.tree_at(lambda m: (m.numerator, m.denominator), layer, coefficients)
        >>> layer(jnp.array([2.0, 0.0, -4.0]))  # 1/x
        (Array([ 0.5 ,  0.  , -0.25], dtype=float32), Array([False,  True, False], dtype=bool))
    """

    numerator: Float[Array, " numerator"]
    denominator: Float[Array, " denominator"]
    basis: AbstractBasis
    policy: GradientPolicy | None = eqx.field(static=True)
    singular_epsilon: float = eqx.field(static=True)

    def __init__(
        self,
        numerator_degree: int,
        denominator_degree: int,
        *,
        basis: Basis = "monomial",
        policy: GradientPolicy | None = None,
        singular_epsilon: float = 1e-6,
        key: Key[Array, ""],
        dtype: Any = None,
    ):
        numerator_degree = whole_number("numerator_degree", numerator_degree, least=0)
        denominator_degree = whole_number("denominator_degree", denominator_degree, least=0)
        if not (math.isfinite(singular_epsilon) and singular_epsilon >= 0):
            raise UsageError(f"singular_epsilon must be finite and at least 0; got {singular_epsilon!r}.")
        self.numerator = small_coefficients(key, (numerator_degree + 1,), dtype)
        self.denominator = jnp.array([1.0] + [0.0] * denominator_degree, self.numerator.dtype)
        self.basis = as_basis(basis, max(numerator_degree, denominator_degree))
        self.policy = policy
        self.singular_epsilon = float(singular_epsilon)

    def __call__(self, x: Array | np.ndarray) -> tuple[Float[Array, "*shape"], Bool[Array, "*shape"]]:
        """``(y, bottom)``: values in the parameters' dtype, 0 at ⊥, and where ⊥ is.

        Args:
            x: real, any shape; NaN and ±∞ are ⊥.
        """
        if jnp.iscomplexobj(x):
            raise UsageError("a RationalLayer takes real numbers; x is complex.")
        x = jnp.asarray(x).astype(self.numerator.dtype)
        degree = max(self.numerator.size, self.denominator.size) - 1
        bottom = ~jnp.isfinite(x)
        # The basis is evaluated twice, fused: its derivative must never be taken where it isn't finite.
        probe = self.basis.columns(jnp.where(bottom, self.basis.regular_point, jax.lax.stop_gradient(x)), degree)
        for column in probe:
            bottom = bottom | ~jnp.isfinite(column)
        columns = self.basis.columns(jnp.where(bottom, self.basis.regular_point, x), degree)
        P = weighted_sum(self.numerator, columns[: self.numerator.size])
        Q = weighted_sum(self.denominator, columns[: self.denominator.size])
        y, bottom = _divide(P, Q, bottom, self.singular_epsilon)
        return with_policy(y, bottom, self.policy, layer="scm_rational"), bottom
