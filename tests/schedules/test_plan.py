"""Plans: order, looking back, errors, speed, and the published seed run to the bit."""

from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardgrad.core import Progress, UsageError
from hardgrad.schedules import (
    Constant,
    DecayByDepthAndEpoch,
    FreezeAfterChange,
    LinearDepth,
    LinearRamp,
    Plan,
    Static,
    ThresholdByDepth,
    Warmup,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "hypercausal.json").read_text())


def at(epoch, steps_per_epoch=1, epochs=16):
    return Progress(epoch, epoch * (steps_per_epoch or 1), epochs, steps_per_epoch)


def seed_plan():
    return Plan(
        depth=LinearDepth(1, 3, over=15),
        learning_rate=DecayByDepthAndEpoch(0.05, 0.5, 0.5),
        eps=DecayByDepthAndEpoch(0.001, 0.3, 0.3),
        max_norm=ThresholdByDepth(((1.5, 0.05), (2.5, 0.075)), otherwise=0.1),
        freeze=FreezeAfterChange(),
    )


# ------------------------------------------------------------------------------- the golden run


@pytest.mark.parametrize("case", [c for c in GOLDEN["unit"]["depth_scheduler"] if c["start"] >= 1])
def test_depth_is_the_published_table(case):
    schedule = LinearDepth(case["start"], case["end"], over=case["epochs"])
    depths = [schedule(at(e)) for e in range(13)]
    assert depths == case["depths_epoch_0_to_12"]
    assert all(type(d) is int for d in depths)


@pytest.mark.parametrize("epoch", GOLDEN["result"]["epochs"], ids=lambda e: str(e["epoch"]))
def test_every_control_of_the_seed_run_to_the_bit(epoch):
    controls = seed_plan().at(at(epoch["epoch"]))
    assert [controls["depth"]] * 3 == epoch["depths"]
    assert controls["learning_rate"] == epoch["lr_eff"]
    assert controls["eps"] == epoch["eps_eff"]
    assert controls["freeze"] is epoch["freeze"]
    if not epoch["freeze"] and epoch["grad_norm_before"] > controls["max_norm"]:
        assert controls["max_norm"] == pytest.approx(epoch["grad_norm_after"], rel=1e-12)


def test_the_seed_run_freezes_in_epochs_4_and_12():
    plan = seed_plan()
    assert [e for e in range(16) if plan.at(at(e))["freeze"]] == [4, 12]
    assert [plan.at(at(e))["max_norm"] for e in (0, 3, 4, 11, 12)] == [0.05, 0.05, 0.075, 0.075, 0.1]


def test_any_single_step_gives_what_the_whole_run_gave():
    """A plan has no state a run could leave behind: a resumed one sees the same controls."""
    plan = seed_plan()
    run = [plan.at(at(e, 5)) for e in range(16)]
    assert [seed_plan().at(at(e, 5)) for e in range(16)] == run
    assert [plan.at(at(e, 5)) for e in reversed(range(16))] == run[::-1]


# ------------------------------------------------------------------------------------ schedules


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 30))
def test_depth_goes_from_one_end_to_the_other(start, end, epochs):
    depths = [LinearDepth(start, end, epochs)(at(e)) for e in range(max(epochs, 1) + 3)]
    assert depths[0] == start
    assert depths[max(epochs, 1)] == depths[-1] == end
    assert depths == sorted(depths, reverse=end < start)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=12))
def test_frozen_exactly_when_the_depth_is_another(depths):
    plan = Plan(depth=lambda p: depths[p.epoch], freeze=FreezeAfterChange())
    frozen = [plan.at(at(e, epochs=len(depths)))["freeze"] for e in range(len(depths))]
    assert frozen == [False] + [a != b for a, b in itertools.pairwise(depths)]


def test_freezing_compares_with_the_last_step_of_the_epoch_before():
    plan = Plan(level=LinearRamp(0, 10, over=10, unit="step"), freeze=FreezeAfterChange(("level",)))
    assert plan.at(Progress(0, 3, 5, 4))["freeze"] is False
    assert plan.at(Progress(1, 4, 5, 4))["freeze"] is True
    flat = Plan(level=LinearRamp(0, 10, over=3, unit="step"), freeze=FreezeAfterChange(("level",)))
    assert flat.at(Progress(1, 7, 5, 4))["freeze"] is False  # 10 at step 3 and at step 7


