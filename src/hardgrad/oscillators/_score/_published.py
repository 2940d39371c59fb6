"""The autonomy score as published: does the model, singing alone, sound like the recording?

With x the target and a the rollout, both detrended, std their standard deviations and P their Welch densities:

    spec_corr   Pearson correlation of ln (P + 1e-20) over 0-8000 Hz
    amp_pen     |ln ((std_a + 1e-12) / (std_x + 1e-12))|
    pitch_pen   |ln ((f_a + 1e-9) / (f_x + 1e-9))|,   f the frequency of the largest P, the bin of 0 Hz left out
    score       spec_corr - amp_pen - pitch_pen;   -5 for a rollout that is not finite, or silent (std < 1e-9)

It is kept for parity. Its weaknesses: the detrending cuts at 100·sample_rate/time Hz, above the fundamental of a
short window; the correlation does not see time, so that a song played backwards scores 1; a harmonic that is a little
stronger jumps the pitch; and -5 is not the least score. `strict_autonomy` mends these.

Source: the published system.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

import numpy as np
import scipy.signal  # type: ignore[import-untyped]

from ...core import UsageError
from ._windows import DIVERGENT, SILENT, Floats, Pair, Sound, bounded_mean, check_audible, pair, score_each

_HIGHEST = 8000.0  # Hz
_CYCLES = 100  # the detrending cuts at so many cycles a window


@dataclasses.dataclass(frozen=True)
class AutonomyScore:
    """The published score of one window.

    Attributes:
        score: spec_corr - amp_pen - pitch_pen, at most 1; -5 where not bounded.
        spec_corr: in [-1, 1]; NaN where not bounded, as are the penalties.
        amp_pen: at least 0; a factor e costs 1.
        pitch_pen: at least 0; an octave costs ln 2.
        signed_amp: ln (std_a / std_x), above 0 where the rollout is too loud; as it came, before `rescale`.
        bounded: whether the rollout is finite and not silent.
    """

    score: float
    spec_corr: float
    amp_pen: float
    pitch_pen: float
    signed_amp: float
    bounded: bool


@dataclasses.dataclass(frozen=True)
class AutonomyReport:
    """The published score of several windows.

    Attributes:
        score: the mean over all windows, divergent ones included at -5.
        windows: the score of each.
        spec_corr: mean over bounded windows; NaN without any, as are the next three.
        amp_pen: likewise.
        pitch_pen: likewise.
        signed_amp: likewise, before rescaling.
        bounded_fraction: share of windows that are bounded.
        cold_start: whether the windows were said to begin in silence. It changes nothing in the arithmetic.
        rescale: whether rollouts were first brought to their target's loudness.
    """

    score: float
    windows: tuple[AutonomyScore, ...]
    spec_corr: float
    amp_pen: float
    pitch_pen: float
    signed_amp: float
    bounded_fraction: float
    cold_start: bool
    rescale: bool

    def breakdown(self) -> dict[str, float | bool | list[float]]:
        """The figures under their published names, fit for JSON but for NaN."""
        return {
            "spec_corr": self.spec_corr,
            "amp_pen": self.amp_pen,
            "pitch_pen": self.pitch_pen,
            "bounded_frac": self.bounded_fraction,
            "cold_start": self.cold_start,
            "rescale": self.rescale,
            "signed_amp_mean": self.signed_amp,
            "signed_amp_per_voc": [window.signed_amp for window in self.windows],
        }


def detrend(sound: Sound) -> Sound:
    """The sound without what moves slower than 100 cycles in its length, by the published filter.

    A zero-phase Butterworth low-pass of order 5 (forwards and backwards) is subtracted.

    Args:
        sound: ``[time]``, over 200 samples: at 200 the cutoff is the highest frequency there is.

    Returns:
        float64 ``[time]``.

    Raises:
        UsageError: too short a sound.
    """
    samples = len(sound)
    if samples <= 2 * _CYCLES:
        raise UsageError(
            f"the published detrending needs over {2 * _CYCLES} samples, got {samples}. Take a longer window, or "
            "strict_autonomy, whose filter does not depend on the length."
        )
    sections = scipy.signal.butter(5, _CYCLES / (0.5 * samples), output="sos")
    values = np.asarray(sound, np.float64)
    return values - scipy.signal.sosfiltfilt(sections, values)  # type: ignore[no-any-return]


def autonomy(target: Sound, generated: Sound, sample_rate: int, *, rescale: bool = False) -> AutonomyScore:
    """The published score of one window.

    Args:
        target: the recording ``[time]``, over 200 samples.
        generated: the rollout; the longer of the two is cut. Neither is detrended yet.
        sample_rate: samples a second.
        rescale: whether to bring the rollout to the target's standard deviation first, which makes amp_pen 0.

    Raises:
        UsageError: too short, silent or non-finite a target, or other axes.

    Examples:
        >>> time = np.arange(4410) / 44100
        >>> song = 0.1 * np.sin(2 * np.pi * 3000 * time) * np.hanning(4410)
        >>> round(autonomy(song, song, 44100).score, 6), round(autonomy(song, song[::-1], 44100).spec_corr, 2)
        (1.0, 1.0)
        >>> autonomy(song, np.full(4410, np.nan), 44100).score
        -5.0
    """
    sounds = pair(target, generated, sample_rate)
    target = detrend(sounds.target)
    check_audible(target)
    divergent = AutonomyScore(DIVERGENT, math.nan, math.nan, math.nan, math.nan, bounded=False)
    if not np.isfinite(sounds.generated).all():
        return divergent
    with np.errstate(over="ignore", invalid="ignore"):  # of a rollout so loud that its square overflows
        generated = detrend(sounds.generated)
        loudness, wanted = float(np.std(generated)), float(np.std(target))
        if not math.isfinite(loudness) or loudness < SILENT:
            return divergent
        signed = math.log((loudness + 1e-12) / (wanted + 1e-12))
        if rescale:
            generated = generated * (wanted / loudness)
            loudness = float(np.std(generated))
        terms = _terms(Pair(target, generated, sounds.sample_rate))
    amplitude = abs(math.log((loudness + 1e-12) / (wanted + 1e-12)))
    score = terms[0] - amplitude - terms[1]
    if not math.isfinite(score):
        return divergent
    return AutonomyScore(score, terms[0], amplitude, terms[1], signed, bounded=True)


def _terms(sounds: Pair) -> tuple[float, float]:
    """Spectral correlation and pitch penalty."""
    frequencies, ours = _density(sounds.target, sounds.sample_rate)
    _, theirs = _density(sounds.generated, sounds.sample_rate)
    heard = frequencies <= _HIGHEST
    first, second = (np.log(density[heard] + 1e-20) for density in (theirs, ours))
    pitches = [float(frequencies[1 + np.argmax(density[1:])]) for density in (theirs, ours)]
    pitch = abs(math.log((pitches[0] + 1e-9) / (pitches[1] + 1e-9)))
    return float(np.corrcoef(first, second)[0, 1]), pitch


def _density(sound: Floats, sample_rate: int) -> tuple[Floats, Floats]:
    """Welch's power spectral density: Hann, up to 1024 samples, half overlapping, each segment's mean removed."""
    frequencies, density = scipy.signal.welch(
        sound, sample_rate, window="hann", nperseg=min(1024, len(sound)), detrend="constant"
    )
    return frequencies, density


def autonomy_report(
    windows: Iterable[tuple[Sound, Sound]], sample_rate: int, *, rescale: bool = False, cold_start: bool = False
) -> AutonomyReport:
    """The published score of several windows.

    Args:
        windows: pairs (target, generated) as for `autonomy`; at least one.
        sample_rate: samples a second.
        rescale: as for `autonomy`.
        cold_start: whether the windows begin in silence: it is recorded only.

    Raises:
        UsageError: no windows, or one that cannot be scored; the message gives its place.
    """
    scores = score_each(windows, lambda x, a: autonomy(x, a, sample_rate, rescale=rescale))
    return AutonomyReport(
        score=float(np.mean([window.score for window in scores])),
        windows=scores,
        spec_corr=bounded_mean(scores, "spec_corr"),
        amp_pen=bounded_mean(scores, "amp_pen"),
        pitch_pen=bounded_mean(scores, "pitch_pen"),
        signed_amp=bounded_mean(scores, "signed_amp"),
        bounded_fraction=float(np.mean([window.bounded for window in scores])),
        cold_start=cold_start,
        rescale=rescale,
    )
