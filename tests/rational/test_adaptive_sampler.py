"""The adaptive sampler: the published formulas, and rows drawn in their proportion."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rational_golden as golden

from hardgrad.core import UsageError
from hardgrad.rational import AdaptiveSampler, ema_update, sampling_weights, singularity_probability


@pytest.mark.parametrize("case", golden.cases("sampler"), ids=lambda c: c["fn"])
def test_the_published_formulas(case: Any) -> None:
    if case["fn"] == "singularity_prob":
        found = singularity_probability(case["q"], tau_train=case["tau_train"], beta=case["beta"])
    elif case["fn"] == "ema_update":
        found = ema_update(case["previous"], case["current"], gamma=case["gamma"])
    else:
        found = sampling_weights(case["p"], case["bottom"], alpha=case["alpha"], s_min=case["s_min"])
    np.testing.assert_allclose(found, golden.array(case["out"]), **golden.tolerance(np.float64))


def test_extreme_denominators_have_a_probability() -> None:
    q = np.array([0.0, 5e-324, 1e300, np.inf, -np.inf, np.nan])
    found = singularity_probability(q, tau_train=1e-4, beta=1e-5)
    np.testing.assert_allclose(found, [1.0, 1.0, 0.0, 0.0, 0.0, 1.0], atol=1e-4)


def sampler(**settings: Any) -> AdaptiveSampler:
    made = AdaptiveSampler(**settings)
    made.attach(None, np.arange(1000) % 4 == 0)
    return made


def test_rows_are_drawn_in_proportion() -> None:
    made = sampler(alpha=3.0)
    draws = np.concatenate([made.rows(epoch, 0) for epoch in range(50)])
    assert draws.shape == (50_000,)
    share = np.mean(draws % 4 == 0)  # weight 4 for a quarter of the rows, 1 for the others
    assert abs(share - 4.0 / 7.0) < 0.01
    np.testing.assert_array_equal(made.rows(3, 7), made.rows(3, 7))
    assert not np.array_equal(made.rows(3, 7), made.rows(4, 7))
    assert not np.array_equal(made.rows(3, 7), made.rows(3, 8))


def test_what_is_learned_is_drawn_less_often() -> None:
    made = sampler(beta=1e-3, gamma=0.5)
    before = made.weights
    made.update(np.where(np.arange(1000) % 4 == 0, 0.0, 1.0))
    after = made.weights
    assert np.all(after[::4] < before[::4])
    np.testing.assert_allclose(after[1::4], 1.0, atol=1e-6)


def test_its_state_comes_back_to_the_bit() -> None:
    one, other = sampler(), sampler()
    one.update(np.linspace(0.0, 1.0, 1000))
    other.restore(one.state(), None)  # type: ignore[arg-type]
    np.testing.assert_array_equal(one.weights, other.weights)
    fewer = AdaptiveSampler()
    fewer.attach(None, np.zeros(3, bool))
    with pytest.raises(UsageError, match="averages of 1000 rows, and the data has 3"):
        fewer.restore(one.state(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"beta": 0.0}, {"gamma": 1.5}, {"s_min": 0.0}, {"alpha": np.inf}, {"chunk_size": 0}])
def test_numbers_out_of_range(wrong: Any) -> None:
    with pytest.raises(UsageError):
        AdaptiveSampler(**wrong)
