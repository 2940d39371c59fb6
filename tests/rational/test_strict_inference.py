"""Strict decoding against the published answers, against a loop over rows in Python, and under JAX's transforms."""

from __future__ import annotations

import cmath
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rational_golden as golden
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hardgrad.core import UsageError, finite_number, one_of
from hardgrad.rational import InferenceConfig, StrictModel, StrictResult, rejection_score, strict_inference
from hardgrad.rational._decisions._scores import Score

FIELDS = ("decoded", "bottom_mask", "gap_mask", "fault_mask", "semantic_bottom_mask", "bottom_provenance")
TINY = {np.float32: 1.1754944e-38, np.float64: 2.2250738585072014e-308}

jitted = jax.jit(strict_inference, static_argnums=2)


def check(result: StrictResult, expected: dict[str, Any], dtype: Any, *, codes: str = "int64") -> None:
    """The six arrays: masks and codes exactly, values within the golden tolerance."""
    for name in FIELDS:
        found, wanted = np.asarray(getattr(result, name)), golden.array(expected[name])
        assert found.shape == wanted.shape, name
        if name == "decoded":
            assert found.dtype == np.dtype(dtype)
            np.testing.assert_allclose(found, wanted, **golden.tolerance(dtype), err_msg=name)
        else:
            assert found.dtype == (codes if name == "bottom_provenance" else "bool")
            np.testing.assert_array_equal(found, wanted, err_msg=name)


def test_published_decisions(x64: None) -> None:
    for case in golden.cases("strict_inference"):
        config = InferenceConfig(**case["config"])
        P, Q = golden.array(case["P"], case["dtype"]), golden.array(case["Q"], case["dtype"])
        check(strict_inference(P, Q, config), case["out"], case["dtype"])
        for function in (strict_inference, jitted):
            check(function(jnp.asarray(P), jnp.asarray(Q), config), case["out"], case["dtype"], codes="int32")


def test_published_shapes() -> None:
    for case in golden.cases("strict_inference_shapes"):
        P, Q = golden.array(case["P"], "float64"), golden.array(case["Q"], "float64")
        check(strict_inference(P, Q, InferenceConfig(**case["config"])), case["out"], "float64")


def test_published_complex_decisions(x64: None) -> None:
    for case in golden.cases("strict_inference_complex"):
        P, Q = golden.array(case["P"], "complex128"), golden.array(case["Q"], "complex128")
        config = InferenceConfig(**case["config"])
        check(strict_inference(P, Q, config), case["out"], "complex128")
        check(jitted(jnp.asarray(P), jnp.asarray(Q), config), case["out"], "complex128", codes="int32")


def test_published_validity_factors() -> None:
    for case in golden.cases("strict_inference_validity"):
        P, Q = golden.array(case["P"], "float64"), golden.array(case["Q"], "float64")
        factors = [golden.array(factor, "float64") for factor in case["validity_factors"]]
        config = InferenceConfig(**case["config"])
        found = strict_inference(P, Q, config, validity_factors=factors, validity_taus=case["validity_taus"])
        check(found, case["out"], "float64")


def test_published_wrapper(x64: None) -> None:
    def model(x: Any) -> tuple[Any, Any]:
        # The module of the golden file: (x0, 2 x0) over a shared x1.
        return jnp.stack([x[:, 0], 2 * x[:, 0]], axis=-1), x[:, 1]

    for case in golden.cases("inference_wrapper"):
        x = jnp.asarray(golden.array(case["X"], "float64"))
        strict = StrictModel(model, InferenceConfig(**case["config"]))
        validity = case.get("validity_denominator")
        if validity is None:
            check(strict(x), case["out"], "float64", codes="int32")
            continue
        factor = jnp.asarray(golden.array(validity, "float64"))
        check(strict(x, factor), case["out"], "float64", codes="int32")
        third = StrictModel(lambda x, v=factor: (*model(x), v), strict.config, third_output="validity")
        check(eqx.filter_jit(third)(x), case["out"], "float64", codes="int32")


