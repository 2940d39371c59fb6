"""A NIR graph as a network.

Every parameter counts. NIR's neuron τ·v' = v_leak - v + r·i, stepped by dt (`simulate_nir`), is a cell of decay
β = 1 - dt/τ whose input is weighted by dt·r/τ and moved by (dt/τ)·v_leak: both go into the weights of the layer before.
Where the reset is to v_reset, the membrane is counted from there: v_reset is taken off threshold and v_leak.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ...core import UsageError, did_you_mean
from .._network import Network
from .._neurons import IF, LIF, CurrentLIF, LeakyIntegrator, RecurrentLIF
from .._stateless import Flatten, Scale, SpikeThreshold, SumPool2d
from .._surrogates import SuperSpike, Surrogate
from ._graph import RESETS, Link, chain, flatten_graph, kind, parameter, reset_of, said, time_step
from ._simulate import pair

_SUPERSPIKE = SuperSpike()


def from_nir(
    graph: Any,
    *,
    dt: float | None = None,
    reset: str = "zero",
    surrogate: Surrogate = _SUPERSPIKE,
) -> Network:
    """A NIR graph as a network that can be run and trained.

    Understood are nodes in a row, whatever they and their ends are called and in whatever order edges are given, and
    neurons connected with themselves, directly or through a dense node, inside a subgraph or not. Thresholds that
    differ from unit to unit become learned ones.

    Args:
        graph: a `nir.NIRGraph`, such as `read_nir` returns.
        dt: time step, in the unit of the graph's time constants; None: what the graph's metadata say.
        reset: ``"zero"`` (to v_reset) or ``"subtract"``, for neurons whose metadata do not say.
        surrogate: of every spiking cell.

    Raises:
        UsageError: a branch, a node that has no counterpart here, or parameters that a cell cannot take; all by name.

    Examples:
        >>> import nir
        >>> ones = np.ones(2)
        >>> lif = nir.LIF(tau=20e-3 * ones, r=ones, v_leak=0 * ones, v_threshold=ones)
        >>> graph = nir.NIRGraph.from_list(nir.Linear(np.eye(2)), lif)
        >>> net = from_nir(graph, dt=1e-3)
        >>> net.layers[0].weight[0, 0], net.layers[1].decay[0]  # r·dt/τ, 1 - dt/τ
        (Array(0.05, dtype=float32), Array(0.95, dtype=float32))
    """
    if reset not in RESETS:
        raise UsageError(f"reset is 'subtract' or 'zero', not {reset!r}. {did_you_mean(str(reset), RESETS)}")
    step, flat = time_step(graph, dt), flatten_graph(graph)
    links = chain(flat)
    shape = tuple(int(n) for n in np.asarray(flat.nodes[flat.start].input_type["input"]))
    layers: list[Any] = []
    for place, link in enumerate(links):
        make = _MAKERS.get(kind(link.node))
        if make is None:
            known = ", ".join(sorted(_MAKERS))
            raise UsageError(f"{said(link.name, link.node)} has no counterpart here. What has: {known}.")
        following = links[place + 1].node if place + 1 < len(links) else flat.nodes[flat.end]
        made = make(_Task(link, shape, step, reset, surrogate, following))
        _add(layers, made, link)
        shape = _shape_after(link, made.layer, shape)
    if not layers:
        raise UsageError("this graph has no nodes between its input and its output.")
    return Network(layers)


class _Task(NamedTuple):
    link: Link
    shape: tuple[int, ...]
    dt: float
    reset: str
    surrogate: Surrogate
    following: Any

    def get(self, which: str, *, units: bool = True) -> Any:
        return parameter(self.link.name, self.link.node, which, self.shape if units else None)

    @property
    def name(self) -> str:
        return said(self.link.name, self.link.node)


class _Made(NamedTuple):
    """A layer, and what its input is multiplied with and moved by before."""

    layer: Any
    gain: Any = None
    offset: Any = None


def _sample(shape: tuple[int, ...]) -> Any:
    make: Any = jax.ShapeDtypeStruct  # untyped
    return make(shape, jnp.result_type(float))


def _shape_after(link: Link, layer: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    if hasattr(layer, "units"):
        return shape
    try:
        return tuple(jax.eval_shape(layer, _sample(shape)).shape)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{said(link.name, link.node)} does not take samples of shape {shape}: {error}") from error


def _add(layers: list[Any], made: _Made, link: Link) -> None:
    """A layer with its gain and offset put into the weights before it, or into a `Scale` where there are none."""
    gain = None if made.gain is None or _is_one(made.gain) else made.gain
    offset = None if made.offset is None or not np.any(made.offset) else made.offset
    if gain is not None or offset is not None:
        before = layers[-1] if layers else None
        if isinstance(before, eqx.nn.Linear):
            layers[-1] = _adjusted_linear(before, gain, offset)
        elif offset is not None:
            raise UsageError(
                f"{said(link.name, link.node)} has a v_leak or a recurrent bias that moves its input, and no dense "
                "node before it to take that as its bias."
            )
        else:
            layers.append(Scale(jnp.asarray(gain, float)))
    layers.append(made.layer)


def _is_one(gain: Any) -> bool:
    # r and τ may have been rounded to float32.
    return bool(np.all(np.abs(gain - 1.0) <= 4 * np.finfo(np.float32).eps))


def _adjusted_linear(layer: eqx.nn.Linear, gain: Any, offset: Any) -> eqx.nn.Linear:
    weight = np.asarray(layer.weight, np.float64)
    bias = np.zeros(weight.shape[0]) if layer.bias is None else np.asarray(layer.bias, np.float64)
    if gain is not None:
        weight, bias = weight * gain[:, None], bias * gain
    if offset is not None:
        bias = bias + offset
    return _dense(weight, bias if np.any(bias) or layer.bias is not None else None)


def _dense(weight: Any, bias: Any) -> eqx.nn.Linear:
    size_out, size_in = weight.shape
    layer: eqx.nn.Linear = eqx.nn.Linear(size_in, size_out, use_bias=bias is not None, key=jax.random.key(0))
    layer = eqx.tree_at(lambda layer: layer.weight, layer, jnp.asarray(weight, float))
    if bias is not None:
        layer = eqx.tree_at(lambda layer: layer.bias, layer, jnp.asarray(bias, float))
    return layer


def _linear(task: _Task) -> _Made:
    weight = task.get("weight", units=False)
    if weight.ndim != 2 or task.shape != weight.shape[1:]:
        raise UsageError(f"{task.name} has weights of shape {weight.shape}, and gets samples of shape {task.shape}.")
    return _Made(_dense(weight, task.get("bias", units=False) if kind(task.link.node) == "Affine" else None))


def _conv(task: _Task) -> _Made:
    node, weight = task.link.node, task.get("weight", units=False)
    rank = weight.ndim - 2
    padding = node.padding.upper() if isinstance(node.padding, str) else pair(node.padding, rank)
    layer = (eqx.nn.Conv1d if rank == 1 else eqx.nn.Conv2d)(
        weight.shape[1] * int(node.groups),
        weight.shape[0],
        weight.shape[2:],
        stride=pair(node.stride, rank),
        padding=padding,
        dilation=pair(node.dilation, rank),
        groups=int(node.groups),
        key=jax.random.key(0),
    )
    bias = task.get("bias", units=False).reshape(-1, *(1,) * rank)
    parts = (jnp.asarray(weight, float), jnp.asarray(bias, float))
    return _Made(eqx.tree_at(lambda layer: (layer.weight, layer.bias), layer, parts))


def _pool(task: _Task) -> _Made:
    node = task.link.node
    kernel, stride, padding = (pair(getattr(node, which)) for which in ("kernel_size", "stride", "padding"))
    make: Callable[..., Any] = SumPool2d if kind(node) == "SumPool2d" else eqx.nn.AvgPool2d
    return _Made(make(kernel, stride, padding))


def _flatten(task: _Task) -> _Made:
    first = int(task.link.node.start_dim) % len(task.shape)
    last = int(task.link.node.end_dim) % len(task.shape)
    whole = math.prod(task.shape) == math.prod(task.shape[first : last + 1])
    # Some writers count a batch axis that NIR's shapes do not have; what follows then wants all of the sample in a row.
    wanted = task.following.input_type
    row = wanted is not None and np.array_equal(wanted["input"], [math.prod(task.shape)])
    if not (whole or row):
        raise UsageError(
            f"{task.name} flattens axes {first} to {last} of samples of shape {task.shape}; here only all of them."
        )
    return _Made(Flatten())


def _scale(task: _Task) -> _Made:
    return _Made(Scale(jnp.asarray(task.get("scale"), float)))


def _step(task: _Task) -> _Made:
    return _Made(SpikeThreshold(jnp.asarray(task.get("threshold"), float), surrogate=task.surrogate))


def _rate(task: _Task, which: str) -> Any:
    """dt/τ, which has to lie between 0 and 1."""
    tau = task.get(which)
    if not np.all(tau > task.dt):
        raise UsageError(
            f"{which} of {task.name} must be longer than the time step dt={task.dt:g} for a decay between 0 and 1; "
            f"the shortest is {tau.min():g}. Is dt in the graph's unit of time?"
        )
    return task.dt / tau


def _with_decay(cell: Any, which: str, rate: Any) -> Any:
    """A decay of 1 - rate per unit, through its logit."""
    raw = jnp.asarray(np.log1p(-rate) - np.log(rate), float)
    return eqx.tree_at(lambda cell: getattr(cell, which), cell, raw)


def _membrane(task: _Task) -> tuple[dict[str, Any], Any, Any]:
    """Settings of a spiking cell, its thresholds, and where its membrane is counted from."""
    how = reset_of(task.link.name, task.link.node, task.reset)
    base = task.get("v_reset") if how == "zero" else np.zeros(task.shape)
    height = task.get("v_threshold") - base
    if not np.all(height > 0):
        raise UsageError(f"v_threshold of {task.name} must lie above {'v_reset' if how == 'zero' else '0'}.")
    uniform = bool(np.all(height == height.flat[0]))
    settings = {
        "threshold": float(height.flat[0]),
        "learn_threshold": not uniform,
        "surrogate": task.surrogate,
        "reset": how,
    }
    return settings, height, base


def _with_thresholds(cell: Any, height: Any) -> Any:
    if cell.raw_threshold is None:
        return cell
    raw = jnp.asarray(height + np.log(-np.expm1(-height)), float)
    return eqx.tree_at(lambda cell: cell.raw_threshold, cell, raw)


def _no_recurrence(task: _Task) -> None:
    if task.link.recurrent is not None:
        raise UsageError(f"{task.name} is connected with itself; of recurrent neurons there is LIF only.")


def _if(task: _Task) -> _Made:
    _no_recurrence(task)
    settings, height, _ = _membrane(task)
    return _Made(_with_thresholds(IF(task.shape, **settings), height), task.dt * task.get("r"))


def _lif(task: _Task) -> _Made:
    rate = _rate(task, "tau")
    settings, height, base = _membrane(task)
    gain, offset = rate * task.get("r"), rate * (task.get("v_leak") - base)
    recurrent = task.link.recurrent
    if recurrent is None:
        cell: Any = LIF(task.shape, decay=0.5, **settings)
    else:
        if recurrent.shape != task.shape * 2:
            raise UsageError(
                f"the recurrent weights of {task.name} have shape {recurrent.shape}, its units {task.shape}."
            )
        cell = RecurrentLIF(task.shape, decay=0.5, key=jax.random.key(0), **settings)
        cell = eqx.tree_at(lambda cell: cell.weight, cell, jnp.asarray(recurrent * gain[:, None], float))
        if task.link.bias is not None:
            offset = offset + gain * task.link.bias
    return _Made(_with_decay(_with_thresholds(cell, height), "raw_decay", rate), gain, offset)


def _cuba(task: _Task) -> _Made:
    _no_recurrence(task)
    rate, synapse = _rate(task, "tau_mem"), _rate(task, "tau_syn")
    settings, height, base = _membrane(task)
    if np.any(task.get("v_leak") != base):
        raise UsageError(
            f"v_leak of {task.name} must be where its membrane is reset to: behind a synapse it is no input."
        )
    cell = CurrentLIF(task.shape, decay=0.5, current_decay=0.5, **settings)
    cell = _with_decay(_with_decay(cell, "raw_decay", rate), "raw_current_decay", synapse)
    return _Made(_with_thresholds(cell, height), rate * task.get("r") * synapse * task.get("w_in"))


def _li(task: _Task) -> _Made:
    rate = _rate(task, "tau")
    cell = _with_decay(LeakyIntegrator(task.shape, decay=0.5), "raw_decay", rate)
    return _Made(cell, rate * task.get("r"), rate * task.get("v_leak"))


_MAKERS: dict[str, Callable[[_Task], _Made]] = {
    "Linear": _linear,
    "Affine": _linear,
    "Conv1d": _conv,
    "Conv2d": _conv,
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    "Flatten": _flatten,
    "Scale": _scale,
    "Threshold": _step,
    "IF": _if,
    "LIF": _lif,
    "CubaLIF": _cuba,
    "LI": _li,
}
