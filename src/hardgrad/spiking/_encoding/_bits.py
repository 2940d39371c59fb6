"""Spikes as bits: eight time steps a byte, a thirty-second of float32's memory.

The first step is the highest bit of the first byte, as `numpy.packbits` has it.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from ...core import UsageError, whole_number


def pack_bits(spikes: Any) -> UInt8[Array, "batch bytes *units"]:
    """Spikes packed along time.

    Args:
        spikes: ``[batch, time, ...]``, zeros and others; the last byte is filled with silence.

    Raises:
        UsageError: no time axis.

    Examples:
        >>> bits = pack_bits(jnp.ones((2, 10, 3)))
        >>> bits.shape, bits[0, :, 0]
        ((2, 2, 3), Array([255, 192], dtype=uint8))
    """
    spikes = jnp.asarray(spikes)
    if spikes.ndim < 2:
        raise UsageError(f"spikes to pack are [batch, time, ...], got shape {spikes.shape}.")
    return jnp.packbits(spikes != 0, axis=1)


def unpack_bits(bits: Any, steps: int, *, dtype: Any = None) -> Float[Array, "batch time *units"]:
    """Spikes of packed bits.

    Args:
        bits: ``[batch, bytes, ...]`` uint8.
        steps: time steps; the last byte's remaining bits are dropped.
        dtype: of the spikes; None: JAX's default float.

    Raises:
        UsageError: bits that are not uint8, or that do not hold just so many steps.
    """
    bits, steps = jnp.asarray(bits), whole_number("steps", steps, least=1)
    check_bits(bits, steps)
    return jnp.unpackbits(bits, axis=1, count=steps).astype(jnp.zeros(()).dtype if dtype is None else dtype)


def check_bits(bits: Any, steps: int) -> None:
    """Refuse what `pack_bits` did not make of so many steps."""
    if bits.dtype != jnp.uint8 or bits.ndim < 2:
        raise UsageError(f"packed bits are uint8 [batch, bytes, ...], got {bits.dtype} of shape {bits.shape}.")
    if bits.shape[1] != -(-steps // 8):
        raise UsageError(f"{steps} steps take {-(-steps // 8)} bytes along time; got {bits.shape[1]}.")
