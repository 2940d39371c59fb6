"""Rollouts against a plain loop, exact solutions, finite differences, and each other."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from rollout_reference import EXPONENTS, FORMS, rollout_loop

from hardgrad.core import UsageError
from hardgrad.oscillators import PolynomialField, Saturation, rollout

# Bounds low enough that states cross them, and each option with each other kind.
CASES: list[dict[str, Any]] = [
    {"saturation": Saturation("none")},
    {"saturation": Saturation("tanh", 0.5, 1.0), "substeps": 2, "interpolation": "linear", "segment": 4},
    {"saturation": Saturation("knee", 0.6, 0.7), "hop": 3},
    {"saturation": Saturation("knee", 0.6, 0.7), "interpolation": "linear", "hop": 4, "segment": 5},
    {"saturation": Saturation("knee", 0.6, 0.7), "segment": 5},
    {"saturation": Saturation("tanh", 0.5, 1.0), "interpolation": "linear"},
]
SAMPLES = 14


def draw(exponents: Any, frames: int, batch: int = 3, scale: float = 0.2, seed: int = 0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(seed)
    c = rng.normal(size=(batch, frames, len(exponents))) * scale
    return c, rng.normal(size=batch) * 0.6, rng.normal(size=batch) * 0.3


def weighted(case: dict[str, Any], form: str, samples: int = SAMPLES) -> Callable[..., Any]:
    """A scalar of all samples, with weights that differ."""
    weights = np.random.default_rng(1).normal(size=(2, 3, samples))

    def loss(c: Any, x0: Any, v0: Any) -> Any:
        x, v = rollout(EXPONENTS, c, x0, v0, samples=samples, form=form, **case)
        return jnp.sum(jnp.asarray(weights[0], x.dtype) * x) + jnp.sum(jnp.asarray(weights[1], x.dtype) * v), (x, v)

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))


@pytest.mark.parametrize(
    "case", CASES, ids=lambda c: f"{c['saturation'].kind}-{'-'.join(k for k in c if k != 'saturation')}"
)
@pytest.mark.usefixtures("x64")
def test_forms_agree_with_the_loop_and_each_other(case: dict[str, Any]) -> None:
    frames = -(-(SAMPLES - 1) // case.get("hop", 1)) + 1
    bounded = case["saturation"].kind != "none"
    arrays = draw(EXPONENTS, frames + 1, scale=0.2 if bounded else 0.03)  # one frame more than is used
    plain = {name: value for name, value in case.items() if name != "segment"}
    x, v = rollout_loop(EXPONENTS, *arrays, samples=SAMPLES, **plain)
    (_, (x_scan, v_scan)), gradients = weighted(case, "scan")(*arrays)
    np.testing.assert_allclose(x_scan, x, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(v_scan, v, rtol=1e-12, atol=1e-13)
    if bounded:
        assert np.max(np.abs(x)) > 0.4  # the bounds were met
    assert np.all(gradients[0][:, frames:] == 0)
    for form in FORMS:
        (_, states), found = weighted(case, form)(*arrays)
        for ours, theirs in zip((*states, *found), (x_scan, v_scan, *gradients), strict=True):
            size = np.max(np.abs(theirs))
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12 * size, err_msg=form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("x64")
def test_gradients_against_finite_differences(form: str) -> None:
    case = {"saturation": Saturation("knee", 0.6, 0.7), "substeps": 2, "interpolation": "linear", "hop": 2}
    run = jax.jit(lambda *arrays: rollout(EXPONENTS, *arrays, form=form, **case))
    check_grads(run, draw(EXPONENTS, 4), order=1, modes=("rev",), atol=1e-6, rtol=1e-6, eps=1e-6)


@pytest.mark.usefixtures("x64")
def test_the_reference_works_in_forward_mode() -> None:
    run = jax.jit(lambda *a: rollout(EXPONENTS, *a, form="scan"))
    check_grads(run, draw(EXPONENTS, 5), order=1, modes=("fwd",), eps=1e-6)


@pytest.mark.parametrize("form", ["scan", *FORMS])
@pytest.mark.usefixtures("x64")
def test_amplitude_of_a_linear_oscillator(form: str) -> None:
    """One step multiplies x + iv/ω by the scheme's polynomial in iω."""
    omega, samples = 0.37, 200
    c = jnp.full((1, samples, 1), -(omega**2))
    x, v = rollout(((1, 0),), c, jnp.array([0.1]), jnp.array([0.0]), saturation=Saturation("none"), form=form)
    size = np.hypot(x[0], v[0] / omega)
    factor = np.sqrt(1 - omega**6 / 72 + omega**8 / 576)
    np.testing.assert_allclose(size, 0.1 * factor ** np.arange(samples), rtol=1e-12)
    assert abs(factor - (1 - omega**6 / 144)) < omega**8 / 1000
    # frequency: too low by ω⁴/120
    turned = np.unwrap(np.angle(np.asarray(x[0]) - 1j * np.asarray(v[0]) / omega))
    np.testing.assert_allclose(turned[-1] / (samples - 1) / omega, 1 - omega**4 / 120, rtol=1e-4)


