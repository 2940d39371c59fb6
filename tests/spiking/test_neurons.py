"""Cells against their formulas in NumPy, values and gradients; parameters, shapes and refusals."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardgrad.core import UsageError, cast_floats
from hardgrad.spiking import (
    IF,
    LIF,
    AdaptiveLIF,
    ArcTan,
    CurrentLIF,
    LeakyIntegrator,
    RecurrentLIF,
    SuperSpike,
)

KEY = jax.random.key(0)
STEPS, BATCH = 25, 3


def drive(*units, seed=0, steps=STEPS):
    return np.random.default_rng(seed).standard_normal((steps, BATCH, *units)) + 0.3


def by_hand(cell, inputs):
    """The formulas of the module docstrings, step by step."""
    reset_to_zero = getattr(cell, "reset", "subtract") == "zero"
    beta = np.asarray(cell.decay) if hasattr(cell, "decay") else 1.0
    theta = np.asarray(cell.threshold) if hasattr(cell, "threshold") else None
    v, a, i = np.zeros((3, *inputs.shape[1:]))
    outs = []
    for x in inputs:
        if isinstance(cell, LeakyIntegrator):
            v = beta * v + x
            outs.append(v)
            continue
        height = theta + a if isinstance(cell, AdaptiveLIF) else theta
        s = (v - height > 0).astype(float)
        outs.append(s)
        if isinstance(cell, CurrentLIF):
            i = np.asarray(cell.current_decay) * i + x
            v = beta * ((1 - s) * v if reset_to_zero else v - s * theta) + i
            continue
        v = (beta * (1 - s) * v if reset_to_zero else beta * v - s * height) + x
        if isinstance(cell, AdaptiveLIF):
            gamma = np.asarray(cell.adaptation_decay)
            a = gamma * a + (1 - gamma) * s
        if isinstance(cell, RecurrentLIF):
            v = v + s @ np.asarray(cell.weight).T
    return np.stack(outs), v


def over_time(cell, inputs):
    """The cell itself, by a plain scan."""
    state, outs = jax.lax.scan(lambda s, x: cell(s, x), cell.init_state(BATCH), jnp.asarray(inputs))
    return outs, state


MAKE = {
    "IF": lambda **kw: IF((2, 3), **kw),
    "LIF": lambda **kw: LIF((2, 3), key=KEY, **kw),
    "RecurrentLIF": lambda **kw: RecurrentLIF(6, key=KEY, weight_scale=0.5, **kw),
    "AdaptiveLIF": lambda **kw: AdaptiveLIF((2, 3), key=KEY, **kw),
    "CurrentLIF": lambda **kw: CurrentLIF((2, 3), key=KEY, **kw),
}


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("name", MAKE)
def test_a_spiking_cell_is_its_formula(x64, name, reset):
    cell = MAKE[name](reset=reset, threshold=0.8, learn_threshold=True)
    cell = eqx.tree_at(
        lambda c: c.raw_threshold, cell, cell.raw_threshold + jnp.linspace(-0.3, 0.3, 6).reshape(cell.units)
    )
    inputs = drive(*cell.units)
    spikes, voltage = by_hand(cell, inputs)
    outs, state = over_time(cell, inputs)
    np.testing.assert_array_equal(outs, spikes)
    assert 0.1 < spikes.mean() < 0.9
    np.testing.assert_allclose(state.voltage, voltage, rtol=0, atol=1e-12)


def test_the_readout_is_its_formula(x64):
    cell = LeakyIntegrator((2, 3), decay=None, key=KEY)
    traces, _ = by_hand(cell, drive(2, 3))
    np.testing.assert_allclose(over_time(cell, drive(2, 3))[0], traces, rtol=0, atol=1e-12)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_the_gradient_of_a_lif_is_backpropagation_written_out(x64, reset, detach):
    """δ_t, the cotangent of the membrane before step t, backwards in time."""
    surrogate = ArcTan()
    cell = LIF(4, key=KEY, reset=reset, detach_reset=detach, surrogate=surrogate, learn_threshold=True)
    inputs, by_spikes = drive(4), drive(4, seed=1)
    found = jax.grad(lambda cell, x: jnp.sum(over_time(cell, x)[0] * by_spikes), argnums=(0, 1))(
        cell, jnp.array(inputs)
    )

    beta, theta = np.asarray(cell.decay), np.asarray(cell.threshold)
    voltages, v = [], np.zeros((BATCH, 4))
    for x in inputs:
        voltages.append(v)
        s = (v > theta).astype(float)
        v = (beta * v - s * theta if reset == "subtract" else beta * (1 - s) * v) + x
    delta, to_beta, to_theta, to_x = np.zeros((BATCH, 4)), 0.0, 0.0, np.zeros_like(inputs)
    for t in reversed(range(STEPS)):
        v = voltages[t]
        s, g = (v > theta).astype(float), np.asarray(surrogate.derivative(jnp.array(v - theta)))
        to_x[t] = delta
        if reset == "subtract":
            direct, through_spike, to_beta = beta, -theta, to_beta + delta * v
            to_theta = to_theta - delta * s
        else:
            direct, through_spike, to_beta = beta * (1 - s), -beta * v, to_beta + delta * (1 - s) * v
        by_spike = by_spikes[t] + (0.0 if detach else delta * through_spike)
        to_theta = to_theta - by_spike * g
        delta = delta * direct + by_spike * g
    np.testing.assert_allclose(found[1], to_x, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found[0].raw_decay, to_beta.sum(0) * beta * (1 - beta), rtol=0, atol=1e-12)
    softplus_slope = 1 / (1 + np.exp(-np.asarray(cell.raw_threshold)))
    np.testing.assert_allclose(found[0].raw_threshold, to_theta.sum(0) * softplus_slope, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MAKE)
def test_gradients_are_those_of_smooth_spikes_by_finite_differences(x64, name):
    """With g as the derivative of a smooth function in the place of the step, backpropagation is plain calculus.

    The surrogate is swapped for that function in value too; everything else of the cell is as it is.
    """

    class Smooth(ArcTan):
        def __call__(self, v):
            return jnp.arctan(2 * np.pi * v) / (2 * np.pi**2)  # its derivative is ArcTan's g

    cell = MAKE[name](surrogate=Smooth(), learn_threshold=True)
    inputs = jnp.array(drive(*cell.units, steps=8))
    params, static = eqx.partition(cell, eqx.is_inexact_array)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    loss = jax.jit(lambda p: jnp.sum(jnp.sin(over_time(eqx.combine(unravel(p), static), inputs)[1].voltage)))
    direction = jnp.array(np.random.default_rng(3).standard_normal(flat.size))
    eps = 1e-6
    slope = (loss(flat + eps * direction) - loss(flat - eps * direction)) / (2 * eps)
    np.testing.assert_allclose(jax.grad(loss)(flat) @ direction, slope, rtol=1e-7)


def test_an_input_is_seen_in_the_spike_of_the_next_step():
    outs, _ = over_time(LIF(1, decay=0.5), np.full((2, BATCH, 1), 5.0, np.float32))
    assert outs[:, 0, 0].tolist() == [0.0, 1.0]


def test_drawn_decays_are_one_a_unit_around_a_half():
    decay = AdaptiveLIF(4000, key=KEY)
    for values in (decay.decay, decay.adaptation_decay):
        assert values.shape == (4000,)
        assert 0.0 < values.min() < 0.05
        assert 0.95 < values.max() < 1.0
        assert values.mean() == pytest.approx(0.5, abs=0.02)
        assert values.std() == pytest.approx(0.22, abs=0.01)  # a normal of 0.25 cut at two of its deviations
    assert abs(np.corrcoef(decay.decay, decay.adaptation_decay)[0, 1]) < 0.1


@given(st.floats(-15, 15, width=32), st.floats(-15, 15, width=32))
def test_whatever_the_parameters_decays_and_thresholds_stay_in_range_and_have_a_gradient(raw_decay, raw_threshold):
    cell = LIF(1, decay=0.5, learn_threshold=True)
    where = lambda c: (c.raw_decay, c.raw_threshold)
    cell = eqx.tree_at(where, cell, (jnp.array([raw_decay], jnp.float32), jnp.array([raw_threshold], jnp.float32)))
    assert 0.0 < cell.decay[0] < 1.0
    assert cell.threshold[0] > 0.0
    slopes = jax.grad(lambda c: c.decay[0] + c.threshold[0])(cell)
    assert slopes.raw_decay[0] > 0.0
    assert slopes.raw_threshold[0] > 0.0


@pytest.mark.parametrize("start", [1e-3, 0.3, 1.0, 50.0])
def test_what_is_given_is_what_it_starts_with(x64, start):
    assert float(LIF(2, decay=0.9, threshold=start, learn_threshold=True).threshold[0]) == pytest.approx(
        start, rel=1e-14
    )
    assert LIF(2, decay=0.9, threshold=start).threshold == start
    np.testing.assert_allclose(CurrentLIF(2, decay=0.9, current_decay=0.25).current_decay, 0.25, rtol=1e-14)
    np.testing.assert_allclose(LeakyIntegrator(2).decay, 0.8, rtol=1e-14)


def test_a_threshold_that_is_not_learned_is_no_parameter():
    assert jax.tree.leaves(IF(3)) == []
    assert len(jax.tree.leaves(IF(3, learn_threshold=True))) == 1


@pytest.mark.parametrize("name", MAKE)
def test_states_have_the_units_shape_and_the_dtype_asked_for(name):
    cell = MAKE[name]()
    assert {s.shape for s in cell.init_state(2)} == {(2, *cell.units)}
    half = cast_floats(cell, jnp.bfloat16)
    state, out = half(half.init_state(2, jnp.bfloat16), jnp.ones((2, *cell.units), jnp.bfloat16))
    assert {s.dtype for s in (*state, out)} == {jnp.dtype(jnp.bfloat16)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LIF(3), "decay=None draws a decay for each unit and needs a key"),
        (lambda: AdaptiveLIF(3, decay=0.9), "adaptation_decay=None draws"),
        (lambda: LIF(3, decay=1.0), "decay must lie between 0 and 1, both excluded, got 1.0"),
        (lambda: LIF(3, decay=float("nan")), "decay must lie between"),
        (lambda: IF(3, threshold=0.0), "threshold must be positive and finite, got 0.0"),
        (lambda: IF(3, reset="zeroo"), "Did you mean 'zero'"),
        (lambda: IF(0), "units must be a whole number, at least 1; got 0"),
        (lambda: IF((2, -1)), "units must be a whole number"),
        (lambda: RecurrentLIF(3), "needs a key"),
        (lambda: RecurrentLIF((3, 2), key=KEY), r"give a number, got \(3, 2\)"),
        (lambda: IF(3).init_state(0), "batch must be a whole number, at least 1"),
        (lambda: IF(3)(IF(3).init_state(2), jnp.ones((2, 1))), r"takes \[batch, 3\]; got an input of shape \(2, 1\)"),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_wrong(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_the_default_surrogate_is_the_one_with_tails():
    assert LIF(1, decay=0.5).surrogate == SuperSpike(25.0)
