"""What a converted network says after 1, 2, 3, ... time steps."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError, whole_number
from .._network import Network
from ._cells import ConvertedIF
from ._source import samples_of


def latency(network: Network) -> int:
    """Steps before a converted network's output means anything: one for each spiking layer."""
    return sum(isinstance(layer, ConvertedIF) for layer in network.layers)


def logits_over_time(network: Network, inputs: Any, steps: int) -> Float[Array, "batch steps *outputs"]:
    """Mean output over the first 1, 2, ..., `steps` steps, the latency left out.

    Args:
        network: as `convert` made it, perhaps trained or quantised since.
        inputs: samples without a time axis ``[batch, *features]``, held for `steps` + `latency` steps.
        steps: at least 1.

    Raises:
        UsageError: no steps.
    """
    return _means(network, samples_of(inputs), whole_number("steps", steps, least=1))


@eqx.filter_jit
def _means(network: Network, inputs: Array, steps: int) -> Array:
    wait = latency(network)

    def step(carry: Any, _: Any) -> Any:
        state, total = carry
        state, out = network.step(state, inputs)
        total = out if total is None else total + out
        return (state, total), total

    # The outputs of the first steps are all 0; after one, the total has its shape.
    first, _ = step((network.init_state(inputs.shape[0], inputs.dtype), None), None)
    _, totals = jax.lax.scan(step, first, length=steps + wait - 1)
    totals = jnp.concatenate([first[1][None], totals])[wait:]
    count = jnp.arange(1, steps + 1, dtype=totals.dtype).reshape(-1, *(1,) * (totals.ndim - 1))
    return jnp.moveaxis(totals / count, 0, 1)


def accuracy_over_time(network: Network, inputs: Any, labels: Any, steps: int) -> Float[Array, " steps"]:
    """Share of samples whose largest mean output is the label's, after 1, 2, ..., `steps` steps.

    Args:
        network: as `convert` made it; its outputs are one number a class.
        inputs: samples without a time axis ``[batch, *features]``.
        labels: their classes, from 0 ``[batch]``, integers.
        steps: at least 1.

    Raises:
        UsageError: outputs that are not one number a class, or no steps.
    """
    logits = logits_over_time(network, inputs, steps)
    if logits.ndim != 3:
        raise UsageError(f"accuracy needs one output a class, [batch, classes]; a step gives {logits.shape[2:]}.")
    right = jnp.argmax(logits, axis=-1) == jnp.asarray(labels)[:, None]
    return jnp.mean(right.astype(logits.dtype), axis=0)
