"""What a network to be converted is made of: weighted layers, ReLUs, and layers that only move or average."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ...core import UsageError
from .._network import Network
from .._stateless import Flatten, SumPool2d

_POOLS = (eqx.nn.AvgPool1d, eqx.nn.AvgPool2d, eqx.nn.AvgPool3d, SumPool2d)
_NO_ACTIVATION = inspect.signature(eqx.nn.MLP.__init__).parameters["final_activation"].default
_INSTEAD = {
    "MaxPool": "the largest of several spike trains is not the train of the largest rate: train with AvgPool",
    "Norm": "fold its scale and shift into the layer before, then leave it out",
    "PReLU": "train with jax.nn.relu",
    "Quantised": "convert first, then quantise the converted network",
    "Integer": "convert first, then quantise the converted network",
}


def samples_of(inputs: Any) -> Array:
    """Samples as a JAX array of floats.

    Raises:
        UsageError: no samples.
    """
    samples = jnp.asarray(inputs)
    if not samples.size:
        raise UsageError(f"inputs are empty: their shape is {samples.shape}.")
    return samples if jnp.issubdtype(samples.dtype, jnp.floating) else samples.astype(float)


def is_weighted(layer: Any) -> bool:
    """Dense or convolutional."""
    return isinstance(layer, eqx.nn.Linear | eqx.nn.Conv)


def is_relu(layer: Any) -> bool:
    """The function itself, or an `equinox.nn.Lambda` of it."""
    return getattr(layer, "fn", layer) is jax.nn.relu


def is_flatten(layer: Any) -> bool:
    """`Flatten`, `jnp.ravel`, or an `equinox.nn.Lambda` of that."""
    return isinstance(layer, Flatten) or getattr(layer, "fn", layer) is jnp.ravel


def is_pool(layer: Any) -> bool:
    """Sums or averages over windows, channel by channel."""
    return isinstance(layer, _POOLS)


def _unrolled(layers: Any) -> Iterator[Any]:
    if isinstance(layers, Network | eqx.nn.Sequential):
        layers = layers.layers
    elif isinstance(layers, eqx.nn.MLP):
        layers = _of_mlp(layers)
    if isinstance(layers, Sequence):
        for layer in layers:
            yield from _unrolled(layer)
    elif not isinstance(layers, eqx.nn.Dropout | eqx.nn.Identity):
        yield layers


def _of_mlp(mlp: eqx.nn.MLP) -> list[Any]:
    found: list[Any] = []
    for layer in mlp.layers[:-1]:
        found += [layer, mlp.activation]
    last = mlp.final_activation
    return [*found, mlp.layers[-1], *([] if last is _NO_ACTIVATION else [last])]


def layers_of(source: Any) -> list[Any]:
    """The layers in a row, each of a kind that can be converted; dropout and identities left out.

    Args:
        source: a `Network`, an `equinox.nn.Sequential` or `MLP`, a layer, or a sequence of these.

    Raises:
        UsageError: a layer that cannot be converted, named; no weights, or a ReLU before any.
    """
    layers = list(_unrolled(source))
    weighted = False
    for index, layer in enumerate(layers):
        weighted = weighted or is_weighted(layer)
        if not (is_weighted(layer) or is_relu(layer) or is_flatten(layer) or is_pool(layer)):
            raise UsageError(_refusal(index, layer))
        if is_relu(layer) and not weighted:
            raise UsageError(f"layer {index} is a ReLU before any weights: leave it out, or clip the inputs.")
    if not weighted:
        raise UsageError("there is nothing to convert: no layer has weights.")
    return layers


def _refusal(index: int, layer: Any) -> str:
    function = getattr(layer, "fn", layer)
    named = getattr(function, "__name__", None)
    name = type(layer).__name__ if named is None else f"a function '{named}'"
    instead = next((text for part, text in _INSTEAD.items() if part in type(layer).__name__), None)
    return (
        f"layer {index}, {name}, cannot be converted: {instead or 'its output is no rate of spikes'}. What can be: "
        "Linear, Conv, AvgPool, SumPool2d, Flatten, Dropout, and jax.nn.relu given as such or in equinox.nn.Lambda."
    )
