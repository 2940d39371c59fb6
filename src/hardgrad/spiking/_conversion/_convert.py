"""Conversion: every ReLU becomes a neuron whose firing rate is the activation, as a share of the largest.

With λ_k the scale of ReLU k, its activation a_k = relu(W_k a_(k-1) + b_k) over λ_k is a rate in [0, 1]:

    a_k / λ_k = relu( (W_k λ_(k-1) / λ_k) · a_(k-1)/λ_(k-1)  +  b_k / λ_k )

An integrate-and-fire neuron of threshold 1, reset by subtraction, driven by these weights fires at this rate as the
number of steps grows. λ is the largest activation on calibration data (Diehl et al. 2015, "Fast-classifying,
high-accuracy spiking deep networks through weight and threshold balancing", section III-C), or a high percentile, which
gives up a few saturated samples for rates that are higher and so sooner told apart (Rueckauer et al. 2017, "Conversion
of continuous-valued deep networks to efficient event-driven networks for image classification", section 2.2.2). The
last layer is not scaled: its outputs are the source's, on the average over time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ...core import UsageError, did_you_mean
from .._network import Network
from .._surrogates import SuperSpike, Surrogate
from ._cells import ConvertedIF, ConvertedReadout
from ._source import is_flatten, is_relu, is_weighted, layers_of, samples_of

_PER = ("layer", "channel")
_SUPERSPIKE = SuperSpike()


def convert(
    network: Any,
    inputs: Any,
    *,
    percentile: float = 99.9,
    per: str = "channel",
    start: float = 0.5,
    wait: bool = True,
    surrogate: Surrogate = _SUPERSPIKE,
) -> Network:
    """A trained ReLU network as a spiking one.

    Give it each sample at every time step, ``[batch, time, *features]``, as it is (a current) or as spikes of that
    rate. Its outputs are 0 for the first `latency` steps; their mean from there on goes to the source's outputs, with
    an error that falls as 1/time. `logits_over_time` and `accuracy_over_time` do all that. The result is a `Network`
    like any other: it trains with a surrogate gradient, and can be quantised.

    Args:
        network: a `Network`, `equinox.nn.Sequential`, `equinox.nn.MLP`, or a sequence of layers: Linear, Conv, AvgPool,
            `SumPool2d`, `Flatten`, Dropout, and ``jax.nn.relu``, given as such or in `equinox.nn.Lambda`.
        inputs: samples to calibrate on, without a time axis, ``[samples, *features]``: some hundreds of the training
            data.
        percentile: of the activations, which becomes the rate 1; in (0, 100]. 100 is the largest.
        per: ``"channel"``, a scale for each channel of a ReLU (of a dense layer: for each unit), so that quiet ones
            fire as often as loud ones; or ``"layer"``, one for all of it.
        start: membranes before the first input, as a share of the threshold.
        wait: whether neurons wait for the layers before them (see `ConvertedIF`). False: all start at once, as in
            hardware and in NIR; biases then act for up to `latency` steps too many.
        surrogate: for training what was converted.

    Raises:
        UsageError: a layer that cannot be converted, named with what to use instead; a value out of range; inputs that
            are empty or give activations that are not finite.

    Examples:
        >>> mlp = eqx.nn.MLP(4, 3, 16, depth=2, activation=jax.nn.relu, key=jax.random.key(0))
        >>> x = jax.random.uniform(jax.random.key(1), (50, 4))
        >>> spiking = convert(mlp, x)
        >>> wanted = jax.vmap(mlp)(x)
        >>> from hardgrad.spiking import logits_over_time
        >>> found = logits_over_time(spiking, x, steps=256)
        >>> bool(jnp.abs(found[:, -1] - wanted).max() < 0.02)
        True
    """
    if not 0.0 < percentile <= 100.0:
        raise UsageError(f"percentile must be above 0 and at most 100, got {percentile!r}.")
    if per not in _PER:
        raise UsageError(f"per is 'layer' or 'channel', not {per!r}. {did_you_mean(str(per), _PER)}")
    make = lambda units, delay: ConvertedIF(units, start=start, delay=delay if wait else 0, surrogate=surrogate)
    made, spiking, units = _convert(layers_of(network), samples_of(inputs), percentile, per, make)
    if wait and not isinstance(made[-1], ConvertedIF):
        made.append(ConvertedReadout(units, delay=spiking))
    return Network(made)


@eqx.filter_jit
def _activations(layers: list[Any], values: Array) -> list[Array]:
    """What every layer of the source gives."""
    found = []
    for layer in layers:
        values = jax.vmap(layer)(values)
        found.append(values)
    return found


def _convert(
    layers: list[Any], inputs: Array, percentile: float, per: str, make: Callable[[Any, int], ConvertedIF]
) -> tuple[list[Any], int, tuple[int, ...]]:
    """The layers, how many of them spike, and the shape of the last one's output."""
    made: list[Any] = []
    before: Any = inputs
    scale = np.ones((), inputs.dtype)  # what a spike, or an input of 1, stands for
    flattened, spiking = False, 0
    last_weighted = -1
    activations = [np.asarray(values) for values in _activations(layers, inputs)]
    for index, (layer, values) in enumerate(zip(layers, activations, strict=True)):
        if not np.all(np.isfinite(values)):
            raise UsageError(f"layer {index} gives activations that are not finite on the calibration inputs.")
        if is_weighted(layer):
            made.append(_scaled_inputs(layer, scale))
            scale = np.ones((), inputs.dtype)
            last_weighted, flattened = len(made) - 1, False
        elif is_relu(layer):
            if last_weighted >= 0:
                if per == "channel" and flattened:
                    raise UsageError(
                        f"layer {index}, a ReLU, follows a Flatten, where channels cannot be told apart: put the ReLU "
                        "before the Flatten, which changes nothing, or convert with per='layer'."
                    )
                scale = _largest(values, percentile, per)
                made[last_weighted] = _scaled_outputs(made[last_weighted], scale)
                last_weighted = -1
            made.append(make(values.shape[1:], spiking))
            spiking += 1
        else:
            made.append(layer)
            if is_flatten(layer):
                flattened = True
                scale = np.broadcast_to(scale, before.shape[1:]).ravel() if scale.ndim else scale
        before = values
    return made, spiking, before.shape[1:]