def test_the_gap_is_judged_on_the_validity_denominator() -> None:
    strict = StrictModel(lambda x: (x, np.ones(3)), InferenceConfig(1e-3, tau_train=1e-1))
    result = strict(np.ones(3), np.array([1.0, 1e-2, 1e-4]))
    assert result.gap_mask.tolist() == [False, True, False]
    assert result.bottom_mask.tolist() == [False, False, True]


def test_published_config_errors() -> None:
    for case in golden.cases("inference_config_errors"):
        settings = {name: golden.number(v) if name != "provenance" else v for name, v in case["kwargs"].items()}
        if "raises" not in case["out"]:
            assert InferenceConfig(**settings).tau_infer == settings["tau_infer"]
        else:
            # TypeError: Python's own for settings that are mere metadata there and don't exist here.
            with pytest.raises((UsageError, TypeError)):
                InferenceConfig(**settings)


def test_published_dtype_errors() -> None:
    for case in golden.cases("inference_config_dtype"):
        config, x = InferenceConfig(tau_infer=case["tau_infer"]), np.ones(2, case["dtype"])
        for function in (strict_inference, jitted):
            with pytest.raises(UsageError, match="too small"):
                function(jnp.asarray(x) if function is jitted else x, x, config)


def test_wrong_configurations_are_refused() -> None:
    for wrong in ({"tau_infer": 2.0}, {"tau_train": 1.5}):
        with pytest.raises(UsageError, match="at most 1"):
            InferenceConfig(**wrong, score="projective")
    # The suite's type checks come before ours: those are asked themselves.
    for value in (True, "1e-6", None, np.nan):
        with pytest.raises(UsageError, match="tau_infer must be a finite number above 0"):
            finite_number("tau_infer", value, above=0.0)
    with pytest.raises(UsageError, match="score is not 'angle'"):
        one_of("score", "angle", Score)


def test_wrong_arrays_are_refused() -> None:
    x = np.ones(3)
    with pytest.raises(UsageError, match="one floating-point"):
        strict_inference(x, x.astype(np.float32))
    with pytest.raises(UsageError, match=r"P's shape \(3,\)"):
        strict_inference(x, np.ones(2))
    with pytest.raises(UsageError, match="shape"):
        strict_inference(np.ones((3, 1)), np.ones((3, 2)))
    with pytest.raises(UsageError, match="shape"):
        strict_inference(x, np.ones((3, 1)))
    with pytest.raises(UsageError, match="validity factor 0"):
        strict_inference(x, x, validity_factors=[np.ones(2)])
    with pytest.raises(UsageError, match="2 validity factors"):
        strict_inference(x, x, validity_factors=[x, x], validity_taus=[1e-6])
    with pytest.raises(UsageError, match=r"validity_taus\[0\]"):
        strict_inference(x, x, validity_factors=[x], validity_taus=-1.0)
    with pytest.raises(UsageError, match="infinite"):
        strict_inference(np.ones(1, np.float32), np.ones(1, np.float32), InferenceConfig(1e300))


def test_models_that_return_something_else_are_refused() -> None:
    x = np.ones(3)
    with pytest.raises(UsageError, match="returned ndarray"):
        StrictModel(lambda x: x)(x)
    with pytest.raises(UsageError, match="third output"):
        StrictModel(lambda x: (x, x, x))(x)
    with pytest.raises(UsageError, match="already"):
        StrictModel(lambda x: (x, x, x), third_output="validity")(x, x)
    with pytest.raises(UsageError, match="no numerator"):
        StrictModel(lambda x: (x, x), InferenceConfig(score="projective"))(x, x)
    ignoring = StrictModel(lambda x: (x, x, 0 * x), third_output="ignore")(x)
    assert not ignoring.bottom_mask.any()


