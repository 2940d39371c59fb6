"""Losses of projective outputs: golden answers, the ends of the range, masks, weights and shapes."""

from __future__ import annotations

import math
from functools import partial
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
    GradientPolicy,
    LossConfig,
    SCMTrainingLoss,
    chordal_loss,
    coverage,
    gradient_policy,
    implicit_loss,
    lift_targets,
    margin_loss,
    rejection_loss,
    scm_separation_losses,
    sign_consistency_loss,
    soft_coverage_loss,
    soft_rejection_loss,
)
from hardgrad.rational._shapes import loss_dtype

TUPLE = ("P", "Q", "Y_n", "Y_d")


def tuple_of(case: dict[str, Any], dtype: Any) -> list[jax.Array]:
    return [jnp.asarray(golden.array(case[name], dtype)) for name in TUPLE]


def mask_of(value: Any) -> jax.Array | None:
    return None if value is None else jnp.asarray(value)


def check(found: Any, expected: Any, dtype: Any, **tolerance: float) -> None:
    assert found.dtype == dtype
    np.testing.assert_allclose(found, golden.array(expected), **{**golden.tolerance(dtype), **tolerance})


# ---- golden


def test_golden_implicit(x64: None) -> None:
    for case in golden.cases("implicit_loss"):
        dtype, out = case["dtype"], case["out"]
        loss = partial(implicit_loss, gamma=case["gamma"], detach_scale=case["detach_scale"])
        value, (in_P, in_Q) = jax.value_and_grad(loss, (0, 1))(*tuple_of(case, dtype))
        check(value, out["loss"], dtype)
        check(in_P, out["grad_P"], dtype)
        check(in_Q, out["grad_Q"], dtype)


def test_golden_margin(x64: None) -> None:
    for case in golden.cases("margin_loss"):
        dtype, out, mask = case["dtype"], case["out"], mask_of(case["mask_finite"])
        Q = jnp.asarray(golden.array(case["Q"], dtype))
        loss = partial(margin_loss, tau_train=case["tau_train"], mask_finite=mask, reduction=case["reduction"])
        value, slope = jax.value_and_grad(loss)(Q)
        check(value, out["loss"], dtype)
        check(slope, out["grad_Q"], dtype)


def test_golden_sign(x64: None) -> None:
    for case in golden.cases("sign_consistency_loss"):
        dtype, out, mask = case["dtype"], case["out"], mask_of(case["mask_singular"])
        loss = partial(sign_consistency_loss, mask_singular=mask, epsilon_sing=case["epsilon_sing"], form="cosine")
        value, (in_P, in_Q) = jax.value_and_grad(loss, (0, 1))(*tuple_of(case, dtype))
        # Near the right orientation 1 - cos is what rounding left, so that float32 agrees to its unit at 1.
        tolerance = {"atol": 1.2e-7} if dtype == "float32" else {}
        check(value, out["loss"], dtype, **tolerance)
        check(in_P, out["grad_P"], dtype, **tolerance)
        check(in_Q, out["grad_Q"], dtype, **tolerance)


def test_golden_sign_complex(x64: None) -> None:
    (case,) = golden.cases("sign_consistency_loss_complex")
    value, slopes = jax.value_and_grad(partial(sign_consistency_loss, form="cosine"), (0, 1))(
        *tuple_of(case, "complex128")
    )
    check(value, case["out"]["loss"], "float64")
    # JAX's gradient is the conjugate of PyTorch's.
    for slope, name in zip(slopes, ("grad_P", "grad_Q"), strict=True):
        check(jnp.conj(slope), case["out"][name], "complex128")


def test_golden_coverage_and_rejection() -> None:
    for case in golden.cases("coverage_rejection"):
        bottom = jnp.asarray(golden.array(case["is_bottom"]))
        check(coverage(bottom), case["coverage"], "float32")
        check(rejection_loss(bottom, case["target_coverage"]), case["rejection"], "float32")


