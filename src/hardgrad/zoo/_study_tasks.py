"""The tasks of `hybrid-study`, each with a dial from where the surrogate gradient serves to where it fails."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy.typing import NDArray

from ..core import Controls, Metrics
from ..spiking import LIF, CrossEntropy, LeakyIntegrator, Network, Surrogate

CLASSES = 3
TRAIN, TEST = range(2)
_ENTROPY = CrossEntropy(readout="mean", smoothing=0.2)


class Task(eqx.Module):
    """What the arms train on. It is its own objective, the true loss: ``task(model, level, controls, key)``.

    Attributes:
        pool: minibatches to learn from, arrays ``[minibatches, samples, ...]``; a step takes one by its key.
    """

    pool: eqx.AbstractVar[Any]

    @abc.abstractmethod
    def loss(self, model: Any, level: Any, samples: Any) -> Float[Array, ""]:
        """The true loss on some samples, with the dial at `level`."""

    def __call__(self, model: Any, level: Any, controls: Controls, key: Key[Array, ""]) -> tuple[Array, Metrics]:
        """The true loss on a minibatch."""
        return self.loss(model, level, self.minibatch(key)), {}

    def minibatch(self, key: Key[Array, ""]) -> Any:
        """One of the pool's."""
        index = jax.random.randint(key, (), 0, len(jax.tree.leaves(self.pool)[0]))
        return jax.tree.map(lambda x: jnp.asarray(x)[index], self.pool)


def _classifier(task: Any, model: Any, samples: Any) -> Float[Array, ""]:
    spikes, labels = samples
    return _ENTROPY(model(spikes.astype(jnp.float32)), labels)


