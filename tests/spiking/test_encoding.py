"""Encoders against their definitions, packing against NumPy's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hardgrad.core import UsageError
from hardgrad.spiking import (
    angle_code,
    delta_code,
    latency_code,
    pack_bits,
    rate_code,
    shift_augment,
    unpack_bits,
)

KEY = jax.random.key(0)


def test_rates_are_proportional_to_values_and_steps_independent():
    values = jnp.array([[0.0, 0.2, 1.0, 1.7, -3.0]])
    spikes = rate_code(values, 20_000, most=0.5, key=KEY)
    assert spikes.shape == (1, 20_000, 5)
    assert spikes.dtype == values.dtype
    assert set(np.unique(spikes)) == {0.0, 1.0}
    np.testing.assert_allclose(spikes.mean(1)[0], [0.0, 0.1, 0.5, 0.5, 0.0], atol=0.012)  # three deviations
    one = np.asarray(spikes[0, :, 2])
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.03


def test_a_certain_spike_comes_at_every_step_and_keys_decide_the_rest():
    assert rate_code(jnp.ones((2, 3)), 50, most=1.0, key=KEY).min() == 1.0
    a, b = (rate_code(jnp.full((2, 3), 0.5), 50, key=key) for key in jax.random.split(KEY))
    assert (a != b).any()
    assert (a == rate_code(jnp.full((2, 3), 0.5), 50, key=jax.random.split(KEY)[0])).all()


@given(st.lists(st.floats(-0.5, 1.5, width=32, allow_subnormal=False), min_size=3, max_size=3))
def test_latency_is_one_spike_the_sooner_the_larger(values):
    spikes = np.asarray(latency_code(jnp.array([values], jnp.float32), 7))[0]
    clipped = np.clip(np.float32(values), 0, 1)
    assert spikes.sum(0).tolist() == [float(v > np.float32(0.01)) for v in clipped]
    for v, train in zip(clipped, spikes.T, strict=True):
        assert not train.any() or train.argmax() == np.round((1 - v) * np.float32(6))


signals = arrays(np.float32, (1, 12, 2), elements=st.floats(-4, 4, width=32, allow_subnormal=False))


@settings(max_examples=60)
@given(signals)
def test_from_events_a_signal_is_known_to_within_the_threshold(steps):
    threshold = 0.5
    signal = np.cumsum(np.clip(steps, -0.49, 0.49), axis=1).astype(np.float32)
    events = np.asarray(jax.jit(delta_code, static_argnums=1)(jnp.array(signal), threshold))
    assert events.shape == (1, 12, 2, 2)
    assert not (events[..., 0] * events[..., 1]).any()
    rebuilt = signal[:, :1] + threshold * np.cumsum(events[..., 0] - events[..., 1], axis=1)
    assert np.abs(rebuilt - signal).max() < threshold


def test_a_slow_drift_is_not_lost():
    events = delta_code(jnp.linspace(0.0, 4.05, 100)[None], 1.0)
    assert events[0].sum(0).tolist() == [4.0, 0.0]


@given(st.floats(-4, 4, width=32))
def test_one_neuron_of_the_population_is_active_and_its_range_holds_the_value(value):
    code = np.asarray(angle_code(jnp.float32(value), 6, -3.0, 3.0))
    assert code.sum() == 1
    start = -3 + int(code.argmax())
    assert start - 1e-6 <= np.clip(value, -3, 3) <= start + 1


def test_the_ends_of_the_range_belong_to_the_outer_neurons():
    found = angle_code(jnp.array([-5.0, 0.0, 0.999, 1.0, 5.0]), 4, 0.0, 1.0).argmax(-1)
    assert found.tolist() == [0, 0, 3, 3, 3]


@pytest.mark.parametrize("steps", [1, 7, 8, 9, 40])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_packing_is_numpys_and_unpacking_undoes_it(steps, shape):
    spikes = (np.random.default_rng(steps).random((2, steps, *shape)) < 0.5).astype(np.float32)
    bits = pack_bits(jnp.array(spikes))
    np.testing.assert_array_equal(bits, np.packbits(spikes.astype(bool), axis=1))
    unpacked = jax.jit(unpack_bits, static_argnums=1)(bits, steps)
    assert unpacked.dtype == jnp.float32
    np.testing.assert_array_equal(unpacked, spikes)
    assert unpack_bits(bits, steps, dtype=jnp.bfloat16).dtype == jnp.bfloat16


def test_each_sample_is_shifted_by_itself_within_bounds():
    sample = jnp.zeros((20, 30)).at[10, 15].set(1.0)
    shifted = shift_augment(jnp.stack([sample] * 200), most=2, axes=(1, -1), key=KEY)
    assert (shifted.sum((1, 2)) == 1.0).all()
    rows, columns = np.nonzero(np.asarray(shifted))[1:]
    assert set(rows - 10) == set(columns - 15) == {-2, -1, 0, 1, 2}
    assert abs(np.corrcoef(rows, columns)[0, 1]) < 0.3


def test_bits_are_shifted_along_channels_as_spikes_are():
    spikes = jnp.asarray(np.random.default_rng(0).random((4, 10, 6)) < 0.3, jnp.float32)
    expected = shift_augment(spikes, most=3, key=KEY)
    np.testing.assert_array_equal(unpack_bits(shift_augment(pack_bits(spikes), most=3, key=KEY), 10), expected)
    np.testing.assert_array_equal(shift_augment(spikes, most=0, key=KEY), spikes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rate_code(jnp.ones((2, 3), int), 5, key=KEY), "must be floats, got int32"),
        (lambda: rate_code(jnp.ones((2, 3)), 0, key=KEY), "steps must be a whole number, at least 1; got 0"),
        (lambda: rate_code(jnp.ones((2, 3)), 5, most=1.5, key=KEY), "most is a probability above 0, got 1.5"),
        (lambda: delta_code(jnp.ones(3), 0.1), r"got shape \(3,\)"),
        (lambda: delta_code(jnp.ones((1, 3)), 0.0), "threshold must be positive"),
        (lambda: angle_code(jnp.ones(3), 4, 1.0, 1.0), "low must be below high"),
        (lambda: pack_bits(jnp.ones(3)), r"\[batch, time, ...\], got shape \(3,\)"),
        (lambda: unpack_bits(jnp.zeros((1, 2), jnp.uint8), 17), "17 steps take 3 bytes along time; got 2"),
        (lambda: unpack_bits(jnp.zeros((1, 2)), 9), "packed bits are uint8"),
        (lambda: shift_augment(jnp.ones((2, 3)), axes=(0,), key=KEY), r"axes \(0,\) must be among those of a sample"),
        (lambda: shift_augment(jnp.ones((2, 3)), axes=(2,), key=KEY), r"axes \(2,\)"),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_wrong(call, message):
    with pytest.raises(UsageError, match=message):
        call()
