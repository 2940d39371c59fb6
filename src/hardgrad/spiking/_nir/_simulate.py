"""A NIR graph run by its own equations in NumPy, knowing nothing of this library's layers.

NIR's equations are in continuous time. Here they are stepped by the explicit Euler scheme, in the order in which this
library's cells go. With z_n the spikes of step n:

    z = 1 where v > v_threshold, else 0                     from the membrane of the step before
    IF        v ← v + dt·r·i                  - v_threshold·z
    LIF       v ← v + dt/τ·(v_leak - v + r·i) - v_threshold·z
    CubaLIF   I ← I + dt/τ_syn·(w_in·i - I)
              v ← v - v_threshold·z,  then  v ← v + dt/τ_mem·(v_leak - v + r·I)
    LI        v ← v + dt/τ·(v_leak - v + r·i),  sends v

That is the reset by subtraction, an impulse that in LIF is not leaked. Where the reset is to v_reset, v ← v_reset where
z = 1 comes before the Euler step in all three. A neuron's spikes do not depend on its input of the same step, so
recurrent connections take effect at once. Every neuron starts at v_reset, LI at 0, currents at 0. Simulators that
integrate first see the same spikes one step earlier in each layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...core import UsageError
from ._graph import Flat, flatten_graph, kind, parameter, reset_of, said, time_step

Floats = npt.NDArray[np.float64]

SPIKING = ("IF", "LIF", "CubaLIF")


class NIRSimulation(NamedTuple):
    """What `simulate_nir` returns, all float64.

    Attributes:
        outputs: ``[batch, time, ...]``.
        spikes: of each spiking neuron node, by name, ``[batch, time, *units]``.
        voltages: of each neuron node, by name, ``[batch, time, *units]``: the membrane that the step's spikes were read
            from, of LI the membrane after the step.
    """

    outputs: Floats
    spikes: dict[str, Floats]
    voltages: dict[str, Floats]


def simulate_nir(graph: Any, inputs: Any, *, dt: float | None = None, reset: str = "zero") -> NIRSimulation:
    """Run a NIR graph on a batch of inputs, in float64. A reference, not made for speed.

    Branches and loops are run too, with inputs of a node added up, which `from_nir` refuses.

    Args:
        graph: a `nir.NIRGraph`.
        inputs: ``[batch, time, *features]``.
        dt: time step, in the unit of the graph's time constants; None: what the graph's metadata say.
        reset: ``"zero"`` (to v_reset) or ``"subtract"``, for neurons whose metadata do not say.

    Raises:
        UsageError: a node that has no rule above, a loop without a spiking neuron in it, parameters or shapes that do
            not fit.
    """
    step, flat = time_step(graph, dt), flatten_graph(graph)
    x = np.asarray(inputs, np.float64)
    neurons = {name: _Neuron(name, node, step, reset, x.shape[0]) for name, node in flat.nodes.items() if _has_v(node)}
    order = _order(flat)
    outputs: list[Floats] = []
    for now in np.moveaxis(x, 1, 0):
        values = {name: neuron.spikes() for name, neuron in neurons.items() if neuron.spiking}
        for name in order:
            node = flat.nodes[name]
            given = now if name == flat.start else _sum(flat, name, values)
            values[name] = neurons[name].integrate(given) if name in neurons else _apply(name, node, given)
        for name, neuron in neurons.items():
            if neuron.spiking:
                neuron.integrate(_sum(flat, name, values))
        outputs.append(values[flat.end])
    stack: Callable[[list[Floats]], Floats] = lambda rows: np.stack(rows, axis=1)
    return NIRSimulation(
        stack(outputs),
        {name: stack(neuron.seen_spikes) for name, neuron in neurons.items() if neuron.spiking},
        {name: stack(neuron.seen_voltages) for name, neuron in neurons.items()},
    )


def _has_v(node: Any) -> bool:
    return kind(node) in (*SPIKING, "LI")


def _sum(flat: Flat, name: str, values: dict[str, Floats]) -> Floats:
    parts = [values[other] for other in flat.before[name]]
    shapes = {part.shape for part in parts}
    if len(shapes) != 1:
        raise UsageError(
            f"inputs of {said(name, flat.nodes[name])} cannot be added: their shapes are {shapes or '{}'}."
        )
    total: Floats = np.sum(parts, axis=0)
    return total


def _order(flat: Flat) -> list[str]:
    """All nodes whose output needs their input of the same step, each after what it reads."""
    left = {name for name, node in flat.nodes.items() if kind(node) not in SPIKING}
    order: list[str] = []
    while left:
        ready = sorted(name for name in left if not left.intersection(flat.before[name]))
        if not ready:
            raise UsageError(f"nodes {sorted(left)} form a loop without a spiking neuron in it.")
        order += ready
        left.difference_update(ready)
    return order


class _Neuron:
    """The state of one node, and its rule."""

    def __init__(self, name: str, node: Any, dt: float, reset: str, batch: int) -> None:
        units = np.shape(node.v_leak if kind(node) == "LI" else node.v_threshold)
        get: Callable[[str], Floats] = lambda which: parameter(name, node, which, units)
        self.name, self.node, self.spiking = name, node, kind(node) in SPIKING
        self.seen_spikes: list[Floats] = []
        self.seen_voltages: list[Floats] = []
        self.current = np.zeros((batch, *units))
        self.rate: Any = 1.0
        self.leak: Any = None
        self.synapse: Any = None
        if kind(node) == "IF":
            self.gain = dt * get("r")
        else:
            tau = "tau_mem" if kind(node) == "CubaLIF" else "tau"
            self.rate, self.leak, self.gain = dt / get(tau), get("v_leak"), get("r")
        if kind(node) == "CubaLIF":
            self.synapse = (dt / get("tau_syn"), get("w_in"))
        self.voltage = np.zeros((batch, *units))
        if self.spiking:
            self.height, self.floor = get("v_threshold"), get("v_reset")
            self.reset = reset_of(name, node, reset)
            self.voltage = self.voltage + self.floor

    def spikes(self) -> Floats:
        self.seen_voltages.append(self.voltage)
        self.seen_spikes.append((self.voltage > self.height).astype(np.float64))
        return self.seen_spikes[-1]

    def integrate(self, given: Floats) -> Floats:
        if given.shape != self.voltage.shape:
            shape = self.voltage.shape[1:]
            raise UsageError(f"{said(self.name, self.node)} has units {shape}, its input {given.shape[1:]}.")
        v, drop = self.voltage, np.zeros(())
        if self.spiking and self.reset == "zero":
            v = np.where(self.seen_spikes[-1] > 0, self.floor, v)
        elif self.spiking:
            drop = self.height * self.seen_spikes[-1]
        if self.synapse is not None:
            rate, weight = self.synapse
            self.current = self.current + rate * (weight * given - self.current)
            v, drop, given = v - drop, np.zeros(()), self.current
        pull = 0.0 if self.leak is None else self.leak - v
        self.voltage = v + self.rate * (pull + self.gain * given) - drop
        if not self.spiking:
            self.seen_voltages.append(self.voltage)
        return self.voltage


def _apply(name: str, node: Any, x: Floats) -> Floats:
    """A node without a state, on ``[batch, ...]``."""
    rule = _RULES.get(kind(node))
    if rule is None:
        raise UsageError(
            f"{said(name, node)} has no rule here; known are {', '.join(sorted({*_RULES, *SPIKING, 'LI'}))}."
        )
    return rule(name, node, x)


def _conv(name: str, node: Any, x: Floats) -> Floats:
    weight, bias = parameter(name, node, "weight"), parameter(name, node, "bias")
    rank = weight.ndim - 2
    stride, dilation = pair(node.stride, rank), pair(node.dilation, rank)
    kernel = weight.shape[2:]
    x = np.pad(x, [(0, 0), (0, 0), *_padding(node.padding, kernel, dilation, rank)])
    spans = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    windows = np.lib.stride_tricks.sliding_window_view(x, spans, tuple(range(2, 2 + rank)))
    places, taps = (slice(None),) * 2, (slice(None, None, s) for s in stride)
    windows = windows[(*places, *taps, *(slice(None, None, d) for d in dilation))]
    groups = int(node.groups)
    split = windows.reshape(x.shape[0], groups, -1, *windows.shape[2:])
    by_group = weight.reshape(groups, -1, *weight.shape[1:])
    axes, inner = "yz"[:rank], "uv"[:rank]
    out: Floats = np.einsum(f"bgc{axes}{inner},goc{inner}->bgo{axes}", split, by_group)
    out = out.reshape(x.shape[0], weight.shape[0], *out.shape[3:])
    out += bias.reshape(-1, *(1,) * rank)
    return out


def _padding(padding: Any, kernel: Any, dilation: Any, rank: int) -> list[tuple[int, int]]:
    if isinstance(padding, str):
        whole = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        return [(total // 2, total - total // 2) for total in whole]
    return [(p, p) for p in pair(padding, rank)]


def pair(value: Any, rank: int = 2) -> tuple[int, ...]:
    """A number for each spatial axis, given as one or as several."""
    return tuple(int(v) for v in np.broadcast_to(np.asarray(value), (rank,)))


def _pool(name: str, node: Any, x: Floats) -> Floats:
    kernel, stride, padding = (pair(getattr(node, which)) for which in ("kernel_size", "stride", "padding"))
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel, (2, 3))[:, :, :: stride[0], :: stride[1]]
    total: Floats = windows.sum(axis=(-2, -1))
    return total / math.prod(kernel) if kind(node) == "AvgPool2d" else total


def _flatten(name: str, node: Any, x: Floats) -> Floats:
    shape = x.shape[1:]
    first, last = int(node.start_dim) % len(shape), int(node.end_dim) % len(shape)
    return x.reshape(x.shape[0], *shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])


_RULES: dict[str, Callable[[str, Any, Floats], Floats]] = {
    "Input": lambda name, node, x: x,
    "Output": lambda name, node, x: x,
    "Linear": lambda name, node, x: x @ parameter(name, node, "weight").T,
    "Affine": lambda name, node, x: x @ parameter(name, node, "weight").T + parameter(name, node, "bias"),
    "Scale": lambda name, node, x: x * parameter(name, node, "scale"),
    "Threshold": lambda name, node, x: (x > parameter(name, node, "threshold")).astype(np.float64),
    "Flatten": _flatten,
    "SumPool2d": _pool,
    "AvgPool2d": _pool,
    "Conv1d": _conv,
    "Conv2d": _conv,
}
