"""How a model of song sings alone: cold starts of held-out syllables, sung and scored on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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


@eqx.filter_jit
def _sung(model: SongModel, x: Array, v: Array) -> Array:
    return model(x, v)


def sing(model: SongModel, sounds: Sequence[NDArray[Any]]) -> list[NDArray[np.float64]]:
    """The model's own version of sounds: from each its drives and its first sample, the rest alone.

    Sounds are reflected at their end to one length, so that one program sings them all.

    Args:
        model: the model.
        sounds: ``[time]`` each, at least 5 samples.

    Returns:
        float64 ``[time]`` each, as long as its sound; not finite where the rollout was not.

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
    found = np.asarray(_sung(model, jnp.asarray(x, dtype), jnp.asarray(v, dtype)), np.float64)
    return [one[: len(sound)] for one, sound in zip(found, sounds, strict=True)]


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

    def sung(self, model: SongModel) -> list[NDArray[np.float64]]:
        """What the model makes of each window."""
        return sing(model, [window.sound for window in self.windows])

    def reports(
        self, model: SongModel, generated: Sequence[NDArray[np.float64]] | None = None
    ) -> tuple[AutonomyReport, StrictReport]:
        """The published score and the stricter one, unscaled."""
        generated = self.sung(model) if generated is None else generated
        pairs = [(window.sound, ours) for window, ours in zip(self.windows, generated, strict=True)]
        rate = self.windows[0].sample_rate
        return (
            autonomy_report(pairs, rate, cold_start=True),
            strict_autonomy_report(pairs, rate, bound=_bound(model)),
        )

    def onsets(self, generated: Sequence[NDArray[np.float64]]) -> list[OnsetQuality]:
        """How each window's sound begins."""
        return [
            onset_quality(window.sound, ours, window.onset_index, window.sample_rate)
            for window, ours in zip(self.windows, generated, strict=True)
        ]

    def __call__(self, model: SongModel) -> Mapping[str, float]:
        """The figures by name; those that no bounded window gives are NaN."""
        published, strict = self.reports(model)
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


def _bound(model: SongModel) -> float | None:
    """Where the state is bound, if what is heard is the state itself."""
    bounded = model.saturation.kind != "none" and model.tract is None
    return model.saturation.x_bound if bounded else None
