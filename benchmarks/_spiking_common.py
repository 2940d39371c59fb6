"""The network that the tables of `spiking.py` train: LIF 128→64→64→20, a leaky readout, cross-entropy, Adam."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from hardgrad.spiking import LIF, ArcTan, CrossEntropy, CurrentLIF, LeakyIntegrator, Network, SpikingObjective

WIDTHS = (128, 64, 64, 20)
RATE = 1e-3
SMOOTHING = 0.3
DECAY = 0.9
PEAKED = ArcTan(steepness=1.0, scale=math.pi)  # of peak 1, snnTorch's and SpikingJelly's with alpha 2


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is measured; a quick run shows that the programs work, its figures mean nothing."""

    shapes: tuple[tuple[int, int], ...] = ((128, 32), (128, 256), (256, 32), (256, 256))  # time, batch
    rounds: int = 6
    repeats: int = 4
    pairs: int = 256


QUICK = Sizes(((8, 4), (8, 8)), rounds=1, repeats=1, pairs=4)


def parameters(seed: int = 0, *, bias: bool = True) -> dict[str, Any]:
    """Weights ``[to, from]``, biases and decays of three layers, as arrays."""
    rng, found = np.random.default_rng(seed), {}
    for i, (before, after) in enumerate(itertools.pairwise(WIDTHS), 1):
        found[f"w{i}"] = (rng.uniform(-1, 1, (after, before)) * (3.0 / math.sqrt(before))).astype(np.float32)
        found[f"b{i}"] = (rng.uniform(-0.1, 0.1, after) * bias).astype(np.float32)
        found[f"beta{i}"] = np.full(after, DECAY, np.float32)
    return found


def data(steps: int, batch: int, seed: int = 0) -> tuple[Any, Any]:
    """Spikes ``[batch, time, channels]``, one in ten, and labels."""
    rng = np.random.default_rng(seed)
    return (rng.random((batch, steps, WIDTHS[0])) < 0.1).astype(np.float32), rng.integers(0, WIDTHS[3], batch)


def target_of(labels: Any) -> Any:
    """Smoothed class probabilities."""
    return ((1 - SMOOTHING) * np.eye(WIDTHS[3])[labels] + SMOOTHING / WIDTHS[3]).astype(np.float32)


def network(
    given: dict[str, Any], *, surrogate: Any = PEAKED, detach: bool = False, leak_reset: bool = False
) -> Network:
    """Ours, of these parameters. With `leak_reset` what a spike takes off is leaked too, as in SpikingJelly."""
    layers: list[Any] = []
    for i in (1, 2, 3):
        after, before = given[f"w{i}"].shape
        linear = eqx.nn.Linear(before, after, key=jax.random.key(0))
        both = jnp.asarray(given[f"w{i}"]), jnp.asarray(given[f"b{i}"])
        layers.append(eqx.tree_at(lambda m: (m.weight, m.bias), linear, both))
        raw = jax.scipy.special.logit(jnp.asarray(given[f"beta{i}"]))
        if i == 3:
            cell: Any = LeakyIntegrator(after)
        elif leak_reset:
            cell = CurrentLIF(after, decay=0.5, current_decay=0.5, surrogate=surrogate, detach_reset=detach)
            cell = eqx.tree_at(lambda m: m.raw_current_decay, cell, jnp.full(after, -100.0))
        else:
            cell = LIF(after, decay=0.5, surrogate=surrogate, detach_reset=detach)
        layers.append(eqx.tree_at(lambda m: m.raw_decay, cell, raw))
    return Network(layers)


def by_name(gradient: Network) -> dict[str, Any]:
    """A gradient, by the names of `parameters`; decays' through the logit."""
    found = {}
    for i in (1, 2, 3):
        linear, cell = gradient.layers[2 * i - 2 : 2 * i]
        found |= {f"w{i}": linear.weight, f"b{i}": linear.bias, f"beta{i}": cell.raw_decay / (DECAY * (1 - DECAY))}
    return {name: np.asarray(array) for name, array in found.items()}


def training_step(model: Network, inputs: Any, labels: Any, **settings: Any) -> tuple[Callable[[], Any], float, float]:
    """A step of Adam that keeps its state, megabytes of scratch by XLA's account, and seconds to trace and compile."""
    objective = SpikingObjective(CrossEntropy(smoothing=SMOOTHING), **settings)
    optimizer, key = optax.adam(RATE), jax.random.key(0)
    arrays = jnp.asarray(inputs), jnp.asarray(labels)

    @eqx.filter_jit(donate="all-except-first")
    def step(batch: Any, params: Any, state: Any) -> Any:
        (loss, metrics), gradient = jax.value_and_grad(lambda p: objective(p, batch, {}, key), has_aux=True)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, loss, metrics

    live = [jax.tree.map(jnp.copy, model), optimizer.init(model)]
    begin = time.perf_counter()
    compiled = step.lower(arrays, *live).compile()
    took = time.perf_counter() - begin
    scratch = compiled.compiled.memory_analysis().temp_size_in_bytes / 2**20

    def again() -> Any:
        live[0], live[1], loss, metrics = compiled(arrays, *live)
        return loss, metrics

    return again, scratch, took
