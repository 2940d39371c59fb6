"""Powers of two that bring numbers near 1, so that their squares neither over- nor underflow."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact


def magnitude(x: Inexact[Array, "*shape"]) -> Float[Array, "*shape"]:
    """|x|, or for a complex number the larger of its parts: what can't overflow. A constant to the gradient."""
    x = jax.lax.stop_gradient(x)
    return jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag)) if jnp.iscomplexobj(x) else jnp.abs(x)


def inverse_power_of_two(largest: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """A power of two s with s · largest from 1/2 to 4; 1 for 0. Multiplying by it changes no digit."""
    info = jnp.finfo(largest.dtype)  # type: ignore[no-untyped-call]
    # The power itself must be a normal number: XLA takes others as 0.
    exponent = jnp.clip(jnp.frexp(largest)[1], info.minexp + 2, info.maxexp - 2)
    return jnp.ldexp(jnp.ones_like(largest), -exponent)


def squared(x: Inexact[Array, "*shape"]) -> Float[Array, "*shape"]:
    """|x|²."""
    return jnp.square(x.real) + jnp.square(x.imag) if jnp.iscomplexobj(x) else jnp.square(x)
