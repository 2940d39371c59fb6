"""The column of reference: an ordinary perceptron on an ordinary function, where backpropagation has no trouble."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from numpy.typing import NDArray

from ...core import Controls
from ._problem import Problem

WIDTH = 12
ROWS = 512


def draw(part: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Inputs ``[512, 2]`` in [-1, 1]² and labels sin 3x₁ · cos 2x₂."""
    x = np.random.default_rng((0, part)).uniform(-1.0, 1.0, (ROWS, 2))
    return x.astype(np.float32), (np.sin(3.0 * x[:, 0]) * np.cos(2.0 * x[:, 1])).astype(np.float32)


class MeanSquaredError(eqx.Module):
    """Mean squared error of a perceptron."""

    def __call__(self, model: Any, batch: Any, controls: Controls, key: Key[Array, ""]) -> Any:
        """Loss and no metrics."""
        x, y = batch
        return jnp.mean(jnp.square(jax.vmap(model)(jnp.asarray(x))[:, 0] - y)), {}


def regression() -> Problem:
    """The problem."""
    parts = [draw(part) for part in range(3)]
    objective = MeanSquaredError()
    return Problem(
        name="regression",
        title="regression",
        about=f"a perceptron of {WIDTH} tanh units learns sin 3x₁ · cos 2x₂",
        unit="mean squared error",
        build=lambda key: eqx.nn.MLP(2, 1, WIDTH, 1, jnp.tanh, key=key),
        objective=objective,
        score=lambda model, rows: objective(model, rows, {}, jax.random.key(0))[0],
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        batch_size=32,
        trivial=float(np.var(parts[2][1])),
        trivial_is="the mean",
    )
