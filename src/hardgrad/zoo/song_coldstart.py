"""A model that learns to sing alone from near silence, from the spectra of its own rollouts.

    hardgrad run song-coldstart                       two simulated birds
    hardgrad run song-coldstart --data DIR            your own recordings: NAME.wav beside NAME.txt (onset, offset)

Each bird has its model. "source" is a bird whose sound obeys an equation of the model's class; "tract" has a syrinx, a
trachea and a throat, and no oscillator of second order makes its sound. Training sees windows around onsets and
offsets; a rollout begins from noise or from one recorded sample, and all that it gets of the sound afterwards are its
drives, smooth over a millisecond. What is reported are whole held-out syllables, sung from 45 ms of silence to their
end.

Architectures: "cycle" is a field around a limit cycle in units of its own pitch and loudness, driven by spectra at a
frame rate, behind a learned vocal tract; "published" is the polynomial of order n with its oscillator prior, driven by
three Mamba stacks at the sample rate (slow; --tract 0 takes the filter away); "syrinx" is the equation of 2021.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from ..core import UsageError
from ..oscillators import Segments, SongObjective, SpectralLoss, anchor_variance
from ..schedules import Horizon, LinearRamp, Static
from ._config import check_range
from ._recipe import Experiment, Recipe
from ._song_config import SMALL, SongConfig
from ._song_report import figures
from ._song_training import build, data
from ._song_training import experiment as song_experiment


@dataclasses.dataclass(frozen=True)
class Config(SongConfig):
    """The recipe's settings; those of the loss on top of those of all song recipes."""

    horizon_min: int = 1024
    """samples of a rollout at the start"""
    horizon_max: int = 2048
    """and at the end"""
    horizon_schedule: Literal["geom", "linear", "const", "pow2"] = "pow2"
    """how it gets there"""
    lambda_spec: float = 1.0
    """weight of the spectral loss"""
    lambda_tf: float = 0.0
    """weight of the teacher-forced anchor; published 1, of no use behind a vocal tract"""
    lambda_env: float = 0.0
    """weight of the envelope loss"""
    lambda_env_log: float = 0.0
    """weight of the logarithmic envelope loss"""
    spec_warmup: int = 0
    """epochs in which the spectral weight grows; published 5, beside the anchor"""
    cold_rms: float = 1e-3
    """rms of the noise an onset is begun from"""
    clip: float = 2.0
    """an example's gradient, in medians of its batch; 0 is no clipping"""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(
            self,
            horizon_min=64,
            horizon_max=64,
            lambda_spec=0.0,
            lambda_tf=0.0,
            lambda_env=0.0,
            lambda_env_log=0.0,
            spec_warmup=0,
            cold_rms=0.0,
            clip=0.0,
        )
        if self.horizon_min > self.horizon_max:
            raise UsageError(f"horizon_min={self.horizon_min} is more than horizon_max={self.horizon_max}.")


def objective(config: Config, segments: Segments) -> SongObjective:
    """The objective of one bird."""
    if config.horizon_max > segments.sound.shape[1]:
        raise UsageError(
            f"horizon_max={config.horizon_max} is more than the {segments.sound.shape[1]} samples of a segment: "
            "ask for a shorter horizon or a longer --context."
        )
    return SongObjective(
        spectral=SpectralLoss(eps_sc=1.0),  # silence is to weigh no more than song
        variance=anchor_variance(segments.acceleration, config.batch_size, floor=1e-12),
        lambda_spec=config.lambda_spec,
        lambda_tf=config.lambda_tf,
        lambda_env=config.lambda_env,
        lambda_env_log=config.lambda_env_log,
        cold_rms=config.cold_rms,
        cold_velocity_rms=0.3 * config.cold_rms,  # of noise at rest in an oscillator of 2 kHz
        clip=config.clip or None,
    )


def experiment(config: Config) -> Experiment:
    """The whole run.

    Raises:
        UsageError: no usable recordings, or rollouts longer than the segments.
    """
    horizon = Horizon(config.horizon_min, config.horizon_max, config.horizon_schedule, shapes=_shapes(config))
    plan: dict[str, Any] = {"horizon": Static(horizon)}
    if config.spec_warmup:
        plan["lambda_spec"] = LinearRamp(0.0, config.lambda_spec, config.spec_warmup)
    return song_experiment(config, lambda segments: objective(config, segments), plan)


def _shapes(config: Config) -> int | None:
    """Few compiled programs: smooth schedules go in three steps."""
    return 3 if config.horizon_schedule in ("geom", "linear") else None


RECIPE = Recipe(
    config=Config,
    build=build,
    data=data,
    experiment=experiment,
    smoke={**SMALL, "horizon_min": 512, "horizon_max": 512},
    figures=figures,
)
