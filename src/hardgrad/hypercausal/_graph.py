"""An acyclic graph of nodes: a node is fed the mean of its parents' states, or an input of its own.

Order of evaluation: Kahn's algorithm (Kahn 1962, "Topological sorting of large networks", CACM 5(11)),
the nodes that are ready taken in the order in which they were given. Source: the published hypercausal
system; an edge or a name given twice, which it takes silently, is refused.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import equinox as eqx
from jaxtyping import PyTree

from ..core import UsageError, did_you_mean
from ._nodes import Node, Prediction, gather
from ._numbers import as_depth, check_branches

Edge = tuple[str, str]
"""``(source, target)``."""


class Graph(eqx.Module):
    """Nodes by name, joined by edges without a cycle.

    Attributes:
        names: the nodes' names as given.
        members: the nodes, in the order of `names`.
        edges: pairs ``(source, target)``.
        branches: K, how many futures each node projects; at least 2.
        order: the names in order of evaluation.

    Raises:
        UsageError: no nodes, an edge to an unknown node, an edge given twice, a cycle, or branches below 2.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.hypercausal import Graph, Node, TanhCell
        >>> nodes = {name: Node(TanhCell(0.9, 0.03)) for name in "ABC"}
        >>> graph = Graph(nodes, [("A", "B"), ("A", "C"), ("B", "C")], branches=5)
        >>> graph({"A": jnp.zeros((48, 3))}).futures["C"].shape
        (48, 3)
    """

    # JAX sorts the keys of a dict, so names are kept apart from the nodes.
    names: tuple[str, ...] = eqx.field(static=True)
    members: tuple[Node, ...]
    edges: tuple[Edge, ...] = eqx.field(static=True)
    branches: int = eqx.field(static=True)
    order: tuple[str, ...] = eqx.field(static=True)

    def __init__(self, nodes: Mapping[str, Node], edges: Iterable[Edge] = (), *, branches: int = 2):
        if not nodes:
            raise UsageError("a graph needs at least one node: Graph({'A': Node(TanhCell(0.9, 0.0))}).")
        self.names = tuple(nodes)
        self.members = tuple(nodes.values())
        self.edges = _checked_edges(self.names, edges)
        self.branches = check_branches(branches)
        self.order = _kahn(self.names, self.edges)

    @classmethod
    def chain(cls, names: Sequence[str], nodes: Sequence[Node], *, branches: int = 2) -> Graph:
        """The graph in which each node feeds the next.

        Raises:
            UsageError: as many names as nodes are needed, and no name twice.
        """
        if len(names) != len(nodes):
            raise UsageError(f"as many names as nodes are needed, got {len(names)} names and {len(nodes)} nodes.")
        repeated = sorted({name for name in names if list(names).count(name) > 1})
        if repeated:
            raise UsageError(f"every node needs a name of its own, but {', '.join(map(repr, repeated))} comes twice.")
        return cls(dict(zip(names, nodes, strict=True)), itertools.pairwise(names), branches=branches)

    @property
    def nodes(self) -> dict[str, Node]:
        """The nodes by name, in the order given."""
        return dict(zip(self.names, self.members, strict=True))

    def parents(self, name: str) -> tuple[str, ...]:
        """The names of the nodes that feed `name`, in the order of the edges."""
        return tuple(source for source, target in self.edges if target == name)

    def __call__(self, inputs: PyTree, *, depth: Any = 1, branches: int | None = None) -> Prediction:
        """All nodes over all steps: each field of the `Prediction` is a dict by node name.

        Args:
            inputs: sequences ``[..., time, channel]`` by node name; or one array, for every node without
                parents. A node with an input uses that alone.
            depth: recursion depth of every node: an int, or an integer scalar array that may change at
                run time.
            branches: another K for this call; None takes the graph's.

        Raises:
            UsageError: an input for no node, a node with neither input nor parents, inputs that don't fit
                the parameters or each other, or branches or depth out of range.
        """
        depth = as_depth(depth)
        branches = self.branches if branches is None else check_branches(branches)
        given = self._by_name(inputs)
        nodes = self.nodes
        found: dict[str, Prediction] = {}
        for name in self.order:
            if name in given:
                fed = given[name]
            else:
                fed = _mean_of_parents(name, {parent: found[parent].states for parent in self.parents(name)})
            found[name] = nodes[name](fed, depth=depth, branches=branches)
        return gather(self.order, [found[name] for name in self.order])

    def _by_name(self, inputs: Any) -> dict[str, Any]:
        roots = [name for name in self.names if not self.parents(name)]
        if not isinstance(inputs, Mapping):
            return dict.fromkeys(roots, inputs)
        for name in inputs:
            if name not in self.names:
                raise UsageError(f"an input was given for '{name}', which is no node. {did_you_mean(name, self.names)}")
        for name in roots:
            if name not in inputs:
                raise UsageError(f"node '{name}' has no parents, so it needs an input: {{'{name}': ...}}.")
        return dict(inputs)


def _mean_of_parents(name: str, states: Mapping[str, Any]) -> Any:
    shapes = {parent: state.shape for parent, state in states.items()}
    if len(set(shapes.values())) > 1:
        raise UsageError(f"the parents of node '{name}' must have states of one shape, got {shapes}.")
    first, *others = states.values()
    total = first
    for state in others:
        total = total + state.astype(first.dtype)
    return total / len(states) if others else total


def _checked_edges(names: Sequence[str], edges: Iterable[Edge]) -> tuple[Edge, ...]:
    checked: list[Edge] = []
    for edge in edges:
        source, target = edge
        for name in (source, target):
            if name not in names:
                raise UsageError(
                    f"the edge {source!r} -> {target!r}: no node is called {name!r}. {did_you_mean(str(name), names)}"
                )
        if (source, target) in checked:
            raise UsageError(
                f"the edge {source!r} -> {target!r} comes twice: the parent would count twice in the mean."
            )
        checked.append((source, target))
    return tuple(checked)


def _kahn(names: Sequence[str], edges: Sequence[Edge]) -> tuple[str, ...]:
    waiting = {name: sum(target == name for _, target in edges) for name in names}
    ready = deque(name for name in names if waiting[name] == 0)
    order: list[str] = []
    while ready:
        done = ready.popleft()
        order.append(done)
        for source, target in edges:
            if source == done:
                waiting[target] -= 1
                if waiting[target] == 0:
                    ready.append(target)
    if len(order) < len(names):
        stuck = [name for name in names if name not in order]
        raise UsageError(f"a graph must not have a cycle, but one runs through {', '.join(map(repr, stuck))}.")
    return tuple(order)
