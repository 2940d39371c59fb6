"""A NIR graph read: subgraphs opened, ends found, time step and resets known.

NIR (Pedersen et al. 2024, "Neuromorphic intermediate representation: a unified instruction set for interoperable
brain-inspired computing", Nature Communications 15) gives neurons as equations in continuous time. Two things that a
simulation needs are not in them:

* the time step. This library writes it as ``dt`` into the graph's metadata; for other graphs it has to be said.
* what a reset does. Up to nir 1.0.5 a neuron that spikes loses its threshold, v ← v - v_threshold; since 1.0.6 it is
  set to v ← v_reset, and old files are read as v_reset = 0. This library writes ``reset``, "subtract" or "zero", into a
  node's metadata; nodes that say nothing are reset as the caller says, else to v_reset.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ...core import UsageError, did_you_mean

RESETS = ("subtract", "zero")


class Flat(NamedTuple):
    """A graph without subgraphs.

    Attributes:
        nodes: by name, that of a subgraph's node after the subgraph's: ``memory.lif``.
        before: for each node, those whose outputs it adds up.
        after: for each node, those that read it.
        start: name of the input node.
        end: name of the output node.
    """

    nodes: dict[str, Any]
    before: dict[str, list[str]]
    after: dict[str, list[str]]
    start: str
    end: str


def kind(node: Any) -> str:
    """A node's type, by name."""
    return type(node).__name__


def said(name: str, node: Any) -> str:
    """How messages call a node."""
    return f"node '{name}' ({kind(node)})"


def flatten_graph(graph: Any) -> Flat:
    """Open the subgraphs, and find where the graph starts and ends, whatever its ends are called.

    Raises:
        UsageError: an edge to nowhere or given twice, several inputs or outputs, or none.
    """
    nodes: dict[str, Any] = {}
    edges: list[tuple[str, str]] = []
    passages = list(_collect(graph, "", nodes, edges))
    start, end = (_only(graph, which, "") for which in ("Input", "Output"))
    for name in passages:
        into, out = [a for a, b in edges if b == name], [b for a, b in edges if a == name]
        edges = [edge for edge in edges if name not in edge] + [(a, b) for a in into for b in out]
        del nodes[name]
    twice = [edge for edge, count in Counter(edges).items() if count > 1]
    if twice:
        raise UsageError(f"the edge '{twice[0][0]}' → '{twice[0][1]}' is given twice.")
    before = {name: [a for a, b in edges if b == name] for name in nodes}
    after = {name: [b for a, b in edges if a == name] for name in nodes}
    return Flat(nodes, before, after, start, end)


def _collect(graph: Any, prefix: str, nodes: dict[str, Any], edges: list[tuple[str, str]]) -> Iterator[str]:
    """Add a graph's nodes and edges under a prefix; yields the ends of subgraphs, which only hand on."""
    ends = {}
    for name, node in graph.nodes.items():
        if kind(node) == "NIRGraph":
            inner = f"{prefix}{name}."
            yield from _collect(node, inner, nodes, edges)
            ends[name] = tuple(inner + _only(node, which, f"the subgraph '{prefix}{name}'") for which in _ENDS)
        else:
            nodes[prefix + name] = node
            if prefix and kind(node) in _ENDS:
                yield prefix + name
    for source, target in graph.edges:
        for name in (source, target):
            if name not in graph.nodes:
                raise UsageError(f"an edge names a node '{name}' that is not there. {did_you_mean(name, graph.nodes)}")
        out = ends[source][1] if source in ends else prefix + source
        into = ends[target][0] if target in ends else prefix + target
        edges.append((out, into))


_ENDS = ("Input", "Output")


def _only(graph: Any, which: str, where: str) -> str:
    found = [name for name, node in graph.nodes.items() if kind(node) == which]
    if len(found) != 1:
        raise UsageError(
            f"{where or 'the graph'} has {len(found)} nodes of type {which}{f': {found}' if found else ''}; "
            "networks here have one input and one output."
        )
    return str(found[0])


class Link(NamedTuple):
    """One node of a chain.

    Attributes:
        name: the node's.
        node: itself.
        recurrent: weights ``[units, units]`` from the node to itself, or None.
        bias: of the recurrent weights ``[units]``, or None.
    """

    name: str
    node: Any
    recurrent: Any
    bias: Any


