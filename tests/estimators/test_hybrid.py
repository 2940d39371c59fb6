"""The orthogonal hybrid: its formula to the digit, and where it ends."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardgrad.core import AbstractEstimator, Contract, Estimate, Loss, Order, UsageError, control
from hardgrad.estimators import AntitheticNES, Autodiff, CentralDifference, Every, GuidedES, Hybrid, WithObjective
from hardgrad.estimators._combine import check_estimator
from hardgrad.training import GradientMethod, Trainer

KEY = jax.random.key(0)


class Given(AbstractEstimator):
    """Says that the gradient is what it was given."""

    gradient: Any

    @property
    def contract(self):
        return Contract(Order.ZERO, needs_key=False, fixed_evaluations=0)

    def init(self, params):
        return ()

    def estimate(self, loss_fn, params, state, *, controls, key):
        return Estimate(jnp.zeros(()), self.gradient, {}, {"heard": jnp.ones(())}), state


@jax.jit
def _both(first, zeroth, fraction):
    """Hybrids of given gradients, normalised and as they are."""
    out = []
    for normalize in (True, False):
        hybrid = Hybrid(Given(first), Given(zeroth), fraction, normalize=normalize)
        found, _ = hybrid.estimate(lambda p: (jnp.zeros(()), {}), first, hybrid.init(first), controls={}, key=KEY)
        out.append((found.gradient, found.diagnostics))
    return out


def hybrids(first, zeroth, fraction):
    leaf = jax.tree.leaves(first)[0]
    return _both(first, zeroth, jnp.asarray(fraction, leaf.dtype))


def vectors(size, least=-3.0, most=3.0):
    return st.lists(st.floats(least, most, width=32), min_size=size, max_size=size).map(np.float32)


# -------------------------------------------------------------------------------- the formula


def test_the_formula_over_the_flattened_tree(x64):
    """An independent one in NumPy, with the guard of 1e-8 that the published system has in both denominators."""
    random = np.random.default_rng(0)
    shapes = {"a": (3, 2), "b": (), "c": (4,)}
    first, zeroth = ({k: random.standard_normal(s) for k, s in shapes.items()} for _ in range(2))
    flat = lambda tree: np.concatenate([np.ravel(tree[k]) for k in shapes])
    g, e = flat(first), flat(zeroth)
    unit = g / (np.linalg.norm(g) + 1e-8)
    across = e - (e @ unit) * unit
    scales = 0.3 * np.linalg.norm(g) / (np.linalg.norm(across) + 1e-8), 0.3
    for (gradient, said), scale in zip(hybrids(first, zeroth, 0.3), scales, strict=True):
        np.testing.assert_allclose(flat(gradient), g + scale * across, rtol=1e-7)
        expected = {
            "first_norm": np.linalg.norm(g),
            "zeroth_norm": np.linalg.norm(e),
            "orthogonal_norm": np.linalg.norm(across),
            "cosine": e @ g / np.linalg.norm(e) / np.linalg.norm(g),
            "effective_fraction": scale,
            "correction_fraction": scale * np.linalg.norm(across) / np.linalg.norm(g),
            "blind": 0.0,
            "first/heard": 1.0,
            "zeroth/heard": 1.0,
        }
        assert said.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(said[name], value, rtol=1e-7, err_msg=name)


@given(vectors(6), vectors(6), st.floats(0.015625, 4.0, width=32), st.integers(-20, 20))
def test_orthogonal_and_of_the_length_asked_for(first, zeroth, fraction, power):
    """At rounding level, for any two vectors and any scale of the loss."""
    first, zeroth = first * np.float32(2.0**power), zeroth * np.float32(2.0**power)
    norm, other = (np.linalg.norm(np.float64(g)) for g in (first, zeroth))
    (normalised, said), (raw, _) = hybrids(first, zeroth, fraction)
    corrections = [np.float64(g) - np.float64(first) for g in (normalised, raw)]
    wanted = 0.0 if said["effective_fraction"] == 0 else fraction * norm
    rounding = 4e-7 * (norm + wanted)
    assert np.linalg.norm(corrections[0]) == pytest.approx(wanted, abs=rounding)
    if norm > 0:
        for correction, size in zip(corrections, (wanted, fraction * other), strict=True):
            assert abs(correction @ (first / norm)) <= 4e-7 * (norm + size)
    if said["effective_fraction"] == 0:  # only where nothing lies across
        cross = np.float64(zeroth) - (0 if norm == 0 else zeroth @ np.float64(first) / norm**2 * np.float64(first))
        assert norm == 0 or np.linalg.norm(cross) <= 1e-5 * other


def test_almost_parallel_gradients_still_give_a_right_angle():
    """One pass of projection would leave as much along the guide as across it."""
    first = np.float32([1.0, 2.0, -1.0, 0.5])
    zeroth = first + np.float32([2e-5, -1e-5, 0.0, 0.0])
    (gradient, _), _ = hybrids(first, zeroth, 1.0)
    correction = np.float64(gradient) - first
    size = np.linalg.norm(np.float64(first))
    assert np.linalg.norm(correction) == pytest.approx(size, rel=1e-6)
    assert abs(correction @ first) < 1e-6 * size**2


def test_what_rounding_leaves_is_no_direction():
    """In one dimension nothing lies across; normalised, the dust would be 30 % of the gradient."""
    for first, zeroth in (([0.1], [0.7]), ([0.3, 0.1, 0.7], [0.9, 0.3, 2.1])):
        first, zeroth = np.float32(first), np.float32(zeroth)
        (gradient, said), _ = hybrids(first, zeroth, 0.3)
        np.testing.assert_array_equal(gradient, first)
        assert said["effective_fraction"] == 0.0


@pytest.mark.parametrize("zeroth", [[1.0, 2.0], [np.nan, np.inf]])
def test_fraction_zero_is_the_first_to_the_bit(zeroth):
    first = np.float32([-0.0, 1e-30])
    for gradient, _ in hybrids(first, np.float32(zeroth), 0.0):
        assert np.asarray(gradient).tobytes() == first.tobytes()


def test_without_a_first_gradient():
    """Normalised, the correction vanishes with it; as it is, the second estimate is all there is."""
    first, zeroth = np.zeros(2, np.float32), np.float32([3.0, 4.0])
    (normalised, said), (raw, _) = hybrids(first, zeroth, 0.5)
    np.testing.assert_array_equal(normalised, first)
    np.testing.assert_allclose(raw, [1.5, 2.0])
    assert said["blind"] == 1.0
    assert said["cosine"] == 0.0


def test_a_first_gradient_that_is_blind_on_some_coordinates():
    first, zeroth = np.float32([3.0, 0.0, 0.0]), np.float32([1.0, 2.0, 2.0])
    (gradient, said), _ = hybrids(first, zeroth, 1.0)
    np.testing.assert_allclose(gradient, [3.0, 3.0 / np.sqrt(2), 3.0 / np.sqrt(2)], rtol=1e-6)
    assert said["blind"] == pytest.approx(2 / 3)
    assert said["cosine"] == pytest.approx(1 / 3)


def test_the_sum_keeps_what_a_short_float_can_hold():
    first = {"a": jnp.asarray([1.0, 2.0], jnp.bfloat16), "b": jnp.asarray([0.5], jnp.float32)}
    zeroth = jax.tree.map(lambda g: (g[::-1] + 1).astype(g.dtype), first)
    (gradient, _), _ = hybrids(first, zeroth, jnp.float32(0.3))
    assert {k: g.dtype for k, g in gradient.items()} == {"a": jnp.bfloat16, "b": jnp.float32}


# ------------------------------------------------------------------------------ its two parts


def test_each_part_draws_from_its_own_key():
    loss = lambda p: (jnp.sum(p**2), {})
    hybrid = Hybrid(AntitheticNES(pairs=2), AntitheticNES(pairs=2))
    found, _ = hybrid.estimate(loss, jnp.arange(1.0, 5.0), hybrid.init(None), controls={}, key=KEY)
    assert abs(found.diagnostics["cosine"]) < 0.999
    assert hybrid.contract.fixed_evaluations == 10
    assert hybrid.contract.order is Order.ZERO
    assert Hybrid(Autodiff(), AntitheticNES()).contract.order is Order.MIXED


def test_a_second_part_with_turns_costs_nothing_in_between():
    hybrid = Hybrid(Autodiff(), Every(3, AntitheticNES(pairs=2)), normalize=False)
    calls = []

    def loss(p):
        jax.debug.callback(lambda _: calls.append(1), p)
        return jnp.sum(p**2), {}

    step = jax.jit(lambda p, state, key: hybrid.estimate(loss, p, state, controls={}, key=key))
    params, state = jnp.arange(1.0, 4.0), hybrid.init(jnp.zeros(3))
    counts, exact = [], []
    for i in range(4):
        before = len(calls)
        found, state = step(params, state, jax.random.key(i))
        jax.effects_barrier()
        counts.append(len(calls) - before)
        assert found.diagnostics["evaluations"] == counts[-1]
        exact.append(bool(np.all(found.gradient == 2 * params)))
    assert counts == [6, 1, 1, 6]
    assert exact == [False, True, True, False]


def smooth(model, batch, controls, key):
    return 0.5 * jnp.sum((model["w"] - batch[0, 0]) ** 2), {}


def true(model, batch, controls, key):
    return 0.5 * jnp.sum((model["w"] - batch[0, 1]) ** 2), {}


TARGETS = np.random.default_rng(1).standard_normal((1, 2, 20)).astype(np.float32)


def bound(objective, w):
    return Loss(objective, {"w": None}, TARGETS, {}, KEY), {"w": w}


def test_an_objective_of_its_own_for_one_part():
    loss, params = bound(smooth, jnp.ones(20))
    found, _ = WithObjective(Autodiff(), true).estimate(loss, params, (), controls={}, key=KEY)
    np.testing.assert_allclose(found.gradient["w"], 1.0 - TARGETS[0, 1], rtol=1e-6)
    assert found.diagnostics["own_loss"] == found.loss
    hybrid = Hybrid(Autodiff(), WithObjective(CentralDifference(0.1), true), fraction=1.0, normalize=False)
    mixed, _ = hybrid.estimate(loss, params, hybrid.init(params), controls={}, key=KEY)
    np.testing.assert_allclose(mixed.loss, loss(params)[0], rtol=1e-6)
    np.testing.assert_allclose(mixed.diagnostics["zeroth/own_loss"], found.loss, rtol=1e-6)
    a, b = (np.float64(1.0 - t) for t in TARGETS[0])
    np.testing.assert_allclose(mixed.gradient["w"], a + b - (b @ a) / (a @ a) * a, rtol=1e-3, atol=1e-4)
    with pytest.raises(UsageError, match="bind it with Loss"):
        WithObjective(Autodiff(), true).estimate(lambda p: loss(p), params, (), controls={}, key=KEY)


@pytest.mark.parametrize("fraction", [0.3, 3.0])
def test_the_hybrid_ends_where_the_surrogate_does(fraction):
    """For L_s = ½‖w - a‖² and L_t = ½‖w - b‖²: the correction never moves it along w - a, so the limit is a."""
    rate = 0.05
    zeroth = WithObjective(AntitheticNES(sigma=0.1, pairs=8), true)
    trainer = Trainer(GradientMethod(Hybrid(Autodiff(), zeroth, fraction), optax.sgd(rate)))
    result = trainer.fit({"w": jnp.zeros(20)}, smooth, TARGETS.repeat(8, 0), batch_size=1, epochs=75)
    # each step: ‖w - a‖² times (1 - rate)² + (rate · fraction)², the same for any L_t
    shrinks = (1 - rate) ** 2 + (rate * fraction) ** 2
    distance = float(jnp.linalg.norm(result.model["w"] - TARGETS[0, 0]))
    expected = np.linalg.norm(TARGETS[0, 0]) * shrinks ** (result.steps / 2)
    assert expected < 1e-4
    assert distance == pytest.approx(expected, abs=2e-5)


def test_guided_sampling_ends_at_the_true_minimum():
    estimator = GuidedES(WithObjective(Autodiff(), smooth), sigma=0.1, pairs=8)
    trainer = Trainer(GradientMethod(estimator, optax.sgd(0.1)))
    result = trainer.fit({"w": jnp.zeros(20)}, true, TARGETS.repeat(8, 0), batch_size=1, epochs=75)
    np.testing.assert_allclose(result.model["w"], TARGETS[0, 1], atol=1e-4)


# --------------------------------------------------------------------------------- bad numbers


@pytest.mark.parametrize("fraction", [-0.1, float("nan"), float("inf"), None, True, "share"])
def test_a_fraction_out_of_range(fraction):
    with pytest.raises(UsageError, match="fraction must be a number of at least 0"):
        Hybrid(Autodiff(), AntitheticNES(), fraction)


def test_a_class_is_not_an_estimator():
    with pytest.raises(UsageError, match=r"zeroth must be an estimator.*Add brackets: AntitheticNES\(\)"):
        check_estimator("zeroth", AntitheticNES)
    with pytest.raises(UsageError, match=r"first must be an estimator.*got None\."):
        check_estimator("first", None)
    with pytest.raises(UsageError, match="objective must be a function"):
        WithObjective(Autodiff(), 3.0)


def test_a_fraction_may_be_a_control():
    hybrid = Hybrid(Given(jnp.float32([1.0, 0.0])), Given(jnp.float32([0.0, 5.0])), control("share"))
    state = hybrid.init(None)
    found, _ = hybrid.estimate(lambda p: (p, {}), jnp.zeros(2), state, controls={"share": 0.25}, key=KEY)
    np.testing.assert_allclose(found.gradient, [1.0, 0.25])
