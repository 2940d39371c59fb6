"""Single values of the algebra: published answers, total operations, one kind of overflow."""

from __future__ import annotations

import cmath
import itertools
import math
import operator
from fractions import Fraction
from typing import Any

import hypothesis
import numpy as np
import pytest
import rational_golden as golden
from hypothesis import strategies as st

import hardgrad.rational as rational
from hardgrad.core import UsageError
from hardgrad.rational import (
    HystereticOrientationTracker,
    MeadowOverflowError,
    SCMArray,
    SCMValue,
    from_ieee,
    scm_add,
    scm_bottom,
    scm_complex,
    scm_div,
    scm_exp,
    scm_inv,
    scm_log,
    scm_mul,
    scm_neg,
    scm_pow,
    scm_real,
    scm_sin,
    scm_sqrt,
    scm_sub,
    to_ieee,
    weak_sign,
)

BOTTOM = scm_bottom()
OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
BINARY = {scm_add: operator.add, scm_sub: operator.sub, scm_mul: operator.mul, scm_div: operator.truediv}
UNARY = [getattr(rational, f"scm_{name}") for name in ("inv", "neg", "log", "exp", "sqrt", "sin", "cos", "tan")]
FINITE = st.floats(allow_nan=False, allow_infinity=False)
COMPLEX = st.complex_numbers(allow_nan=False, allow_infinity=False)
NUMBERS = FINITE | COMPLEX | st.integers(-(2**53), 2**53) | st.just(BOTTOM)


def operand(value: Any) -> Any:
    return BOTTOM if value == "bottom" else golden.number(value)


def check(found: Any, expected: dict[str, Any]) -> None:
    """Compare a value with a golden one, to the last digits, and its kind (real or complex) exactly."""
    if expected.get("bottom"):
        assert found == BOTTOM
        return
    number = golden.number(expected["value"])
    assert isinstance(found.value, complex) == isinstance(number, complex)
    assert found.value == pytest.approx(number, rel=1e-15, abs=1e-300)


@pytest.mark.parametrize("case", golden.cases("scm_scalar"), ids=lambda case: case["fn"])
def test_published_functions(case: dict[str, Any]) -> None:
    rest = [operand(case[name]) for name in ("y", "exponent") if name in case]
    check(getattr(rational, case["fn"])(operand(case["x"]), *rest), case["out"])


@pytest.mark.parametrize("case", golden.cases("scm_operator"), ids=lambda case: case["op"])
def test_published_operators_and_their_reflected_forms(case: dict[str, Any]) -> None:
    apply, x, y = OPERATORS[case["op"]], operand(case["x"]), operand(case["y"])
    lifted = [value if isinstance(value, SCMValue) else SCMValue(value) for value in (x, y)]
    for first, second in ((lifted[0], lifted[1]), (lifted[0], y), (x, lifted[1])):
        if "raises" in case["out"]:
            with pytest.raises(MeadowOverflowError, match="too large"):
                apply(first, second)
        else:
            check(apply(first, second), case["out"])


@pytest.mark.parametrize("case", golden.cases("scm_construct"))
def test_published_construction(case: dict[str, Any]) -> None:
    x = case["x"] if case["x"] == "s" else golden.number(case["x"])
    make = SCMValue if case["fn"].endswith("SCMValue") else lambda x: scm_add(1, x)
    if "raises" in case["out"]:
        with pytest.raises(UsageError):
            make(x)
    else:
        assert make(x).value == case["out"]["value"]


@pytest.mark.parametrize("case", golden.cases("weak_sign"))
def test_published_weak_signs(case: dict[str, Any]) -> None:
    check(weak_sign(operand(case["x"])), case["out"])


@pytest.mark.parametrize("case", golden.cases("sign_tracker"))
def test_published_tracking(case: dict[str, Any]) -> None:
    tracker = HystereticOrientationTracker(case["epsilon"], case["hysteresis"])
    for value, expected in zip(case["seq"], case["out"], strict=True):
        check(tracker.update(operand(value)), expected)


