"""What a simulated bird sings: a row of syllables, and its slow controls over time."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]

Kind = Literal["stack", "down", "up", "arch", "high"]
Pitches = dict[Kind, tuple[float, float]]

# Pitches in Hz between which a syllable's are drawn.
SOURCE_PITCHES: Pitches = {
    "stack": (520.0, 750.0),
    "down": (500.0, 1100.0),
    "up": (500.0, 1100.0),
    "arch": (600.0, 1000.0),
    "high": (1500.0, 2600.0),
}
TRACT_PITCHES: Pitches = {**SOURCE_PITCHES, "high": (1100.0, 1600.0)}

_DURATIONS, _GAPS = (0.045, 0.14), (0.03, 0.07)
_AROUND = 0.15  # silence before and after
_RISE, _FALL = 0.006, 0.010
_MUSCLE = 0.0013  # pitch is smoothed by a Gaussian of so many seconds, about 120 Hz wide

# How renditions of one motif differ: relative standard deviations.
_TEMPO, _GAP, _PITCH, _SYLLABLE_PITCH, _LOUDNESS = 0.04, 0.08, 0.015, 0.01, 0.08


@dataclasses.dataclass(frozen=True)
class Syllable:
    """A syllable: its kind, seconds, seconds of silence after it, pitches in Hz, relative loudness."""

    kind: Kind
    duration: float
    gap: float
    pitches: tuple[float, float]
    loudness: float = 1.0


@dataclasses.dataclass(frozen=True)
class Motif:
    """A row of syllables, and how loud the whole is, at most 1."""

    syllables: tuple[Syllable, ...]
    loudness: float = 1.0

    def edges(self) -> NDArray[np.float64]:
        """Onsets and offsets in seconds ``[syllables, 2]``."""
        at, edges = _AROUND, []
        for syllable in self.syllables:
            edges.append((at, at + syllable.duration))
            at += syllable.duration + syllable.gap
        return np.array(edges)

    def seconds(self) -> float:
        """Its length, with silence before and after."""
        return float(self.edges()[-1, 1]) + _AROUND


def draw_motif(generator: np.random.Generator, pitches: Pitches, *, distinct: bool) -> Motif:
    """Two to four syllables of any kind, or of distinct kinds."""
    kinds = list(pitches)
    count = int(generator.integers(2, 5))
    drawn = generator.choice(len(kinds), count, replace=not distinct)
    syllables = []
    for kind in (kinds[i] for i in drawn):
        first, second = generator.uniform(*pitches[kind], 2).tolist()
        if kind == "stack":
            second = first * generator.uniform(0.97, 1.03)
        elif kind in ("down", "up"):
            first, second = sorted((first, second), reverse=kind == "down")
        syllables.append(Syllable(kind, generator.uniform(*_DURATIONS), generator.uniform(*_GAPS), (first, second)))
    return Motif(tuple(syllables), float(np.sqrt(generator.uniform(0.6, 1.0))))


def rendition(motif: Motif, generator: np.random.Generator) -> Motif:
    """The motif as sung once: a little faster or slower, higher or lower, louder or softer, as a whole and in parts."""

    def around(deviation: float) -> float:
        return 1.0 + deviation * float(np.clip(generator.standard_normal(), -2.0, 2.0))

    pitch = around(_PITCH)
    syllables = []
    for syllable in motif.syllables:
        own = pitch * around(_SYLLABLE_PITCH)
        syllables.append(
            dataclasses.replace(
                syllable,
                duration=syllable.duration * around(_TEMPO),
                gap=syllable.gap * around(_GAP),
                pitches=(syllable.pitches[0] * own, syllable.pitches[1] * own),
                loudness=min(1.0, around(_LOUDNESS)),
            )
        )
    return Motif(tuple(syllables), min(1.0, motif.loudness * around(_LOUDNESS)))


def pitch_curve(motif: Motif, sample_rate: int) -> NDArray[np.float64]:
    """f0 in Hz at every sample; in a gap it goes from one syllable's to the next one's half way."""
    edges = motif.edges()
    time = np.arange(round(motif.seconds() * sample_rate)) / sample_rate
    changes = (edges[:-1, 1] + edges[1:, 0]) / 2
    owner = np.searchsorted(changes, time)
    curve = np.empty_like(time)
    for index, syllable in enumerate(motif.syllables):
        own = owner == index
        along = np.clip((time[own] - edges[index, 0]) / syllable.duration, 0.0, 1.0)
        first, second = syllable.pitches
        curve[own] = first + (second - first) * (np.sin(np.pi * along) if syllable.kind == "arch" else along)
    smooth: NDArray[np.float64] = ndimage.gaussian_filter1d(curve, _MUSCLE * sample_rate, mode="nearest")
    return smooth


def gates(motif: Motif, sample_rate: int) -> NDArray[np.float64]:
    """How far each syllable is switched on, in [0, 1]: ``[syllables, time]``."""
    time = np.arange(round(motif.seconds() * sample_rate)) / sample_rate
    return np.stack([_step(time, onset, _RISE) * (1.0 - _step(time, offset, _FALL)) for onset, offset in motif.edges()])


def _step(time: NDArray[np.float64], at: float, half_width: float) -> NDArray[np.float64]:
    along = np.clip((time - at) / (2 * half_width) + 0.5, 0.0, 1.0)
    return along * along * (3.0 - 2.0 * along)
