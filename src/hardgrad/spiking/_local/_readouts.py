"""What of a network's outputs a loss reads: one weighted sum over time, or every step.

    "sum"       ℓ(Σ_t y_t, target)                "steps"     mean_t ℓ(y_t, target)
    "mean"      ℓ(mean_t y_t, target)             "sequence"  mean_t ℓ(y_t, target_t)
    "last"      ℓ(y_T, target)

ℓ takes outputs of one time ``[batch, classes]`` and targets ``[batch, ...]``, and is a mean over the batch.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ...core import UsageError, did_you_mean

READOUTS = ("sum", "mean", "last", "steps", "sequence")


def check_readout(readout: str) -> None:
    """Raises `UsageError` for an unknown readout."""
    if readout not in READOUTS:
        raise UsageError(f"no readout is called {readout!r}. {did_you_mean(str(readout), READOUTS)}")


def once(readout: str) -> bool:
    """Whether the loss is taken once, of a sum over time, and not at every step."""
    return readout in ("sum", "mean", "last")


def step_weight(readout: str, t: Array, time: int, dtype: Any) -> Array:
    """a_t: the weight of step `t` in the sum over time, or of its loss."""
    if readout == "sum":
        return jnp.ones((), dtype)
    if readout == "last":
        return (t == time - 1).astype(dtype)
    return jnp.full((), 1.0 / time, dtype)


def cross_entropy(outputs: Float[Array, "batch classes"], labels: Array) -> Float[Array, ""]:
    """Softmax cross-entropy, mean over the batch; labels int ``[batch]``, or probabilities ``[batch, classes]``."""
    if jnp.issubdtype(labels.dtype, jnp.integer):
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, labels))
    return jnp.mean(optax.softmax_cross_entropy(outputs, labels))


def accuracy(outputs: Array, targets: Array) -> dict[str, Array]:
    """``{"accuracy": share of the batch whose largest output is the label}`` for integer labels, else nothing."""
    if not jnp.issubdtype(targets.dtype, jnp.integer) or targets.shape != outputs.shape[:1]:
        return {}
    largest = jnp.argmax(outputs, axis=-1)
    hits = largest == targets.astype(largest.dtype)
    return {"accuracy": jnp.mean(hits.astype(outputs.dtype))}


def target_at(readout: str, targets: Array, t: Array) -> Array:
    """The target of step `t`."""
    return jax.lax.dynamic_index_in_dim(targets, t, 1, keepdims=False) if readout == "sequence" else targets
