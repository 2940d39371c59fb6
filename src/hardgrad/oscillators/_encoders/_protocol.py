"""What every encoder of sound offers; a user's own joins training, extraction and priors by offering it too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Array, Float


@runtime_checkable
class Encoder(Protocol):
    """Raw drives of a sound. An Equinox module, so that it trains."""

    @property
    def outputs(self) -> int:
        """Numbers a moment."""

    def __call__(
        self, x: Float[Array, "batch time"], v: Float[Array, "batch time"]
    ) -> Float[Array, "batch time outputs"]:
        """Raw drives of sounds `x` with velocities `v`."""

    def stream(
        self, x: Float[np.ndarray, "batch time"], v: Float[np.ndarray, "batch time"], chunk_size: int
    ) -> Iterator[Float[np.ndarray, "batch _ outputs"]]:
        """Pieces that joined are what a call gives, in memory that grows with `chunk_size`, not with time."""

    def with_constant_outputs(self, values: Mapping[int, float]) -> Encoder:
        """A copy whose outputs of these indices start constant, at these values, whatever the sound."""
