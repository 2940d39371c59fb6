"""Losses along directions, and estimates of the gradient: what an audit runs on the device.

Each function here is one compiled program, called again and again with other directions, steps and keys. Arrays come
back flat, one number a scalar parameter, in flattening order.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from ..core import (
    AbstractEstimator,
    Estimate,
    Loss,
    Params,
    count_parameters,
    float_dtype,
    take_running,
)
from ..estimators._probes import real_loss, shift, unflatten


def flatten(params: Params) -> Array:
    """All parameters end to end, in their widest dtype."""
    dtype = float_dtype(params)
    return jnp.concatenate([jnp.zeros(0, dtype), *[x.ravel().astype(dtype) for x in jax.tree.leaves(params)]])


@eqx.filter_jit
def losses(
    loss: Loss, params: Params, directions: Float[Array, "many size"], steps: Float[Array, " steps"], chunk: int
) -> Float[Array, "many steps"]:
    """The loss at ``params + step · direction``, `chunk` directions at a time."""
    value = real_loss(loss)

    def along(direction: Array) -> Array:
        there = unflatten(direction, params)
        return jax.vmap(lambda step: value(shift(params, there, step))[0])(steps)

    return jax.lax.map(along, directions, batch_size=chunk)  # type: ignore[no-any-return]


def frame(rng: np.random.Generator, size: int, many: int, dtype: Any) -> NDArray[Any]:
    """Orthonormal directions ``[many, size]``, each uniform on the sphere but for its sign: only even functions of
    them are used. On the host: a compiled factorisation takes longer to compile than to run."""
    drawn = rng.standard_normal((size, many), np.float32).astype(dtype)
    return np.ascontiguousarray(np.linalg.qr(drawn)[0].T)


def masked(rng: np.random.Generator, mask: NDArray[np.bool_], many: int, dtype: Any) -> NDArray[Any]:
    """Independent directions ``[many, size]``, uniform on the sphere of the coordinates that are marked."""
    drawn = np.where(mask, rng.standard_normal((many, mask.size), np.float32), 0.0).astype(dtype)
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


Items = tuple[Array, Array, Array]
"""Number of the batch, key of the objective and key of the estimator, each ``[items]``."""


def _one(estimator: AbstractEstimator, loss: Loss, params: Params, batches: Any, item: Items) -> Estimate:
    number, objective_key, estimator_key = item
    batch = jax.tree.map(lambda x: x[number], batches)
    bound = dataclasses.replace(loss, batch=batch, key=objective_key)
    state = estimator.init(params)
    found, _ = estimator.estimate(bound, params, state, controls=loss.controls, key=estimator_key)
    return found._replace(metrics=take_running(found.metrics, loss.running)[0])


@eqx.filter_jit
def estimates(
    estimator: AbstractEstimator, loss: Loss, params: Params, batches: Any, items: Items
) -> tuple[Array, Array, dict[str, Array]]:
    """One estimate for each item: gradients ``[items, size]``, losses, and the objective's metrics.

    Args:
        estimator: the estimator; each estimate is that of its first step.
        loss: bound to some batch and key.
        params: the point.
        batches: arrays ``[batches, ...]``.
        items: what each estimate is made of.
    """

    def one(item: Items) -> Any:
        found = _one(estimator, loss, params, batches, item)
        return flatten(found.gradient), jnp.asarray(found.loss, float_dtype(params)), found.metrics

    return jax.lax.map(one, items)  # type: ignore[no-any-return]


@eqx.filter_jit
def norms(
    estimator: AbstractEstimator, loss: Loss, params: Params, batches: Any, items: Items
) -> Float[Array, " items"]:
    """The norms of `estimates`; squares of large numbers do not overflow in them."""

    def one(item: Items) -> Array:
        flat = flatten(_one(estimator, loss, params, batches, item).gradient)
        largest = jnp.max(jnp.abs(flat), initial=0)
        unit = jnp.where((largest > 0) & jnp.isfinite(largest), largest, 1)
        return unit * jnp.sqrt(jnp.sum(jnp.square(flat / unit)))

    return jax.lax.map(one, items)  # type: ignore[no-any-return]


def rounding_noise(ladder: NDArray[Any], loss: float, eps: float) -> float:
    """Standard deviation of the rounding error of a loss, from its values at equally spaced points very near together.

    A smooth loss leaves nothing in differences of high order, and independent errors of variance σ² leave
    ``σ² (2k)! / k!²`` in those of order k (Moré & Wild 2011, "Estimating computational noise", SIAM J. Sci. Comput.
    33(3), eq. 2.1). The median over lines is blind to a jump that lies on one of them. At least a quarter of the
    spacing of numbers near the loss: what rounds to the same number has not the same value.

    Args:
        ladder: losses ``[lines, points]``.
        loss: at the point itself.
        eps: of the dtype.
    """
    ladder = np.asarray(ladder, np.float64)
    order = ladder.shape[1] // 2
    differences = np.diff(ladder, n=order, axis=1)
    factor = 1.0
    for i in range(1, order + 1):
        factor *= i / (order + i)
    variances = factor * np.mean(np.square(differences), axis=1)
    finite = variances[np.isfinite(variances)]
    measured = float(np.sqrt(np.median(finite))) if finite.size else 0.0
    return max(measured, 0.25 * eps * abs(loss) if np.isfinite(loss) else 0.0)


def norm_of(params: Params) -> float:
    """Euclidean norm of the parameters; that of so many ones where all are 0."""
    found = float(np.linalg.norm(np.asarray(flatten(params), np.float64)))
    return found if found > 0 else float(count_parameters(params)) ** 0.5