class Silent(Task):
    """Which third of twelve channels is busy? The dial is the share of hidden units that start silent.

    The membrane of such a unit stays far below its threshold at the start. A surrogate of compact support then has a
    derivative of exactly 0 there.
    """

    pool: Any
    hidden: int = eqx.field(static=True)

    channels = 12
    steps = 16

    def __init__(self, minibatches: int, samples: int, hidden: int = 12):
        self.pool = self.draw(TRAIN, minibatches, samples)
        self.hidden = hidden

    def draw(self, part: int, *shape: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Spikes ``[*shape, 16, 12]``, 0.4 a step in a class's channels and 0.05 elsewhere, and labels ``[*shape]``."""
        rng = np.random.default_rng((0, part))
        labels = rng.integers(CLASSES, size=shape, dtype=np.int32)
        busy = np.arange(self.channels) * CLASSES // self.channels == labels[..., None]
        rate = np.where(busy, 0.4, 0.05)[..., None, :]
        return (rng.random((*shape, self.steps, self.channels)) < rate).astype(np.uint8), labels

    def build(self, key: Any, level: float, surrogate: Surrogate) -> Network:
        """A network of which a share `level` of the hidden units is silent."""
        first, cell, last, integrator = jax.random.split(key, 4)
        linear = eqx.nn.Linear(self.channels, self.hidden, key=first)
        limit = self.channels**-0.5
        weight = linear.weight + 0.5 * limit
        silent = jnp.arange(self.hidden)[:, None] < round(level * self.hidden)
        weight = jnp.where(silent, 0.02 * weight, weight)
        linear = eqx.tree_at(lambda m: (m.weight, m.bias), linear, (weight, jnp.zeros(self.hidden)))
        return Network(
            [
                linear,
                LIF(self.hidden, surrogate=surrogate, key=cell),
                eqx.nn.Linear(self.hidden, CLASSES, key=last),
                LeakyIntegrator(CLASSES, key=integrator),
            ]
        )

    def loss(self, model: Any, level: Any, samples: Any) -> Float[Array, ""]:
        """Cross-entropy."""
        return _classifier(self, model, samples)


class DelayLine(eqx.Module):
    """Synapses with whole-numbered delays: y(t) = Σ w · x(t - d), d = round(10·raw) kept within 0..`longest`.

    Attributes:
        weight: ``[out, in]``.
        raw: a tenth of the delays, in steps, ``[out, in]``.
        longest: the longest delay.
        interpolated: whether raw has the derivative that linear interpolation between steps would give it; else it has
            that of the rounding, 0.
    """

    weight: Float[Array, "out in"]
    raw: Float[Array, "out in"]
    longest: int = eqx.field(static=True)
    interpolated: bool = eqx.field(static=True)

    def __call__(self, inputs: Float[Array, "batch time in"]) -> Float[Array, "batch time out"]:
        """The delayed and weighted sum."""
        steps = inputs.shape[1]
        delay = jnp.clip(10.0 * self.raw, 0.0, float(self.longest))
        lags = jnp.arange(self.longest + 1, dtype=delay.dtype)[:, None, None]
        tap = (lags == jnp.round(delay)).astype(delay.dtype)
        if self.interpolated:
            between = jnp.maximum(0.0, 1.0 - jnp.abs(lags - delay))
            tap = jax.lax.stop_gradient(tap - between) + between
        padded = jnp.pad(inputs, ((0, 0), (self.longest, 0), (0, 0)))
        shifted = jnp.stack([padded[:, self.longest - d : self.longest - d + steps] for d in range(self.longest + 1)])
        return jnp.einsum("dbti,doi->bto", shifted, tap * self.weight)


class DelayNetwork(eqx.Module):
    """Delayed synapses before a spiking network."""

    delays: DelayLine
    network: Network

    def __call__(self, inputs: Any) -> Any:
        """Traces ``[batch, time, classes]``."""
        return self.network(self.delays(inputs))


class Delays(Task):
    """In what order did eight channels spike? The dial is the share of delays that start at 0.

    Each class has a lag for each channel. A membrane that forgets within two steps tells the classes apart if delays
    make the spikes of one arrive together. Those that do not start at 0 start so.
    """

    pool: Any
    hidden: int = eqx.field(static=True)

    channels = 8
    steps = 24
    longest = 9

    def __init__(self, minibatches: int, samples: int, hidden: int = 3):
        self.pool = self.draw(TRAIN, minibatches, samples)
        self.hidden = hidden

    @property
    def lags(self) -> NDArray[np.int32]:
        """Of each class and channel ``[3, 8]``, 0..7 steps."""
        rng = np.random.default_rng(0)
        return np.stack([rng.permutation(self.channels) for _ in range(CLASSES)]).astype(np.int32)

    def draw(self, part: int, *shape: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Spikes ``[*shape, 24, 8]``, begun at any of six steps, some a step late, some by chance; and labels."""
        rng = np.random.default_rng((0, part))
        labels = rng.integers(CLASSES, size=shape, dtype=np.int32)
        late = rng.random((*shape, self.channels)) < 0.2
        time = rng.integers(6, size=(*shape, 1)) + self.lags[labels] + late
        spikes = np.arange(self.steps)[:, None] == time[..., None, :]
        return (spikes | (rng.random(spikes.shape) < 0.02)).astype(np.uint8), labels

    def build(self, key: Any, level: float, interpolated: bool = False) -> DelayNetwork:
        """A network some of whose delays fit."""
        which, last = jax.random.split(key)
        shape = (self.hidden, self.channels)
        fitting = (self.channels - 1 - self.lags)[np.arange(self.hidden) % CLASSES].astype(np.float32)
        lost = jax.random.uniform(which, shape) < level
        delay = jnp.where(lost, 0.4, fitting)
        cells = [LIF(self.hidden, decay=0.4), eqx.nn.Linear(self.hidden, CLASSES, key=last)]
        return DelayNetwork(
            DelayLine(jnp.full(shape, 0.3), delay / 10.0, self.longest, interpolated),
            Network([*cells, LeakyIntegrator(CLASSES, decay=0.9)]),
        )

    def loss(self, model: Any, level: Any, samples: Any) -> Float[Array, ""]:
        """Cross-entropy."""
        return _classifier(self, model, samples)


class Plant(Task):
    """Hold a point mass at home. The dial is how far the true plant is from the differentiable one.

    Gradients come through a plant without friction. The true one has, in proportion to the level, a dead zone, dry
    friction and a steady wind, and it alone counts.
    """

    pool: Any
    hidden: int = eqx.field(static=True)

    horizon = 20

    def __init__(self, minibatches: int, samples: int, hidden: int = 8):
        self.pool = self.draw(TRAIN, minibatches, samples)
        self.hidden = hidden

    def draw(self, part: int, *shape: int) -> NDArray[np.float32]:
        """Positions and velocities ``[*shape, 2]``, uniform in [-1, 1]."""
        return np.random.default_rng((0, part)).uniform(-1.0, 1.0, (*shape, 2)).astype(np.float32)

    def build(self, key: Any, level: float) -> Network:
        """A controller."""
        first, cell, last, integrator = jax.random.split(key, 4)
        return Network(
            [
                eqx.nn.Linear(2, self.hidden, key=first),
                LIF(self.hidden, key=cell),
                eqx.nn.Linear(self.hidden, 1, key=last),
                LeakyIntegrator(1, key=integrator),
            ]
        )

    def modelled(self, model: Any, level: Any, controls: Controls, key: Key[Array, ""]) -> tuple[Array, Metrics]:
        """The loss by the differentiable plant."""
        return self.loss(model, jnp.zeros_like(level), self.minibatch(key)), {}

    def told(self, model: Any, level: Any, controls: Controls, key: Key[Array, ""]) -> tuple[Array, Metrics]:
        """The true loss, with the gradient of the true plant; that of the dead zone goes straight through."""
        return self.loss(model, level, self.minibatch(key), straight_through=True), {}

    def loss(self, model: Any, level: Any, samples: Any, straight_through: bool = False) -> Float[Array, ""]:
        """Mean over starts of Σ x²."""

        def step(carried: Any, _: None) -> Any:
            memory, x, v = carried
            memory, force = model.step(memory, jnp.stack([x, v], axis=-1))
            push = jnp.sign(force[:, 0]) * jnp.maximum(jnp.abs(force[:, 0]) - level, 0.0)
            if straight_through:
                push = force[:, 0] + jax.lax.stop_gradient(push - force[:, 0])
            v = v + 0.1 * (push + 2.0 * level - 0.5 * level * jnp.sign(v))
            x = x + 0.1 * v
            return (memory, x, v), jnp.square(x)

        begun = model.init_state(len(samples)), samples[:, 0], samples[:, 1]
        _, squares = jax.lax.scan(step, begun, None, length=self.horizon)
        return jnp.mean(jnp.sum(squares, axis=0))
