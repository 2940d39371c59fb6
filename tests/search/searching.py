"""A search of a least-squares problem, small enough for any test, and a program of its own to be killed.

python searching.py ENGINE FOLDER SECONDS-AN-EPOCH
"""

from __future__ import annotations

import pathlib
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from hardgrad.core import control
from hardgrad.estimators import Autodiff
from hardgrad.schedules import Plan
from hardgrad.search import Candidate, InTurn, SearchResult, Together, candidates, search
from hardgrad.training import FitResult, GradientMethod, Trainer, controlled
from hardgrad.training.callbacks import Best, Callback, Evaluate

EPOCHS, WIDTH = 12, 4
ENGINES: dict[str, Any] = {"vmap": Together, "turn": InTurn}
ADAM = controlled(optax.adam, control("rate"))  # told by identity: another would compile another program


def rows() -> tuple[Any, Any]:
    """Inputs ``[row, 4]`` and targets ``[row]``."""
    random = np.random.default_rng(7)
    x = random.standard_normal((20, WIDTH)).astype(np.float32)
    return x, np.tanh(x @ np.arange(1, WIDTH + 1).astype(np.float32))


def objective(model: Any, batch: Any, controls: Any, key: Any) -> tuple[Any, dict[str, Any]]:
    """Mean squared error, on inputs with noise of the run's own."""
    x, y = batch
    x = x + 0.01 * jax.random.normal(key, x.shape, x.dtype)
    return jnp.mean((jnp.tanh(x @ model["w"]) - y) ** 2), {}


def scores(model: Any) -> dict[str, Any]:
    """On the rows without noise."""
    x, y = rows()
    error = jnp.abs(jnp.tanh(x @ model["w"]) - y)
    return {"mean": jnp.mean(error), "worst": jnp.max(error)}


class Slow(Callback):
    """Takes its time over an epoch."""

    def __init__(self, seconds: float):
        self.seconds = seconds

    def on_epoch_end(self, run: Any, record: Any) -> None:
        time.sleep(self.seconds)


def trainer(rate: float = 0.05, callbacks: Any = ()) -> Trainer:
    """A new one, as each candidate needs it."""
    return Trainer(
        GradientMethod(Autodiff(), ADAM),
        plan=Plan(rate=lambda p: rate / (1.0 + 0.1 * p.epoch)),
        callbacks=[Evaluate(scores, ["mean", "worst"]), Best("val_mean", "min"), *callbacks],
    )


def train(candidate: Candidate, *, seconds: float = 0.0, callbacks: Any = (), **place: Any) -> FitResult:
    """Train one candidate: its seed decides its start, its noise and the order of its rows."""
    start = {"w": jax.random.normal(jax.random.key(candidate.seed), (WIDTH,))}
    given = [*callbacks, *([Slow(seconds)] if seconds else [])]
    fitted = trainer(candidate.settings.get("rate", 0.05), given)
    return fitted.fit(start, objective, rows(), epochs=candidate.epochs, batch_size=5, seed=candidate.seed, **place)


def look(engine: Any, run: pathlib.Path, **given: Any) -> SearchResult:
    """The search that tests vary."""
    settings = {"metric": "val_mean", "mode": "min", "ties": [("val_worst", "min")], "cull_fraction": 0.5, "keep": 2}
    every = given.pop("every", None) or candidates(range(4), epochs=EPOCHS)
    return search(every, engine, run=run, **{**settings, **given})


if __name__ == "__main__":
    name, folder, pause = sys.argv[1:]
    look(
        ENGINES[name](lambda candidate, **place: train(candidate, seconds=float(pause), **place)),
        pathlib.Path(folder),
        say=print,
    )
