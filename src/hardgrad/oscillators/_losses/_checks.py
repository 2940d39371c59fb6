"""Arguments that losses share."""

from __future__ import annotations

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
