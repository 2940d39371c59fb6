"""The vocal tract: a linear filter between the oscillator and the microphone.

    y_t = Σ_{k<K} h_k x_{t-k}

A second-order field cannot make every periodic sound: its orbit in the plane (x, v) may not cross itself. Behind a
linear filter the orbit is free of the resonances of trachea and beak, and these do not change from one moment to the
next (source and filter: Fant 1960; of birds: Fletcher, Riede and Suthers 2006, J. Acoust. Soc. Am. 119:1005).
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import scipy.fft  # type: ignore[import-untyped]
from jaxtyping import Array, Float

from ...core import whole_number


class VocalTract(eqx.Module):
    """A causal filter with a finite impulse response, learned with the rest.

    Attributes:
        taps: h, the response; starts as no filter at all, 1 followed by zeros.

    Args:
        length: K, taps; 64 are 1.45 ms at 44.1 kHz.

    Raises:
        UsageError: the length is no whole number of at least 1.

    Examples:
        >>> tract = VocalTract(64)
        >>> bool(jnp.allclose(tract(jnp.ones((1, 8))), 1.0, atol=1e-6))
        True
    """

    taps: Float[Array, " taps"]

    def __init__(self, length: int = 64, *, dtype: Any = jnp.float32):
        self.taps = jnp.zeros(whole_number("length", length, least=1), dtype).at[0].set(1.0)

    def __call__(self, x: Float[Array, "batch time"]) -> Float[Array, "batch time"]:
        """The filtered sound; what came before the first sample counts as 0."""
        size = scipy.fft.next_fast_len(x.shape[1] + self.taps.shape[0] - 1, real=True)
        spectrum = jnp.fft.rfft(x, size) * jnp.fft.rfft(self.taps.astype(x.dtype), size)
        return jnp.fft.irfft(spectrum, size)[:, : x.shape[1]]
