"""Conversion: the count of a neuron in closed form, the network against the textbook's, outputs against the source."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from hardgrad.core import UsageError
from hardgrad.spiking import (
    ConvertedIF,
    ConvertedReadout,
    Flatten,
    Network,
    SumPool2d,
    accuracy_over_time,
    calibrate_biases,
    convert,
    integer_weights,
    latency,
    logits_over_time,
    quantise,
    run,
)

KEYS = jax.random.split(jax.random.key(11), 8)
relu = eqx.nn.Lambda(jax.nn.relu)


def mlp(*, depth: int = 2) -> eqx.nn.MLP:
    return eqx.nn.MLP(6, 3, 12, depth, activation=jax.nn.relu, key=KEYS[0])


def cnn() -> eqx.nn.Sequential:
    return eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(2, 4, 3, padding=1, key=KEYS[0]),
            relu,
            eqx.nn.AvgPool2d(2, 2),
            eqx.nn.Conv2d(4, 6, 3, groups=2, use_bias=False, key=KEYS[1]),
            eqx.nn.Dropout(0.5),
            relu,
            Flatten(),
            eqx.nn.Linear(24, 5, key=KEYS[2]),
            relu,
            eqx.nn.Linear(5, 3, key=KEYS[3]),
        ]
    )


SOURCES = {"mlp": (mlp, (6,)), "cnn": (cnn, (2, 8, 8))}


def source(name: str, samples: int = 9) -> tuple[Any, jax.Array]:
    make, shape = SOURCES[name]
    return eqx.nn.inference_mode(make()), jax.random.uniform(KEYS[4], (samples, *shape))


# ---------------------------------------------------------------------------- the neuron


@pytest.mark.parametrize(("start", "threshold"), [(0.5, 1.0), (0.0, 0.7), (1.0, 1.0)])
def test_a_neuron_counts_its_input_to_the_nearest_spike(x64: None, start: float, threshold: float) -> None:
    steps, z = 41, np.random.default_rng(0).uniform(-0.5, 1.5, 300)
    cell = ConvertedIF(300, start=start, threshold=threshold, delay=3)
    x = jnp.full((1, steps + 4, 300), jnp.asarray(z)[None, None])
    spikes = np.asarray(run(Network([cell]), x).outputs)[0]
    assert not spikes[:4].any()
    counts = spikes.cumsum(axis=0)[4:]
    for t in (1, 2, 17, steps):
        expected = np.clip(np.ceil(t * z / threshold + start) - 1, 0, t)
        np.testing.assert_array_equal(counts[t - 1], expected)
    inside = (z > 0) & (z < threshold)
    if start == 0.5:
        assert np.all(np.abs(counts[-1] / steps - z / threshold)[inside] <= 0.5 / steps + 1e-12)


def test_a_readout_is_silent_until_its_input_arrives() -> None:
    x = jnp.ones((2, 5, 3))
    out = run(Network([ConvertedReadout((3,), delay=2)]), x).outputs
    np.testing.assert_array_equal(out, np.ones((2, 5, 3)) * (np.arange(5) >= 2)[:, None])


@pytest.mark.parametrize("start", [-0.1, 1.1, float("nan")])
def test_a_start_beyond_the_threshold_is_refused(start: float) -> None:
    with pytest.raises(UsageError, match="share of the threshold, from 0 to 1"):
        ConvertedIF(3, start=start)


# ---------------------------------------------------------------------------- the network


def textbook(network: Network, x: Any, steps: int) -> tuple[list[Any], Any]:
    """Integrate, fire, subtract, every layer in the same step: no delays at all. Spikes by layer, outputs."""

    @jax.jit
    def step(voltages: dict[int, Any]) -> Any:
        value, after, spikes = x, {}, []
        for index, layer in enumerate(network.layers):
            if isinstance(layer, ConvertedIF):
                voltage = voltages.get(index, 0.5) + value
                value = (voltage > 1).astype(x.dtype)
                after[index] = voltage - value
                spikes.append(value)
            elif not isinstance(layer, ConvertedReadout):
                value = jax.vmap(layer)(value)
        return after, spikes, value

    voltages = {
        i: jnp.full((len(x), *m.units), 0.5) for i, m in enumerate(network.layers) if isinstance(m, ConvertedIF)
    }
    spikes, outputs = [], []
    for _ in range(steps):
        voltages, fired, out = step(voltages)
        spikes.append(fired)
        outputs.append(out)
    return [np.stack(layer, axis=1) for layer in zip(*spikes, strict=True)], np.stack(outputs, axis=1)


@pytest.mark.parametrize("name", SOURCES)
def test_a_converted_network_is_the_textbooks_a_step_later_in_each_layer(x64: None, name: str) -> None:
    model, x = source(name, samples=3)
    spiking = convert(model, x, per="layer")
    steps, wait = 12, latency(spiking)
    spikes, outputs = textbook(spiking, x, steps)
    found = run(spiking, jnp.repeat(x[:, None], steps + wait, axis=1), record=True)
    ours = [s for s in found.spikes if s is not None]
    assert len(ours) == len(spikes) == wait
    for layer, (mine, theirs) in enumerate(zip(ours, spikes, strict=True), start=1):
        assert not mine[:, :layer].any()
        np.testing.assert_array_equal(mine[:, layer : layer + steps], theirs)
        assert theirs.any()
    assert not found.outputs[:, :wait].any()
    np.testing.assert_allclose(found.outputs[:, wait:], outputs, rtol=1e-12, atol=1e-12)
    means = np.cumsum(outputs, axis=1) / np.arange(1, steps + 1)[:, None]
    np.testing.assert_allclose(logits_over_time(spiking, x, steps), means, rtol=1e-11, atol=1e-12)


@eqx.filter_jit
def as_relu(network: Network, x: Any) -> tuple[list[Any], Any]:
    """The converted network read with a ReLU for each neuron: its activations and outputs."""
    rates = []
    for layer in network.layers:
        if isinstance(layer, ConvertedIF):
            x = jax.nn.relu(x)
            rates.append(x)
        elif not isinstance(layer, ConvertedReadout):
            x = jax.vmap(layer)(x)
    return rates, x


@pytest.mark.parametrize("per", ["layer", "channel"])
@pytest.mark.parametrize("name", SOURCES)
def test_scaled_weights_leave_the_function_as_it_was(x64: None, name: str, per: str) -> None:
    model, x = source(name)
    wanted = jax.jit(jax.vmap(model))(x)
    for percentile in (100.0, 90.0):
        rates, outputs = as_relu(convert(model, x, percentile=percentile, per=per), x)
        np.testing.assert_allclose(outputs, wanted, rtol=1e-10)
        for rate in rates:
            over = (0,) if rate.ndim == 2 else (0, 2, 3)
            largest = rate.max(axis=over if per == "channel" else None)
            active = largest[largest > 0]
            assert active.size
            if percentile == 100:
                np.testing.assert_allclose(active, 1.0, rtol=1e-12)
            else:
                share = np.percentile(rate, percentile, axis=over if per == "channel" else None)
                np.testing.assert_allclose(share[share > 0], 1.0, rtol=1e-10)


@pytest.mark.parametrize("name", SOURCES)
def test_the_mean_output_goes_to_the_sources(name: str) -> None:
    model, x = source(name)
    wanted = np.asarray(jax.jit(jax.vmap(model))(x))
    found = np.asarray(logits_over_time(convert(model, x, percentile=100.0), x, 400))
    error = np.abs(found - wanted[:, None]).max(axis=(0, 2))
    assert error[399] < 0.02
    assert error[399] < error[99] / 2 < error[9] / 4


def test_every_way_of_giving_layers_is_the_same_conversion() -> None:
    model, x = source("mlp")
    row = [part for layer in model.layers for part in (layer, jax.nn.relu)][:-1]
    wanted = jax.tree.leaves(convert(model, x))
    for given in (row, Network(row), eqx.nn.Sequential([eqx.nn.Lambda(f) if f is jax.nn.relu else f for f in row])):
        for ours, theirs in zip(jax.tree.leaves(convert(given, x)), wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_network_that_ends_in_a_relu_ends_in_spikes() -> None:
    x = jax.random.uniform(KEYS[0], (4, 6))
    spiking = convert([eqx.nn.Linear(6, 5, key=KEYS[1]), relu], x, percentile=100.0)
    assert [type(layer) for layer in spiking.layers] == [eqx.nn.Linear, ConvertedIF]
    rates = logits_over_time(spiking, x, 200)[:, -1]
    np.testing.assert_allclose(rates, as_relu(spiking, x)[0][0], atol=0.5 / 200 + 1e-6)


def test_pools_and_flattened_maps_keep_their_scales(x64: None) -> None:
    x = jax.random.uniform(KEYS[0], (5, 1, 4, 4))
    conv = eqx.nn.Conv2d(1, 3, 3, padding=1, key=KEYS[1])
    model = [conv, relu, SumPool2d(2), jnp.ravel, eqx.nn.Linear(12, 2, key=KEYS[2])]
    spiking = convert(model, x, percentile=100.0)
    wanted = x
    for layer in model:
        wanted = jax.vmap(layer)(wanted)
    np.testing.assert_allclose(as_relu(spiking, x)[1], wanted, rtol=1e-10)


def test_units_that_are_rarely_or_never_active_keep_a_finite_scale() -> None:
    layer = eqx.nn.Linear(2, 3, key=KEYS[0])
    weight, bias = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), jnp.array([-2.0, -0.9, 0.0])
    layer = eqx.tree_at(lambda m: (m.weight, m.bias), layer, (weight, bias))
    x = jnp.concatenate([jnp.full((99, 2), 0.5), jnp.ones((1, 2))])
    rates, _ = as_relu(convert([layer, relu], x, percentile=50.0), x)
    np.testing.assert_allclose(rates[0].max(axis=0), [0.0, 1.0, 2.0], rtol=1e-5)


# ---------------------------------------------------------------------------- on digits


@pytest.fixture(scope="module")
def digits() -> tuple[Any, Any, Any, Any, Any]:
    """A multilayer perceptron trained by scikit-learn, its training inputs, and held-out inputs and labels."""
    data = load_digits()
    x, y = (data.data / 16).astype(np.float32), data.target
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:1200], order[1200:]
    fitted = MLPClassifier((48, 48), early_stopping=True, max_iter=60, random_state=0).fit(x[train], y[train])
    layers: list[Any] = []
    for weight, bias in zip(fitted.coefs_, fitted.intercepts_, strict=True):
        layer = eqx.nn.Linear(*weight.shape, key=KEYS[0])
        parts = (jnp.asarray(weight.T, jnp.float32), jnp.asarray(bias, jnp.float32))
        layers += [eqx.tree_at(lambda m: (m.weight, m.bias), layer, parts), jax.nn.relu]
    accuracy = fitted.score(x[test], y[test])
    return layers[:-1], jnp.asarray(x[train]), jnp.asarray(x[test]), jnp.asarray(y[test]), accuracy


def test_digits_convert_within_a_point_of_their_source(digits: Any) -> None:
    layers, x, x_test, y_test, accuracy = digits
    assert accuracy > 0.9
    over_time = accuracy_over_time(convert(layers, x[:500]), x_test, y_test, 64)
    assert over_time[63] >= accuracy - 0.005
    assert over_time[15] >= accuracy - 0.01
    assert over_time[0] < accuracy


def test_corrected_biases_make_up_for_few_steps(digits: Any) -> None:
    layers, x, x_test, _, _ = digits
    converted = convert(layers, x[:500], percentile=100.0, per="layer", start=0.0)
    corrected = calibrate_biases(converted, x[:500], steps=6)
    _, wanted = as_relu(converted, x_test)
    error = lambda network: float(jnp.mean((logits_over_time(network, x_test, 6)[:, -1] - wanted) ** 2))
    assert error(corrected) < 0.5 * error(converted)


def test_a_converted_network_trains_and_quantises(digits: Any) -> None:
    layers, x, _, _, _ = digits
    _, labels = as_relu(convert(layers, x[:64]), x[:64])
    labels = labels.argmax(axis=-1)
    converted = quantise(convert(layers, x[:64], percentile=100.0, per="layer"), 4)
    held = jnp.repeat(x[:64, None], 6, axis=1)

    def loss(params: Any, rest: Any) -> Any:
        logits = run(eqx.combine(params, rest), held).outputs.sum(axis=1)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    params, rest = eqx.partition(converted, eqx.is_inexact_array)
    slope = jax.jit(jax.value_and_grad(lambda params: loss(params, rest)))
    optimiser = optax.adam(2e-3)
    state, losses = optimiser.init(params), []
    for _ in range(12):
        value, gradient = slope(params)
        losses.append(float(value))
        assert all(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(gradient))
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimiser.update(gradient, state)
        params = optax.apply_updates(params, updates)
    assert losses[-1] < 0.7 * losses[0]
    assert len(integer_weights(eqx.combine(params, rest))) == 3


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (eqx.nn.MaxPool2d(2), "layer 2, MaxPool2d, cannot be converted: .* train with AvgPool"),
        (eqx.nn.LayerNorm(3), "layer 2, LayerNorm, cannot be converted: fold"),
        (eqx.nn.Lambda(jnp.tanh), "layer 2, a function 'tanh', cannot be converted: its output is no rate"),
        (quantise(eqx.nn.Linear(3, 3, key=KEYS[0]), 8), "convert first, then quantise"),
    ],
)
def test_what_cannot_be_converted_is_named_with_what_to_do(layer: Any, message: str) -> None:
    x = jnp.ones((2, 3))
    with pytest.raises(UsageError, match=message):
        convert([eqx.nn.Linear(3, 3, key=KEYS[0]), relu, layer], x)


def test_bad_settings_are_refused() -> None:
    model, x = source("mlp")
    with pytest.raises(UsageError, match="percentile must be above 0 and at most 100, got 0"):
        convert(model, x, percentile=0.0)
    with pytest.raises(UsageError, match="Did you mean 'channel'"):
        convert(model, x, per="chanel")
    with pytest.raises(UsageError, match="inputs are empty"):
        convert(model, x[:0])
    with pytest.raises(UsageError, match="not finite"):
        convert(model, x.at[0].set(jnp.nan))
    with pytest.raises(UsageError, match="ReLU before any weights"):
        convert([relu, eqx.nn.Linear(6, 3, key=KEYS[0])], x)
    with pytest.raises(UsageError, match="nothing to convert"):
        convert([Flatten()], x)
    with pytest.raises(UsageError, match="no converted neurons"):
        calibrate_biases(Network([eqx.nn.Linear(6, 3, key=KEYS[0])]), x, steps=4)
    spiking = convert(model, x)
    with pytest.raises(UsageError, match="steps"):
        logits_over_time(spiking, x, 0)
    images = source("cnn")[1]
    maps = convert([eqx.nn.Conv2d(2, 1, 3, key=KEYS[0]), relu], images)
    with pytest.raises(UsageError, match="one output a class"):
        accuracy_over_time(maps, images, jnp.zeros(9, int), 2)


def test_a_relu_behind_a_flatten_converts_by_layer_only() -> None:
    _, x = source("cnn")
    row = [eqx.nn.Conv2d(2, 1, 3, key=KEYS[0]), Flatten(), relu, eqx.nn.Linear(36, 2, key=KEYS[1])]
    with pytest.raises(UsageError, match="layer 2, a ReLU, follows a Flatten"):
        convert(row, x)
    assert latency(convert(row, x, per="layer")) == 1
