"""Bases and the rational layer: the published answers, safe gradients, every transformation."""

from __future__ import annotations

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

from hardgrad.core import UsageError
from hardgrad.rational import (
    AbstractBasis,
    ChebyshevBasis,
    CustomBasis,
    GradientPolicy,
    MonomialBasis,
    RationalLayer,
    gradient_policy,
)

KEY = jax.random.key(0)
BASES = {"monomial": MonomialBasis(), "chebyshev": ChebyshevBasis()}


def make(numerator: Any, denominator: Any, dtype: Any = None, **options: Any) -> RationalLayer:
    """A layer with given coefficients."""
    layer = RationalLayer(len(numerator) - 1, len(denominator) - 1, key=KEY, dtype=dtype, **options)
    coefficients = (jnp.asarray(numerator, layer.numerator.dtype), jnp.asarray(denominator, layer.numerator.dtype))
    return eqx.tree_at(lambda m: (m.numerator, m.denominator), layer, coefficients)


@eqx.filter_jit
def weighted(layer: RationalLayer, x: Any, weights: Any) -> Any:
    """Σ w y with the layer's answer, differentiated by layer and x."""

    def total(both: Any) -> Any:
        layer, x = both
        y, bottom = layer(x)
        return jnp.sum(weights * y), (y, bottom)

    return eqx.filter_value_and_grad(total, has_aux=True)((layer, x))


@pytest.mark.parametrize("case", golden.cases("basis"), ids=lambda c: f"{c['basis']}-{c['degree']}")
@pytest.mark.usefixtures("x64")
def test_bases_as_published(case: dict[str, Any]) -> None:
    out = golden.array(case["out"])
    found = BASES[case["basis"]](jnp.asarray(golden.array(case["x"], "float64")), case["degree"])
    np.testing.assert_array_equal(found, out)


@pytest.mark.parametrize(
    "case", golden.cases("scm_rational_layer"), ids=lambda c: f"{c['policy']}-{c['dtype']}".lower()
)
@pytest.mark.usefixtures("x64")
def test_layer_as_published(case: dict[str, Any]) -> None:
    policy = None if case["policy"] is None else GradientPolicy[case["policy"]]
    layer = make(
        case["numerator"], case["denominator"], case["dtype"], policy=policy, singular_epsilon=case["singular_epsilon"]
    )
    x, weights = (jnp.asarray(golden.array(case[name], case["dtype"])) for name in ("x", "weights"))
    (_, (y, bottom)), (by_layer, by_x) = weighted(layer, x, weights)
    out = {name: golden.array(value) for name, value in case["out"].items()}
    np.testing.assert_array_equal(bottom, out["bottom_mask"])
    assert y.dtype == out["output"].dtype
    near = golden.tolerance(case["dtype"])
    np.testing.assert_allclose(y, out["output"], **near)
    np.testing.assert_allclose(by_layer.numerator, out["grad_numerator"], **near)
    np.testing.assert_allclose(by_layer.denominator, out["grad_denominator"], **near)
    np.testing.assert_allclose(by_x, out["grad_x"], **near)


@pytest.mark.parametrize(
    ("denominator", "epsilon", "bottom"),
    [
        (1e-6, 1e-6, False),  # exactly ε is accepted, as in strict decoding; the published layer refuses it
        (np.nextafter(1e-6, 0), 1e-6, True),
        (-1e-6, 1e-6, False),
        (0.0, 0.0, True),
        (-0.0, 0.0, True),
        (5e-324, 0.0, True),  # a denormal: 1/Q is out of range
        (1e-300, 0.0, True),  # 1/Q is not, 1/Q² is
        (1e-150, 0.0, False),
    ],
)
@pytest.mark.usefixtures("x64")
def test_the_threshold_is_strict(denominator: float, epsilon: float, bottom: bool) -> None:
    layer = make([1.0], [denominator], singular_epsilon=epsilon)
    (_, (y, found)), (by_layer, by_x) = weighted(layer, jnp.ones(1), jnp.ones(1))
    assert bool(found[0]) == bottom
    assert float(y[0]) == (0.0 if bottom else 1.0 / denominator)
    assert all(np.isfinite(g).all() for g in (by_layer.numerator, by_layer.denominator, by_x))
    assert not bottom or float(by_layer.denominator[0]) == 0.0


def test_a_zero_over_a_tiny_denominator_has_its_gradient() -> None:
    layer = make([0.0], [1e-30], singular_epsilon=0.0)  # Q² underflows
    (_, (y, bottom)), (by_layer, _) = weighted(layer, jnp.ones(1), jnp.ones(1))
    assert not bool(bottom[0])
    assert float(y[0]) == 0.0
    np.testing.assert_allclose(by_layer.numerator, [1e30], rtol=1e-6)
    np.testing.assert_array_equal(by_layer.denominator, [0.0])


