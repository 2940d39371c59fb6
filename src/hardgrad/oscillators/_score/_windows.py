"""What both scores share: pairs of sounds checked and cut to one length, and scores of several windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from ...core import UsageError, whole_number

Sound = Float[np.ndarray, "_"]  # of any length: pairs are cut to the shorter
Floats = NDArray[np.float64]

SILENT = 1e-9
"""A standard deviation below this is silence."""

DIVERGENT = -5.0
"""The score of a rollout that is not bounded."""


class Pair(NamedTuple):
    """Two sounds of one length in float64."""

    target: Floats
    generated: Floats
    sample_rate: int

    @property
    def samples(self) -> int:
        return len(self.target)


def pair(target: Sound, generated: Sound, sample_rate: int) -> Pair:
    """The sounds, cut to the shorter one.

    Raises:
        UsageError: not one axis, nothing left, a target that is not finite, or a wrong sample rate.
    """
    sample_rate = whole_number("sample_rate", sample_rate, least=1)
    for name, sound in (("target", target), ("generated", generated)):
        if np.ndim(sound) != 1 or np.size(sound) == 0:
            raise UsageError(f"{name} must be one sound [time], got the shape {np.shape(sound)}.")
    samples = min(len(target), len(generated))
    ours, theirs = (np.asarray(sound[:samples], np.float64) for sound in (target, generated))
    if not np.isfinite(ours).all():
        raise UsageError(f"the target's sample {int(np.argmin(np.isfinite(ours)))} is not finite; mend the recording.")
    return Pair(ours, theirs, sample_rate)


def check_audible(target: Floats) -> None:
    """Raise `UsageError` where there is nothing to compare with."""
    if np.std(target) < SILENT:
        raise UsageError(
            f"the target is silent (standard deviation {np.std(target):.3g} after filtering): nothing to compare with. "
            "Take a window that holds a syllable."
        )


def correlation(first: Floats, second: Floats) -> float:
    """Pearson's correlation over all entries; 0 where one of the two is constant."""
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt(np.sum(first**2)) * np.sqrt(np.sum(second**2))
    return float(np.clip(np.sum(first * second) / scale, -1.0, 1.0)) if scale > 0.0 else 0.0


Score = TypeVar("Score")


def score_each(windows: Iterable[tuple[Sound, Sound]], score: Callable[[Sound, Sound], Score]) -> tuple[Score, ...]:
    """The score of each pair (target, generated).

    Raises:
        UsageError: no windows, or one that cannot be scored; the message gives its place.
    """
    scores = []
    for index, (target, generated) in enumerate(windows):
        try:
            scores.append(score(target, generated))
        except UsageError as error:
            raise UsageError(f"window {index}: {error}") from error
    if not scores:
        raise UsageError("a report needs at least one window, got none.")
    return tuple(scores)


def bounded_mean(scores: Sequence[Any], name: str) -> float:
    """The mean of one figure over the windows that are bounded; NaN without any."""
    values = [getattr(score, name) for score in scores if score.bounded]
    return float(np.mean(values)) if values else math.nan
