"""The rational column: P and Q of a perceptron learn 1/(x₁ - x₂), whose pole runs through the data.

The model, the labels and the loss are those of `rational-pole`'s projective arm, smaller.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ...rational import LossConfig, ProjectiveMLP, SCMObjective, SCMTrainingLoss, Targets, lift_targets
from .. import rational_pole
from ._problem import Problem

HIDDEN = (12,)
ROWS = 512


def draw(part: int) -> tuple[Any, Targets]:
    """Inputs ``[512, 2]`` and lifted labels, one in twenty of them +∞."""
    x, y = rational_pole.samples(rational_pole.Config(samples=ROWS, members=1), part)
    return x[:, 0], lift_targets(y[:, 0])


def relative_error(model: Any, rows: tuple[Any, Targets]) -> Array:
    """Median over finite labels of |P/Q - y| / (1 + |y|), whatever Q is."""
    x, targets = rows
    P, Q = model(x)
    error = jnp.abs(P / Q - targets.numerator) / (1.0 + jnp.abs(targets.numerator))
    return jnp.nanmedian(jnp.where(targets.finite, jnp.where(jnp.isnan(error), jnp.inf, error), jnp.nan))


def poles() -> Problem:
    """The problem."""
    parts = [draw(part) for part in range(3)]
    labels = np.asarray(parts[2][1].numerator)[np.asarray(parts[2][1].finite)]
    return Problem(
        name="rational",
        title="rational",
        about=f"P and Q of a perceptron of {HIDDEN[0]} units learn 1/(x₁ - x₂), one row in twenty on the pole",
        unit="median relative error",
        build=lambda key: ProjectiveMLP(2, hidden=HIDDEN, activation=jnp.tanh, start=(1.0, 0.0), key=key),
        objective=SCMObjective(SCMTrainingLoss(LossConfig(fit="chordal", orientation="projection"))),
        score=relative_error,
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        batch_size=32,
        trivial=float(np.median(np.abs(labels) / (1.0 + np.abs(labels)))),
        trivial_is="0",
        controls={"tau": 1e-4},
    )
