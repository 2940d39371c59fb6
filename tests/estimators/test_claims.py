"""Orders, exactness and expectations: what the formulas promise."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardgrad.core import control
from hardgrad.estimators import SPSA, AntitheticNES, Autodiff, CentralDifference, ForwardDifference

KEY = jax.random.key(0)
DRAWS = 4096


def gradient(estimator, loss, params, key=KEY):
    run = lambda p, k: estimator.estimate(lambda q: (loss(q), {}), p, (), controls={}, key=k)[0].gradient
    return jax.jit(run)(params, key)


def draws(estimator, loss, params, count=DRAWS):
    """Many independent estimates, stacked."""
    if loss is bowl:
        return bowl_draws(estimator)
    run = lambda k: estimator.estimate(lambda q: (loss(q), {}), params, (), controls={}, key=k)[0].gradient
    return jax.jit(jax.vmap(run))(jax.random.split(KEY, count))


def assert_mean(samples, expected, errors=4.0):
    samples, expected = np.asarray(samples), np.asarray(expected)
    standard_error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    np.testing.assert_array_less(np.abs(samples.mean(axis=0) - expected), errors * standard_error + 1e-12)
    return standard_error


# --------------------------------------------------------------------------------- differences


@pytest.mark.parametrize(("kind", "order"), [(CentralDifference, 2), (ForwardDifference, 1)])
def test_order_of_a_difference(kind, order, x64):
    loss = lambda p: jnp.exp(p[0]) * jnp.sin(p[1]) + p[0] * p[1] ** 3
    point = jnp.asarray([0.3, 0.7])
    exact = gradient(Autodiff(), loss, point)

    @jax.jit
    def error(eps):
        found = kind(eps=eps).estimate(lambda p: (loss(p), {}), point, (), controls={}, key=KEY)[0]
        return jnp.abs(found.gradient - exact)

    steps = 2.0 ** -np.arange(5, 11)
    errors = np.stack([error(e) for e in steps])
    for component in errors.T:
        slope, _ = np.polyfit(np.log(steps), np.log(component), 1)
        assert slope == pytest.approx(order, abs=0.05)


def test_exact_where_the_formula_is(x64):
    matrix = jnp.asarray([[2.0, -1.0, 0.5], [-1.0, 3.0, 0.0], [0.5, 0.0, 1.0]])
    slope, point = jnp.asarray([1.0, -2.0, 3.0]), jnp.asarray([0.5, -1.0, 2.0])
    bowl = lambda p: 0.5 * p @ matrix @ p + slope @ p
    line = lambda p: slope @ p
    eps = 0.25
    np.testing.assert_allclose(gradient(CentralDifference(eps), bowl, point), matrix @ point + slope, rtol=1e-13)
    np.testing.assert_allclose(gradient(ForwardDifference(eps), line, point), slope, rtol=1e-13)
    # Forward on a quadratic is off by half the second derivative times the step, to the right.
    off = gradient(ForwardDifference(eps), bowl, point) - (matrix @ point + slope)
    np.testing.assert_allclose(off, 0.5 * eps * jnp.diag(matrix), rtol=1e-12)


def test_a_central_difference_is_the_loop_one_writes_by_hand(x64):
    params = {"a": np.array([[0.3, -0.2], [0.9, 0.1]]), "b": np.array(0.7)}
    loss = lambda p, lib: lib.sum(lib.sin(p["a"]) ** 3) * lib.exp(p["b"])
    eps = 1e-3
    found = gradient(CentralDifference(eps), lambda p: loss(p, jnp), jax.tree.map(jnp.asarray, params))
    for name, values in params.items():
        expected = np.zeros_like(values)
        for index in np.ndindex(values.shape):
            up, down = ({k: v.copy() for k, v in params.items()} for _ in range(2))
            up[name][index] += eps
            down[name][index] -= eps
            expected[index] = (loss(up, np) - loss(down, np)) / (2 * eps)
        np.testing.assert_allclose(found[name], expected, rtol=1e-10)


def test_chunks_change_no_bit():
    point = jnp.asarray(np.linspace(-1, 1, 7), jnp.float32)
    loss = lambda p: jnp.sum(jnp.abs(p))
    whole = gradient(CentralDifference(0.125), loss, point)
    for size in (4, 15):
        np.testing.assert_array_equal(gradient(CentralDifference(0.125, chunk_size=size), loss, point), whole)


@pytest.mark.parametrize("kind", [SPSA, AntitheticNES])
def test_chunks_draw_the_same_directions(kind, x64):
    point = jnp.asarray(np.linspace(-1, 1, 3))
    loss = lambda p: jnp.sum(p**2)
    count = "directions" if kind is SPSA else "pairs"
    whole = gradient(kind(**{count: 5}), loss, point)
    for size in (2,):
        found = gradient(kind(**{count: 5}, chunk_size=size), loss, point)
        np.testing.assert_allclose(found, whole, rtol=1e-10)


def test_one_pole_spoils_one_slope_of_a_difference():
    loss = lambda p: p[0] ** 2 + jnp.where(p[1] > 1.0, jnp.nan, 0.0).astype(p.dtype)
    found = gradient(CentralDifference(0.1), loss, jnp.float32([1.0, 1.0]))
    assert found[0] == pytest.approx(2.0, rel=1e-3)
    assert np.isnan(found[1])


# ------------------------------------------------------------------------------------ autodiff


def test_autodiff_descends_along_complex_parameters():
    """Against the gradient the loss falls, imaginary parts included; `jax.grad` alone gives the conjugate."""
    target = jnp.asarray([1.0 + 2.0j, -1.0 - 1.0j], jnp.complex64)
    loss = lambda z: jnp.sum(jnp.abs(z - target) ** 2)
    start = jnp.zeros(2, jnp.complex64)
    np.testing.assert_allclose(gradient(Autodiff(), loss, start), -2.0 * target, rtol=1e-6)


# --------------------------------------------------------------------------- random directions


def bowl(params):
    """A quadratic that couples two leaves of the same shape, and its exact gradient below."""
    a, b = params["a"], params["b"]
    return jnp.sum((a - b) ** 2) + 3.0 * a[0] - a[1] * b[0]


BOWL_AT = {"a": np.array([0.5, -1.0]), "b": np.array([2.0, 1.0])}


@functools.cache
def bowl_draws(estimator):
    """Shared by the tests of mean and variance, both in float64."""
    params = jax.tree.map(jnp.asarray, BOWL_AT)
    return draws(estimator, lambda p: bowl(p), params)


@pytest.mark.parametrize("estimator", [SPSA(eps=0.1), AntitheticNES(sigma=0.1, pairs=1)])
def test_unbiased_on_a_quadratic(estimator, x64):
    """A flipped sign, a missing half, or one key for two leaves moves the mean by many errors."""
    params = jax.tree.map(jnp.asarray, BOWL_AT)
    samples, exact = draws(estimator, bowl, params), gradient(Autodiff(), bowl, params)
    for leaf in ("a", "b"):
        error = assert_mean(samples[leaf], exact[leaf])
        assert np.all(error < 0.25)  # sharp enough: the gradient is between 2 and 5


def test_spsa_is_the_slope_along_a_sign_times_that_sign(x64):
    samples = np.asarray(draws(SPSA(eps=0.1), lambda p: 2.0 * p[0] - p[1], jnp.zeros(2), 64))
    slopes = {(1, 1): 1.0, (1, -1): 3.0, (-1, 1): -3.0, (-1, -1): -1.0}
    expected = sorted({tuple(slope * np.array(signs)) for signs, slope in slopes.items()})
    np.testing.assert_allclose(np.unique(samples.round(9), axis=0), expected, rtol=1e-9)


def test_spsa_on_a_cubic_is_off_by_the_square_of_the_step(x64):
    """(L(1 + ε) - L(1 - ε)) / 2ε of x³ is 3 + ε², exactly, for either sign."""
    found = gradient(SPSA(eps=0.5), lambda p: p**3, jnp.asarray(1.0))
    assert found == pytest.approx(3.25, rel=1e-12)


def test_nes_has_the_gradient_of_the_smoothed_cubic(x64):
    sigma, point = 0.5, 0.8
    samples = draws(AntitheticNES(sigma=sigma, pairs=1), lambda p: p**3, jnp.asarray(point))
    error = assert_mean(samples, 3 * point**2 + 3 * sigma**2)
    assert 3 * sigma**2 > 4 * error  # and not of the bare one


@pytest.mark.parametrize("point", [0.0, 0.4, -1.0])
def test_nes_sees_the_slope_of_a_step(point, x64):
    """Smoothed by N(0, σ²), a step is Φ(x / σ): its slope is the Gaussian density at x."""
    sigma = 0.7
    step = lambda p: (p > 0.0).astype(p.dtype)
    samples = draws(AntitheticNES(sigma=sigma, pairs=1), step, jnp.asarray(point))
    density = np.exp(-0.5 * (point / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    error = assert_mean(samples, density)
    assert error < density / 10


@pytest.mark.parametrize("estimator", [SPSA(eps=0.1, directions=3), AntitheticNES(sigma=0.3, pairs=3)])
def test_an_even_function_has_gradient_zero_without_variance(estimator):
    samples = draws(estimator, lambda p: jnp.max(jnp.abs(p)), jnp.zeros(4), 32)
    np.testing.assert_array_equal(samples, 0.0)


@pytest.mark.parametrize(("kind", "reach", "count"), [(SPSA, "eps", "directions"), (AntitheticNES, "sigma", "pairs")])
def test_each_direction_is_a_new_one(kind, reach, count, x64):
    """The variance of a mean of m falls as 1/m; with a key used twice it would not."""
    many = 8
    one, mean = (np.var(bowl_draws(kind(**{reach: 0.1, count: m}))["a"], axis=0) for m in (1, many))
    np.testing.assert_allclose(mean * many, one, rtol=0.2)


@pytest.mark.parametrize(("kind", "count"), [(SPSA, "directions"), (AntitheticNES, "pairs")])
def test_the_spread_of_slopes_is_reported(kind, count):
    estimator = kind(**{count: 8})
    run = jax.jit(lambda p: estimator.estimate(lambda q: (jnp.sum(q**2), {}), p, (), controls={}, key=KEY)[0])
    assert run(jnp.float32([1.0, 2.0])).diagnostics["slope_spread"] > 0.1
    assert run(jnp.float32([0.0, 0.0])).diagnostics["slope_spread"] == 0.0


@pytest.mark.parametrize(("kind", "count", "more"), [(SPSA, "directions", -1), (AntitheticNES, "pairs", 1)])
def test_the_signal_to_noise_ratio_is_that_of_many_draws(kind, count, more, x64):
    """For a linear loss of n parameters the variance of one direction is (n + 1) |g|², of signs (n - 1) |g|²."""
    slope, many = jnp.asarray([1.0, -2.0, 0.5, 3.0]), 8
    run = lambda k: kind(**{count: many}).estimate(lambda p: (slope @ p, {}), 0 * slope, (), controls={}, key=k)[0]
    ratios = jax.jit(jax.vmap(lambda k: run(k).diagnostics["signal_to_noise"]))(jax.random.split(KEY, 500))
    assert np.median(ratios) == pytest.approx(np.sqrt(many / (4 + more)), rel=0.25)


@pytest.mark.parametrize("kind", [CentralDifference, ForwardDifference])
def test_a_step_that_rounding_drowns_is_warned_about(kind):
    with pytest.warns(
        UserWarning, match=r"eps=1e-07 is lost in the rounding of float32.* Take 1e-06 at the very least"
    ):
        kind(1e-7).init(jnp.zeros(3))
    kind(1e-5).init(jnp.zeros(3))


def test_the_same_step_serves_in_double_precision(x64):
    CentralDifference(1e-7).init(jnp.zeros(3))
    CentralDifference(control("eps")).init(jnp.zeros(3))