def test_golden_rejection_under_policies() -> None:
    for case in golden.cases("coverage_rejection_policy"):
        bottom, policy = jnp.asarray(golden.array(case["is_bottom"])), GradientPolicy[case["policy"]]
        check(coverage(bottom), case["coverage"], "float32")
        check(rejection_loss(bottom, policy=policy), case["rejection"], "float32")
        with gradient_policy(policy):
            check(rejection_loss(bottom), case["rejection"], "float32")


def test_golden_soft_coverage(x64: None) -> None:
    for case in golden.cases("soft_coverage_loss"):
        loss = partial(soft_coverage_loss, tau=case["tau"], temperature=case["temperature"], target=case["target"])
        value, slope = jax.value_and_grad(loss)(jnp.asarray(case["Q"], jnp.float64))
        check(value, case["out"]["loss"], "float64")
        check(slope, case["out"]["grad_Q"], "float64")


def test_golden_separation(x64: None) -> None:
    for case in golden.cases("separation_losses"):
        keywords = {"tau_bot": case["tau_bot"], "tau_finite": case["tau_finite"]}
        losses = partial(scm_separation_losses, mask_censored=jnp.asarray(case["mask_censored"]), **keywords)
        Q = jnp.asarray(case["Q"], jnp.float64)
        down, up = losses(Q)
        check(down, case["out"]["push_down"], "float64")
        check(up, case["out"]["push_up"], "float64")
        slope = jax.grad(lambda Q, losses=losses: losses(Q)[0] + 2.0 * losses(Q)[1])(Q)
        check(slope, case["out"]["grad_Q_of_a_plus_2b"], "float64")


def test_golden_errors() -> None:
    for case in golden.cases("loss_errors"):
        keywords = {name: golden.number(value) for name, value in case.get("kwargs", {}).items()}

        def call(case: dict[str, Any] = case, keywords: dict[str, float] = keywords) -> object:
            if case["fn"] == "LossConfig":
                return LossConfig(**keywords)
            return soft_coverage_loss(jnp.ones(2), *map(golden.number, case["args"]))

        if case["out"] == "True":
            call()
        else:
            with pytest.raises(UsageError):
                call()


def test_golden_config_defaults() -> None:
    (case,) = golden.cases("loss_config_defaults")
    config = LossConfig()
    assert {name: getattr(config, name) for name in case["out"]} == case["out"]


def published(**settings: Any) -> SCMTrainingLoss:
    return SCMTrainingLoss(LossConfig(fit="implicit", orientation="cosine", rejection="hard", **settings))


def test_golden_combined(x64: None) -> None:
    for case in golden.cases("scm_training_loss"):
        P, Q, Y_n, Y_d = tuple_of(case, "float64")
        masks = {
            "is_bottom": jnp.abs(Q) < 1e-4 if case["is_bottom"] else None,
            "mask_finite": Y_d != 0 if case["mask_finite"] else None,
            "mask_singular": Y_d == 0 if case["mask_singular"] else None,
        }
        loss = partial(published(**case["config"]), Y_n=Y_n, Y_d=Y_d, tau_train=case["tau_train"], **masks)
        differentiate = jax.jit(jax.value_and_grad(lambda P, Q, loss=loss: loss(P, Q), (0, 1), has_aux=True))
        (total, terms), slopes = differentiate(P, Q)
        check(total, case["out"]["total"], "float64")
        for name, term in terms.items():
            check(term, case["out"][f"b_{name}"], term.dtype)
        check(slopes[0], case["out"]["grad_P"], "float64")
        check(slopes[1], case["out"]["grad_Q"], "float64")


def test_golden_batch(x64: None) -> None:
    for case in golden.cases("batch_loss"):
        rng, size = np.random.default_rng(case["seed"]), case["N"]
        P, Q = rng.standard_normal(size), rng.standard_normal(size) * case["qscale"]
        y, kind = rng.standard_normal(size) * 10, rng.integers(0, 10, size)
        for code, label in enumerate((np.inf, -np.inf, np.nan)):
            y[kind == code] = label
        labels = lift_targets(jnp.asarray(y))
        masks = {
            "is_bottom": jnp.abs(jnp.asarray(Q)) < 1e-3,
            "mask_finite": labels.finite,
            "mask_singular": labels.bottom,
        }
        loss = partial(published(tau_train=1e-3), Y_n=labels.numerator, Y_d=labels.denominator, **masks)
        (_, terms), (in_P, in_Q) = jax.value_and_grad(lambda P, Q, loss=loss: loss(P, Q), (0, 1), has_aux=True)(
            jnp.asarray(P), jnp.asarray(Q)
        )
        for name, term in terms.items():
            check(term, case["out"][f"b_{name}"], term.dtype)
        for name, slope in (("P", in_P), ("Q", in_Q)):
            check(jnp.sum(slope), case["out"][f"grad_{name}_sum"], "float64")
            check(jnp.sum(slope**2), case["out"][f"grad_{name}_sumsq"], "float64")
            check(slope[:8], case["out"][f"grad_{name}_first8"], "float64")


