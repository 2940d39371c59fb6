"""Feedback alignment, direct and not: the backward formulas, alignment while training, and use inside networks."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hardgrad as hg
from hardgrad.core import UsageError, count_parameters, split_parameters
from hardgrad.spiking import LIF, DirectFeedback, FeedbackLinear, LeakyIntegrator, Network, SuperSpike, run

KEYS = jax.random.split(jax.random.key(0), 8)


@pytest.mark.parametrize("adaptive", [False, True])
def test_the_backward_pass_is_the_formula(adaptive: bool, x64: None) -> None:
    layer = FeedbackLinear(3, 4, adaptive=adaptive, key=KEYS[0])
    rng = np.random.default_rng(0)
    x, cotangent = rng.normal(size=(6, 3)), rng.normal(size=(6, 4))
    out, pull = jax.vjp(lambda layer, x: jax.vmap(layer)(x), layer, jnp.asarray(x))
    np.testing.assert_allclose(out, x @ np.asarray(layer.weight).T + np.asarray(layer.bias), rtol=1e-14)
    of_layer, of_x = pull(jnp.asarray(cotangent))
    np.testing.assert_allclose(of_x, cotangent @ np.asarray(layer.feedback), rtol=1e-14)
    np.testing.assert_allclose(of_layer.weight, cotangent.T @ x, rtol=1e-13)
    np.testing.assert_allclose(of_layer.bias, cotangent.sum(0), rtol=1e-13)
    if adaptive:
        np.testing.assert_allclose(of_layer.adaptive, cotangent.T @ x, rtol=1e-13)


def test_fixed_feedback_is_no_parameter() -> None:
    fixed, adaptive = FeedbackLinear(3, 4, key=KEYS[0]), FeedbackLinear(3, 4, adaptive=True, key=KEYS[0])
    assert count_parameters(split_parameters(fixed)[0]) == 16
    assert count_parameters(split_parameters(adaptive)[0]) == 28
    np.testing.assert_array_equal(fixed.feedback, adaptive.feedback)
    wide = FeedbackLinear(400, 300, scale=2.0, use_bias=False, key=KEYS[0]).feedback
    assert abs(float(jnp.std(wide)) * 20 - 2.0) < 0.02
    assert abs(float(jnp.mean(wide))) < 1e-3


def angle(one: Any, other: Any) -> float:
    """Degrees between two gradients."""
    one, other = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)]) for tree in (one, other))
    return float(np.degrees(np.arccos(one @ other / np.linalg.norm(one) / np.linalg.norm(other))))


def teacher(features: int = 10) -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(512, features)).astype(np.float32)
    y = x @ rng.normal(size=(features, 3)).astype(np.float32) / 3.0
    return x, y.astype(np.float32)


def test_the_angle_to_the_true_gradient_falls_below_a_right_one() -> None:
    """A linear network of two layers (Lillicrap et al. 2016): at right angles at first, then aligned."""
    data = teacher()

    def loss(model: Any, batch: Any, controls: Any = None, key: Any = None) -> Any:
        first, second = model
        return jnp.mean(jnp.square(jax.vmap(second)(jax.vmap(first)(batch[0])) - batch[1])), {}

    def degrees(model: Any) -> float:
        first, second = model
        plain = eqx.nn.Linear(20, 3, key=KEYS[1])
        true = [first, eqx.tree_at(lambda layer: (layer.weight, layer.bias), plain, (second.weight, second.bias))]
        slope = lambda m: eqx.filter_jit(eqx.filter_grad(lambda m: loss(m, data)[0]))(m)[0]
        return angle(slope(model), slope(true))

    trainer = hg.Trainer(hg.GradientMethod(hg.Autodiff(), optax.sgd(0.1)))
    model = [eqx.nn.Linear(10, 20, key=KEYS[0]), FeedbackLinear(20, 3, key=KEYS[1])]
    model[1] = eqx.tree_at(lambda layer: layer.weight, model[1], replace_fn=lambda w: 0.1 * w)  # soon overgrown
    before = degrees(model)
    result = trainer.fit(model, loss, data, epochs=30, batch_size=64)
    after = degrees(result.model)
    assert before > 80, (before, after)
    assert after < 65
    assert loss(result.model, data)[0] < 0.05 * loss(model, data)[0]


def test_adaptive_feedback_tends_to_the_weight() -> None:
    """With weight decay on both (Kolen and Pollack 1994)."""
    data = teacher()
    model = [eqx.nn.Linear(10, 20, key=KEYS[0]), FeedbackLinear(20, 3, adaptive=True, key=KEYS[1])]

    def objective(model: Any, batch: Any, controls: Any, key: Any) -> Any:
        return jnp.mean(jnp.square(jax.vmap(model[1])(jax.vmap(model[0])(batch[0])) - batch[1])), {}

    optimizer = optax.chain(optax.add_decayed_weights(1e-1), optax.sgd(0.1))
    result = hg.Trainer(hg.GradientMethod(hg.Autodiff(), optimizer)).fit(
        model, objective, data, epochs=50, batch_size=64
    )
    second = result.model[1]
    assert np.linalg.norm(model[1].weight - model[1].feedback) > 1.0
    assert np.linalg.norm(second.weight - second.feedback) < 0.05 * np.linalg.norm(second.weight)


def by_hand(first: Any, second: Any, matrix: Any, leak: float, decay: float, inputs: Any) -> Any:
    """Gradient of Σ_t |y_t|²/2 for Linear → LIF → Linear → leak by NumPy, `matrix` in the place of the last weight."""
    weight, bias, readout = np.asarray(first.weight), np.asarray(first.bias), np.asarray(second.weight)
    total_weight, total_bias = np.zeros_like(weight), np.zeros_like(bias)
    for x in inputs:
        v, y, slopes, ys = np.zeros(len(weight)), np.zeros(len(readout)), [], []
        for x_t in x:
            s = (v > 1.0).astype(float)
            slopes.append(1 / (1 + 2.0 * np.abs(v - 1.0)) ** 2)
            v = decay * v + weight @ x_t + bias - s
            y = leak * y + readout @ s + np.asarray(second.bias)
            ys.append(y)
        error, of_v = np.zeros(len(readout)), np.zeros(len(weight))
        for t in reversed(range(len(x))):
            error = ys[t] + leak * error
            # of_v is the gradient of v after step t; the reset is subtracted with its surrogate derivative.
            total_weight += np.outer(of_v, x[t])
            total_bias += of_v
            of_v = (decay - slopes[t]) * of_v + slopes[t] * (matrix.T @ error)
    return total_weight, total_bias


def test_both_kinds_in_a_network_through_time(x64: None) -> None:
    rng = np.random.default_rng(1)
    inputs = (rng.random((2, 9, 3)) < 0.7).astype(float)
    first = eqx.nn.Linear(3, 5, key=KEYS[0])
    first = eqx.tree_at(lambda layer: layer.weight, first, 2 * first.weight)
    second, leak = FeedbackLinear(5, 2, key=KEYS[1]), LeakyIntegrator(2, decay=0.8)
    cell = LIF(5, decay=0.9, surrogate=SuperSpike(2.0))
    plain = Network([first, cell, second, leak])
    direct = DirectFeedback([[first, cell]], [second, leak], key=KEYS[2])

    @eqx.filter_jit
    @eqx.filter_grad
    def slope(model: Any) -> Any:
        return jnp.sum(jnp.square(run(model, jnp.asarray(inputs)).outputs)) / 2

    found = slope(plain).layers[0]
    expected = by_hand(first, second, np.asarray(second.feedback), 0.8, 0.9, inputs)
    assert np.abs(expected[0]).max() > 0.1
    np.testing.assert_allclose(found.weight, expected[0], rtol=1e-11)
    np.testing.assert_allclose(found.bias, expected[1], rtol=1e-11)

    (block,) = slope(Network([direct])).layers[0].hidden
    expected = by_hand(first, second, np.asarray(direct.feedback[0]), 0.8, 0.9, inputs)
    np.testing.assert_allclose(block.layers[0].weight, expected[0], rtol=1e-11)
    np.testing.assert_allclose(block.layers[0].bias, expected[1], rtol=1e-11)
    outputs = eqx.filter_jit(lambda model: model(jnp.asarray(inputs)))
    np.testing.assert_allclose(outputs(direct), outputs(plain), rtol=1e-13)


def test_direct_feedback_of_a_deep_network_is_the_formula(x64: None) -> None:
    """tanh, three layers, no state: δa_l = (B_l e) ⊙ f'(a_l) (Nøkland 2016, section 3)."""
    linear, tanh = eqx.nn.Linear, eqx.nn.Lambda(jnp.tanh)
    sizes = [4, 6, 5, 3]
    layers = [linear(a, b, key=key) for a, b, key in zip(sizes, sizes[1:], KEYS, strict=False)]
    model = DirectFeedback([[layers[0], tanh], [layers[1], tanh]], [layers[2]], key=KEYS[5])
    x = np.random.default_rng(0).normal(size=(7, 4))

    def loss(model: Any) -> Any:
        _, y = model.step(model.init_state(7), jnp.asarray(x))
        return jnp.sum(jnp.square(y)) / 2

    found = eqx.filter_jit(eqx.filter_grad(loss))(model)
    weights = [np.asarray(layer.weight) for layer in layers]
    biases = [np.asarray(layer.bias) for layer in layers]
    h1 = np.tanh(x @ weights[0].T + biases[0])
    h2 = np.tanh(h1 @ weights[1].T + biases[1])
    e = h2 @ weights[2].T + biases[2]
    b1, b2 = (np.asarray(matrix) for matrix in model.feedback)
    np.testing.assert_allclose(found.hidden[0].layers[0].weight, (e @ b1 * (1 - h1**2)).T @ x, rtol=1e-11)
    np.testing.assert_allclose(found.hidden[1].layers[0].weight, (e @ b2 * (1 - h2**2)).T @ h1, rtol=1e-11)
    np.testing.assert_allclose(found.synapse.layers[0].weight, e.T @ h2, rtol=1e-11)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FeedbackLinear(0, 2, key=KEYS[0]), "in_features must be a whole number"),
        (lambda: FeedbackLinear(2, 2, scale=0.0, key=KEYS[0]), "scale must be positive and finite, got 0.0"),
        (lambda: DirectFeedback([], [eqx.nn.Linear(2, 2, key=KEYS[0])], key=KEYS[0]), "at least one hidden block"),
        (lambda: DirectFeedback([[LIF(2, decay=0.5)]], [], key=KEYS[0]), "start with an equinox.nn.Linear"),
        (
            lambda: DirectFeedback([[eqx.nn.Lambda(jnp.tanh)]], [eqx.nn.Linear(2, 2, key=KEYS[0])], key=KEYS[0]),
            "hidden block 0 of DirectFeedback must send a row",
        ),
    ],
)
def test_what_is_wrong_is_said(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