def test_thresholds_hold_below_their_bounds():
    plan = Plan(depth=LinearRamp(1, 3, over=2), clip=ThresholdByDepth(((2, 0.5), (3, 0.7)), otherwise=1.0))
    assert [plan.at(at(e))["clip"] for e in range(3)] == [0.5, 0.7, 1.0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearDepth(0, 3, over=4), "a depth is at least 1, got start=0"),
        (lambda: LinearDepth(1, 3, over=-1), "over must be a whole number, at least 0; got -1"),
        (lambda: ThresholdByDepth(((2, 0.1), (1, 0.2)), 1.0), "must rise"),
        (lambda: ThresholdByDepth(((2, 0.1), (2, 0.2)), 1.0), "must rise"),
        (lambda: Plan(horizon=Static(lambda p: 2.5)).at(at(0)), "whole number, got 2.5"),
        (lambda: Plan(horizon=Static(lambda p: float("nan"))).at(at(0)), "whole number, got nan"),
        (lambda: Plan(horizon=Static(lambda p: float("inf"))).at(at(0)), "whole number, got inf"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(UsageError, match=message):
        make()


def test_wrong_types_are_named():
    """The suite's runtime type check may come before the library's own; either names the argument."""
    with pytest.raises(Exception, match="watched"):
        FreezeAfterChange("depth")
    for value in ("0.1", None):
        with pytest.raises(Exception, match="eps"):
            Plan(eps=value)


# ---------------------------------------------------------------------------- order and errors


def test_numbers_are_constants_and_static_ones_are_ints():
    plan = Plan(a=1.5, b=True, horizon=Static(lambda p: 2.0 ** (p.epoch + 3)), fixed=Static(64))
    controls = plan.at(at(1))
    assert controls == {"a": 1.5, "b": True, "horizon": 16, "fixed": 64}
    assert type(controls["horizon"]) is int
    assert list(controls) == ["a", "b", "horizon", "fixed"]
    assert plan.static_names == {"horizon", "fixed"}
    assert repr(Plan(a=1.5)) == "Plan(a=Constant(value=1.5))"


def test_per_epoch_is_a_promise_of_all():
    assert seed_plan().per_epoch
    assert Plan(a=Static(LinearDepth(1, 2, 3)), b=1.0).per_epoch
    assert not Plan(a=Constant(1.0), b=Warmup(1.0, 3)).per_epoch
    assert not Plan(a=lambda p: 1.0).per_epoch


def test_a_later_schedule_sees_the_earlier_ones_and_no_others():
    seen = []

    def look(p):
        seen.append((dict(p.controls), len(p.controls), "a" in p.controls, "z" in p.controls, p.controls.get("z", 7)))
        return 0.0

    Plan(a=1.0, b=2.0, look=look, z=3.0).at(at(0))
    assert seen == [({"a": 1.0, "b": 2.0}, 2, True, False, 7)]


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            Plan(lr=lambda p: 1 / p.controls["depth"], depth=2),
            r"'lr' reads 'depth', which the plan sets later. Name 'depth' first: Plan\(depth=..., lr=...\)",
        ),
        (Plan(lr=lambda p: p.controls["lr"]), r"'lr' reads itself.*progress.previous\['lr'\]"),
        (
            Plan(depth=2, lr=lambda p: p.controls["dept"]),
            r"reads the control 'dept', which the plan does not set. Did you mean 'depth'\?",
        ),
        (Plan(depth=2, freeze=FreezeAfterChange(("dept",))), r"Did you mean 'depth'\?"),
    ],
)
def test_reading_what_is_not_set_yet(plan, message):
    with pytest.raises(UsageError, match=message):
        plan.at(at(0))


# --------------------------------------------------------------------------------- looking back


def test_the_previous_controls_are_those_of_the_last_step_of_the_epoch_before():
    seen = []

    def look(p):
        seen.append(None if p.previous is None else dict(p.previous) | {"look": None})
        return float(p.step)

    plan = Plan(step=lambda p: p.step, look=look)
    plan.at(Progress(0, 2, 3, 4))
    plan.at(Progress(2, 9, 3, 4))
    # The second looks at step 7 of epoch 1, which in turn looks at step 3 of epoch 0.
    assert seen[0] is None
    assert seen[-1]["step"] == 7
    assert {"step": 3, "look": None} in seen


def test_previous_may_be_asked_by_name_and_for_any_control():
    plan = Plan(
        early=lambda p: 0 if p.previous is None else p.previous["late"],
        late=lambda p: 10 * p.epoch,
        found=lambda p: p.previous is not None and ("late" in p.previous) and p.previous.get("none", 5) == 5,
    )
    assert [plan.at(at(e))["early"] for e in range(4)] == [0, 0, 10, 20]
    assert plan.at(at(1))["found"]
    with pytest.raises(UsageError, match=r"previous 'lat', which the plan does not set. Did you mean 'late'\?"):
        Plan(late=1.0, x=lambda p: p.previous and p.previous["lat"]).at(at(1))


@pytest.mark.parametrize("steps_per_epoch", [1, 5])
def test_a_value_built_on_its_own_past_costs_one_evaluation_an_epoch(steps_per_epoch):
    calls = []

    def decay(p):
        calls.append(p.epoch)
        return 1.0 if p.previous is None else 0.5 * p.previous["x"] + 0.25 * p.previous["y"]

    def plan():
        return Plan(x=decay, y=lambda p: p.controls["x"] if p.previous is None else p.previous["x"])

    epochs, last, straight = 600, 599, plan()
    run = [straight.at(at(e, steps_per_epoch, epochs)) for e in range(epochs)]
    assert len(calls) <= 2 * epochs
    calls.clear()
    assert plan().at(at(last, steps_per_epoch, epochs)) == run[last]  # resumed: no recursion limit, no blow-up
    assert len(calls) < 3 * epochs
    x = y = 1.0
    for e in range(1, epochs):
        x, y = 0.5 * x + 0.25 * y, x
        assert (run[e]["x"], run[e]["y"]) == (x, y)


def test_a_stream_of_unknown_length_looks_at_the_step_before():
    plan = Plan(n=lambda p: p.step, before=lambda p: -1 if p.previous is None else p.previous["n"])
    assert plan.at(Progress(0, 0, 3))["before"] == -1
    assert plan.at(Progress(1, 8, 3))["before"] == 7


def test_a_failing_schedule_leaves_the_plan_usable():
    broken = [True]

    def fragile(p):
        if broken[0]:
            raise ZeroDivisionError
        return 1.0 if p.previous is None else p.previous["x"] + 1.0

    plan = Plan(x=fragile)
    with pytest.raises(ZeroDivisionError):
        plan.at(at(3))
    broken[0] = False
    assert plan.at(at(3)) == {"x": 4.0}


def test_a_plan_travels_to_another_process():
    plan = seed_plan()
    expected = plan.at(at(5))
    assert pickle.loads(pickle.dumps(plan)).at(at(5)) == expected
