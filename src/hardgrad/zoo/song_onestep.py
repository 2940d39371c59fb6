"""The legacy loss on the same data and model: the acceleration at recorded states, one step at a time.

    hardgrad run song-onestep

It fits what it is asked for nearly perfectly, and leaves open what happens when the model is alone: how loud a free
rollout becomes, and whether it begins at all. Compare its table with that of song-coldstart. There is no vocal tract:
one-step regression takes the sound for the oscillator's own state.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..oscillators import OneStepObjective, Segments
from ._config import check_range
from ._recipe import Experiment, Recipe
from ._song_config import SMALL, SongConfig
from ._song_report import figures
from ._song_training import build, data
from ._song_training import experiment as song_experiment


@dataclasses.dataclass(frozen=True)
class Config(SongConfig):
    """The recipe's settings."""

    tract: int = 0
    """taps of the vocal tract, which this loss cannot train"""
    penalty_base: float = 0.0
    """λ of the weight penalty, published 1.068; 0 is none"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, penalty_base=0.0)


def objective(config: Config, segments: Segments) -> OneStepObjective:
    """The objective of one bird, in units of what predicting 0 would cost."""
    scale = float(np.mean(np.sum(np.square(segments.acceleration, dtype=np.float64), axis=1)))
    return OneStepObjective(scale=max(scale, 1e-30), penalty_base=config.penalty_base or None)


def experiment(config: Config) -> Experiment:
    """The whole run."""
    plan: dict[str, Any] = {}
    return song_experiment(config, lambda segments: objective(config, segments), plan)


RECIPE = Recipe(config=Config, build=build, data=data, experiment=experiment, smoke=SMALL, figures=figures)
