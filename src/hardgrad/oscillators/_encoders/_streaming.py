"""Drives of sounds of any length, in bounded memory and without approximation.

    x, v  →  encoder.stream  →  field.drives  →  LowpassStream, one a drive  →  pieces of drives

An encoder that looks at the whole input first, as the published ones do, passes over it twice. Every stage carries what
it needs over the borders of pieces, so that the pieces joined equal the whole-input result to rounding, for any
length of chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core import UsageError, whole_number
from ._lowpass import LowpassStream
from ._protocol import Encoder


@runtime_checkable
class DrivesField(Protocol):
    """A field, as far as its drives go."""

    def drives(self, raw: Float[Array, "*batch outputs"]) -> dict[str, Array]:
        """Drives of an encoder's outputs."""


def encode_stream(
    encoder: Encoder,
    x: np.ndarray,
    v: np.ndarray,
    *,
    chunk_size: int = 1 << 15,
) -> Iterator[Float[np.ndarray, "batch _ outputs"]]:
    """Raw drives piece by piece, on the host: joined along time they equal ``encoder(x, v)`` to rounding.

    Args:
        encoder: any encoder with a method `stream`.
        x: sounds ``[batch, time]``; they may be memory-mapped.
        v: their velocities, per sample.
        chunk_size: samples computed at once.

    Raises:
        UsageError: `x` and `v` differ in shape, are no ``[batch, time]`` or empty, or `chunk_size` is no whole number
            of at least 1.

    Examples:
        >>> import jax
        >>> from hardgrad.oscillators import MambaEncoder
        >>> encoder = MambaEncoder((1, 1, 16), n_layers=1, key=jax.random.key(0))
        >>> x = np.zeros((1, 1000), np.float32)
        >>> sum(piece.shape[1] for piece in encode_stream(encoder, x, x, chunk_size=300))
        1000
    """
    chunk_size = whole_number("chunk_size", chunk_size, least=1)
    if x.ndim != 2 or x.shape != v.shape or 0 in x.shape:
        raise UsageError(f"x and v are both [batch, time] and not empty; got shapes {x.shape} and {v.shape}.")
    return encoder.stream(x, v, chunk_size)


def stream_drives(
    encoder: Encoder,
    field: DrivesField,
    x: np.ndarray,
    v: np.ndarray,
    *,
    sigma: float = 0.0,
    chunk_size: int = 1 << 15,
) -> Iterator[dict[str, Float[np.ndarray, "batch _ ..."]]]:
    """Low-passed drives piece by piece, on the host: joined, what a whole-input pass gives to rounding.

    Args:
        encoder: any encoder with a method `stream`.
        field: turns raw outputs into drives.
        x: sounds ``[batch, time]``.
        v: their velocities, per sample.
        sigma: of the low-pass, in frames of the encoder, which are samples where it has no ``hop``; 0 or less is none.
        chunk_size: samples computed at once.

    Raises:
        UsageError: as `encode_stream`; `sigma` is not finite.
    """
    filters: dict[str, LowpassStream] = {}
    hop = int(getattr(encoder, "hop", 1))
    frames = 1 + -(-(x.shape[1] - 1) // hop)
    for raw in encode_stream(encoder, x, v, chunk_size=chunk_size):
        smooth = {}
        for name, drive in field.drives(jnp.asarray(raw)).items():
            stream = filters.setdefault(name, LowpassStream(sigma, frames))
            smooth[name] = stream.push(np.asarray(drive))
        if next(iter(smooth.values())).shape[1]:
            yield smooth
