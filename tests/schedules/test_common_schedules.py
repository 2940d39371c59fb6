"""What every schedule keeps. A new one is tested by adding a line to `SCHEDULES`; a public one not there fails."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable
from typing import Any

import optax
import pytest

import hardgrad.schedules as schedules
from hardgrad.core import Progress, UsageError
from hardgrad.schedules import (
    Constant,
    Cosine,
    DecayByDepthAndEpoch,
    FreezeAfterChange,
    FromOptax,
    Horizon,
    LinearDepth,
    LinearRamp,
    Plan,
    Static,
    ThresholdByDepth,
    UniformDraw,
    Warmup,
)
from public_names import public_names

EPOCHS, STEPS = 8, 5


@dataclasses.dataclass(frozen=True)
class Case:
    """How a schedule is made, the type of its values, and the least and greatest of them."""

    name: str
    make: Callable[[], Any]
    kind: type
    low: float
    high: float


DECAY = optax.exponential_decay(0.1, 10, 0.5)

SCHEDULES = [
    Case("Constant", lambda: Constant(3), int, 3, 3),
    Case("LinearRamp", lambda: LinearRamp(0, 1, 4, after=2), float, 0, 1),
    Case("LinearRamp by step", lambda: LinearRamp(1.0, -0.5, 20, unit="step"), float, -0.5, 1),
    Case("Warmup", lambda: Warmup(2, 7), float, 0, 2),
    Case("Warmup by epoch", lambda: Warmup(0.1, 3, "epoch"), float, 0, 0.1),
    Case("Cosine", lambda: Cosine(1e-2, 1e-4, 5), float, 1e-4, 1e-2),
    Case("Cosine by step", lambda: Cosine(0, 1, 23, "step"), float, 0, 1),
    Case("FromOptax", lambda: FromOptax(DECAY), float, 0, 0.1 + 1e-8),
    Case("FromOptax by epoch", lambda: FromOptax(DECAY, unit="epoch"), float, 0, 0.1 + 1e-8),
    Case("LinearDepth", lambda: LinearDepth(1, 4, 6), int, 1, 4),
    Case("DecayByDepthAndEpoch", lambda: DecayByDepthAndEpoch(1, 0.5, 0.1), float, 0, 1),
    Case("ThresholdByDepth", lambda: ThresholdByDepth(((2, 1), (4, 0.5)), 0), float, 0, 1),
    Case("FreezeAfterChange", lambda: FreezeAfterChange(("depth",)), bool, 0, 1),
    Case("Horizon", lambda: Horizon(64, 512, "pow2"), int, 64, 512),
    Case("Horizon by step", lambda: Horizon(64, 512, unit="step", shapes=3), int, 64, 512),
    Case("Static", lambda: Static(Horizon(512, 64, "linear", over=4)), int, 64, 512),
    Case("UniformDraw", lambda: UniformDraw(-1, 2, 3), float, -1, 2),
    Case("UniformDraw by epoch", lambda: UniformDraw(1e-5, 1e-4, unit="epoch"), float, 1e-5, 1e-4),
]
each = pytest.mark.parametrize("case", SCHEDULES, ids=[case.name for case in SCHEDULES])
MOMENTS = [(epoch, step) for epoch in range(EPOCHS) for step in range(epoch * STEPS, (epoch + 1) * STEPS)]


def plan_of(case):
    """A plan with the schedule under test, and the depth that some of them read."""
    return Plan(depth=LinearDepth(1, 4, 6), value=case.make())


def at(plan, epoch, step):
    return plan.at(Progress(epoch, step, EPOCHS, STEPS))["value"]


def values(plan, moments=MOMENTS):
    return {(epoch, step): at(plan, epoch, step) for epoch, step in moments}


def is_schedule(thing):
    """A class whose instances are called with the progress, and nothing else."""
    if not inspect.isclass(thing) or "__call__" not in vars(thing):
        return False
    return list(inspect.signature(thing.__call__).parameters) == ["self", "progress"]


def test_every_public_schedule_is_here():
    public = {thing for thing in public_names().values() if is_schedule(thing)}
    assert Constant in public
    assert public <= {type(case.make()) for case in SCHEDULES}


@each
def test_a_value_depends_on_progress_alone(case):
    """Asked in order, backwards, of a copy, or out of nowhere as a resumed run does: the same to the bit."""
    plan = plan_of(case)
    forwards = values(plan)
    assert values(plan, MOMENTS[::-1]) == forwards
    for epoch, step in MOMENTS[:: STEPS + 1]:
        assert at(plan_of(case), epoch, step) == forwards[epoch, step]


@each
def test_values_are_finite_in_range_and_all_of_one_kind(case):
    """A control that is an int now and a float later is another program: the trainer would compile again."""
    for value in values(plan_of(case)).values():
        assert type(value) is case.kind
        assert math.isfinite(value)
        assert case.low <= value <= case.high


@each
def test_per_epoch_is_declared_truthfully(case):
    """The trainer asks once an epoch where it is declared; where it isn't, some epoch must need asking at each step."""
    found = values(plan_of(case))
    within = [{found[epoch, step] for e, step in MOMENTS if e == epoch} for epoch in range(EPOCHS)]
    declared = case.make().per_epoch
    assert type(declared) is bool
    assert declared == all(len(one) == 1 for one in within)
    assert plan_of(case).per_epoch is declared


