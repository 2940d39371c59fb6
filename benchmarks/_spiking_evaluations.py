"""How many evaluations a second order 0 gets: perturbations vmapped in one program, or in a Python loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from hardgrad.estimators import AntitheticNES
from hardgrad.spiking import LIF, CrossEntropy, LeakyIntegrator, Network, run

SIGMA = 0.02


def _problem(steps: int = 16, batch: int = 32) -> tuple[Network, Callable[[Any], Any]]:
    """24→32→4, and its loss on one batch."""
    keys = jax.random.split(jax.random.key(0), 4)
    first, second = eqx.nn.Linear(24, 32, key=keys[0]), eqx.nn.Linear(32, 4, key=keys[2])
    model = Network([first, LIF(32, key=keys[1]), second, LeakyIntegrator(4)])
    inputs = (jax.random.uniform(keys[3], (batch, steps, 24)) < 0.3).astype(jnp.float32)
    labels = jnp.arange(batch) % 4
    loss = CrossEntropy(smoothing=0.0)
    return model, lambda params: loss(run(params, inputs).outputs, labels)


def _rate(take: Callable[[], Any], evaluations: int, repeats: int) -> float:
    """Evaluations a second, the best of several runs after one that does not count."""
    jax.block_until_ready(take())
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(take())
        times.append(time.perf_counter() - begin)
    return evaluations / min(times)


def evaluations(pairs: int, repeats: int) -> None:
    """The table."""
    model, loss_fn = _problem()
    compiled, key = jax.jit(loss_fn), jax.random.key(1)
    draws = np.random.default_rng(0)
    leaves, structure = jax.tree.flatten(model)

    def at(arrays: list[Any], noise: list[Any], side: float) -> float:
        moved = [a + side * SIGMA * n for a, n in zip(arrays, noise, strict=True)]
        return float(compiled(jax.tree.unflatten(structure, moved)))

    def in_a_loop() -> Any:
        arrays = [np.asarray(leaf) for leaf in leaves]
        total = [np.zeros_like(array) for array in arrays]
        for _ in range(pairs):
            noise = [draws.standard_normal(array.shape, np.float32) for array in arrays]
            slope = (at(arrays, noise, 1.0) - at(arrays, noise, -1.0)) / (2 * SIGMA)
            total = [t + slope * n / pairs for t, n in zip(total, noise, strict=True)]
        return total

    print(f"\n{f'NES, LIF 24→32→4, {pairs} pairs':<38}{'evaluations/s':>14}{'× loop':>9}")
    loop = _rate(in_a_loop, 2 * pairs, repeats)
    rows = {"Python loop over a compiled loss": loop}
    for chunk in sorted({pairs, math.ceil(pairs / 8)}):
        estimator = AntitheticNES(sigma=SIGMA, pairs=pairs, chunk_size=chunk)

        @eqx.filter_jit
        def estimate(params: Any, key: Any, estimator: Any = estimator) -> Any:
            with_metrics = lambda p: (loss_fn(p), {})
            return estimator.estimate(with_metrics, params, (), controls={}, key=key)[0]

        take = lambda estimate=estimate: estimate(model, key)
        rows[f"AntitheticNES, {chunk} pairs at a time"] = _rate(take, 2 * pairs + 1, repeats)
    for label, rate in rows.items():
        print(f"{label:<38}{rate:>14,.0f}{rate / loop:>9.1f}")