# ---- the implicit loss against the plain formula, and where that one fails


def plain_implicit(P: Any, Q: Any, Y_n: Any, Y_d: Any, gamma: float) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Terms of the formula and their slopes, by hand, in float64, each with the size of what is subtracted in it."""
    P, Q, Y_n, Y_d = (np.asarray(array, np.float64) for array in (P, Q, Y_n, Y_d))
    cross, scale = P * Y_d - Q * Y_n, (Q * Y_d) ** 2 + (P * Y_n) ** 2 + gamma
    terms = cross**2 / scale
    of_cross, of_scale = 2 * cross / scale, terms / scale
    parts_P, parts_Q = (of_cross * Y_d, -of_scale * 2 * P * Y_n**2), (-of_cross * Y_n, -of_scale * 2 * Q * Y_d**2)
    return [(terms, terms), *((a + b, np.abs(a) + np.abs(b)) for a, b in (parts_P, parts_Q))]


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, 0, 0, None))
def implicit_terms(P: Any, Q: Any, Y_n: Any, Y_d: Any, gamma: Any) -> Any:
    value, slopes = jax.value_and_grad(implicit_loss, (0, 1))(P, Q, Y_n, Y_d, gamma)
    return value, *slopes


@pytest.mark.parametrize(("dtype", "rtol"), [("float32", 3e-5), ("float64", 1e-10)])
def test_implicit_agrees_with_the_plain_formula(x64: None, dtype: str, rtol: float) -> None:
    rng = np.random.default_rng(1)
    P, Q, Y_n = (rng.standard_normal(512) * 10.0 ** rng.uniform(-2, 2, 512) for _ in range(3))
    Y_d = (rng.uniform(size=512) > 0.3).astype(np.float64)
    P, Q, Y_n, Y_d = (array.astype(dtype) for array in (P, Q, Y_n, Y_d))
    # Where the two products nearly cancel, what is left of them is rounding, in either form.
    clear = np.abs(P * Y_d - Q * Y_n) > 1e-2 * (np.abs(P * Y_d) + np.abs(Q * Y_n))
    P, Q, Y_n, Y_d = (array[clear] for array in (P, Q, Y_n, Y_d))
    for gamma in (0.0, 1e-9, 1e-2):
        found = implicit_terms(*map(jnp.asarray, (P, Q, Y_n, Y_d)), jnp.asarray(gamma, dtype))
        plain = plain_implicit(P, Q, Y_n, Y_d, gamma)
        for ours, (expected, size) in zip(found, plain, strict=True):
            assert np.all(np.abs(np.asarray(ours, np.float64) - expected) <= rtol * size)


EXPONENTS = {
    "float32": ([-38, -30, -10, 0, 10, 30, 38], [-38, 0, 19.5, 30, 38.5]),
    "float64": ([-300, -200, -30, 0, 30, 200, 300], [-300, 0, 154.5, 300, 308.2]),
}


FITS: dict[str, Any] = {
    "implicit": implicit_loss,
    "implicit, scale detached": partial(implicit_loss, detach_scale=True),
    "chordal": chordal_loss,
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("fit", FITS)
def test_fits_are_finite_over_the_whole_range(x64: None, dtype: str, fit: str) -> None:
    sizes, labels = EXPONENTS[dtype]
    values = [sign * 10.0**size for size in sizes for sign in (1.0, -1.3)] + [0.0]
    tuples = [(sign * 10.0**size, 1.0) for size in labels for sign in (1, -1)] + [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0)]
    grid = np.meshgrid(values, values, np.arange(len(tuples)), indexing="ij")
    Y_n, Y_d = np.asarray(tuples)[grid[2].ravel()].T
    P, Q, Y_n, Y_d = (jnp.asarray(array.ravel(), dtype) for array in (grid[0], grid[1], Y_n, Y_d))
    one = jax.jit(jax.vmap(jax.value_and_grad(FITS[fit], (0, 1)), (0, 0, 0, 0, None)))
    for gamma in (0.0, 1e-9, 1.0):
        value, slopes = one(P, Q, Y_n, Y_d, jnp.asarray(gamma, dtype))
        for found in (value, *slopes):
            assert bool(jnp.all(jnp.isfinite(found)))


def test_chordal_is_the_sine_of_the_angle_between_two_lines(x64: None) -> None:
    rng = np.random.default_rng(5)
    ours, labels = rng.uniform(-np.pi, np.pi, (2, 200))
    size = 10.0 ** rng.uniform(-3, 3, (2, 200))
    tuples = [jnp.asarray(s * f(a)) for s, a in zip(size, (ours, labels), strict=True) for f in (np.cos, np.sin)]
    value, (in_P, in_Q) = jax.vmap(jax.value_and_grad(chordal_loss, (0, 1)), (0, 0, 0, 0, None))(*tuples, 0.0)
    np.testing.assert_allclose(value, np.abs(np.sin(ours - labels)), atol=1e-14)
    np.testing.assert_allclose(in_P * tuples[0] + in_Q * tuples[1], 0.0, atol=1e-12)  # blind to the scale
    turned = in_Q * tuples[0] - in_P * tuples[1]
    np.testing.assert_allclose(turned, np.sign(np.sin(ours - labels)) * np.cos(ours - labels), atol=1e-12)


@pytest.mark.parametrize("fit", FITS)
def test_an_exact_fit_is_left_where_it_is(fit: str) -> None:
    P, Q, Y_n, Y_d = (
        jnp.array([1.0, -3.0, 2.0]),
        jnp.array([0.5, -2.0, 0.0]),
        jnp.array([2.0, 1.5, -1.0]),
        jnp.array([1.0, 1.0, 0.0]),
    )
    value, slopes = jax.value_and_grad(FITS[fit], (0, 1))(P, Q, Y_n, Y_d)
    assert value == 0.0
    np.testing.assert_array_equal(jnp.stack(slopes), np.zeros((2, 3)))


def test_the_largest_labels_still_teach(x64: None) -> None:
    # ŷ = 1 for y = 1e300: (ŷ - y)²/(1 + ŷ²y²) is 1, and moving P up or Q down makes it less.
    value, in_P, in_Q = implicit_terms(*(jnp.array([x]) for x in (1.0, 1.0, 1e300, 1.0)), 1e-9)
    np.testing.assert_allclose((value[0], in_P[0], in_Q[0]), (1.0, -2.0, 2.0), rtol=1e-12)


sized = st.floats(-4, 4).map(lambda e: 10.0**e)
signed = st.tuples(sized, st.sampled_from([-1.0, 1.0])).map(math.prod)


@settings(max_examples=60)
@given(P=signed, Q=signed, y=signed, c=st.integers(-60, 60).map(lambda e: 2.0**e), flip=st.sampled_from([-1.0, 1.0]))
def test_without_gamma_the_scale_of_the_tuple_means_nothing(
    P: float, Q: float, y: float, c: float, flip: float
) -> None:
    found, scaled = (
        implicit_terms(*(jnp.array([x]) for x in (s * P, s * Q, y, 1.0)), jnp.zeros(())) for s in (1.0, c * flip)
    )
    np.testing.assert_allclose(scaled[0], found[0], rtol=1e-6)
    for slope, of_scaled in zip(found[1:], scaled[1:], strict=True):
        np.testing.assert_allclose(of_scaled * np.float32(c * flip), slope, rtol=1e-5)


# ---- groups, masks, shapes


def test_empty_groups_cost_nothing() -> None:
    Q = jnp.array([0.0, 1e-5])
    nobody = jnp.zeros(2, bool)
    for value, slope in (
        jax.value_and_grad(partial(margin_loss, mask_finite=nobody, reduction="conditional"))(Q),
        jax.value_and_grad(lambda Q: scm_separation_losses(Q, mask_censored=nobody)[0])(Q),
        jax.value_and_grad(lambda Q: scm_separation_losses(Q, mask_censored=~nobody)[1])(Q),
        jax.value_and_grad(partial(margin_loss, weights=jnp.zeros(2)))(Q),
    ):
        assert value == 0.0
        np.testing.assert_array_equal(slope, [0.0, 0.0])


def test_nan_outside_a_mask_or_without_weight_passes_nothing() -> None:
    Q, mask = jnp.array([jnp.nan, 1e-5]), jnp.array([False, True])
    for loss in (
        partial(margin_loss, mask_finite=mask),
        partial(margin_loss, mask_finite=mask, reduction="conditional"),
        lambda Q: sum(scm_separation_losses(Q[1:], mask_censored=mask[1:])),
        lambda Q: soft_rejection_loss(Q, 1e-4, 0.95, mask),
    ):
        value, slope = jax.value_and_grad(loss)(Q)
        assert bool(jnp.isfinite(value))
        assert slope[0] == 0.0
        assert bool(jnp.isfinite(slope[1]))


def test_weights_are_counts() -> None:
    rng = np.random.default_rng(3)
    P, Q, Y_n = (jnp.asarray(rng.standard_normal(6), jnp.float32) for _ in range(3))
    Y_d, counts = jnp.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0]), np.array([1, 2, 0, 3, 1, 1])
    repeated = [jnp.repeat(array, counts) for array in (P, Q, Y_n, Y_d)]
    loss = eqx.filter_jit(SCMTrainingLoss(LossConfig(tau_train=0.8)))
    total, _ = loss(P, Q, Y_n, Y_d, mask_finite=Y_d != 0, weights=jnp.asarray(counts, jnp.float32))
    np.testing.assert_allclose(total, loss(*repeated, mask_finite=repeated[3] != 0)[0], rtol=1e-6)


def test_a_shared_denominator_is_one_for_each_sample() -> None:
    rng = np.random.default_rng(4)
    for outputs in (2, 3):  # as many outputs as samples, where NumPy's rule would pair the wrong axes
        P, Y_n = (jnp.asarray(rng.standard_normal((3, outputs)), jnp.float32) for _ in range(2))
        Q, Y_d = jnp.array([0.5, 1e-5, 2.0]), jnp.asarray(rng.integers(0, 2, (3, outputs)), jnp.float32)
        loss = eqx.filter_jit(SCMTrainingLoss(LossConfig(tau_train=0.8)))
        shared, _ = loss(P, Q, Y_n, Y_d, mask_finite=Y_d != 0)
        spelled, _ = loss(P, jnp.broadcast_to(Q[:, None], P.shape), Y_n, Y_d, mask_finite=Y_d != 0)
        np.testing.assert_allclose(shared, spelled, rtol=1e-6)


def test_shapes_that_do_not_fit_are_refused() -> None:
    P, Q = jnp.ones((4, 2)), jnp.ones(4)
    with pytest.raises(UsageError, match=r"P \(4, 2\), Q \(3,\)"):
        implicit_loss(P, jnp.ones(3), P, P)
    with pytest.raises(UsageError, match="fit together"):
        sign_consistency_loss(P, Q, jnp.ones((4, 3)), jnp.ones((4, 3)))
    with pytest.raises(UsageError, match="mask_finite"):
        margin_loss(Q, mask_finite=jnp.ones(3, bool))
    assert implicit_loss(Q, jnp.ones((4, 1)), Q, Q).shape == ()


def test_half_precision_is_summed_in_float32() -> None:
    P, Q, Y_n, Y_d = (jnp.full(4096, x, jnp.bfloat16) for x in (1.0, 0.5, 1.0, 1.0))
    assert implicit_loss(P, Q, Y_n, Y_d).dtype == jnp.float32
    assert jax.grad(implicit_loss)(P, Q, Y_n, Y_d).dtype == jnp.bfloat16
    assert SCMTrainingLoss()(P, Q, Y_n, Y_d)[0].dtype == jnp.float32


def test_numbers_are_checked_and_traced_ones_taken() -> None:
    ones = jnp.ones(2)
    for call in (
        lambda: implicit_loss(ones, ones, ones, ones, -1e-9),
        lambda: implicit_loss(ones, ones, ones, ones, math.nan),
        lambda: margin_loss(ones, math.inf),
        lambda: margin_loss(ones, True),
        lambda: rejection_loss(ones > 0, 1.5),
        lambda: soft_rejection_loss(ones, -1.0),
        lambda: scm_separation_losses(ones, mask_censored=ones > 0, tau_bot=0.1, tau_finite=0.05),
        lambda: sign_consistency_loss(ones, ones, ones, ones, -1.0),
        lambda: sign_consistency_loss(ones, ones, ones, ones, epsilon_sing=-1.0),
        lambda: SCMTrainingLoss()(ones, ones, ones, ones, lambdas={"lambda_sgn": 1.0}),
        lambda: loss_dtype(jnp.ones(2, int)),
    ):
        with pytest.raises(UsageError):
            call()
    plain = margin_loss(ones, 2.0) + implicit_loss(ones, ones, 2.0 * ones, ones, 1e-3)
    traced = jax.jit(lambda tau, gamma: margin_loss(ones, tau) + implicit_loss(ones, ones, 2.0 * ones, ones, gamma))
    np.testing.assert_allclose(traced(2.0, 1e-3), plain, rtol=1e-6)


@pytest.mark.parametrize("field", ["orientation", "rejection", "margin_reduction"])
def test_unknown_forms_are_refused(field: str) -> None:
    with pytest.raises(Exception, match="nonsense"):
        LossConfig(**{field: "nonsense"})  # type: ignore[arg-type]


# ---- the combined loss


def test_weights_of_terms_can_be_set_by_call() -> None:
    P, Q, Y_n, Y_d = jnp.array([3.0, -1.0]), jnp.array([2.0, 0.5]), jnp.array([1.0, 1.0]), jnp.array([1.0, 0.0])
    total, terms = SCMTrainingLoss(LossConfig(lambda_fit=0.5, lambda_rej=2.0))(P, Q, Y_n, Y_d)
    expected = 0.5 * terms["fit"] + 0.1 * terms["margin"] + terms["sign"] + 2.0 * terms["rejection"]
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    off = {"lambda_margin": 0.0, "lambda_sign": jnp.zeros(()), "lambda_rej": 0.0}
    alone, _ = SCMTrainingLoss()(P, Q, Y_n, Y_d, lambdas=off)
    np.testing.assert_allclose(alone, terms["fit"], rtol=1e-6)
    given, _ = SCMTrainingLoss()(P, Q, Y_n, Y_d, fit_loss=jnp.array(7.0), lambdas=off)
    assert given == 7.0


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            *(st.one_of(st.just(0.0), st.floats(-1e300, 1e300, allow_subnormal=False)),) * 2,
            st.one_of(st.sampled_from([math.inf, -math.inf, math.nan, 1e308, 0.0]), st.floats(-1e308, 1e308)),
        ),
        min_size=4,
        max_size=4,
    )
)
def test_total_and_gradient_are_finite_for_every_batch(rows: list[tuple[float, float, float]]) -> None:
    with jax.enable_x64(True):
        value, slopes = _combined(*(jnp.asarray(column, jnp.float64) for column in np.asarray(rows).T))
        assert bool(jnp.isfinite(value))
        assert bool(jnp.all(jnp.isfinite(jnp.stack(slopes))))


@jax.jit
def _combined(P: Any, Q: Any, y: Any) -> Any:
    labels = lift_targets(y)
    masks = {"mask_finite": labels.finite, "mask_singular": labels.orientation != 0}

    def total(P: Any, Q: Any) -> Any:
        return SCMTrainingLoss()(P, Q, labels.numerator, labels.denominator, **masks)[0]

    return jax.value_and_grad(total, (0, 1))(P, Q)
