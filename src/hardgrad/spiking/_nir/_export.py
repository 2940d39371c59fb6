"""A network as a NIR graph, one node a layer, or an error that names the layer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...core import UsageError, require
from .._conversion import ConvertedIF
from .._network import Network
from .._neurons import IF, LIF, CurrentLIF, LeakyIntegrator, RecurrentLIF
from .._quantisation import IntegerLayer, IntegerRecurrentLIF, QuantisedLayer, QuantisedRecurrentLIF
from .._stateless import Flatten, Scale, SpikeThreshold, SumPool2d
from ._graph import time_step
from ._parity import nir_parity

_CAN = (
    "IF, LIF, RecurrentLIF, CurrentLIF, LeakyIntegrator, Linear, Conv1d, Conv2d, AvgPool2d, SumPool2d, Flatten, Scale "
    "and SpikeThreshold, quantised or not"
)


def to_nir(network: Network, input_shape: Sequence[int], *, dt: float = 1.0, check: bool = True) -> Any:
    """A network as a NIR graph, tried before you get it.

    A decay β becomes τ = dt / (1 - β) with r = τ/dt, under which NIR's own equation τ·v' = v_leak - v + r·i, stepped by
    dt, is V ← β·V + x. Nodes stand in a row from ``input`` to ``output`` and are called by place and type, ``1_lif``;
    a `RecurrentLIF` is a subgraph of a neuron and its weights. Metadata hold what NIR has no field for: ``dt`` of the
    graph, ``reset`` of a neuron, ``bits`` and ``scale`` of quantised weights, which are exported frozen.

    What NIR does not hold is lost: surrogates, which thresholds are learned, that weights were being quantised.

    Args:
        network: of the layers that NIR has.
        input_shape: of one sample at one time step, such as (64,) or (channels, height, width).
        dt: of one step, in the unit that time constants shall have: 1e-3 for a millisecond a step, in seconds.
        check: whether to run the graph on random input and compare (`nir_parity`).

    Returns:
        A `nir.NIRGraph`; `write_nir` makes a file of it.

    Raises:
        UsageError: a layer that NIR cannot express, named; a graph that does not do what the network does.
        MissingExtraError: the package nir is missing.

    Examples:
        >>> net = Network([eqx.nn.Linear(3, 8, key=jax.random.key(0)), LIF(8, decay=0.75), LeakyIntegrator(8)])
        >>> graph = to_nir(net, (3,), dt=1e-3)
        >>> list(graph.nodes), float(graph.nodes["1_lif"].tau[0])
        (['input', '0_affine', '1_lif', '2_li', 'output'], 0.004)
    """
    nir = require("nir", extra="nir")
    shape = tuple(int(n) for n in input_shape)
    step = time_step(None, dt)
    nodes: dict[str, Any] = {"input": nir.Input(np.array(shape))}
    for index, layer in enumerate(network.layers):
        if isinstance(layer, eqx.nn.Identity) or (isinstance(layer, eqx.nn.Dropout) and layer.inference):
            continue
        name = f"layer {index}, {type(layer).__name__},"
        after = _shape_after(name, network, index, layer, shape)
        node = _node(nir, name, layer, shape, after, step)
        nodes[f"{index}_{_word(node, layer)}"] = node
        shape = after
    nodes["output"] = nir.Output(np.array(shape))
    names = list(nodes)
    graph = nir.NIRGraph(nodes, list(itertools.pairwise(names)), metadata={"dt": step})
    if check:
        parity = nir_parity(network, graph)
        if not parity.agrees:
            raise UsageError(
                f"the exported graph does not do what the network does: they differ by {parity.max_error:.2g} of the "
                f"largest value, in {parity.worst}. Please report this; to_nir(..., check=False) exports all the same."
            )
    return graph


def _word(node: Any, layer: Any) -> str:
    recurrent = isinstance(layer, LIF) and hasattr(layer, "weight")
    return "recurrent" if recurrent else type(node).__name__.lower()


def _shape_after(name: str, network: Network, index: int, layer: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of one sample behind a layer."""
    if hasattr(layer, "units"):
        if layer.units != shape:
            raise UsageError(f"{name} has units {layer.units}, and gets samples of shape {shape}.")
        return shape
    if hasattr(layer, "sequence") or hasattr(layer, "init_state"):
        raise UsageError(_refusal(name))
    make: Any = jax.ShapeDtypeStruct  # untyped
    leaves = [x for x in jax.tree.leaves(layer) if eqx.is_inexact_array(x)]
    try:
        out = jax.eval_shape(layer, make(shape, leaves[0].dtype if leaves else jnp.result_type(float)))
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} does not take samples of shape {shape}: {error}") from error
    return tuple(out.shape)


