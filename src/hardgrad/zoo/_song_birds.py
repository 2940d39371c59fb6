"""Whose songs a recipe learns: simulated birds, whose truth is known, or a folder of recordings."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ..core import UsageError
from ..oscillators import (
    ColdStart,
    Recording,
    SamplerConfig,
    Segments,
    SimulatedSong,
    cold_start_windows,
    load_recordings,
    sample_segments,
    simulate_songs,
    split_files,
)

Birds = Literal["both", "source", "tract"]
RECORDED = "recorded"
"""The name of the arm that learns a user's own recordings."""


@dataclasses.dataclass(frozen=True)
class Bird:
    """One bird's songs, split by file.

    Attributes:
        name: ``"source"``, ``"tract"`` or ``"recorded"``.
        train: what is learned from.
        validation: what the best epoch is chosen by.
        test: what is reported.
        truth: of a simulated bird, the test songs with their controls; empty else.
    """

    name: str
    train: tuple[Recording, ...]
    validation: tuple[Recording, ...]
    test: tuple[Recording, ...]
    truth: tuple[SimulatedSong, ...] = ()

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        return self.train[0].sample_rate

    @property
    def peaks(self) -> tuple[float, float]:
        """The largest magnitudes of the training songs: of the sound, and of its change per sample."""
        return (
            max(float(np.max(np.abs(song.sound))) for song in self.train),
            max(float(np.max(np.abs(np.diff(song.sound)))) for song in self.train),
        )


@functools.lru_cache(maxsize=4)  # candidates of a search share their bird
def simulated(
    name: Literal["source", "tract"], *, seed: int, songs: int, validation: int, test: int, noise: float
) -> Bird:
    """Renditions of a simulated bird's motif: those held out are further renditions of the same one."""
    found = simulate_songs(songs + validation + test, bird=name, seed=seed, noise=noise)
    recordings = tuple(song.recording for song in found)
    return Bird(
        name,
        recordings[:songs],
        recordings[songs : songs + validation],
        recordings[songs + validation :],
        tuple(found[songs + validation :]),
    )


@functools.lru_cache(maxsize=4)  # likewise
def recorded(folder: str, *, seed: int) -> Bird:
    """A folder of WAV and annotation files, a tenth each for validation and test.

    What cannot be used is printed, a line a file.

    Raises:
        UsageError: fewer than three usable recordings.
    """
    found = load_recordings(Path(folder))
    for problem in found.problems:
        print(f"left out: {problem.message}", flush=True)  # noqa: T201 - what a recipe leaves out, its user must know
    if len(found) < 3:
        raise UsageError(
            f"{folder} holds {len(found)} usable recordings; three are needed, to train, to choose and to report."
        )
    split = split_files(found, seed=seed)
    train, validation, test = (tuple(found.select(part)) for part in (split.train, split.validation, split.test))
    return Bird(RECORDED, train, validation, test)


def segments(bird: Bird, *, count: int, seconds: float, seed: int) -> Segments:
    """Training segments of a bird."""
    return sample_segments(bird.train, SamplerConfig(context_seconds=seconds, max_segments=count, seed=seed))


def windows(recordings: Sequence[Recording], count: int) -> list[ColdStart]:
    """Cold starts of held-out syllables: the silence before, and the syllable to its end.

    A syllable dies away beyond its annotated offset, so that 10 ms after one belong to it.
    """
    return cold_start_windows(recordings, count=count, guard=round(0.01 * recordings[0].sample_rate))
