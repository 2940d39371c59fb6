"""Draws: inside their bounds, independent, and the same for the same seed and step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardgrad.core import Progress, UsageError
from hardgrad.schedules import Plan, UniformDraw

bounds = st.floats(-1e300, 1e300)


def at_step(n):
    return Progress(epoch=n // 10, step=n, epochs=1000, steps_per_epoch=10)


@given(bounds, bounds, st.integers(0, 2**64), st.integers(0, 10**7))
def test_a_draw_lies_in_its_interval_and_is_the_same_again(a, b, seed, step):
    low, high = min(a, b), max(a, b)
    drawn = UniformDraw(low, high, seed)(at_step(step))
    assert low <= drawn < high or low == drawn == high
    assert drawn == UniformDraw(low, high, seed)(at_step(step))
    assert type(drawn) is float


def test_draws_are_uniform_and_independent():
    draw = UniformDraw(5e-5, 2e-4, seed=3)
    values = np.array([draw.at(n) for n in range(20_000)])
    unit = (values - 5e-5) / 1.5e-4
    share, _ = np.histogram(unit, bins=10, range=(0, 1))
    assert np.all(np.abs(share - 2000) < 5 * np.sqrt(2000))
    assert abs(np.corrcoef(unit[:-1], unit[1:])[0, 1]) < 0.03
    assert len(np.unique(values)) == len(values)  # blocks do not repeat each other


def test_steps_epochs_and_seeds_tell_draws_apart():
    by_step, by_epoch = UniformDraw(0, 1), UniformDraw(0, 1, unit="epoch")
    assert len({by_step(at_step(n)) for n in range(30)}) == 30
    assert len({by_epoch(at_step(n)) for n in range(30)}) == 3
    assert by_epoch.per_epoch
    assert not by_step.per_epoch
    assert UniformDraw(0, 1, seed=1).at(0) != by_step.at(0)


def test_equal_bounds_are_a_constant():
    draw = UniformDraw(1e-4, 1e-4)
    assert draw.per_epoch
    assert {draw(at_step(n)) for n in range(5)} == {1e-4}


def test_it_stands_in_a_plan():
    plan = Plan(tau=UniformDraw(1, 2), half=lambda p: p.controls["tau"] / 2)
    now = plan.at(at_step(4))
    assert now["half"] * 2 == now["tau"] == UniformDraw(1, 2).at(4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((2.0, 1.0), "low must be at most high"),
        ((0.0, float("inf")), "high must be a finite number"),
        ((float("nan"), 1.0), "low must be a finite number"),
        ((0.0, 1.0, -1), "seed must be a whole number"),
    ],
)
def test_what_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        UniformDraw(*given)
