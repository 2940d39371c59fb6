"""Three-way decoding against the published answers, and what it does differently on purpose."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rational_golden as golden

from hardgrad.core import UsageError
from hardgrad.rational import CensoredClass, InferenceConfig, decode_strict_censored_3way

BELOW, IN_RANGE, ABOVE = CensoredClass
FAULTS = [5, 6]  # rows of the golden cases whose P is not finite


def test_published_classes(x64: None) -> None:
    for case in golden.cases("censored_3way"):
        config = InferenceConfig(tau_infer=case["tau_infer"])
        heads = {
            name: golden.array(case[name], "float64")
            for name in ("direction_logits", "orientation_signal")
            if name in case
        }
        decoded, bottom, class_id = (golden.array(part) for part in case["out"])
        if set(heads) == {"direction_logits"}:
            # The one difference: a direction head says nothing about faults, as their documentation has it.
            assert class_id[FAULTS].tolist() == [ABOVE, BELOW]
            class_id[FAULTS] = IN_RANGE
        P, Q = golden.array(case["P"], "float64"), golden.array(case["Q"], "float64")
        on_numpy = decode_strict_censored_3way(P, Q, config, **heads)
        compiled = jax.jit(lambda P, Q, heads, config=config: decode_strict_censored_3way(P, Q, config, **heads))
        on_jax = compiled(*jax.tree.map(jnp.asarray, (P, Q, heads)))
        for found, code in ((on_numpy, np.int64), (on_jax, np.int32)):
            np.testing.assert_allclose(found.decoded, decoded, rtol=1e-12)
            np.testing.assert_array_equal(found.bottom_mask, bottom)
            np.testing.assert_array_equal(found.class_id, class_id)
            assert found.class_id.dtype == code


def test_columns_take_their_logits_flat_or_in_full() -> None:
    P, Q = np.array([[1.0], [-2.0], [3.0]]), np.array([[1.0], [0.0], [0.0]])
    logits = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    for shaped in (logits, logits[:, None]):
        found = decode_strict_censored_3way(P, Q, direction_logits=shaped)
        assert found.class_id.tolist() == [[IN_RANGE], [ABOVE], [BELOW]]


def test_what_says_nothing_leaves_the_direction_open() -> None:
    P, Q = np.array([1.0, 1.0, -0.0]), np.zeros(3)
    assert decode_strict_censored_3way(P, Q).class_id.tolist() == [ABOVE, ABOVE, ABOVE]
    signal = np.array([np.nan, 0.0, -np.inf])
    assert decode_strict_censored_3way(P, Q, orientation_signal=signal).class_id.tolist() == [IN_RANGE, IN_RANGE, BELOW]
    logits = np.array([[np.nan, 1.0], [0.0, np.nan], [2.0, 2.0]])
    assert decode_strict_censored_3way(P, Q, direction_logits=logits).class_id.tolist() == [IN_RANGE, IN_RANGE, BELOW]


def test_a_fault_that_is_also_semantic_stays_undirected() -> None:
    found = decode_strict_censored_3way(np.array([-np.inf]), np.array([0.0]), direction_logits=np.array([[1.0, 0.0]]))
    assert found.class_id.tolist() == [IN_RANGE]
    assert found.bottom_mask.tolist() == [True]


@pytest.mark.parametrize(
    ("P", "Q", "heads"),
    [
        (np.ones((2, 3)), np.ones(2), {}),
        (np.ones(2, complex), np.ones(2, complex), {}),
        (np.ones(2), np.ones(2), {"direction_logits": np.ones((3, 2))}),
        (np.ones(2), np.ones(2), {"orientation_signal": np.ones(3)}),
    ],
)
def test_what_does_not_fit_is_refused(P: Any, Q: Any, heads: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="shape"):
        decode_strict_censored_3way(P, Q, **heads)
