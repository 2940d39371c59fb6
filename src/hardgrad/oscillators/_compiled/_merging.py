"""Functions of a batch that stay one call when they are vmapped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array


def merging(function: Callable[..., tuple[Array, ...]]) -> Callable[..., tuple[Array, ...]]:
    """A function of arrays ``[batch, ...]``, row by row, that takes a vmapped axis into its batch.

    Several seeds under `jax.vmap` are one larger batch: one loop, wider operations.
    """
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
