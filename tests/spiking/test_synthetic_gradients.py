"""Synthetic gradients: the right fixed point where it is known, exact where predictions are, and of use on a task."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg

import hardgrad as hg
from hardgrad.core import UsageError
from hardgrad.spiking import LIF, DecoupledModel, LeakyIntegrator, Network, SuperSpike, SyntheticGradients, run

KEYS = jax.random.split(jax.random.key(0), 8)


class Linear(eqx.Module):
    """h ← A h + x, sends h."""

    matrix: Any

    def init_state(self, batch: int) -> Any:
        return jnp.zeros((batch, self.matrix.shape[0]), self.matrix.dtype)

    def step(self, state: Any, x: Any) -> Any:
        state = state @ self.matrix.T + x
        return state, state


class Tanh(eqx.Module):
    """h ← tanh(W h + U x), sends V h."""

    inner: Any
    outer: Any
    readout: Any

    def init_state(self, batch: int) -> Any:
        return jnp.zeros((batch, self.inner.in_features), self.inner.weight.dtype)

    def step(self, state: Any, x: Any) -> Any:
        state = jnp.tanh(jax.vmap(self.inner)(state) + jax.vmap(self.outer)(x))
        return state, jax.vmap(self.readout)(state)


def energy(outputs: Any, targets: Any) -> Any:
    """½ xᵀ x, a mean over the batch."""
    return jnp.mean(jnp.sum(jnp.square(outputs), axis=-1)) / 2


def test_the_predictor_finds_the_true_future_gradient_of_a_linear_system() -> None:
    """With E = Σ_t ½|h_t|² and h ← A h, the gradient of what follows h is P h, P = Aᵀ(I + P)A."""
    matrix = np.array([[0.7, 0.3], [-0.4, 0.6]])
    expected = scipy.linalg.solve_discrete_lyapunov(matrix.T, matrix.T @ matrix)
    segment, time = 3, 12
    objective = SyntheticGradients(energy, segment=segment, readout="sequence", end="predicted")
    rng = np.random.default_rng(0)
    noise = 3 * rng.normal(size=(256, time, 2)).astype(np.float32)
    noise[:, 1:] = 0  # nothing comes in later that no predictor could know of
    data = noise, np.zeros((256, time), np.float32)
    model = objective.prepare(Linear(jnp.asarray(matrix, jnp.float32)), data, depth=0, key=KEYS[0])
    trainable = eqx.tree_at(lambda m: m.network.matrix, jax.tree.map(eqx.is_inexact_array, model), False)
    trainer = hg.Trainer(hg.GradientMethod(hg.Autodiff(), optax.adam(optax.exponential_decay(1e-2, 60, 0.5))))
    result = trainer.fit(model, objective, data, epochs=60, batch_size=32, trainable=trainable)
    (layer,) = result.model.predictor.layers
    found = time * np.asarray(layer.weight)  # losses of steps are averaged over time
    assert np.abs(expected).max() > 1.0
    np.testing.assert_allclose(found, expected, atol=0.02)
    np.testing.assert_allclose(time * np.asarray(layer.bias), 0, atol=0.02)
    assert result.history[0].metrics["synthetic_error"] > 0.3
    assert result.history[-1].metrics["synthetic_error"] < 1e-3


class Oracle(eqx.Module):
    """M with the answer inside: P_left h, by how many segments are left."""

    answers: Any

    def __call__(self, features: Any) -> Any:
        left = jnp.round(features[-1] * 4).astype(jnp.int32)  # of 4 segments
        return jax.lax.stop_gradient(self.answers)[left] @ features[:2]


@pytest.mark.parametrize("loss_at_end", [False, True])
def test_with_true_predictions_the_gradient_is_that_of_the_whole(loss_at_end: bool, x64: None) -> None:
    """A linear system, finite: the future gradient is linear in h at each boundary, and the error is 0."""
    matrix = np.array([[0.7, 0.3], [-0.4, 0.6]])
    segment, time = 3, 12
    answers = np.zeros((5, 2, 2))  # of Σ_{t'>t} ½|h|²/time over the left segments
    for left in range(1, 5):
        powers = [np.linalg.matrix_power(matrix, k) for k in range(1, segment * left + 1)]
        answers[left] = sum(p.T @ p for p in powers) / time
    if loss_at_end:
        answers = np.stack([np.linalg.matrix_power(matrix, 3 * left) for left in range(5)])
        answers = np.einsum("lki,lkj->lij", answers, answers)
    rng = np.random.default_rng(0)
    noise = jnp.asarray(rng.normal(size=(6, time, 2)) * (np.arange(time) < 3)[:, None])  # silent after segment 0
    network = Linear(jnp.asarray(matrix))
    if loss_at_end:
        objective = SyntheticGradients(energy, segment=segment, readout="last")
        targets = jnp.zeros(6)
    else:
        objective = SyntheticGradients(energy, segment=segment, readout="sequence")
        targets = jnp.zeros((6, time))
    model = DecoupledModel(network, Oracle(jnp.asarray(answers)))

    def whole(network: Any) -> Any:
        state, losses = network.init_state(6), []
        for t in range(time):
            state, out = network.step(state, noise[:, t])
            losses.append(energy(out, None))
        return losses[-1] if loss_at_end else sum(losses) / time

    @eqx.filter_jit
    def differentiate(model: Any) -> Any:
        return eqx.filter_value_and_grad(lambda m: objective(m, (noise, targets), {}, jax.random.key(0)), has_aux=True)(
            model
        )

    (loss, metrics), found = differentiate(model)
    value, expected = eqx.filter_value_and_grad(whole)(network)
    np.testing.assert_allclose(loss, value, rtol=1e-13)
    np.testing.assert_allclose(found.network.matrix, expected.matrix, rtol=1e-11)
    assert metrics["synthetic_error"] < 1e-20


def test_one_segment_is_backpropagation_and_a_silent_predictor_is_truncation(x64: None) -> None:
    """A spiking network; `run` truncates the same way."""
    a, b = jax.random.split(KEYS[1])
    network = Network(
        [eqx.nn.Linear(3, 6, key=a), LIF(6, decay=0.9, surrogate=SuperSpike(2.0)), eqx.nn.Linear(6, 2, key=b),
         LeakyIntegrator(2, decay=0.9)]
    )  # fmt: skip
    inputs = jnp.asarray((np.random.default_rng(0).random((4, 12, 3)) < 0.8).astype(float))
    targets = jnp.asarray(np.random.default_rng(1).normal(size=(4, 12, 2)))

    def squared(outputs: Any, targets: Any) -> Any:
        return jnp.mean(jnp.sum(jnp.square(outputs - targets), axis=-1))

    def slope(objective: Any) -> Any:
        model = objective.prepare(network, (inputs, targets), width=4, key=KEYS[2])
        function = lambda m: objective(m, (inputs, targets), {}, KEYS[3])[0]
        return eqx.filter_jit(eqx.filter_grad(function))(model).network

    def by_run(truncate: int | None) -> Any:
        function = lambda m: squared(run(m, inputs, truncate=truncate).outputs, targets)
        return eqx.filter_jit(eqx.filter_grad(function))(network)

    for segment, truncate in ((12, None), (4, 4)):
        found = slope(SyntheticGradients(squared, segment=segment, readout="sequence"))
        jax.tree.map(lambda f, e: np.testing.assert_allclose(f, e, rtol=1e-11, atol=1e-13), found, by_run(truncate))


def test_memory_is_that_of_one_segment() -> None:
    network = Tanh(*(eqx.nn.Linear(a, b, key=k) for a, b, k in ((16, 16, KEYS[0]), (2, 16, KEYS[1]), (16, 2, KEYS[2]))))
    objective = SyntheticGradients(energy, segment=8, readout="sequence")

    def scratch(time: int) -> int:
        data = jnp.zeros((8, time, 2)), jnp.zeros((8, time))
        params, rest = eqx.partition(objective.prepare(network, data, key=KEYS[3]), eqx.is_inexact_array)
        slope = jax.jit(jax.grad(lambda p, *batch: objective(eqx.combine(p, rest), batch, {}, KEYS[4])[0]))
        return slope.lower(params, *data).compile().memory_analysis().temp_size_in_bytes

    assert scratch(512) - scratch(64) <= (512 - 64) * 8


def test_it_remembers_where_plain_truncation_cannot() -> None:
    """The class comes in on a channel of its own at the first of 12 steps; the loss is read after the last.

    The network does not listen to that channel at first, and segments are of 4 steps: what plain truncation sees of it
    is silence.
    """
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 512).astype(np.int32)
    inputs = 0.3 * rng.normal(size=(512, 12, 2)).astype(np.float32)
    inputs[..., 0] = 0
    inputs[:, 0, 0] = 2.0 * labels - 1.0
    data = inputs, labels
    network = Tanh(*(eqx.nn.Linear(a, b, key=k) for a, b, k in ((8, 8, KEYS[0]), (2, 8, KEYS[1]), (8, 2, KEYS[2]))))
    weights = lambda net: (net.inner.weight, net.outer.weight)
    network = eqx.tree_at(weights, network, (0.9 * jnp.eye(8), network.outer.weight.at[:, 0].set(0)))
    trainer = hg.Trainer(hg.GradientMethod(hg.Autodiff(), optax.adam(1e-2)))
    objective = SyntheticGradients(segment=4, readout="last", classes=2)
    model = objective.prepare(network, data, width=32, key=KEYS[3])
    predicting = trainer.fit(model, objective, data, epochs=25, batch_size=32)
    everything = jax.tree.map(eqx.is_inexact_array, model)
    silent = eqx.tree_at(lambda m: m.predictor, everything, jax.tree.map(lambda _: False, everything.predictor))
    plain = trainer.fit(model, objective, data, epochs=25, batch_size=32, trainable=silent)
    assert plain.history[-1].metrics["synthetic_error"] == 1
    assert plain.history[-1].metrics["accuracy"] < 0.7
    np.testing.assert_array_equal(plain.model.network.outer.weight[:, 0], 0)
    assert predicting.history[-1].metrics["accuracy"] > 0.95


INPUTS, LABELS = np.zeros((2, 8, 2), np.float32), np.array([0, 1])
SMALL = Linear(jnp.eye(2))


@pytest.mark.parametrize(
    ("settings", "batch", "message"),
    [
        ({"segment": 0}, None, "segment must be a whole number"),
        ({"segment": 2, "readout": "all"}, None, "no readout is called 'all'"),
        ({"segment": 2, "end": "open"}, None, "end is 'known' or 'predicted', got 'open'"),
        ({"segment": 2, "end": "predicted"}, None, "readout 'sum' needs the last step"),
        ({"segment": 2, "weight": 0.0}, None, "weight must be positive, got 0.0"),
        ({"segment": 2, "classes": 1}, None, "classes must be a whole number"),
        ({"segment": 3}, (INPUTS, LABELS), r"a multiple of segment=3, got shape \(2, 8, 2\)"),
        ({"segment": 4, "readout": "sequence"}, (INPUTS, LABELS), r"targets must start with axes \(2, 8\)"),
        ({"segment": 4, "classes": 2}, (INPUTS, LABELS.astype(np.float32)), "integer labels"),
    ],
)
def test_what_is_wrong_is_said(settings: Any, batch: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SyntheticGradients(**settings).prepare(SMALL, batch, key=KEYS[0])


def test_a_model_without_a_predictor_is_refused() -> None:
    with pytest.raises(UsageError, match="trains a DecoupledModel, got a Linear"):
        SyntheticGradients(segment=4)(SMALL, (INPUTS, LABELS), {}, KEYS[0])
