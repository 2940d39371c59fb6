"""Projective tuples: published answers, no under- or overflow, and nothing that depends on the scale."""

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
from hardgrad.rational import (
    GaugePolicy,
    MeadowOverflowError,
    Projective,
    ProjectiveNormalize,
    SCMArray,
    SCMValue,
    decode,
    encode,
    projectively_equal,
    renormalize,
    scm_bottom,
)

LAW = hypothesis.settings(max_examples=40, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])


def weighted(case: dict[str, Any], dtype: Any, normalise: Any) -> tuple[Any, Any]:
    """Values and gradients of the weighted sum that the golden file took them of."""
    P, Q, *weights = (golden.array(case[name], dtype) for name in ("P", "Q", "weights_P", "weights_Q"))

    def total(P: Any, Q: Any) -> Any:
        found = normalise(P, Q)
        return jnp.sum(weights[0] * found.numerator + weights[1] * found.denominator), found

    grads, found = jax.jit(jax.grad(total, argnums=(0, 1), has_aux=True))(P, Q)
    return jax.tree.map(np.asarray, (found, grads))


def check_where_published(found: Any, published: dict[str, Any], slack: float = 0.0) -> None:
    """Agreement where the published answer is finite; where it is not, the zero tuple, ours is 0."""
    expected = golden.array(published)
    assert found.dtype == expected.dtype
    usable = np.isfinite(expected)
    tolerance = golden.tolerance(expected.dtype)
    tolerance["atol"] = max(tolerance["atol"], slack)
    np.testing.assert_allclose(np.asarray(found)[usable], expected[usable], **tolerance)
    assert np.isfinite(found).all()
    assert usable[[0, 1, 2, 3, 5]].all()


@pytest.mark.parametrize("case", golden.cases("projective_encode"))
def test_published_encoding(case: dict[str, Any]) -> None:
    assert list(encode(scm_bottom() if case["x"] == "bottom" else case["x"])) == case["out"]


@pytest.mark.parametrize("case", golden.cases("projective_decode"))
def test_published_decoding(case: dict[str, Any]) -> None:
    bottom = "bottom" in case["out"]
    single = decode(case["n"], case["d"])
    assert single == (scm_bottom() if bottom else SCMValue(case["out"]["value"]))
    payload, mask = decode(jnp.array([case["n"]]), jnp.array([case["d"]]))
    assert bool(mask[0]) == bottom
    assert float(payload[0]) == (0.0 if bottom else case["out"]["value"])


@pytest.mark.parametrize(
    "case", golden.cases("renormalize"), ids=lambda c: f"{c['dtype']}-{c['gamma']}-{c['detached']}"
)
def test_published_renormalisation(case: dict[str, Any], x64: None) -> None:
    found, grads = weighted(
        case, case["dtype"], lambda P, Q: renormalize(P, Q, case["gamma"], stop_gradient=case["detached"])
    )
    out = case["out"]
    check_where_published(found.numerator, out["P"])
    check_where_published(found.denominator, out["Q"])
    if case["dtype"] == "float32" and not case["detached"]:
        # Two terms cancel, each as large as the gradient with a constant scale: that large are rounding errors too.
        (exact,) = [
            other["out"]
            for other in golden.cases("renormalize")
            if other["dtype"] == "float64" and not other["detached"] and other["gamma"] == case["gamma"]
        ]
        _, constant = weighted(case, case["dtype"], lambda P, Q: renormalize(P, Q, case["gamma"]))
        for grad, size, name in zip(grads, constant, ("grad_P", "grad_Q"), strict=True):
            expected = golden.array(exact[name])
            usable = np.isfinite(expected)
            allowed = 1e-6 * np.maximum(np.abs(constant[0]), np.abs(size)) + 2e-6 * np.abs(expected)
            assert (np.abs(grad - expected) <= allowed)[usable].all()
            assert np.isfinite(grad).all()
        return
    check_where_published(grads[0], out["grad_P"])
    check_where_published(grads[1], out["grad_Q"])


@pytest.mark.parametrize("case", golden.cases("projective_normalize"), ids=lambda c: c["policy"])
def test_published_gauges(case: dict[str, Any], x64: None) -> None:
    found, grads = weighted(case, np.float64, ProjectiveNormalize(case["policy"]))
    for part, name in zip((*found, *grads), ("P", "Q", "grad_P", "grad_Q"), strict=True):
        check_where_published(part, case["out"][name])


