"""Low-pass of drives and envelopes along time.

    gaussian_lowpass   y_t = Σ_{|k|≤R} g_k u_{t+k},   g_k ∝ exp(-k²/2σ²), Σ g = 1,   R = max(1, min(round 3σ, L-1))
    causal_average     y_t = (1/n) Σ_{0≤k<n} u_{t-k}

The first is centred, so it has no phase; beyond the ends the signal is mirrored about its end samples, which are not
repeated. The second takes the signal as 0 before its start. Both are circular convolutions of a padded signal by FFT:
on two cores, for [32, 2205, 18] and σ = 44, value and gradient cost a fifth of what XLA's convolution takes, and
half of banded matrix products.

Source: the published system.
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
import scipy.fft  # type: ignore[import-untyped]
import scipy.signal  # type: ignore[import-untyped]
from jaxtyping import Array, Float

from ...core import UsageError, whole_number


def gaussian_lowpass(u: Float[Array, "*shape"], sigma: float, *, axis: int = -1) -> Float[Array, "*shape"]:
    """Centred Gaussian average along an axis, mirrored at the ends.

    Args:
        u: any shape, float32 or float64.
        sigma: standard deviation in samples; 0 or less returns `u`.
        axis: of time.

    Raises:
        UsageError: `sigma` is not finite, or `u` has no such axis.

    Examples:
        >>> impulse = jnp.zeros(7).at[3].set(1.0)
        >>> gaussian_lowpass(impulse, 0.5)  # radius 2
        Array([0., 2.6e-04, 0.106, 0.786, 0.106, 2.6e-04, 0.], dtype=float32)
    """
    length = _length(u, axis)
    if _sigma(sigma) <= 0 or length <= 1:
        return u
    kernel = _gaussian(sigma, length)
    radius = len(kernel) // 2
    u = jnp.moveaxis(u, axis, -1)
    padded = jnp.pad(u, [(0, 0)] * (u.ndim - 1) + [(radius, radius)], mode="reflect")
    return jnp.moveaxis(_filtered(padded, kernel), -1, axis)


def causal_average(u: Float[Array, "*shape"], length: int, *, axis: int = -1) -> Float[Array, "*shape"]:
    """Mean of a sample and the `length - 1` before it; what is before the start counts as 0.

    Args:
        u: any shape, float32 or float64.
        length: in samples; 1 returns `u`.
        axis: of time.

    Raises:
        UsageError: `length` is no whole number of at least 1, or `u` has no such axis.

    Examples:
        >>> causal_average(jnp.array([2.0, 4.0, 6.0]), 2)
        Array([1., 3., 5.], dtype=float32)
    """
    _length(u, axis)
    length = whole_number("length", length, least=1)
    if length == 1:
        return u
    u = jnp.moveaxis(u, axis, -1)
    padded = jnp.pad(u, [(0, 0)] * (u.ndim - 1) + [(length - 1, 0)])
    return jnp.moveaxis(_filtered(padded, np.full(length, 1 / length)), -1, axis)


class LowpassStream:
    """`gaussian_lowpass` of a signal that comes piece by piece, on the host.

    Joined, what it gives equals the low-pass of the joined pieces: an output waits for its neighbours, and the signal
    is mirrored at its true ends only. It holds no more than two kernel radii of the signal.

    Args:
        sigma: standard deviation in samples; 0 or less passes pieces on.
        time: length of the whole signal: the radius depends on it, and the last piece is known by it.

    Raises:
        UsageError: `sigma` is not finite, `time` is no whole number of at least 1, or more samples come than announced.

    Examples:
        >>> signal = np.arange(12.0).reshape(1, 12)
        >>> stream = LowpassStream(1.0, 12)
        >>> [stream.push(signal[:, at : at + 6]).shape[1] for at in (0, 6)]
        [3, 9]
    """

    def __init__(self, sigma: float, time: int):
        self._time = whole_number("time", time, least=1)
        passes = _sigma(sigma) <= 0 or time == 1
        self._kernel = np.ones(1) if passes else _gaussian(sigma, time)
        self._seen = 0
        self._held: np.ndarray | None = None

    def push(self, piece: Float[np.ndarray, "batch time ..."]) -> Float[np.ndarray, "batch _ ..."]:
        """The outputs that the next piece makes known; there may be none."""
        radius = len(self._kernel) // 2
        held = piece if self._held is None else np.concatenate([self._held, piece], axis=1)
        before, self._seen = self._seen, self._seen + piece.shape[1]
        if self._seen > self._time:
            raise UsageError(f"{self._seen} samples came, where time={self._time} was announced.")
        if before <= radius < self._seen:  # the start can be mirrored
            held = np.concatenate([held[:, radius:0:-1], held], axis=1)
        if before < self._seen == self._time:
            held = np.concatenate([held, held[:, -2 : -2 - radius : -1]], axis=1)
        ready = held.shape[1] - 2 * radius if self._seen > radius else 0
        self._held = held[:, max(ready, 0) :]
        if ready <= 0:
            return piece[:, :0]
        kernel = self._kernel.reshape(1, -1, *[1] * (piece.ndim - 2))
        smooth = scipy.signal.oaconvolve(held.astype(np.float64), kernel, mode="valid", axes=1)
        return np.asarray(smooth, piece.dtype) if radius else held


def _length(u: Array, axis: int) -> int:
    if not -u.ndim <= axis < u.ndim:
        raise UsageError(f"axis {axis} of an array of shape {u.shape}; give one from {-u.ndim} to {u.ndim - 1}.")
    return u.shape[axis]


def _sigma(sigma: float) -> float:
    if not math.isfinite(sigma):
        raise UsageError(f"sigma must be a finite number of samples, got {sigma!r}.")
    return sigma


def _gaussian(sigma: float, length: int) -> np.ndarray:
    """Kernel ``[2R + 1]`` in float64."""
    radius = max(1, min(round(3 * sigma), length - 1))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    return np.asarray(kernel / kernel.sum())


def _filtered(padded: Array, kernel: np.ndarray) -> Array:
    """The part of the convolution along the last axis that needs no further padding."""
    support = len(kernel) - 1
    size = scipy.fft.next_fast_len(padded.shape[-1], real=True)
    spectrum = jnp.fft.rfft(padded, size)
    response = jnp.asarray(np.fft.rfft(kernel, size), spectrum.dtype)
    return jnp.fft.irfft(spectrum * response, size)[..., support : padded.shape[-1]]
