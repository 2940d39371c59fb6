"""What the estimators of order 0 share: evaluating many perturbed copies of the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from ..core import Controls, LossFunction, Metrics, Params, UsageError, count_parameters, float_dtype, resolve


def map_chunks(function: Callable[[Any], Any], xs: PyTree, chunk_size: int | None) -> Any:
    """``vmap(function)(xs)`` along axis 0, at most `chunk_size` at a time to bound memory."""
    if chunk_size is None:
        return jax.vmap(function)(xs)
    return jax.lax.map(function, xs, batch_size=chunk_size)


def check_chunk_size(chunk_size: int | None) -> None:
    """Raise `UsageError` unless it is None or a positive int."""
    if chunk_size is not None and not _is_positive_int(chunk_size):
        raise UsageError(f"chunk_size must be a positive int or None (all at once), got {chunk_size!r}.")


def _is_positive_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def real_arrays(params: Params) -> Params:
    """`params` as arrays.

    Raises:
        UsageError: one is not real and floating-point; a probe moves along real directions.
    """
    params = jax.tree.map(jnp.asarray, params)
    for leaf in jax.tree.leaves(params):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise UsageError(
                f"estimators of order 0 need real floating-point parameters, got {leaf.dtype} of shape "
                f"{leaf.shape}. Hold a complex one as two arrays; leave integers out of the parameters."
            )
    return params


def real_loss(loss_fn: LossFunction) -> Callable[[Params], tuple[Float[Array, ""], Metrics]]:
    """`loss_fn` with a floating-point loss: a count of errors will do at order 0."""

    def evaluate(params: Params) -> tuple[Array, Metrics]:
        loss, metrics = loss_fn(params)
        loss = jnp.asarray(loss)
        return loss if jnp.issubdtype(loss.dtype, jnp.floating) else loss.astype(float_dtype(params)), metrics

    return evaluate


def check_positive(name: str, value: Any) -> None:
    """Raise `UsageError` unless it is a number above 0, or one that is known only later."""
    if isinstance(value, int | float) and not value > 0:
        raise UsageError(f"{name} must be positive, got {value!r}.")
    if value is None or isinstance(value, str):
        hint = f" To read a control: {name}=control({value!r})." if value else ""
        raise UsageError(f"{name} must be a positive number or a control, got {value!r}.{hint}")


def check_count(name: str, value: Any) -> None:
    """Raise `UsageError` unless `value` is a positive int."""
    if not _is_positive_int(value):
        raise UsageError(f"{name} must be a positive int, got {value!r}.")


def scalar(value: Any, controls: Controls, params: Params) -> Float[Array, ""]:
    """A number of an estimator's, or the control it refers to, in the dtype of the loss."""
    return jnp.asarray(resolve(value, controls), float_dtype(params))


def shift(params: Params, direction: Params, scale: Any) -> Params:
    """``params + scale * direction``, each leaf in its own dtype."""
    return jax.tree.map(lambda p, d: p + scale.astype(p.dtype) * d, params, direction)


def unflatten(values: Float[Array, " count"], params: Params) -> Params:
    """One number a scalar parameter, in the parameters' structure, shapes and dtypes."""
    leaves, structure = jax.tree.flatten(params)
    out, offset = [], 0
    for leaf in leaves:
        out.append(values[offset : offset + leaf.size].reshape(leaf.shape).astype(leaf.dtype))
        offset += leaf.size
    return jax.tree.unflatten(structure, out)


def random_direction(key: Key[Array, ""], params: Params, draw: Callable[..., Array]) -> Params:
    """One independent draw for every scalar parameter: a single ``draw(key, shape, dtype)``, cut into leaves.

    A draw a leaf would make the program, and the time to compile it, grow with the number of leaves.
    """
    return unflatten(draw(key, (count_parameters(params),), float_dtype(params)), params)