def _largest(values: Any, percentile: float, per: str) -> Any:
    """λ, of a shape that broadcasts to a sample; 1 for what is never active."""
    if per == "layer":
        rows = values.reshape(1, -1)
    else:
        rows = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
    high, most = np.percentile(rows, percentile, axis=1), np.max(rows, axis=1)
    # Of what is active in less than that percentage of the samples, the largest.
    largest = np.where(high > 0, high, np.where(most > 0, most, 1.0)).astype(values.dtype)
    return largest[0] if per == "layer" else largest.reshape(-1, *(1,) * (values.ndim - 2))


def _scaled_inputs(layer: Any, scale: Any) -> Any:
    """The layer for inputs that are `scale` times smaller."""
    weight = np.asarray(layer.weight)
    if scale.ndim == 0 or isinstance(layer, eqx.nn.Linear):
        scaled = weight * scale
    else:  # [out, in / groups, ...], the outputs of a group side by side
        by_group = scale.reshape(layer.groups, 1, weight.shape[1], *(1,) * (weight.ndim - 2))
        scaled = (weight.reshape(layer.groups, -1, *weight.shape[1:]) * by_group).reshape(weight.shape)
    return eqx.tree_at(lambda layer: layer.weight, layer, jnp.asarray(scaled))


def _scaled_outputs(layer: Any, scale: Any) -> Any:
    """The layer with outputs `scale` times smaller."""

    def scaled(part: Any) -> Array:
        along = scale.reshape(-1, *(1,) * (part.ndim - 1)) if scale.ndim else scale
        return jnp.asarray(np.asarray(part) / along)

    layer = eqx.tree_at(lambda layer: layer.weight, layer, scaled(layer.weight))
    return layer if layer.bias is None else eqx.tree_at(lambda layer: layer.bias, layer, scaled(layer.bias))
