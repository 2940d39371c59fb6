"""Low-pass filters, in float64, against SciPy's and against sums written out."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads

from hardgrad.core import UsageError
from hardgrad.oscillators import LowpassStream, causal_average, gaussian_lowpass


def signal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def reference(u, sigma, axis=-1):
    """SciPy's mirror is the reflection that does not repeat the edge."""
    radius = max(1, min(round(3 * sigma), u.shape[axis] - 1))
    return scipy.ndimage.gaussian_filter1d(u, sigma, axis, mode="mirror", radius=radius)


@pytest.mark.parametrize(("sigma", "time"), [(0.1, 9), (1.0, 40), (7.3, 100), (44.1, 300), (44.1, 60), (5.0, 2)])
def test_it_is_scipys_gaussian_filter(x64, sigma, time):
    u = signal(3, time)
    np.testing.assert_allclose(gaussian_lowpass(jnp.array(u), sigma), reference(u, sigma), rtol=0, atol=1e-14)


def test_it_is_the_sum_it_says(x64):
    u, sigma, radius = signal(12), 1.5, 4  # round(4.5) is 4
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.concatenate([u[radius:0:-1], u, u[-2 : -2 - radius : -1]])
    expected = [padded[t : t + 2 * radius + 1] @ weights / weights.sum() for t in range(12)]
    np.testing.assert_allclose(gaussian_lowpass(jnp.array(u), sigma), expected, rtol=0, atol=1e-14)


def test_any_axis(x64):
    u = signal(2, 30, 4)
    np.testing.assert_allclose(gaussian_lowpass(jnp.array(u), 3.0, axis=1), reference(u, 3.0, 1), rtol=0, atol=1e-14)
    np.testing.assert_allclose(causal_average(jnp.array(u), 3, axis=1)[:, 2], u[:, :3].mean(1), rtol=0, atol=1e-14)


def test_float32_stays_float32_and_keeps_its_digits():
    u = signal(2, 400).astype(np.float32)
    smooth = gaussian_lowpass(jnp.array(u), 20.0)
    assert smooth.dtype == jnp.float32
    np.testing.assert_allclose(smooth, reference(u.astype(np.float64), 20.0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.0, -3.0])
def test_no_width_is_no_filter(sigma):
    u = jnp.array(signal(5).astype(np.float32))
    assert gaussian_lowpass(u, sigma) is u


def test_one_sample_is_its_own_mean():
    u = jnp.ones((3, 1))
    assert gaussian_lowpass(u, 4.0) is u


@given(st.floats(-5, 5), st.floats(0.01, 100), st.integers(1, 50))
@settings(max_examples=8)
def test_a_constant_passes(value, sigma, time):
    smooth = gaussian_lowpass(jnp.full(time, value, jnp.float32), sigma)
    np.testing.assert_allclose(smooth, np.full(time, value), rtol=1e-6, atol=1e-6)


def test_gradients(x64):
    u = jnp.array(signal(2, 11))
    for smooth in (lambda u: gaussian_lowpass(u, 1.7), lambda u: causal_average(u, 4)):
        check_grads(jax.jit(lambda u, smooth=smooth: jnp.tanh(smooth(u))), (u,), order=2, modes=["fwd", "rev"])


def test_causal_average_starts_from_silence(x64):
    u = signal(2, 20)
    expected = [np.convolve(row, np.full(6, 1 / 6))[:20] for row in u]
    np.testing.assert_allclose(causal_average(jnp.array(u), 6), expected, rtol=0, atol=1e-14)
    np.testing.assert_allclose(causal_average(jnp.array(u), 50)[:, -1], u.sum(1) / 50, rtol=0, atol=1e-14)
    short = jnp.array(u)
    assert causal_average(short, 1) is short


def pushed(u, sigma, cuts):
    stream = LowpassStream(sigma, u.shape[1])
    return np.concatenate([stream.push(piece) for piece in np.split(u, sorted(cuts), axis=1)], axis=1)


@given(st.lists(st.integers(0, 60), max_size=9), st.sampled_from([0.0, 0.2, 2.0, 6.0, 100.0]))
@settings(max_examples=40)
def test_pieces_joined_are_the_whole(cuts, sigma):
    u = signal(2, 60, 3)
    expected = reference(u, sigma, 1) if sigma else u
    np.testing.assert_allclose(pushed(u, sigma, cuts), expected, rtol=0, atol=1e-13)


def test_a_stream_keeps_dtype_and_further_axes():
    u = signal(2, 40, 3, 5).astype(np.float32)
    smooth = pushed(u, 3.0, [7, 22])
    assert smooth.dtype == np.float32
    np.testing.assert_allclose(smooth, reference(u.astype(np.float64), 3.0, 1), rtol=0, atol=1e-6)


def test_a_stream_of_one_sample():
    assert pushed(np.ones((2, 1, 3)), 5.0, []).tolist() == np.ones((2, 1, 3)).tolist()


def test_a_stream_holds_little():
    stream = LowpassStream(2.0, 10_000)
    for _ in range(10):
        stream.push(np.zeros((1, 500)))
    assert stream._held.shape[1] == 2 * 6


def test_mistakes_are_named():
    u = jnp.zeros((2, 5))
    with pytest.raises(UsageError, match="sigma must be a finite number of samples, got nan"):
        gaussian_lowpass(u, float("nan"))
    with pytest.raises(UsageError, match="axis 2 of an array of shape"):
        gaussian_lowpass(u, 1.0, axis=2)
    with pytest.raises(UsageError, match="length must be a whole number, at least 1; got 0"):
        causal_average(u, 0)
    with pytest.raises(UsageError, match="time must be a whole number"):
        LowpassStream(1.0, 0)
    stream = LowpassStream(1.0, 5)
    with pytest.raises(UsageError, match="6 samples came, where time=5 was announced"):
        stream.push(np.zeros((1, 6)))