@eqx.filter_jit
def _jitted(layer: RationalLayer, x: Any) -> Any:
    return layer(x)


numbers = st.floats(allow_nan=True, allow_infinity=True, width=32)


@pytest.mark.parametrize("basis", ["monomial", "chebyshev"])
@pytest.mark.parametrize("policy", list(GradientPolicy))
@settings(max_examples=25)
@given(x=st.lists(numbers, min_size=6, max_size=6), weights=st.lists(numbers, min_size=6, max_size=6))
def test_nothing_but_zeros_at_bottom(basis: str, policy: GradientPolicy, x: list[float], weights: list[float]) -> None:
    """Whatever goes in and whatever gradient arrives at ⊥."""
    layer = make([0.3, -1.0, 2.0, 0.5], [0.0, 1.0, 0.25], basis=basis, policy=policy)
    points = jnp.asarray(x, jnp.float32)
    _, bottom = _jitted(layer, points)
    arriving = jnp.where(bottom, jnp.asarray(weights, jnp.float32), 1.0)
    (_, (y, found)), (by_layer, by_x) = weighted(layer, points, arriving)
    np.testing.assert_array_equal(found, bottom)
    assert np.isfinite(y).all()
    np.testing.assert_array_equal(np.asarray(y)[np.asarray(bottom)], 0.0)
    np.testing.assert_array_equal(np.asarray(by_x)[np.asarray(bottom)], 0.0)
    if np.asarray(bottom).all():
        np.testing.assert_array_equal(by_layer.numerator, 0.0)
        np.testing.assert_array_equal(by_layer.denominator, 0.0)
    assert not np.isnan(by_layer.numerator).any()


_columns = {
    "monomial": lambda x: np.polynomial.polynomial.polyvander(x, 3),
    "chebyshev": lambda x: np.polynomial.chebyshev.chebvander(x, 3),
}


@pytest.mark.parametrize("basis", list(_columns))
@settings(max_examples=30)
@given(
    x=st.lists(st.floats(-1.5, 1.5), min_size=6, max_size=6),
    n=st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    d=st.lists(st.floats(-2, 2), min_size=3, max_size=3),
)
def test_gradients_are_the_slopes(basis: str, x: list[float], n: list[float], d: list[float]) -> None:
    with jax.enable_x64(True):
        layer = make(n, d, jnp.float64, basis=basis)
        points = np.array(x)
        columns_of = _columns[basis]
        denominator = columns_of(points)[:, :3] @ np.array(d)
        regular = np.abs(denominator) > 0.1
        weights = jnp.asarray(np.where(regular, np.arange(1.0, 7.0), 0.0))
        points = np.where(regular, points, 0.0)
        _, (by_layer, by_x) = weighted(layer, jnp.asarray(points), weights)

        def value(n: NDArray[Any], d: NDArray[Any], x: NDArray[Any]) -> float:
            columns = columns_of(x)
            y = np.divide(columns @ n, columns[:, :3] @ d, out=np.zeros(6), where=regular)
            return float(np.sum(np.asarray(weights) * y))

        arguments = [np.array(n), np.array(d), points]
        for k, found in enumerate((by_layer.numerator, by_layer.denominator, by_x)):
            for i in range(arguments[k].size):
                step = np.zeros(arguments[k].size)
                step[i] = 1e-6
                ahead = value(*[a + step if j == k else a for j, a in enumerate(arguments)])
                behind = value(*[a - step if j == k else a for j, a in enumerate(arguments)])
                scale = max(1.0, abs(ahead))
                assert abs((ahead - behind) / 2e-6 - float(found[i])) < 1e-4 * scale * 1e2


