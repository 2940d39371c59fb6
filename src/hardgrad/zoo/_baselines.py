"""What rational models are compared with: ordinary networks, called on whole batches as ours are."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ..core import Controls
from ..rational import ProjectiveMLP, Targets


class Perceptron(eqx.Module):
    """A multilayer perceptron: ``[B, features]`` to ``[B]``, or ``[B, outputs]``."""

    network: eqx.nn.MLP

    def __init__(
        self, in_size: int, out_size: Any = "scalar", *, width: int, depth: int, key: Key[Array, ""], dtype: Any
    ):
        self.network = eqx.nn.MLP(in_size, out_size, width, depth, key=key, dtype=dtype)

    def __call__(self, x: Any) -> Any:
        """The outputs of a batch."""
        return jax.vmap(self.network)(x)


class EpsilonRational(eqx.Module):
    """The usual way round a pole: P·Q/(Q² + ε²), which is P/Q where |Q| is far above ε, and 0 at the pole."""

    tuple_model: ProjectiveMLP
    epsilon: float = eqx.field(static=True, default=1e-3)

    def __call__(self, x: Any) -> Any:
        """The outputs of a batch."""
        P, Q = self.tuple_model(x)
        return P * Q / (Q**2 + self.epsilon**2)


class TwoStage(eqx.Module):
    """A classifier that says whether there is a pole, and a regressor for where there is none."""

    classifier: Perceptron
    regressor: Perceptron


def relative_error(prediction: Any, targets: Targets) -> Float[Array, ""]:
    """Mean over finite labels of |ŷ - y| / (1 + |y|)."""
    finite, truth = targets.finite, jnp.asarray(targets.numerator)
    error = jnp.abs(jnp.where(finite, prediction - truth, 0.0)) / (1.0 + jnp.abs(truth))
    return jnp.sum(jnp.where(finite, error, 0.0)) / jnp.maximum(jnp.sum(finite, dtype=error.dtype), 1.0)


class RegressionObjective(eqx.Module):
    """`relative_error` of a regressor; poles are left out, as a regressor has no way to say them."""

    def __call__(self, model: Any, batch: Any, controls: Controls, key: Key[Array, ""]) -> Any:
        """Loss and no metrics."""
        x, targets = batch
        return relative_error(model(x), targets), {}


class TwoStageObjective(eqx.Module):
    """`relative_error` of the regressor and cross-entropy of the classifier; their gradients do not mix."""

    def __call__(self, model: TwoStage, batch: Any, controls: Controls, key: Key[Array, ""]) -> Any:
        """Loss and its parts."""
        x, targets = batch
        logits = model.classifier(x)
        classes = jnp.mean(jax.nn.softplus(logits) - jnp.where(targets.bottom, logits, 0.0))
        regression = relative_error(model.regressor(x), targets)
        return classes + regression, {"cross_entropy": classes, "regression": regression}
