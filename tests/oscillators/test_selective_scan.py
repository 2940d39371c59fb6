"""The selective scan's forms, in float64, against a loop in NumPy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hardgrad.core import UsageError
from hardgrad.oscillators import selective_scan
from hardgrad.oscillators._encoders import _selective_scan

FORMS = ("sequential", "chunked", "associative")


def inputs(batch, time, channels, n, seed=0):
    random = np.random.default_rng(seed)
    u, delta = random.standard_normal((2, batch, time, channels))
    b, c = random.standard_normal((2, batch, time, n))
    a = -np.exp(random.standard_normal((channels, n)))
    state = random.standard_normal((batch, channels, n))
    return (u, np.log1p(np.exp(delta - 1)), a, b, c, random.standard_normal(channels)), state


def reference(u, delta, a, b, c, d, state):
    h, y = state.copy(), np.zeros_like(u)
    for t in range(u.shape[1]):
        for i, j in np.ndindex(u.shape[0], u.shape[2]):
            h[i, j] = np.exp(delta[i, t, j] * a[j]) * h[i, j] + delta[i, t, j] * b[i, t] * u[i, t, j]
            y[i, t, j] = c[i, t] @ h[i, j] + d[j] * u[i, t, j]
    return y, h


@functools.partial(jax.jit, static_argnames="form")
def scan(*arrays, state=None, form):
    return selective_scan(*arrays, state=state, form=form)


@pytest.mark.parametrize("form", [*FORMS, "auto"])
def test_every_form_is_the_recurrence(x64, form):
    arrays, state = inputs(2, _selective_scan.SPAN + 5, 3, 4)
    y, last = scan(*arrays, state=state, form=form)
    expected = reference(*arrays, state)
    np.testing.assert_allclose(y, expected[0], rtol=0, atol=1e-13)
    np.testing.assert_allclose(last, expected[1], rtol=0, atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_gradients(x64, monkeypatch, form):
    monkeypatch.setattr(_selective_scan, "SPAN", 3)  # so that seven samples are more than two spans
    arrays, state = inputs(2, 7, 2, 3)

    @jax.jit
    def function(*arrays):
        y, last = selective_scan(*arrays[:-1], state=arrays[-1], form=form)
        return jnp.sin(y), jnp.sin(last)

    check_grads(function, (*map(jnp.array, arrays), jnp.array(state)), order=1, modes=["rev"])


def test_forms_have_the_same_gradient(x64):
    arrays, state = inputs(2, _selective_scan.SPAN + 5, 3, 4)

    @functools.partial(jax.jit, static_argnames="form")
    def gradient(arrays, form):
        def loss(arrays):
            y, last = selective_scan(*arrays[:-1], state=arrays[-1], form=form)
            return jnp.sum(y**2) + jnp.sum(last**3)

        return jax.grad(loss)(arrays)

    first, *others = (gradient((*arrays, state), form) for form in FORMS)
    for other in others:
        for one, two in zip(first, other, strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_a_signal_cut_in_two_hands_on_its_state(x64, form):
    (u, delta, a, b, c, d), _ = inputs(2, 16, 3, 2)
    y, last = scan(u, delta, a, b, c, d, form=form)
    state, parts = None, []
    for cut in (slice(0, 8), slice(8, 16)):
        part, state = scan(u[:, cut], delta[:, cut], a, b[:, cut], c[:, cut], d, state=state, form=form)
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), y, rtol=0, atol=1e-14)
    np.testing.assert_allclose(state, last, rtol=0, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_vmap_is_one_after_the_other(x64, form):
    sets = [inputs(2, 9, 3, 2, seed)[0] for seed in range(3)]
    stacked = [np.stack(parts) for parts in zip(*sets, strict=True)]

    def loss(arrays):
        y, last = selective_scan(*arrays, form=form)
        return jnp.sum(jnp.sin(y)) + jnp.sum(last**2)

    together = jax.jit(jax.vmap(jax.grad(loss)))(stacked)
    alone = jax.jit(jax.grad(loss))
    for i, arrays in enumerate(sets):
        for one, two in zip(alone(arrays), together, strict=True):
            np.testing.assert_allclose(two[i], one, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
def test_float32(form):
    arrays, state = inputs(2, 40, 3, 4)
    small = [array.astype(np.float32) for array in (*arrays, state)]
    y, last = scan(*small[:-1], state=small[-1], form=form)
    assert y.dtype == last.dtype == jnp.float32
    np.testing.assert_allclose(y, reference(*arrays, state)[0], rtol=0, atol=1e-5)


@given(st.integers(1, 6), st.sampled_from(FORMS))
@settings(max_examples=10)
def test_a_step_of_zero_leaves_the_state(time, form):
    (u, _, a, b, c, d), state = inputs(1, time, 2, 3)
    u, a, b, c, d, state = (array.astype(np.float32) for array in (u, a, b, c, d, state))
    y, last = scan(u, np.zeros_like(u), a, b, c, d, state=state, form=form)
    np.testing.assert_array_equal(last, state)
    np.testing.assert_allclose(y, np.einsum("btn,bcn->btc", c, state) + d * u, rtol=0, atol=1e-5)


def test_another_form_is_a_mistake():
    arrays, _ = inputs(1, 2, 1, 1)
    small = [jnp.array(array, jnp.float32) for array in arrays]
    with pytest.raises(UsageError, match="form is one of auto, sequential, chunked, associative; got 'parallel'"):
        selective_scan(*small, form="parallel")
