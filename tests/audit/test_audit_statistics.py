"""Intervals hold the truth as often as they say; figures are those of closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from hardgrad.audit import Interval
from hardgrad.audit._agreement import Directions, agreement
from hardgrad.audit._growth import growth
from hardgrad.audit._noise import scatter
from hardgrad.audit._probe import rounding_noise
from hardgrad.audit._shares import rows
from hardgrad.audit._statistics import Jackknife, cross_mean, ratio


def drawn(rng, size, frames, many):
    """Frames of orthonormal directions, end to end."""
    return np.concatenate([np.linalg.qr(rng.normal(size=(size, many)))[0].T for _ in range(frames)])


def judged(slopes, directions, gradients, frames, **settings):
    shared = Directions.of(directions, gradients, frames=frames)
    given = {"radius": 0.1, "distance": 1.0, "noise": 0.0, "non_finite": 0.0, **settings}
    return agreement(slopes.reshape(frames, -1), shared, **given)


def test_a_linear_loss_and_its_own_gradient_agree_exactly_however_few_the_directions():
    rng = np.random.default_rng(0)
    gradient = rng.normal(size=5000)
    directions = drawn(rng, 5000, 8, 2)
    found = judged(directions @ gradient, directions, gradient[None], 8)
    for figure, truth in ((found.cosine, 1), (found.norm_ratio, 1), (found.linear, 1), (found.bias, 0)):
        assert figure.value == pytest.approx(truth, abs=1e-6)
        assert figure.low - 1e-6 <= truth <= figure.high + 1e-6
        assert figure.high - figure.low < 1e-6
    assert found.slope.value == pytest.approx(np.linalg.norm(gradient), rel=1e-9)


@pytest.mark.parametrize(("size", "many"), [(6, 6), (60, 8)])
@pytest.mark.parametrize("angle", [0.8, 2.2])
@pytest.mark.parametrize("estimates", [1, 16])
def test_intervals_hold_the_truth_at_their_rate(size, many, angle, estimates):
    rng = np.random.default_rng(1)
    runs, frames, length = 40, 16, 1.7
    held = dict.fromkeys(("cosine", "norm_ratio", "bias"), 0)
    truth = {
        "cosine": math.cos(angle),
        "norm_ratio": length,
        "bias": math.sqrt(1 + length**2 - 2 * length * math.cos(angle)),
    }
    for _ in range(runs):
        slope, across = np.linalg.qr(rng.normal(size=(size, 2)))[0].T
        mean = length * (math.cos(angle) * slope + math.sin(angle) * across)
        noise = 2.0 * rng.normal(size=(estimates, size)) / math.sqrt(size) if estimates > 1 else 0.0
        directions = drawn(rng, size, frames, many)
        rough = 0.5 * rng.normal(size=len(directions)) / math.sqrt(size)  # what no gradient explains
        found = judged(directions @ slope + rough, directions, mean[None] + noise, frames)
        for name in held:
            figure = getattr(found, name)
            held[name] += not figure.known or figure.low <= truth[name] <= figure.high
    # At 95 % no more than one in a thousand simulations would hold fewer.
    least = scipy.stats.binom.ppf(1e-3, runs, 0.95)
    assert all(count >= least for count in held.values()), held


def test_what_is_not_a_gradient_is_told_apart():
    rng = np.random.default_rng(2)
    slope, directions = rng.normal(size=20), drawn(rng, 20, 64, 4)
    rough = rng.normal(size=len(directions)) * np.linalg.norm(slope) / math.sqrt(20)
    found = judged(directions @ slope + rough, directions, slope[None], 64)
    assert found.linear.low < 0.5 < found.linear.high  # as much again as the slope's own


def test_states_that_are_not_judged():
    rng = np.random.default_rng(3)
    directions, gradient = drawn(rng, 10, 8, 4), rng.normal(size=(1, 10))
    assert judged(np.zeros(32), directions, gradient, 8).state == "flat"
    assert judged(1e-6 * rng.normal(size=32), directions, gradient, 8, noise=1e-6).state == "rounding"
    half = rng.normal(size=32)
    assert judged(half, directions, gradient, 8, noise=1.0).state == "rounding"
    broken = np.where(np.arange(32) < 20, np.nan, half)
    assert judged(broken, directions, gradient, 8, non_finite=0.6).state == "non-finite"
    some = judged(np.where(np.arange(32) < 4, np.nan, half), directions, gradient, 8, non_finite=0.1)
    assert some.state == "judged"
    without = judged(half, directions, np.zeros((1, 10)), 8)
    assert without.judged
    assert without.slope.high > 0
    assert math.isnan(without.cosine.value)


def test_fieller_is_the_interval_of_a_ratio_of_means():
    rng = np.random.default_rng(4)
    held = 0
    for _ in range(300):
        both = rng.normal([1.0, 2.0], [0.8, 1.0], (20, 2))
        total = both.sum(axis=0)
        left = (total - both) / 19
        found = ratio(Jackknife(total / 20, (left,)))
        held += found.low <= 0.5 <= found.high
    assert held >= scipy.stats.binom.ppf(1e-3, 300, 0.95)
    nothing = rng.normal([1.0, 0.0], 1.0, (20, 2))
    found = ratio(Jackknife(nothing.mean(axis=0), ((nothing.sum(axis=0) - nothing) / 19,)))
    assert not found.known


def test_intervals_as_text():
    assert str(Interval(0.874, 0.81, 0.93)) == "0.87 [0.81, 0.93]"
    assert str(Interval(1.0, 0.9999, 1.0)) == "1.00"
    assert str(Interval(2.0, math.nan, math.nan)) == "2.00 [?]"
    assert str(Interval(math.nan, math.nan, math.nan)) == "-"


def test_the_square_of_a_mean_is_unbiased():
    rng = np.random.default_rng(5)
    found = [cross_mean(g @ g.T) for g in 0.5 + rng.normal(size=(4000, 3, 2))]
    assert np.mean(found) == pytest.approx(0.5, abs=4 * np.std(found) / math.sqrt(4000))


def test_scatter_is_that_of_the_distribution_and_falls_as_the_square_root():
    rng = np.random.default_rng(6)
    mean, held = np.full(50, 0.1), 0
    truth = math.sqrt(50 * 0.01 / (50 * 0.25))  # 0.2
    for _ in range(40):
        draws = mean + 0.5 * rng.normal(size=(64, 50))
        found = scatter(draws @ draws.T, cost=3)
        held += found.signal_to_noise.low <= truth <= found.signal_to_noise.high
    assert held >= scipy.stats.binom.ppf(1e-3, 40, 0.95)
    draws = mean + 0.5 * rng.normal(size=(1024, 50))
    found = scatter(draws @ draws.T, cost=3)
    assert found.norm.low <= math.sqrt(0.5) <= found.norm.high
    assert found.evaluations_for_one == pytest.approx(3 * 25, rel=0.2)
    for one in found.averaged[:6]:
        assert one.evaluations == 3 * one.estimates
        assert one.signal_to_noise == pytest.approx(truth * math.sqrt(one.estimates), rel=0.2)
    still = scatter(np.ones((4, 4)), cost=3)
    assert still.quiet
    assert scatter(np.ones((1, 1)), cost=3) is None


H = np.array([4, 8, 16, 32, 64])


@pytest.mark.parametrize(
    ("norm", "law", "per_doubling"),
    [
        (lambda h: 0.0 * h + 2.0, "flat", 1.0),
        (lambda h: 3.0 * h, "linear", 2.0),
        (lambda h: h**2.5, "polynomial", 2**2.5),
        (lambda h: np.exp(0.3 * h), "exponential", None),
        (lambda h: h * np.exp(0.3 * h), "exponential", None),
        (lambda h: 1.0 / h, "falling", 0.5),
        (lambda h: np.where(h < 64, 1.0 * h, np.inf), "overflow", 2.0),
    ],
)
def test_laws_of_growth(norm, law, per_doubling):
    rng = np.random.default_rng(7)
    values = norm(H.astype(float))
    found = growth("horizon", H.tolist(), [v * np.exp(0.02 * rng.normal(size=5)) for v in values])
    assert found.law == law
    if per_doubling is not None:
        assert found.per_doubling == pytest.approx(per_doubling, rel=0.05)
    if law == "exponential":
        assert found.per_step == pytest.approx(math.exp(0.3), rel=0.06)


def test_rows_that_carry_the_norm():
    even = rows(np.ones(20))
    assert (even.half, even.largest, even.silent, even.non_finite) == (0.5, 1.0, 0.0, 0.0)
    poles = rows(np.array([1e6, *[1.0] * 97, 0.0, np.inf]))
    assert poles.half == pytest.approx(1 / 99)
    assert poles.largest == 1e6
    assert (poles.silent, poles.non_finite) == (0.01, 0.01)
    assert math.isnan(rows(np.zeros(4)).half)


def test_rounding_noise_is_measured_and_blind_to_smooth_change_and_to_a_jump():
    rng = np.random.default_rng(8)
    t = np.arange(8.0)
    smooth = 1.0 + 1e-5 * t + 1e-7 * t**2 + np.zeros((200, 1))
    noisy = smooth + 1e-6 * rng.normal(size=(200, 8))
    assert rounding_noise(noisy, 1.0, 1e-12) == pytest.approx(1e-6, rel=0.35)  # a median of squares lies below the mean
    noisy[3, 4:] += 0.5
    assert rounding_noise(noisy, 1.0, 1e-12) == pytest.approx(1e-6, rel=0.35)
    assert rounding_noise(np.ones((4, 8)), 1.0, 1e-7) == pytest.approx(0.25e-7)
