"""Losses of hypercausal models, each a scalar.

    mse            mean (p - y)²
    mae            mean |p - y|
    cross-entropy  mean over positions of -Σ_c q_c ln p_c,  p and q clipped to [1e-12, 1] and normalised
    consistency    α mean (s_t - s_{t-1})² + β mean (s_t - ŝ_t)²
    coherence      mean (F - μ)²  or  mean |F - μ|,  μ the mean over branches

Source: the published hypercausal system. It compares flattened arguments, so that shapes (2, 3) and
(3, 2) pass as equal; here they are refused.
"""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import UsageError, one_of

CoherenceMode = Literal["variance", "mad"]
Normalisation = Literal["before", "after"]
Values = Float[Array | np.ndarray, "..."]

_LEAST = 1e-12


def check_same_shape(**arrays: Any) -> None:
    """Raise `UsageError` unless all are of one shape."""
    shapes = {name: np.shape(array) for name, array in arrays.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise UsageError(f"these must have one shape: {listed}.")


def _alike(first: Any, *others: Any) -> tuple[Array, ...]:
    """JAX arrays in the dtype of the first."""
    head = jnp.asarray(first)
    return (head, *(jnp.asarray(other).astype(head.dtype) for other in others))


def mse(prediction: Values, target: Values) -> Float[Array, ""]:
    """Mean squared error over all elements.

    Args:
        prediction: any shape; the result has its dtype.
        target: of the same shape.

    Raises:
        UsageError: the shapes differ.
    """
    check_same_shape(prediction=prediction, target=target)
    prediction, target = _alike(prediction, target)
    return jnp.mean(jnp.square(prediction - target))


def mae(prediction: Values, target: Values) -> Float[Array, ""]:
    """Mean absolute error over all elements.

    Args:
        prediction: any shape; the result has its dtype.
        target: of the same shape.

    Raises:
        UsageError: the shapes differ.
    """
    check_same_shape(prediction=prediction, target=target)
    prediction, target = _alike(prediction, target)
    return jnp.mean(jnp.abs(prediction - target))


def _distribution(scores: Array, normalise: Normalisation) -> Array:
    if normalise == "before":
        scores = jnp.maximum(scores, 0.0)
        total = jnp.sum(scores, axis=-1, keepdims=True)
        scores = scores / jnp.where(total > 0.0, total, 1.0)
    clipped = jnp.clip(scores, _LEAST, 1.0)
    normalised: Array = clipped / jnp.sum(clipped, axis=-1, keepdims=True)
    return normalised


def cross_entropy(prediction: Values, target: Values, *, normalise: Normalisation = "before") -> Float[Array, ""]:
    """Cross-entropy of two sets of non-negative scores over the last axis, averaged over all others.

    Args:
        prediction: scores ``[..., class]``; the result has their dtype.
        target: of the same shape.
        normalise: ``"before"`` divides scores by their sum before they are clipped to [1e-12, 1], so that
            those above 1 keep their proportions. ``"after"`` is the published formula, in which all scores
            above 1 become equal. The two agree where scores add to 1. Either way a negative score counts
            as 1e-12, and scores without a positive one as a uniform distribution.

    Raises:
        UsageError: the shapes differ, or `normalise` is something else.
    """
    one_of("normalise", normalise, Normalisation)
    check_same_shape(prediction=prediction, target=target)
    prediction, target = _alike(prediction, target)
    p, q = _distribution(prediction, normalise), _distribution(target, normalise)
    return -jnp.mean(jnp.sum(q * jnp.log(p), axis=-1))


def consistency(
    state: Values, previous: Values, future: Values, *, alpha: Any = 1.0, beta: Any = 1.0
) -> Float[Array, ""]:
    """How much a state moved since the step before, and how far it is from what was projected.

    Args:
        state: s_t; any shape, the result has its dtype.
        previous: s_{t-1}, of the same shape.
        future: ŝ_t, projected at step t, of the same shape.
        alpha: α, weight of the movement.
        beta: β, weight of the distance to the projection.

    Raises:
        UsageError: the shapes differ.
    """
    check_same_shape(state=state, previous=previous, future=future)
    state, previous, future = _alike(state, previous, future)
    loss: Array = alpha * jnp.mean(jnp.square(state - previous)) + beta * jnp.mean(jnp.square(state - future))
    return loss


def coherence(
    branches: Float[Array | np.ndarray, "branch ..."], *, mode: CoherenceMode = "variance"
) -> Float[Array, ""]:
    """How far branches lie from their mean, averaged over everything.

    Args:
        branches: F, branches first.
        mode: ``"variance"`` (population variance) or ``"mad"`` (mean absolute deviation).

    Raises:
        UsageError: an unknown mode.
    """
    one_of("mode", mode, CoherenceMode)
    branches = jnp.asarray(branches)
    deviation = branches - jnp.mean(branches, axis=0)[None]
    return jnp.mean(jnp.square(deviation) if mode == "variance" else jnp.abs(deviation))
