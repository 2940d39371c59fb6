"""Arrays of the algebra: published answers and gradients, and the laws that hold for whatever goes in."""

from __future__ import annotations

import functools
import math
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rational_golden as golden
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import hardgrad.rational as rational
from hardgrad.core import UsageError
from hardgrad.rational import (
    HystereticOrientationTracker,
    MeadowOverflowError,
    SCMArray,
    SCMValue,
    from_ieee,
    hysteretic_weak_sign,
    scm_add,
    scm_bottom,
    scm_div,
    scm_inv,
    scm_log,
    scm_mul,
    scm_neg,
    scm_pow,
    scm_sqrt,
    scm_sub,
    to_ieee,
    weak_sign,
)

LENGTH = 6
BINARY = {scm_add: np.add, scm_sub: np.subtract, scm_mul: np.multiply, scm_div: np.divide}
UNARY = {
    **{getattr(rational, f"scm_{name}"): getattr(np, name) for name in ("log", "exp", "sqrt", "sin", "cos", "tan")},
    scm_neg: np.negative,
    scm_inv: lambda x: 1 / x,
    functools.partial(scm_pow, exponent=3.0): lambda x: x**3.0,
    functools.partial(scm_pow, exponent=-1.5): lambda x: np.power(x, -1.5),
    weak_sign: lambda x: np.where(x == 0, 0, x / np.abs(x)),
}
DTYPES = (np.float32, np.float64, np.complex64, np.complex128)
# The precision is a setting of the whole test, not of one example.
LAW = hypothesis.settings(max_examples=40, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])


def elements(dtype: Any, **options: Any) -> st.SearchStrategy[Any]:
    """Numbers of a dtype with NaN, infinities, signed zeros, subnormal and enormous ones among them."""
    if np.issubdtype(dtype, np.complexfloating):
        return st.complex_numbers(width=64 if dtype == np.complex64 else 128, **options)
    return st.floats(width=32 if dtype == np.float32 else 64, **options)


def arrays(dtype: Any, **options: Any) -> st.SearchStrategy[Any]:
    return hnp.arrays(dtype, LENGTH, elements=elements(dtype, **options))


MASKS = hnp.arrays(bool, LENGTH)


@jax.jit
def outcomes(x: Any, y: Any, mask_x: Any, mask_y: Any) -> list[Any]:
    """Payload, mask and gradients of every operation, compiled as one program."""
    found = []
    for operation in (*BINARY, *UNARY):
        masks = (mask_x, mask_y) if operation in BINARY else (mask_x,)

        def total(*given: Any, operation: Any = operation, masks: Any = masks) -> Any:
            payload, mask = operation(*map(SCMArray, given, masks))
            return jnp.sum(jnp.real(payload) + jnp.imag(payload)), (payload, mask)

        given = (x, y)[: len(masks)]
        grads, (payload, mask) = jax.grad(total, argnums=tuple(range(len(masks))), has_aux=True)(*given)
        found.append((payload, mask, grads))
    return found


def by_operation(x: Any, y: Any, mask_x: Any = None, mask_y: Any = None) -> dict[Any, Any]:
    none = np.zeros(LENGTH, bool)
    found = outcomes(x, y, none if mask_x is None else mask_x, none if mask_y is None else mask_y)
    return dict(zip((*BINARY, *UNARY), jax.tree.map(np.asarray, found), strict=True))


# --- published answers ---


