"""Settings that all song recipes share."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..core import UsageError
from ._config import check_range
from ._song_birds import RECORDED, Bird, Birds, recorded, simulated
from ._song_models import Architecture

SMALL: dict[str, Any] = {
    "birds": "tract",
    "songs": 2,
    "validation_songs": 1,
    "test_songs": 1,
    "windows": 2,
    "segments": 16,
    "batch_size": 8,
    "epochs": 2,
    "width": 8,
}
"""Settings of a smoke run."""


@dataclasses.dataclass(frozen=True)
class SongConfig:
    """Data and architecture."""

    birds: Birds = "both"
    """whose songs: "source" is inside the model class, "tract" outside it"""
    data: str | None = None
    """a folder of WAV and annotation files to learn instead"""
    bird_seed: int = 0
    """which simulated bird"""
    songs: int = 24
    """songs to learn from, of each simulated bird"""
    validation_songs: int = 4
    """further songs, to choose the best epoch by"""
    test_songs: int = 8
    """further songs, to report"""
    noise: float = 2e-4
    """rms of the microphone's noise; the loudest song peaks at 0.1"""
    windows: int = 16
    """held-out syllables to sing, for validation and for test each, at most"""
    segments: int = 1024
    """training segments of each bird"""
    context: float = 0.05
    """seconds of a segment"""
    architecture: Architecture = "cycle"
    """"cycle", "published" or "syrinx": see the recipe's module"""
    width: int = 64
    """channels of the frame encoder"""
    order: int = 3
    """of the field"""
    tract: int = 64
    """taps of the vocal tract; 0 is none"""
    lowpass_ms: float = 1.0
    """standard deviation of the drives' low-pass"""
    epochs: int = 50
    """epochs of training"""
    batch_size: int = 16
    """segments a step, of each bird"""
    learning_rate: float = 7e-4
    """Adam's, at the start; falls to 2 % of it along a cosine"""
    max_norm: float = 1.0
    """the gradient is clipped to this norm"""
    seed: int = 0
    """of the start, the draw of segments and their order"""

    def __post_init__(self) -> None:
        check_range(
            self,
            bird_seed=0,
            songs=1,
            validation_songs=1,
            test_songs=1,
            noise=0.0,
            windows=1,
            segments=8,
            context=0.02,
            width=1,
            order=1 if self.architecture == "published" else 3,
            tract=0,
            lowpass_ms=0.0,
            epochs=0,
            batch_size=1,
            learning_rate=0.0,
            max_norm=0.0,
            seed=0,
        )
        if self.batch_size > self.segments:
            raise UsageError(f"a batch of {self.batch_size} segments is more than the {self.segments} there are.")

    @property
    def names(self) -> tuple[str, ...]:
        """One arm a bird."""
        if self.data is not None:
            return (RECORDED,)
        return ("source", "tract") if self.birds == "both" else (self.birds,)

    def load(self) -> dict[str, Bird]:
        """The birds by name.

        Raises:
            UsageError: no usable recordings.
        """
        if self.data is not None:
            return {RECORDED: recorded(self.data, seed=self.bird_seed)}
        sizes = {
            "seed": self.bird_seed,
            "songs": self.songs,
            "validation": self.validation_songs,
            "test": self.test_songs,
            "noise": self.noise,
        }
        return {name: simulated(name, **sizes) for name in self.names}
