"""Phasor layers against NumPy's complex numbers, and phases against the times of their spikes."""

from __future__ import annotations

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hardgrad.core import UsageError
from hardgrad.spiking import (
    PhasorActivation,
    PhasorLinear,
    PhasorMLP,
    PhasorReadout,
    SpikingPhasor,
    phase_of,
    phase_to_phasor,
    phase_to_spikes,
    phasor_to_real,
    real_to_phasor,
    spikes_to_phase,
    spikes_to_phasor,
)


def as_complex(pairs):
    pairs = np.asarray(pairs)
    return pairs[..., 0] + 1j * pairs[..., 1]


def as_pairs(z):
    return jnp.asarray(np.stack([z.real, z.imag], axis=-1))


def complex_normal(shape, seed=0):
    real, imaginary = np.random.default_rng(seed).standard_normal((2, *shape))
    return real + 1j * imaginary


def angle_between(one, two):
    return np.abs(np.angle(np.exp(1j * (np.asarray(one) - np.asarray(two)))))


@functools.partial(jax.jit, static_argnames="steps")
def round_trip(phases, steps):
    spikes = phase_to_spikes(phases, steps)
    return spikes, spikes_to_phase(spikes)


@settings(max_examples=60)
@given(
    steps=st.sampled_from([1, 2, 7, 64]),
    phases=st.lists(st.floats(-9.5, 9.5, width=32), min_size=4, max_size=4).map(np.float32),
)
def test_a_round_trip_is_off_by_at_most_half_a_bin(steps, phases):
    spikes, back = round_trip(jnp.asarray(phases)[None], steps)
    assert spikes.shape == (1, steps, len(phases))
    np.testing.assert_array_equal(spikes.sum(axis=1), 1.0)
    assert angle_between(back[0], phases).max() <= math.pi / steps + 3e-6


def test_round_trips_have_no_bias(x64):
    phases = jnp.linspace(-math.pi, math.pi, 4801)[:-1] + math.pi / 4800
    back = spikes_to_phase(phase_to_spikes(phases[None], 24))[0]
    error = np.angle(np.exp(1j * np.asarray(back - phases)))
    assert abs(error.mean()) < 1e-12
    assert error.max() == pytest.approx(-error.min()) == pytest.approx(math.pi / 24, rel=0.01)


def test_spikes_lie_in_their_bins():
    edges = -math.pi + 2 * math.pi * np.arange(8) / 8
    inside = jnp.asarray(edges + 0.1, jnp.float32)[None]
    np.testing.assert_array_equal(phase_to_spikes(inside, 8)[0], np.eye(8))
    whole_turns = phase_to_spikes(inside + 4 * math.pi, 8)
    np.testing.assert_array_equal(whole_turns, phase_to_spikes(inside, 8))
    just_below = np.nextafter(np.float32(-math.pi), np.float32(-4))  # the last bin, by a rounding
    assert float(phase_to_spikes(jnp.full((1, 1), just_below), 8).sum()) == 1.0


def test_silence_is_told_apart():
    phases = jnp.array([[0.5, -1.0, 2.0]])
    spikes = phase_to_spikes(phases, 16, silent=jnp.array([[False, True, False]]))
    np.testing.assert_array_equal(spikes.sum(axis=1), [[1, 0, 1]])
    assert float(spikes_to_phase(spikes)[0, 1]) == 0.0
    assert math.isnan(float(spikes_to_phase(spikes, silent=math.nan)[0, 1]))
    np.testing.assert_array_equal(spikes_to_phasor(spikes)[0, 1], [0.0, 0.0])
    opposite = jnp.zeros((1, 4, 1)).at[0, jnp.array([0, 2]), 0].set(1.0)  # no direction
    assert float(spikes_to_phase(opposite, silent=9.0)[0, 0]) == 9.0
    slopes = jax.jit(jax.grad(lambda spikes: spikes_to_phasor(spikes).sum()))(jnp.zeros((1, 4, 2)))
    assert bool(jnp.isfinite(slopes).all())


