"""Shapes and dtypes of projective outputs: arrays that lack axes belong to the leading ones.

Q ``[B]`` beside P ``[B, K]`` is one denominator for K outputs. NumPy's rule would match its axis with the last
one of P, which fails, or, where B = K, silently means something else.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from ..core import UsageError


def append_axes(array: Array, ndim: int) -> Array:
    """The array with trailing axes of length 1, so that it has `ndim` of them, or more if it had."""
    return jnp.expand_dims(array, tuple(range(array.ndim, ndim)))


def align(**arrays: Array) -> tuple[Array, ...]:
    """The arrays with trailing axes appended, so that they broadcast; the number of axes is that of the largest.

    Raises:
        UsageError: they don't fit all the same.
    """
    ndim = max(array.ndim for array in arrays.values())
    aligned = tuple(append_axes(array, ndim) for array in arrays.values())
    if any(len({array.shape[axis] for array in aligned} - {1}) > 1 for axis in range(ndim)):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise UsageError(f"these shapes don't fit together: {shapes}. Give all of them leading axes alike.")
    return aligned


def loss_dtype(array: Array) -> Any:
    """Half precision sums badly: losses have 32 bits at least.

    Raises:
        UsageError: the array holds no floating-point numbers.
    """
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        raise UsageError(f"losses are of floating-point numbers, got {array.dtype}. Convert with .astype(float).")
    return array.dtype if array.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)


def alike(first: Any, *others: Any) -> tuple[Array, ...]:
    """JAX arrays in the dtype of the first, widened to 32 bits."""
    head = jnp.asarray(first)
    dtype = loss_dtype(head)
    return tuple(jnp.asarray(array).astype(dtype) for array in (head, *others))