def by_rows(P: NDArray[Any], Q: NDArray[Any], config: InferenceConfig) -> list[tuple[bool, bool, bool, bool]]:
    """(⊥, gap, fault, semantic) a row, by Python's own numbers; P ``[B, K]``, Q ``[B]``."""
    real = Q.real.dtype.type
    tau = float(real(config.tau_infer))
    tau_train = None if config.tau_train is None else float(real(config.tau_train))
    dtype_limit = float(np.finfo(real).max)
    rows = []
    for numerators, denominator in zip(P.tolist(), Q.tolist(), strict=True):
        fault = not all(map(cmath.isfinite, [*numerators, denominator]))
        size = abs(denominator)
        if config.score == "projective":
            parts = [math.ldexp(abs(n), -600) for n in numerators]
            scaled = math.ldexp(size, -600)
            norm = math.hypot(scaled, *parts)
            size = math.nan if fault else scaled / norm if norm else 0.0
            size = float(real(size))
        semantic = denominator == 0 or size < tau
        if not fault and not semantic:
            fault = any(abs(numerator) / abs(denominator) > dtype_limit for numerator in numerators)
        bottom = fault or semantic
        gap = not bottom and tau_train is not None and tau <= size < tau_train
        rows.append((bottom, gap, fault, semantic))
    return rows


def masks(result: StrictResult) -> list[tuple[bool, bool, bool, bool]]:
    columns = (result.bottom_mask, result.gap_mask, result.fault_mask, result.semantic_bottom_mask)
    return list(zip(*(np.asarray(column).tolist() for column in columns), strict=True))


def awkward(dtype: Any, tau: float, tau_train: float) -> list[float]:
    """Numbers on and beside the thresholds, signed zeros, subnormal ones, infinities, NaN, the largest."""
    at = [dtype(t) for t in (tau, tau_train)]
    beside = [np.nextafter(t, dtype(side)) for t in at for side in (0, 1)]
    edge = [dtype(0.0), dtype(TINY[dtype]), dtype(TINY[dtype]) / dtype(4), np.finfo(dtype).max]
    every = [*at, *beside, *edge, dtype(1.0), dtype(np.inf)]
    return [*every, *(-number for number in every), dtype(np.nan)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
@settings(max_examples=60)
def test_any_row_is_decided_as_by_hand(dtype: Any, data: st.DataObject) -> None:
    tau, tau_train = data.draw(st.sampled_from([(1e-6, 1e-4), (0.1, 0.25), (1e-20, 1e-20)]))
    finite = st.floats(width=8 * np.dtype(dtype).itemsize)
    numbers = st.one_of(st.sampled_from(awkward(dtype, tau, tau_train)), finite)
    rows = data.draw(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=8))
    table = np.array(rows, dtype)
    config = InferenceConfig(tau, tau_train)
    expected = by_rows(table[:, :2], table[:, 2], config)
    result = strict_inference(table[:, :2], table[:, 2], config)
    assert masks(result) == expected
    decoded, bottom = result.decoded, result.bottom_mask
    assert np.isnan(decoded[bottom]).all()
    with np.errstate(under="ignore"):
        assert np.array_equal(decoded[~bottom], table[~bottom, :2] / table[~bottom, 2:])


def test_a_large_batch_is_decided_as_by_hand_by_every_backend(x64: None) -> None:
    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        special = np.array(awkward(dtype, 1e-6, 1e-4))
        exponents = rng.uniform(-12, 3, (20_000, 3))
        table = (rng.normal(size=exponents.shape) * 10.0**exponents).astype(dtype)
        table = np.where(rng.random(table.shape) < 0.3, rng.choice(special, table.shape), table)
        P, Q = table[:, :2], table[:, 2]
        config = InferenceConfig(1e-6, 1e-4)
        expected = by_rows(P, Q, config)
        assert masks(strict_inference(P, Q, config)) == expected
        compiled = jitted(jnp.asarray(P), jnp.asarray(Q), config)
        # A subnormal quotient is 0 in JAX; masks are the same to the last row.
        assert masks(compiled) == expected
        accepted = ~np.asarray(compiled.bottom_mask)
        with np.errstate(under="ignore"):
            quotient = P[accepted] / Q[accepted, None]
        tolerance = {"rtol": 4 * np.finfo(dtype).eps, "atol": TINY[dtype] * 1e6}
        np.testing.assert_allclose(np.asarray(compiled.decoded)[accepted], quotient, **tolerance)