def test_spikes_around_the_seam_mean_the_seam(x64):
    spikes = jnp.zeros((1, 10, 1), jnp.float64).at[0, jnp.array([0, 9]), 0].set(1.0)
    assert abs(float(spikes_to_phase(spikes)[0, 0])) == pytest.approx(math.pi)


def test_codes_are_the_complex_ones(x64):
    x = np.random.default_rng(0).uniform(-1, 1, (3, 4))
    np.testing.assert_allclose(as_complex(real_to_phasor(jnp.asarray(x))), np.exp(1j * np.pi * x), atol=1e-15)
    np.testing.assert_allclose(as_complex(real_to_phasor(jnp.asarray(x), scale=0.5)), np.exp(0.5j * x), atol=1e-15)
    np.testing.assert_allclose(as_complex(phase_to_phasor(jnp.asarray(x))), np.exp(1j * x), atol=1e-15)
    z = complex_normal((3, 4))
    np.testing.assert_allclose(phase_of(as_pairs(z)), np.angle(z), atol=1e-15)
    np.testing.assert_allclose(phasor_to_real(as_pairs(z)), z.real)
    assert float(phase_of(jnp.zeros(2))) == 0.0
    np.testing.assert_array_equal(jax.grad(lambda z: phase_of(z))(jnp.zeros(2)), [0.0, 1.0])


def test_layers_are_the_complex_ones(x64):
    key = jax.random.key(0)
    z, bias = complex_normal((2, 5, 3)), complex_normal((4,), seed=1)
    layer = PhasorLinear(3, 4, key=key, dtype=jnp.float64)
    weight = np.asarray(layer.weight[0]) + 1j * np.asarray(layer.weight[1])
    np.testing.assert_allclose(as_complex(layer(as_pairs(z))), z @ weight, atol=1e-14)
    biased = eqx.tree_at(lambda layer: layer.bias, layer, as_pairs(bias))
    np.testing.assert_allclose(as_complex(biased(as_pairs(z))), z @ weight + bias, atol=1e-14)
    readout = PhasorReadout(3, 2, key=key, dtype=jnp.float64)
    weight = np.asarray(readout.linear.weight[0]) + 1j * np.asarray(readout.linear.weight[1])
    np.testing.assert_allclose(readout(as_pairs(z)), (z @ weight).real, atol=1e-14)


def test_weights_start_with_the_variance_that_keeps_lengths():
    weight = PhasorLinear(200, 300, key=jax.random.key(0)).weight
    assert float(jnp.var(weight)) == pytest.approx(1 / 400, rel=0.02)
    z = phase_to_phasor(jax.random.uniform(jax.random.key(1), (50, 200), minval=-math.pi, maxval=math.pi))
    out = PhasorLinear(200, 300, key=jax.random.key(0))(z)
    assert float(jnp.mean(jnp.sum(out**2, axis=-1))) == pytest.approx(1.0, rel=0.05)


def test_activation_keeps_the_phase(x64):
    z = complex_normal((6,))
    out = as_complex(PhasorActivation()(as_pairs(z)))
    np.testing.assert_allclose(out, z / np.abs(z), atol=1e-10)
    assert (np.asarray(PhasorActivation()(jnp.zeros((3, 2)))) == 0).all()
    slopes = jax.grad(lambda z: PhasorActivation()(z).sum())(jnp.zeros((3, 2)))
    assert bool(jnp.isfinite(slopes).all())
    check_grads(jax.jit(lambda z: PhasorActivation()(jnp.asarray(z))), (as_pairs(z),), order=1)


