"""Which two of eight channels are busy? A recurrent spiking network on noisy spike trains, with surrogate gradients.

    hardgrad run classification-rsnn                  five seeds side by side
    hardgrad run classification-rsnn --active 0.7     the published rates, at which nothing is left to learn

Linear(8, 24) → recurrent LIF(24) → Linear(24, 4) → leaky integrator(4), 920 parameters. Channels 2c and 2c + 1 spike at
one rate, the others at a lower one, independently at each of 16 steps. So the best answer is known: it is the class
whose two channels spiked most, and what the network makes of held-out trains stands beside it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from ..core import UsageError, control
from ..estimators import Autodiff
from ..schedules import Cosine, Plan
from ..spiking import ArcTan, CrossEntropy, LeakyIntegrator, Network, RecurrentLIF, SpikingObjective, run
from ..training import (
    EnsembleObjective,
    FitResult,
    GradientMethod,
    InMemory,
    Trainer,
    controlled,
    make_ensemble,
    member,
    over_members,
)
from ..training.callbacks import Best, Evaluate
from ._config import check_range, member_seeds
from ._recipe import Conclusion, Experiment, Recipe
from ._spiking_report import run_figures
from ._spiking_traces import KeepTraces, Trace, traces_of
from ._verdicts import spread

CHANNELS, CLASSES = 8, 4
TRAIN, VALIDATION, TEST = range(3)


@dataclasses.dataclass(frozen=True)
class Config:
    """The published network; data of our own rates, so that there is something to reach."""

    samples: int = 4096
    """trains of each member to learn from"""
    held_out: int = 4096
    """further trains to choose the best epoch by, and as many to report"""
    steps: int = 16
    """time steps of a train"""
    active: float = 0.35
    """probability of a spike in the class's two channels; published 0.7"""
    idle: float = 0.1
    """and in the others"""
    hidden: int = 24
    """recurrent units"""
    epochs: int = 30
    """epochs of training"""
    batch_size: int = 64
    """trains a step"""
    learning_rate: float = 5e-3
    """Adam's, at the start; falls to 0 along a cosine"""
    smoothing: float = 0.1
    """of the labels; published 0.3"""
    members: int = 5
    """networks, each with data and start of its own"""
    seed: int = 0
    """members take seeds SEED·MEMBERS and on: no two seeds share one"""

    def __post_init__(self) -> None:
        check_range(
            self, samples=1, held_out=1, steps=1, hidden=1, epochs=0, batch_size=1, members=1, learning_rate=0, seed=0
        )
        for name in ("active", "idle"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise UsageError(f"{name} is a probability between 0 and 1, got {getattr(self, name)!r}.")
        if not self.idle < self.active:
            raise UsageError(f"active={self.active} must be more than idle={self.idle}: the class is what is busy.")
        if not 0.0 <= self.smoothing < 1.0:
            raise UsageError(f"smoothing must be at least 0 and below 1, got {self.smoothing!r}.")
        if self.batch_size > self.samples:
            raise UsageError(f"a batch of {self.batch_size} trains is more than the {self.samples} there are.")

    @property
    def member_seeds(self) -> list[int]:
        """One a member."""
        return member_seeds(self.seed, self.members)


def trains(config: Config, part: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Spike trains ``[samples, members, steps, 8]`` and labels ``[samples, members]`` in 0..3.

    Args:
        config: the recipe's.
        part: `TRAIN`, `VALIDATION` or `TEST`.
    """
    count = config.samples if part == TRAIN else config.held_out
    found, labels = [], []
    for seed in config.member_seeds:
        rng = np.random.default_rng((seed, part))
        label = rng.integers(CLASSES, size=count, dtype=np.int32)
        busy = np.arange(CHANNELS) // 2 == label[:, None]
        rate = np.where(busy, config.active, config.idle)
        found.append((rng.random((count, config.steps, CHANNELS)) < rate[:, None]).astype(np.float32))
        labels.append(label)
    return np.stack(found, axis=1), np.stack(labels, axis=1)


def data(config: Config) -> tuple[NDArray[Any], NDArray[Any]]:
    """Training trains and labels."""
    return trains(config, TRAIN)


def network(config: Config, key: Any) -> Network:
    """One member at its start."""
    first, cell, last, integrator = jax.random.split(key, 4)
    return Network(
        [
            eqx.nn.Linear(CHANNELS, config.hidden, key=first),
            RecurrentLIF(config.hidden, surrogate=ArcTan(), key=cell),
            eqx.nn.Linear(config.hidden, CLASSES, key=last),
            LeakyIntegrator(CLASSES, key=integrator),
        ]
    )


def build(config: Config) -> Any:
    """The members, one ensemble."""
    return make_ensemble(lambda key: network(config, key), config.member_seeds)


class Accuracies:
    """Each member's share of right answers, and of the best possible ones.

    Args:
        inputs: trains ``[samples, members, steps, 8]``.
        labels: ``[samples, members]``.
    """

    def __init__(self, inputs: NDArray[Any], labels: NDArray[Any]):
        self.inputs, self.labels = jnp.asarray(inputs), labels
        busy = inputs.sum(axis=2).reshape(*labels.shape, CLASSES, 2).sum(axis=-1)
        self.best = np.mean(busy.argmax(axis=-1) == labels, axis=0)

    def __call__(self, ensemble: Any) -> NDArray[Any]:
        """Of each member."""
        answers = _answers(ensemble, self.inputs)
        return np.asarray(np.mean(self.labels == np.asarray(answers).T, axis=0))


@eqx.filter_jit
def _answers(ensemble: Any, inputs: Any) -> Any:
    return over_members(lambda one, x: jnp.argmax(jnp.sum(one(x), axis=1), axis=-1), ensemble, inputs, axis=1)


def traces(ensemble: Any, inputs: NDArray[Any]) -> list[Trace]:
    """What the first member does with the first of trains ``[samples, members, steps, 8]``; rates are those of 64."""
    inputs = inputs[:64, 0]
    found = eqx.filter_jit(lambda model, x: run(model, x, record=True))(member(ensemble, 0), jnp.asarray(inputs))
    return traces_of(inputs, found.spikes, found.voltages)


def experiment(config: Config) -> Experiment:
    """The whole run."""
    held_out, tested = Accuracies(*trains(config, VALIDATION)), trains(config, TEST)
    steps = config.epochs * (config.samples // config.batch_size)
    trainer = Trainer(
        GradientMethod(Autodiff(), controlled(optax.adam, control("learning_rate"))),
        plan=Plan(learning_rate=Cosine(config.learning_rate, 0.0, max(1, steps), unit="step")),
        callbacks=[
            Evaluate(
                lambda ensemble: {"accuracy": float(np.mean(held_out(ensemble)))},
                ["accuracy"],
                every=max(1, config.epochs // 10),
            ),
            Best("val_accuracy", "max"),
            KeepTraces(lambda ensemble: traces(ensemble, tested[0])),
        ],
    )
    return Experiment(
        trainer=trainer,
        model=build(config),
        objective=EnsembleObjective(SpikingObjective(CrossEntropy(smoothing=config.smoothing)), own_data=True),
        data=InMemory(data(config), batch_size=config.batch_size),
        epochs=config.epochs,
        seed=config.seed,
        conclude=lambda result: conclude(config, Accuracies(*tested), result),
    )


def conclude(config: Config, tested: Accuracies, result: FitResult) -> Conclusion:
    """Held-out accuracy of every member, beside the best there is."""
    ensemble = result.model if result.best_model is None else result.best_model
    found, best = tested(ensemble).tolist(), tested.best.tolist()
    gap = [b - f for b, f in zip(best, found, strict=True)]
    lines = (
        f"{config.members} seeds, {config.held_out} held-out trains each; chance {1 / CLASSES:.0%}",
        "",
        f"{'':<26}{'accuracy, mean ± sd':>21}{'worst':>9}",
        f"{'network, surrogate':<26}{np.mean(found):>13.2%} ± {spread(found):.2%}{min(found):>9.2%}",
        f"{'best possible (count)':<26}{np.mean(best):>13.2%} ± {spread(best):.2%}{min(best):>9.2%}",
        "",
        f"Left to the best: {100 * np.mean(gap):.2f} ± {100 * spread(gap):.2f} points.",
    )
    figures: Mapping[str, Any] = {
        "seeds": config.member_seeds,
        "accuracy": found,
        "best_possible": best,
    }
    headline = f"accuracy {np.mean(found):.1%} ± {spread(found):.1%}; the best possible is {np.mean(best):.1%}"
    return Conclusion(figures, lines, headline)


RECIPE = Recipe(
    config=Config,
    build=build,
    data=data,
    experiment=experiment,
    smoke={"samples": 128, "held_out": 64, "epochs": 2, "members": 2, "hidden": 8},
    figures=run_figures,
)
