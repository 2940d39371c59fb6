"""A rollout with a gradient of its own, whose batches merge when it is vmapped.

The states that come out are all that the backward pass needs beside the coefficients, so nothing more is stored.
Several seeds under `jax.vmap` are one larger batch: one loop, wider operations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

Forward = Callable[[Array, Array, Array], tuple[Array, Array]]
Backward = Callable[[Array, Array, Array, Array, Array], tuple[Array, Array, Array]]


def merging(function: Callable[..., tuple[Array, ...]]) -> Callable[..., tuple[Array, ...]]:
    """A function of arrays ``[batch, ...]``, row by row, that takes a vmapped axis into its batch."""
    merged = jax.custom_batching.custom_vmap(function)

    @merged.def_vmap
    def rule(size: int, batched: Sequence[bool], *arrays: Array) -> tuple[tuple[Array, ...], tuple[bool, ...]]:
        full = [
            array if is_batched else jnp.broadcast_to(array, (size, *array.shape))
            for array, is_batched in zip(arrays, batched, strict=True)
        ]
        found = merged(*(array.reshape(-1, *array.shape[2:]) for array in full))
        split = tuple(array.reshape(size, -1, *array.shape[1:]) for array in found)
        return split, (True,) * len(split)

    return merged


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
