"""Sweeps and metrics against the published answers, and against plain loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import rational_golden as golden
from hypothesis import given
from hypothesis import strategies as st

from hardgrad.core import UsageError
from hardgrad.rational import (
    binary_summary,
    calibrate,
    fnr_at_fpr,
    pole_metrics_2d,
    pr_auc,
    pr_curve,
    roc_auc,
    tau_infer_sweep,
    tau_infer_sweep_report,
)


def test_published_sweep() -> None:
    for case in golden.cases("tau_sweep"):
        q_abs, in_range = golden.array(case["q_abs"], "float64"), golden.array(case["is_in_range"], bool)
        found = tau_infer_sweep(q_abs, is_in_range=in_range, taus=case["taus"])
        for part, name in zip(found, ("taus", "fn_in", "fp_cens", "bottom_rate"), strict=True):
            np.testing.assert_allclose(part, golden.array(case["out"][name], "float64"), rtol=1e-12, err_msg=name)


def test_a_sweep_rejects_faults_everywhere_and_meets_thresholds_exactly() -> None:
    scores = np.array([np.nan, np.inf, 0.25, 0.5], np.float32)
    found = tau_infer_sweep(scores, is_in_range=np.ones(4, bool), taus=[0.25, 0.5, 1.0])
    assert found.false_rejection_rate.tolist() == [0.5, 0.75, 1.0]


def test_a_sweep_without_thresholds_spans_the_scores() -> None:
    scores, in_range = np.array([0.0, 1e-6, 1.0]), np.array([False, False, True])
    found = tau_infer_sweep(scores, is_in_range=in_range)
    assert found.taus[[0, -1]] == pytest.approx([1e-6, 1.0])
    text = tau_infer_sweep_report(found, title="Held out")
    assert text.startswith("# Held out\n")
    assert text.count("\n| ") == len(found.taus) + 1


def test_a_report_shows_the_calibrated_threshold() -> None:
    Q = np.concatenate([np.full(5, 1e-3), np.linspace(0.1, 0.9, 100)])
    found = calibrate(Q, Q < 0.01, score="denominator")
    text = tau_infer_sweep_report(tau_infer_sweep(Q, is_in_range=Q > 0.01), calibration=found)
    assert found.summary() in text


@pytest.mark.parametrize("taus", [[0.0], [np.nan], [-1.0, 2.0]])
def test_a_sweep_refuses_thresholds_that_are_none(taus: Any) -> None:
    with pytest.raises(UsageError, match="taus"):
        tau_infer_sweep(np.ones(2), is_in_range=np.ones(2, bool), taus=taus)


def test_a_sweep_refuses_arrays_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match="one shape"):
        tau_infer_sweep(np.ones(2), is_in_range=np.ones(3, bool))
    with pytest.raises(UsageError, match="no score"):
        tau_infer_sweep(np.zeros(2), is_in_range=np.ones(2, bool))


def test_published_pole_metrics() -> None:
    names = ("ple", "sign_consistency", "slope_error", "residual_consistency")
    for case in golden.cases("pole_metrics_2d"):
        found = pole_metrics_2d(golden.array(case["inputs"], "float64"), golden.array(case["predictions"], "float64"))
        np.testing.assert_allclose(found, [case["out"][name] for name in names], rtol=1e-12)


def test_an_exact_inverse_has_the_metrics_it_should() -> None:
    theta2 = np.concatenate([np.geomspace(1e-5, 1e-2, 40), -np.geomspace(1e-5, 1e-2, 40)])
    theta1 = np.linspace(0.0, 0.04, 80)
    steps = 1e-3 * np.stack([1 / np.sin(theta2), -1 / np.sin(theta2)], axis=-1)

    def hand(a: Any, b: Any) -> Any:
        return np.stack([2 * np.cos(a) + 0.5 * np.cos(a + b), 2 * np.sin(a) + 0.5 * np.sin(a + b)], axis=-1)

    asked = hand(theta1 + steps[:, 0], theta2 + steps[:, 1]) - hand(theta1, theta2)
    inputs = np.column_stack([theta1, theta2, asked])
    found = pole_metrics_2d(inputs, steps, first_link=2.0, second_link=0.5)
    assert found.slope_error == pytest.approx(0.0, abs=1e-9)
    assert found.residual_consistency == pytest.approx(0.0, abs=1e-20)
    assert found.sign_consistency == 1.0
    assert found.pole_localisation_error == pytest.approx(np.mean(np.sort(np.abs(theta2))[:4]))
    turned = pole_metrics_2d(inputs, np.abs(steps), first_link=2.0, second_link=0.5)
    assert turned.sign_consistency == 0.0
    away = pole_metrics_2d(inputs + np.array([0.0, 1.0, 0.0, 0.0]), steps)
    assert away.slope_error == math.inf
    assert math.isnan(away.sign_consistency)


def test_pole_metrics_refuse_what_is_not_finite_or_does_not_fit() -> None:
    with pytest.raises(UsageError, match="finite"):
        pole_metrics_2d(np.full((2, 4), np.nan), np.zeros((2, 2)))
    with pytest.raises(UsageError, match="are needed"):
        pole_metrics_2d(np.zeros((2, 4)), np.zeros((3, 2)))


def test_published_binary_metrics() -> None:
    for case in golden.cases("binary_metrics"):
        labels, scores = golden.array(case["y_true"]), golden.array(case["y_score"])
        out, budget = case["out"], case["fpr_budget"]
        found = binary_summary(labels, scores, budget=budget)
        assert (found.valid, found.positive, found.negative) == (out["n_valid"], out["n_pos"], out["n_neg"])
        assert found.roc_auc == pytest.approx(out["auroc"], rel=1e-12)
        curve = pr_curve(labels, scores)
        np.testing.assert_allclose(curve.precision, case["pr_curve"]["precision"], rtol=1e-12)
        np.testing.assert_allclose(curve.recall, case["pr_curve"]["recall"], rtol=1e-12)
        # Theirs names, for each point, the next score instead of its own.
        np.testing.assert_array_equal(curve.thresholds[1:], case["pr_curve"]["thresholds"][:-1])
        # Theirs breaks ties by the order of the rows: its average precision takes rows one by one,
        one_by_one = labels[np.argsort(-scores, kind="stable")]
        precision = np.cumsum(one_by_one) / np.arange(1, len(labels) + 1)
        assert np.mean(precision[one_by_one == 1]) == pytest.approx(out["auprc"], rel=1e-12)
        # so that other orders of the same rows give another; and no threshold has the rates it reports.
        assert found.pr_auc == pytest.approx(0.25 + 0.5 * 0.6 + 0.25 * 4 / 7, rel=1e-12)
        theirs = (out["fnr_at_fpr"]["fpr"], out["fnr_at_fpr"]["fnr"])
        rates = [(np.mean(scores[labels == 0] >= tau), np.mean(scores[labels == 1] < tau)) for tau in np.unique(scores)]
        assert not any(pair == pytest.approx(theirs) for pair in rates)
        within = [pair for pair in rates if pair[0] <= budget]
        assert found.at_budget[1:] == pytest.approx(min(within, key=lambda pair: pair[1]))


ROWS = st.lists(
    st.tuples(st.booleans(), st.sampled_from([-np.inf, -1.0, 0.0, -0.0, 0.5, 2.0, np.inf, np.nan])),
    min_size=1,
    max_size=12,
)


@given(rows=ROWS, budget=st.sampled_from([0.0, 0.3, 1.0]))
def test_binary_metrics_are_those_of_plain_loops_in_any_order(rows: list[Any], budget: float) -> None:
    labels, scores = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    kept = [(label, score) for label, score in rows if not math.isnan(score)]
    positive, negative = [s for label, s in kept if label], [s for label, s in kept if not label]
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    auc = sum(pairs) / len(pairs) if pairs else math.nan
    assert roc_auc(labels, scores) == pytest.approx(auc, nan_ok=True)

    average, before = (0.0 if positive else math.nan), 0.0
    point = (math.inf, 0.0 if negative else math.nan, 1.0 if positive else math.nan)
    for tau in sorted({score for _, score in kept}, reverse=True):
        hits, wrong = sum(s >= tau for s in positive), sum(s >= tau for s in negative)
        if positive:
            average += (hits / len(positive) - before) * hits / (hits + wrong)
            before = hits / len(positive)
        fpr = wrong / len(negative) if negative else math.nan
        if not fpr > budget:
            point = (tau, fpr, 1 - hits / len(positive) if positive else math.nan)
    assert pr_auc(labels, scores) == pytest.approx(average, nan_ok=True)
    assert tuple(fnr_at_fpr(labels, scores, budget=budget)) == pytest.approx(point, nan_ok=True)
    summary = binary_summary(labels[::-1], scores[::-1], budget=budget)
    assert summary.pr_auc == pytest.approx(average, nan_ok=True)
    assert (summary.positive, summary.negative) == (len(positive), len(negative))


def test_binary_metrics_refuse_what_does_not_fit() -> None:
    with pytest.raises(UsageError, match="one shape"):
        roc_auc(np.array([0, 1]), np.ones(3))
    with pytest.raises(UsageError, match="0 and 1"):
        roc_auc(np.array([0, 2]), np.ones(2))
    with pytest.raises(UsageError, match="from 0 to 1"):
        fnr_at_fpr(np.array([0, 1]), np.ones(2), budget=1.5)