@pytest.mark.parametrize("case", golden.cases("projectively_equal"))
def test_published_equality(case: dict[str, Any]) -> None:
    a, b = case["a"], case["b"]
    assert bool(projectively_equal(tuple(a), tuple(b))) == case["out"]
    assert bool(projectively_equal(tuple(a), tuple(b), atol=1e-8)) == case["out"]


# --- what the published functions can't ---


@pytest.mark.parametrize(
    ("dtype", "scales"),
    [(np.float64, [1e-300, 1e-200, 1.0, 1e200, 1.7e308]), (np.float32, [1e-37, 1e-30, 1.0, 1e30, 3e38])],
)
@pytest.mark.parametrize("stop_gradient", [True, False])
def test_no_scale_under_or_overflows(dtype: Any, scales: list[float], stop_gradient: bool, x64: None) -> None:
    scale = np.array(scales, dtype)
    P, Q = scale, -scale / 2
    found, grads = weighted(
        {"P": P.tolist(), "Q": Q.tolist(), "weights_P": [1.0] * 5, "weights_Q": [0.0] * 5},
        dtype,
        lambda P, Q: renormalize(P, Q, 0.0, stop_gradient=stop_gradient),
    )
    length = np.sqrt(1.25)
    np.testing.assert_allclose(found.numerator, np.full(5, 1 / length), rtol=2e-7)
    np.testing.assert_allclose(found.denominator, np.full(5, -0.5 / length), rtol=2e-7)
    expected = 1 / length if stop_gradient else 0.25 / length**3
    with np.errstate(over="ignore", under="ignore"):
        gradient = (expected / scale.astype(np.float64)).astype(dtype)
    gradient[np.abs(gradient) < np.finfo(dtype).tiny] = 0  # XLA has no subnormal numbers
    np.testing.assert_allclose(grads[0], gradient, rtol=2e-6)


def test_zero_tuples_stay_zero_and_gamma_keeps_short_ones_short() -> None:
    zero = jnp.zeros(2)
    for gamma in (0.0, 1e-9):
        for stop_gradient in (True, False):
            found = renormalize(zero, zero, gamma, stop_gradient=stop_gradient)
            np.testing.assert_array_equal(jnp.stack(found), 0)
    short = renormalize(jnp.array([1e-12]), jnp.array([0.0]), 1e-9)
    np.testing.assert_allclose(short.numerator, 1e-12 / (1e-12 + 1e-9), rtol=1e-6)
    jax.tree.map(
        lambda g: np.testing.assert_array_equal(g, 0), jax.grad(lambda z: renormalize(z, z, 0.0)[0].sum())(zero)
    )


