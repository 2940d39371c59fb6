"""Order 0+1: sampling that is exact along another estimator's gradient, and random across it.

With g_s the guide's gradient, u = g_s / ‖g_s‖, and K pairs of evaluations, one of them spent on the guide:

    a   = (L(θ + σu) - L(θ - σu)) / 2σ
    g_⊥ = mean over K - 1 of (L(θ + σξ) - L(θ - σξ)) / 2σ · ξ,     ξ = z - ⟨z, u⟩u,  z ~ N(0, I)
    g_0 = a u + g_⊥
    g   = (1 - mix) g_s + mix g_0

Maheswaranathan et al. 2019, "Guided evolutionary strategies: augmenting random search with surrogate gradients" (ICML,
arXiv:1806.10230), sample more along a guide than across it; here the guide is a stratum of its own, without variance.
At mix = 1 only the direction of g_s is used, never its length or sign. Along u the estimate is a central difference
and across it is unbiased for the loss smoothed there; the variance falls with the share of the gradient that lies
along u. Where g_s is 0, there is no guide, and K - 1 pairs sample all directions.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ..core import (
    AbstractEstimator,
    Contract,
    Controls,
    Estimate,
    LossFunction,
    Order,
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
    cosine,
    dot,
    evaluations_made,
    ratio,
    sum_chunks,
    total_evaluations,
    under,
    widen,
)
from ._probes import check_chunk_size, check_count, check_positive, random_direction, real_arrays, real_loss, scalar


class GuidedES(AbstractEstimator):
    """An evolution strategy that takes another estimator's gradient as its first direction.

    The complement of `Hybrid`: here the component along the guide is measured, not believed. Loss and metrics are the
    guide's. Diagnostics: ``first_norm``, ``zeroth_norm``, ``cosine``, ``guide_gain`` = a / ‖g_s‖ (1 where the guide has
    the right length, negative where it points uphill), ``blind`` = the share of coordinates on which g_s is exactly 0,
    ``signal_to_noise`` of g_0 by the scatter of its directions (with 3 pairs or more), and ``first/...``.

    Attributes:
        first: gives the guide; usually `Autodiff` through a surrogate.
        sigma: the step σ > 0 of all probes, a number or a `control`.
        pairs: antithetic pairs K, one along the guide. 1 is the calibrated form: the guide with its true slope, without
            sampling noise.
        mix: from 0, the guide's own gradient, to 1, the sampled one; a number or a `control`.
        chunk_size: at most so many random pairs at a time; None evaluates all together.

    Raises:
        UsageError: a number out of range, or a parameter that is not real.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import hardgrad as hg
        >>> guided = hg.GuidedES(hg.Autodiff(), sigma=0.1, pairs=1)
        >>> loss = lambda p: (jnp.sum(p**2), {})
        >>> params = jnp.array([3.0, 4.0])
        >>> found, _ = guided.estimate(loss, params, guided.init(params), controls={}, key=jax.random.key(0))
        >>> print([f"{g:.2f}" for g in found.gradient], f"{found.diagnostics['guide_gain']:.2f}")
        ['6.00', '8.00'] 1.00
    """

    first: AbstractEstimator
    sigma: Any = 1e-2
    pairs: int = eqx.field(static=True, default=16)
    mix: Any = 1.0
    chunk_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        check_estimator("first", self.first)
        check_positive("sigma", self.sigma)
        check_count("pairs", self.pairs)
        check_share("mix", self.mix, most=1.0)
        check_chunk_size(self.chunk_size)

    @property
    def contract(self) -> Contract:
        """The guide's cost, and 2K evaluations."""
        first = self.first.contract
        return Contract(
            first.order if first.order is Order.ZERO else Order.MIXED,
            needs_key=first.needs_key or self.pairs > 1,
            fixed_evaluations=first.fixed_evaluations + 2 * self.pairs,
            evaluations_per_parameter=first.evaluations_per_parameter,
            backward_passes=first.backward_passes,
            bias="O(sigma^2) with mix = 1 and two pairs or more; the guide's own with mix = 0",
        )

    def init(self, params: Params) -> Any:
        """The guide's state."""
        return self.first.init(params)

    def estimate(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Estimate, Any]:
        """The guide's estimate, then 2K evaluations."""
        params = real_arrays(params)
        found, state = self.first.estimate(loss_fn, params, state, controls=controls, key=named_key(key, "first"))
        sigma, value = scalar(self.sigma, controls, params), real_loss(loss_fn)
        first = widen(found.gradient)
        first_norm = global_norm(first)
        guide = jax.tree.map(lambda g: ratio(g, first_norm), first)

        def moved(direction: Params, side: Array) -> Params:
            return jax.tree.map(lambda p, d: p + (side * d).astype(p.dtype), params, direction)

        def slope(direction: Params) -> Any:
            up, down = jax.vmap(lambda side: value(moved(direction, side))[0])(jnp.stack([sigma, -sigma]))
            return (up - down).astype(sigma.dtype) / (2 * sigma)

        def across(key: Any) -> tuple[Params, Array]:
            direction = widen(random_direction(key, params, jax.random.normal))
            direction = add(direction, guide, -dot(direction, guide))
            height = slope(direction)
            part = jax.tree.map(lambda d: height * d, direction)
            return part, dot(part, part)

        along = slope(guide)
        zeroth = jax.tree.map(lambda u: along * u, guide)
        diagnostics = {}
        if self.pairs > 1:
            many = self.pairs - 1
            keys = jax.random.split(named_key(key, "across"), many)
            total, squares = sum_chunks(across, keys, self.chunk_size)
            zeroth = add(zeroth, total, 1.0 / many)
            if many > 1:
                noise = (squares - dot(total, total) / many) / (many * (many - 1))
                diagnostics["signal_to_noise"] = _signal_to_noise(dot(zeroth, zeroth), jnp.maximum(noise, 0.0))
        zeroth_norm = global_norm(zeroth)
        mix = jnp.asarray(resolve(self.mix, controls), first_norm.dtype)

        def mixed(own: Array, wide: Array, sampled: Array) -> Array:
            return jnp.where(mix == 0, own, (wide + mix * (sampled - wide)).astype(own.dtype))

        gradient = jax.tree.map(mixed, found.gradient, first, zeroth)
        diagnostics |= {
            "first_norm": first_norm,
            "zeroth_norm": zeroth_norm,
            "cosine": cosine(dot(first, zeroth), first_norm, zeroth_norm),
            "guide_gain": ratio(along, first_norm),
            "blind": blind_share(found.gradient),
            **under("first", found.diagnostics),
            **total_evaluations(evaluations_made(self.first, found.diagnostics, params), 2 * self.pairs),
        }
        return Estimate(found.loss, gradient, found.metrics, diagnostics), state


def _signal_to_noise(square: Array, noise: Array) -> Array:
    """√(‖E g‖² / E‖g - E g‖²), the numerator freed of the noise it contains; 0 where both vanish."""
    signal = jnp.maximum(square - noise, 0.0)
    return jnp.sqrt(jnp.where(signal == 0, 0.0, signal / noise))
