"""From a model to one that trains on a grid, to one of integers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jaxtyping import PyTree

from ...core import UsageError
from .._neurons import RecurrentLIF
from ._grid import Bits, WeightGrid
from ._layers import IntegerLayer, IntegerRecurrentLIF, QuantisedLayer, QuantisedRecurrentLIF

_IN_TRAINING = (QuantisedLayer, QuantisedRecurrentLIF)
_DEPLOYED = (IntegerLayer, IntegerRecurrentLIF)
_CAN = "equinox.nn.Linear, equinox.nn.Conv1d, Conv2d, Conv3d and RecurrentLIF"


class IntegerWeight(NamedTuple):
    """A layer's weights as deployed: ``scale * values``.

    Attributes:
        values: integers ``[out, ...]``, int8 whatever the number of bits.
        scale: of the same rank, ``[out, 1, ...]`` or ``[1, 1, ...]``.
        bits: that a weight takes packed; 2 for a ternary one.
    """

    values: npt.NDArray[np.int8]
    scale: npt.NDArray[np.floating]
    bits: int

    @property
    def nbytes(self) -> int:
        """Bytes of the packed integers and their scales."""
        return math.ceil(self.values.size * self.bits / 8) + self.scale.nbytes


def _can_be_quantised(node: Any) -> bool:
    return isinstance(node, eqx.nn.Linear | eqx.nn.Conv | RecurrentLIF)


def _done(node: Any) -> bool:
    return isinstance(node, _IN_TRAINING + _DEPLOYED)


def quantise(
    model: PyTree,
    bits: Bits,
    *,
    where: Callable[[Any], Any] | None = None,
    per: str = "channel",
) -> PyTree:
    """A model whose weights are rounded to a few bits where they are used, and that trains like any other.

    Weights only: biases, decays and thresholds stay as they are, and spikes lose nothing anyway
    (`binary_activation_error`). Gradients pass straight through the rounding to the weights behind it. Start from
    trained weights to fine-tune, or from fresh ones.

    Args:
        model: any pytree with layers in it: a `Network`, an Equinox module, a converted network.
        bits: 2 to 8, or ``"ternary"``; see `WeightGrid`.
        where: which layers, as in `equinox.tree_at`: a function of the model that returns a layer or several. None
            takes every dense and convolutional layer and every `RecurrentLIF` (its recurrent weights).
        per: ``"channel"`` or ``"tensor"``: what shares a scale.

    Returns:
        The model with `QuantisedLayer` and `QuantisedRecurrentLIF` in their places.

    Raises:
        UsageError: bits out of range, nothing to quantise, or a layer that cannot be, or is already.

    Examples:
        >>> layer = quantise(eqx.nn.Linear(3, 2, key=jax.random.key(0)), 4)
        >>> integers, scale = layer.integers()
        >>> bool(jnp.all(layer(jnp.ones(3)) == scale[:, 0] * integers.sum(axis=1) + layer.layer.bias))
        True
    """
    grid = WeightGrid(bits, per)

    def convert(node: Any) -> Any:
        if _done(node):
            raise UsageError(
                f"a {type(node).__name__} is quantised already: quantise the model it was made from, once. "
                "For several numbers of bits in one model, say where=... in each call."
            )
        if isinstance(node, RecurrentLIF):
            return QuantisedRecurrentLIF(node, grid)
        if not _can_be_quantised(node):
            raise UsageError(f"a {type(node).__name__} cannot be quantised; what can: {_CAN}.")
        return QuantisedLayer(node, grid)

    if where is not None:
        return eqx.tree_at(where, model, replace_fn=convert, is_leaf=_done)

    def stop(node: Any) -> bool:
        return _can_be_quantised(node) or _done(node)

    if not any(map(stop, jax.tree.leaves(model, is_leaf=stop))):
        raise UsageError(f"there is nothing to quantise in a {type(model).__name__}. What can be quantised: {_CAN}.")
    return jax.tree.map(lambda node: convert(node) if stop(node) else node, model, is_leaf=stop)


def freeze(model: PyTree) -> PyTree:
    """A quantised model as deployed: int8 integers in the place of the weights that were trained behind them.

    Its outputs are the quantised model's, to the bit.

    Raises:
        UsageError: nothing in the model is quantised.
    """
    _check_any(model)

    def convert(node: Any) -> Any:
        if isinstance(node, QuantisedRecurrentLIF):
            return IntegerRecurrentLIF(node)
        if isinstance(node, QuantisedLayer):
            integers, scale = node.integers()
            layer = eqx.tree_at(lambda layer: layer.weight, node.layer, integers.astype(jnp.int8))
            return IntegerLayer(layer, scale, node.grid)
        return node

    return jax.tree.map(convert, model, is_leaf=_done)


def integer_weights(model: PyTree) -> dict[str, IntegerWeight]:
    """The integers and scales of a quantised or frozen model, by the layer's name, such as ``layers.0``.

    Raises:
        UsageError: nothing in the model is quantised.

    Examples:
        >>> found = integer_weights(quantise([eqx.nn.Linear(64, 10, key=jax.random.key(0))], "ternary"))["0"]
        >>> found.values.dtype, found.values.shape, found.scale.shape, found.nbytes
        (dtype('int8'), (10, 64), (10, 1), 200)
    """
    _check_any(model)
    found = {}
    for path, node in jax.tree_util.tree_flatten_with_path(model, is_leaf=_done)[0]:
        if _done(node):
            values, scale = (np.asarray(part) for part in node.integers())
            name = jax.tree_util.keystr(path, simple=True, separator=".") or "value"
            found[name] = IntegerWeight(values.astype(np.int8), scale, node.grid.stored_bits)
    return found


def _check_any(model: PyTree) -> None:
    if not any(map(_done, jax.tree.leaves(model, is_leaf=_done))):
        raise UsageError(f"nothing in this {type(model).__name__} is quantised: call quantise(model, bits) first.")
