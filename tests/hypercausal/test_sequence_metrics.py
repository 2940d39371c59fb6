"""Metrics: published values to the last bit, and the edges the published ones leave open."""

from __future__ import annotations

import math
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hardgrad.core import UsageError
from hardgrad.hypercausal import (
    delta_lag,
    early_auc,
    mape,
    mase,
    overshoot,
    recall_at_lag,
    rmse,
    robustness,
    settling_time,
    smape,
)


def test_published_values(golden: dict[str, Any]) -> None:
    unit = golden["unit"]["metrics"]
    given = unit["inputs"]
    y, p, flags = given["y_true"], given["y_pred"], given["flags"]
    rising = 1 - 0.6 ** np.arange(12)
    found = {
        "mape": mape(y, p, zeros="offset"),
        "mase(naive=roll by 1)": mase(y, p, np.roll(y, 1)),
        "delta_lag": delta_lag(y, p),
        "rmse": rmse(y, p),
        "overshoot": overshoot(y, p),
        "settling_time(tol=0.05)": settling_time(y, p),
        "settling_time(ref=1..1, pred=1-0.6**t, t=0..11, tol=0.05)": settling_time(np.ones(12), rising),
        "settling_time(same, tol=0.3)": settling_time(np.ones(12), rising, tol=0.3),
        "robustness": robustness(y, p),
        "smape_safe": smape(y, p),
        "early_roc_auc(h=1)": early_auc(flags, given["scores"], horizon=1, ties=0.0),
        "early_roc_auc(h=3)": early_auc(flags, given["scores"], horizon=3, ties=0.0),
        "recall_at_lag(1)": recall_at_lag(flags, given["pred_flags"], lag=1, offset=1e-12),
        "recall_at_lag(3)": recall_at_lag(flags, given["pred_flags"], lag=3, offset=1e-12),
    }
    assert found == {name: value for name, value in unit.items() if name != "inputs"}


def test_published_final_metrics(golden: dict[str, Any]) -> None:
    result = golden["result"]
    y, p = np.zeros(48), np.array(result["final_states"])[:, 0]
    found = {"smape": smape(y, p), "rmse": rmse(y, p), "overshoot": overshoot(y, p)}
    assert {**found, "robustness": robustness(y, p)} == result["metrics"]


def test_settling_is_symmetric_about_zero() -> None:
    y, p = np.ones(12), 1 - 0.6 ** np.arange(12)
    assert settling_time(-y, -p) == settling_time(y, p) == 6
    assert settling_time(y, y) == settling_time(-y, -y) == 0


def test_settling_at_zero_takes_an_absolute_band() -> None:
    y, p = np.zeros(12), 0.6 ** np.arange(12)
    assert settling_time(y, p) == 12
    assert settling_time(y, p, floor=0.05) == 6
    assert settling_time(y, np.full(12, np.nan), floor=0.05) == 12


def test_mape_leaves_out_zero_references() -> None:
    assert mape([0.0, 2.0, -4.0], [1.0, 1.0, -5.0]) == pytest.approx(37.5)
    assert math.isnan(mape([0.0], [1.0]))
    assert mape([0.0], [1.0], zeros="offset") == pytest.approx(1e14)


def test_overshoot_of_a_flat_reference_takes_a_scale() -> None:
    assert overshoot(np.zeros(3), [0.5, 0.1, 0.0]) == 0.0
    assert overshoot(np.zeros(3), [0.5, 0.1, 0.0], scale=2.0) == 0.25
    assert overshoot([-2.0, -4.0], [-1.0, -3.0]) == 0.5


def test_smape_and_mase_at_zero() -> None:
    assert smape([0.0, 0.0], [0.0, 1.0]) == 50.0
    assert mase([1.0, 2.0], [1.0, 2.0], [1.0, 2.0]) == 0.0


def test_delta_lag_of_one_step_has_no_direction() -> None:
    assert math.isnan(delta_lag([1.0], [1.0]))
    assert delta_lag([0.0, 1.0, 0.0], [5.0, 6.0, 6.0]) == 0.5


def test_early_auc_within_and_ties() -> None:
    events = [0, 0, 0, 1, 0, 0]
    assert early_auc(events, [0, 1, 2, 0, 0, 0], horizon=3, within=True) == pytest.approx((3 * 0.5 + 6) / 9)
    assert early_auc(events, np.ones(6)) == 0.5
    assert early_auc(events, np.ones(6), ties=0.0) == 0.0
    assert early_auc(np.zeros(6), np.ones(6)) == early_auc(events, np.ones(6), horizon=9) == 0.5


def test_recall_counts_each_event() -> None:
    assert recall_at_lag([0, 1, 0, 1], [1, 0, 0, 0], lag=1) == 0.5
    assert recall_at_lag([0, 1, 0, 1], [0, 1, 0, 1], lag=0) == 1.0
    assert recall_at_lag([0, 0], [1, 1]) == 0.0


SERIES = hnp.arrays(np.float64, st.integers(2, 12), elements=st.floats(-5, 5))


@hypothesis.settings(max_examples=40)
@hypothesis.given(SERIES, st.randoms(use_true_random=False))
def test_ranges(y: Any, random: Any) -> None:
    p = np.array([random.uniform(-5, 5) for _ in y])
    assert 0 <= smape(y, p) <= 100 * (1 + 1e-12)
    assert 0 < robustness(y, p) <= 1
    assert -1 <= delta_lag(y, p) <= 1
    assert 0 <= early_auc(y, p) <= 1
    assert early_auc(y, p) + early_auc(y, -p) == pytest.approx(1)
    assert 0 <= recall_at_lag(y, p) <= 1
    assert 0 <= settling_time(y, p) <= len(y)
    assert rmse(y, y) == 0
    assert smape(y, y) == 0


PAIRS = [smape, rmse, robustness, mape, overshoot, settling_time, delta_lag, early_auc, recall_at_lag]


@pytest.mark.parametrize("metric", PAIRS, ids=lambda m: m.__name__)
def test_shapes_that_would_broadcast_are_refused(metric: Any) -> None:
    with pytest.raises(UsageError, match="one shape"):
        metric(np.ones((5, 1)), np.ones(5))
    with pytest.raises(UsageError, match="must hold"):
        metric(np.ones(0), np.ones(0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: delta_lag(np.ones((2, 2)), np.ones((2, 2))), "one value a step"),
        (lambda: mase([1], [1], [1, 2]), "naive"),
        (lambda: mase([1], [1], [1], offset=0.0), "offset"),
        (lambda: smape([1], [1], floor=0.0), "floor"),
        (lambda: overshoot([1], [1], scale=-1.0), "scale"),
        (lambda: settling_time([1], [1], tol=-1.0), "tol"),
        (lambda: early_auc([1], [1], horizon=0), "horizon"),
        (lambda: early_auc([1], [1], ties=2.0), "ties"),
        (lambda: recall_at_lag([1], [1], lag=-1), "lag"),
        (lambda: recall_at_lag([1], [1], offset=-1.0), "offset"),
    ],
)
def test_numbers_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
