"""A least-squares problem small enough to train in a blink, and the plain loop it is checked against."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from hardgrad.core import control
from hardgrad.estimators import Autodiff
from hardgrad.training import GradientMethod, Trainer, controlled

ROWS, RATE = 10, 0.1

# One optimiser for all: functions are told apart by identity, and each new one compiles a new program.
SGD = optax.sgd(RATE)
METHOD = GradientMethod(Autodiff(), SGD)
SCHEDULED = GradientMethod(Autodiff(), controlled(optax.sgd, control("learning_rate")))


class Line(eqx.Module):
    """``x @ weight + bias``, with a leaf that is absent and one that is no array."""

    weight: Any
    bias: Any
    absent: Any = None
    name: str = eqx.field(static=True, default="line")

    def __call__(self, x: Any) -> Any:
        return x @ self.weight + self.bias


def line(dtype: Any = np.float32) -> Line:
    """The model at its start."""
    return Line(jnp.array([0.5, -0.25, 0.125], dtype), jnp.zeros((), dtype))


def rows(dtype: Any = np.float32, count: int = ROWS) -> tuple[NDArray[Any], NDArray[Any]]:
    """Inputs ``[row, 3]`` and targets ``[row]``."""
    random = np.random.default_rng(7)
    x = random.standard_normal((count, 3))
    return x.astype(dtype), (x @ [1.0, 2.0, -1.0] + 0.5 + 0.1 * random.standard_normal(count)).astype(dtype)


def squares(model: Line, batch: Any, controls: Any, key: Any) -> tuple[Any, dict[str, Any]]:
    """Mean squared error; ``wide`` is the largest error."""
    x, y = batch
    error = model(x) - y
    return jnp.mean(error**2), {"wide": jnp.max(jnp.abs(error))}


def plain_sgd(batches: Any, *, rate: float = RATE) -> tuple[NDArray[Any], float, list[float]]:
    """The same by hand, in NumPy: weight, bias and the loss before each step."""
    w, b, losses = np.array([0.5, -0.25, 0.125]), 0.0, []
    for x, y in batches:
        error = x @ w + b - y
        losses.append(float(np.mean(error**2)))
        w, b = w - rate * 2.0 * x.T @ error / len(y), b - rate * 2.0 * float(np.mean(error))
    return w, b, losses


def fit(trainer: Trainer | None = None, **given: Any) -> Any:
    """A fit of the line for two epochs, unless told otherwise."""
    trainer = Trainer(METHOD) if trainer is None else trainer
    model, objective = given.pop("model", line()), given.pop("objective", squares)
    data = given.pop("data", rows())
    return trainer.fit(model, objective, data, **{"epochs": 2, **given})


def same(one: Any, other: Any) -> None:
    """Two pytrees agree in every bit."""
    a, b = jax.tree.leaves(one), jax.tree.leaves(other)
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def close(one: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-6) -> None:
    """Two pytrees agree up to rounding."""
    for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=rtol, atol=atol)


def telemetry(folder: Any) -> list[dict[str, Any]]:
    """The records of a run, without the time they were written at."""
    lines = (pathlib.Path(folder) / "telemetry.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line, parse_constant=_not_json).items() if k != "time"} for line in lines]


def _not_json(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")
