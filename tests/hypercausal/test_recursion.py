"""`recurse`: the same values and derivatives whether the depth is known, traced, batched or large."""

from __future__ import annotations

from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from hardgrad.core import UsageError
from hardgrad.hypercausal import recurse


def step(params: Any, state: Any) -> Any:
    return jnp.tanh(params["w"] * state + params["b"])


def loss(params: Any, state: Any, depth: Any) -> Any:
    return jnp.sum(jnp.square(recurse(step, params, state, depth)) * jnp.arange(1.0, 4.0))


def unrolled_loss(params: Any, state: Any, depth: int) -> Any:
    for _ in range(depth):
        state = step(params, state)
    return jnp.sum(jnp.square(state) * jnp.arange(1.0, 4.0))


dynamic = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
PARAMS = {"w": 0.9, "b": 0.1}


def as_arrays(w: float, b: float) -> dict[str, jax.Array]:
    return {"w": jnp.asarray(w, jnp.float32), "b": jnp.asarray(b, jnp.float32)}


@hypothesis.settings(max_examples=25)
@hypothesis.given(depth=st.integers(1, 6), w=st.floats(-1.5, 1.5, width=32), b=st.floats(-0.5, 0.5, width=32))
def test_traced_depth_has_the_derivative_of_the_unrolled_loop(depth: int, w: float, b: float) -> None:
    params, state = as_arrays(w, b), jnp.array([0.3, -0.2, 0.7])
    value, gradient = dynamic(params, state, jnp.int32(depth))
    expected, expected_gradient = jax.value_and_grad(unrolled_loss, argnums=(0, 1))(params, state, depth)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
    for got, want in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


def test_one_program_serves_every_depth() -> None:
    for depth in (1, 2, 5):
        dynamic(as_arrays(**PARAMS), jnp.ones(3), jnp.int32(depth))
    assert dynamic._cache_size() == 1


@pytest.mark.parametrize("depth", [4, 7])
def test_known_depths_agree_unrolled_and_scanned(depth: int) -> None:
    params, state = as_arrays(**PARAMS), jnp.array([0.3, -0.2, 0.7])
    known = jax.value_and_grad(lambda p: loss(p, state, depth))(params)
    want = jax.value_and_grad(lambda p: unrolled_loss(p, state, depth))(params)
    for got, expected in zip(jax.tree.leaves(known), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("depth", [0, -3, np.int64(0), jnp.int32(-1)])
def test_at_least_one_step_is_taken(depth: Any) -> None:
    params, state = as_arrays(**PARAMS), jnp.ones(3)
    np.testing.assert_allclose(recurse(step, params, state, depth), step(params, state), rtol=1e-6)


def test_depths_may_differ_under_vmap() -> None:
    params, state, depths = as_arrays(**PARAMS), jnp.array([0.3, -0.2, 0.7]), jnp.array([1, 4, 2])
    values, gradients = jax.vmap(jax.value_and_grad(loss), in_axes=(None, None, 0))(params, state, depths)
    for i, depth in enumerate((1, 4, 2)):
        value, gradient = jax.value_and_grad(unrolled_loss)(params, state, depth)
        np.testing.assert_allclose(values[i], value, rtol=1e-5)
        np.testing.assert_allclose(gradients["w"][i], gradient["w"], rtol=1e-5)


def test_it_works_in_a_scan_and_without_jit() -> None:
    params, state, depths = as_arrays(**PARAMS), jnp.array([0.3, -0.2, 0.7]), jnp.array([1, 2, 3])

    def total(params: Any) -> Any:
        last, _ = jax.lax.scan(lambda s, d: (recurse(step, params, s, d), None), state, depths)
        return jnp.sum(last)

    scanned = jax.jit(jax.grad(total))(params)
    straight = jax.grad(lambda p: jnp.sum(recurse(step, p, state, 6)))(params)
    with jax.disable_jit():
        eager = jax.grad(lambda p: jnp.sum(recurse(step, p, state, jnp.int32(6))))(params)
    for name in ("w", "b"):
        np.testing.assert_allclose(scanned[name], straight[name], rtol=1e-5)
        np.testing.assert_allclose(eager[name], straight[name], rtol=1e-5)


@pytest.mark.parametrize("depth", [1.5, "2", jnp.float32(2.0), jnp.array([1, 2]), None])
def test_a_depth_that_is_no_integer_is_refused(depth: Any) -> None:
    with pytest.raises(UsageError, match="depth"):
        recurse(step, as_arrays(**PARAMS), jnp.ones(3), depth)
