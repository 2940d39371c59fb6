"""Projectors and policies: published values, trainable numbers, refusals."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from hardgrad.core import UsageError, control, split_parameters
from hardgrad.hypercausal import (
    AbstractPolicy,
    ContrafactualAnticipator,
    LinearProjector,
    MeanPolicy,
    MedianPolicy,
    MinRiskPolicy,
    ShiftChannel,
)

STATES = jnp.linspace(-0.9, 0.9, 12).reshape(4, 3)


def test_published_projectors(golden: dict[str, Any], x64: None) -> None:
    unit = golden["unit"]
    state = jnp.array(unit["inputs"]["A"])[None]
    base = LinearProjector(1.1, -0.05, 0.2)
    expected = unit["projector"]["linear(w=1.1,b=-0.05,span=0.2)(A,K=4)"]
    np.testing.assert_allclose(base(state, branches=4)[:, 0], expected, rtol=1e-15)
    anticipator = ContrafactualAnticipator(base, [ShiftChannel(0, 0.1)], branches=3, symmetric=True)
    name = "anticipator(base above, perturb channel0 +0.1, symmetric, branches=3)(A)"
    np.testing.assert_allclose(anticipator(state)[:, 0], unit["projector"][name], rtol=1e-14)


@hypothesis.settings(max_examples=8)
@hypothesis.given(
    branches=st.integers(0, 9), span=st.floats(0, 2), coefficient=st.floats(0, 2), depth=st.integers(1, 5)
)
def test_offsets_are_even_and_end_on_the_span(branches: int, span: float, coefficient: float, depth: int) -> None:
    projector = LinearProjector(span=span, span_floor=0.1, span_depth_coefficient=coefficient)
    narrowed = max(0.1, span / (1 + coefficient * (depth - 1)))
    traced = jax.jit(lambda d: projector(jnp.zeros((1, 1)), branches=branches, depth=d))
    expected = np.tanh(np.linspace(-narrowed, narrowed, max(2, branches)))
    for found in (projector(jnp.zeros((1, 1)), branches=branches, depth=depth), traced(jnp.int32(depth))):
        np.testing.assert_allclose(found[:, 0, 0], expected, atol=1e-6)


def test_numbers_given_as_arrays_are_trained_and_the_others_are_not() -> None:
    fixed, _ = split_parameters(LinearProjector(1.1, 0.1, 0.2))
    assert jax.tree.leaves(fixed) == []
    projector = LinearProjector(jnp.ones(3), jnp.asarray(0.0), jnp.asarray(0.2), span_depth_coefficient=0.3)
    total = lambda p: jnp.sum(jnp.square(p(STATES, branches=5, depth=2)))
    gradient = eqx.filter_jit(eqx.filter_grad(total))(projector)
    assert len(jax.tree.leaves(gradient)) == 3
    assert all(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient))
    np.testing.assert_allclose(
        projector(STATES, branches=5, depth=2),
        LinearProjector(span_depth_coefficient=0.3)(STATES, branches=5, depth=2),
        atol=1e-6,
    )


@pytest.mark.parametrize(("total", "rows"), [(None, 7), (5, 5), (10, 10)])
def test_an_anticipator_is_cut_or_padded(total: int | None, rows: int) -> None:
    shifts = [ShiftChannel(0, 0.1), ShiftChannel(1, jnp.asarray(0.06))]
    every = ContrafactualAnticipator(LinearProjector(), shifts)(STATES)
    branches = ContrafactualAnticipator(LinearProjector(), shifts, total=total)(STATES)
    assert branches.shape == (rows, *STATES.shape)
    np.testing.assert_array_equal(branches[:7], every[:rows])
    np.testing.assert_array_equal(branches[7:], jnp.broadcast_to(every[-1:], (max(0, rows - 7), 4, 3)))


def test_an_anticipator_without_perturbations_or_mirror() -> None:
    plain = ContrafactualAnticipator(LinearProjector(), [], branches=4)
    np.testing.assert_array_equal(plain(STATES), LinearProjector()(STATES, branches=4))
    assert ContrafactualAnticipator(LinearProjector(), [], branches=2, total=3)(STATES).shape[0] == 3
    one_sided = ContrafactualAnticipator(LinearProjector(), [ShiftChannel(2, 0.1)], symmetric=False)
    assert one_sided(STATES).shape[0] == 4


POLICIES = [MeanPolicy(), MedianPolicy(), MinRiskPolicy()]


def test_published_policies(golden: dict[str, Any], x64: None) -> None:
    unit = golden["unit"]
    branches = jnp.array(unit["inputs"]["F"])
    np.testing.assert_allclose(MeanPolicy()(branches)[0], unit["policy"]["mean(F)"], rtol=1e-15)
    np.testing.assert_allclose(MedianPolicy()(branches)[0], unit["policy"]["median(F)"], rtol=1e-15)
    future, diagnostics = MinRiskPolicy()(branches)
    expected = unit["policy"]["min_risk_l2(F)"]
    np.testing.assert_array_equal(future, expected["value"])
    assert int(diagnostics["chosen_index"]) == expected["diag"]["chosen_index"]
    np.testing.assert_allclose(diagnostics["min_score"], expected["diag"]["min_score"], rtol=1e-15)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: type(p).__name__)
@pytest.mark.parametrize("rows", [2, 5])
def test_policies_act_on_each_step_alone(policy: AbstractPolicy, rows: int) -> None:
    branches = jax.random.normal(jax.random.key(rows), (rows, 2, 4, 3))
    together = jax.jit(policy)(branches)
    one_by_one = jax.jit(jax.vmap(jax.vmap(policy, in_axes=1), in_axes=1))(branches)
    for found, expected in zip(jax.tree.leaves(together), jax.tree.leaves(one_by_one), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 3, 6, 9, 20])
def test_the_median_is_numpys_and_shows_nan(rows: int) -> None:
    branches = np.random.default_rng(rows).normal(size=(rows, 4, 3)).astype(np.float32)
    branches[:, 0] = np.round(branches[:, 0])  # ties
    branches[rows // 2, 3, 0] = np.nan
    found = jax.jit(lambda f: MedianPolicy()(f)[0])(branches)
    np.testing.assert_allclose(found.reshape(-1)[:9], np.median(branches, axis=0).reshape(-1)[:9], rtol=1e-6)
    assert np.isnan(found[3, 0])
    assert not np.isnan(found[3, 1:]).any()


def test_of_equal_risks_the_first_is_taken_and_only_it_is_differentiated() -> None:
    branches = jnp.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])

    @jax.jit
    def choose(branches: Any) -> Any:
        (_, result), gradient = jax.value_and_grad(total, has_aux=True)(branches)
        return *result, gradient

    def total(branches: Any) -> Any:
        future, diagnostics = MinRiskPolicy()(branches)
        return jnp.sum(future), (future, diagnostics)

    future, diagnostics, gradient = choose(branches)
    assert int(diagnostics["chosen_index"]) == 1
    np.testing.assert_array_equal(future, [0.0, 1.0])
    np.testing.assert_array_equal(gradient, [[0, 0], [1, 1], [0, 0]])
    assert np.isfinite(choose(jnp.zeros((3, 2)))[2]).all()  # where the norm has no slope


def test_a_risk_of_ones_own() -> None:
    future, _ = MinRiskPolicy(risk=lambda f: -f[..., 0])(jnp.array([[1.0, 5.0], [3.0, 7.0]]))
    np.testing.assert_array_equal(future, [3.0, 7.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearProjector(span=-0.1), "span must be at least 0"),
        (lambda: LinearProjector(span_floor=float("nan")), "span_floor"),
        (lambda: LinearProjector(span=jnp.ones(3)), "span must be a scalar"),
        (lambda: LinearProjector(weight=jnp.ones((3, 3))), "weight must be"),
        (lambda: LinearProjector(weight=control("a")), "weight must be a number"),
        (lambda: LinearProjector(weight=None), "weight must be a number"),
        (lambda: LinearProjector(weight=jnp.ones(2))(STATES), "2 channels"),
        (lambda: ContrafactualAnticipator(LinearProjector(), [], branches=1), "branches"),
        (lambda: ContrafactualAnticipator(LinearProjector(), [], total=1), "total"),
        (lambda: ShiftChannel(-1, 0.1), "channel"),
        (lambda: ShiftChannel(3, 0.1)(STATES), "3 channels"),
    ],
)
def test_mistakes_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