@pytest.mark.usefixtures("x64")
def test_errors_fall_with_the_fourth_power_of_the_step() -> None:
    """A van der Pol oscillator whose stiffness moves, linearly within a sample as the coefficients do."""
    exponents = ((1, 0), (0, 1), (2, 1))
    time = np.arange(40)
    c = np.stack([-0.3 - 0.2 * np.sin(time / 6), np.full(40, 0.2), np.full(40, -0.4)], axis=-1)[None]
    start = jnp.array([0.5]), jnp.array([0.1])
    run = lambda m: rollout(
        exponents, c, *start, substeps=m, interpolation="linear", form=FORMS[-1], saturation=Saturation("none")
    )
    fine = run(128)[0]
    errors = [float(jnp.max(jnp.abs(run(m)[0] - fine))) for m in (4, 8, 16)]
    for coarse, finer in itertools.pairwise(errors):
        assert 14.5 < coarse / finer < 16.5


@pytest.mark.parametrize("form", ["scan", *FORMS])
def test_high_powers_of_large_states_stay_finite_under_a_knee(form: str) -> None:
    field = PolynomialField(order=15, keep_const=True)
    c = np.random.default_rng(0).normal(size=(1, 33, len(field.exponents))).astype(np.float32)
    large = jnp.array([50.0], jnp.float32)
    x, v = rollout(field.exponents, c, large, -large, form=form)
    assert jnp.all(jnp.isfinite(x) & jnp.isfinite(v))
    assert jnp.all(jnp.abs(x[:, 1:]) <= 1.0)
    assert jnp.all(jnp.abs(v[:, 1:]) <= 2.0)


