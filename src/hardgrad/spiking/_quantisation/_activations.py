"""Why spikes need no quantisation: 0 and 1 lie on every grid."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError


def binary_activation_error(activations: Any, bits: int = 8) -> Float[Array, ""]:
    """The largest change that quantising activations makes: exactly 0 for spikes.

    max |x - s·clip(round(x / s), -m, m)| with m = 2^(bits-1) - 1 and s = max|x| / m.

    Args:
        activations: of any shape, not empty.
        bits: 2 or more; at most 24, beyond which float32 does not hold the integers.

    Raises:
        UsageError: `bits` out of range, or no activations.

    Examples:
        >>> binary_activation_error(jnp.array([0.0, 1.0, 1.0]), bits=2)
        Array(0., dtype=float32)
        >>> binary_activation_error(jnp.array([0.0, 0.3, 1.0]), bits=2)
        Array(0.3, dtype=float32)
    """
    if isinstance(bits, bool) or not isinstance(bits, int) or not 2 <= bits <= 24:
        raise UsageError(f"bits must be a whole number from 2 to 24, got {bits!r}.")
    activations = jnp.asarray(activations)
    if not activations.size:
        raise UsageError(f"there are no activations to quantise: their shape is {activations.shape}.")
    if not jnp.issubdtype(activations.dtype, jnp.floating):
        activations = activations.astype(float)
    largest = 2 ** (bits - 1) - 1
    peak = jnp.max(jnp.abs(activations))
    peak = jnp.where(peak > 0, peak, 1.0)
    integers = jnp.clip(jnp.round(activations / peak * largest), -largest, largest)
    # Multiplied before it is divided: s = peak / m is rounded, m·s need not be peak.
    return jnp.max(jnp.abs(activations - integers * peak / largest))
