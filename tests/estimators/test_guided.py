"""Guided sampling: exact along the guide, unbiased across it, and its variance in closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardgrad.core import AbstractEstimator, Contract, Estimate, Order, UsageError
from hardgrad.estimators import AntitheticNES, Autodiff, GuidedES

KEY = jax.random.key(0)


class Guide(AbstractEstimator):
    """A guide of a given direction, at no cost."""

    gradient: jax.Array

    @property
    def contract(self):
        return Contract(Order.ONE, needs_key=False, fixed_evaluations=1, backward_passes=1)

    def init(self, params):
        return ()

    def estimate(self, loss_fn, params, state, *, controls, key):
        loss, metrics = loss_fn(params)
        return Estimate(loss, self.gradient, metrics, {}), state


def draws(estimator, slope, count):
    """Independent estimates of a linear loss's gradient, and their diagnostics."""
    run = lambda k: estimator.estimate(lambda p: (slope @ p, {}), jnp.zeros_like(slope), (), controls={}, key=k)[0]
    found = jax.jit(jax.vmap(run))(jax.random.split(KEY, count))
    return np.asarray(found.gradient), found.diagnostics


SLOPE = np.array([1.0, -2.0, 0.5, 3.0, 0.0, 1.5])
GUIDE = np.array([1.0, 1.0, 0.0, 2.0, 0.0, 0.0])
UNIT = GUIDE / np.linalg.norm(GUIDE)
ALONG = SLOPE @ UNIT
ACROSS = SLOPE - ALONG * UNIT
PAIRS, MANY = 5, 20_000


def test_mean_and_variance_are_the_closed_forms(x64):
    """Across the guide (D - 1) + 1 times ‖g_⊥‖² / (K - 1); along it none. Isotropic: (D + 1) ‖g‖² / K."""
    size = SLOPE.size
    found, said = draws(GuidedES(Guide(jnp.asarray(GUIDE)), sigma=0.1, pairs=PAIRS), jnp.asarray(SLOPE), MANY)
    np.testing.assert_allclose(found @ UNIT, ALONG, rtol=1e-12)
    error = found.std(axis=0) / np.sqrt(MANY)
    assert np.all(np.abs(found.mean(axis=0) - SLOPE) < 4 * error + 1e-12)
    guided = np.sum(found.var(axis=0))
    assert guided == pytest.approx(size * (ACROSS @ ACROSS) / (PAIRS - 1), rel=0.03)
    plain, _ = draws(AntitheticNES(sigma=0.1, pairs=PAIRS), jnp.asarray(SLOPE), MANY)
    isotropic = np.sum(plain.var(axis=0))
    assert isotropic == pytest.approx((size + 1) * (SLOPE @ SLOPE) / PAIRS, rel=0.03)
    assert guided < isotropic
    # The scatter of its directions estimates the same noise: on the average over steps, without bias.
    true_ratio = np.sqrt(SLOPE @ SLOPE / guided)
    assert np.median(said["signal_to_noise"]) == pytest.approx(true_ratio, rel=0.25)
    np.testing.assert_allclose(said["guide_gain"], ALONG / np.linalg.norm(GUIDE), rtol=1e-12)


def test_the_guides_length_and_sign_do_not_matter(x64):
    loss = lambda p: (jnp.sum(jnp.sin(p)), {})
    at = jnp.asarray(SLOPE)
    run = jax.jit(lambda guide: GuidedES(Guide(guide), pairs=4).estimate(loss, at, (), controls={}, key=KEY)[0])
    one, other = run(jnp.asarray(GUIDE)), run(jnp.asarray(-1e-6 * GUIDE))
    np.testing.assert_allclose(other.gradient, one.gradient, rtol=1e-9)
    assert one.diagnostics["guide_gain"] * other.diagnostics["guide_gain"] < 0


def test_one_pair_gives_the_guide_its_true_slope(x64):
    """The calibrated form: no randomness at all."""
    estimator = GuidedES(Guide(jnp.asarray(GUIDE)), sigma=0.5, pairs=1)
    assert not estimator.contract.needs_key
    assert estimator.contract.fixed_evaluations == 3
    found, _ = draws(estimator, jnp.asarray(SLOPE), 2)
    np.testing.assert_allclose(found, np.stack([ALONG * UNIT] * 2), rtol=1e-12)


def test_without_a_guide_it_is_plain_sampling(x64):
    found, said = draws(GuidedES(Guide(jnp.zeros(6)), sigma=0.1, pairs=PAIRS), jnp.asarray(SLOPE), MANY)
    error = found.std(axis=0) / np.sqrt(MANY)
    assert np.all(np.abs(found.mean(axis=0) - SLOPE) < 4 * error)
    assert np.all(said["blind"] == 1.0)
    assert np.sum(found.var(axis=0)) == pytest.approx(7 * (SLOPE @ SLOPE) / (PAIRS - 1), rel=0.03)


def test_the_mix_is_a_straight_line_between_guide_and_sample(x64):
    slope, guide = jnp.asarray(SLOPE), jnp.asarray(GUIDE)
    estimate = lambda mix: (
        GuidedES(Guide(guide), pairs=3, mix=mix)
        .estimate(lambda p: (slope @ p, {}), jnp.zeros(6), (), controls={}, key=KEY)[0]
        .gradient
    )
    run = jax.jit(estimate)
    guided, sampled = run(0.0), run(1.0)
    np.testing.assert_array_equal(guided, GUIDE)
    np.testing.assert_allclose(run(0.25), 0.75 * guided + 0.25 * sampled, rtol=1e-12)


def test_chunks_draw_the_same_directions(x64):
    slope, guide = jnp.asarray(SLOPE), jnp.asarray(GUIDE)
    whole, _ = draws(GuidedES(Guide(guide), pairs=6), slope, 1)
    found, _ = draws(GuidedES(Guide(guide), pairs=6, chunk_size=2), slope, 1)
    np.testing.assert_allclose(found, whole, rtol=1e-9)


def test_the_right_guide_of_a_quadratic_has_gain_one():
    loss = lambda p: (jnp.sum((p - 1.0) ** 2), {})
    found, _ = GuidedES(Autodiff(), sigma=0.1, pairs=3).estimate(loss, jnp.zeros(4), (), controls={}, key=KEY)
    assert found.diagnostics["guide_gain"] == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_allclose(found.gradient, -2.0, rtol=1e-3)  # nothing lies across


@pytest.mark.parametrize(
    ("name", "value"), [("mix", -0.1), ("mix", 1.5), ("mix", None), ("pairs", 0), ("chunk_size", 0), ("sigma", 0.0)]
)
def test_numbers_out_of_range(name, value):
    with pytest.raises(UsageError, match=f"{name} must be"):
        GuidedES(Autodiff(), **{name: value})