@pytest.mark.parametrize("case", golden.cases("sign_tracker_error"))
def test_published_refusals_of_the_tracker(case: dict[str, Any]) -> None:
    options = {name: golden.number(value) for name, value in case.items() if name != "out"}
    with pytest.raises(UsageError, match=next(iter(options))):
        HystereticOrientationTracker(**options)


@pytest.mark.parametrize("case", golden.cases("ieee_bridge"))
def test_published_bridge(case: dict[str, Any]) -> None:
    value = from_ieee(golden.number(case["x"]))
    check(value, case["from_ieee"])
    np.testing.assert_array_equal(to_ieee(value), golden.number(case["round_trip"]))


def test_bridge_refuses_booleans_and_has_no_place_for_imaginary_parts() -> None:
    with pytest.raises(UsageError, match="mask"):
        from_ieee(True)
    assert from_ieee(complex(math.nan, 0)) == from_ieee(complex(0, math.inf)) == BOTTOM
    assert math.isnan(to_ieee(SCMValue(1j)))
    assert to_ieee(SCMValue(2 + 0j)) == 2.0


# --- construction ---


def test_values_are_floats_or_complex() -> None:
    kinds = [(7, float), (np.float32(0.5), float), (np.int64(3), float), (Fraction(1, 4), float), (1j, complex)]
    for given, kind in kinds:
        assert type(SCMValue(given).value) is kind
        assert SCMValue(given).payload == given
    assert type(scm_complex(2).value) is complex
    assert scm_real(2) == SCMValue(2.0)
    assert repr(SCMValue(1.5)) == "SCMValue(1.5)"


def test_bottom_has_no_payload_and_equals_itself() -> None:
    assert SCMValue(3.0, is_bottom=True) == BOTTOM
    assert SCMValue(3.0, is_bottom=True).value is None
    assert repr(BOTTOM) == "SCMValue(⊥)"
    assert len({BOTTOM, SCMValue(None, is_bottom=True), SCMValue(1.0)}) == 2
    with pytest.raises(UsageError, match="no payload"):
        _ = BOTTOM.payload