@each
def test_after_its_length_and_in_a_run_of_one_epoch_it_has_a_value(case):
    for progress in (Progress(99, 99 * STEPS, 100, STEPS), Progress(0, 0, 1, 1)):
        value = plan_of(case).at(progress)["value"]
        assert type(value) is case.kind
        assert case.low <= value <= case.high


@each
def test_it_describes_itself(case):
    """As config.json and the report show it: equal schedules alike, without addresses, and readable as Python."""
    text = repr(case.make())
    assert text == repr(case.make())
    assert text.startswith(type(case.make()).__name__ + "(")
    assert " at 0x" not in text
    if dataclasses.is_dataclass(case.make()):
        assert eval(text, vars(schedules) | {"inf": math.inf}) == case.make()


@each
def test_it_does_not_change(case):
    schedule = case.make()
    if not dataclasses.is_dataclass(schedule):
        return
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(schedule, dataclasses.fields(schedule)[0].name, 1)
    assert hash(schedule) == hash(case.make())


def fields(case):
    """The names of its arguments; Optax's schedules are checked by Optax."""
    schedule = case.make()
    return {field.name for field in dataclasses.fields(schedule)} if dataclasses.is_dataclass(schedule) else set()


@pytest.mark.parametrize("case", [c for c in SCHEDULES if "unit" in fields(c)], ids=lambda c: c.name)
def test_a_unit_is_epoch_or_step(case):
    with pytest.raises(UsageError, match="counts by 'epoch' or 'step', got 'epochs'"):
        changed(case, unit="epochs")


@pytest.mark.parametrize("case", [c for c in SCHEDULES if "over" in fields(c)], ids=lambda c: c.name)
@pytest.mark.parametrize("bad", [-1, 2.5, True, "4"])
def test_a_length_is_a_whole_number(case, bad):
    with pytest.raises(UsageError, match="over must be a whole number"):
        changed(case, over=bad)


NUMBERS = ("value", "start", "end", "base", "depth_coefficient", "epoch_coefficient", "otherwise", "low", "high")


@pytest.mark.parametrize("case", [c for c in SCHEDULES if set(NUMBERS) & fields(c)], ids=lambda c: c.name)
@pytest.mark.parametrize("bad", [math.nan, math.inf, "1", None])
def test_a_number_is_finite(case, bad):
    for name in set(NUMBERS) & fields(case):
        if (name, bad) == ("otherwise", math.inf):
            changed(case, otherwise=bad)  # no limit
            continue
        with pytest.raises(UsageError, match=f"{name} must be a"):
            changed(case, **{name: bad})


def changed(case, **arguments):
    """The schedule with other arguments, past the suite's own type check, which users do not have."""
    schedule = case.make()
    made = object.__new__(type(schedule))
    for name in fields(case):
        object.__setattr__(made, name, arguments.get(name, getattr(schedule, name)))
    made.__post_init__()
