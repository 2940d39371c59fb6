"""A stricter autonomy score: it hears when, how loud, at which pitch, and that a rollout got away.

Both sounds are high-passed at a fixed 250 Hz (`_sound`). Then, with E the envelopes divided by their sums:

    spec_corr      correlation over time and frequency of two mel spectrograms in dB
    amp_pen        |ln (std_a / std_x)|                                            loudness as a whole
    envelope_pen   ½ Σ_t |E_a - E_x|, in [0, 1]                                    the share of sound at the wrong time
    pitch_pen      median over voiced frames of min(ln 4, |ln (f_a / f_x)|)
    score          spec_corr - h(amp_pen + envelope_pen + pitch_pen);   -5 where not bounded
                   h(p) = p up to 3, then 4 - 1/(p - 2), which never reaches 4

Why so:

- *Spectrogram.* Both are cut off 60 dB below the target's loudest cell: what lies lower cannot be heard beside it, and
  the noise of a recording neither earns nor costs anything. A rollout that is quieter than that everywhere has
  correlation 0. Time is an axis: a song played backwards does not fit.
- *Envelope.* It is free of loudness, which amp_pen has already counted.
- *Pitch.* Frames count that are periodic in the target and within 30 dB of its loudest frame. There a rollout that is
  not periodic, or 60 dB below, is charged ln 4, two octaves, the most that a frame can cost: noise can't do better
  than a wrong note. Both sounds go through one detector, whose octave errors are then mostly the same; where they are
  not, they are few, and the median does not see them. A wrong octave throughout costs ln 2. Without a voiced frame in
  the target there is nothing to compare: the penalty is 0 and `voiced` NaN.
- *Bounded.* The rollout is finite; not silent (std at least 1e-9); nowhere 10 times as large as the target's peak;
  and less than 1 % of its samples lie at the bound of the saturation (beyond 0.9 of it), where the integrator would be
  making the sound and not the model.
- *Floor.* A penalty always costs something, so that two bad rollouts keep their order, and a bounded one always
  scores above -5, so that none that got away outranks it.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable

import numpy as np

from ...core import finite_number
from ._sound import high_pass, mel_spectrogram, pitch, smooth_envelope
from ._windows import (
    DIVERGENT,
    SILENT,
    Floats,
    Sound,
    bounded_mean,
    check_audible,
    correlation,
    pair,
    score_each,
)

_RANGE = 1e-6  # of power: 60 dB below the loudest cell of the target nothing is heard
_VOICED, _HEARD = 10.0**-1.5, 1e-3  # of amplitude, of the target's loudest frame: -30 dB and -60 dB
_MOST_PITCH = math.log(4.0)
_TOO_LARGE = 10.0  # times the target's peak
_AT_BOUND, _OFTEN = 0.9, 0.01
_LINEAR = 3.0  # penalties up to here are subtracted as they are


@dataclasses.dataclass(frozen=True)
class StrictScore:
    """The stricter score of one window.

    Attributes:
        score: in (-5, 1]; -5 where not bounded.
        spec_corr: in [-1, 1]; NaN where not bounded, as are the next five.
        amp_pen: at least 0; a factor e costs 1.
        envelope_pen: in [0, 1].
        pitch_pen: in [0, ln 4]; an octave costs ln 2.
        signed_amp: ln (std_a / std_x), above 0 where the rollout is too loud; as it came, before `rescale`.
        voiced: share of the target's voiced frames that are periodic and audible in the rollout too; NaN without any.
        bounded: whether the rollout passed the test.
        reason: why it did not: ``"not finite"``, ``"silent"``, ``"too large"`` or ``"at the bound"``; else ``""``.
    """

    score: float
    spec_corr: float
    amp_pen: float
    envelope_pen: float
    pitch_pen: float
    signed_amp: float
    voiced: float
    bounded: bool
    reason: str


@dataclasses.dataclass(frozen=True)
class StrictReport:
    """The stricter score of several windows; the means are over bounded windows, and NaN without any.

    Attributes:
        score: the mean over all windows, unbounded ones included at -5.
        windows: the score of each.
        spec_corr: mean.
        amp_pen: mean.
        envelope_pen: mean.
        pitch_pen: mean.
        signed_amp: mean, before rescaling.
        bounded_fraction: share of windows that are bounded.
        rescale: whether rollouts were first brought to their target's loudness.
    """

    score: float
    windows: tuple[StrictScore, ...]
    spec_corr: float
    amp_pen: float
    envelope_pen: float
    pitch_pen: float
    signed_amp: float
    bounded_fraction: float
    rescale: bool

    def breakdown(self) -> dict[str, float | bool]:
        """The means and the flags by name."""
        return {name: value for name, value in vars(self).items() if name not in ("score", "windows")}


def strict_autonomy(
    target: Sound,
    generated: Sound,
    sample_rate: int,
    *,
    rescale: bool = False,
    bound: float | None = None,
    state: Sound | None = None,
) -> StrictScore:
    """The stricter score of one window.

    Args:
        target: the recording ``[time]``, at least 12 ms.
        generated: the rollout as it came from the integrator; the longer of the two is cut.
        sample_rate: samples a second, at least 2000.
        rescale: whether to bring the rollout to the target's loudness first, which makes amp_pen 0.
        bound: x_bound of the saturation the rollout ran under, above 0; None: none, or not known.
        state: the oscillator's own x ``[time]``, which the bound holds; None where it is what was generated.

    Raises:
        UsageError: too short, silent or non-finite a target, other axes, or a number out of range.

    Examples:
        >>> time = np.arange(6615) / 44100
        >>> song = 0.1 * np.sin(2 * np.pi * (600 + 4000 * time) * time) * (time > 0.05)
        >>> strict_autonomy(song, song, 44100).score
        1.0
        >>> round(strict_autonomy(song, 2 * song, 44100).amp_pen, 3)  # ln 2
        0.693
        >>> strict_autonomy(song, song[::-1], 44100).score < 0
        True
        >>> strict_autonomy(song, 20 * song, 44100).reason
        'too large'
    """
    sounds = pair(target, generated, sample_rate)
    if bound is not None:
        finite_number("bound", bound, above=0.0)
    ours = high_pass(sounds.target, sample_rate)
    check_audible(ours)
    reason = _why_unbounded(sounds.generated, float(np.abs(sounds.target).max()))
    if not reason and bound is not None:
        x = sounds.generated if state is None else np.asarray(state, np.float64)
        # Written so that a state that is not a number counts as at the bound.
        if not np.mean(np.abs(x) <= _AT_BOUND * bound) > 1.0 - _OFTEN:
            reason = "at the bound"
    theirs = ours if reason else high_pass(sounds.generated, sample_rate)
    loudness, wanted = float(np.std(theirs)), float(np.std(ours))
    if not reason and loudness < SILENT:
        reason = "silent"
    if reason:
        nan = math.nan
        return StrictScore(DIVERGENT, nan, nan, nan, nan, nan, nan, bounded=False, reason=reason)
    signed = math.log(loudness / wanted)
    if rescale:
        theirs = theirs * (wanted / loudness)
    amplitude = 0.0 if rescale else abs(signed)
    spectral = _spectral_correlation(ours, theirs, sample_rate)
    envelope = _misplaced(smooth_envelope(ours, sample_rate), smooth_envelope(theirs, sample_rate))
    detune, voiced = _pitch_penalty(ours, theirs, sample_rate)
    score = spectral - _bounded_penalty(amplitude + envelope + detune)
    return StrictScore(score, spectral, amplitude, envelope, detune, signed, voiced, bounded=True, reason="")


def _why_unbounded(generated: Floats, peak: float) -> str:
    if not np.isfinite(generated).all():
        return "not finite"
    return "too large" if np.abs(generated).max() >= _TOO_LARGE * peak else ""


def _spectral_correlation(target: Floats, generated: Floats, sample_rate: int) -> float:
    ours, theirs = (mel_spectrogram(sound, sample_rate) for sound in (target, generated))
    floor = _RANGE * ours.max()
    return correlation(*(np.log(np.maximum(power, floor)) for power in (ours, theirs)))


def _misplaced(target: Floats, generated: Floats) -> float:
    """Total variation between two envelopes taken as distributions over time."""
    return float(0.5 * np.sum(np.abs(generated / generated.sum() - target / target.sum())))


def _pitch_penalty(target: Floats, generated: Floats, sample_rate: int) -> tuple[float, float]:
    """The penalty, and the share of voiced frames that are voiced in the rollout."""
    ours, theirs = pitch(target, sample_rate), pitch(generated, sample_rate)
    loudest = ours.rms.max()
    frames = np.isfinite(ours.frequency) & (ours.rms >= _VOICED * loudest)
    if not frames.any():
        return 0.0, math.nan
    found = (np.isfinite(theirs.frequency) & (theirs.rms >= _HEARD * loudest))[frames]
    ratio = np.where(found, theirs.frequency[frames] / ours.frequency[frames], 4.0)
    return float(np.median(np.minimum(np.abs(np.log(ratio)), _MOST_PITCH))), float(found.mean())


def _bounded_penalty(penalty: float) -> float:
    """h: the identity up to 3, then bent, with the same slope there, towards 4."""
    return penalty if penalty <= _LINEAR else _LINEAR + 1.0 - 1.0 / (penalty - _LINEAR + 1.0)


def strict_autonomy_report(
    windows: Iterable[tuple[Sound, Sound]],
    sample_rate: int,
    *,
    rescale: bool = False,
    bound: float | None = None,
    states: Iterable[Sound] | None = None,
) -> StrictReport:
    """The stricter score of several windows.

    Args:
        windows: pairs (target, generated) as for `strict_autonomy`; at least one.
        sample_rate: samples a second.
        rescale: as for `strict_autonomy`.
        bound: likewise.
        states: the oscillator's own x in each window; None where it is what was generated.

    Raises:
        UsageError: no windows, or one that cannot be scored; the message gives its place.
    """
    state = itertools.repeat(None) if states is None else iter(states)
    scores = score_each(
        windows,
        lambda x, a: strict_autonomy(x, a, sample_rate, rescale=rescale, bound=bound, state=next(state)),
    )
    means = ("spec_corr", "amp_pen", "envelope_pen", "pitch_pen", "signed_amp")
    return StrictReport(
        score=float(np.mean([window.score for window in scores])),
        windows=scores,
        **{name: bounded_mean(scores, name) for name in means},
        bounded_fraction=float(np.mean([window.bounded for window in scores])),
        rescale=rescale,
    )
