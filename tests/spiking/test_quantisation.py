"""Weights of a few bits: the grid against NumPy, gradients straight through, integers exact on spikes."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hardgrad.core import UsageError
from hardgrad.spiking._network import Network
from hardgrad.spiking._neurons import LIF, LeakyIntegrator, RecurrentLIF
from hardgrad.spiking._quantisation import (
    IntegerLayer,
    WeightGrid,
    binary_activation_error,
    freeze,
    integer_weights,
    quantise,
)

KEYS = jax.random.split(jax.random.key(7), 6)
ALL_BITS = [8, 4, 2, "ternary"]


def spikes(key: Any, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.bernoulli(key, 0.4, shape).astype(jnp.float32)


def network() -> Network:
    louder = lambda layer, gain: eqx.tree_at(lambda m: m.weight, layer, layer.weight * gain)
    return Network(
        [
            louder(eqx.nn.Conv2d(1, 3, 3, key=KEYS[0]), 9.0),
            LIF((3, 4, 4), decay=0.9),
            eqx.nn.Lambda(jnp.ravel),
            louder(eqx.nn.Linear(48, 8, key=KEYS[1]), 9.0),
            RecurrentLIF(8, decay=0.8, weight_scale=1.0, key=KEYS[2]),
            eqx.nn.Linear(8, 3, use_bias=False, key=KEYS[3]),
        ]
    )


# ---------------------------------------------------------------------------- the grid


def grid_in_numpy(weight: np.ndarray[Any, Any], bits: Any, per: str) -> tuple[Any, Any]:
    rows = weight.reshape(weight.shape[0], -1) if per == "channel" else weight.reshape(1, -1)
    m = 1 if bits == "ternary" else 2 ** (bits - 1) - 1
    scale = np.array([np.mean(abs(r)) if bits == "ternary" else max(abs(r)) / m for r in rows])
    scale[scale == 0] = 1
    integers = np.array([np.clip(np.round(r / s), -m, m) for r, s in zip(rows, scale, strict=True)])
    return integers.reshape(weight.shape), scale


@pytest.mark.parametrize("per", ["channel", "tensor"])
@pytest.mark.parametrize("bits", ALL_BITS)
def test_the_grid_is_that_of_its_definition(x64: None, bits: Any, per: str) -> None:
    weight = np.random.default_rng(0).normal(size=(5, 2, 3))
    weight[2] = 0
    integers, scale = WeightGrid(bits, per).integers(jnp.asarray(weight))
    wanted, wanted_scale = grid_in_numpy(weight, bits, per)
    np.testing.assert_array_equal(integers, wanted)
    np.testing.assert_allclose(scale.ravel(), wanted_scale, rtol=1e-15)
    assert scale.shape == ((5, 1, 1) if per == "channel" else (1, 1, 1))


@hypothesis.settings(max_examples=40)
@given(
    hnp.arrays(np.float32, (3, 4), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.sampled_from([*range(2, 9), "ternary"]),
    st.sampled_from(["channel", "tensor"]),
)
def test_integers_are_integers_within_the_grid_and_half_a_step_from_the_weight(
    weight: np.ndarray[Any, Any], bits: Any, per: str
) -> None:
    grid = WeightGrid(bits, per)
    integers, scale = (np.asarray(part, np.float64) for part in grid.integers(jnp.asarray(weight)))
    assert np.array_equal(integers, np.round(integers))
    assert np.all(np.abs(integers) <= grid.largest)
    assert np.all(np.isfinite(scale) & (scale > 0))
    tiny = np.finfo(np.float32).tiny
    inside = np.abs(weight) <= grid.largest * scale * (1 + 1e-6)
    assert np.all((np.abs(weight - scale * integers) <= (0.5 + 1e-4) * scale + tiny) | ~inside)
    assert bits == "ternary" or np.all(inside)


def test_the_gradient_of_a_quantised_weight_is_the_gradient_of_the_weight() -> None:
    weight = jax.random.normal(KEYS[0], (4, 6))
    pull = jax.random.normal(KEYS[1], (4, 6))
    for bits in ALL_BITS:

        def quantised(w: Any, bits: Any = bits) -> Any:
            integers, scale = WeightGrid(bits).integers(w)
            return scale * integers

        (gradient,) = jax.vjp(quantised, weight)[1](pull)
        np.testing.assert_allclose(gradient, pull, rtol=1e-6)
        tangent = jax.jvp(quantised, (weight,), (pull,))[1]
        np.testing.assert_allclose(tangent, pull, rtol=1e-6)


@pytest.mark.parametrize("bits", [1, 9, True, 4.0, "binary"])
def test_other_numbers_of_bits_are_refused(bits: Any) -> None:
    with pytest.raises(UsageError, match="from 2 to 8, or 'ternary'"):
        WeightGrid(bits)


def test_another_sharing_of_scales_is_refused() -> None:
    with pytest.raises(UsageError, match="Did you mean 'channel'"):
        WeightGrid(8, "chanel")


# ---------------------------------------------------------------------------- spikes lose nothing


@hypothesis.settings(max_examples=30)
@given(
    hnp.arrays(np.bool_, (3, 5)),
    st.sampled_from([2, 4, 8]),
    st.sampled_from([1.0, 0.37, 3e-5, 7e12]),
)
def test_spikes_lie_on_every_grid(raster: np.ndarray[Any, Any], bits: int, height: float) -> None:
    assert binary_activation_error(jnp.asarray(raster, jnp.float32), bits) == 0
    assert binary_activation_error(jnp.asarray(raster * height, jnp.float32), bits) <= 1e-7 * height


def test_what_is_no_spike_loses_what_it_should() -> None:
    x = jnp.array([0.0, 0.2, -0.9, 1.0])
    assert binary_activation_error(x, 2) == pytest.approx(0.2)
    assert binary_activation_error(x, 8) == pytest.approx(abs(0.2 - 25 / 127), rel=1e-4)


@pytest.mark.parametrize("bits", [1, 25, 2.0, True])
def test_activations_of_no_bits_are_refused(bits: Any) -> None:
    with pytest.raises(UsageError, match="from 2 to 24"):
        binary_activation_error.__wrapped__(jnp.ones(1), bits)


def test_no_activations_are_refused() -> None:
    with pytest.raises(UsageError, match="no activations"):
        binary_activation_error(jnp.ones((0, 3)), 8)


@pytest.mark.parametrize("bits", [8, "ternary"])
def test_a_layer_is_the_scale_times_an_integer_sum_to_the_bit(bits: Any) -> None:
    x = spikes(KEYS[0], (300,))
    dense = quantise(eqx.nn.Linear(300, 7, key=KEYS[1]), bits)
    values, scale, _ = integer_weights(dense)["value"]
    sums = values.astype(np.int64) @ np.asarray(x, np.int64)
    expected = scale[:, 0] * sums.astype(np.float32) + np.asarray(dense.layer.bias)
    np.testing.assert_array_equal(dense(x), expected)

    image = spikes(KEYS[2], (4, 6, 6))
    conv = quantise(eqx.nn.Conv2d(4, 3, 3, stride=2, groups=1, key=KEYS[3]), bits)
    values, scale, _ = integer_weights(conv)["value"]
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(image, np.int64), (3, 3), (1, 2))[:, ::2, ::2]
    sums = np.einsum("ochw,cijhw->oij", values.astype(np.int64), windows)
    expected = scale[:, 0] * sums.astype(np.float32) + np.asarray(conv.layer.bias)
    np.testing.assert_array_equal(conv(image), expected)


def test_recurrent_weights_are_the_scale_times_an_integer_sum_to_the_bit() -> None:
    plain = RecurrentLIF(9, decay=0.5, weight_scale=1.0, key=KEYS[0])
    cell = quantise(plain, 4)
    state = cell.init_state(2)._replace(voltage=2 * spikes(KEYS[1], (2, 9)))
    after, out = cell(state, jnp.zeros((2, 9)))
    values, scale, _ = integer_weights(cell)["value"]
    sums = (np.asarray(out, np.int64) @ values.astype(np.int64).T).astype(np.float32)
    expected = np.float32(0.5) * np.asarray(state.voltage) - np.asarray(out) + sums * scale[:, 0]
    np.testing.assert_array_equal(after.voltage, expected)
    assert out.sum() > 0


@pytest.mark.parametrize("per", ["channel", "tensor"])
@pytest.mark.parametrize("features", [("scalar", 3), (3, "scalar")])
def test_scalar_features_and_one_scale_for_all(features: Any, per: str) -> None:
    layer = eqx.nn.Linear(*features, key=KEYS[0])
    x = jnp.ones(() if features[0] == "scalar" else 3)
    quantised = quantise(layer, 8, per=per)
    assert quantised(x).shape == layer(x).shape
    np.testing.assert_allclose(quantised(x), layer(x), atol=0.02)


# ---------------------------------------------------------------------------- models


def test_a_frozen_network_gives_the_bits_of_the_trained_one() -> None:
    quantised = quantise(network(), 4)
    frozen = freeze(quantised)
    x = spikes(KEYS[4], (2, 9, 1, 6, 6))
    run = eqx.filter_jit(lambda model, x: model(x))
    out = run(quantised, x)
    assert np.unique(out).size > 3
    np.testing.assert_array_equal(run(frozen, x), out)
    held = [leaf.dtype for leaf in jax.tree.leaves(frozen) if eqx.is_array(leaf)]
    assert held.count(jnp.int8) == 4
    assert list(integer_weights(frozen)) == ["layers.0", "layers.3", "layers.4", "layers.5"]
    for ours, theirs in zip(integer_weights(frozen).values(), integer_weights(quantised).values(), strict=True):
        np.testing.assert_array_equal(ours.values, theirs.values)
        np.testing.assert_array_equal(ours.scale, theirs.scale)
        assert ours.nbytes < theirs.values.size + 4 * theirs.scale.size + 1


def test_only_the_layers_asked_for_are_quantised() -> None:
    first = quantise(network(), 8, where=lambda net: net.layers[0])
    assert list(integer_weights(first)) == ["layers.0"]
    both = quantise(first, "ternary", where=lambda net: (net.layers[3], net.layers[5]))
    assert {name: weight.bits for name, weight in integer_weights(both).items()} == {
        "layers.0": 8,
        "layers.3": 2,
        "layers.5": 2,
    }


def test_gradients_reach_every_weight_of_a_spiking_network() -> None:
    quantised = quantise(network(), 4)
    x = spikes(KEYS[4], (2, 9, 1, 6, 6))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda model: jnp.sum(model(x)[..., 0])))(quantised)
    for index in (0, 3, 5):
        assert np.any(gradient.layers[index].layer.weight != 0)
    assert np.any(gradient.layers[4].weight != 0)


def test_training_on_the_grid_beats_rounding_after_training() -> None:
    rng = np.random.default_rng(4)
    x = jnp.asarray((rng.random((256, 12)) < 0.5).astype(np.float32))
    truth = jnp.asarray(rng.normal(size=(12, 2)).astype(np.float32))
    y = x @ truth
    loss = lambda model: jnp.mean((jax.vmap(model)(x) - y) ** 2)

    @eqx.filter_jit
    def fit(model: Any, rate: Any) -> Any:
        optimiser = optax.adam(optax.cosine_decay_schedule(rate, 400))
        params, rest = eqx.partition(model, eqx.is_inexact_array)

        def step(carry: Any, _: Any) -> Any:
            params, state = carry
            gradient = jax.grad(lambda p: loss(eqx.combine(p, rest)))(params)
            with jax.numpy_dtype_promotion("standard"):
                updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        (params, _), _ = jax.lax.scan(step, (params, optimiser.init(params)), length=400)
        return eqx.combine(params, rest)

    trained = fit(eqx.nn.Linear(12, 2, key=KEYS[0]), 0.1)
    rounded = quantise(trained, "ternary")
    tuned = fit(rounded, 0.01)
    assert loss(trained) < 1e-2
    assert loss(tuned) < 0.7 * loss(rounded)
    assert loss(freeze(tuned)) == loss(tuned)


def test_what_cannot_be_quantised_is_named() -> None:
    with pytest.raises(UsageError, match="nothing to quantise in a Network"):
        quantise(Network([LeakyIntegrator(3)]), 8)
    with pytest.raises(UsageError, match="a LeakyIntegrator cannot be quantised"):
        quantise(Network([LeakyIntegrator(3)]), 8, where=lambda net: net.layers[0])
    with pytest.raises(UsageError, match="nothing to quantise in a ConvTranspose2d"):
        quantise(eqx.nn.ConvTranspose2d(1, 1, 3, key=KEYS[0]), 8)
    with pytest.raises(UsageError, match="a QuantisedLayer is quantised already"):
        quantise(quantise(network(), 8), 8)
    with pytest.raises(UsageError, match="nothing in this Linear is quantised"):
        freeze(eqx.nn.Linear(2, 2, key=KEYS[0]))
    with pytest.raises(UsageError, match="nothing in this Linear is quantised"):
        integer_weights(eqx.nn.Linear(2, 2, key=KEYS[0]))


def test_a_frozen_layer_holds_int8() -> None:
    frozen = freeze(quantise(eqx.nn.Linear(4, 2, key=KEYS[0]), 4))
    assert isinstance(frozen, IntegerLayer)
    assert frozen.layer.weight.dtype == jnp.int8
