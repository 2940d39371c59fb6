"""A run made by the real trainer, with all a report shows: skipped, frozen and best epochs, schedules."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest

import hardgrad as hg
from hardgrad.training import RunFolder

EPOCHS = 12


def objective(model, batch, controls, key):
    """A tiny quadratic whose loss is NaN in some steps."""
    del key
    x, y = batch
    error = x @ model["w"] - y
    loss = jnp.mean(error**2)
    return jnp.where(controls["breaks"], jnp.nan, loss), {"mae": jnp.mean(jnp.abs(error))}


def _train(run: Path, *, callbacks=(), **arguments) -> Path:
    x = jax.random.normal(jax.random.key(0), (24, 2))
    y = x @ jnp.array([1.0, -2.0])
    optimizer = optax.chain(hg.clip_by_global_norm(1.0), hg.controlled(optax.adam, hg.control("learning_rate")))
    plan = hg.Plan(
        depth=hg.LinearDepth(1, 3, over=6),
        learning_rate=hg.Cosine(0.1, 0.01, over=EPOCHS),
        freeze=hg.FreezeAfterChange(("depth",)),
        breaks=lambda progress: progress.step == 9,
        weight=0.5,
    )
    trainer = hg.Trainer(
        hg.GradientMethod(hg.Autodiff(), optimizer),
        plan=plan,
        callbacks=[hg.Best("val_mae", "min"), *callbacks],
    )
    trainer.fit(
        {"w": jnp.zeros(2)},
        objective,
        (x[:16], y[:16]),
        epochs=EPOCHS,
        batch_size=8,
        validation=(x[16:], y[16:]),
        run=run,
        **arguments,
    )
    return run


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Path]:
    """A function that trains another such run and returns its folder."""
    return functools.partial(_train, tmp_path / "another")


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run, trained once. Not to be written to."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    return _train(run, settings={"recipe": "tiny-quadratic", "model": {"width": 2}})


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> RunFolder:
    """A copy of the run, to do with as one likes."""
    return RunFolder(shutil.copytree(finished, tmp_path / "run"))
