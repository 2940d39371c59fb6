"""Fields: sums of monomials, what drives give, masks, amplitudes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads
from numpy.typing import NDArray

from hardgrad.core import UsageError
from hardgrad.oscillators import AbstractField, PolynomialField, SyrinxField, evaluate

RNG = np.random.default_rng(0)


def plain_sum(exponents: Any, c: Any, x: Any, v: Any) -> NDArray[np.float64]:
    """With NumPy's power, where 0⁰ is 1."""
    total = np.zeros(np.broadcast_shapes(c.shape[:-1], x.shape))
    for j, (p, k) in enumerate(exponents):
        total += c[..., j] * np.power(x, p) * np.power(v, k)
    return total


@pytest.mark.usefixtures("x64")
@given(
    pairs=st.sets(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=12),
    zeros=st.booleans(),
    seed=st.integers(0, 99),
)
def test_evaluate_is_the_sum_of_its_terms(pairs: set[tuple[int, int]], zeros: bool, seed: int) -> None:
    exponents = tuple(pairs)
    rng = np.random.default_rng(seed)
    c, x, v = rng.normal(size=(2, 3, len(exponents))), rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    if zeros:
        x[0], v[:, 1] = 0.0, 0.0
    np.testing.assert_allclose(evaluate(exponents, c, x, v), plain_sum(exponents, c, x, v), rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_evaluate_derivatives_in_both_modes() -> None:
    exponents = ((0, 0), (1, 0), (3, 2), (0, 4))
    arrays = RNG.normal(size=(2, 3, 4)), RNG.normal(size=(2, 3)), RNG.normal(size=(2, 3))
    check_grads(lambda *a: evaluate(exponents, *a), arrays, order=2, modes=("fwd", "rev"))
    # and where only one of them is a variable
    check_grads(lambda v: evaluate(exponents, arrays[0], arrays[1], v), arrays[2:], order=1)


def test_evaluate_at_zero_has_finite_slopes() -> None:
    exponents = ((1, 0), (0, 1), (2, 0), (1, 3))
    by_x = jax.grad(lambda x: evaluate(exponents, jnp.ones(4), x, jnp.zeros(())))(jnp.zeros(()))
    assert by_x == 1.0


@pytest.mark.parametrize(
    ("exponents", "says"),
    [
        ((), "at least one"),
        (((1, 0), (1, 0)), "2 times"),
        (((1, -1),), "0 or more"),
        (((1.5, 0),), "whole numbers"),
        ((1, 2), "whole numbers"),
    ],
)
def test_wrong_exponents(exponents: Any, says: str) -> None:
    from hardgrad.oscillators._fields import check_exponents

    with pytest.raises(UsageError, match=says):
        check_exponents(exponents)


def test_wrong_number_of_coefficients() -> None:
    with pytest.raises(UsageError, match="2 for these exponents"):
        evaluate(((1, 0), (0, 1)), jnp.ones(3), jnp.ones(()), jnp.ones(()))


@pytest.mark.parametrize("keep_const", [False, True])
@pytest.mark.usefixtures("x64")
def test_polynomial_field_is_its_formula(keep_const: bool) -> None:
    field = PolynomialField(order=2, keep_const=keep_const)
    raw, x, v = RNG.normal(size=(5, field.outputs)), RNG.normal(size=5), RNG.normal(size=5)
    omega, gamma, w = raw[:, 0], raw[:, 1], raw[:, 2:].reshape(5, 3, 3).copy()
    w[:, 1, 0] = w[:, 0, 1] = 0.0
    if not keep_const:
        w[:, 0, 0] = 0.0
    powers = np.arange(3)
    bends = np.einsum("bpk,bp,bk->b", w, x[:, None] ** powers, v[:, None] ** powers)
    found = field.acceleration(field.drives(jnp.asarray(raw)), jnp.asarray(x), jnp.asarray(v))
    np.testing.assert_allclose(found, -(omega**2) * x - gamma * v - bends, rtol=1e-12)
    assert ((0, 0) in field.exponents) == keep_const
    assert jnp.all(field.drives(jnp.asarray(raw))["omega"] >= 0)


def test_masked_weights_reach_nothing() -> None:
    field = PolynomialField(order=3)
    raw = jnp.asarray(RNG.normal(size=(2, field.outputs)), jnp.float32)
    masked = jnp.array([2, 3, 6])  # w[0][0], w[0][1] and w[1][0]
    raw = raw.at[:, masked].set(jnp.nan)

    def total(raw: Any) -> Any:
        return jnp.sum(field.acceleration(field.drives(raw), jnp.full(2, 0.3), jnp.full(2, -0.2)))

    value, gradient = jax.value_and_grad(total)(raw)
    assert jnp.isfinite(value)
    assert jnp.all(gradient[:, masked] == 0)
    assert jnp.all(jnp.isfinite(gradient))


@pytest.mark.parametrize(
    "make", [lambda a: PolynomialField(3, keep_const=True, amplitude=a), lambda a: SyrinxField(0.7, amplitude=a)]
)
@pytest.mark.usefixtures("x64")
def test_amplitude_scales_the_sound(make: Any) -> None:
    a = 0.02
    unit, scaled = make(1.0), make(a)
    raw = jnp.asarray(RNG.normal(size=(4, unit.outputs)))
    x, v = jnp.asarray(RNG.normal(size=(2, 4)))
    by_unit = unit.acceleration(unit.drives(raw), x, v)
    np.testing.assert_allclose(scaled.acceleration(scaled.drives(raw), a * x, a * v), a * by_unit, rtol=1e-12)


def test_amplitude_out_of_the_dtypes_reach() -> None:
    field = PolynomialField(order=15, amplitude=0.01)
    with pytest.raises(UsageError, match="float32"):
        field.drives(jnp.zeros((1, field.outputs), jnp.float32))


@pytest.mark.usefixtures("x64")
def test_syrinx_field_is_its_formula() -> None:
    field = SyrinxField(rate=0.4)
    np.testing.assert_allclose(jax.nn.softplus(field.theta), 0.4, rtol=1e-14)
    alpha, beta, delta, x, v = RNG.normal(size=(5, 6))
    g = 0.4
    expected = g**2 * (alpha + beta * x + x**2 - x**3) - g * (delta + x + x**2) * v
    raw = jnp.asarray(np.stack([alpha, beta, delta], axis=-1))
    np.testing.assert_allclose(field.acceleration(field.drives(raw), jnp.asarray(x), jnp.asarray(v)), expected)


@pytest.mark.usefixtures("x64")
def test_syrinx_field_is_a_polynomial_field() -> None:
    syrinx, polynomial, g = SyrinxField(0.8), PolynomialField(3, keep_const=True), 0.8
    alpha, beta, delta = jnp.array(-0.15), jnp.array(-0.3), jnp.array(0.1)
    w = jnp.zeros((4, 4)).at[0, 0].set(-(g**2) * alpha).at[2, 0].set(-(g**2)).at[3, 0].set(g**2)
    w = w.at[1, 1].set(g).at[2, 1].set(g)
    drives = {"omega": g * jnp.sqrt(-beta), "gamma": g * delta, "weights": w}
    x, v = jnp.asarray(RNG.normal(size=2))
    found = syrinx.acceleration({"alpha": alpha, "beta": beta, "delta": delta}, x, v)
    np.testing.assert_allclose(found, polynomial.acceleration(drives, x, v), rtol=1e-12)


def test_the_rate_of_a_syrinx_is_learned() -> None:
    field = SyrinxField()
    drives = field.drives(jnp.zeros(3))
    by_theta = jax.grad(lambda field: field.acceleration(drives, jnp.array(0.5), jnp.array(0.1)))(field).theta
    # d/dg of g²(x² - x³) - g(x + x²)v, times σ(θ)
    expected = (2 * 0.125 - 0.075) * jax.nn.sigmoid(field.theta)
    np.testing.assert_allclose(by_theta, expected, rtol=1e-5)


@pytest.mark.parametrize("field", [PolynomialField(15), SyrinxField()])
def test_float32_stays_float32(field: AbstractField, x64: None) -> None:
    drives = field.drives(jnp.zeros((2, field.outputs), jnp.float32))
    assert field.coefficients(drives).dtype == jnp.float32
    assert len(field.exponents) == field.coefficients(drives).shape[-1]


def test_wrong_fields() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        PolynomialField(order=0)
    with pytest.raises(UsageError, match="above 0"):
        PolynomialField(amplitude=0.0)
    with pytest.raises(UsageError, match="above 0"):
        SyrinxField(rate=-1.0)
    with pytest.raises(UsageError, match="18 numbers a moment"):
        PolynomialField(3).drives(jnp.zeros((2, 17)))
