"""Surrogates: the step itself, each formula, both directions of differentiation, and what refuses to be one."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from hardgrad.core import UsageError
from hardgrad.spiking import (
    ArcTan,
    Boxcar,
    CustomSurrogate,
    HardThreshold,
    SechSquared,
    StraightThrough,
    SuperSpike,
    Surrogate,
    Triangular,
)


def wave(v):
    return jnp.cos(v)


FORMULAS = [
    (SuperSpike(), lambda v: 1 / (1 + 25 * abs(v)) ** 2),
    (SuperSpike(3.0), lambda v: 1 / (1 + 3 * abs(v)) ** 2),
    (ArcTan(), lambda v: 1 / (np.pi * (1 + (2 * np.pi * v) ** 2))),
    (ArcTan(0.5), lambda v: 1 / (np.pi * (1 + (0.5 * np.pi * v) ** 2))),
    (SechSquared(), lambda v: 4 / (np.exp(v) + np.exp(-v)) ** 2),
    (SechSquared(4.0), lambda v: 1 / np.cosh(4 * v) ** 2),
    (Triangular(), lambda v: np.maximum(0, 1 - abs(2 * v))),
    (Boxcar(), lambda v: 0.5 * (abs(v) < 1)),
    (Boxcar(0.5, 3.0), lambda v: 3.0 * (abs(v) < 0.25)),
    (StraightThrough(), np.ones_like),
    (HardThreshold(), np.zeros_like),
    (CustomSurrogate(wave), np.cos),
]
GRID = np.sort(np.concatenate([np.linspace(-3, 3, 41), [-1.0, -0.25, 0.25, 1.0, 1e-9, -1e-9]]))
IDS = [type(surrogate).__name__ for surrogate, _ in FORMULAS]


@pytest.mark.parametrize(("surrogate", "formula"), FORMULAS, ids=IDS)
def test_the_derivative_is_the_formula_in_both_modes(x64, surrogate, formula):
    v = jnp.array(GRID)
    expected = formula(GRID)
    np.testing.assert_allclose(surrogate.derivative(v), expected, rtol=1e-14, atol=1e-300)
    cotangent = jnp.array(np.random.default_rng(0).standard_normal(GRID.size))
    spikes, pull = jax.vjp(surrogate, v)
    np.testing.assert_array_equal(pull(cotangent)[0], surrogate.derivative(v) * cotangent)
    np.testing.assert_array_equal(jax.jvp(surrogate, (v,), (cotangent,))[1], surrogate.derivative(v) * cotangent)
    np.testing.assert_array_equal(spikes, GRID > 0)


@pytest.mark.parametrize("surrogate", [surrogate for surrogate, _ in FORMULAS], ids=IDS)
def test_the_value_is_the_strict_step_in_the_dtype_of_the_membrane(surrogate):
    for dtype in (jnp.float32, jnp.bfloat16):
        v = jnp.array([-jnp.inf, -1.0, -1e-30, -0.0, 0.0, 1e-30, 1.0, jnp.inf, jnp.nan], dtype)
        spikes = jax.jit(jax.vmap(surrogate))(v)
        assert spikes.dtype == dtype
        assert spikes.astype(int).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0]


@pytest.mark.parametrize(
    ("surrogate", "mass"),
    [
        (SuperSpike(5.0), 2 / 5),
        (ArcTan(2.0), 1 / (2 * np.pi)),
        (SechSquared(3.0), 2 / 3),
        (Triangular(4.0), 1 / 4),
        (Boxcar(2.0, 0.5), 1.0),
    ],
)
def test_the_mass_is_what_the_docstring_says(x64, surrogate, mass):
    g = lambda v: float(surrogate.derivative(jnp.array(v)))
    ends = [0.0, 0.25, 1.0]
    inner = sum(quad(g, a, b)[0] for a, b in itertools.pairwise(ends))
    tail = 0.0 if g(2.0) == 0 else quad(lambda u: g(1 / u) / u**2, 1e-12, 1.0, limit=100)[0]
    assert 2 * (inner + tail) == pytest.approx(mass, rel=1e-6)


@pytest.mark.parametrize("scale", [0.01, 7.0])
def test_the_scale_multiplies_the_derivative_and_leaves_the_value(x64, scale):
    v, scaled = jnp.array(GRID), SuperSpike(scale=scale)
    np.testing.assert_allclose(jax.vmap(jax.grad(scaled))(v), scale * SuperSpike().derivative(v), rtol=1e-15)
    np.testing.assert_array_equal(scaled(v), GRID > 0)


def test_scaled_the_arc_tangent_is_the_one_of_other_libraries(x64):
    alpha, v = 3.0, np.linspace(-2, 2, 17)
    theirs = alpha / 2 / (1 + (np.pi / 2 * alpha * v) ** 2)
    ours = ArcTan(steepness=alpha / 2, scale=np.pi * alpha / 2).derivative(jnp.array(v))
    np.testing.assert_allclose(ours, theirs, rtol=1e-14)


@pytest.mark.parametrize("surrogate", [SuperSpike(), ArcTan(), SechSquared(50.0), Triangular()])
def test_far_from_the_threshold_nothing_overflows(surrogate):
    v = jnp.array([-3e38, -1e19, 1e19, 3e38])
    assert jnp.isfinite(jax.vmap(jax.grad(surrogate))(v)).all()


def test_the_derivative_has_a_derivative_of_its_own(x64):
    second = jax.grad(jax.grad(SechSquared()))(jnp.array(0.3))
    np.testing.assert_allclose(second, -2 * np.tanh(0.3) / np.cosh(0.3) ** 2, rtol=1e-12)


def test_they_are_values_and_so_share_a_program():
    assert SuperSpike() == SuperSpike(25.0)
    assert len({SuperSpike(), SuperSpike(25.0), SuperSpike(10.0), CustomSurrogate(wave), CustomSurrogate(wave)}) == 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: SuperSpike(0.0),
        lambda: ArcTan(-1.0),
        lambda: Triangular(float("nan")),
        lambda: Boxcar(width=float("inf")),
        lambda: StraightThrough(scale=0.0),
    ],
)
def test_a_number_out_of_range_is_refused_by_name(make):
    with pytest.raises(UsageError, match=r"(steepness|width|scale) of \w+ must be positive and finite"):
        make()


def test_a_function_that_is_none_or_changes_the_shape_is_refused():
    with pytest.raises(UsageError, match="takes a function"):
        CustomSurrogate(3.0)
    with pytest.raises(UsageError, match=r"must keep the shape \(3,\)"):
        jax.grad(lambda v: CustomSurrogate(jnp.sum)(v).sum())(jnp.ones(3))


def test_every_surrogate_is_one():
    assert all(isinstance(surrogate, Surrogate) for surrogate, _ in FORMULAS)
