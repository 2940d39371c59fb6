"""What e-prop sees of a network: for each layer its weights, its cell's constants, and its cell as a local rule."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ...core import UsageError
from .._network import Network
from .._neurons import LIF, LeakyIntegrator, RecurrentLIF
from .._neurons._base import Cell, SpikingCell
from ._direct import DirectFeedback
from ._feedback_alignment import FeedbackLinear

_SHAPE = (
    "EProp trains Network([Linear, spiking cell, Linear, LeakyIntegrator]), the last of which may be missing, or a "
    "DirectFeedback whose hidden blocks are [Linear, spiking cell]"
)


class Weights(NamedTuple):
    """The parameters of one layer, as the rule differentiates them.

    Attributes:
        weight: ``[units, inputs]``.
        bias: ``[units]``, or None.
        recurrent: ``[units, units]``, from the second to the first, or None.
        adaptive: learned feedback beside `weight`, or None.
        constants: the cell's, each ``[units]`` or a number; what else the cell's constants are made of besides arrays
            is found in `Layer`.
    """

    weight: Array
    bias: Array | None
    recurrent: Array | None
    adaptive: Array | None
    constants: Any


class Layer(NamedTuple):
    """The rest of a layer: a cell without its arrays.

    Attributes:
        cell: a cell whose arrays are None; None for a readout that does not integrate.
        numbers: what of the cell's constants are no arrays.
    """

    cell: Any
    numbers: Any

    def advance(self, constants: Any, state: Any, x: Array) -> tuple[Any, Array]:
        """One step of each unit by itself: what units send one another is part of `x`."""
        if self.cell is None:
            return state, x
        constants = eqx.combine(constants, self.numbers)
        if isinstance(self.cell, RecurrentLIF):
            return LIF.advance(self.cell, constants, state, x)
        out: tuple[Any, Array] = self.cell.advance(constants, state, x)
        return out

    def init_state(self, batch: int, dtype: Any) -> Any:
        """Zeros."""
        return () if self.cell is None else self.cell.init_state(batch, dtype)


class Parts(NamedTuple):
    """A network as e-prop sees it.

    Attributes:
        weights: of each layer, the readout's last.
        layers: likewise.
        feedback: for each hidden layer the matrix ``[classes, units]`` of its learning signals; not differentiated.
    """

    weights: tuple[Weights, ...]
    layers: tuple[Layer, ...]
    feedback: tuple[Array, ...]


def take_apart(model: Any) -> Parts:
    """A network as e-prop sees it.

    Raises:
        UsageError: it has another architecture.
    """
    if isinstance(model, Network) and len(model.layers) == 1:
        (model,) = model.layers
    if isinstance(model, DirectFeedback):
        hidden = [block.layers for block in model.hidden]
        readout = model.synapse.layers + (() if model.readout is None else model.readout.layers)
        dtype = model.synapse.layers[0].weight.dtype
        feedback: Any = tuple(matrix.astype(dtype) for matrix in model.feedback)
    elif isinstance(model, Network):
        cells = [i for i, layer in enumerate(model.layers) if isinstance(layer, SpikingCell)]
        if len(cells) > 1:
            raise UsageError(
                f"the network has {len(cells)} spiking cells in a row, and e-prop's learning signals come straight "
                "from the readout: give each layer its way, DirectFeedback([[Linear, cell], ...], readout, key=...)."
            )
        hidden, readout = [model.layers[:2]], model.layers[2:]
        synapse = readout[0] if readout else None
        feedback = (synapse.feedback if isinstance(synapse, FeedbackLinear) else getattr(synapse, "weight", None),)
    else:
        raise UsageError(f"{_SHAPE}; got a {type(model).__name__}.")
    for layers in hidden:
        if len(layers) != 2 or not isinstance(layers[1], SpikingCell):
            raise UsageError(f"{_SHAPE}; got hidden layers {_names(layers)}.")
    if len(readout) not in (1, 2) or not all(isinstance(layer, LeakyIntegrator) for layer in readout[1:]):
        raise UsageError(f"{_SHAPE}; got a readout {_names(readout)}.")
    pairs = [_split(*layers) for layers in hidden] + [_split(readout[0], readout[1] if len(readout) == 2 else None)]
    weights, rest = zip(*pairs, strict=True)
    return Parts(weights, rest, jax.lax.stop_gradient(feedback))


def _names(layers: Any) -> str:
    return "[" + ", ".join(type(layer).__name__ for layer in layers) + "]"


def _split(synapse: Any, cell: Cell | None) -> tuple[Weights, Layer]:
    if not isinstance(synapse, eqx.nn.Linear) or "scalar" in (synapse.in_features, synapse.out_features):
        raise UsageError(f"{_SHAPE}; got a {type(synapse).__name__} where a Linear must be.")
    adaptive = synapse.adaptive if isinstance(synapse, FeedbackLinear) else None
    if cell is None:
        return Weights(synapse.weight, synapse.bias, None, adaptive, None), Layer(None, None)
    constants, recurrent = cell.constants(), None
    if isinstance(cell, RecurrentLIF):
        *constants, recurrent = constants
        constants = tuple(constants)
    arrays, numbers = eqx.partition(constants, eqx.is_inexact_array)
    name, units = type(cell).__name__, cell.units
    if units != (synapse.out_features,):
        raise UsageError(f"a Linear of {synapse.out_features} outputs stands before a {name} of units {units}.")
    odd = [leaf.shape for leaf in jax.tree.leaves(arrays) if leaf.shape not in (units, ())]
    if odd:
        raise UsageError(
            f"{name} has constants of shapes {odd}: e-prop takes cells whose units {units} each have their own."
        )
    bare = jax.tree.map(lambda x: None if eqx.is_array(x) else x, cell)
    return Weights(synapse.weight, synapse.bias, recurrent, adaptive, arrays), Layer(bare, numbers)


def current(weights: Weights, sent: Array, spikes: Array) -> Array:
    """What a layer's units receive: from the layer before, from themselves, and the bias."""
    received = sent @ weights.weight.T
    if weights.bias is not None:
        received = received + weights.bias
    return received if weights.recurrent is None else received + spikes @ weights.recurrent.T


def step(weights: Weights, layer: Layer, state: Any, sent: Array) -> tuple[Any, Array, Array, Array]:
    """One step of a layer: new state, what it sends, its current, and the spikes its units sent one another."""
    spikes = jnp.zeros((sent.shape[0], weights.weight.shape[0]), sent.dtype)
    if weights.recurrent is not None:
        spikes = jax.lax.stop_gradient(layer.advance(weights.constants, state, spikes)[1])
    received = current(weights, sent, spikes)
    after, out = layer.advance(weights.constants, state, received)
    return after, out, received, spikes
