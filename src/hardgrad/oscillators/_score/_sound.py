"""What is heard in a sound, for the stricter score: a fixed high-pass, loudness in time, a mel spectrogram, pitch.

Every length is in seconds or hertz, so that a window's own length and the sample rate change nothing. A frame is 12 ms,
one every 3 ms: four periods of the lowest pitch, 250 Hz, and short enough for a sweep to be nearly periodic in it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy.fft  # type: ignore[import-untyped]
import scipy.ndimage  # type: ignore[import-untyped]
import scipy.signal  # type: ignore[import-untyped]
from numpy.typing import NDArray

from ...core import UsageError
from ._windows import Floats

LOWEST, HIGHEST = 250.0, 8000.0  # Hz: below is breath and the room, above is little song
FRAME, HOP = 0.012, 0.003  # s
_ENVELOPE = 0.002  # s: standard deviation of the kernel, that of the envelope losses
_BANDS = 40
_BIN = 20.0  # Hz: the FFT is padded until its bins are as close, so that the narrowest mel band holds some
_PERIODIC = 0.6  # the least periodicity of a voiced frame: noise stays below 0.3, a fast sweep above 0.8
_FIRST = 0.9  # the pitch is the first peak that comes so near to the highest


def high_pass(sound: Floats, sample_rate: int) -> Floats:
    """The sound above 250 Hz: a Butterworth filter of order 4, forwards and backwards, so without phase.

    Raises:
        UsageError: the sound is shorter than a frame, or sampled too slowly to hold pitches above 250 Hz.
    """
    if sample_rate < 8.0 * LOWEST:
        raise UsageError(f"a sample rate of {sample_rate} is too low to score song; expected at least 2000 per second.")
    if len(sound) < round(FRAME * sample_rate):
        raise UsageError(
            f"a window of {len(sound)} samples is too short to score: one frame is {round(FRAME * sample_rate)} "
            f"({FRAME * 1e3:g} ms at {sample_rate} Hz). Take a longer window."
        )
    sections = scipy.signal.butter(4, LOWEST, "highpass", fs=sample_rate, output="sos")
    padding = min(len(sound) - 1, round(3 * sample_rate / LOWEST))
    return scipy.signal.sosfiltfilt(sections, sound, padlen=padding)  # type: ignore[no-any-return]


def smooth_envelope(sound: Floats, sample_rate: int) -> Floats:
    """|sound| under a Gaussian low-pass of 2 ms, mirrored at its ends."""
    return scipy.ndimage.gaussian_filter1d(  # type: ignore[no-any-return]
        np.abs(sound), _ENVELOPE * sample_rate, mode="mirror", truncate=3.0
    )


def frames(sound: Floats, sample_rate: int, *, centred: bool) -> Floats:
    """``[frames, samples]``, every 3 ms; centred ones reach over the ends, where the sound is mirrored."""
    length, hop = round(FRAME * sample_rate), max(1, round(HOP * sample_rate))
    if centred:
        sound = np.pad(sound, length // 2, mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(sound, length)[::hop]


def mel_spectrogram(sound: Floats, sample_rate: int) -> Floats:
    """Power ``[frames, bands]`` in 40 triangular bands, evenly spaced in mel from 250 to 8000 Hz, under Hann windows.

    Mel is 2595 log10(1 + f/700).
    """
    windows = frames(sound, sample_rate, centred=True)
    n_fft = scipy.fft.next_fast_len(max(windows.shape[1], math.ceil(sample_rate / _BIN)), real=True)
    taper = scipy.signal.get_window("hann", windows.shape[1])
    power = np.abs(np.fft.rfft(windows * taper, n_fft)) ** 2
    first, last = (2595.0 * math.log10(1.0 + f / 700.0) for f in (LOWEST, min(HIGHEST, sample_rate / 2.0)))
    corners = 700.0 * (10.0 ** (np.linspace(first, last, _BANDS + 2) / 2595.0) - 1.0)
    frequency = np.arange(power.shape[1]) * (sample_rate / n_fft)
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    rising = (frequency[:, None] - low) / (middle - low)
    falling = (high - frequency[:, None]) / (high - middle)
    return power @ np.maximum(0.0, np.minimum(rising, falling))  # type: ignore[no-any-return]


class Pitch(NamedTuple):
    """Of each frame: frequency in Hz, NaN where it is not periodic, and the frame's rms."""

    frequency: Floats
    rms: Floats


def pitch(sound: Floats, sample_rate: int) -> Pitch:
    """The pitch of each 12 ms frame, by normalised autocorrelation.

    Periodicity at a lag is 2 Σ x_j x_{j+lag} / Σ (x_j² + x_{j+lag}²), which is 1 for a periodic sound at its period
    and all its multiples. The pitch is the *first* peak that reaches 0.9 of the highest one; a parabola through three
    points finds its place between samples. A frame whose highest peak stays below 0.6 has none.

    Source: McLeod and Wyvill 2005, "A smarter way to find pitch" (ICMC).
    """
    windows = frames(sound, sample_rate, centred=False)
    windows = windows - windows.mean(axis=1, keepdims=True)
    rms = np.sqrt(np.mean(windows**2, axis=1))
    periodicity = _periodicity(windows, math.ceil(sample_rate / LOWEST) + 2)
    return Pitch(np.array([_frequency(row, sample_rate) for row in periodicity]), rms)


def _periodicity(windows: Floats, lags: int) -> Floats:
    """``[frames, lags]``, from lag 0."""
    length = windows.shape[1]
    size = scipy.fft.next_fast_len(length + lags, real=True)
    products = np.fft.irfft(np.abs(np.fft.rfft(windows, size)) ** 2, size)[:, :lags]
    energy = np.cumsum(np.pad(windows**2, ((0, 0), (1, 0))), axis=1)
    total = energy[:, -1:]
    lag = np.arange(lags)
    both = energy[:, length - lag] + total - energy[:, lag]  # of the first and the last length - lag samples
    return 2.0 * products / np.where(both > 0.0, both, 1.0)


def _frequency(periodicity: Floats, sample_rate: int) -> float:
    negative = np.flatnonzero(periodicity < 0.0)
    if not len(negative):
        return math.nan
    before, here, after = periodicity[:-2], periodicity[1:-1], periodicity[2:]
    peaks: NDArray[np.intp] = 1 + np.flatnonzero((here > before) & (here >= after))
    peaks = peaks[peaks > negative[0]]
    highest = periodicity[peaks].max(initial=0.0)
    if highest < _PERIODIC:
        return math.nan
    lag = peaks[periodicity[peaks] >= _FIRST * highest][0]
    left, top, right = periodicity[lag - 1 : lag + 2]
    return float(sample_rate / (lag + 0.5 * (left - right) / (left - 2.0 * top + right)))
