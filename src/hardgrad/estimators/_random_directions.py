"""Order 0 with random directions: the cost does not grow with the number of parameters.

SPSA (Spall 1992, "Multivariate stochastic approximation using a simultaneous perturbation gradient
approximation", IEEE TAC 37(3), eq. 2.2), with m independent directions Δ of signs ±1:

    g = mean_i  (L(θ + ε Δ_i) - L(θ - ε Δ_i)) / (2 ε) · Δ_i

Antithetic natural evolution strategy (Wierstra et al. 2014, "Natural Evolution Strategies", JMLR 15;
Salimans et al. 2017, arXiv:1703.03864, section 2.1), the gradient of the loss smoothed by N(0, σ² I):

    g = mean_i  (L(θ + σ z_i) - L(θ - σ z_i)) / (2 σ) · z_i,      z_i ~ N(0, I)

Both are unbiased for their own smoothed loss; the variance of one direction is about n |g|².
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..core import AbstractEstimator, Contract, Controls, Estimate, LossFunction, Order, Params
from ._combine import dot, signal_to_noise, widen
from ._probes import (
    check_chunk_size,
    check_count,
    check_positive,
    random_direction,
    real_arrays,
    real_loss,
    scalar,
    shift,
)


def _rademacher(key: Key[Array, ""], shape: tuple[int, ...], dtype: Any) -> Array:
    return jax.random.rademacher(key, shape, dtype)


def _antithetic(
    loss_fn: LossFunction,
    params: Params,
    draw: Callable[..., Array],
    *,
    scale: Float[Array, ""],
    pairs: int,
    chunk_size: int | None,
    key: Key[Array, ""],
) -> Estimate:
    """Mean over `pairs` of the slope along a random direction times that direction.

    Directions are drawn, used and added up `chunk_size` at a time, so that memory never holds them all.
    """
    loss_fn, params = real_loss(loss_fn), real_arrays(params)
    keys = jax.random.split(key, pairs)
    size = pairs if chunk_size is None else min(chunk_size, pairs)

    def probe(direction_key: Any) -> tuple[tuple[Array, Array], Params]:
        direction = random_direction(direction_key, params, draw)
        sides = jnp.stack([scale, -scale])
        up, down = jax.vmap(lambda side: loss_fn(shift(params, direction, side))[0])(sides)
        slope = (up - down) / (2 * scale).astype(up.dtype)
        part = jax.tree.map(lambda d: d * slope.astype(d.dtype), direction)
        return (slope, dot(widen(part), widen(part))), part

    def add(total: Params, some_keys: Any) -> tuple[Params, tuple[Array, Array]]:
        numbers, parts = jax.vmap(probe)(some_keys)
        return jax.tree.map(lambda t, p: t + jnp.sum(p, axis=0), total, parts), numbers

    total, found = jax.tree.map(jnp.zeros_like, params), []
    whole = pairs // size * size
    if whole == size:
        total, first = add(total, keys[:size])
        found.append(first)
    else:
        total, several = jax.lax.scan(add, total, keys[:whole].reshape(-1, size))
        found.append(several)
    if whole < pairs:
        total, last = add(total, keys[whole:])
        found.append(last)
    gradient = jax.tree.map(lambda g: g / pairs, total)
    loss, metrics = loss_fn(params)
    slopes, squares = (jnp.concatenate([each.ravel() for each in some]) for some in zip(*found, strict=True))
    diagnostics = {"slope_spread": jnp.std(slopes)}
    if pairs > 1:
        diagnostics["signal_to_noise"] = signal_to_noise(widen(gradient), jnp.sum(squares), pairs)
    return Estimate(loss, gradient, metrics, diagnostics)


class SPSA(AbstractEstimator):
    """Simultaneous perturbation: all parameters at once, by random signs.

    Attributes:
        eps: the step ε > 0, a number or a `control`.
        directions: how many directions m are averaged; 2m + 1 evaluations a step.
        chunk_size: at most so many directions at a time; None evaluates all together.

    Raises:
        UsageError: a number out of range, or a parameter that is not real.
    """

    eps: Any = 1e-3
    directions: int = eqx.field(static=True, default=1)
    chunk_size: int | None = eqx.field(static=True, default=None)

    @property
    def contract(self) -> Contract:
        """Order 0: 2m + 1 evaluations whatever the number of parameters."""
        return Contract(
            Order.ZERO,
            needs_key=True,
            fixed_evaluations=2 * self.directions + 1,
            bias="O(eps^2)",
        )

    def __check_init__(self) -> None:
        check_positive("eps", self.eps)
        check_chunk_size(self.chunk_size)
        check_count("directions", self.directions)

    def init(self, params: Params) -> Any:
        """No state."""
        return ()

    def estimate(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Estimate, Any]:
        """2m + 1 evaluations."""
        scale = scalar(self.eps, controls, params)
        estimate = _antithetic(
            loss_fn,
            params,
            _rademacher,
            scale=scale,
            pairs=self.directions,
            chunk_size=self.chunk_size,
            key=key,
        )
        return estimate, state


class AntitheticNES(AbstractEstimator):
    """The gradient of the loss smoothed by a Gaussian, from antithetic pairs.

    Attributes:
        sigma: the spread σ > 0 of the smoothing, a number or a `control`.
        pairs: how many antithetic pairs m; 2m + 1 evaluations a step.
        chunk_size: at most so many pairs at a time; None evaluates all together.

    Raises:
        UsageError: a number out of range, or a parameter that is not real.
    """

    sigma: Any = 1e-2
    pairs: int = eqx.field(static=True, default=16)
    chunk_size: int | None = eqx.field(static=True, default=None)

    @property
    def contract(self) -> Contract:
        """Order 0: 2m + 1 evaluations whatever the number of parameters."""
        return Contract(
            Order.ZERO,
            needs_key=True,
            fixed_evaluations=2 * self.pairs + 1,
            bias="none for the loss smoothed by N(0, sigma^2); O(sigma^2) for the loss itself",
        )

    def __check_init__(self) -> None:
        check_positive("sigma", self.sigma)
        check_chunk_size(self.chunk_size)
        check_count("pairs", self.pairs)

    def init(self, params: Params) -> Any:
        """No state."""
        return ()

    def estimate(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Estimate, Any]:
        """2m + 1 evaluations."""
        scale = scalar(self.sigma, controls, params)
        estimate = _antithetic(
            loss_fn,
            params,
            jax.random.normal,
            scale=scale,
            pairs=self.pairs,
            chunk_size=self.chunk_size,
            key=key,
        )
        return estimate, state
