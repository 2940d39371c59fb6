"""`Chain` and `Graph`: published states and branches, wiring, order, refusals."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardgrad.core import UsageError, leaf_names, split_parameters
from hardgrad.hypercausal import Chain, Graph, LinearProjector, Node, TanhCell, coherence, mse

INPUTS = jax.random.normal(jax.random.key(0), (5, 3))


def node(weight: float = 0.9) -> Node:
    return Node(TanhCell(weight, 0.03))


@pytest.mark.parametrize("index", [0, 1, 2])
def test_published_trace(golden: dict[str, Any], seed_chain: Chain, index: int, x64: None) -> None:
    trace = golden["trace"][index]
    inputs = jnp.array(golden["inputs"]["x_seq"])
    known = seed_chain(inputs, depth=trace["depth"])
    traced = eqx.filter_jit(seed_chain)(inputs, depth=jnp.int32(trace["depth"]))
    for found in (known, traced):
        for step in trace["steps"]:
            t = step["t"]
            for i, expected in enumerate(step["nodes"]):
                np.testing.assert_allclose(found.states[i][t], expected["state"], rtol=0, atol=1e-15)
                np.testing.assert_allclose(found.branches[i][:, t], expected["branches"], rtol=0, atol=1e-15)
                np.testing.assert_allclose(found.futures[i][t], expected["selected"], rtol=0, atol=1e-15)
                spread = coherence(found.branches[i][:, t])
                np.testing.assert_allclose(spread, expected["coherence"], rtol=1e-13)
            target = jnp.array(golden["inputs"]["target_seq"][t])
            np.testing.assert_allclose(mse(found.states[-1][t], target), step["task"], rtol=1e-13)


def test_published_minimal_example(x64: None) -> None:
    """Printed to eight digits there."""
    found = Node(TanhCell(0.95, 0.05), LinearProjector(span=0.25))(jnp.array([[0.2, -0.1, 0.4]]), branches=3)
    np.testing.assert_allclose(found.states[0], [0.23549575, -0.04496965, 0.40532131], atol=5e-9)
    np.testing.assert_allclose(found.futures[0], [0.22245591, -0.04314564, 0.3712728], atol=5e-9)
    np.testing.assert_allclose(found.branches[0, 0], [-0.01450323, -0.28670244, 0.15408422], atol=5e-9)


def test_published_graph(golden: dict[str, Any], seed_chain: Chain, x64: None) -> None:
    name = "seed chain nodes A,B,C, edges A-B,A-C,B-C, x_A=[0.2,-0.1,0.4], K=5, depth 1"
    expected = golden["unit"]["graph"][name]
    nodes = dict(zip("ABC", seed_chain.nodes, strict=True))
    graph = Graph(nodes, [("A", "B"), ("A", "C"), ("B", "C")], branches=5)
    found = graph({"A": jnp.array([[0.2, -0.1, 0.4]])})
    for key in "ABC":
        np.testing.assert_allclose(found.states[key][0], expected["s"][key], atol=1e-15)
        np.testing.assert_allclose(found.futures[key][0], expected["s_hat"][key], atol=1e-15)


def test_a_chain_is_a_graph_without_forks() -> None:
    nodes = [node(0.8), node(0.9), node(1.1)]
    chain = Chain(nodes, branches=3)(INPUTS, depth=2)
    graph = Graph.chain(["x", "b", "a"], nodes, branches=3)
    assert graph.order == ("x", "b", "a")
    found = graph(INPUTS, depth=2)
    for i, name in enumerate(graph.order):
        np.testing.assert_allclose(found.branches[name], chain.branches[i], atol=1e-6)


def test_any_batch_of_sequences_jit_and_vmap_over_models() -> None:
    chain = Chain([node(), node(1.0)], branches=3)
    batch = jax.random.normal(jax.random.key(1), (2, 4, 5, 3))
    together = eqx.filter_jit(chain)(batch, depth=2)
    assert together.branches[0].shape == (3, 2, 4, 5, 3)
    np.testing.assert_allclose(together.futures[1][1, 2], chain(batch[1, 2], depth=2).futures[1], atol=1e-6)
    params, rest = split_parameters(chain)
    many = jax.tree.map(lambda p: jnp.stack([p, p + 0.1]), params)
    states = jax.vmap(lambda p: eqx.combine(p, rest)(INPUTS).states[-1])(many)
    np.testing.assert_allclose(states[0], chain(INPUTS).states[-1], atol=1e-6)


def test_parameters_by_name_in_the_published_order() -> None:
    params, _ = split_parameters(Chain([node(), node()], branches=3))
    assert leaf_names(params) == [
        "nodes.0.cell.weight",
        "nodes.0.cell.bias",
        "nodes.1.cell.weight",
        "nodes.1.cell.bias",
    ]
    params, _ = split_parameters(Graph({"b": node(0.1), "a": node(0.2)}))
    np.testing.assert_allclose(jax.tree.leaves(params), [0.1, 0.03, 0.2, 0.03], rtol=1e-6)


def test_another_number_of_branches_for_one_call() -> None:
    assert Chain([node()], branches=3)(INPUTS, branches=4).branches[0].shape[0] == 4
    assert Graph({"a": node()}, branches=3)(INPUTS, branches=4).branches["a"].shape[0] == 4


def test_ready_nodes_come_in_the_order_given() -> None:
    nodes = {name: node() for name in ("z", "a", "m", "b")}
    graph = Graph(nodes, [("b", "z"), ("a", "z"), ("z", "m")])
    assert graph.order == ("a", "b", "z", "m")
    assert graph.parents("z") == ("b", "a")
    assert list(graph.nodes) == ["z", "a", "m", "b"]


def test_an_input_of_its_own_replaces_the_parents() -> None:
    graph = Graph({"a": node(), "b": node(1.0)}, [("a", "b")])
    own = graph({"a": INPUTS, "b": 2.0 * INPUTS}).states["b"]
    np.testing.assert_allclose(own, node(1.0)(2.0 * INPUTS).states, atol=1e-7)


NODES = {"a": node(), "b": node()}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Chain([]), "at least one node"),
        (lambda: Chain([node()], branches=1), "branches"),
        (lambda: Chain([node()])(INPUTS, branches=1), "branches"),
        (lambda: node()(INPUTS, branches=1), "branches"),
        (lambda: Chain([node()])(INPUTS[:0]), "at least one step"),
        (lambda: Chain([node(), Node(TanhCell(jnp.ones(2)))])(INPUTS), r"\(2,\).*\(5, 3\)"),
        (lambda: Graph({}), "at least one node"),
        (lambda: Graph(NODES, branches=0), "branches"),
        (lambda: Graph(NODES, [("a", "c")]), "no node is called 'c'"),
        (lambda: Graph(NODES, [("a", "a")]), "cycle"),
        (lambda: Graph(NODES, [("a", "b"), ("b", "a")]), "cycle.*'a', 'b'"),
        (lambda: Graph(NODES, [("a", "b"), ("a", "b")]), "comes twice"),
        (lambda: Graph.chain(["a", "a"], [node(), node()]), "'a' comes twice"),
        (lambda: Graph.chain(["a"], [node(), node()]), "1 names and 2 nodes"),
        (lambda: Graph(NODES)({"a": INPUTS}), "node 'b' has no parents"),
        (lambda: Graph(NODES)({"a": INPUTS, "b": INPUTS, "c": INPUTS}), "'c', which is no node"),
        (
            lambda: Graph({**NODES, "c": node()}, [("a", "c"), ("b", "c")])({"a": INPUTS, "b": INPUTS[:2]}),
            "states of one shape",
        ),
    ],
)
def test_mistakes_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
