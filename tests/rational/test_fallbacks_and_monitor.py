"""Fallbacks and the monitor against the published answers, and what they refuse."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import numpy as np
import pytest
import rational_golden as golden

from hardgrad.core import UsageError, dumps
from hardgrad.rational import (
    StrictInferenceMonitor,
    reject_on_bottom,
    reject_on_gap,
    route_to_analytic_solver,
    safe_sentinel,
    strict_inference,
    strict_inference_rates,
)


def mask(*flags: int) -> Any:
    return np.array(flags, bool)


def both_signs(x: Any) -> Any:
    """The solver of the golden file."""
    return np.concatenate([x, -x], axis=1)


def test_published_fallbacks() -> None:
    for case in golden.cases("fallback"):
        given = {name: golden.array(case[name], bool) for name in case if name.endswith("_mask")}
        decoded = golden.array(case["decoded"], "float64")
        if case["fn"] in ("reject_on_bottom", "reject_on_gap"):
            found = {"reject_on_bottom": reject_on_bottom, "reject_on_gap": reject_on_gap}[case["fn"]](decoded, **given)
            for part, expected in zip(found, case["out"], strict=True):
                np.testing.assert_array_equal(part, golden.array(expected))
        elif case["fn"] == "safe_sentinel":
            found = safe_sentinel(decoded, **given, sentinel=case["sentinel"])
            np.testing.assert_array_equal(found, golden.array(case["out"]))
        else:
            events: list[Any] = []
            inputs = golden.array(case["inputs"], "float64")
            found = route_to_analytic_solver(decoded, **given, inputs=inputs, solver=both_signs, on_event=events.append)
            np.testing.assert_array_equal(found, golden.array(case["out"]["decoded"]))
            assert events == case["out"]["events"]


def test_a_solver_is_called_once_and_rows_are_whole() -> None:
    asked: list[Any] = []

    def solver(x: Any) -> Any:
        asked.append(x.copy())
        return np.stack([x, x], axis=1)

    decoded = np.array([[1.0, 2.0], [np.nan, 4.0], [5.0, np.nan]], np.float32)
    events: list[Any] = []
    inputs = np.array([10.0, 20.0, 30.0])
    found = route_to_analytic_solver(decoded, np.isnan(decoded), inputs=inputs, solver=solver, on_event=events.append)
    assert [x.tolist() for x in asked] == [[20.0, 30.0]]
    assert found.tolist() == [[1.0, 2.0], [20.0, 20.0], [30.0, 30.0]]
    assert found.dtype == np.float32
    assert np.isnan(decoded[1, 0]), "the argument is not changed"
    assert [event["provenance_tag"] for event in events] == ["unspecified"]


def test_no_row_to_route_asks_nobody() -> None:
    events: list[Any] = []
    decoded = np.array([1.0, np.nan])
    found = route_to_analytic_solver(
        decoded,
        mask(0, 1),
        inputs=np.zeros(2),
        solver=lambda x: pytest.fail("asked"),
        fault_mask=mask(0, 0),
        semantic_bottom_mask=mask(0, 1),
        on_event=events.append,
    )
    np.testing.assert_array_equal(found, decoded)
    assert not events


@pytest.mark.parametrize(("faults", "tag"), [((1, 1), "fault"), ((1, 0), "mixed"), ((0, 0), "finite")])
def test_routed_rows_are_tagged(faults: tuple[int, int], tag: str) -> None:
    events: list[Any] = []
    route_to_analytic_solver(
        np.zeros(2),
        mask(1, 1),
        inputs=np.ones(2),
        solver=np.negative,
        fault_mask=mask(*faults),
        semantic_bottom_mask=mask(0, 0),
        on_event=events.append,
    )
    assert events[0]["provenance_tag"] == tag


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: x[:1], "shape"),
        (lambda x: np.array(["a", "b"]), "must return float64"),
        (lambda x: x * 1j, "must return float64"),
        (lambda x: np.array([1.0, np.nan]), "not finite in 1 of 2 rows, first for row 2"),
    ],
)
def test_a_wrong_answer_of_a_solver_is_refused(answer: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        route_to_analytic_solver(np.zeros(3), mask(0, 1, 1), inputs=np.zeros(3), solver=answer)


def test_fallbacks_refuse_what_does_not_fit() -> None:
    values, flags = np.zeros((3, 2)), mask(1, 0, 0)
    with pytest.raises(UsageError, match="boolean"):
        reject_on_bottom(values, mask(1, 0))
    with pytest.raises(UsageError, match="one shape"):
        reject_on_gap(values, flags, np.zeros((3, 2), bool))
    with pytest.raises(UsageError, match="finite number"):
        safe_sentinel(values, flags, sentinel=np.inf)
    with pytest.raises(UsageError, match="not finite in float32"):
        safe_sentinel(values.astype(np.float32), flags, sentinel=1e300)
    with pytest.raises(UsageError, match="both"):
        route_to_analytic_solver(values, flags, inputs=values, solver=both_signs, fault_mask=flags)
    with pytest.raises(UsageError, match="as many rows"):
        route_to_analytic_solver(values, flags, inputs=np.zeros(2), solver=both_signs)


def test_published_rates() -> None:
    for case in golden.cases("rates"):
        given = {
            name: golden.array(case[name], bool) for name in ("bottom", "gap", "fault", "semantic") if name in case
        }
        names = {"bottom": "bottom_mask", "gap": "gap_mask", "fault": "fault_mask", "semantic": "semantic_bottom_mask"}
        found = strict_inference_rates(**{names[name]: value for name, value in given.items()})
        expected = {name: golden.number(value) for name, value in case["out"].items()}
        assert found == pytest.approx(expected, rel=1e-15, nan_ok=True)


def test_rates_refuse_masks_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match="one shape"):
        strict_inference_rates(mask(1, 0), mask(1))
    assert math.isnan(strict_inference_rates(mask(1, 0))["gap_rate"]), "a gap that was not given is not known"


def watched(**options: Any) -> tuple[StrictInferenceMonitor, list[Any]]:
    """A monitor after the two batches of the golden file."""
    events: list[Any] = []
    monitor = StrictInferenceMonitor(bundle_id="b", drift_threshold=0.2, on_event=events.append, **options)
    monitor.update(
        mask(1, 0, 1, 0, 0),
        mask(0, 1, 0, 0, 0),
        fault_mask=mask(1, 0, 0, 0, 0),
        semantic_bottom_mask=mask(0, 0, 1, 0, 0),
    )
    monitor.update(mask(0, 0, 0, 0), mask(0, 0, 0, 0))
    return monitor, events


def test_published_monitor() -> None:
    (case,) = golden.cases("monitor")
    monitor, events = watched()
    state = monitor.export_state()
    # Ours says in addition what it needs to go on.
    assert {name: state[name] for name in case["out"]["state"]} == case["out"]["state"]
    assert events == case["out"]["events"]


def test_a_restored_monitor_goes_on_as_if_nothing_had_happened() -> None:
    monitor, _ = watched()
    restored = StrictInferenceMonitor.from_state(json.loads(dumps(monitor.export_state())))
    batch = strict_inference(np.ones(4), np.array([1.0, 0.0, np.nan, 1.0]))
    hazard = mask(0, 0, 0, 1)
    assert monitor.update(batch, numerical_hazard_mask=hazard) == restored.update(batch, numerical_hazard_mask=hazard)
    assert monitor.export_state() == restored.export_state()
    assert restored.export_state()["numerical_hazard_rate"] == 1 / 13
    lean = StrictInferenceMonitor.from_state(
        monitor.export_state(include_histograms=False, include_batch_summaries=False)
    )
    assert lean.rates() == monitor.rates()
    new = StrictInferenceMonitor()
    fresh = StrictInferenceMonitor.from_state(new.export_state())
    assert dumps(fresh.export_state()) == dumps(new.export_state())


def test_summaries_are_bounded_and_events_hold_their_numbers() -> None:
    monitor = StrictInferenceMonitor(kept_summaries=3)
    for _ in range(5):
        monitor.update(mask(0, 1))
    summaries = monitor.export_state()["batch_summaries"]
    assert [summary["update_index"] for summary in summaries] == [3, 4, 5]
    drifting = StrictInferenceMonitor(drift_threshold=0.5)
    assert drifting.update(mask(0, 0)) == []
    (event,) = drifting.update(mask(0, 1))
    assert event["direction"] == "decrease"
    assert event["delta"] == 0.5
    column = strict_inference(np.ones((2, 3)), np.array([[1.0], [0.0]]))
    (semantic,) = StrictInferenceMonitor().update(column)
    assert semantic["count"] == 3


def test_a_monitor_refuses_what_it_cannot_count() -> None:
    monitor = StrictInferenceMonitor()
    with pytest.raises(UsageError, match="empty"):
        monitor.update(mask())
    with pytest.raises(UsageError, match="both"):
        monitor.update(mask(1), fault_mask=mask(1))
    with pytest.raises(UsageError, match="no others"):
        monitor.update(strict_inference(np.ones(1), np.ones(1)), mask(0))
    with pytest.raises(UsageError, match="at most 1"):
        StrictInferenceMonitor(drift_threshold=1.5)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "other"),
        (("version",), 2),
        (("n",), -1),
        (("n",), 3),
        (("n_bottom",), 10),
        (("n_bottom",), "2"),
        (("n_updates",), None),
        (("bundle_id",), 7),
        (("previous_batch",), [5, 4]),
        (("previous_batch",), None),
        (("histograms",), []),
        (("histograms", "batch_size", "-1"), 1),
        (("histograms", "batch_size", "4"), 99),
        (("histograms", "other"), {}),
        (("batch_summaries",), {}),
        (("batch_summaries",), [1]),
        (("drift_threshold",), 0.0),
    ],
)
def test_a_state_that_was_tampered_with_is_refused(path: tuple[str, ...], value: Any) -> None:
    state = copy.deepcopy(watched()[0].export_state())
    place = state
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(UsageError):
        StrictInferenceMonitor.from_state(state)
