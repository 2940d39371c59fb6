"""A rollout with a gradient of its own, whose batches merge when it is vmapped.

The states that come out are all that the backward pass needs beside the coefficients, so nothing more is stored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._compiled import merging

Forward = Callable[[Array, Array, Array], tuple[Array, Array]]
Backward = Callable[[Array, Array, Array, Array, Array], tuple[Array, Array, Array]]


def differentiable(forward: Forward, backward: Backward) -> Callable[[Array, Array, Array], tuple[Array, Array]]:
    """The rollout of a pair of functions.

    Args:
        forward: coefficients ``[batch, frames, terms]``, x0 and v0 ``[batch]`` to x and v ``[batch, samples]``.
        backward: coefficients, x and v, and the cotangents of x and v, to those of coefficients, x0 and v0.
    """
    forward_merging, backward_merging = merging(forward), merging(backward)

    @jax.custom_vjp
    def roll(coefficients: Array, x0: Array, v0: Array) -> Any:
        return forward_merging(coefficients, x0, v0)

    def first(coefficients: Array, x0: Array, v0: Array) -> Any:
        x, v = forward_merging(coefficients, x0, v0)
        return (x, v), (coefficients, x, v)

    def second(kept: Any, given: Any) -> Any:
        return backward_merging(*kept, *(jnp.asarray(cotangent) for cotangent in given))

    roll.defvjp(first, second)
    return roll
