"""Order 0+1: one estimator's gradient, corrected by another's at right angles to it.

With g_s the first estimator's gradient, g_0 the second's, and ⟨·,·⟩ over all parameters together:

    ĝ_s    = g_s / ‖g_s‖
    g_orth = g_0 - ⟨g_0, ĝ_s⟩ ĝ_s
    λ      = fraction · ‖g_s‖ / ‖g_orth‖   (normalised)    or    fraction   (as it is)
    g      = g_s + λ g_orth

This is one step of Gram and Schmidt. The published system has 1e-8 added to both denominators; here a zero norm is
told apart instead, so that a loss in other units gives the same gradient in those units. Guided evolution strategies
(Maheswaranathan et al. 2019, arXiv:1806.10230) also join a surrogate with samples, but mix the two along the surrogate
as well; see `GuidedES`. What follows from the formula:

* The component along g_s is the first estimator's, wrong length and sign included.
* Normalised, ‖g‖ = √(1 + fraction²) ‖g_s‖. So every point at which the first estimator stands still is one at which
  the hybrid does, and where g_s is 0 everywhere nothing moves; as it is (``normalize=False``), g is then λ g_0.
* The correction pays where g_s is 0 on a part of the parameters and g_0 is not.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ..core import (
    AbstractEstimator,
    Contract,
    Controls,
    Estimate,
    LossFunction,
    Params,
    global_norm,
    named_key,
    resolve,
)
from ._combine import (
    add,
    blind_share,
    check_estimator,
    check_share,
    common_order,
    cosine,
    dot,
    evaluations_made,
    ratio,
    total_evaluations,
    under,
    widen,
)
from ._every import contribute
from ._probes import real_arrays

_DUST = 16  # a remainder of so many rounding errors of the whole is no direction


class Hybrid(AbstractEstimator):
    """The first estimator's gradient plus what the second finds across it.

    Loss and metrics are the first's. Diagnostics: ``first_norm``, ``zeroth_norm``, ``orthogonal_norm``, ``cosine`` of
    the two gradients, ``effective_fraction`` λ, ``correction_fraction`` = ‖λ g_orth‖ / ‖g_s‖, ``blind`` = the share
    of coordinates on which g_s is exactly 0, and what the two say of themselves as ``first/...`` and ``zeroth/...``.

    Attributes:
        first: gives the gradient that is corrected; usually `Autodiff` through a surrogate.
        zeroth: gives the correction, such as `AntitheticNES`. With `Every` it works at some steps only; with
            `WithObjective` it sees another objective.
        fraction: the correction's length, at least 0; a number or a `control`. 0 gives g_s to the bit.
        normalize: whether `fraction` is of ‖g_s‖, or multiplies g_orth as it is.

    Raises:
        UsageError: a fraction out of range, or a parameter that is not real.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import hardgrad as hg
        >>> seen = lambda p: (0.5 * (p["a"] - 1.0) ** 2 + jnp.abs(jnp.round(p["b"]) - 3.0), {})
        >>> params = {"a": jnp.array(2.0), "b": jnp.array(0.4)}
        >>> hybrid = hg.Hybrid(hg.Autodiff(), hg.AntitheticNES(sigma=1.0, pairs=64), fraction=0.3)
        >>> key = jax.random.key(0)
        >>> found, _ = hybrid.estimate(seen, params, hybrid.init(params), controls={}, key=key)
        >>> print(f"{found.gradient['a']:.2f} {found.gradient['b']:.2f} {found.diagnostics['blind']:.1f}")
        1.00 -0.30 0.5
    """

    first: AbstractEstimator
    zeroth: AbstractEstimator
    fraction: Any = 0.3
    normalize: bool = eqx.field(static=True, default=True, kw_only=True)

    def __check_init__(self) -> None:
        check_estimator("first", self.first)
        check_estimator("zeroth", self.zeroth)
        check_share("fraction", self.fraction)

    @property
    def contract(self) -> Contract:
        """Both estimators' costs."""
        first, zeroth = self.first.contract, self.zeroth.contract
        return Contract(
            common_order((self.first, self.zeroth)),
            needs_key=first.needs_key or zeroth.needs_key,
            fixed_evaluations=first.fixed_evaluations + zeroth.fixed_evaluations,
            evaluations_per_parameter=first.evaluations_per_parameter + zeroth.evaluations_per_parameter,
            backward_passes=first.backward_passes + zeroth.backward_passes,
            bias=f"along the first's gradient that of the first ({first.bias}); across it, a fraction of the second's",
        )

    def init(self, params: Params) -> Any:
        """The states of both."""
        return self.first.init(params), self.zeroth.init(params)

    def estimate(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Estimate, Any]:
        """Both estimates, and their sum at right angles."""
        params = real_arrays(params)
        found, first_state = self.first.estimate(
            loss_fn, params, state[0], controls=controls, key=named_key(key, "first")
        )
        other, said, made, zeroth_state = contribute(
            self.zeroth, loss_fn, params, state[1], controls=controls, key=named_key(key, "zeroth")
        )
        first, zeroth = widen(found.gradient), widen(other)
        first_norm, zeroth_norm = global_norm(first), global_norm(zeroth)
        guide = jax.tree.map(lambda g: ratio(g, first_norm), first)
        # Twice: what the first pass leaves along the guide by rounding, the second takes.
        orthogonal = add(zeroth, guide, -dot(zeroth, guide))
        orthogonal = add(orthogonal, guide, -dot(orthogonal, guide))
        orthogonal_norm = global_norm(orthogonal)

        fraction = jnp.asarray(resolve(self.fraction, controls), first_norm.dtype)
        scale = fraction * ratio(first_norm, orthogonal_norm) if self.normalize else fraction
        # Normalising would blow what rounding leaves, in one dimension for one, up to full length.
        dust = orthogonal_norm <= _DUST * float(np.finfo(first_norm.dtype).eps) * zeroth_norm
        scale = jnp.where(dust, jnp.zeros_like(scale), scale)

        def corrected(own: Array, wide: Array, across: Array) -> Array:
            return jnp.where(fraction == 0, own, (wide + scale * across).astype(own.dtype))

        gradient = jax.tree.map(corrected, found.gradient, first, orthogonal)
        diagnostics = {
            "first_norm": first_norm,
            "zeroth_norm": zeroth_norm,
            "orthogonal_norm": orthogonal_norm,
            "cosine": cosine(dot(first, zeroth), first_norm, zeroth_norm),
            "effective_fraction": scale,
            "correction_fraction": ratio(scale * orthogonal_norm, first_norm),
            "blind": blind_share(found.gradient),
            **under("first", found.diagnostics),
            **under("zeroth", said),
            **total_evaluations(evaluations_made(self.first, found.diagnostics, params), made),
        }
        return Estimate(found.loss, gradient, found.metrics, diagnostics), (first_state, zeroth_state)