def _refusal(name: str) -> str:
    return f"{name} has no counterpart in NIR, and nothing is exported. What has: {_CAN}."


def _node(nir: Any, name: str, layer: Any, shape: Any, after: Any, dt: float) -> Any:
    make = _MAKERS.get(type(layer))
    if make is None and getattr(layer, "fn", layer) is jnp.ravel:
        make = _flatten
    if make is None:
        raise UsageError(_refusal(name))
    node = make(nir, name, layer, shape, dt)
    if not hasattr(node, "nodes"):
        # nir works a convolution's shape out for square kernels only, and a pool's not at all.
        node.input_type, node.output_type = {"input": np.array(shape)}, {"output": np.array(after)}
    return node


def _time_constant(name: str, which: str, decay: Any, dt: float) -> tuple[Any, Any]:
    """τ and τ/dt of a decay per step."""
    left = 1.0 - np.asarray(decay, np.float64)
    if not np.all(left > 0):
        raise UsageError(f"{name} has a {which} of 1 to rounding, a time constant without end: use IF in its place.")
    dtype = np.asarray(decay).dtype
    return (dt / left).astype(dtype), (1.0 / left).astype(dtype)


def _threshold(cell: Any, like: Any) -> dict[str, Any]:
    height = np.broadcast_to(np.asarray(cell.threshold, like.dtype), cell.units)
    return {"v_threshold": height.copy(), "v_reset": np.zeros_like(like), "metadata": {"reset": cell.reset}}


def _if(nir: Any, name: str, cell: IF, shape: Any, dt: float) -> Any:
    if isinstance(cell, ConvertedIF) and (cell.start or cell.delay):
        raise UsageError(
            f"{name} starts at {cell.start:g} times its threshold and waits {cell.delay} steps for its input; neurons "
            "of NIR start at rest and at once. Convert for it: convert(..., start=0.0, wait=False)."
        )
    r = np.full(cell.units, 1.0 / dt, jnp.result_type(float))
    return nir.IF(r=r, **_threshold(cell, r))


def _lif(nir: Any, name: str, cell: LIF, shape: Any, dt: float) -> Any:
    tau, r = _time_constant(name, "decay", cell.decay, dt)
    return nir.LIF(tau=tau, r=r, v_leak=np.zeros_like(r), **_threshold(cell, r))


def _recurrent(nir: Any, name: str, cell: Any, shape: Any, dt: float) -> Any:
    weight, metadata = _weight(cell)
    nodes = {
        "input": nir.Input(np.array(shape)),
        "lif": _lif(nir, name, cell, shape, dt),
        "weights": nir.Linear(weight, metadata=metadata),
        "output": nir.Output(np.array(shape)),
    }
    return nir.NIRGraph(nodes, [("input", "lif"), ("lif", "weights"), ("weights", "lif"), ("lif", "output")])


def _cuba(nir: Any, name: str, cell: CurrentLIF, shape: Any, dt: float) -> Any:
    tau, r = _time_constant(name, "decay", cell.decay, dt)
    tau_syn, weight = _time_constant(name, "current_decay", cell.current_decay, dt)
    return nir.CubaLIF(tau_mem=tau, tau_syn=tau_syn, r=r, w_in=weight, v_leak=np.zeros_like(r), **_threshold(cell, r))


def _li(nir: Any, name: str, cell: LeakyIntegrator, shape: Any, dt: float) -> Any:
    tau, r = _time_constant(name, "decay", cell.decay, dt)
    return nir.LI(tau=tau, r=r, v_leak=np.zeros_like(r))


def _weight(layer: Any) -> tuple[Any, dict[str, Any]]:
    """Weights as used, and metadata of quantised ones."""
    if not hasattr(layer, "integers"):
        return np.asarray(layer.weight), {}
    integers, scale = (np.asarray(part) for part in layer.integers())
    return integers * scale, {"bits": str(layer.grid.bits), "scale": scale}


