"""The three kinds of layers, and one time step of each.

* A *cell* has ``init_state(batch)`` and ``cell(state, x) -> (state, out)``.
* A *sequence layer* has ``sequence(inputs [batch, time, d])`` too, which does all steps at once, and
  ``step(state, x) -> (state, out)`` for one; with ``advance(state, inputs) -> (state, outputs)`` it does many at once
  from any state.
* Anything else is *stateless*: a function of one sample at one time, such as an Equinox layer, mapped over the batch.

What a layer makes of its parameters alone is worked out once, before a scan: by `Cell.constants`, or, for stateless and
sequence layers, by a method ``prepared()`` that returns the layer to use in its stead. None needs to have one.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax

from ...core import UsageError
from .._neurons import Cell


def is_sequence(layer: Any) -> bool:
    """Whether a layer can do all time steps at once, in its own way."""
    return hasattr(layer, "sequence")


def is_cell(layer: Any) -> bool:
    """Whether a layer has a state and goes step by step."""
    return hasattr(layer, "init_state") and not is_sequence(layer)


def is_stateless(layer: Any) -> bool:
    """Whether a layer maps each time step by itself."""
    return not (is_sequence(layer) or is_cell(layer))


def takes_state(layer: Any) -> bool:
    """Whether a sequence layer can go on from a state."""
    return hasattr(layer, "advance")


def check_layer(index: int, layer: Any) -> None:
    """Refuse what is no layer.

    Raises:
        UsageError: naming its place.
    """
    if isinstance(layer, eqx.nn.StatefulLayer) and layer.is_stateful():
        raise UsageError(
            f"layer {index}, {type(layer).__name__}, keeps its state in equinox.nn.State, which a Network cannot carry."
        )
    needed = ["init_state", "step"] if is_sequence(layer) else []
    missing = [name for name in needed if not hasattr(layer, name)]
    if missing:
        raise UsageError(f"layer {index}, {type(layer).__name__}, has a sequence but no {' and no '.join(missing)}.")
    if not (is_sequence(layer) or callable(layer)):
        raise UsageError(f"layer {index} is {layer!r}: a layer is a cell, a sequence layer or a function of a sample.")


def init_state(layer: Any, batch: int, dtype: Any) -> Any:
    """State of one layer; None without."""
    if is_stateless(layer):
        return None
    return layer.init_state(batch, dtype) if isinstance(layer, Cell) else layer.init_state(batch)


def constants(layer: Any) -> Any:
    """What of a layer a time step uses."""
    if isinstance(layer, Cell):
        return layer.constants()
    return layer.prepared() if hasattr(layer, "prepared") else layer


def advance(index: int, layer: Any, made: Any, state: Any, x: Any) -> tuple[Any, Any]:
    """One time step of one layer; `made` are its constants."""
    if isinstance(layer, Cell):
        layer.check(x)
        return layer.advance(made, state, x)
    if is_sequence(layer):
        return tuple(made.step(state, x))
    if is_cell(layer):
        return tuple(made(state, x))
    return None, apply_stateless(index, made, x)


def apply_sequence(layer: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
    """A sequence layer on ``[batch, time, d]``; the state after it, or that before where it cannot be had."""
    return tuple(layer.advance(state, inputs)) if takes_state(layer) else (state, layer.sequence(inputs))


def apply_stateless(index: int, layer: Any, x: Any) -> Any:
    """A stateless layer on ``[many, ...]`` samples.

    Raises:
        UsageError: samples of another size than a linear layer takes.
    """
    if type(layer) is not eqx.nn.Linear or layer.in_features == "scalar" or layer.out_features == "scalar":
        return jax.vmap(layer)(x)
    if x.ndim == 1:
        raise UsageError(
            f"layer {index}, Linear, takes {layer.in_features} features a sample; the inputs have no axis of features "
            "behind batch and time."
        )
    if x.ndim != 2 or x.shape[1] != layer.in_features:
        raise UsageError(
            f"layer {index}, Linear, takes {layer.in_features} features a sample; got samples of shape {x.shape[1:]}."
        )
    out = x @ layer.weight.T
    return out if layer.bias is None else out + layer.bias
