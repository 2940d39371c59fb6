"""What estimators made of others share: sums over pytrees, keys, diagnostics by part, and turns."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import (
    AbstractEstimator,
    Loss,
    LossFunction,
    Metrics,
    Order,
    Params,
    UsageError,
    count_parameters,
    float_dtype,
)

EVALUATIONS = "evaluations"
"""The diagnostic of an estimator that does not cost the same at every step: evaluations made in this one."""


def widen(tree: Params) -> Params:
    """Every leaf in the widest dtype of all, at least float32: sums of products lose nothing there."""
    dtype = float_dtype(tree)
    return jax.tree.map(lambda x: jnp.asarray(x).astype(dtype), tree)


def dot(a: Params, b: Params) -> Float[Array, ""]:
    """Inner product over all leaves. Not a matrix product, which accelerators round to fewer digits."""
    parts = [jnp.sum(x * y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)]
    return sum(parts[1:], parts[0]) if parts else jnp.zeros(())


def add(a: Params, b: Params, scale: Any) -> Params:
    """``a + scale * b``, leaf by leaf."""
    return jax.tree.map(lambda x, y: x + scale * y, a, b)


def ratio(a: Float[Array, "*shape"], b: Float[Array, ""]) -> Float[Array, "*shape"]:
    """a / b, and 0 where b is 0."""
    return jnp.where(b == 0, jnp.zeros_like(a), a / jnp.where(b == 0, jnp.ones_like(b), b))


def cosine(inner: Array, norm_a: Array, norm_b: Array) -> Float[Array, ""]:
    """From an inner product and two norms; 0 if either vector is 0."""
    return ratio(ratio(inner, norm_a), norm_b)


def blind_share(gradient: Params) -> Float[Array, ""]:
    """Share of the scalars whose gradient is exactly 0: the estimator says nothing about them."""
    dtype, count = float_dtype(gradient), count_parameters(gradient)
    zeros = [jnp.sum(jnp.asarray(g) == 0).astype(dtype) for g in jax.tree.leaves(gradient)]
    return sum(zeros[1:], zeros[0]) / max(count, 1) if zeros else jnp.zeros(())


def signal_to_noise(gradient: Params, squares: Array, many: int) -> Float[Array, ""]:
    """√(‖E g‖² / E‖g - E g‖²) of a mean of independent parts, by their scatter; 0 where both vanish.

    Args:
        gradient: the mean g, in one wide dtype.
        squares: Σ ‖part‖².
        many: how many parts, at least 2.
    """
    square = dot(gradient, gradient)
    noise = jnp.maximum(squares / many - square, 0.0) / (many - 1)
    signal = jnp.maximum(square - noise, 0.0)  # freed of the noise it contains
    return jnp.sqrt(jnp.where(signal == 0, 0.0, signal / noise))


def sum_chunks(function: Callable[[Any], Any], keys: Any, chunk_size: int | None) -> Any:
    """Sum of ``function(key)`` over keys, leaf by leaf, at most `chunk_size` of them in memory at a time."""
    count = keys.shape[0]
    size = count if chunk_size is None else min(chunk_size, count)
    whole = count // size * size

    def together(some: Any) -> Any:
        return jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.vmap(function)(some))

    def step(total: Any, some: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, together(some)), None

    if whole == size:
        total = together(keys[:size])
    else:
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(function, keys[0]))
        total, _ = jax.lax.scan(step, zeros, keys[:whole].reshape(-1, size))
    return step(total, keys[whole:])[0] if whole < count else total


def check_share(name: str, value: Any, *, most: float = math.inf) -> None:
    """Raise `UsageError` unless it is a finite number from 0 to `most`, or one that is known only later."""
    wanted = "a number of at least 0" if most == math.inf else f"a number from 0 to {most:g}"
    if isinstance(value, bool) or value is None or isinstance(value, str):
        hint = f" To read a control: {name}=control({value!r})." if isinstance(value, str) and value else ""
        raise UsageError(f"{name} must be {wanted} or a control, got {value!r}.{hint}")
    if isinstance(value, int | float) and not (0 <= value <= most and math.isfinite(value)):
        raise UsageError(f"{name} must be {wanted}, got {value!r}.")


def check_estimator(name: str, value: Any) -> None:
    """Raise `UsageError` unless it is an estimator, not the class of one."""
    if not isinstance(value, AbstractEstimator):
        hint = f" Add brackets: {value.__name__}()." if isinstance(value, type) else ""
        raise UsageError(f"{name} must be an estimator, such as Autodiff() or AntitheticNES(), got {value!r}.{hint}")


def common_order(estimators: tuple[AbstractEstimator, ...]) -> Order:
    """The order of all, or ``0+1`` where they differ."""
    orders = {estimator.contract.order for estimator in estimators}
    return orders.pop() if len(orders) == 1 else Order.MIXED


def under(name: str, diagnostics: Metrics) -> Metrics:
    """Diagnostics of a part, each as ``part/diagnostic``; evaluations are counted for the whole."""
    return {f"{name}/{key}": value for key, value in diagnostics.items() if key != EVALUATIONS}


def evaluations_made(estimator: AbstractEstimator, diagnostics: Metrics, params: Params) -> Any:
    """Evaluations an estimator made in this step: what it says itself, else what its contract does."""
    return diagnostics.get(EVALUATIONS, estimator.contract.evaluations(count_parameters(params)))


def total_evaluations(*parts: Any) -> Metrics:
    """The diagnostic of a whole, from its parts; nothing if the contract already says it."""
    if not any(isinstance(part, jax.Array) for part in parts):
        return {}
    return {EVALUATIONS: sum((jnp.asarray(part, jnp.int32) for part in parts), jnp.zeros((), jnp.int32))}


def restrict(loss_fn: LossFunction, others: Params) -> LossFunction:
    """The loss as a function of some of the parameters; `others` has the rest, and None for those."""
    if isinstance(loss_fn, Loss):
        return dataclasses.replace(loss_fn, rest=eqx.combine(loss_fn.rest, others))
    return lambda params: loss_fn(eqx.combine(params, others))
