"""Curves: bounded, monotone, and equal to their formulas."""

from __future__ import annotations

import math

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardgrad.core import Progress, UsageError
from hardgrad.schedules import Cosine, FromOptax, LinearRamp, Warmup

values = st.floats(-1e6, 1e6)
lengths = st.integers(0, 50)


def at_epoch(n):
    return Progress(epoch=n, step=7 * n + 3, epochs=100, steps_per_epoch=7)


def at_step(n, steps_per_epoch=10):
    return Progress(n // 10, n, epochs=10, steps_per_epoch=steps_per_epoch)


@given(values, values, lengths, st.integers(0, 20))
def test_a_ramp_is_monotone_bounded_and_arrives(start, end, over, after):
    ramp = LinearRamp(start, end, over, after=after)
    points = [ramp(at_epoch(n)) for n in range(after + over + 5)]
    assert min(start, end) <= min(points) <= max(points) <= max(start, end)
    assert points == sorted(points, reverse=end < start)
    assert all(p == start for p in points[:after])
    assert all(p == end for p in points[after + over :])
    if over > 0:
        assert points[after] == start


def test_a_ramp_is_a_straight_line():
    assert [LinearRamp(1.0, 3.0, 4, after=1)(at_epoch(n)) for n in range(7)] == [
        1.0,
        1.0,
        1.5,
        2.0,
        2.5,
        3.0,
        3.0,
    ]
    assert LinearRamp(0.0, 1.0, 10, unit="step")(at_step(5)) == 0.5


def test_a_ramp_of_no_length_is_a_jump():
    jump = LinearRamp(1.0, 2.0, over=0, after=3)
    assert [jump(at_epoch(n)) for n in range(5)] == [1.0, 1.0, 1.0, 2.0, 2.0]


@given(values, lengths)
def test_a_warmup_reaches_its_value_and_stays(value, over):
    points = [Warmup(value, over)(at_step(n)) for n in range(over + 3)]
    assert points[max(over, 1) - 1 :] == [value] * (len(points) - max(over, 1) + 1)
    assert points == sorted(points, reverse=value < 0)
    if over > 1:
        assert points[0] == pytest.approx(value / over)


@given(values, values, lengths)
def test_a_cosine_starts_and_ends_where_it_says(start, end, over):
    cosine = Cosine(start, end, over)
    assert cosine(at_epoch(0)) == pytest.approx(start, abs=1e-9 * (abs(start) + abs(end)))
    assert cosine(at_epoch(max(over, 1))) == end
    assert cosine(at_epoch(over + 9)) == end
    slack = 1e-9 * (abs(start) + abs(end))
    assert min(start, end) - slack <= cosine(at_epoch(over // 2)) <= max(start, end) + slack


def test_a_cosine_is_the_formula():
    for n in range(9):
        expected = 0.1 + (0.9 - 0.1) * (1 + math.cos(math.pi * n / 8)) / 2
        assert Cosine(0.9, 0.1, 8, unit="step")(at_step(n)) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("kind", [LinearRamp(0, 1, 5), Warmup(1.0, 5, unit="epoch"), Cosine(0, 1, 5)])
def test_curves_over_epochs_hold_within_one(kind):
    assert kind.per_epoch
    first, last = (kind(Progress(3, step, 10, 7)) for step in (21, 27))
    assert first == last


@pytest.mark.parametrize(
    "kind", [LinearRamp(0, 1, 5, unit="step"), Warmup(1.0, 5), Cosine(0, 1, 5, unit="step"), FromOptax(len)]
)
def test_curves_over_steps_say_so(kind):
    assert not kind.per_epoch


def test_bad_curves_are_refused():
    with pytest.raises(UsageError, match="over must be a whole number, at least 0; got -1"):
        Warmup(1.0, -1)
    for make in (lambda u: LinearRamp(0, 1, 2, unit=u), lambda u: Cosine(0, 1, 2, unit=u)):
        with pytest.raises(Exception, match=r"'epoch' or 'step'|unit"):
            make("batch")


def optax_schedule():
    return optax.warmup_cosine_decay_schedule(0.0, 0.5, warmup_steps=5, decay_steps=30, end_value=0.01)


def test_a_schedule_of_optax_with_and_without_known_length():
    schedule = optax_schedule()
    known, unknown = FromOptax(schedule), FromOptax(schedule)
    for n in (0, 1, 4, 5, 17, 29, 30, 99):
        with jax.numpy_dtype_promotion("standard"):
            expected = float(schedule(np.int32(n)))
        assert known(at_step(n)) == pytest.approx(expected, rel=1e-6, abs=1e-9)
        assert unknown(at_step(n, steps_per_epoch=None)) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert isinstance(known(at_step(3)), float)


def test_a_schedule_of_optax_over_epochs_and_beyond_the_end():
    schedule = FromOptax(optax.linear_schedule(1.0, 0.0, 4), unit="epoch")
    assert schedule.per_epoch
    assert [schedule(Progress(e, 10 * e, epochs=3, steps_per_epoch=10)) for e in (0, 1, 2, 4)] == [
        1.0,
        0.75,
        0.5,
        0.0,
    ]
    assert schedule(Progress(3, 30, epochs=8, steps_per_epoch=10)) == 0.25  # a longer run makes a longer table
