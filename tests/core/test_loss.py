"""An objective bound to a step: accumulation, mixed precision and loss scaling change no gradient."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardgrad.core import Loss, UsageError, split_parameters

KEY = jax.random.key(0)
ROWS, MICROBATCHES = 12, 4


class Model(eqx.Module):
    """Parameters among leaves that are none: a function, a key, an integer array, a None."""

    weight: jax.Array
    bias: jax.Array
    activation: Callable
    key: jax.Array
    shift: jax.Array
    nothing: None = None

    def __call__(self, x):
        return self.activation(x @ self.weight + self.bias) + self.shift.astype(x.dtype)


def make_model(dtype=jnp.float32):
    weight = jnp.asarray([0.3, -0.2, 0.5], dtype)
    return Model(weight, jnp.asarray(0.1, dtype), jnp.tanh, jax.random.key(7), jnp.asarray(1))


def make_batch(dtype=np.float32):
    rng = np.random.default_rng(0)
    return {"x": rng.normal(size=(ROWS, 3)).astype(dtype), "label": rng.integers(0, 2, ROWS), "absent": None}


def objective(model, batch, controls, key):
    error = jax.vmap(model)(batch["x"]) - batch["label"].astype(batch["x"].dtype)
    right = jnp.sum(jnp.abs(error) < controls["close"])
    return jnp.mean(error**2), {"mean": jnp.mean(error), "right": right, "all_close": right > 100}


def bind(microbatches=1, dtype=jnp.float32, **options):
    params, rest = split_parameters(make_model(dtype))
    batch = make_batch(np.dtype(dtype))
    if microbatches > 1:
        batch = jax.tree.map(lambda x: x.reshape(microbatches, -1, *x.shape[1:]), batch)
    controls = {"close": jnp.asarray(0.5, dtype)}
    return Loss(objective, rest, batch, controls, KEY, microbatches=microbatches, **options), params


@jax.jit
def value_and_grad_whole(params):
    return jax.value_and_grad(bind()[0], has_aux=True)(params)


@jax.jit
def value_and_grad_cut(params):
    return jax.value_and_grad(bind(MICROBATCHES)[0], has_aux=True)(params)


def assert_close(a, b, rtol=1e-5):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-7), a, b)


def test_microbatches_give_the_loss_and_gradient_of_the_whole_batch():
    _, params = bind()
    (value, metrics), gradient = value_and_grad_whole(params)
    (cut_value, cut_metrics), cut_gradient = value_and_grad_cut(params)
    assert_close((cut_value, cut_gradient), (value, gradient))
    assert_close(cut_metrics["mean"], metrics["mean"])
    assert cut_metrics["right"] == pytest.approx(float(metrics["right"]) / MICROBATCHES)  # a mean, as promised
    assert cut_metrics["all_close"] == 0.0
    without_gradient = eqx.filter_jit(bind(MICROBATCHES)[0])(params)
    assert_close(without_gradient, (cut_value, cut_metrics))


def test_microbatches_eagerly_under_vmap_and_in_a_scan():
    loss, params = bind(MICROBATCHES)
    expected = value_and_grad_cut(params)[1]
    gradient_of = jax.grad(lambda p: loss(p)[0])
    assert_close(gradient_of(params), expected)

    many = jax.tree.map(lambda x: jnp.stack([x, x * 2]), params)
    several = jax.jit(jax.vmap(gradient_of))(many)
    assert_close(jax.tree.map(lambda x: x[0], several), expected)
    assert_close(jax.tree.map(lambda x: x[1], several), value_and_grad_cut(jax.tree.map(lambda x: x * 2, params))[1])

    def step(p, batch):  # the batch, the controls and the key traced, as in the trainer
        bound = dataclasses.replace(loss, batch=batch, key=jax.random.fold_in(KEY, 1))
        g = jax.grad(lambda q: bound(q)[0])(p)
        return jax.tree.map(lambda a, b: a - jnp.float32(0.1) * b, p, g), g

    batches = jax.tree.map(lambda x: jnp.stack([x, x]), loss.batch)
    _, gradients = jax.jit(lambda p: jax.lax.scan(step, p, batches))(params)
    assert_close(jax.tree.map(lambda x: x[0], gradients), expected)


def test_microbatches_with_some_parameters_held():
    loss, params = bind(MICROBATCHES)
    held = eqx.tree_at(lambda p: p.bias, params, params.bias)
    gradient = jax.grad(lambda w: loss(eqx.tree_at(lambda p: p.weight, held, w))[0])(params.weight)
    assert_close(gradient, value_and_grad_cut(params)[1].weight)
    assert_close(jax.grad(lambda p: 3.0 * loss(p)[0])(params), jax.tree.map(lambda g: 3.0 * g, _gradient(params)))


def _gradient(params):
    return value_and_grad_cut(params)[1]


def test_each_microbatch_draws_its_own_numbers():
    def draw(model, batch, controls, key):
        return model["w"] * jax.random.uniform(key), {"batch": jnp.mean(batch)}

    loss = Loss(draw, {"w": None}, jnp.arange(6.0).reshape(3, 2), {}, KEY, microbatches=3)
    value, gradient = jax.value_and_grad(lambda p: loss(p)[0])({"w": jnp.float32(2.0)})
    draws = np.mean([jax.random.uniform(k) for k in jax.random.split(KEY, 3)])
    assert value == pytest.approx(2.0 * draws, rel=1e-6)
    assert gradient["w"] == pytest.approx(draws, rel=1e-6)


def test_curvature_over_microbatches_but_no_forward_mode():
    loss, params = bind(MICROBATCHES)
    whole, _ = bind()
    product = jax.jit(lambda f: jax.jvp(jax.grad(lambda p: f(p)[0]), (params,), (params,))[1], static_argnums=0)
    assert_close(product(loss.__call__), product(whole.__call__), rtol=1e-4)
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(lambda p: loss(p)[0], (params,), (params,))


@pytest.mark.parametrize("microbatches", [1, MICROBATCHES])
def test_a_loss_scale_is_invisible(microbatches):
    loss, params = bind(microbatches)
    scaled = dataclasses.replace(loss, scale=jnp.float32(2.0**15))
    (value, _), gradient = jax.value_and_grad(scaled, has_aux=True)(params)
    (expected_value, _), expected = jax.value_and_grad(loss, has_aux=True)(params)
    assert value == expected_value
    jax.tree.map(np.testing.assert_array_equal, gradient, expected)  # a power of two loses no bit


@pytest.mark.parametrize("microbatches", [1, 2])
def test_a_loss_scale_saves_float16_gradients_from_underflow(microbatches):
    def tiny(model, batch, controls, key):
        assert model.dtype == batch.dtype == controls["factor"].dtype == jnp.float16
        return jnp.mean(model * batch * controls["factor"]), {}

    batch = jnp.full((2, 3) if microbatches > 1 else (6,), 1e-4, jnp.float32)
    loss = Loss(tiny, None, batch, {"factor": jnp.float32(1e-4)}, KEY, microbatches, "float16")
    bare = jax.grad(lambda p: loss(p)[0])(jnp.float32(1.0))
    assert bare == 0.0
    scaled = dataclasses.replace(loss, scale=jnp.float32(2.0**15))
    gradient = jax.jit(jax.grad(lambda p: scaled(p)[0]))(jnp.float32(1.0))
    assert gradient.dtype == jnp.float32
    assert gradient == pytest.approx(1e-8, rel=1e-2)


def test_mixed_precision_widens_the_loss_to_the_dtype_of_the_parameters(x64):
    loss, params = bind(dtype=jnp.float64, compute_dtype="float32")
    (value, metrics), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert value.dtype == metrics["mean"].dtype == gradient.weight.dtype == jnp.float64
    assert float(value) == float(np.float32(value))  # computed in float32 all the same
    exact = jax.jit(jax.grad(lambda p: bind(dtype=jnp.float64)[0](p)[0]))(params)
    assert_close(gradient, exact, rtol=1e-4)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda p: p, r"must return \(loss, metrics\).*return loss, \{\}"),
        (lambda p: (p, 1.0), r"metrics a dict"),
        (lambda p: (jnp.stack([p, p]), {}), r"'loss' must be a scalar, got shape \(2,\)"),
        (lambda p: (p, {"each": jnp.stack([p, p])}), r"'each' must be a scalar"),
        (lambda p: (jnp.asarray(3), {}), r"floating-point number, got int32"),
    ],
)
def test_a_wrong_objective_is_told_what_to_return(returned, message):
    loss = Loss(lambda model, batch, controls, key: returned(model), None, None, {}, KEY)
    with pytest.raises(UsageError, match=message):
        loss(jnp.float32(1.0))
