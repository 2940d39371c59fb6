"""`HostChain`: the published run to the last bit, a black box that trains, parity with `Chain`."""

from __future__ import annotations

import math
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from hardgrad.core import UsageError
from hardgrad.estimators import CentralDifference
from hardgrad.hypercausal import (
    Chain,
    HostChain,
    HostObjective,
    HypercausalObjective,
    LinearProjector,
    MeanPolicy,
    MedianPolicy,
    Node,
    TanhCell,
    overshoot,
    rmse,
    robustness,
    smape,
)

TERMS = ("total", "task", "cons", "coh")


def of_vector(theta: Any) -> list[tuple[Any, Any]]:
    """(w, b) a node, from parameters in the published order along the last axis."""
    return [(theta[..., i], theta[..., i + 1]) for i in range(0, theta.shape[-1], 2)]


def norm(gradient: Any) -> float:
    """Squares added left to right."""
    total = 0.0
    for value in gradient:
        total += value * value
    return math.sqrt(total)


def test_the_published_run_bit_by_bit(golden: dict[str, Any], seed_host: HostChain) -> None:
    x, y = (np.array(golden["inputs"][name]) for name in ("x_seq", "target_seq"))
    theta = np.array([[node["w"], node["b"]] for node in golden["config"]["nodes"]]).ravel()
    probe_x, probe_y = (np.broadcast_to(v, (12, *v.shape)) for v in (x, y))
    best, depth = (math.inf, -1), 1
    for epoch in golden["result"]["epochs"]:
        depth, eps = epoch["depths"][0], epoch["eps_eff"]
        before = after = seed_host(of_vector(theta), x, y, depth).tolist()
        assert before == [epoch["before"][t] for t in TERMS]
        if not epoch["freeze"]:
            probes = np.concatenate([theta + eps * np.eye(6), theta - eps * np.eye(6)])
            totals = seed_host(of_vector(probes), probe_x, probe_y, depth)[:, 0]
            gradient = (totals[:6] - totals[6:]) / (2 * eps)
            assert gradient.tolist() == list(epoch["grads_raw"].values())
            assert norm(gradient) == epoch["grad_norm_before"]
            limit = {1: 0.05, 2: 0.075, 3: 0.1}[depth]
            if norm(gradient) > limit:
                gradient = gradient * (limit / norm(gradient))
            assert gradient.tolist() == list(epoch["grads_clipped"].values())
            assert norm(gradient) == epoch["grad_norm_after"]
            theta = theta - epoch["lr_eff"] * gradient
            after = seed_host(of_vector(theta), x, y, depth).tolist()
        assert after == [epoch["after"][t] for t in TERMS]
        assert theta.tolist() == list(epoch["params_after"].values())
        best = min(best, (after[0], epoch["epoch"]))
    assert best == (golden["result"]["best"]["total"], golden["result"]["best"]["epoch"])
    states = seed_host.states(of_vector(theta), x, depth)
    assert states.tolist() == golden["result"]["final_states"]
    found = [metric(y[:, 0], states[:, 0]) for metric in (smape, rmse, overshoot, robustness)]
    assert found == list(golden["result"]["metrics"].values())


def test_the_published_stable_run(golden: dict[str, Any], seed_host: HostChain) -> None:
    """The same chain with other schedules: depths 1, 2, 3 and a fixed limit of the norm."""
    x, y = (np.array(golden["inputs"][name]) for name in ("x_seq", "target_seq"))
    theta = np.array([[node["w"], node["b"]] for node in golden["config"]["nodes"]]).ravel()
    probe_x, probe_y = (np.broadcast_to(v, (12, *v.shape)) for v in (x, y))
    for epoch in golden["other_examples"]["stable_training_demo"]["epochs"]:
        depth, eps = int(epoch["depth"]), epoch["eps_eff"]
        before = seed_host(of_vector(theta), x, y, depth).tolist()
        assert before == [epoch["loss_before"][t] for t in TERMS]
        probes = np.concatenate([theta + eps * np.eye(6), theta - eps * np.eye(6)])
        totals = seed_host(of_vector(probes), probe_x, probe_y, depth)[:, 0]
        gradient = (totals[:6] - totals[6:]) / (2 * eps)
        gradient = gradient * (0.05 / norm(gradient)) if norm(gradient) > 0.05 else gradient
        theta = theta - epoch["lr_eff"] * gradient
        after = seed_host(of_vector(theta), x, y, depth).tolist()
        assert after == [epoch["loss_after"][t] for t in TERMS]


