"""What the song recipes have in common: one arm a bird, scored by how it sings alone, and what is made of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import optax

from ..core import control
from ..estimators import Autodiff
from ..oscillators import ColdStart, Segments, SongModel, SongScores, write_wav
from ..schedules import Cosine, Plan
from ..training import FitResult, GradientMethod, InMemory, Run, Status, Trainer, clip_by_global_norm, controlled
from ..training.callbacks import Best, Callback, Evaluate
from ._arms import ArmsObjective
from ._recipe import Experiment
from ._song_birds import Bird, segments, windows
from ._song_config import SongConfig
from ._song_models import seeded, song_model
from ._song_report import conclude

SOUNDS = "sounds"
"""The folder of a run's WAV files."""
_HEARD = 3  # syllables of each bird that are written
_TENTHS = 10  # evaluations a run


def build(config: SongConfig) -> dict[str, SongModel]:
    """One model a bird."""
    birds = config.load()
    return models(config, birds)


def models(config: SongConfig, birds: Mapping[str, Bird]) -> dict[str, SongModel]:
    """One model a bird, at the start of training."""
    return {
        name: song_model(
            config.architecture,
            bird,
            key=seeded(config.seed, name),
            width=config.width,
            order=config.order,
            tract=config.tract,
            lowpass_ms=config.lowpass_ms,
        )
        for name, bird in birds.items()
    }


def data(config: SongConfig) -> dict[str, Segments]:
    """Training segments by bird."""
    birds = config.load()
    return training_data(config, birds)


def training_data(config: SongConfig, birds: Mapping[str, Bird]) -> dict[str, Segments]:
    """Training segments by bird, as many of each."""
    found = {
        name: segments(bird, count=config.segments, seconds=config.context, seed=config.seed)
        for name, bird in birds.items()
    }
    fewest = min(len(one.category) for one in found.values())
    return {name: one.take(np.arange(fewest)) for name, one in found.items()}


def experiment(
    config: SongConfig,
    objective: Callable[[Segments], Any],
    plan: Mapping[str, Any],
) -> Experiment:
    """A run of a song recipe.

    Args:
        config: the recipe's.
        objective: from a bird's training segments to its objective.
        plan: schedules besides the learning rate.
    """
    birds = config.load()
    trained = training_data(config, birds)
    held_out = {name: windows(bird.validation, config.windows) for name, bird in birds.items()}
    tested = {name: windows(bird.test, config.windows) for name, bird in birds.items()}
    rates = {
        name: optax.chain(clip_by_global_norm(config.max_norm), controlled(optax.adam, control("learning_rate")))
        for name in birds
    }
    score = BirdScores(held_out)
    steps = config.epochs * -(-len(next(iter(trained.values())).category) // config.batch_size)
    trainer = Trainer(
        GradientMethod(Autodiff(), optax.partition(rates, {name: name for name in birds})),
        plan=Plan(
            learning_rate=Cosine(config.learning_rate, 0.02 * config.learning_rate, max(1, steps), unit="step"), **plan
        ),
        callbacks=[
            Evaluate(score, score.names, every=max(1, config.epochs // _TENTHS)),
            Best("val_autonomy", "max"),
            Sounds(tested),
        ],
    )
    return Experiment(
        trainer=trainer,
        model=models(config, birds),
        objective=ArmsObjective({name: objective(trained[name]) for name in birds}, own_data=True),
        data=InMemory(trained, batch_size=config.batch_size),
        epochs=config.epochs,
        seed=config.seed,
        conclude=lambda result: conclude(birds, tested, held_out, result),
        ties=(("val_bounded_frac", "max"),),
    )


class BirdScores:
    """The scores of several birds' models: each bird's, under its name, and the means.

    Args:
        held_out: cold starts by bird.
    """

    def __init__(self, held_out: Mapping[str, list[ColdStart]]):
        self.scores = {name: SongScores(found) for name, found in held_out.items()}
        common = ("autonomy", "strict_autonomy", "bounded_frac", "strict_bounded_frac")
        parts = [f"{name}_{part}" for name, one in self.scores.items() for part in one.names]
        self.names = (*common, *parts)
        self._common = common

    def __call__(self, model: Mapping[str, SongModel]) -> dict[str, float]:
        """The figures by name."""
        found = {name: score(model[name]) for name, score in self.scores.items()}
        means = {part: float(np.mean([one[part] for one in found.values()])) for part in self._common}
        return means | {f"{name}_{part}": value for name, one in found.items() for part, value in one.items()}


class Sounds(Callback):
    """Write what the best model sings as WAV files, each beside its target and on one scale, when the run ends.

    Args:
        tested: cold starts by bird.
    """

    order: ClassVar[int] = 80

    def __init__(self, tested: Mapping[str, list[ColdStart]]):
        self.tested = tested

    def on_run_end(self, run: Run, result: FitResult) -> None:
        """Write them."""
        if run.folder is None or result.status is Status.PAUSED:
            return
        model = result.model if result.best_model is None else result.best_model
        folder = run.folder.path / SOUNDS
        folder.mkdir(exist_ok=True)
        for name, found in self.tested.items():
            heard = found[:: -(-len(found) // _HEARD)]  # of different syllables, as far as there are
            sung = SongScores(heard).sung(model[name]).sounds
            for i, (window, ours) in enumerate(zip(heard, sung, strict=True), start=1):
                loudest = np.max(np.abs(np.append(window.sound, ours)))
                if not np.isfinite(loudest):
                    continue  # nothing that could be heard
                for kind, sound in (("target", window.sound), ("sung", ours)):
                    write_wav(folder / f"{name}-{i}-{kind}.wav", 0.95 * sound / loudest, window.sample_rate)
