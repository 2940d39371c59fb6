"""How well the members of `digits-lif` tell digits, and with how many spikes."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ..spiking import Network, run
from ..training import over_members
from ._digits_config import Config
from ._digits_data import TRAIN

_SATURATED = 0.9  # spikes a step, as `SpikingObjective` counts
ACTIVITY = ("spikes", "firing_rate", "silent_units", "saturated_units")


def examples(config: Config, part: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """What the members see of a part, each of every arm its own, and the labels ``[rows, members]``.

    Bits along time ``[rows, members, bytes, 64]``, or for the sources of a conversion brightness
    ``[rows, members, 64]``. Images to learn from stand there ``draws`` times, some of them shifted.
    """
    digits = config.digits
    x, labels = digits.drawn(part, draws=config.draws, shifted=config.shifted) if part == TRAIN else digits.pixels(part)
    if config.variant != "conversion":
        x = digits.encoded(x, part, steps=config.steps, most=config.rate)
    arms = len(config.arms)
    return np.concatenate([x] * arms, axis=1), np.concatenate([labels] * arms, axis=1)


@dataclasses.dataclass(frozen=True)
class Scores:
    """Of each member, arm by arm, ``[arms · members]``.

    Attributes:
        accuracy: share of right answers.
        spikes: spikes an image; None without spikes, as are the others.
        firing_rate: spikes a unit and step.
        silent_units: share of the units that never spike.
        saturated_units: share of the units that spike at more than nine of ten steps.
    """

    accuracy: NDArray[Any]
    spikes: NDArray[Any] | None = None
    firing_rate: NDArray[Any] | None = None
    silent_units: NDArray[Any] | None = None
    saturated_units: NDArray[Any] | None = None


def judge(config: Config, ensemble: Any, seen: tuple[NDArray[Any], NDArray[Any]]) -> Scores:
    """The members on examples."""
    x, labels = jnp.asarray(seen[0]), seen[1]
    if config.variant == "conversion":
        return Scores(np.mean(labels == np.asarray(_source_answers(ensemble, x)).T, axis=0))
    answers, counts = (np.asarray(array) for array in _answers(ensemble, x, config.steps))
    rates = np.mean(counts, axis=1, dtype=np.float64) / config.steps
    return Scores(
        accuracy=np.mean(labels == answers.T, axis=0),
        spikes=config.steps * np.sum(rates, axis=1),
        firing_rate=np.mean(rates, axis=1),
        silent_units=np.mean(rates == 0.0, axis=1),
        saturated_units=np.mean(rates > _SATURATED, axis=1),
    )


@eqx.filter_jit
def _answers(ensemble: Any, bits: Any, steps: int) -> Any:
    def answer(one: Network, x: Any) -> Any:
        found = run(one, x, count=True, steps=steps)
        return jnp.argmax(jnp.mean(found.outputs, axis=1), axis=-1), found.counts[0]

    return over_members(answer, ensemble, bits, axis=1)


@eqx.filter_jit
def _source_answers(ensemble: Any, x: Any) -> Any:
    return over_members(lambda one, x: jnp.argmax(jax.vmap(one)(x), axis=-1), ensemble, x, axis=1)


class Watch:
    """What is measured after each epoch, on images that are neither learned from nor reported.

    Args:
        config: the recipe's.
        seen: examples for validation.
    """

    def __init__(self, config: Config, seen: tuple[NDArray[Any], NDArray[Any]]):
        self.config, self.seen = config, seen
        activity = () if config.variant == "conversion" else ACTIVITY[1:]
        arms = tuple(f"{arm}_accuracy" for arm in config.arms) if len(config.arms) > 1 else ()
        self.names = ("accuracy", *activity, *arms)

    def __call__(self, ensemble: Any) -> dict[str, float]:
        """Means over members."""
        scores = judge(self.config, ensemble, self.seen)
        arms = np.split(scores.accuracy, len(self.config.arms))
        found = {f"{arm}_accuracy": float(np.mean(each)) for arm, each in zip(self.config.arms, arms, strict=True)}
        return {name: found[name] if name in found else float(np.mean(getattr(scores, name))) for name in self.names}
