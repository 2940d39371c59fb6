"""How a model of song sings alone: cold starts of held-out syllables, sung and scored on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import NDArray

from ...core import UsageError
from .._data import ColdStart, derivatives
from .._score import (
    AutonomyReport,
    OnsetQuality,
    StrictReport,
    autonomy_report,
    onset_quality,
    strict_autonomy_report,
)
from ._model import SongModel


class Sung(NamedTuple):
    """What was sung for several sounds.

    Attributes:
        sounds: float64 ``[time]`` each, as long as its sound; not finite where the rollout was not.
        states: the oscillator's own x, before the vocal tract; None: not known.
        bound: where the saturation holds the states; None: nowhere, or not known.
    """

    sounds: list[NDArray[np.float64]]
    states: list[NDArray[np.float64]] | None = None
    bound: float | None = None


@eqx.filter_jit
def _sung(model: SongModel, x: Array, v: Array) -> tuple[Array, Array]:
    return model.song(x, v)


def sing(model: SongModel, sounds: Sequence[NDArray[Any]]) -> Sung:
    """The model's own version of sounds: from each its drives and its first sample, the rest alone.

    Sounds are reflected at their end to one length, so that one program sings them all.

    Args:
        model: the model.
        sounds: ``[time]`` each, at least 5 samples.

    Raises:
        UsageError: no sound.
    """
    if not sounds:
        raise UsageError("there is no sound to sing. Give at least one.")
    dtype = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))[0].dtype
    longest = max(len(sound) for sound in sounds)
    longest = -(-longest // 1024) * 1024  # few lengths: few programs
    x = np.stack([np.pad(sound, (0, longest - len(sound)), mode="reflect") for sound in sounds])
    v, _ = derivatives(x)
    found = _sung(model, jnp.asarray(x, dtype), jnp.asarray(v, dtype))
    sung, states = (
        [one[: len(sound)] for one, sound in zip(np.asarray(rows, np.float64), sounds, strict=True)] for rows in found
    )
    return Sung(sung, states, None if model.saturation.kind == "none" else model.saturation.x_bound)


class SongScores:
    """Scores of cold starts, for `Evaluate`: ``SongScores(windows)(model)`` gives figures by name.

    Args:
        windows: held-out syllables with the silence before them, see `cold_start_windows`.

    Raises:
        UsageError: no window.
    """

    names = (
        "autonomy",
        "spec_corr",
        "amp_pen",
        "pitch_pen",
        "bounded_frac",
        "strict_autonomy",
        "strict_bounded_frac",
    )
    """The published score with its parts, and the stricter one."""

    def __init__(self, windows: Sequence[ColdStart]):
        if not windows:
            raise UsageError(
                "there is no held-out syllable with enough silence before it. Annotate more, or ask for a shorter pad."
            )
        self.windows = tuple(windows)

    def sung(self, model: SongModel) -> Sung:
        """What the model makes of each window."""
        return sing(model, [window.sound for window in self.windows])

    def reports(self, sung: Sung) -> tuple[AutonomyReport, StrictReport]:
        """The published score and the stricter one, unscaled."""
        pairs = [(window.sound, ours) for window, ours in zip(self.windows, sung.sounds, strict=True)]
        rate = self.windows[0].sample_rate
        return (
            autonomy_report(pairs, rate, cold_start=True),
            strict_autonomy_report(pairs, rate, bound=sung.bound, states=sung.states),
        )

    def onsets(self, sung: Sung) -> list[OnsetQuality]:
        """How each window's sound begins."""
        return [
            onset_quality(window.sound, ours, window.onset_index, window.sample_rate)
            for window, ours in zip(self.windows, sung.sounds, strict=True)
        ]

    def __call__(self, model: SongModel) -> Mapping[str, float]:
        """The figures by name; those that no bounded window gives are NaN."""
        published, strict = self.reports(self.sung(model))
        found = (
            published.score,
            published.spec_corr,
            published.amp_pen,
            published.pitch_pen,
            published.bounded_fraction,
            strict.score,
            strict.bounded_fraction,
        )
        return dict(zip(self.names, map(float, found), strict=True))
