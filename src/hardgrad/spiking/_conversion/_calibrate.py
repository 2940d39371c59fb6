"""Correction after conversion: biases moved until mean rates are those of the activations.

With few steps a layer's rates differ from the activations they stand for, and the mean difference over samples is an
error of the bias: what is missing on the average is added, layer by layer, each with the layers before it corrected (Li
et al. 2021, "A free lunch from ANN: towards efficient, accurate spiking neural networks calibration", section 4.2).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ...core import UsageError, whole_number
from .._network import Network
from ._cells import ConvertedIF, ConvertedReadout
from ._latency import latency
from ._source import samples_of


def calibrate_biases(network: Network, inputs: Any, *, steps: int) -> Network:
    """A converted network with its biases corrected for use with `steps` time steps.

    Needs no labels and no gradient. Layers without a bias stay as they are.

    Args:
        network: as `convert` made it, not trained since: the activations aimed at are its own, with a ReLU, cut at the
            largest rate, in the place of each neuron.
        inputs: samples without a time axis ``[samples, *features]``, such as were given to `convert`.
        steps: over which rates are counted, without the latency: as many as it will be used with.

    Raises:
        UsageError: a network that was not converted, or no steps.
    """
    steps = whole_number("steps", steps, least=1)
    if not isinstance(network, Network) or not latency(network):
        raise UsageError("calibrate_biases takes a network as convert() makes it; this one has no converted neurons.")
    inputs = samples_of(inputs)
    wanted = _activations(network, inputs)
    weighted = None
    for index in range(len(network.layers)):
        layer = network.layers[index]
        if hasattr(layer, "weight"):
            weighted = None if layer.bias is None else index
        if not isinstance(layer, ConvertedIF | ConvertedReadout) or weighted is None:
            continue
        # Over samples, and over all places that share a bias.
        missing = jnp.mean(wanted[index] - _mean_outputs(network, inputs, steps)[index], axis=0)
        bias = network.layers[weighted].bias
        missing = missing.reshape(bias.shape[0], -1).mean(axis=1).reshape(bias.shape)
        network = eqx.tree_at(_bias_of(weighted), network, bias + missing)
        weighted = None
    return network


def _bias_of(index: int) -> Callable[[Network], Any]:
    return lambda network: network.layers[index].bias


@eqx.filter_jit
def _activations(network: Network, inputs: Array) -> dict[int, Array]:
    """After each converted cell, what its mean output should be."""
    found, x = {}, inputs
    for index, layer in enumerate(network.layers):
        if isinstance(layer, ConvertedIF):
            x = jax.nn.relu(x)
            found[index] = jnp.minimum(x, 1.0)
        elif isinstance(layer, ConvertedReadout):
            found[index] = x
        else:
            x = jax.vmap(layer)(x)
    return found


@eqx.filter_jit
def _mean_outputs(network: Network, inputs: Array, steps: int) -> dict[int, Array]:
    """After each converted cell, its mean output over the `steps` steps that belong to the input."""
    # A spiking layer answers in the step after its input came; a readout at once.
    first, spiking = {}, 0
    for index, layer in enumerate(network.layers):
        spiking += isinstance(layer, ConvertedIF)
        if isinstance(layer, ConvertedIF | ConvertedReadout):
            first[index] = spiking

    def step(carry: Any, time: Any) -> Any:
        states, totals = carry
        x, after, more = inputs, [], {}
        for index, (layer, state) in enumerate(zip(network.layers, states, strict=True)):
            (state,), x = Network([layer]).step((state,), x)
            after.append(state)
            if index in first:
                counts = (time >= first[index]) & (time < first[index] + steps)
                more[index] = totals[index] + jnp.where(counts, x, jnp.zeros_like(x))
        return (tuple(after), more), None

    start = network.init_state(inputs.shape[0], inputs.dtype)
    totals = {i: jnp.zeros((inputs.shape[0], *network.layers[i].units), inputs.dtype) for i in first}
    (_, totals), _ = jax.lax.scan(step, (start, totals), jnp.arange(steps + spiking))
    return {index: total / steps for index, total in totals.items()}