@pytest.mark.parametrize("case", golden.cases("vector_ops"), ids=lambda c: f"{c['fn']}-{c['backend']}-{c['dtype']}")
def test_published_operations_and_gradients(case: dict[str, Any], x64: None) -> None:
    function = getattr(rational, f"scm_{case['fn']}")
    if "exponent" in case:
        function = functools.partial(function, exponent=golden.number(case["exponent"]))
    names = [name for name in "xy" if name in case]
    arrays = [jnp.asarray(golden.array(case[name])) for name in names]
    masks = [golden.array(case[f"mask_{name}"]) if f"mask_{name}" in case else False for name in names]
    if "raises" in case["out"]:
        with pytest.raises(UsageError, match="real"):
            function(*arrays)
        return

    def apply(*arrays: Any) -> SCMArray:
        found: SCMArray = function(*(SCMArray(array, mask) for array, mask in zip(arrays, masks, strict=True)))
        return found

    out = case["out"]
    payload, mask = (golden.array(part) for part in (out if isinstance(out, list) else (out["payload"], out["mask"])))
    found = apply(*arrays)
    assert found.dtype == payload.dtype
    np.testing.assert_array_equal(found.mask, mask)
    np.testing.assert_allclose(found.payload, payload, **golden.tolerance(payload.dtype))
    if isinstance(out, dict):
        weights = jnp.asarray(golden.array(out["weights"]))
        grads = jax.grad(lambda arrays: jnp.sum(weights * apply(*arrays).payload))(arrays)
        for name, grad in zip(names, grads, strict=True):
            np.testing.assert_allclose(grad, golden.array(out[f"grad_{name}"]), **golden.tolerance(payload.dtype))


# --- laws ---


