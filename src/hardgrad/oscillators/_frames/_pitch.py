"""Pitch by autocorrelation, frame by frame, inside compiled programs.

    r(l) = Σ_t y_t y_{t+l} / (r(0) w(l)),      y a Hann-windowed frame without its mean, w the window's own r

The period is the first peak of r that reaches 0.9 of its highest one, moved by a parabola through its neighbours.
Dividing by w undoes the window's decay with the lag: without it the shortest of several equal periods would always
win (Boersma 1993, IFA Proceedings 17, eq. 9).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft  # type: ignore[import-untyped]
from jaxtyping import Array, Float
from numpy.typing import NDArray

from .._losses._stft import frames_of

_NEARLY = 0.9  # of the highest peak


def pitch_track(
    x: Float[Array, "batch time"], *, window: int, hop: int, lags: tuple[int, int]
) -> Float[Array, "batch frames"]:
    """The angular frequency of each frame, radians a sample; no gradient passes.

    Args:
        x: sound; time above ``window // 2``.
        window: samples a frame, centred on every `hop`-th sample; it should hold two periods.
        hop: samples between frames.
        lags: the shortest and the longest period, in samples.

    Returns:
        2π over the period, in ``[2π/longest, 2π/shortest]``. A frame without a period has some value in that range.

    Examples:
        >>> time = jnp.arange(4096.0)[None]
        >>> omega = pitch_track(jnp.sin(0.1 * time) + jnp.sin(0.3 * time), window=1024, hop=512, lags=(9, 147))
        >>> omega.shape, float(jnp.abs(omega[0, 2:-2] - 0.1).max()) < 2e-4
        ((1, 9), True)
    """
    y = frames_of(jax.lax.stop_gradient(x), window, hop)
    y = (y - jnp.mean(y, axis=-1, keepdims=True)) * jnp.asarray(_window(window), x.dtype)
    first, last = lags
    size = scipy.fft.next_fast_len(window + last + 1, real=True)  # beyond these lags the circle may close
    power = jnp.square(jnp.abs(jnp.fft.rfft(y, size)))
    # One lag more on either side, for the parabola.
    r = jnp.fft.irfft(power, size)[..., first - 1 : last + 2] / jnp.asarray(_own(window)[first - 1 : last + 2], x.dtype)
    inner = r[..., 1:-1]
    peak = (inner >= r[..., :-2]) & (inner >= r[..., 2:])
    highest = jnp.max(jnp.where(peak, inner, 0.0), axis=-1, keepdims=True)
    at = jnp.argmax(peak & (inner >= _NEARLY * highest), axis=-1)
    left, middle, right = (jnp.take_along_axis(r, at[..., None] + k, axis=-1)[..., 0] for k in range(3))
    bend = left - 2.0 * middle + right
    shift = jnp.where(bend < 0.0, 0.5 * (left - right) / jnp.where(bend < 0.0, bend, -1.0), 0.0)
    period = at.astype(x.dtype) + first + jnp.clip(shift, -0.5, 0.5)
    return 2.0 * np.pi / jnp.clip(period, first, last)


@functools.lru_cache(maxsize=8)
def _window(size: int) -> NDArray[np.float64]:
    return np.hanning(size + 1)[:-1]


@functools.lru_cache(maxsize=8)
def _own(size: int) -> NDArray[np.float64]:
    """The window's autocorrelation, 1 at lag 0; bounded away from 0, where lags leave no overlap."""
    own: NDArray[np.float64] = np.fft.irfft(np.square(np.abs(np.fft.rfft(_window(size), 2 * size))))
    bounded: NDArray[np.float64] = np.maximum(own / own[0], 1e-3)
    return bounded
