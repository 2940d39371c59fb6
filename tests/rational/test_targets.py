"""Lifted labels: published tuples, both array libraries, refusals that help."""

from __future__ import annotations

from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rational_golden as golden
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hardgrad.core import UsageError
from hardgrad.rational import STATUSES, Targets, lift_semantic_targets, lift_targets
from hardgrad.rational._algebra._targets import _labels


@pytest.mark.parametrize("case", golden.cases("lift_targets"), ids=lambda case: case["backend"])
def test_published_lifting(case: dict[str, Any], x64: None) -> None:
    if "raises" in case["out"]:
        with pytest.raises(UsageError, match=r"np\.asarray"):
            _labels(case["y"])  # the type checker of the test run stops a list before lift_targets
        return
    y = golden.array(case["y"], case["dtype"])
    expected = [golden.array(part) for part in case["out"]]
    for backend in (np.asarray, jnp.asarray):
        found = lift_targets(backend(y))
        for part, published in zip(found[:2], expected, strict=True):
            assert part.dtype == y.dtype
            np.testing.assert_array_equal(part, published)


@pytest.mark.parametrize("case", golden.cases("lift_semantic_targets"))
def test_published_semantic_lifting(case: dict[str, Any], x64: None) -> None:
    y = golden.array(case["y"], np.float64)
    for backend in (np.asarray, jnp.asarray):
        if "raises" in case["out"]:
            with pytest.raises(UsageError):
                lift_semantic_targets(backend(y), case["status"])
            continue
        found = lift_semantic_targets(backend(y), case["status"])
        published = ("Y_n", "Y_d", "mask_finite", "mask_bottom", "orientation_label", "bottom_kind")
        for part, name in zip(found, published, strict=True):
            np.testing.assert_array_equal(part, golden.array(case["out"][name]), err_msg=name)


def test_nan_and_infinity_stay_apart() -> None:
    found = lift_targets(np.array([np.inf, np.nan, -np.inf, -0.0], np.float32))
    np.testing.assert_array_equal(found.orientation, [1, 0, -1, 0])
    np.testing.assert_array_equal(found.bottom, [True, True, True, False])
    np.testing.assert_array_equal(found.kind, [2, 2, 2, 0])
    np.testing.assert_array_equal(found.numerator[:2], 1)
    assert np.signbit(found.numerator[3])


def test_numpy_stays_numpy_and_jax_jax() -> None:
    y, status = np.array([[1.0, np.nan]], np.float32), [["finite", "missing"]]
    for backend, kind in ((np.asarray, np.ndarray), (jnp.asarray, jax.Array)):
        for found in (lift_targets(backend(y)), lift_semantic_targets(backend(y), status)):
            assert all(isinstance(part, kind) and part.shape == (1, 2) for part in found)
            kinds = [part.dtype for part in found]
            assert kinds == [np.float32, np.float32, bool, bool, np.int32, np.int32]


@hypothesis.settings(max_examples=50)
@hypothesis.given(y=hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=4), elements=st.floats(width=32)))
def test_lifting_agrees_between_libraries_and_takes_back(y: Any) -> None:
    found, traced = lift_targets(y), jax.jit(lift_targets)(y)
    for part, other in zip(found, traced, strict=True):
        np.testing.assert_array_equal(part, other)
    np.testing.assert_array_equal(found.finite, ~found.bottom)
    with np.errstate(divide="ignore"):
        back = found.numerator / found.denominator
    np.testing.assert_array_equal(np.where(np.isnan(y), np.inf, y), back)


@hypothesis.settings(max_examples=25)
@hypothesis.given(status=st.lists(st.sampled_from(STATUSES), max_size=20))
def test_every_status_means_one_thing_wherever_it_stands(status: list[str]) -> None:
    y = np.arange(len(status), dtype=np.float64)
    found = lift_semantic_targets(y, np.array(status, dtype=object))
    for index, name in enumerate(status):
        alone = lift_semantic_targets(y[index : index + 1], [name])
        for part, single in zip(found, alone, strict=True):
            np.testing.assert_array_equal(part[index : index + 1], single)


def test_targets_are_a_pytree_whose_rows_are_taken_together() -> None:
    found = lift_targets(jnp.array([1.0, jnp.inf, 3.0]))
    rows = jax.tree.map(lambda field: field[1:], found)
    assert isinstance(rows, Targets)
    np.testing.assert_array_equal(rows.numerator, [1.0, 3.0])


def test_integers_become_floats_and_complex_infinities_have_no_side(x64: None) -> None:
    assert lift_targets(np.array([1, 2])).numerator.dtype == np.float64
    assert lift_targets(jnp.array([1, 2])).numerator.dtype == np.float64
    for backend in (np.asarray, jnp.asarray):
        found = lift_targets(backend(np.array([1 + 2j, complex(0, np.inf), complex(np.nan, 0)])))
        np.testing.assert_array_equal(found.numerator, [1 + 2j, 1, 1])
        np.testing.assert_array_equal(found.denominator, [1, 0, 0])
        np.testing.assert_array_equal(found.orientation, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lift_targets(np.array(["a"])), "must be numbers, not <U1"),
        (lambda: lift_targets(np.array([True])), "must be numbers, not bool"),
        (lambda: lift_semantic_targets(np.ones(2), ["finite", "Finite"]), "'Finite'. Did you mean 'finite'"),
        (lambda: lift_semantic_targets(np.ones(2), ["finite", None]), "'None'. Known: bottom"),
        (lambda: lift_semantic_targets(np.ones(2), [["finite"], ["finite", "finite"]]), "differ in length"),
        (lambda: lift_semantic_targets(np.ones((2, 1)), ["finite", "finite"]), r"\(2, 1\); it has \(2,\)"),
        (lambda: lift_semantic_targets(np.array([[1.0], [np.inf]]), [["finite"]] * 2), r"label \(1, 0\) is inf"),
        (lambda: jax.jit(lambda y: lift_semantic_targets(y, ["finite"]))(jnp.ones(1)), "before training"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
