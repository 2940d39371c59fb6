"""Arguments that losses share."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core import UsageError

Values = Float[Array | np.ndarray, "..."]
Scalar = Float[Array, ""]


def rows(**arrays: Any) -> tuple[Array, ...]:
    """JAX arrays of one shape ``[batch, time]``, in the dtype of the first, widened to 32 bits.

    Raises:
        UsageError: other axes, shapes that differ, or nothing in them.
    """
    shapes = {name: jnp.shape(array) for name, array in arrays.items()}
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    first = next(iter(shapes.values()))
    if len(first) != 2 or 0 in first or len(set(shapes.values())) > 1:
        raise UsageError(f"these must have one shape [batch, time], neither of them 0; got {listed}.")
    head = jnp.asarray(next(iter(arrays.values())))
    dtype = head.dtype if head.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
    return tuple(jnp.asarray(array).astype(dtype) for array in arrays.values())


def number(name: str, value: Any, *, least: float = 0.0, above: bool = False) -> float:
    """`value` as a finite float that is at least `least`, or above it.

    Raises:
        UsageError: it is not.
    """
    plain = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not plain or not math.isfinite(value) or value < least or (above and value == least):
        raise UsageError(f"{name} must be a finite number {'above' if above else 'at least'} {least:g}; got {value!r}.")
    return float(value)
