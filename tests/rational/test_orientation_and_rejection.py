"""The two terms that must not be dead: orientation at the opposite side, rejection at zero coverage."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardgrad.core import UsageError
from hardgrad.rational import coverage, implicit_loss, rejection_loss, sign_consistency_loss, soft_rejection_loss

FORMS = ("angle", "projection", "cosine")
EXPONENTS = {"float32": [-38, -30, -10, 0, 10, 30, 38], "float64": [-300, -200, -30, 0, 30, 200, 300]}

signed = st.tuples(st.floats(-4, 4).map(lambda e: 10.0**e), st.sampled_from([-1.0, 1.0])).map(math.prod)


# ---- orientation


@jax.jit
def slopes_of_sign(P: Any, Q: Any, Y_n: Any, Y_d: Any) -> dict[str, Any]:
    def one(form: Any) -> Any:
        return jax.vmap(jax.value_and_grad(partial(sign_consistency_loss, form=form), (0, 1)))(P, Q, Y_n, Y_d)

    return {form: one(form) for form in FORMS}


@pytest.mark.parametrize("Q", [0.0, -0.0, 1e-3, -1e-3, 1e-30])
def test_there_is_no_dead_point_opposite_to_the_label(Q: float) -> None:
    found = slopes_of_sign(*(jnp.array([x]) for x in (-1.0, Q, 1.0, 0.0)))
    size = {form: float(jnp.hypot(*slopes)[0]) for form, (_, slopes) in found.items()}
    assert size["cosine"] < 1.1e-3  # as published: dead
    assert size["angle"] > 3.0
    assert size["projection"] > 1.9


@pytest.mark.parametrize("form", ["angle", "projection"])
@pytest.mark.parametrize("start", [(-1.0, 0.0), (-1.0, -0.0), (-1.0, 1e-3), (-0.3, -1e-6), (-20.0, 0.1), (0.0, 1.0)])
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_descent_turns_every_tuple_to_its_label(form: Any, start: tuple[float, float], side: float) -> None:
    def descend(tuple_: Any, _: Any) -> tuple[Any, None]:
        P, Q = tuple_
        slopes = jax.grad(sign_consistency_loss, (0, 1))(P, Q, jnp.full(1, side), jnp.zeros(1), form=form)
        # Steps of a length of their own, as Adam's are.
        length = jnp.maximum(jnp.sqrt(slopes[0] ** 2 + slopes[1] ** 2), 1e-3)
        return (P - 0.1 * slopes[0] / length, Q - 0.1 * slopes[1] / length), None

    begin = (jnp.array([side * start[0]]), jnp.array([start[1]]))
    (P, Q), _ = jax.jit(lambda begin: jax.lax.scan(descend, begin, None, length=1000))(begin)
    assert abs(math.atan2(float(Q[0]), side * float(P[0]))) < 0.35


def test_forms_agree_near_the_label_and_rank_angles_alike() -> None:
    theta = np.linspace(0.0, np.pi, 50)
    P, Q = jnp.asarray(3 * np.cos(theta), jnp.float32), jnp.asarray(3 * np.sin(theta), jnp.float32)
    found = slopes_of_sign(P, Q, jnp.ones(50), jnp.zeros(50))
    values = {form: np.asarray(value) for form, (value, _) in found.items()}
    np.testing.assert_allclose(values["angle"], theta**2 / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values["cosine"], 1 - np.cos(theta), atol=1e-6)
    np.testing.assert_allclose(values["projection"], (1 - np.cos(theta)) ** 2 / 2, atol=1e-6)
    for value in values.values():
        assert np.all(np.diff(value) > -1e-7)


@settings(max_examples=60)
@given(P=signed, Q=signed, side=st.sampled_from([-1.0, 1.0]), c=st.integers(-8, 60).map(lambda e: 2.0**e))
def test_the_scale_of_the_tuple_means_nothing_to_its_orientation(P: float, Q: float, side: float, c: float) -> None:
    small = min(1.0, c) * math.hypot(P, Q) < 1e-2  # γ may then show
    found = slopes_of_sign(*(jnp.array([s * x for s in (1.0, c)]) for x in (P, Q)), jnp.full(2, side), jnp.zeros(2))
    for form in FORMS:
        value, slopes = found[form]
        assert bool(jnp.all(jnp.isfinite(value)))
        assert bool(jnp.all(jnp.isfinite(jnp.stack(slopes))))
        if not small:
            np.testing.assert_allclose(value[1], value[0], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_orientation_is_finite_over_the_whole_range(x64: None, dtype: str) -> None:
    values = [sign * 10.0**size for size in EXPONENTS[dtype] for sign in (1.0, -1.0)] + [0.0, -0.0]
    P, Q = (jnp.asarray(grid.ravel(), dtype) for grid in np.meshgrid(values, values))
    for side in (1.0, -1.0):
        found = slopes_of_sign(P, Q, jnp.full(P.shape, side, dtype), jnp.zeros(P.shape, dtype))
        for leaf in jax.tree.leaves(found):
            assert leaf.dtype == dtype
            assert bool(jnp.all(jnp.isfinite(leaf)))


def test_only_masked_entries_are_oriented() -> None:
    P, Q = jnp.array([-1.0, -1.0, jnp.nan]), jnp.array([0.1, 0.1, 0.0])
    for form in FORMS:
        loss = partial(sign_consistency_loss, mask_singular=jnp.array([True, False, False]), form=form)
        slope = jax.grad(loss)(P, Q, jnp.ones(3), jnp.zeros(3))
        assert slope[0] != 0.0
        np.testing.assert_array_equal(slope[1:], [0.0, 0.0])


def test_complex_tuples_have_two_forms() -> None:
    P, Q, Y_n, Y_d = (jnp.array([x], jnp.complex64) for x in (-1j, 0.0, 1j, 0.0))
    assert sign_consistency_loss(P, Q, Y_n, Y_d, form="projection") == pytest.approx(2.0)
    assert sign_consistency_loss(P, Q, Y_n, Y_d, form="cosine") == pytest.approx(2.0)
    with pytest.raises(UsageError, match="projection"):
        sign_consistency_loss(P, Q, Y_n, Y_d, form="angle")
    with pytest.raises(UsageError, match="real"):
        implicit_loss(P, Q, Y_n, Y_d)


# ---- coverage that trains


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4])
def test_soft_rejection_moves_coverage_up_to_the_target(scale: float) -> None:
    rng = np.random.default_rng(0)
    tau = 1e-2 * scale
    begin = jnp.asarray(rng.standard_normal(200) * 1e-3 * scale, jnp.float32).at[:20].set(0.0)  # nothing is accepted

    def descend(Q: Any, _: Any) -> tuple[Any, None]:
        slope = jax.grad(soft_rejection_loss)(Q, tau, 0.9)
        return Q - 1e-4 * scale * jnp.sign(slope), None

    before, after = (coverage(jnp.abs(Q) < tau) for Q in (begin, jax.lax.scan(descend, begin, None, length=1200)[0]))
    assert before == 0.0
    assert after >= 0.9
    assert jax.grad(rejection_loss, allow_int=True)(jnp.abs(begin) < tau).dtype == jax.dtypes.float0


def test_soft_rejection_leaves_poles_alone_and_stops_at_the_target() -> None:
    Q, finite = jnp.array([0.0, 1e-5, 3.0]), jnp.array([False, True, True])
    slope = jax.grad(soft_rejection_loss)(Q, 1e-4, 0.95, finite)
    assert slope[0] == 0.0
    assert slope[1] < 0.0
    np.testing.assert_array_equal(jax.grad(soft_rejection_loss)(jnp.array([3.0, -3.0]), 1e-4, 0.95), [0.0, 0.0])
    assert soft_rejection_loss(Q, 1e-4, 0.95, jnp.zeros(3, bool)) == 0.0


@pytest.mark.parametrize("tau", [0.0, 1e-38, 1e-4, 1e30])
def test_soft_rejection_is_finite_for_any_threshold(tau: float) -> None:
    Q = jnp.array([0.0, -0.0, 1e-38, 1e-20, 1.0, -1e38])
    value, slope = jax.value_and_grad(soft_rejection_loss)(Q, tau, 1.0)
    assert bool(jnp.isfinite(value))
    assert bool(jnp.all(jnp.isfinite(slope)))
