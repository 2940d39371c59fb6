"""A host function is a model: in every transformation but differentiation."""

from __future__ import annotations

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardgrad.core import BlackBox, NoDerivativeError

X = np.float32([0.0, 1.0, 2.0])


def wave(w, x):
    return np.tanh(w * x)


def same_shape(x):
    return x.shape


def wave_box():
    return BlackBox(wave, np.float32(0.5), output_shape=same_shape)


@eqx.filter_jit
def call(box, x):
    return box(x)


def test_a_call_runs_the_function():
    np.testing.assert_allclose(wave_box()(X), np.tanh(0.5 * X), rtol=1e-6)
    np.testing.assert_allclose(call(wave_box(), X), np.tanh(0.5 * X), rtol=1e-6)
    with jax.disable_jit():
        np.testing.assert_allclose(wave_box()(X), np.tanh(0.5 * X), rtol=1e-6)


def test_vmap_calls_once_an_element():
    seen = []

    def record(w, x):
        seen.append(np.shape(x))
        return w * x

    box = BlackBox(record, np.float32(2.0))
    np.testing.assert_allclose(jax.vmap(box)(X), 2.0 * X)
    assert seen == [(), (), ()]


def test_vectorized_gets_leading_axes_on_every_argument_in_one_call():
    seen = []

    def record(params, x):
        seen.append((params["w"].shape, params["b"].shape, x.shape))
        return params["w"].sum(-1) * x + params["b"]

    box = BlackBox(record, {"w": np.ones(2, np.float32), "b": np.float32(1.0)}, vectorized=True)
    np.testing.assert_allclose(jax.vmap(box)(X), 2.0 * X + 1.0)
    assert seen == [((3, 2), (3,), (3,))]  # the parameters too, although only the input was mapped
    seen.clear()
    nested = jax.vmap(jax.vmap(box))(np.stack([X, X]))
    assert nested.shape == (2, 3)
    assert seen == [((2, 3, 2), (2, 3), (2, 3))]


def test_it_runs_inside_a_scan():
    def body(carry, x):
        return carry + box(x), None

    box = BlackBox(wave, np.float32(0.5))
    expected = np.tanh(0.5 * X).sum()
    assert jax.lax.scan(body, jnp.float32(0), jnp.asarray(X))[0] == pytest.approx(expected, rel=1e-6)
    with jax.disable_jit():
        assert jax.lax.scan(body, jnp.float32(0), jnp.asarray(X))[0] == pytest.approx(expected, rel=1e-6)


def test_a_new_box_of_the_same_function_compiles_nothing():
    traces = []

    @eqx.filter_jit
    def run(box, x):
        traces.append(1)
        return box(x)

    for weight in (0.5, 0.25):  # a plain float must not differ from the array that an update makes of it
        box = BlackBox(wave, weight, output_shape=same_shape)
        assert not box.params.weak_type
        run(box, X)
        run(eqx.tree_at(lambda b: b.params, box, box.params + jnp.float32(1)), X)
    assert len(traces) == 1


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_its_derivative_is_an_error_that_says_what_to_use(wrap):
    box = wave_box()
    loss = wrap(lambda p: jnp.sum(eqx.tree_at(lambda b: b.params, box, p)(X)))
    with pytest.raises(NoDerivativeError, match=r"'wave' has no derivative.*CentralDifference\(\)"):
        jax.grad(loss)(jnp.float32(0.5))
    with pytest.raises(NoDerivativeError):
        jax.jit(jax.grad(loss))(jnp.float32(0.5))


def test_a_box_outside_the_differentiated_path_is_no_obstacle():
    box = wave_box()
    gradient = jax.grad(lambda p: jnp.sum(p * box(X)))(jnp.float32(1.0))
    assert gradient == pytest.approx(np.tanh(0.5 * X).sum(), rel=1e-6)


@pytest.mark.parametrize("wrap", [lambda f: f, eqx.filter_jit], ids=["eager", "jit"])
def test_a_wrong_shape_is_named_with_the_mending(wrap, caplog):
    box = BlackBox(lambda w, x: np.zeros(5), np.float32(0.5), output_shape=same_shape)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"returned shape \(5,\).*output_shape=\(5,\)"):
        jax.block_until_ready(wrap(lambda x: box(x))(X))


def test_a_shape_that_follows_from_the_input_is_proposed_as_a_rule(caplog):
    rows = np.ones((4, 3), np.float32)
    for result, said in ((lambda w, x: x @ w, "lambda x: x.shape[:1]"), (lambda w, x: x * w, "lambda x: x.shape)")):
        box = BlackBox(result, np.ones(3, np.float32), output_shape=())
        with pytest.raises(jax.errors.JaxRuntimeError, match=re.escape(said)):
            jax.block_until_ready(box(rows))


@pytest.mark.parametrize(
    ("function", "inputs", "said"),
    [
        (lambda w, x: np.zeros((len(x), 1)), [(4, 3)], "lambda x: (x.shape[0], 1)), or output_shape=(4, 1) if"),
        (lambda w, x: np.zeros((4, 3, 2)), [(4, 3)], "lambda x: (x.shape[0], x.shape[1], 2)), or"),
        (lambda w, x, y: np.zeros(4), [(4, 3), (4,)], "lambda x, *others: x.shape[:1]), or output_shape=(4,) if"),
        (lambda w, x: np.zeros((2, 3)), [(4, 3)], "BlackBox(..., output_shape=(2, 3))."),
        (lambda w: np.zeros(2), [], "BlackBox(..., output_shape=(2,))."),
    ],
)
def test_the_shape_to_declare_is_proposed_for_any_number_of_rows(function, inputs, said):
    box = BlackBox(function, np.float32(0.5), output_shape=())
    with pytest.raises(jax.errors.JaxRuntimeError, match=re.escape(said)):
        jax.block_until_ready(box(*(np.ones(shape, np.float32) for shape in inputs)))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_the_log_has_nothing_of_a_failing_box_and_all_of_other_callbacks(wrap, caplog):
    """JAX logs the traceback of every callback; of a box it is in the exception already."""

    def fails(*arguments):
        raise ValueError("no such state")

    with pytest.raises(jax.errors.JaxRuntimeError, match="no such state"):
        jax.block_until_ready(wrap(lambda x: BlackBox(fails, np.float32(0.5))(x))(X))
    assert caplog.records == []
    with pytest.raises(jax.errors.JaxRuntimeError, match="no such state"):
        jax.block_until_ready(wrap(lambda x: jax.pure_callback(fails, jax.ShapeDtypeStruct((), x.dtype), x))(X))
    assert [record.getMessage() for record in caplog.records] == ["jax.pure_callback failed"]


def test_vectorized_without_leading_axes_is_named(caplog):
    box = BlackBox(lambda w, x: np.float32(0.0), np.float32(0.5), vectorized=True)
    with pytest.raises(jax.errors.JaxRuntimeError, match=r"leading axes are \(3,\).*vectorized=False"):
        jax.block_until_ready(jax.vmap(box)(X))


def test_the_result_has_the_widest_dtype_of_the_parameters(x64):
    narrow = BlackBox(wave, np.float32(0.5), output_shape=same_shape)
    wide = BlackBox(lambda p, x: p["a"] * p["b"] * x, {"a": np.float32(0.5), "b": 0.1}, output_shape=same_shape)
    assert narrow(X).dtype == np.float32
    assert wide(X).dtype == np.float64
    np.testing.assert_array_equal(wide(X), 0.5 * 0.1 * X.astype(np.float64))