def chain(flat: Flat) -> list[Link]:
    """The nodes from input to output, without these; a loop through one dense node becomes recurrent weights.

    Raises:
        UsageError: a branch, a longer loop, or nodes on no way from input to output, by name.
    """
    loops = {name: loop for name in flat.nodes if (loop := _loop(flat, name))}
    taken = {other for loop in loops.values() for other in loop}
    on = {name: [b for b in flat.after[name] if b != name and b not in taken] for name in flat.nodes}
    into = {name: [a for a in flat.before[name] if a != name and a not in taken] for name in flat.nodes}
    links, seen, name = [], {flat.start}, flat.start
    while name != flat.end:
        if len(on[name]) != 1:
            raise UsageError(_branch(flat, name, on[name], "is read by"))
        name = on[name][0]
        if len(into[name]) != 1:
            raise UsageError(_branch(flat, name, into[name], "adds up"))
        if name in seen:
            raise UsageError(f"{said(name, flat.nodes[name])} is part of a loop that is more than a recurrent layer.")
        seen.add(name)
        links.append(Link(name, flat.nodes[name], *_recurrence(flat, name, loops.get(name))))
    left = [name for name in flat.nodes if name not in seen and name not in taken]
    if left:
        raise UsageError(f"{said(left[0], flat.nodes[left[0]])} is on no way from the input to the output.")
    return links[:-1]


def _loop(flat: Flat, name: str) -> list[str]:
    """The dense nodes between a neuron and itself."""
    if kind(flat.nodes[name]) not in ("IF", "LIF", "CubaLIF"):
        return []
    return [
        other
        for other in flat.after[name]
        if kind(flat.nodes[other]) in ("Linear", "Affine") and flat.before[other] == flat.after[other] == [name]
    ]


def _recurrence(flat: Flat, name: str, loop: list[str] | None) -> tuple[Any, Any]:
    weights = [np.asarray(flat.nodes[other].weight, float) for other in loop or ()]
    biases = [np.asarray(flat.nodes[other].bias, float) for other in loop or () if kind(flat.nodes[other]) == "Affine"]
    if name in flat.after[name]:
        weights.append(np.eye(math.prod(np.shape(flat.nodes[name].v_threshold))))
    return sum(weights) if weights else None, sum(biases) if biases else None


def _branch(flat: Flat, name: str, others: list[str], what: str) -> str:
    known = ", ".join(f"'{other}'" for other in others) or "nothing"
    return (
        f"{said(name, flat.nodes[name])} {what} {known}: networks here are layers in a row, without branches or ends "
        "in between."
    )


def time_step(graph: Any, dt: float | None) -> float:
    """The time step asked for, or that of the graph's metadata.

    Raises:
        UsageError: neither, or one that is not positive and finite.
    """
    found = graph.metadata.get("dt") if dt is None else dt
    if found is None:
        raise UsageError("this graph does not say its time step: give dt, in the unit of its time constants: dt=1e-4.")
    number = np.asarray(found)
    if number.shape or number.dtype.kind not in "fiu" or not 0 < float(number) < math.inf:
        raise UsageError(f"dt must be a positive number, got {found!r}.")
    return float(number)


def reset_of(name: str, node: Any, reset: str) -> str:
    """What a node's reset does: as its metadata say, else as the caller says.

    Raises:
        UsageError: another kind of reset.
    """
    found = str(node.metadata.get("reset", reset))
    if found not in RESETS:
        raise UsageError(f"the reset of {said(name, node)} is 'subtract' or 'zero', not {found!r}.")
    return found


def parameter(name: str, node: Any, which: str, shape: tuple[int, ...] | None = None) -> npt.NDArray[np.float64]:
    """An array of a node, as float64; one number stands for all units.

    Raises:
        UsageError: not finite numbers, or of another shape than the units'.
    """
    value = np.asarray(getattr(node, which))
    if value.dtype.kind not in "fiub" or not np.all(np.isfinite(value)):
        raise UsageError(f"{which} of {said(name, node)} must be finite numbers, got {value!r}.")
    if shape is not None and value.size == 1:
        return np.full(shape, value.item(), np.float64)
    if shape is not None and value.shape != shape:
        raise UsageError(f"{which} of {said(name, node)} has shape {value.shape}, its input {shape}.")
    return value.astype(np.float64)
