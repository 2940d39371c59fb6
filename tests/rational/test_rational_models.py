"""The models of the guides."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardgrad.core import UsageError, count_parameters
from hardgrad.rational import Projective, ProjectiveMLP, RationalMLP

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (7, 2))

MODELS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...]]] = {
    "scalar": (lambda: ProjectiveMLP(2, hidden=(8, 8), key=KEY), (), ()),
    "shared": (lambda: ProjectiveMLP(2, 3, hidden=(8,), key=KEY), (3,), ()),
    "own": (lambda: ProjectiveMLP(2, 3, hidden=(8,), shared_denominator=False, key=KEY), (3,), (3,)),
    "linear": (lambda: ProjectiveMLP(2, 1, hidden=(), key=KEY), (1,), ()),
    "rational": (lambda: RationalMLP(2, 3, hidden=(8, 8), key=KEY), (3,), ()),
    "rational-scalar": (lambda: RationalMLP(2, "scalar", hidden=(8,), basis="chebyshev", key=KEY), (), ()),
}


@eqx.filter_jit
def call(model: Any, x: Any) -> Any:
    """One program a model, not one an operation."""
    return model(x)


@jax.jit
def _everything(model: Any, x: Any) -> Any:
    grads = jax.grad(lambda m: sum(jnp.sum(part) for part in m(x)))(model)
    return model(x), jax.vmap(model)(x), model(x.reshape(7, 1, 2)), grads


@pytest.mark.parametrize("name", MODELS)
def test_shapes_and_transformations(name: str) -> None:
    build, of_p, of_q = MODELS[name]
    model = build()
    outputs, by_sample, several, grads = _everything(model, X)
    assert isinstance(outputs, Projective)
    assert outputs[0].shape == (7, *of_p)
    assert outputs[1].shape == (7, *of_q)
    for part in range(2):
        np.testing.assert_allclose(by_sample[part], outputs[part], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(several[part][:, 0], outputs[part], rtol=1e-5, atol=1e-6)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(model))  # as plain jax.jit and jax.vmap want it


def test_the_model_of_the_guides() -> None:
    """2-64-64-2 with ReLU and 4 482 parameters, by hand."""
    model = ProjectiveMLP(2, key=KEY)
    assert count_parameters(model) == 4482
    h = np.asarray(X, np.float64)
    for layer in model.layers:
        h = h @ np.asarray(layer.weight, np.float64).T + np.asarray(layer.bias, np.float64)
        h = np.maximum(h, 0.0) if layer is not model.layers[-1] else h
    P, Q = call(model, X)
    np.testing.assert_allclose(P, h[:, 0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(Q, h[:, 1], rtol=1e-5, atol=1e-6)
    for layer in model.layers:
        bound = 1 / np.sqrt(layer.in_features)
        assert np.abs(layer.weight).max() <= bound
        assert np.abs(layer.bias).max() <= bound
        assert np.abs(layer.weight).max() > 0.9 * bound


def test_the_rational_model_by_hand() -> None:
    model = RationalMLP(key=KEY)  # as published: 4-64-64-3, two outputs, degrees 3 and 2, Q = 1 + δ
    x = jax.random.normal(jax.random.key(2), (5, 4))
    h = np.asarray(x, np.float64)
    for layer in model.layers:
        h = h @ np.asarray(layer.weight, np.float64).T + np.asarray(layer.bias, np.float64)
        h = np.maximum(h, 0.0) if layer is not model.layers[-1] else h
    z_den, z_num = h[:, 0], h[:, 1:]
    P, Q = call(model, x)
    by_power = np.stack([z_num**k for k in range(4)], -1)
    np.testing.assert_allclose(P, np.einsum("bok,ok->bo", by_power, model.head.numerator), rtol=1e-4, atol=1e-6)
    delta = np.stack([z_den**k for k in range(3)], -1) @ np.asarray(model.head.denominator)
    np.testing.assert_allclose(Q, 1 + delta, rtol=1e-5)


def test_pole_logit() -> None:
    model = RationalMLP(2, 1, hidden=(8,), pole_logit=True, key=KEY)
    outputs, logit = eqx.filter_jit(lambda m, x: m.with_pole_logit(x))(model, X)
    np.testing.assert_allclose(outputs[0], call(model, X)[0], rtol=1e-6, atol=1e-7)
    assert logit.shape == (7,)
    assert model.pole_layer is not None
    first, last = model.layers[0], model.pole_layer
    hidden = np.maximum(np.asarray(X) @ np.asarray(first.weight).T + np.asarray(first.bias), 0.0)
    expected = hidden @ np.asarray(last.weight)[0] + np.asarray(last.bias)
    np.testing.assert_allclose(logit, expected, rtol=1e-5, atol=1e-6)
    grads = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(m.with_pole_logit(X)[1])))(model)
    assert np.any(np.asarray(grads.pole_layer.weight) != 0)
    plain = RationalMLP(2, 1, hidden=(8,), key=KEY)
    np.testing.assert_allclose(call(plain, X)[0], outputs[0], rtol=1e-6, atol=1e-7)


def test_five_seeds_at_once() -> None:
    keys = jax.random.split(KEY, 5)
    models = eqx.filter_jit(eqx.filter_vmap(lambda key: ProjectiveMLP(2, hidden=(8,), key=key)))(keys)
    P, _ = eqx.filter_jit(eqx.filter_vmap(lambda model, x: model(x), in_axes=(eqx.if_array(0), None)))(models, X)
    alone = call(ProjectiveMLP(2, hidden=(8,), key=keys[3]), X)
    np.testing.assert_allclose(P[3], alone[0], rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_dtypes() -> None:
    def dtypes(**dtype: Any) -> Any:
        x = np.zeros((3, 2))
        model = jax.eval_shape(lambda key: RationalMLP(2, 1, hidden=(4,), pole_logit=True, key=key, **dtype), KEY)
        outputs, logit = jax.eval_shape(lambda m, x: m.with_pole_logit(x), model, x)
        plain = jax.eval_shape(lambda key, x: ProjectiveMLP(2, hidden=(4,), key=key, **dtype)(x), KEY, x)
        assert plain[0].dtype == logit.dtype
        return {part.dtype for part in (*outputs, logit, *jax.tree.leaves(model))}

    assert dtypes() == {np.dtype("float64")}
    assert dtypes(dtype=jnp.float32) == {np.dtype("float32")}


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ProjectiveMLP(0, key=KEY), "in_size"),
        (lambda: ProjectiveMLP(2, 0, key=KEY), "out_size"),
        (lambda: ProjectiveMLP(2, hidden=(0,), key=KEY), "hidden"),
        (lambda: ProjectiveMLP(2, hidden=(4,), key=KEY)(jnp.ones((3, 4))), r"\[\.\.\., 2\]"),
        (lambda: RationalMLP(2, 1, basis="fourier", key=KEY), "no basis"),
        (lambda: RationalMLP(2, 1, key=KEY).with_pole_logit(X), "pole_logit=True"),
    ],
)
def test_wrong_inputs(build: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build()
