"""`HypercausalObjective`: published losses and runs, weights, dtypes, refusals."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from hardgrad.core import UsageError, control, split_parameters
from hardgrad.hypercausal import (
    Chain,
    ContrafactualAnticipator,
    Graph,
    HypercausalObjective,
    LinearProjector,
    MinRiskPolicy,
    Node,
    Prediction,
    ShiftChannel,
    TanhCell,
    coherence,
    consistency,
    early_auc,
    mape,
    mse,
    recall_at_lag,
    robustness,
    settling_time,
)

KEY = jax.random.key(0)
TERMS = ("total", "task", "cons", "coh")


def losses_of_a_vector(objective: Any, model: Any, batch: Any) -> tuple[Any, jax.Array]:
    """``[probe, parameter], depth -> [probe, 4]``, compiled once, and the parameters as a vector."""
    params, rest = split_parameters(model)
    start, restore = ravel_pytree(params)

    def losses(vector: Any, depth: Any) -> Any:
        total, terms = objective(eqx.combine(restore(vector), rest), batch, {"depth": depth}, KEY)
        return jnp.stack([total, *(terms[name] for name in TERMS[1:])])

    return jax.jit(jax.vmap(losses, in_axes=(0, None))), start


def test_published_training_run(
    golden: dict[str, Any], seed_chain: Chain, seed_objective: HypercausalObjective, x64: None
) -> None:
    """All sixteen epochs with central differences, within rounding."""
    batch = tuple(jnp.array(golden["inputs"][name]) for name in ("x_seq", "target_seq"))
    losses, vector = losses_of_a_vector(seed_objective, seed_chain, batch)
    moves = jnp.concatenate([jnp.zeros((1, 6)), jnp.eye(6), -jnp.eye(6)])
    for epoch in golden["result"]["epochs"]:
        depth, eps = jnp.int32(epoch["depths"][0]), epoch["eps_eff"]
        found = losses(vector[None] + eps * moves, depth)
        np.testing.assert_allclose(found[0], [epoch["before"][t] for t in TERMS], rtol=0, atol=1e-12)
        if epoch["freeze"]:
            continue
        raw = (found[1:7, 0] - found[7:, 0]) / (2 * eps)
        np.testing.assert_allclose(raw, list(epoch["grads_raw"].values()), rtol=0, atol=1e-10)
        limit = {1: 0.05, 2: 0.075, 3: 0.1}[epoch["depths"][0]]
        norm = jnp.linalg.norm(raw)
        vector = vector - epoch["lr_eff"] * raw * jnp.minimum(1.0, limit / norm)
        np.testing.assert_allclose(vector, list(epoch["params_after"].values()), rtol=0, atol=1e-12)
    assert losses._cache_size() == 1


def test_published_chain_example(golden: dict[str, Any], x64: None) -> None:
    expected = golden["other_examples"]["chain_demo"]
    settings = [(0.9, 0.05, 0.20), (0.95, 0.02, 0.25), (1.05, 0.0, 0.30)]
    chain = Chain([Node(TanhCell(w, b), LinearProjector(span=s)) for w, b, s in settings], branches=5)
    t = np.arange(6.0)
    waves = [0.3 * np.sin(0.7 * t), 0.2 * np.sin(0.7 * t + 0.8), 0.1 * np.cos(0.7 * t + 0.3)]
    inputs = jnp.asarray(np.stack(waves, axis=1))
    objective = HypercausalObjective(alpha=0.8, beta=1.2)
    losses, vector = losses_of_a_vector(objective, chain, (inputs, jnp.zeros_like(inputs)))
    found = losses(jnp.concatenate([vector[None], vector[None] + 1e-3 * jnp.eye(6)]), jnp.int32(1))
    np.testing.assert_allclose(found[0], [expected["before"][t] for t in TERMS], rtol=0, atol=1e-14)
    vector = vector - 0.05 * (found[1:, 0] - found[0, 0]) / 1e-3
    after = losses(jnp.broadcast_to(vector, (7, 6)), jnp.int32(1))[0]
    np.testing.assert_allclose(after, [expected["after"][t] for t in TERMS], rtol=0, atol=1e-13)


def case_study_node(weight: float, bias: float, span: float, *shifts: ShiftChannel) -> Node:
    base = LinearProjector(span=span, span_floor=0.05, span_depth_coefficient=0.25)
    return Node(TanhCell(weight, bias), ContrafactualAnticipator(base, shifts, total=6), MinRiskPolicy())


def test_published_case_study(golden: dict[str, Any], x64: None) -> None:
    """A graph with anticipators and min-risk: six epochs of forward differences, and its metrics."""
    case = golden["other_examples"]["case_study"]
    inputs = jnp.array(case["inputs"]["x_seq"])
    nodes = {
        "A": case_study_node(0.95, 0.03, 0.22, ShiftChannel(0, 0.10), ShiftChannel(1, 0.06)),
        "B": case_study_node(1.00, 0.01, 0.25, ShiftChannel(0, -0.10)),
        "C": case_study_node(1.05, 0.00, 0.28, ShiftChannel(1, 0.06)),
    }
    graph = Graph(nodes, [("A", "B"), ("A", "C"), ("B", "C")], branches=6)
    objective = HypercausalObjective(alpha=0.7, beta=1.3, output="C")
    losses, vector = losses_of_a_vector(objective, graph, ({"A": inputs}, jnp.zeros_like(inputs)))
    moves = jnp.concatenate([jnp.zeros((1, 6)), 1e-3 * jnp.eye(6)])
    for epoch, depth in zip(case["epochs"], (1, 2, 2, 3, 3, 4), strict=True):
        found = losses(vector[None] + moves, jnp.int32(depth))
        expected = [epoch["loss_before"][t] for t in TERMS]
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-12)
        vector = vector - 0.04 * (found[1:, 0] - found[0, 0]) / 1e-3
    after = losses(vector[None] + moves, jnp.int32(4))[0]
    np.testing.assert_allclose(after, [case["epochs"][-1]["loss_after"][t] for t in TERMS], atol=1e-12)

    params, rest = split_parameters(graph)
    last = eqx.combine(ravel_pytree(params)[1](vector), rest)
    state = np.asarray(last({"A": inputs}, depth=4).states["C"])
    events, scores = case["inputs"]["anomaly_flags"], np.linalg.norm(state, axis=1)
    alarms = scores >= np.percentile(scores, 80)
    rest_state, published = np.zeros(60), case["result"]["metrics"]
    np.testing.assert_allclose(mape(rest_state, state[:, 0], zeros="offset"), published["mape"], rtol=1e-12)
    np.testing.assert_allclose(robustness(rest_state, state[:, 0]), published["robustness"], rtol=1e-14)
    assert settling_time(rest_state, state[:, 0]) == published["settling_time"]
    assert early_auc(events, scores, horizon=3, ties=0.0) == published["early_auc_h3"]
    assert recall_at_lag(events, alarms, lag=3, offset=1e-12) == published["recall_lag3"]


def small_model_and_batch() -> tuple[Chain, tuple[jax.Array, jax.Array]]:
    chain = Chain([Node(TanhCell(0.9, 0.1)), Node(TanhCell(1.1, -0.1))], branches=3)
    return chain, (jax.random.normal(KEY, (2, 5, 3)), jnp.full((2, 5, 3), 0.1))


def test_terms_are_means_of_the_losses_step_by_step() -> None:
    chain, (inputs, targets) = small_model_and_batch()
    objective = HypercausalObjective(alpha=0.7, beta=1.3, coherence_mode="mad")

    @jax.jit
    def evaluate() -> Any:
        return objective(chain, (inputs, targets), {"depth": 2}, KEY), chain(inputs, depth=2)

    (total, terms), found = evaluate()
    state, future = found.states[-1], found.futures[-1]
    smooth, spread = (
        jax.jit(lambda s, p, f: consistency(s, p, f, alpha=0.7, beta=1.3)),
        jax.jit(lambda f: coherence(f, mode="mad")),
    )
    cons = [smooth(state[i, t], state[i, t - 1], future[i, t]) for i in range(2) for t in range(1, 5)]
    coh = [spread(f[:, i, t]) for f in found.branches for i in range(2) for t in range(5)]
    np.testing.assert_allclose(terms["task"], mse(state, targets), rtol=1e-6)
    np.testing.assert_allclose(terms["cons"], np.mean(cons), rtol=1e-5)
    np.testing.assert_allclose(terms["coh"], np.mean(coh), rtol=1e-5)
    np.testing.assert_allclose(total, terms["task"] + 0.5 * terms["cons"] + 0.3 * terms["coh"], rtol=1e-6)


def test_autodiff_is_what_central_differences_approach(x64: None) -> None:
    chain, batch = small_model_and_batch()
    losses, vector = losses_of_a_vector(HypercausalObjective(), Chain(chain.nodes[:1], branches=3), batch)
    exact = jax.jit(jax.grad(lambda v, d: losses(v[None], d)[0, 0]))(vector, jnp.int32(3))
    eps, count = 1e-5, vector.size
    found = losses(vector[None] + eps * jnp.concatenate([jnp.eye(count), -jnp.eye(count)]), jnp.int32(3))[:, 0]
    np.testing.assert_allclose(exact, (found[:count] - found[count:]) / (2 * eps), atol=1e-8)


def test_weights_may_be_controls_and_depth_may_have_another_name() -> None:
    chain, batch = small_model_and_batch()
    fixed = HypercausalObjective(alpha=0.7, consistency_weight=0.2)
    by_control = HypercausalObjective(alpha=control("alpha"), consistency_weight=control("smooth"), depth="levels")
    want, _ = fixed(chain, batch, {"depth": 2}, KEY)
    controls = {"alpha": jnp.float32(0.7), "smooth": 0.2, "levels": jnp.int32(2)}
    found, _ = jax.jit(lambda c: by_control(chain, batch, c, KEY))(controls)
    np.testing.assert_allclose(found, want, rtol=1e-6)
    at_depth_one, _ = fixed(chain, batch, {}, KEY)
    np.testing.assert_allclose(at_depth_one, fixed(chain, batch, {"depth": 1}, KEY)[0], rtol=1e-6)
    with pytest.raises(UsageError, match="smooth"):
        by_control(chain, batch, {"alpha": 0.7}, KEY)


def test_a_sequence_of_one_step_has_no_consistency() -> None:
    chain, (inputs, targets) = small_model_and_batch()
    _, terms = HypercausalObjective()(chain, (inputs[:, :1], targets[:, :1]), {}, KEY)
    assert float(terms["cons"]) == 0.0


@pytest.mark.parametrize(("dtype", "expected"), [("float16", "float32"), ("float64", "float64")])
def test_losses_have_32_bits_at_least(dtype: str, expected: str, x64: None) -> None:
    chain, batch = small_model_and_batch()
    chain = jax.tree.map(lambda p: p.astype(dtype), chain)
    for task in ("mse", "mae", "cross_entropy"):
        objective = HypercausalObjective(task=task)
        total, terms = jax.eval_shape(objective, chain, batch, {"depth": jnp.int32(2)}, KEY)
        assert {total.dtype, *(term.dtype for term in terms.values())} == {jnp.dtype(expected)}


def test_a_graph_needs_no_output_but_a_model_of_ones_own_does() -> None:
    chain, (inputs, targets) = small_model_and_batch()
    graph = Graph.chain(["b", "a"], list(chain.nodes), branches=3)
    objective = HypercausalObjective(consistency_weight=0.0)
    total, _ = objective(graph, (inputs, targets), {}, KEY)
    np.testing.assert_allclose(total, objective(chain, (inputs, targets), {}, KEY)[0], rtol=1e-6)

    def own(inputs: Any, *, depth: Any) -> Prediction:
        return graph(inputs, depth=depth)

    with pytest.raises(UsageError, match="output"):
        objective(own, (inputs, targets), {}, KEY)
    named = HypercausalObjective(consistency_weight=0.0, output="a")
    np.testing.assert_allclose(named(own, (inputs, targets), {}, KEY)[0], total, rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HypercausalObjective(coherence_weight=float("nan")), "coherence_weight"),
        (lambda: HypercausalObjective(task_weight=True), "task_weight"),
    ],
)
def test_wrong_settings_are_refused_at_once(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_mismatched_batches_are_refused() -> None:
    chain, (inputs, targets) = small_model_and_batch()
    with pytest.raises(UsageError, match=r"states \(2, 5, 3\), targets \(2, 3, 5\)"):
        HypercausalObjective()(chain, (inputs, targets.reshape(2, 3, 5)), {}, KEY)
    with pytest.raises(UsageError, match="names a node of a graph"):
        HypercausalObjective(output="C")(chain, (inputs, targets), {}, KEY)
