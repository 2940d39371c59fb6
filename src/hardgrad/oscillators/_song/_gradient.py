"""Examples whose gradient explodes are kept from speaking for their batch.

Near a bifurcation the derivative of a long rollout grows exponentially, in some examples of a batch by ten orders of
magnitude. Clipping the batch's gradient by its norm then leaves a step in the direction of those few. Here each
example's part is clipped, where it passes from the rollout to its drives: to a multiple of the median norm of the
batch, which takes no scale from outside; parts that are not finite are dropped.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _clip(x: Array, limit: float) -> Array:
    return x


def _forward(x: Array, limit: float) -> tuple[Array, None]:
    return x, None


def _backward(limit: float, _: None, gradient: Array) -> tuple[Array]:
    flat = gradient.reshape(gradient.shape[0], -1)
    largest = jnp.max(jnp.abs(flat), axis=1)
    unit = jnp.where(largest > 0.0, largest, 1.0)  # taken out, so that the squares cannot overflow
    norm = unit * jnp.sqrt(jnp.sum(jnp.square(flat / unit[:, None]), axis=1))
    finite = jnp.isfinite(norm)
    count = jnp.sum(finite)
    middle = jnp.sort(jnp.where(finite, norm, jnp.inf))[jnp.maximum(count - 1, 0) // 2]
    scale = jnp.where(finite, jnp.minimum(1.0, limit * middle / jnp.maximum(norm, np.finfo(norm.dtype).tiny)), 0.0)
    shape = (-1,) + (1,) * (gradient.ndim - 1)
    return (jnp.where(finite.reshape(shape), gradient, 0.0) * scale.reshape(shape),)


_clip.defvjp(_forward, _backward)


def clip_examples(x: Float[Array, "batch ..."], limit: float | None) -> Any:
    """`x`, through which each example's gradient passes with at most `limit` times the batch's median norm.

    Args:
        x: any shape with a leading axis of examples.
        limit: above 0; None lets everything through.

    Examples:
        >>> weights = jnp.array([1.0, 1.0, 1e9, jnp.nan])
        >>> jax.grad(lambda x: jnp.sum(weights * clip_examples(x, 2.0)))(jnp.zeros(4))
        Array([1., 1., 2., 0.], dtype=float32)
    """
    return x if limit is None else _clip(x, limit)