def test_as_a_black_box_it_gives_the_published_gradient(
    golden: dict[str, Any], seed_host: HostChain, x64: None
) -> None:
    x, y = (jnp.array(golden["inputs"][name]) for name in ("x_seq", "target_seq"))
    box = seed_host.black_box([(node["w"], node["b"]) for node in golden["config"]["nodes"]])
    epoch = golden["result"]["epochs"][0]
    rest = {"depth": jnp.int32(1)}

    @jax.jit
    def estimate(params: Any) -> Any:
        def loss(params: Any) -> Any:
            model = jax.tree.unflatten(jax.tree.structure(box), jax.tree.leaves(params))
            return HostObjective()(model, (x, y), rest, jax.random.key(0))

        estimator = CentralDifference(eps=epoch["eps_eff"])
        return estimator.estimate(loss, params, (), controls=rest, key=jax.random.key(0))[0]

    found = estimate(box.params)
    assert float(found.loss) == epoch["before"]["total"]
    assert {name: float(value) for name, value in found.metrics.items()} == {
        name: epoch["before"][name] for name in TERMS[1:]
    }
    assert [float(g) for g in jax.tree.leaves(found.gradient)] == list(epoch["grads_raw"].values())


@hypothesis.settings(max_examples=8)
@hypothesis.given(
    nodes=st.integers(1, 3),
    channels=st.integers(1, 4),
    branches=st.integers(2, 9),
    steps=st.integers(1, 6),
    depth=st.integers(1, 4),
    policy=st.sampled_from(["mean", "median"]),
    mode=st.sampled_from(["variance", "mad"]),
    task=st.sampled_from(["mse", "mae"]),
    seed=st.integers(0, 2**16),
)
def test_it_agrees_with_the_chain(
    nodes: int,
    channels: int,
    branches: int,
    steps: int,
    depth: int,
    policy: Any,
    mode: Any,
    task: Any,
    seed: int,
) -> None:
    generator = np.random.default_rng(seed)
    params = [tuple(generator.normal(size=2)) for _ in range(nodes)]
    spans = tuple(generator.uniform(0, 0.5, size=nodes))
    x, y = generator.normal(size=(2, steps, channels))
    settings = {"alpha": 0.7, "beta": 1.1, "coherence_mode": mode, "task": task, "consistency_weight": 0.4}
    host = HostChain(spans, branches, span_floor=0.05, span_depth_coefficient=0.3, policy=policy, **settings)
    projectors = [LinearProjector(span=s, span_floor=0.05, span_depth_coefficient=0.3) for s in spans]
    chosen = {"mean": MeanPolicy, "median": MedianPolicy}[policy]()
    cells = [TanhCell(w, b) for w, b in params]
    chain = Chain([Node(c, p, chosen) for c, p in zip(cells, projectors, strict=True)], branches=branches)

    @jax.jit
    def of_chain(x: Any, y: Any, depth: Any) -> Any:
        total, terms = HypercausalObjective(**settings)(chain, (x, y), {"depth": depth})
        return [total, *(terms[t] for t in TERMS[1:])], chain(x, depth=depth).states[-1]

    terms, states = of_chain(jnp.asarray(x), jnp.asarray(y), jnp.int32(depth))
    np.testing.assert_allclose(host(params, x, y, depth), terms, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(host.states(params, x, depth), states, atol=2e-5)


def step_by_step(host: HostChain, params: Any, x: Any, y: Any, depth: int) -> list[float]:
    """The published order of operations: a loop over steps and nodes, small NumPy calls, running sums."""
    task, cons, coh, before = 0.0, 0.0, 0.0, None
    for now, target in zip(x, y, strict=True):
        state, spreads = now, []
        for (w, b), span in zip(params, host.spans, strict=True):
            for _ in range(depth):
                state = np.tanh(w * state + b)
            span = max(host.span_floor, span / (1.0 + host.span_depth_coefficient * (depth - 1)))
            branches = np.tanh(state + np.linspace(-span, span, host.branches)[:, None])
            mean = np.mean(branches, axis=0)
            future = mean if host.policy == "mean" else np.median(branches, axis=0)
            apart = branches - mean
            spreads.append(np.mean(apart**2 if host.coherence_mode == "variance" else np.abs(apart)))
        error = state - target
        task += np.mean(error**2 if host.task == "mse" else np.abs(error))
        coh += np.mean(spreads)
        if before is not None:
            cons += host.alpha * np.mean((state - before) ** 2) + host.beta * np.mean((state - future) ** 2)
        before = state
    task, cons, coh = task / len(x), cons / max(1, len(x) - 1), coh / len(x)
    total = host.task_weight * task + host.consistency_weight * cons + host.coherence_weight * coh
    return [float(value) for value in (total, task, cons, coh)]


@pytest.mark.parametrize("policy", ["mean", "median"])
@pytest.mark.parametrize(("mode", "task"), [("variance", "mse"), ("mad", "mae")])
@pytest.mark.parametrize(
    ("channels", "branches", "nodes"), [(1, 8, 1), (1, 19, 2), (2, 4, 9), (3, 5, 3), (11, 7, 2), (17, 9, 1)]
)
def test_bits_of_a_loop_over_steps(channels: int, branches: int, nodes: int, mode: Any, task: Any, policy: Any) -> None:
    """Rows short and long enough for every branch of NumPy's pairwise rule."""
    generator = np.random.default_rng(channels)
    params = [tuple(generator.normal(size=2)) for _ in range(nodes)]
    x, y = generator.normal(size=(2, 13, channels))
    host = HostChain(
        tuple(generator.uniform(0.1, 0.5, size=nodes)),
        branches,
        span_floor=0.15,
        span_depth_coefficient=0.3,
        policy=policy,
        task=task,
        alpha=0.8,
        beta=1.2,
        coherence_mode=mode,
    )
    for depth in (1, 3):
        assert host(params, x, y, depth).tolist() == step_by_step(host, params, x, y, depth)


def test_probes_and_depths_in_front_are_each_on_their_own(seed_host: HostChain) -> None:
    generator = np.random.default_rng(0)
    theta, (x, y) = generator.normal(size=(3, 6)), generator.normal(size=(2, 3, 5, 2))
    depths = np.array([1, 3, 2])
    together = seed_host(of_vector(theta), x, y, depths)
    for i in range(3):
        assert together[i].tolist() == seed_host(of_vector(theta[i]), x[i], y[i], depths[i]).tolist()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HostChain(spans=()), "a span for each node"),
        (lambda: HostChain(spans=(-0.1,)), "below 0"),
        (lambda: HostChain(spans=(0.1,), branches=1), "branches"),
        (lambda: HostChain(spans=(0.1,), alpha=math.nan), "alpha must be a finite number"),
        (lambda: HostChain(spans=(0.1,)).black_box([]), "one \\(w, b\\) a node"),
        (lambda: HostChain(spans=(0.1,))([(1.0, 0.0)], np.ones((3, 2)), np.ones((2, 3))), "one shape"),
        (lambda: HostChain(spans=(0.1,)).states([(1.0, 0.0)], np.ones(3)), "time, channel"),
        (lambda: HostChain(spans=(0.1,)).states([(1.0, 0.0)], np.ones((3, 2)), 1.5), "whole number"),
        (lambda: HostChain(spans=(0.1,)).states([(np.ones(3), 0.0)], np.ones((3, 2))), "leading axes"),
    ],
)
def test_mistakes_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
