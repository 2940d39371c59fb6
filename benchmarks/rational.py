"""How fast is a rational perceptron trained? Ratios against PyTorch, measured in one process.

    python benchmarks/rational.py [--repeats 5]        needs: pip install torch; better also: zeroproofml

8192 samples of 1/(x₁ - x₂), batches of 256, 2→64→64→2, Adam, the published combined loss: 32 steps an epoch.
PyTorch and the library begin with the same weights and see the same batches, and their losses are compared before
anything is timed. PyTorch runs on one thread, where such small steps are fastest. Rows:

* PyTorch loop, logged     eager, four numbers read back at each step: 1 by definition
* PyTorch loop             eager, nothing read back
* published trainer        zeroproofml's `SCMTrainer` on batches made beforehand, with a log hook
* hardgrad, every step     `SCMTrainer`; every metric of every step goes to a log hook
* hardgrad, JSONL          the same, with each step's record written to a file
* hardgrad, epoch means    the library's `Trainer`, metrics averaged over the epoch
* five seeds               in turn, and vmapped into one program
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _torch_rational as peers
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import hardgrad as hg
from hardgrad.rational import (
    JsonlLogger,
    LossConfig,
    ProjectiveMLP,
    SCMObjective,
    SCMTrainer,
    SCMTrainingLoss,
    TrainingConfig,
    lift_targets,
)
from hardgrad.training import EnsembleObjective, InMemory
from hardgrad.zoo._launch import float64

EPOCHS = 20
PUBLISHED = LossConfig(fit="implicit", orientation="cosine", rejection="hard")
ADAM = optax.adam(1e-3)


def model(dtype: Any, seed: int = 0) -> ProjectiveMLP:
    """The perceptron with the weights that PyTorch begins with."""
    weights = [tuple(jnp.asarray(a, dtype) for a in layer) for layer in peers.first_weights(seed)]
    blank = ProjectiveMLP(2, key=jax.random.key(0), dtype=dtype)
    where = lambda m: [array for layer in m.layers for array in (layer.weight, layer.bias)]
    filled: ProjectiveMLP = eqx.tree_at(where, blank, [array for layer in weights for array in layer])
    return filled


def check(dtype: Any) -> None:
    """The first losses of both programs agree."""
    torch_losses = peers.eager_loop(np.dtype(dtype).name, logged=True)(1)
    ours: list[float] = []
    config = TrainingConfig(
        batch_size=peers.BATCH, coverage_threshold=0, log_hook=lambda record: ours.append(record["loss"])
    )
    SCMTrainer(model(dtype), ADAM, SCMTrainingLoss(PUBLISHED), peers.data(dtype), config=config).fit()
    # τ is drawn by generators of their own: the margin it decides is at most 1e-9.
    np.testing.assert_allclose(ours, torch_losses, rtol=2e-3, atol=1e-6)


def seconds_an_epoch(run: Callable[[], object], epochs: int, repeats: int) -> list[float]:
    """By the clock on the wall, after one call that compiles."""
    run()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        found.append((time.perf_counter() - start) / epochs)
    return found


def scm_trainer(dtype: Any, hook: Callable[[], Any]) -> Callable[[], object]:
    """A whole `fit` of the published words, set-up included."""

    def run() -> object:
        config = TrainingConfig(
            max_epochs=EPOCHS,
            batch_size=peers.BATCH,
            tau_train_min=peers.TAU[0],
            tau_train_max=peers.TAU[1],
            coverage_threshold=0,
            log_hook=hook(),
        )
        return SCMTrainer(model(dtype), ADAM, SCMTrainingLoss(PUBLISHED), peers.data(dtype), config=config).fit()

    return run


def trainer(dtype: Any, seeds: int, *, together: bool) -> Callable[[], object]:
    """The library's trainer on one or several seeds."""
    x, y = peers.data(dtype)
    objective: Any = SCMObjective(SCMTrainingLoss(PUBLISHED))
    method = hg.GradientMethod(hg.Autodiff(), ADAM)
    plan = hg.Plan(tau=hg.UniformDraw(*peers.TAU))
    feed = InMemory((x, lift_targets(y)), batch_size=peers.BATCH)
    fit = hg.Trainer(method, plan=plan).fit
    if together:
        each = [model(dtype, seed) for seed in range(seeds)]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0], *each)
        return lambda: fit(stacked, EnsembleObjective(objective), feed, epochs=EPOCHS)
    return lambda: [fit(model(dtype, seed), objective, feed, epochs=EPOCHS) for seed in range(seeds)]


@contextlib.contextmanager
def precision(dtype: Any) -> Iterator[None]:
    """Double precision where it is asked for."""
    with float64() if dtype == np.float64 else contextlib.nullcontext():
        yield


def measure(dtype: Any, repeats: int, scratch: Path) -> list[tuple[str, list[float]]]:
    """The rows of one precision."""
    name = np.dtype(dtype).name
    check(dtype)
    rows = []
    for label, logged in (("PyTorch loop, logged", True), ("PyTorch loop", False)):
        loop = peers.eager_loop(name, logged=logged)
        rows.append((label, seconds_an_epoch(lambda loop=loop: loop(4), 4, repeats)))
    try:
        published = peers.published_trainer(name)
        rows.append(("published trainer", [published() for _ in range(repeats + 1)][1:]))
    except ImportError:
        print("zeroproofml is not installed: its row is left out (pip install zeroproofml)")
    paths = iter(scratch / f"{name}{i}.jsonl" for i in range(10**6))
    silent = lambda record: None
    single, five = trainer(dtype, 1, together=False), trainer(dtype, 5, together=False)
    for label, run in (
        ("hardgrad, every step", scm_trainer(dtype, lambda: silent)),
        ("hardgrad, JSONL", scm_trainer(dtype, lambda: JsonlLogger(next(paths)))),
        ("hardgrad, epoch means", single),
        ("hardgrad, five seeds in turn", five),
        ("hardgrad, five seeds vmapped", trainer(dtype, 5, together=True)),
    ):
        rows.append((label, seconds_an_epoch(run, EPOCHS, repeats)))
    return rows


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    try:
        import torch  # noqa: F401 - only to see whether it is there
    except ImportError:
        print("PyTorch is not installed: nothing to compare with (pip install torch)")
        return
    with tempfile.TemporaryDirectory() as name:
        for dtype in (np.float32, np.float64):
            with precision(dtype):
                rows = measure(dtype, repeats, Path(name))
            print(f"\n{np.dtype(dtype).name:<34}{'best ms':>9}{'× loop':>8}{'median ms':>11}{'× loop':>8}")
            loop = rows[0][1]
            for label, seconds in rows:
                ratios = min(loop) / min(seconds), statistics.median(loop) / statistics.median(seconds)
                print(
                    f"{label:<34}{1e3 * min(seconds):>9.1f}{ratios[0]:>8.1f}"
                    f"{1e3 * statistics.median(seconds):>11.1f}{ratios[1]:>8.1f}"
                )
            found = dict(rows)
            gain = min(found["hardgrad, five seeds in turn"]) / min(found["hardgrad, five seeds vmapped"])
            print(f"five seeds vmapped against five in turn: {gain:.1f} times as fast")


if __name__ == "__main__":
    main()