def _linear(nir: Any, name: str, layer: Any, shape: Any, dt: float) -> Any:
    weight, metadata = _weight(layer)
    plain = getattr(layer, "layer", layer)
    if "scalar" in (plain.in_features, plain.out_features):
        raise UsageError(f"{name} has a scalar input or output; NIR's samples have axes: use one feature instead.")
    if plain.bias is None:
        return nir.Linear(weight, metadata=metadata)
    return nir.Affine(weight, np.asarray(plain.bias), metadata=metadata)


def _conv(nir: Any, name: str, layer: Any, shape: Any, dt: float) -> Any:
    weight, metadata = _weight(layer)
    plain = getattr(layer, "layer", layer)
    rank = weight.ndim - 2
    if rank > 2:
        raise UsageError(_refusal(name))
    if plain.padding_mode != "ZEROS":
        raise UsageError(f"{name} pads by '{plain.padding_mode}'; NIR pads with zeros.")
    bias = np.zeros(weight.shape[0], weight.dtype) if plain.bias is None else np.asarray(plain.bias).reshape(-1)
    one: Callable[[Any], Any] = (lambda value: value[0]) if rank == 1 else (lambda value: value)
    return (nir.Conv1d if rank == 1 else nir.Conv2d)(
        input_shape=one(shape[1:]),
        weight=weight,
        stride=one(plain.stride),
        padding=_conv_padding(name, plain, one),
        dilation=one(plain.dilation),
        groups=plain.groups,
        bias=bias,
        metadata=metadata,
    )


def _conv_padding(name: str, layer: Any, one: Callable[[Any], Any]) -> Any:
    if isinstance(layer.padding, str):
        if layer.padding == "SAME" and any(s != 1 for s in layer.stride):
            raise UsageError(
                f"{name} pads to 'SAME' with strides {layer.stride}; NIR knows that for strides of 1 only."
            )
        return layer.padding.lower()
    return one(_same_sides(name, layer.padding))


def _same_sides(name: str, padding: Any) -> tuple[int, ...]:
    if any(low != high for low, high in padding):
        raise UsageError(f"{name} pads one side more than the other, {padding}; NIR pads both the same.")
    return tuple(low for low, _ in padding)


def _pool(nir: Any, name: str, layer: Any, shape: Any, dt: float) -> Any:
    if layer.use_ceil:
        raise UsageError(f"{name} rounds sizes up (use_ceil); NIR rounds them down.")
    make = nir.SumPool2d if isinstance(layer, SumPool2d) else nir.AvgPool2d
    padding = _same_sides(name, layer.padding)
    return make(kernel_size=np.array(layer.kernel_size), stride=np.array(layer.stride), padding=np.array(padding))


def _flatten(nir: Any, name: str, layer: Any, shape: Any, dt: float) -> Any:
    return nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)


def _scale(nir: Any, name: str, layer: Scale, shape: Any, dt: float) -> Any:
    return nir.Scale(np.broadcast_to(np.asarray(layer.scale), shape).copy())


def _step(nir: Any, name: str, layer: SpikeThreshold, shape: Any, dt: float) -> Any:
    return nir.Threshold(np.broadcast_to(np.asarray(layer.threshold), shape).copy())


def _quantised(nir: Any, name: str, layer: Any, shape: Any, dt: float) -> Any:
    return (_linear if isinstance(layer.layer, eqx.nn.Linear) else _conv)(nir, name, layer, shape, dt)


# By exact type: a subclass may do something else.
_MAKERS: dict[type, Callable[..., Any]] = {
    IF: _if,
    ConvertedIF: _if,
    LIF: _lif,
    RecurrentLIF: _recurrent,
    QuantisedRecurrentLIF: _recurrent,
    IntegerRecurrentLIF: _recurrent,
    CurrentLIF: _cuba,
    LeakyIntegrator: _li,
    eqx.nn.Linear: _linear,
    eqx.nn.Conv1d: _conv,
    eqx.nn.Conv2d: _conv,
    eqx.nn.Conv: _conv,
    eqx.nn.AvgPool2d: _pool,
    SumPool2d: _pool,
    Flatten: _flatten,
    Scale: _scale,
    SpikeThreshold: _step,
    QuantisedLayer: _quantised,
    IntegerLayer: _quantised,
}