def test_vmap_equals_the_batch() -> None:
    P, Q = jnp.array([[1.0, 2.0], [jnp.nan, 1.0], [1.0, 1.0]]), jnp.array([1.0, 1.0, 0.0])
    config = InferenceConfig(1e-6, 1e-4)
    one_by_one = jax.jit(jax.vmap(lambda p, q: strict_inference(p, q, config)))(P, Q)
    whole = strict_inference(P, Q, config)
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(one_by_one, name), getattr(whole, name), err_msg=name)


def test_no_decision_recompiles() -> None:
    traced = []

    @jax.jit
    def decide(P: Any, Q: Any) -> Any:
        traced.append(1)
        return strict_inference(P, Q, InferenceConfig(1e-3, score="projective")).decoded

    decide(jnp.ones(3), jnp.ones(3))
    decide(jnp.zeros(3), jnp.ones(3))
    assert len(traced) == 1


def test_gradients_of_accepted_values_are_exact_and_of_others_zero() -> None:
    P, Q = jnp.array([3.0, 1.0, jnp.nan, jnp.inf]), jnp.array([2.0, 0.0, 1.0, 1.0])

    def total(P: Any, Q: Any) -> Any:
        result = strict_inference(P, Q)
        return jnp.sum(jnp.where(result.bottom_mask, 0.0, result.decoded))

    by_P, by_Q = jax.grad(total, argnums=(0, 1))(P, Q)
    np.testing.assert_allclose(by_P, [0.5, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(by_Q, [-0.75, 0.0, 0.0, 0.0])


def test_a_result_unpacks_as_the_published_one() -> None:
    result = strict_inference(np.array([1.0]), np.array([0.0]))
    decoded, bottom, gap = result
    assert decoded is result.decoded
    assert bottom is result.bottom_mask
    assert gap is result.gap_mask
    assert tuple(result.as_dict()) == FIELDS


def test_half_precision() -> None:
    config = InferenceConfig(1e-6, 1e-2)
    # In float16 the threshold is a subnormal number, which XLA keeps there: it widens to compute.
    P, Q = np.ones(5, np.float16), np.array([1e-6, 6e-8, 0.0, 1e-3, 1.0], np.float16)
    for result in (strict_inference(P, Q, config), jitted(jnp.asarray(P), jnp.asarray(Q), config)):
        # 1 / 1e-6 is beyond float16: a fault of the quotient.
        assert np.asarray(result.bottom_mask).tolist() == [True, True, True, False, False]
        assert np.asarray(result.fault_mask).tolist() == [True, False, False, False, False]
        assert np.asarray(result.gap_mask).tolist() == [False, False, False, True, False]
    brain = jnp.asarray([1.0, 1e-7], jnp.bfloat16)
    assert np.asarray(strict_inference(brain, brain).bottom_mask).tolist() == [False, True]


def test_a_subnormal_threshold_is_refused_where_jax_would_take_it_for_zero() -> None:
    for dtype, tau in ((np.float32, 1e-39), (np.float64, 1e-310), (jnp.bfloat16, 1e-39)):
        x = np.ones(2, dtype)
        with pytest.raises(UsageError, match="least threshold"):
            strict_inference(x, x, InferenceConfig(tau))


def test_a_validity_factor_of_zero_is_bottom_at_any_threshold() -> None:
    x = np.ones(2)
    result = strict_inference(x, x, validity_factors=[np.array([0.0, 1e-30])], validity_taus=0.0)
    assert result.bottom_mask.tolist() == [True, False]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(data=st.data())
@settings(max_examples=60)
def test_the_projective_score_ignores_the_scale(dtype: Any, data: st.DataObject) -> None:
    number = st.floats(2.0**-40, 2.0**40, width=8 * np.dtype(dtype).itemsize)
    signed = st.tuples(number, st.sampled_from([-1.0, 1.0])).map(lambda pair: pair[0] * pair[1])
    P, Q = (np.array(data.draw(st.lists(signed, min_size=4, max_size=4)), dtype) for _ in range(2))
    score = rejection_score(P, Q)
    limit = 60 if dtype is np.float32 else 900
    power = np.ldexp(dtype(1), data.draw(st.integers(-limit, limit)))
    np.testing.assert_array_equal(rejection_score(P * power, Q * power), score)
    factor = dtype(data.draw(number))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(rejection_score(P * factor, -Q * factor), score, rtol=8 * eps)
    # The bound that the docstring states: one output, so that the score is a function of |P/Q|.
    np.testing.assert_allclose(score, 1 / np.hypot(1, (P / Q).astype(np.float64)), rtol=8 * eps)


def test_the_projective_score_keeps_its_digits_at_the_ends_of_the_range(x64: None) -> None:
    P, Q = np.array([1e200, 3e-200, 1.0, 0.0, 0.0, 1e300]), np.array([1e200, 4e-200, 1e-250, 5.0, 0.0, 1.0])
    expected = [math.sqrt(0.5), 0.8, 1e-250, 1.0, 0.0, 1e-300]
    np.testing.assert_allclose(rejection_score(P, Q), expected, rtol=1e-15)
    np.testing.assert_allclose(jax.jit(rejection_score)(jnp.asarray(P), jnp.asarray(Q)), expected, rtol=1e-15)
    shared = rejection_score(np.array([[2.0, 3.0], [0.0, np.inf]]), np.array([6.0, 1.0]))
    np.testing.assert_allclose(shared, [6 / 7, np.nan], rtol=1e-15)
    z = rejection_score(np.array([3.0 + 4.0j]), np.array([12.0j]))
    np.testing.assert_allclose(z, [12 / 13], rtol=1e-15)
    column = rejection_score(np.array([[3.0, 0.0]]), np.array([[4.0]]))
    np.testing.assert_allclose(column, [[0.8, 1.0]], rtol=1e-15)
    assert np.isnan(rejection_score(np.array([np.nan]), np.array([1.0]))).all()
    assert rejection_score(np.array([np.nan]), np.array([-2.0]), "denominator") == 2.0


def test_numpy_and_jax_form_the_projective_score_alike() -> None:
    rng = np.random.default_rng(1)
    P = (rng.normal(size=(5000, 3)) * 10.0 ** rng.uniform(-30, 30, (5000, 3))).astype(np.float32)
    Q = (rng.normal(size=5000) * 10.0 ** rng.uniform(-30, 30, 5000)).astype(np.float32)
    tiny = np.float32(1e-39)
    P[:3], Q[:3] = tiny, [tiny, 0.0, 1.0]
    found, compiled = rejection_score(P, Q), jax.jit(rejection_score)(jnp.asarray(P), jnp.asarray(Q))
    np.testing.assert_allclose(compiled, found, rtol=6 * np.finfo(np.float32).eps, atol=2e-38)
    assert found[0] == 0.0, "a subnormal denominator counts as 0"


def test_projective_decisions_are_those_of_its_score() -> None:
    rng = np.random.default_rng(2)
    P, Q = rng.normal(size=(2000, 2)), rng.normal(size=2000) * 10.0 ** rng.uniform(-9, 0, 2000)
    Q[::50], P[7, 0] = 0.0, np.inf
    config = InferenceConfig(1e-4, 1e-2, score="projective")
    assert masks(strict_inference(P, Q, config)) == by_rows(P, Q, config)
    # Rescaling outputs changes no decision, which it does for |Q|.
    scale = 2.0 ** rng.integers(-30, 30, 2000)
    moved = strict_inference(P * scale[:, None], Q * scale, config)
    assert masks(moved) == masks(strict_inference(P, Q, config))
    published = InferenceConfig(1e-4, 1e-2)
    assert masks(strict_inference(P * scale[:, None], Q * scale, published)) != masks(strict_inference(P, Q, published))
