"""Horizons: the published formulas, few shapes, and plain integers."""

from __future__ import annotations

import warnings

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardgrad import Autodiff, GradientMethod, Horizon, Plan, Static, Trainer
from hardgrad.core import Progress, UsageError

lengths = st.integers(2, 4096)
totals = st.integers(1, 60)


def at_epoch(epoch, epochs=50, steps_per_epoch=7):
    return Progress(epoch, epoch * steps_per_epoch, epochs, steps_per_epoch)


def published(kind, epoch, epochs, low, high):
    """Section 7 of the reference, written out with NumPy."""
    if kind == "const" or epochs <= 1:
        return high
    if kind == "pow2":
        buckets = [2**i * low for i in range(40) if 2**i * low < high] + [high]
        return buckets[min(int(np.floor(epoch * len(buckets) / epochs)), len(buckets) - 1)]
    t = epoch / (epochs - 1)
    value = low + t * (high - low) if kind == "linear" else low * np.power(high / low, t)
    return int(np.rint(value))


@pytest.mark.parametrize("kind", ["geom", "linear", "const", "pow2"])
@given(low=lengths, high=lengths, epochs=totals)
def test_every_kind_is_its_formula(kind, low, high, epochs):
    horizon = Horizon(low, high, kind)
    ours = [horizon(at_epoch(e, epochs)) for e in range(epochs)]
    theirs = [published(kind, e, epochs, low, high) for e in range(epochs)]
    # A rounding error of the power may decide a tie; nothing else may differ.
    assert all(abs(a - b) <= (kind == "geom") for a, b in zip(ours, theirs, strict=True))
    assert ours[-1] == (theirs[-1] if kind == "pow2" else high)  # fewer epochs than powers: the last is not reached
    assert ours[0] == (low if epochs > 1 and kind != "const" and not (kind == "pow2" and low >= high) else high)
    assert all(type(value) is int for value in ours)
    if kind != "pow2":
        assert ours == sorted(ours, reverse=high < low)


def test_the_published_curriculum():
    def first_above(kind, samples):
        horizon = Horizon(512, 2048, kind)
        return next(e for e in range(50) if horizon(at_epoch(e)) > samples)

    assert [Horizon(512, 2048, "pow2")(at_epoch(e)) for e in (0, 16, 17, 33, 34, 49)] == [
        512,
        512,
        1024,
        1024,
        2048,
        2048,
    ]
    # When the published windows, whose onset stands at sample 1102, first show it.
    assert [first_above(kind, 1102) for kind in ("geom", "linear", "pow2")] == [28, 19, 34]
    assert Horizon(512, 2000, "pow2").values(50) == [512, 1024, 2000]
    assert Horizon(2048, 512, "pow2").values(50) == [512]


@pytest.mark.parametrize("kind", ["geom", "linear"])
@given(low=lengths, high=lengths, shapes=st.integers(1, 8), epochs=totals)
def test_stairs_take_few_values_for_equal_times(kind, low, high, shapes, epochs):
    horizon = Horizon(low, high, kind, shapes=shapes)
    values = [horizon(at_epoch(e, epochs)) for e in range(epochs)]
    assert len(set(values)) <= shapes
    assert values == sorted(values, reverse=high < low)
    if epochs >= shapes:
        assert values[-1] == high
        assert values[0] == (low if shapes > 1 and epochs > 1 else high)
    if epochs % shapes == 0 and len(set(values)) == shapes and epochs > 1:
        assert {values.count(value) for value in values} == {epochs // shapes}


def test_stairs_of_three_are_powers_of_two():
    assert Horizon(512, 2048, shapes=3).values(50) == Horizon(512, 2048, "pow2").values(50)


def test_it_counts_steps_and_keeps_its_length():
    horizon = Horizon(100, 200, "linear", unit="step")
    assert [horizon(Progress(0, step, epochs=3, steps_per_epoch=7)) for step in (0, 10, 20)] == [100, 150, 200]
    assert not horizon.per_epoch
    assert Horizon(100, 200).per_epoch
    fixed = Horizon(100, 200, "linear", over=11)
    # Culled after 4 epochs or continued beyond the full run, the horizons of an epoch stay what they were.
    assert [fixed(at_epoch(5, epochs)) for epochs in (6, 11, 40)] == [150, 150, 150]
    assert fixed(at_epoch(30, 40)) == 200
    with pytest.raises(UsageError, match="over=STEPS"):
        horizon(Progress(0, 0, epochs=3))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "pow3"}, "kind is not 'pow3'. Did you mean 'pow2'"),
        ({"kind": None}, "kind is not None"),
        ({"unit": "batch"}, "'epoch' or 'step', got 'batch'"),
        ({"start": 1}, "start must be a whole number, at least 2; got 1"),
        ({"end": 2.5}, "end must be a whole number, at least 2; got 2.5"),
        ({"over": 0}, "over must be a whole number, at least 1; got 0"),
        ({"shapes": 0}, "shapes must be a whole number, at least 1; got 0"),
        ({"kind": "pow2", "shapes": 3}, "those of 'pow2' are few already"),
    ],
)
def test_a_wrong_horizon_is_refused(given, message):
    horizon = Horizon(512, 2048)
    for name, value in given.items():  # past the type checks of this suite, which a user's program does not make
        object.__setattr__(horizon, name, value)
    with pytest.raises(UsageError, match=message):
        horizon.__post_init__()


def test_the_trainer_compiles_a_program_for_each_of_few_shapes():
    seen = []

    def objective(model, batch, controls, key):
        seen.append(controls["horizon"])
        return jnp.mean(jnp.square(model * jnp.ones(controls["horizon"]) - 1.0)), {}

    def fit(horizon):
        trainer = Trainer(GradientMethod(Autodiff(), optax.sgd(0.1)), plan=Plan(horizon=Static(horizon)))
        return trainer.fit(jnp.array(0.0), objective, jnp.ones((4, 1)), epochs=12, batch_size=4)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(Horizon(4, 16, shapes=3))
    assert set(seen) == {4, 8, 16}
    with pytest.warns(UserWarning, match="'horizon' take 12 different values"):
        fit(Horizon(4, 160))