def test_a_perceptron_by_hand_and_its_gradient(x64):
    model = PhasorMLP(3, 2, hidden=(4, 4), key=jax.random.key(0), dtype=jnp.float64)
    x = np.random.default_rng(0).uniform(-1, 1, (5, 3))
    z = np.exp(1j * np.pi * x)
    for layer in model.layers:
        z = z @ (np.asarray(layer.weight[0]) + 1j * np.asarray(layer.weight[1]))
        z = z / np.abs(z)
    re, im = np.asarray(model.readout.linear.weight)
    compiled = jax.jit(lambda x: model(jnp.asarray(x)))
    np.testing.assert_allclose(compiled(x), (z @ (re + 1j * im)).real, atol=1e-10)
    check_grads(compiled, (jnp.asarray(x),), order=1)


def test_a_perceptron_learns_exclusive_or():
    x = jnp.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]])
    y = jnp.array([0.0, 1.0, 1.0, 0.0])
    model = PhasorMLP(2, 1, hidden=(8,), key=jax.random.key(0))

    @jax.jit
    def trained(model):
        def loss(model):
            return jnp.mean((model(x)[:, 0] - y) ** 2)

        descend = lambda p, g: p - 0.3 * g
        step = lambda _, model: jax.tree.map(descend, model, jax.grad(loss)(model))
        return loss(jax.lax.fori_loop(0, 300, step, model))

    assert float(trained(model)) < 1e-3


def test_a_spiking_layer_is_the_layer_on_rounded_phases():
    steps = 32
    linear = PhasorLinear(3, 5, key=jax.random.key(0))
    phases = jax.random.uniform(jax.random.key(1), (4, 3), minval=-math.pi, maxval=math.pi)

    @jax.jit
    def both(phases):
        spikes = phase_to_spikes(phases, steps)
        out = SpikingPhasor(linear, steps)(spikes)
        return out, spikes_to_phase(out), phase_of(linear(phase_to_phasor(spikes_to_phase(spikes))))

    out, found, expected = both(phases)
    assert angle_between(found, expected).max() <= math.pi / steps + 1e-5
    np.testing.assert_array_equal(out.sum(axis=1), 1.0)


def test_a_spiking_layer_without_input_is_silent():
    layer = SpikingPhasor(PhasorLinear(3, 5, bias=False, key=jax.random.key(0)), 8)
    assert float(layer(jnp.zeros((2, 8, 3))).sum()) == 0.0


def test_more_steps_bring_the_spiking_layer_to_the_phasor_layer():
    linear = PhasorLinear(16, 8, key=jax.random.key(0))
    phases = jax.random.uniform(jax.random.key(1), (20, 16), minval=-math.pi, maxval=math.pi)
    exact = jax.jit(lambda phases: phase_of(linear(phase_to_phasor(phases))))(phases)

    @functools.partial(jax.jit, static_argnums=1)
    def spiking(phases, steps):
        return spikes_to_phase(SpikingPhasor(linear, steps)(phase_to_spikes(phases, steps)))

    errors = [float(np.mean(angle_between(spiking(phases, steps), exact))) for steps in (8, 32, 128)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda key: PhasorLinear(3, 0, key=key), "out_features must be a whole number"),
        (lambda key: PhasorLinear(3, 2, key=key)(jnp.ones((4, 3))), "become phasors through real_to_phasor"),
        (lambda key: PhasorLinear(3, 2, key=key)(jnp.ones((4, 5, 2))), "takes phasors"),
        (lambda key: PhasorActivation(0.0), "epsilon must be positive"),
        (lambda key: PhasorMLP(3, 1, hidden=(), key=key), "hidden is empty"),
        (lambda key: phase_to_spikes(jnp.ones((1, 2)), 0), "steps must be a whole number"),
        (lambda key: spikes_to_phase(jnp.ones((1, 0, 2))), "at least one step"),
        (lambda key: SpikingPhasor(PhasorLinear(3, 2, key=key), 0), "steps must be a whole number"),
        (lambda key: SpikingPhasor(PhasorLinear(3, 2, key=key), 8)(jnp.ones((1, 4, 3))), "a period has 8 steps"),
    ],
)
def test_what_is_refused(build, said):
    with pytest.raises(UsageError, match=said):
        build(jax.random.key(0))
