"""Losses, penalties and the objective: against NumPy, against closed forms, and in use."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy.special import huber, log_softmax

import hardgrad as hg
from hardgrad.core import UsageError
from hardgrad.spiking import (
    LIF,
    CrossEntropy,
    FirstSpikeLoss,
    LeakyIntegrator,
    MembraneError,
    Network,
    SilencePenalty,
    SparsityPenalty,
    SpikeCountError,
    SpikingObjective,
    StepCrossEntropy,
    accuracy,
    first_spike_times,
    pack_bits,
    readout,
    run,
)

BATCH, TIME, CLASSES = 6, 9, 4
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
TRACES = RNG.standard_normal((BATCH, TIME, CLASSES))
LABELS = np.array([0, 3, 1, 1, 2, 0])
READ = {"sum": TRACES.sum(1), "mean": TRACES.mean(1), "last": TRACES[:, -1], "max": TRACES.max(1)}


@pytest.mark.parametrize("kind", READ)
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_cross_entropy_of_a_readout(x64, kind, smoothing):
    target = (1 - smoothing) * np.eye(CLASSES)[LABELS] + smoothing / CLASSES
    expected = -(target * log_softmax(READ[kind], axis=1)).sum(1).mean()
    loss = CrossEntropy(kind, smoothing)
    np.testing.assert_allclose(loss(jnp.array(TRACES), jnp.array(LABELS)), expected, rtol=1e-13)
    np.testing.assert_allclose(readout(jnp.array(TRACES), kind), READ[kind], rtol=1e-13)
    hits = (READ[kind].argmax(1) == LABELS).mean()
    assert float(accuracy(jnp.array(TRACES), jnp.array(LABELS), kind)) == pytest.approx(hits)


def test_cross_entropy_of_every_step(x64):
    expected = -log_softmax(TRACES, axis=2)[np.arange(BATCH), :, LABELS].mean()
    np.testing.assert_allclose(StepCrossEntropy()(jnp.array(TRACES), jnp.array(LABELS)), expected, rtol=1e-13)


def test_spike_counts_are_compared_with_counts(x64):
    spikes = (RNG.random((BATCH, TIME, CLASSES)) < 0.4).astype(float)
    asked = 0.5 * TIME * (0.9 * np.eye(CLASSES)[LABELS] + 0.1 / CLASSES)  # counts
    expected = np.mean(((spikes.sum(1) - asked) / TIME) ** 2)
    loss = SpikeCountError(rate=0.5, smoothing=0.1)
    np.testing.assert_allclose(loss(jnp.array(spikes), jnp.array(LABELS)), expected, rtol=1e-13)


def test_the_membrane_is_compared_at_every_step(x64):
    asked = np.where(np.eye(CLASSES)[LABELS][:, None], 2.0, -0.5)
    found = MembraneError(right=2.0, wrong=-0.5)(jnp.array(TRACES), jnp.array(LABELS))
    np.testing.assert_allclose(found, np.mean((TRACES - asked) ** 2), rtol=1e-13)


LOSSES = [CrossEntropy(), StepCrossEntropy(0.2), SpikeCountError(), MembraneError(), FirstSpikeLoss(2.0)]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_gradients_are_those_of_finite_differences(x64, loss):
    traces = jnp.array(RNG.random((2, 4, 3)))
    labels = jnp.array([2, 0])
    check_grads(
        jax.jit(lambda traces: loss(traces, labels)), (traces,), order=1, modes=("fwd", "rev"), atol=1e-6, rtol=1e-6
    )


_first_spike = jax.jit(jax.value_and_grad(lambda spikes: first_spike_times(spikes)[0, 0]))
trains = st.lists(st.integers(0, 1), min_size=TIME, max_size=TIME)


@settings(max_examples=40)
@given(trains)
def test_the_first_spike_and_its_gradient_in_closed_form(train):
    spikes = jnp.array(train, jnp.float32).reshape(1, TIME, 1)
    value, gradient = _first_spike(spikes)
    at = [t for t, s in enumerate(train) if s]
    first = at[0] if at else TIME
    second = at[1] if len(at) > 1 else TIME
    assert value == first
    expected = [u - first if u < first else (first - second if u == first else 0) for u in range(TIME)]
    assert gradient[0, :, 0].tolist() == expected


def test_the_right_class_is_to_spike_first():
    spikes = jnp.zeros((1, 5, 2)).at[0, 1, 0].set(1.0).at[0, 3, 1].set(1.0)
    early, late = FirstSpikeLoss()(spikes, jnp.array([0])), FirstSpikeLoss()(spikes, jnp.array([1]))
    assert float(early) == pytest.approx(np.log1p(np.exp(-2.0)), rel=1e-5)
    assert float(late) == pytest.approx(np.log1p(np.exp(2.0)), rel=1e-5)


COUNTS = [RNG.integers(0, 6, (BATCH, 5)).astype(float), RNG.integers(0, 3, (BATCH, 2, 3)).astype(float)]


@pytest.mark.parametrize("published", [False, True])
def test_penalties_are_their_formulas(x64, published):
    total = np.sum if published else np.mean
    counts = [jnp.array(c) for c in COUNTS]
    silence = 0.5 * sum(total(np.maximum(0, 2.5 - c.mean(0)) ** 2) for c in COUNTS)
    busy = 0.5 * sum(total(huber(1.0, np.maximum(0, c.reshape(BATCH, -1).mean(1) - 0.8))) for c in COUNTS)
    np.testing.assert_allclose(SilencePenalty(2.5, 0.5, published=published)(counts), silence, rtol=1e-13)
    np.testing.assert_allclose(SparsityPenalty(0.8, 0.5, published=published)(counts), busy, rtol=1e-13)
    assert SilencePenalty(0.0)(counts) == SparsityPenalty(100.0)(counts) == 0


def test_a_mean_penalty_does_not_grow_with_width_or_batch():
    wide = [jnp.array(np.tile(c, (3, *[2] * (c.ndim - 1)))) for c in COUNTS]
    for penalty in (SilencePenalty(2.5), SparsityPenalty(0.8)):
        np.testing.assert_allclose(penalty(wide), penalty([jnp.array(c) for c in COUNTS]), rtol=1e-5)


# ------------------------------------------------------------------------------------------------------ the objective


def network(threshold=0.5):
    keys = jax.random.split(jax.random.key(1), 3)
    return Network(
        [
            eqx.nn.Linear(5, 12, key=keys[0]),
            LIF(12, threshold=threshold, key=keys[1]),
            eqx.nn.Linear(12, CLASSES, key=keys[2]),
            LeakyIntegrator(CLASSES),
        ]
    )


def batch(size=BATCH):
    labels = np.arange(size) % CLASSES
    inputs = np.random.default_rng(2).random((size, TIME, 5)) < np.where(np.eye(5)[labels], 0.9, 0.1)[:, None]
    return jnp.asarray(inputs, jnp.float32), jnp.asarray(labels)


def test_the_objective_is_the_loss_and_its_penalties_and_says_how_busy_cells_are():
    model, (inputs, labels) = network(), batch()
    penalties = (SilencePenalty(3.0, 0.1), SparsityPenalty(1.0))
    objective = SpikingObjective(CrossEntropy("mean"), penalties=penalties)
    loss, metrics = eqx.filter_jit(objective)(model, (inputs, labels), {}, jax.random.key(0))
    found = run(model, inputs, record=True)
    counts = [found.spikes[0].sum(1)]
    penalty = sum(p(counts) for p in penalties)
    np.testing.assert_allclose(metrics["penalty"], penalty, rtol=1e-5)
    np.testing.assert_allclose(loss, CrossEntropy("mean")(found.outputs, labels) + penalty, rtol=1e-5)
    np.testing.assert_allclose(metrics["firing_rate"], found.spikes[0].mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["silent_units"], (counts[0].sum(0) == 0).mean(), rtol=1e-5)
    assert metrics["accuracy"] == accuracy(found.outputs, labels, "mean")


def test_silent_and_saturated_units_are_counted():
    objective, key = eqx.filter_jit(SpikingObjective()), jax.random.key(0)
    _, silent = objective(network(threshold=1e6), batch(), {}, key)
    assert (silent["silent_units"], silent["saturated_units"], silent["firing_rate"]) == (1.0, 0.0, 0.0)
    on = eqx.tree_at(lambda n: n.layers[0].bias, network(), jnp.full(12, 100.0))
    _, busy = objective(on, (jnp.ones((2, 20, 5)), jnp.array([0, 1])), {}, key)
    assert (busy["silent_units"], busy["saturated_units"]) == (0.0, 1.0)
    assert busy["firing_rate"] == pytest.approx(0.95)  # nothing can spike at the first step


def test_penalties_reach_the_weights_of_silent_units():
    model = network(threshold=1.5)
    penalty = SpikingObjective(penalties=(SilencePenalty(2.0, 1e3),))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda m: penalty(m, batch(), {}, KEY)[0]))(model)
    assert (jnp.abs(gradient.layers[0].bias) > 0.1).all()


def test_packed_inputs_train_as_the_spikes_they_hold():
    model, (inputs, labels), key = network(), batch(), jax.random.key(0)
    value = eqx.filter_jit(eqx.filter_value_and_grad(lambda m, o, x: o(m, (x, labels), {}, key)[0]))
    loss, gradient = value(model, SpikingObjective(), inputs)
    packed_loss, packed_gradient = value(model, SpikingObjective(steps=TIME, segment=4), pack_bits(inputs))
    np.testing.assert_allclose(packed_loss, loss, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5), packed_gradient, gradient)


def test_any_function_of_inputs_is_a_model_too():
    class Plain(eqx.Module):
        network: Network

        def __call__(self, inputs):
            return self.network(inputs)

    key = jax.random.key(0)
    loss, metrics = SpikingObjective()(Plain(network()), batch(), {}, key)
    expected, _ = SpikingObjective()(network(), batch(), {}, key)
    assert (loss, list(metrics)) == (expected, ["accuracy"])


def test_it_trains_with_the_trainer_like_anything_else():
    inputs, labels = batch(32)
    data = hg.InMemory((pack_bits(inputs), labels), batch_size=16)
    trainer = hg.Trainer(hg.GradientMethod(hg.Autodiff(), optax.adam(0.05)))
    result = trainer.fit(network(), SpikingObjective(steps=TIME), data, epochs=15)
    outputs = result.model(inputs)
    assert accuracy(outputs, labels) > 0.9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: CrossEntropy("average"), "readout is not 'average'. Known: last, max, mean, sum"),
        (lambda: CrossEntropy(smoothing=1.0), "smoothing must be at least 0 and below 1, got 1.0"),
        (lambda: SpikeCountError(rate=0.0), "above 0 and at most 1, got 0.0"),
        (lambda: FirstSpikeLoss(0.0), "temperature must be positive"),
        (lambda: SilencePenalty(-1.0), "least must be at least 0 and finite, got -1.0"),
        (lambda: SilencePenalty(1.0)(()), "at least one spiking cell"),
        (lambda: CrossEntropy()(jnp.ones((2, 3)), jnp.array([0, 1])), r"traces are \[batch, time, classes\]"),
        (lambda: CrossEntropy()(jnp.ones((2, 3, 4)), jnp.array([0, 1, 2])), r"need 2, got int32 of shape \(3,\)"),
        (lambda: accuracy(jnp.ones((2, 3, 4)), jnp.ones(2)), "integers"),
        (
            lambda: SpikingObjective()(
                network(), (jnp.zeros((2, 2, 5), jnp.uint8), jnp.array([0, 1])), {}, jax.random.key(0)
            ),
            r"say how many steps they hold, SpikingObjective\(steps=",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_wrong(call, message):
    with pytest.raises(UsageError, match=message):
        call()


@pytest.mark.parametrize("loss", [CrossEntropy(), StepCrossEntropy(), SpikeCountError()], ids=lambda loss: str(loss))
@pytest.mark.parametrize("label", [-1, 3])
def test_a_class_that_there_is_not_makes_the_loss_nan(loss, label):
    traces = jnp.ones((2, 4, 3))
    assert jnp.isfinite(loss(traces, jnp.array([0, 2])))
    assert jnp.isnan(loss(traces, jnp.array([0, label])))
