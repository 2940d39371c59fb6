"""Heads: what turns features into a tuple (P, Q).

    rational   P_o = Σ_k n_ok b_k(z_o),   Q = a + δ  or  a + softplus(δ) + q_min,   δ = Σ_k d_k b_k(z_den)
    angular    θ = s (W x + b),   P = cos θ,   Q = sin θ

with a = 1 (anchored) or 0. All outputs of the rational head share one Q: where it is 0, all are ⊥. With the softplus
floor Q never falls below a + q_min; a head whose floor reaches the threshold can't answer ⊥ at all.

Source: the published projective heads, whose rational one repeats Q for each output.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from ...core import UsageError, did_you_mean, whole_number
from .._algebra._projective import Projective
from ._bases import AbstractBasis, Basis, as_basis, small_coefficients, weighted_sum

Anchor = Literal["ones", "none"]
DenominatorForm = Literal["none", "softplus"]
BottomCapability = Literal["reachable", "unreachable_by_construction"]


@runtime_checkable
class HasBottomCapability(Protocol):
    """A module that knows whether it can answer ⊥."""

    def bottom_capability(self, tau: float) -> BottomCapability:
        """Whether |Q| < tau can happen."""
        ...


def bottom_capability(model: PyTree, tau: float) -> BottomCapability:
    """Whether a model can answer ⊥ at the threshold `tau`.

    A model, or any module inside it, says so by a method ``bottom_capability(tau)``; the outermost speaks for what it
    holds. A model without one is taken to be able to.
    """
    asked = jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, HasBottomCapability))
    answers = [node.bottom_capability(tau) for node in asked if isinstance(node, HasBottomCapability)]
    return "unreachable_by_construction" if "unreachable_by_construction" in answers else "reachable"


def check_bottom_capability(model: PyTree, tau: float) -> None:
    """Refuse a model that can't answer ⊥ at the threshold `tau`; ask before training it on labels that are ⊥.

    Raises:
        UsageError: by construction its |Q| never falls below `tau`.

    Examples:
        >>> import jax
        >>> from hardgrad.rational import ProjectiveRationalMultiHead, check_bottom_capability
        >>> head = ProjectiveRationalMultiHead(1, 3, 2, q_param="softplus", key=jax.random.key(0))
        >>> check_bottom_capability({"head": head}, 1e-6)
        Traceback (most recent call last):
        ...
        hardgrad.core._errors.UsageError: this model can't answer ⊥: by construction |Q| stays at or above tau=1e-06...
    """
    if bottom_capability(model, tau) == "unreachable_by_construction":
        raise UsageError(
            f"this model can't answer ⊥: by construction |Q| stays at or above tau={tau:g}. Use q_param='none', "
            "or q_anchor='none' with a q_min below tau."
        )


class ProjectiveRationalMultiHead(eqx.Module):
    """Several rational functions with one denominator.

    Called as ``head(z_numerator, z_denominator)`` with ``[..., output_dim]`` and ``[...]`` (or ``[..., 1]``); returns a
    `Projective` of P ``[..., output_dim]`` and Q ``[...]``, in the parameters' dtype.

    Attributes:
        numerator: n_ok, ``[output_dim, numerator_degree + 1]``; drawn from a normal of deviation 0.01.
        denominator: d_k, ``[denominator_degree + 1]``; likewise.
        basis: the functions b_k.
        q_anchor: ``"ones"`` adds 1 to Q, so that training starts far from ⊥; ``"none"``.
        q_param: ``"softplus"`` keeps δ positive and adds q_min; ``"none"`` leaves it, and q_min is not used.
        q_min: floor under the softplus, finite and at least 0.

    Raises:
        UsageError: a number or a name out of range, or features whose shapes don't fit.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hardgrad.rational import ProjectiveRationalMultiHead
        >>> head = ProjectiveRationalMultiHead(2, 3, 2, key=jax.random.key(0))
        >>> P, Q = head(jnp.zeros((5, 2)), jnp.zeros(5))
        >>> P.shape, Q.shape, head.bottom_capability(1e-6)
        ((5, 2), (5,), 'reachable')
    """

    numerator: Float[Array, "output numerator"]
    denominator: Float[Array, " denominator"]
    basis: AbstractBasis
    q_anchor: Anchor = eqx.field(static=True)
    q_param: DenominatorForm = eqx.field(static=True)
    q_min: float = eqx.field(static=True)

    def __init__(
        self,
        output_dim: int,
        numerator_degree: int,
        denominator_degree: int,
        *,
        basis: Basis = "monomial",
        q_anchor: str = "ones",
        q_param: str = "none",
        q_min: float = 0.0,
        key: Key[Array, ""],
        dtype: Any = None,
    ):
        output_dim = whole_number("output_dim", output_dim, least=1)
        numerator_degree = whole_number("numerator_degree", numerator_degree, least=0)
        denominator_degree = whole_number("denominator_degree", denominator_degree, least=0)
        if not (math.isfinite(q_min) and q_min >= 0):
            raise UsageError(f"q_min must be finite and at least 0; got {q_min!r}.")
        of_numerator, of_denominator = jax.random.split(key)
        self.numerator = small_coefficients(of_numerator, (output_dim, numerator_degree + 1), dtype)
        self.denominator = small_coefficients(of_denominator, (denominator_degree + 1,), dtype)
        self.basis = as_basis(basis, max(numerator_degree, denominator_degree))
        self.q_anchor = _choice("q_anchor", q_anchor, Anchor)
        self.q_param = _choice("q_param", q_param, DenominatorForm)
        self.q_min = float(q_min)

    def __call__(self, z_numerator: Array | np.ndarray, z_denominator: Array | np.ndarray) -> Projective:
        """P and Q from a feature an output, and one for the denominator they share."""
        dtype, outputs = self.numerator.dtype, self.numerator.shape[0]
        z_numerator, z_denominator = (jnp.asarray(z).astype(dtype) for z in (z_numerator, z_denominator))
        if z_denominator.ndim == z_numerator.ndim and z_denominator.shape[-1:] == (1,):
            z_denominator = z_denominator[..., 0]
        if z_numerator.shape != (*z_denominator.shape, outputs):
            raise UsageError(
                f"features must be [..., {outputs}] and [...] or [..., 1]; "
                f"got {z_numerator.shape} and {z_denominator.shape}."
            )
        P = weighted_sum(self.numerator, self.basis.columns(z_numerator, self.numerator.shape[1] - 1))
        Q = weighted_sum(self.denominator, self.basis.columns(z_denominator, self.denominator.size - 1))
        if self.q_param == "softplus":
            Q = jax.nn.softplus(Q) + self.q_min
        return Projective(P, Q + 1 if self.q_anchor == "ones" else Q)

    def bottom_capability(self, tau: float) -> BottomCapability:
        """``"unreachable_by_construction"`` where Q has a floor that is not below `tau`, else ``"reachable"``."""
        floor = self.q_min + (1.0 if self.q_anchor == "ones" else 0.0)
        return "unreachable_by_construction" if self.q_param == "softplus" and floor >= tau else "reachable"


class AngularProjectiveHead(eqx.Module):
    """A tuple on the unit circle, by its angle: P = cos θ, Q = sin θ. It can't collapse to (0, 0).

    Attributes:
        linear: from features ``[..., in_size]`` to the unscaled angle ``[..., out_size]``.
        theta_scale: factor of the angle, finite.

    Raises:
        UsageError: a size is no whole number of at least 1, or theta_scale is not finite.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hardgrad.rational import AngularProjectiveHead
        >>> P, Q = AngularProjectiveHead(4, 2, key=jax.random.key(0))(jnp.ones((5, 4)))
        >>> bool(jnp.allclose(P**2 + Q**2, 1.0))
        True
    """

    linear: eqx.nn.Linear
    theta_scale: float = eqx.field(static=True)

    def __init__(
        self, in_size: int, out_size: int = 1, *, theta_scale: float = 1.0, key: Key[Array, ""], dtype: Any = None
    ):
        in_size = whole_number("in_size", in_size, least=1)
        out_size = whole_number("out_size", out_size, least=1)
        if not math.isfinite(theta_scale):
            raise UsageError(f"theta_scale must be finite; got {theta_scale!r}.")
        self.linear = eqx.nn.Linear(in_size, out_size, dtype=dtype, key=key)
        self.theta_scale = float(theta_scale)

    def theta(self, features: Array | np.ndarray) -> Float[Array, "*batch output"]:
        """The angle before it is scaled, ``[..., out_size]``, for losses on angles."""
        return dense(self.linear, features)

    def __call__(self, features: Array | np.ndarray) -> Projective:
        """P and Q, both ``[..., out_size]``."""
        angle = self.theta_scale * self.theta(features)
        return Projective(jnp.cos(angle), jnp.sin(angle))


def dense(linear: eqx.nn.Linear, x: Array | np.ndarray) -> Array:
    """W x + b for whole batches ``[..., in]``, in the parameters' dtype; the weight is contracted where it lies.

    Raises:
        UsageError: x has another number of features.
    """
    weight, bias = linear.weight, linear.bias
    x = jnp.asarray(x).astype(weight.dtype)
    if x.shape[-1:] != weight.shape[1:]:
        raise UsageError(f"this model takes inputs [..., {weight.shape[1]}]; got shape {x.shape}.")
    product = jax.lax.dot_general(x, weight, (((x.ndim - 1,), (1,)), ((), ())))
    return product if bias is None else product + bias


def _choice(name: str, given: str, known: Any) -> Any:
    if given not in get_args(known):
        raise UsageError(f"{name} is not {given!r}. {did_you_mean(str(given), get_args(known))}")
    return given
