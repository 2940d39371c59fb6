"""The network of `spiking.py` in Spyx, where it is installed. Its neurons and its order of a step are ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from spyx import axn
from spyx import fn as losses
from spyx import nn as spyx_nn


def model_of(given: dict[str, Any], steepness: float) -> Any:
    """Its container of layers, of these parameters."""
    rngs, layers = nnx.Rngs(0), []
    for i in (1, 2, 3):
        after, before = given[f"w{i}"].shape
        linear = nnx.Linear(before, after, rngs=rngs)
        linear.kernel.value, linear.bias.value = jnp.asarray(given[f"w{i}"].T), jnp.asarray(given[f"b{i}"])
        spiking = {"activation": axn.arctan(steepness)} if i < 3 else {}
        cell = (spyx_nn.LIF if i < 3 else spyx_nn.LI)((after,), rngs=rngs, **spiking)
        cell.beta.value = jnp.asarray(given[f"beta{i}"])
        layers += [linear, cell]
    return spyx_nn.Sequential(*layers)


def training_step(
    given: dict[str, Any], inputs: Any, labels: Any, steepness: float, smoothing: float, rate: float
) -> tuple[Callable[[], Any], float]:
    """A step of Adam by its own `make_train_step`, time first; and the loss before it."""
    from spyx.optimize import make_train_step

    model = model_of(given, steepness)
    optimizer = nnx.Optimizer(model, optax.adam(rate), wrt=nnx.Param)
    cross_entropy = losses.integral_crossentropy(smoothing=smoothing, time_axis=0)
    x, y = jnp.asarray(np.ascontiguousarray(inputs.swapaxes(0, 1))), jnp.asarray(labels)

    def loss_fn(model: Any, x: Any, y: Any) -> Any:
        return cross_entropy(spyx_nn.run(model, x)[0], y)

    step = make_train_step(loss_fn)
    first = float(loss_fn(model, x, y))

    def again() -> Any:
        return jax.block_until_ready(step(model, optimizer, x, y))

    return again, first