@pytest.mark.parametrize("form", ["scan", *FORMS])
@pytest.mark.usefixtures("x64")
def test_order_fifteen_agrees_with_the_loop(form: str) -> None:
    field = PolynomialField(order=15)
    bounds = Saturation("knee", 0.9, 0.9)
    c, x0, v0 = draw(field.exponents, 6, scale=0.3)
    x, v = rollout_loop(field.exponents, c, x0, v0, samples=6, saturation=bounds)
    found = rollout(field.exponents, c, x0, v0, saturation=bounds, form=form)
    np.testing.assert_allclose(found, (x, v), rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_order_fifteen_gradients_agree() -> None:
    field = PolynomialField(order=8)  # as many terms as are not written out one by one
    arrays = draw(field.exponents, 4, scale=0.2)
    run = lambda form: jax.jit(
        jax.grad(lambda *a: sum(jnp.sum(u * u) for u in rollout(field.exponents, *a, form=form)), argnums=(0, 1, 2))
    )(*arrays)
    reference = run("scan")
    for form in FORMS:
        for ours, theirs in zip(run(form), reference, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12 * np.max(np.abs(theirs)), err_msg=form)


@pytest.mark.parametrize("form", ["scan", *FORMS, "auto"])
def test_a_horizon_of_one_is_the_initial_state(form: str) -> None:
    start = jnp.array([0.3])
    (x, v), pull = jax.vjp(lambda c, x, v: rollout(((1, 0),), c, x, v, form=form), jnp.ones((1, 1, 1)), start, -start)
    assert x.shape == v.shape == (1, 1)
    assert x == start
    by_c, by_x, by_v = pull((jnp.full((1, 1), 2.0), jnp.full((1, 1), 3.0)))
    assert (float(by_c[0, 0, 0]), float(by_x[0]), float(by_v[0])) == (0.0, 2.0, 3.0)


@pytest.mark.parametrize("batch", [1, 33])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("x64")
def test_rows_do_not_depend_on_their_neighbours(form: str, batch: int) -> None:
    arrays = draw(EXPONENTS, 70, batch=batch, scale=0.05)  # more than a tile, more than a register

    def run(*arrays: Any) -> Any:
        states, pull = jax.vjp(lambda *a: rollout(EXPONENTS, *a, form=form), *arrays)
        return states, pull(states)

    whole = jax.jit(run)(*arrays)
    (x, _), _ = whole
    expected, _ = rollout_loop(EXPONENTS, *arrays, samples=70, saturation=Saturation())
    np.testing.assert_allclose(x, expected, rtol=1e-9, atol=1e-12)
    one = jax.jit(run)(*(a[-1:] for a in arrays))
    for ours, all_rows in zip(jax.tree.leaves(one), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(ours[0], all_rows[-1], rtol=1e-12, atol=1e-13)


def test_a_row_that_diverges_does_not_touch_the_others() -> None:
    exponents = ((3, 0),)
    c = jnp.ones((2, 40, 1)).at[1].set(-0.01)
    start = jnp.array([3.0, 0.1])
    for form in ("scan", *FORMS):
        x, _ = rollout(exponents, c, start, 0 * start, saturation=Saturation("none"), form=form)
        assert not jnp.all(jnp.isfinite(x[0])), form
        assert jnp.all(jnp.isfinite(x[1])), form


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"coefficients": jnp.ones((2, 5))}, "batch, frames, terms"),
    ({"coefficients": jnp.ones((2, 0, 1))}, "none of them 0"),
    ({"coefficients": jnp.ones((2, 5, 3))}, "1 for these exponents"),
    ({"x0": jnp.ones(3)}, "x0 needs one entry a row"),
    ({"v0": jnp.ones((2, 1))}, "v0 needs one entry a row"),
    ({"x0": jnp.ones(2, jnp.float16)}, "one float dtype"),
    ({"samples": 0}, "samples must be a whole number"),
    ({"samples": 6}, "reach 5 samples, not 6; give 6 frames"),
    ({"samples": 10, "hop": 2}, "reach 9 samples, not 10; give 6 frames"),
    ({"substeps": 0}, "substeps must be a whole number"),
    ({"hop": 0}, "hop must be a whole number"),
    ({"segment": 0}, "segment must be a whole number"),
    ({"interpolation": "cubic"}, "interpolation is not 'cubic'"),
    ({"form": "kernels"}, "Did you mean 'kernel'"),
    ({"exponents": ((1, 0), (1, 0))}, "2 times"),
    ({"exponents": ((-1, 0),)}, "0 or more"),
]


@pytest.mark.parametrize(("change", "says"), WRONG)
def test_wrong_arguments_are_named(change: dict[str, Any], says: str) -> None:
    given = {"exponents": ((1, 0),), "coefficients": jnp.ones((2, 5, 1)), "x0": jnp.ones(2), "v0": jnp.ones(2)} | change
    with pytest.raises(UsageError, match=says):
        rollout(given.pop("exponents"), given.pop("coefficients"), given.pop("x0"), given.pop("v0"), **given)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (partial(Saturation, "kne"), "Did you mean 'knee'"),
        (partial(Saturation, x_bound=0.0), "x_bound must be a finite number above 0"),
        (partial(Saturation, v_bound=float("nan")), "v_bound"),
    ],
)
def test_wrong_bounds(wrong: Callable[[], Saturation], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        wrong()
