"""The syrinx equation of 2021, driven by learned pressure and tension.

    hardgrad run song-syrinx

    x'' = g²(α + βx + x² - x³) - g(δ + x + x²)v

with three drives and one learned rate. Trained as published, with the one-step loss and all heads at 0; no vocal tract.
"""

from __future__ import annotations

import dataclasses

from ._recipe import Recipe
from ._song_config import SMALL
from ._song_models import Architecture
from ._song_report import figures
from ._song_training import build, data
from .song_onestep import Config as OneStepConfig
from .song_onestep import experiment


@dataclasses.dataclass(frozen=True)
class Config(OneStepConfig):
    """The recipe's settings."""

    architecture: Architecture = "syrinx"
    """"cycle", "published" or "syrinx": see song-coldstart"""


RECIPE = Recipe(config=Config, build=build, data=data, experiment=experiment, smoke=SMALL, figures=figures)