def test_values_do_not_change() -> None:
    with pytest.raises(AttributeError):
        SCMValue(1.0).value = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SCMValue(None), "real or complex number, not NoneType"),
        (lambda: scm_real(1j), "scm_complex takes"),
        (lambda: scm_complex(complex(0, math.nan)), "from_ieee"),
        (lambda: scm_mul(1.0, True), "is it a mask"),
        (lambda: SCMValue(1) + True, "is it a mask"),
        (lambda: scm_div(math.inf, 2), "must be finite"),
        (lambda: scm_pow(2, 1j), "exponent must be a real number, not complex"),
        (lambda: scm_pow(2, SCMValue(2)), "scm_exp"),
        (lambda: 2 ** SCMValue(2), "scm_exp"),
        (lambda: scm_pow(2, True), "not bool"),
        (lambda: scm_pow(2, math.nan), "an exponent must be finite"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_foreign_operands_are_left_to_python() -> None:
    for apply in (*OPERATORS.values(),):
        for first, second in ((SCMValue(1), "s"), ("s", SCMValue(1)), (SCMValue(1), np.ones(2)), (np.ones(2), BOTTOM)):
            with pytest.raises(TypeError):
                apply(first, second)


# --- one kind of overflow ---


@pytest.mark.parametrize(
    "make",
    [
        lambda: scm_add(1e308, 1e308),
        lambda: scm_sub(-1e308, 1e308),
        lambda: scm_mul(1e200, 1e200j),
        lambda: scm_mul(1e308 + 1e308j, 1e308 + 1e308j),  # inf - inf on the way
        lambda: scm_div(1, 5e-324),
        lambda: scm_inv(5e-324),
        lambda: scm_pow(10, 309),
        lambda: scm_pow(1e-200 + 1e-200j, -50),  # a division by 0 on the way
        lambda: scm_exp(710),
        lambda: scm_exp(1000 + 1j),
        lambda: scm_sin(1000j),
        lambda: SCMValue(10**400),
        lambda: SCMValue(1e308) ** 2,
    ],
)
def test_every_overflow_is_the_same_error(make: Any) -> None:
    for kind in (MeadowOverflowError, OverflowError, ValueError):
        with pytest.raises(kind, match="too large"):
            make()


# --- laws ---


@hypothesis.given(x=NUMBERS, y=NUMBERS)
def test_operations_agree_with_python_or_say_what_they_cannot(x: Any, y: Any) -> None:
    for function, plain in BINARY.items():
        if BOTTOM in (x, y) or (function is scm_div and y == 0):
            assert function(x, y) == BOTTOM
            continue
        try:
            expected = plain(float(x) if isinstance(x, int) else x, float(y) if isinstance(y, int) else y)
        except OverflowError:
            expected = math.inf
        if cmath.isfinite(expected):
            assert function(x, y).value == expected
        else:
            with pytest.raises(MeadowOverflowError):
                function(x, y)


@hypothesis.given(x=NUMBERS)
def test_functions_end_in_a_finite_value_bottom_or_the_one_error(x: Any) -> None:
    for function in (*UNARY, lambda x: scm_pow(x, -0.5), lambda x: scm_pow(x, 3), lambda x: SCMValue(1) / x):
        try:
            found = function(x)
        except MeadowOverflowError:
            continue
        assert isinstance(found, SCMValue)
        assert found.is_bottom or cmath.isfinite(found.payload)
        assert x != BOTTOM or found == BOTTOM


@pytest.mark.parametrize("zero", [0, 0.0, -0.0, 0j])
def test_zeros_of_all_kinds(zero: Any) -> None:
    assert scm_inv(zero) == scm_div(0, zero) == scm_log(zero) == scm_pow(zero, -1) == BOTTOM
    assert scm_pow(zero, 0).value == 1
    assert scm_sqrt(zero).value == weak_sign(zero).value == 0
    assert math.copysign(1, scm_neg(0.0).payload.real) == -1


def test_denormals_are_numbers() -> None:
    assert scm_log(5e-324).value == math.log(5e-324)
    assert scm_div(5e-324, 5e-324).value == 1
    assert scm_mul(1e-200, 1e-200).value == 0  # underflow, as in floats
    assert SCMValue(1) / 1e-200 == SCMValue(1e200)


# --- signs ---


@hypothesis.given(value=COMPLEX)
def test_signs_have_modulus_one_at_any_scale(value: complex) -> None:
    sign = weak_sign(value).payload
    if value == 0:
        assert sign == 0
    else:
        assert abs(sign) == pytest.approx(1, abs=1e-15)
        assert weak_sign(value.real).payload in (-1.0, 0.0, 1.0)


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1.0, 1e308])
def test_directions_keep_their_digits(scale: float) -> None:
    sign = weak_sign(complex(scale, scale)).payload
    assert sign == pytest.approx(complex(math.sqrt(0.5), math.sqrt(0.5)), rel=1e-15)


def test_tracker_goes_on_from_its_state_and_forgets_on_reset() -> None:
    tracker = HystereticOrientationTracker(epsilon=0.1)
    assert tracker.last_sign is None
    assert tracker.update(BOTTOM) == BOTTOM
    assert tracker.update(-1.0).value == -1.0
    assert HystereticOrientationTracker(**tracker.state).update(0.05).value == -1.0
    assert tracker.update(BOTTOM) == BOTTOM
    assert tracker.last_sign == -1.0
    assert tracker.update(0.125).value == 1.0  # release met exactly: clear
    tracker.reset()
    assert tracker.last_sign is None
    assert tracker.update(0.05).value == 0.0
    assert tracker.update(1.7e308 + 1.7e308j).value == pytest.approx(complex(math.sqrt(0.5), math.sqrt(0.5)))


def test_mixed_operands_with_arrays_give_arrays() -> None:
    for first, second in itertools.permutations((SCMValue(2.0), np.array([1.0, 0.0], np.float32))):
        assert isinstance(scm_div(first, second), SCMArray)