@settings(max_examples=25)
@given(x=st.lists(numbers, min_size=12, max_size=12))
def test_every_transformation_agrees(x: list[float]) -> None:
    layer = make([1.0, 2.0, -1.0], [0.5, 1.0], basis="chebyshev")
    grid = jnp.asarray(x, jnp.float32).reshape(3, 4)
    y, bottom = layer(grid)
    for other in _transformed(layer, grid):
        np.testing.assert_allclose(other[0], y, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(other[1], bottom)


@eqx.filter_jit
def _transformed(layer: RationalLayer, x: Any) -> Any:
    return layer(x), jax.vmap(layer)(x), jax.vmap(jax.vmap(layer))(x)


@pytest.mark.parametrize("shape", [(), (0,), (2, 1, 3)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    y, bottom = _jitted(RationalLayer(3, 2, key=KEY), np.zeros(shape, np.float32))
    assert y.shape == bottom.shape == shape


def test_as_drawn() -> None:
    layer = RationalLayer(400, 2, key=jax.random.key(3), basis="chebyshev")
    np.testing.assert_array_equal(layer.denominator, [1.0, 0.0, 0.0])
    assert 0.008 < float(jnp.std(layer.numerator)) < 0.012
    again = RationalLayer(400, 2, key=jax.random.key(3))
    np.testing.assert_array_equal(layer.numerator, again.numerator)


def test_several_layers_at_once() -> None:
    keys = jax.random.split(KEY, 5)
    layers = eqx.filter_vmap(lambda key: RationalLayer(2, 1, key=key))(keys)
    x = jnp.arange(3.0)
    y, _ = eqx.filter_jit(eqx.filter_vmap(lambda layer, x: layer(x), in_axes=(eqx.if_array(0), None)))(layers, x)
    assert y.shape == (5, 3)
    np.testing.assert_allclose(y[2], _jitted(RationalLayer(2, 1, key=keys[2]), x)[0], rtol=1e-6)


class TrainableBasis(AbstractBasis):
    """exp(a_k x) with trained rates."""

    rates: jax.Array

    def columns(self, x: Any, degree: int) -> Any:
        return tuple(jnp.exp(self.rates[k] * x) for k in range(degree + 1))


def test_a_basis_with_parameters_is_trained() -> None:
    layer = make([0.0, 1.0], [1.0, 0.0], basis=TrainableBasis(jnp.array([0.0, 0.5])))
    (_, (y, bottom)), (by_layer, _) = weighted(layer, jnp.array([1.0, 1e30, jnp.nan]), jnp.ones(3))
    np.testing.assert_array_equal(bottom, [False, True, True])
    np.testing.assert_allclose(y[0], np.exp(0.5), rtol=1e-6)
    np.testing.assert_allclose(by_layer.basis.rates, [-np.exp(0.5), np.exp(0.5)], rtol=1e-6)


def test_a_custom_basis_off_its_domain() -> None:
    """log x is ⊥ at x ≤ 0, and its infinite slope there spoils no gradient."""
    logs = CustomBasis(lambda x, degree: jnp.stack([jnp.ones_like(x), jnp.log(x)], -1), point=1.0)
    layer = make([0.0, 1.0], [1.0, 0.0], basis=logs)
    (_, (y, bottom)), (by_layer, by_x) = weighted(layer, jnp.array([0.0, -1.0, jnp.e, jnp.inf]), jnp.ones(4))
    np.testing.assert_array_equal(bottom, [True, True, False, True])
    np.testing.assert_allclose(y, [0.0, 0.0, 1.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(by_x, [0.0, 0.0, np.exp(-1.0), 0.0], rtol=1e-6)
    np.testing.assert_allclose(by_layer.numerator, [1.0, 1.0], rtol=1e-6)


def test_a_policy_given_to_the_layer_beats_the_context() -> None:
    """And the context beats the default, in a step that was compiled before."""
    free, own = make([1.0], [1.0]), make([1.0], [1.0], policy=GradientPolicy.PROJECT)
    arguments = (jnp.ones(2), jnp.ones(2))
    assert [float(weighted(layer, *arguments)[1][0].numerator[0]) for layer in (free, own)] == [2.0, 2.0]
    with gradient_policy(GradientPolicy.REJECT):
        inside = [float(weighted(layer, *arguments)[1][0].numerator[0]) for layer in (free, own)]
    assert inside == [0.0, 2.0]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: RationalLayer(-1, 2, key=KEY), "numerator_degree"),
        (lambda: RationalLayer(1, True, key=KEY), "denominator_degree"),
        (lambda: RationalLayer(1, 1, key=KEY, singular_epsilon=-1e-6), "singular_epsilon"),
        (lambda: RationalLayer(1, 1, key=KEY, singular_epsilon=float("nan")), "singular_epsilon"),
        (lambda: RationalLayer(1, 1, key=KEY, basis="chebychev"), "Did you mean 'chebyshev'"),
        (lambda: RationalLayer(1, 1, key=KEY, basis=lambda x, degree: x), "returned shape"),
        (lambda: RationalLayer(1, 1, key=KEY, basis=lambda x, d: jnp.stack([x, jnp.log(x)], -1)), "point="),
        (lambda: CustomBasis(TrainableBasis(jnp.ones(2))), "extend AbstractBasis"),
        (lambda: MonomialBasis()(jnp.ones(2), -1), "degree"),
        (lambda: RationalLayer(1, 1, key=KEY)(jnp.ones(2, jnp.complex64)), "complex"),
    ],
)
def test_wrong_inputs(build: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build()
