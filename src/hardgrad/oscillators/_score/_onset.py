"""The onset of a song that starts from silence: does it click, and does it start in time?"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ...core import whole_number
from ._sound import high_pass, smooth_envelope
from ._windows import SILENT, Floats, Sound, check_audible, pair

_NEAR = 0.005  # s: a transient so near to the onset is taken for part of it
_PLATEAU = 90.0  # percentile of the envelope after the onset
_IGNITED = 0.1  # of the target's plateau, -20 dB


@dataclasses.dataclass(frozen=True)
class OnsetQuality:
    """How a rollout begins, beside its target.

    Attributes:
        click_ratio: the largest |Δ²a| within 5 ms of the annotated onset or of the rollout's own, over the largest
            |Δ²x| of the target from 5 ms before its onset on, each divided by its sound's standard deviation from there
            on. Δ² is the second difference, which a step shows at its full height and a tone of ω radians a sample at
            ω² of its own. Up to about 1 there is no sharper edge than the recording has; infinite for a rollout that
            is not finite.
        latency: seconds from the target's own start to the rollout's; below 0 where that is early; infinite where it
            never starts. A sound starts when its envelope (2 ms) first reaches half of its plateau, the 90th percentile
            of the envelope after the onset.
        lead_in: mean envelope up to 5 ms before the onset, over the plateau: 0 for a rollout that keeps quiet, near 1
            for one that sings throughout; NaN without a lead-in, or where it never starts.
        ignited: whether the rollout's plateau is at least a tenth of the target's.
    """

    click_ratio: float
    latency: float
    lead_in: float
    ignited: bool


def onset_quality(target: Sound, generated: Sound, onset: int, sample_rate: int) -> OnsetQuality:
    """How a rollout begins, beside its target.

    Args:
        target: the recording ``[time]``: silence, then a syllable up to the end; at least 12 ms.
        generated: the rollout; the longer of the two is cut.
        onset: the sample at which the annotated syllable begins, inside the window.
        sample_rate: samples a second, at least 2000.

    Raises:
        UsageError: too short, silent or non-finite a target, other axes, or a number out of range.

    Examples:
        >>> time = np.arange(6615) / 44100
        >>> song = np.sin(2 * np.pi * 700 * time) * np.clip((time - 0.05) / 0.006, 0, 1)
        >>> late = np.pad(song, (441, 0))[:6615]  # 10 ms
        >>> quality = onset_quality(song, late, 2205, 44100)
        >>> round(quality.click_ratio), round(quality.latency, 4), quality.ignited
        (1, 0.01, True)
        >>> late[2205] = 1.0
        >>> onset_quality(song, late, 2205, 44100).click_ratio > 50
        True
    """
    sounds = pair(target, generated, sample_rate)
    whole_number("onset", onset, least=0, most=sounds.samples - 1)
    near = round(_NEAR * sample_rate)
    ours = high_pass(sounds.target, sample_rate)
    check_audible(ours[onset:])
    if not np.isfinite(sounds.generated).all():
        return OnsetQuality(math.inf, math.inf, math.nan, False)
    theirs = high_pass(sounds.generated, sample_rate)
    wanted, got = smooth_envelope(ours, sample_rate), smooth_envelope(theirs, sample_rate)
    plateaus = [float(np.percentile(envelope[onset:], _PLATEAU)) for envelope in (wanted, got)]
    starts = [
        int(np.argmax(envelope >= 0.5 * plateau)) for envelope, plateau in zip((wanted, got), plateaus, strict=True)
    ]
    ignited = plateaus[1] >= _IGNITED * plateaus[0]
    begins = max(0, onset - near)
    around = np.unique(np.concatenate([_around(onset, near), _around(starts[1], near)]))
    around = around[(around >= 0) & (around < sounds.samples - 2)]
    click = _edge(theirs, around, begins) / _edge(ours, np.arange(begins, sounds.samples - 2), begins)
    quiet = float(np.mean(got[:begins])) / plateaus[1] if ignited and begins else math.nan
    latency = (starts[1] - starts[0]) / sample_rate if ignited else math.inf
    return OnsetQuality(click, latency, quiet, ignited)


def _around(sample: int, near: int) -> np.ndarray:
    return np.arange(sample - near, sample + near)


def _edge(sound: Floats, samples: np.ndarray, begins: int) -> float:
    """The largest second difference at the given samples, over the standard deviation from `begins` on."""
    loudness = float(np.std(sound[begins:]))
    return float(np.abs(np.diff(sound, 2))[samples].max()) / loudness if loudness >= SILENT else 0.0
