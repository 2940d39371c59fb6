"""Calibration: its counts are those of decoding, its intervals hold, and it refuses what data can't support."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hardgrad.core import UsageError, dumps
from hardgrad.rational import (
    Calibration,
    InferenceConfig,
    Proportion,
    assess_threshold,
    calibrate,
    rejection_score,
    strict_inference,
)

DTYPES = [np.float32, np.float64]


def toy(seed: int, finite: int = 400, bottom: int = 60, dtype: Any = np.float64) -> tuple[Any, Any, NDArray[np.bool_]]:
    """(P, Q) of finite rows, and of ⊥ rows whose Q is smaller, though not always; labels."""
    rng = np.random.default_rng(seed)
    spread = np.concatenate([np.full(finite, 0.8), np.full(bottom, 1.5)])
    Q = np.exp(spread * rng.normal(size=finite + bottom)) * np.concatenate(
        [np.full(finite, 1.0), np.full(bottom, 0.02)]
    )
    P = rng.normal(size=finite + bottom) + np.sign(rng.normal(size=finite + bottom))
    return P.astype(dtype), Q.astype(dtype), np.arange(finite + bottom) >= finite


def binomial_tail(k: int, n: int, p: float) -> float:
    """P(X ≤ k) for a binomial X, summed."""
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (1, 1), (7, 200)])
def test_an_interval_is_that_of_clopper_and_pearson(k: int, n: int) -> None:
    share = Proportion(k, n, 0.9)
    # By definition: at either end, what was seen or more extreme has probability 5 %.
    assert share.low == 0.0 if k == 0 else 1 - binomial_tail(k - 1, n, share.low) == pytest.approx(0.05, rel=1e-9)
    assert share.high == 1.0 if k == n else binomial_tail(k, n, share.high) == pytest.approx(0.05, rel=1e-9)
    assert (
        share.upper_bound == 1.0 if k == n else binomial_tail(k, n, share.upper_bound) == pytest.approx(0.1, rel=1e-9)
    )
    assert Proportion(n - k, n, 0.9).lower_bound == pytest.approx(1 - share.upper_bound, abs=1e-12)
    assert share.low <= share.rate <= share.high


def decoded_counts(P: Any, Q: Any, bottom: Any, config: InferenceConfig) -> tuple[int, int]:
    rejected = np.asarray(strict_inference(P, Q, config).bottom_mask)
    return int(rejected[~bottom].sum()), int(rejected[bottom].sum())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("score", ["projective", "denominator"])
@pytest.mark.parametrize("goal", [{"false_rejection_rate": 0.05}, {"guarantee": True}, {"cost": (5.0, 1.0)}])
def test_decoding_gives_the_counts_reported(dtype: Any, score: Any, goal: dict[str, Any]) -> None:
    P, Q, bottom = toy(1, finite=600, dtype=dtype)
    P[3], Q[5], Q[-1], P[-2] = np.inf, 0.0, np.nan, np.nan  # two faults of each kind of label
    if goal == {"guarantee": True}:
        goal = goal | {"false_rejection_rate": 0.02}
    found = calibrate((P, Q), bottom, score=score, **goal)
    assert found.recall is not None
    assert found.dtype == np.dtype(dtype).name
    assert float(dtype(found.tau_infer)) == found.tau_infer > 0
    assert found.faults == 4
    counts = (found.false_rejection.count, found.recall.count)
    assert decoded_counts(P, Q, bottom, found.config()) == counts
    as_jax = jax.jit(strict_inference, static_argnums=2)(jnp.asarray(P), jnp.asarray(Q), found.config())
    if dtype is np.float32:
        assert int(np.asarray(as_jax.bottom_mask)[bottom].sum()) == counts[1]
        assert int(np.asarray(as_jax.bottom_mask)[~bottom].sum()) == counts[0]
    again = assess_threshold((P, Q), bottom, found.config())
    assert (again.false_rejection, again.recall, again.tau_infer) == (
        found.false_rejection,
        found.recall,
        found.tau_infer,
    )


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
@settings(max_examples=60)
def test_any_scores_are_calibrated_to_the_largest_threshold_that_fits(dtype: Any, data: st.DataObject) -> None:
    steps = st.integers(0, 12).map(lambda n: np.nextafter(dtype(0.25), dtype(1)) if n == 12 else dtype(n) / dtype(8))
    number = st.one_of(steps, st.floats(0, 2, width=8 * np.dtype(dtype).itemsize), st.just(np.nan), st.just(np.inf))
    finite = np.array(data.draw(st.lists(number, min_size=4, max_size=30)), dtype)
    bottom = np.array(data.draw(st.lists(number, min_size=1, max_size=6)), dtype)
    rate = data.draw(st.sampled_from([0.25, 0.3, 0.5, 0.9]))
    Q, labels = np.concatenate([finite, bottom]), np.arange(finite.size + bottom.size) >= finite.size
    P = np.ones_like(Q)
    # There is no way only where faults alone break the rate, or all scores are one number.
    lost = decoded_counts(P, Q, labels, InferenceConfig(float(np.finfo(dtype).tiny)))[0]
    if lost > rate * finite.size or np.unique(Q).size == 1:
        with pytest.raises(UsageError, match=r"any threshold|scores equal"):
            calibrate((P, Q), labels, false_rejection_rate=rate, score="denominator")
        return
    found = calibrate((P, Q), labels, false_rejection_rate=rate, score="denominator")
    counts = decoded_counts(P, Q, labels, found.config())
    assert found.recall is not None
    assert counts == (found.false_rejection.count, found.recall.count)
    assert counts[0] <= rate * finite.size
    # No larger threshold fits, but for one between scores that a few units in the last place tell apart.
    higher = finite[np.isfinite(finite) & (finite >= found.tau_infer)].min(initial=np.inf)
    above = float(higher) * (1 + 20 * float(np.finfo(dtype).eps))
    if math.isfinite(above):
        assert decoded_counts(P, Q, labels, InferenceConfig(above))[0] > rate * finite.size


def test_scores_that_tie_are_rejected_or_accepted_together() -> None:
    Q = np.array([0.1] * 5 + [0.5] * 95 + [0.01])
    found = calibrate(Q, np.arange(101) == 100, false_rejection_rate=0.04, score="denominator")
    assert found.false_rejection.count == 0
    assert 0.01 < found.tau_infer < 0.1
    almost = Q.copy()
    almost[:5] += np.arange(5) * np.spacing(0.1)
    assert calibrate(almost, Q < 0.05, false_rejection_rate=0.04, score="denominator").false_rejection.count == 0
    whole = calibrate(Q, Q < 0.05, false_rejection_rate=0.05, score="denominator")
    assert whole.false_rejection.count == 5
    assert whole.tau_infer == pytest.approx(0.3)


def test_both_guarantees_and_intervals_hold_as_often_as_they_say() -> None:
    # Scores are uniform, so that a threshold is its own true false-rejection rate; of ⊥ their square roots are.
    rng = np.random.default_rng(20)
    rate, confidence, trials = 0.05, 0.9, 600
    covered, kept, recalled, spent = 0, 0, 0, 0.0
    for _ in range(trials):
        scores = np.concatenate([rng.random(100), np.square(rng.random(40))])
        labels = np.arange(140) >= 100
        found = calibrate(scores, labels, false_rejection_rate=rate, confidence=confidence, score="denominator")
        covered += found.false_rejection.low <= found.tau_infer <= found.false_rejection.high
        spent += found.tau_infer / trials
        assert found.recall is not None
        recalled += found.recall.low <= math.sqrt(found.tau_infer) <= found.recall.high
        sure = calibrate(
            scores, labels, false_rejection_rate=rate, confidence=confidence, guarantee=True, score="denominator"
        )
        kept += sure.tau_infer <= rate
        assert sure.false_rejection.upper_bound <= rate
    # Exact intervals cover at least what they state; four standard errors below it would be a fault.
    least = confidence - 4 * math.sqrt(confidence * (1 - confidence) / trials)
    assert min(covered, kept, recalled) / trials >= least
    assert spent == pytest.approx(5.5 / 101, rel=0.06), "a threshold between the 5th and 6th of 100"


def test_a_guarantee_takes_the_largest_count_whose_bound_fits() -> None:
    scores = np.random.default_rng(0).random(1000)
    found = calibrate(scores, np.zeros(1000, bool), false_rejection_rate=0.02, guarantee=True, score="denominator")
    k = found.false_rejection.count
    assert 1 - binomial_tail(k, 1000, 0.02) >= 0.95
    assert 1 - binomial_tail(k + 1, 1000, 0.02) < 0.95
    assert found.recall is None
    assert "unknown" in found.summary()


def test_a_cost_is_the_least_of_all_thresholds() -> None:
    P, Q, bottom = toy(3)
    score = rejection_score(P, Q)
    for cost, share in (((1.0, 1.0), None), ((20.0, 1.0), None), ((1.0, 5.0), 0.5)):
        found = calibrate((P, Q), bottom, cost=cost, bottom_share=share)
        weight = bottom.mean() if share is None else share

        def price(tau: float, cost: Any = cost, weight: float = weight) -> float:
            accepted, rejected = np.mean(score[bottom] >= tau), np.mean(score[~bottom] < tau)
            return float(weight * cost[0] * accepted + (1 - weight) * cost[1] * rejected)

        assert found.expected_cost == pytest.approx(price(found.tau_infer))
        assert found.expected_cost == pytest.approx(min(price(tau) for tau in score))
        assert found.bottom_share == pytest.approx(weight)
    dear = calibrate((P, Q), bottom, cost=(20.0, 1.0))
    assert dear.tau_infer > calibrate((P, Q), bottom, cost=(1.0, 5.0)).tau_infer


def test_shared_and_elementwise_denominators_take_labels_of_their_shape() -> None:
    rng = np.random.default_rng(4)
    P, Q = rng.normal(size=(200, 2)) + 2, rng.random(200) + 0.5
    bottom = np.arange(200) < 20
    Q[bottom] *= 1e-3
    found = calibrate((P, Q), bottom, false_rejection_rate=0.05)
    assert decoded_counts(P, Q, bottom, found.config()) == (9, 20)
    column = calibrate((P, Q[:, None]), np.repeat(bottom[:, None], 2, axis=1), score="denominator")
    assert column.false_rejection.total == 360
    jax_arrays = calibrate(
        (jnp.asarray(P, jnp.float32), jnp.asarray(Q, jnp.float32)), bottom, false_rejection_rate=0.05
    )
    assert jax_arrays.dtype == "float32"
    assert jax_arrays.false_rejection.count == 9


def test_a_quotient_that_overflows_is_rejected_at_any_threshold() -> None:
    P, Q = np.ones(100, np.float32), np.linspace(0.5, 1.0, 100, dtype=np.float32)
    P[0], Q[0] = 3e38, 0.1
    found = calibrate((P, Q), np.zeros(100, bool), score="denominator")
    assert found.faults == found.false_rejection.count == 1
    assert decoded_counts(P, Q, np.zeros(100, bool), found.config())[0] == 1


def test_rows_without_a_label_are_left_out() -> None:
    P, Q, bottom = toy(5)
    finite = ~bottom
    finite[:30] = False
    found = calibrate((P, Q), bottom, is_finite=finite, false_rejection_rate=0.05)
    assert found.ignored == 30
    assert found.false_rejection.total == 370
    assert "30 without a label" in found.summary()


def labelled(scores: Any, bottoms: int = 0) -> tuple[Any, Any]:
    scores = np.asarray(scores, float)
    return scores, np.arange(scores.size) >= scores.size - bottoms


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        (labelled(np.linspace(0.1, 1, 60)), {}, "at least 100 finite labels; got 60: 40 more"),
        (labelled(np.linspace(0.1, 1, 200)), {"guarantee": True}, "at least 299 finite labels; got 200: 99 more"),
        (labelled(np.full(200, 0.5), 20), {}, "all 200 scores equal 0.5"),
        (labelled([0.0, np.nan, np.inf] + [0.5] * 50), {"false_rejection_rate": 0.04}, "3 of 53 .* allows 2"),
        (labelled(np.ones(3), 3), {}, "no row is labelled finite"),
        (labelled(np.linspace(0.1, 1, 200)), {"minimum_recall": 0.9}, "there are none"),
        (
            labelled(np.linspace(0.1, 1, 200), 20),
            {"minimum_recall": 0.9},
            "a recall of ⊥ of 0.9 can't be reached: it is",
        ),
        (
            labelled([*np.linspace(0.1, 1, 299), 0.0], 1),
            {"minimum_recall": 0.9, "guarantee": True, "false_rejection_rate": 0.05},
            "at 95 % confidence only 0.05",
        ),
        (labelled(np.linspace(0.1, 1, 200)), {"cost": (1.0, 1.0)}, "at least 6 labels of each kind .* got 0 ⊥: 6 more"),
        (labelled(np.linspace(0.1, 1, 20), 16), {"cost": (1.0, 1.0)}, "got 4 finite: 2 more"),
        (labelled(np.linspace(0.1, 1, 20), 10), {"cost": (9.0, 1.0)}, "rejecting every row costs least"),
        (labelled(np.zeros(20), 10), {"cost": (9.0, 1.0)}, "every row is rejected at any threshold"),
        (labelled(-np.ones(200)), {}, "can't be negative"),
        (labelled(np.full(200, 2.0)), {"score": "projective"}, "say score='denominator'"),
        (labelled(np.ones(200)), {"false_rejection_rate": 0.0}, "between 0 and 1"),
        (labelled(np.ones(200)), {"false_rejection_rate": 1.0}, "between 0 and 1"),
        (labelled(np.ones(200)), {"confidence": 1.0}, "between 0 and 1"),
        (labelled(np.ones(200)), {"cost": (1.0, 1.0), "false_rejection_rate": 0.1}, "not both"),
        (labelled(np.ones(200)), {"cost": (0.0, 1.0)}, r"cost\[0\]"),
        (labelled(np.ones(200)), {"bottom_share": 0.1}, "no part in a false-rejection rate"),
        (labelled(np.ones(200), 9), {"cost": (1.0, 1.0), "bottom_share": 1.0}, "between 0 and 1"),
        (labelled(np.ones(200)), {"minimum_recall": 1.5}, "at most 1"),
        ((np.ones(3), np.zeros(2, bool)), {}, "of the scores' shape"),
        ((np.ones(3), np.ones(3, bool)), {"is_finite": np.ones(3, bool)}, "3 rows are labelled both"),
    ],
)
def test_what_the_data_cannot_support_is_refused(rows: Any, options: dict[str, Any], words: str) -> None:
    scores, bottom = rows
    with pytest.raises(UsageError, match=words):
        calibrate(scores, bottom, **({"score": "denominator"} | options))


def test_exactly_enough_labels_are_enough() -> None:
    spread = np.linspace(0.1, 1.0, 299)
    assert calibrate(spread[:100], np.zeros(100, bool), score="denominator").false_rejection.count == 1
    sure = calibrate(spread, np.zeros(299, bool), guarantee=True, score="denominator")
    assert sure.false_rejection.count == 0
    assert sure.tau_infer == pytest.approx(0.05), "half of the lowest score"
    assert sure.false_rejection.upper_bound <= 0.01


def some_calibrations() -> list[Calibration]:
    P, Q, bottom = toy(6, dtype=np.float32)
    given = calibrate((P, Q), bottom, cost=(1e6, 3.0), confidence=0.99)
    return [
        calibrate((P, Q), bottom, false_rejection_rate=0.0123456),
        calibrate((P, Q), bottom, false_rejection_rate=0.02, guarantee=True, score="denominator"),
        given,
        assess_threshold((P, Q), np.zeros_like(bottom), given.config()),
    ]


def test_a_calibration_survives_json_and_fits_a_terminal() -> None:
    for found in some_calibrations():
        text = dumps(found.as_json())
        assert Calibration.from_json(text) == Calibration.from_json(json.loads(text)) == found
        assert max(map(len, found.summary().splitlines())) <= 80
        assert found.config(tau_train=1.0) == InferenceConfig(found.tau_infer, 1.0, found.score)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "other"),
        (("version",), 2),
        (("tau_infer",), 0.0),
        (("tau_infer",), "NaN"),
        (("tau_infer",), 0.1),  # no float32 number
        (("score",), "angle"),
        (("dtype",), "object"),
        (("method",), "given"),
        (("confidence",), 2.0),
        (("false_rejection", "count"), -1),
        (("false_rejection", "count"), 1),
        (("false_rejection", "total"), True),
        (("false_rejection", "low"), 0.5),
        (("false_rejection",), None),
        (("recall",), {}),
        (("recall", "total"), 10**9),
        (("false_rejection_rate",), 1.5),
        (("cost",), [1.0, 1.0]),
        (("faults",), -1),
        (("extra",), 1),
    ],
)
def test_a_document_that_was_tampered_with_is_refused(path: tuple[str, ...], value: Any) -> None:
    document = copy.deepcopy(some_calibrations()[0].as_json())
    place = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(UsageError):
        Calibration.from_json(document)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"schema": NaN}', "[" * 100_000])
def test_text_that_is_no_calibration_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Calibration.from_json(text)