@pytest.mark.parametrize("dtype", DTYPES)
@LAW
@hypothesis.given(data=st.data())
def test_total_absorbing_and_without_gradient_at_bottom(dtype: Any, data: Any, x64: None) -> None:
    x, y, mask_x, mask_y = (data.draw(strategy) for strategy in (arrays(dtype), arrays(dtype), MASKS, MASKS))
    for operation, (payload, mask, grads) in by_operation(x, y, mask_x, mask_y).items():
        name = str(operation)
        assert payload.dtype == dtype
        assert np.isfinite(payload).all(), name
        np.testing.assert_array_equal(payload[mask], 0, err_msg=name)
        assert mask[mask_x | ~np.isfinite(x)].all(), name
        if operation in BINARY:
            assert mask[mask_y | ~np.isfinite(y)].all(), name
        for grad in grads:
            np.testing.assert_array_equal(grad[mask], 0, err_msg=name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@LAW
@hypothesis.given(data=st.data())
def test_arithmetic_is_that_of_ieee_where_that_is_finite(dtype: Any, data: Any, x64: None) -> None:
    x, y = (data.draw(arrays(dtype, allow_subnormal=False)) for _ in range(2))
    found = by_operation(x, y)
    tiny = np.finfo(dtype).tiny
    for operation, plain in BINARY.items():
        payload, mask, _ = found[operation]
        with np.errstate(all="ignore"):
            expected = plain(x, y)
            masked = ~(np.isfinite(x) & np.isfinite(y) & np.isfinite(expected))
            if operation is scm_div:
                square = np.where(y * y < tiny, 0, y * y)  # XLA has no subnormal numbers
                masked |= ~np.isfinite(np.abs(x) / square)
        np.testing.assert_array_equal(mask, masked, err_msg=str(operation))
        np.testing.assert_allclose(payload, np.where(masked, 0, expected), rtol=0, atol=tiny, err_msg=str(operation))


@pytest.mark.parametrize("dtype", DTYPES)
@LAW
@hypothesis.given(data=st.data())
def test_functions_are_those_of_numpy_and_bottom_where_they_are_not_finite(dtype: Any, data: Any, x64: None) -> None:
    wide = np.issubdtype(dtype, np.complexfloating)
    bounds = {"max_magnitude": 1.25} if wide else {"min_value": -1.25, "max_value": 1.25}
    x = data.draw(arrays(dtype, allow_subnormal=False, **bounds))
    x = np.where(np.abs(x) < 1e-4, 0, x).astype(dtype)
    precision = 2e-6 if np.finfo(dtype).bits == 32 else 1e-14
    for operation, (payload, mask, _) in by_operation(x, x).items():
        if operation in BINARY:
            continue
        with np.errstate(all="ignore"):
            expected = UNARY[operation](x)
        np.testing.assert_array_equal(mask, ~np.isfinite(expected), err_msg=str(operation))
        near = np.abs(payload - np.where(mask, 0, expected)) <= precision * (1 + np.abs(payload))
        assert near.all(), f"{operation}: {payload} for {expected}"


def test_compiled_and_mapped_as_entry_by_entry() -> None:
    """Under jit and vmap as without; and forward derivatives, too, are 0 at ⊥."""
    x = jnp.array([[jnp.nan, jnp.inf, 0.0, -1.0], [1e30, 2.0, -0.5, 0.25]])
    y = jnp.array([[1.0, 2.0, 0.0, -3.0], [1e-30, 0.5, 1e10, 4.0]])
    given = {operation: (x, y) if operation in BINARY else (x,) for operation in (*BINARY, *UNARY)}

    def apply(operation: Any, *arrays: Any) -> SCMArray:
        found: SCMArray = operation(*map(SCMArray, arrays))
        return found

    @jax.jit
    def compiled() -> Any:
        mapped, tangents = [], []
        for operation, operands in given.items():
            function = functools.partial(apply, operation)
            mapped.append(jax.vmap(function)(*operands))
            ones = tuple(map(jnp.ones_like, operands))
            tangents.append(jax.jvp(lambda *a, function=function: function(*a).payload, operands, ones)[1])
        return mapped, tangents

    for (operation, operands), mapped, tangent in zip(given.items(), *compiled(), strict=True):
        eager = apply(operation, *operands)
        np.testing.assert_array_equal(mapped.mask, eager.mask)
        np.testing.assert_allclose(mapped.payload, eager.payload, rtol=1e-6)
        np.testing.assert_array_equal(np.asarray(tangent)[np.asarray(eager.mask)], 0)


@LAW
@hypothesis.given(data=st.data())
def test_arrays_agree_with_single_values(data: Any, x64: None) -> None:
    number = st.floats(-1e3, 1e3).filter(lambda v: v == 0 or abs(v) > 1e-3) | st.just(math.nan)
    x, y = (data.draw(hnp.arrays(np.float64, LENGTH, elements=number)) for _ in range(2))
    outcome = by_operation(x, y)
    for operation in BINARY:
        payload, mask, _ = outcome[operation]
        found = np.where(mask, np.nan, payload)
        single = [to_ieee(operation(from_ieee(a), from_ieee(b))) for a, b in zip(x, y, strict=True)]
        np.testing.assert_array_equal(found, single)
    for operation in (scm_log, scm_sqrt, scm_inv, weak_sign):
        single = [to_ieee(operation(from_ieee(a))) for a in x]
        payload, mask, _ = outcome[operation]
        np.testing.assert_allclose(np.where(mask, np.nan, payload), single, rtol=1e-14)


# --- edges ---


def test_division_is_bottom_where_its_derivative_overflows(x64: None) -> None:
    x, y = jnp.array([1.0, 1.0, 0.0, 1e-200, 1.0]), jnp.array([1e-200, 1e-150, 0.0, 1e-150, -0.0])
    np.testing.assert_array_equal(scm_div(x, y).mask, [True, False, True, False, True])
    assert not bool(scm_inv(y).mask[0])  # the reciprocal looks at its value only
    assert scm_div(1.0, 1e-200) == SCMValue(1e200)  # and so do single values


def test_subnormal_numbers_count_as_zero() -> None:
    x = jnp.array([1e-40], jnp.float32)
    assert bool(scm_div(1.0, x).mask[0])
    assert bool(scm_log(x).mask[0])
    assert float(scm_sqrt(x).payload[0]) == 0
    assert bool(scm_inv(-x).mask[0])


def test_infinite_derivatives_of_finite_values_stay_infinite() -> None:
    for operation in (scm_sqrt, functools.partial(scm_pow, exponent=0.5)):
        assert float(jax.grad(lambda x: operation(SCMArray(x)).payload)(0.0)) == math.inf  # noqa: B023


def test_powers() -> None:
    x = jnp.array([-8.0, -2.0, 0.0, 0.0, 4.0])
    found = scm_pow(x, jnp.array([1 / 3, 3.0, 0.0, -1.0, jnp.inf]))
    np.testing.assert_array_equal(found.mask, [True, False, False, True, True])
    np.testing.assert_array_equal(found.payload, [0, -8, 1, 0, 0])
    np.testing.assert_array_equal((SCMArray(x) ** 2).payload, [64, 4, 0, 0, 16])
    assert bool(scm_pow(jnp.ones(1), 1e300).mask[0])  # an exponent too large for float32
    grads = jax.grad(lambda p: jnp.sum(scm_pow(x, p).payload))(jnp.array([1.0, 3.0, 2.0, 1.0, 2.0]))
    np.testing.assert_array_equal(grads, 0)  # an exponent is a constant
    z = jnp.array([0j, 1 + 1j, -8 + 0j], jnp.complex64)
    for exponent, expected in ((0, [1, 1, 1]), (2, [0, 2j, 64]), (0.5, [0, (1 + 1j) ** 0.5, 8**0.5 * 1j])):
        found = scm_pow(z, exponent)
        assert not bool(found.mask.any())
        np.testing.assert_allclose(found.payload, expected, atol=1e-6)
    np.testing.assert_array_equal(scm_pow(z, -0.5).mask, [True, False, False])


def test_operators_take_arrays_numbers_and_values_on_either_side() -> None:
    plain = np.array([2.0, 0.0], np.float32)
    x = SCMArray(plain)
    for other in (plain, jnp.asarray(plain), SCMArray(plain), SCMValue(2.0), 2, 2.0, np.float32(2)):
        expected = other.payload if isinstance(other, SCMArray | SCMValue) else np.asarray(other, np.float32)
        for found in (x + other, other + x):
            np.testing.assert_array_equal(found.payload, plain + expected)
        np.testing.assert_array_equal((x - other).payload, plain - expected)
        np.testing.assert_array_equal((other - x).payload, expected - plain)
        for found in (x * other, other * x):
            np.testing.assert_array_equal(found.payload, plain * expected)
        assert to_ieee(x / other)[0] == 1
        np.testing.assert_array_equal((other / x).mask, [False, True])
    np.testing.assert_array_equal((-x).payload, [-2, 0])
    assert bool((x + scm_bottom()).mask.all())
    assert bool((1e300 * x).mask.all())  # too large for float32
    with pytest.raises(MeadowOverflowError):
        x + 10**400


def test_arrays_are_made_with_their_law() -> None:
    x = SCMArray(np.array([[1.0, np.nan]], np.float32), np.array([[True], [False]]))
    assert x.shape == (2, 2)
    assert x.dtype == jnp.float32
    np.testing.assert_array_equal(x.payload, [[0, 0], [1, 0]])
    payload, mask = x
    np.testing.assert_array_equal(mask, [[True, True], [False, True]])
    np.testing.assert_array_equal(x[1].payload, payload[1])
    assert SCMArray(np.array([1, 2])).dtype == jnp.float32
    assert len(jax.tree.leaves(x)) == 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SCMArray(jnp.ones(2), jnp.ones(2)), "a mask holds booleans"),
        (lambda: SCMArray(jnp.ones(2), jnp.ones(3, bool)), r"mask of shape \(3,\) does not fit a payload of shape"),
        (lambda: SCMArray(jnp.ones(2, bool)), "not bool; is it a mask"),
        (lambda: scm_add(jnp.ones(2), "s"), "not str"),
        (lambda: scm_add(jnp.ones(2), True), "not bool"),
        (lambda: scm_mul(True, jnp.ones(2)), "not bool"),
        (lambda: scm_pow(jnp.ones(2), SCMArray(jnp.ones(2))), "scm_exp"),
        (lambda: 2 ** SCMArray(jnp.ones(2)), "scm_exp"),
        (lambda: scm_pow(jnp.ones(2), 1j), "real number"),
        (lambda: scm_pow(jnp.ones(2), np.ones(2) * 1j), "must be real"),
        (lambda: hysteretic_weak_sign(jnp.ones(())), "weak_sign"),
        (lambda: hysteretic_weak_sign(jnp.ones((3, 2)), jnp.ones(3)), r"\(2,\), not \(3,\)"),
        (lambda: hysteretic_weak_sign(jnp.ones(3), hysteresis=-1), "hysteresis must be"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


# --- bridge and signs ---


@pytest.mark.parametrize("case", golden.cases("ieee_bridge"))
def test_published_bridge_for_arrays(case: dict[str, Any]) -> None:
    found = from_ieee(np.array([golden.number(case["x"])]))
    assert bool(found.mask[0]) == ("bottom" in case["from_ieee"])
    np.testing.assert_array_equal(to_ieee(found)[0], golden.number(case["round_trip"]))


def test_bridge_gives_real_numbers() -> None:
    found = to_ieee(jnp.array([1 + 0j, 1j, complex(0, math.inf)], jnp.complex64))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(found, [1, math.nan, math.nan])


@pytest.mark.parametrize("case", golden.cases("weak_sign"))
def test_published_weak_signs_of_arrays(case: dict[str, Any], x64: None) -> None:
    bottom = case["x"] == "bottom"
    number = 0.0 if bottom else golden.number(case["x"])
    found = weak_sign(SCMArray(np.array([number]), bottom))
    assert bool(found.mask[0]) == bottom
    expected = 0 if bottom else golden.number(case["out"]["value"])
    np.testing.assert_allclose(found.payload[0], expected, **golden.tolerance(np.float64))


@pytest.mark.parametrize("case", golden.cases("sign_tracker"))
def test_published_tracking_of_arrays(case: dict[str, Any], x64: None) -> None:
    values = np.array([golden.number(value) for value in case["seq"]])
    found, last = hysteretic_weak_sign(values, epsilon=case["epsilon"], hysteresis=case["hysteresis"])
    expected = np.array([golden.number(value["value"]) for value in case["out"]])
    np.testing.assert_array_equal(found.payload, expected)
    np.testing.assert_array_equal(last, expected[-1])


scan = jax.jit(functools.partial(hysteretic_weak_sign, epsilon=0.1))


@LAW
@hypothesis.given(values=hnp.arrays(np.float64, (5, 2), elements=st.floats(-0.25, 0.25) | st.just(math.nan)))
def test_scanned_signs_are_those_of_the_tracker_and_can_go_on(values: Any, x64: None) -> None:
    found, last = scan(values)
    for column in range(2):
        tracker = HystereticOrientationTracker(epsilon=0.1)
        single = [to_ieee(tracker.update(from_ieee(value))) for value in values[:, column]]
        np.testing.assert_array_equal(np.where(found.mask, np.nan, found.payload)[:, column], single)
        assert float(last[column]) == (tracker.last_sign or 0.0)
    first, between = scan(values[:2])
    second, end = scan(values[2:], between)
    np.testing.assert_array_equal(np.concatenate([first.payload, second.payload]), found.payload)
    np.testing.assert_array_equal(end, last)


def test_complex_signs_keep_their_direction_and_derivative_at_any_scale(x64: None) -> None:
    directions = jax.jit(lambda z: weak_sign(z).payload)
    found = directions(np.array([1e-300, 1.0, 1e308]) * (1 + 1j))
    np.testing.assert_allclose(found, math.sqrt(0.5) * (1 + 1j))
    angle = jax.grad(lambda t: jnp.sum(directions(jax.lax.complex(5 * jnp.cos(t), 5 * jnp.sin(t))).imag))
    np.testing.assert_allclose(angle(jnp.zeros(3)), 1.0)