@LAW
@hypothesis.given(
    P=hnp.arrays(np.float64, (3, 2), elements=st.floats(-4, 4, allow_subnormal=False)),
    Q=hnp.arrays(np.float64, 3, elements=st.floats(-4, 4, allow_subnormal=False)),
    power=st.integers(-300, 300),
)
def test_a_shared_denominator_makes_one_tuple_of_a_row(P: Any, Q: Any, power: int, x64: None) -> None:
    P, Q = (np.where(np.abs(x) < 1e-3, 0, x) for x in (P, Q))
    found = SHARED(P * 2.0**power, Q * 2.0**power)
    length = np.sqrt(np.sum(P**2, axis=-1) + Q**2)
    safe = np.where(length == 0, 1, length)
    np.testing.assert_allclose(found.numerator, P / safe[:, None], rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(found.denominator, Q / safe, rtol=1e-14, atol=1e-15)


SHARED = jax.jit(lambda P, Q: renormalize(P, Q, 0.0))
EQUAL = jax.jit(projectively_equal)


@LAW
@hypothesis.given(
    angle=st.floats(0, 2 * np.pi), scale=st.floats(-200, 200), away=st.sampled_from([0.0, 1e-9, 1e-7, 1e-3, 1.0])
)
def test_equality_does_not_depend_on_the_scale(angle: float, scale: float, away: float, x64: None) -> None:
    a = (np.cos(angle), np.sin(angle))
    b = (-np.cos(angle + away) * 10.0**scale, -np.sin(angle + away) * 10.0**scale)
    assert bool(EQUAL(a, b)) == (away < 1.4e-8)


def test_equality_at_its_edges() -> None:
    one = (jnp.array([[1.0, 2.0]]), jnp.array([3.0]))
    np.testing.assert_array_equal(projectively_equal(one, (-2 * one[0], -2 * one[1])), [True])
    np.testing.assert_array_equal(projectively_equal(one, (one[0] + 1, one[1])), [False])
    assert not bool(projectively_equal((0.0, 0.0), (1.0, 0.0)))
    assert bool(projectively_equal((0.0, 0.0), (0.0, 0.0)))
    assert not bool(projectively_equal((np.nan, 1.0), (np.nan, 1.0)))
    assert not bool(projectively_equal((np.inf, 1.0), (np.inf, 1.0)))
    assert bool(projectively_equal((1.0, 2.0), (1.0, 2.1), rtol=0.1))
    assert bool(projectively_equal((1e-5, 1e-5), (1e-5, -1e-5), atol=1e-8))  # the published rule at a small scale
    assert bool(projectively_equal((1j, 2j), (1.0, 2.0 + 0j)))


def test_values_survive_the_way_there_and_back() -> None:
    x = SCMArray(jnp.array([1.5, -2.0, jnp.nan, 0.0]))
    back = decode(*encode(x))
    assert isinstance(back, SCMArray)
    np.testing.assert_array_equal(back.payload, x.payload)
    np.testing.assert_array_equal(back.mask, x.mask)
    for value in (SCMValue(2.5), SCMValue(1j), scm_bottom()):
        assert decode(*encode(value)) == value


def test_decoding_shares_denominators_and_has_no_threshold() -> None:
    payload, mask = decode(jnp.ones((2, 3)), jnp.array([0.0, 1e-10]))
    np.testing.assert_array_equal(mask, [[True] * 3, [False] * 3])
    np.testing.assert_allclose(payload[1], 1e10, rtol=1e-6)
    grads = jax.grad(lambda Q: jnp.sum(decode(jnp.ones((2, 3)), Q).payload))(jnp.array([0.0, 2.0]))
    np.testing.assert_allclose(grads, [0.0, -0.75])
    with pytest.raises(MeadowOverflowError):
        decode(1e300, 1e-300)


def test_gauges_are_static_and_canonical_changes_nothing() -> None:
    gauge = ProjectiveNormalize(gamma=0)
    assert gauge.policy is GaugePolicy.CANONICAL_DENOMINATOR
    assert jax.tree.leaves(gauge) == []
    found = gauge(jnp.array([3.0]), jnp.array([-4.0]))
    assert isinstance(found, Projective)
    np.testing.assert_array_equal(jnp.stack(found), [[3.0], [-4.0]])


def test_complex_tuples_have_a_norm(x64: None) -> None:
    found = renormalize(jnp.array([3e200j]), jnp.array([4e200 + 0j]))
    np.testing.assert_allclose(found.numerator, [0.6j])
    np.testing.assert_allclose(found.denominator, [0.8])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: renormalize(jnp.ones(3), jnp.ones(2)), r"P has \(3,\) and Q has \(2,\)"),
        (lambda: renormalize(jnp.ones(2), jnp.ones((2, 3))), "shared denominator"),
        (lambda: renormalize(jnp.ones(2), jnp.ones(2), -1.0), "gamma must be finite and at least 0, not -1"),
        (lambda: renormalize(jnp.ones(2), jnp.ones(2), np.inf), "gamma"),
        (lambda: renormalize(jnp.ones(2, bool), jnp.ones(2)), "not bool"),
        (lambda: ProjectiveNormalize("unit_l2"), "Did you mean 'unit_l2_projective'"),
        (lambda: ProjectiveNormalize(gamma=np.nan), "gamma"),
        (lambda: projectively_equal((1.0, 1.0), (1.0, 1.0), rtol=1.0, atol=1.0), "not both"),
        (lambda: projectively_equal((jnp.ones(2), jnp.ones(2)), (1.0, 1.0)), "same shapes"),
        (lambda: encode(np.nan), "must be finite"),
        (lambda: encode("s"), "not str"),
        (lambda: decode(jnp.ones(2), jnp.ones(3)), "shape of P"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()
