"""Losses: published values, defined edges, refusals."""

from __future__ import annotations

from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hardgrad.core import UsageError, one_of
from hardgrad.hypercausal import coherence, consistency, cross_entropy, mae, mse
from hardgrad.hypercausal._losses import CoherenceMode

SCORES = hnp.arrays(np.float32, (2, 4), elements=st.floats(0.125, 8, width=32))


def test_published_losses(golden: dict[str, Any], x64: None) -> None:
    unit = golden["unit"]
    a, b, c, branches = (jnp.array(unit["inputs"][name]) for name in "ABCF")
    p, q = jnp.array([0.2, 0.5, 0.3]), jnp.array([0.0, 1.0, 0.0])
    found = {
        "mse(A,B)": mse(a, b),
        "mae(A,B)": mae(a, b),
        "cross_entropy(pred=[0.2,0.5,0.3],target=[0,1,0])": cross_entropy(p, q),
        "consistency(0.8,1.2)(A,B,C)": consistency(b, a, c, alpha=0.8, beta=1.2),
        "coherence_variance(F)": coherence(branches),
        "coherence_mad(F)": coherence(branches, mode="mad"),
    }
    assert found.keys() == unit["loss"].keys()
    for name, value in found.items():
        np.testing.assert_allclose(value, unit["loss"][name], rtol=1e-14, err_msg=name)
    after = cross_entropy(p, q, normalise="after")
    np.testing.assert_allclose(after, cross_entropy(p, q), rtol=1e-14)


@hypothesis.settings(max_examples=25)
@hypothesis.given(prediction=SCORES, target=SCORES, scale=st.floats(0.125, 8, width=32))
def test_cross_entropy_does_not_depend_on_the_scale_of_scores(prediction: Any, target: Any, scale: float) -> None:
    found = cross_entropy(prediction, target)
    np.testing.assert_allclose(cross_entropy(prediction * np.float32(scale), target), found, rtol=1e-4)
    assert found >= cross_entropy(target, target) - 1e-5  # Gibbs' inequality


def test_cross_entropy_at_its_edges() -> None:
    target = jnp.array([1.0, 0.0])
    published = cross_entropy(jnp.array([4.0, 2.0]), target, normalise="after")
    np.testing.assert_allclose(published, np.log(2), rtol=1e-6)  # both scores were clipped to 1
    np.testing.assert_allclose(cross_entropy(jnp.array([4.0, 2.0]), target), np.log(1.5), rtol=1e-6)
    for scores in (jnp.zeros(2), jnp.array([-1.0, -2.0])):
        np.testing.assert_allclose(cross_entropy(scores, target), np.log(2), rtol=1e-6)
        assert bool(jnp.all(jnp.isfinite(jax.grad(cross_entropy)(scores, target))))


def test_results_have_the_dtype_of_the_first_argument(x64: None) -> None:
    half, double = jnp.ones((3, 2), jnp.float16), jnp.zeros((3, 2))
    for loss in (mse, mae, cross_entropy):
        assert jax.eval_shape(loss, half, double).dtype == jnp.float16
    assert jax.eval_shape(consistency, half, double, double).dtype == jnp.float16


def test_an_unknown_choice_is_refused_with_a_suggestion() -> None:
    # The type checker of the test run would stop a wrong Literal before our own check sees it.
    with pytest.raises(UsageError, match="Did you mean 'variance'"):
        one_of("mode", "varance", CoherenceMode)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mse(jnp.ones((2, 3)), jnp.ones((3, 2))), r"prediction \(2, 3\), target \(3, 2\)"),
        (lambda: mae(jnp.ones((2, 3)), jnp.ones(6)), "one shape"),
        (lambda: cross_entropy(jnp.ones(3), jnp.ones(2)), "one shape"),
        (lambda: consistency(jnp.ones(3), jnp.ones(3), jnp.ones(2)), r"future \(2,\)"),
    ],
)
def test_mismatched_shapes_are_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
