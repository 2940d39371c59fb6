"""The objective of rational models: its loss, metrics, policies, running state, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rational_golden as golden
from jaxtyping import Array

from hardgrad.core import UsageError, cast_floats
from hardgrad.estimators import Autodiff
from hardgrad.rational import (
    GradientPolicy,
    LossConfig,
    SCMObjective,
    SCMTrainingLoss,
    batch_coverage,
    gradient_policy,
    lift_semantic_targets,
    lift_targets,
    with_policy,
)
from hardgrad.rational._policies import policy_scope
from hardgrad.training import GradientMethod, InMemory, Trainer

CLAMP, PROJECT, REJECT, PASSTHROUGH = GradientPolicy
KEY = jax.random.key(0)
NO_CONTROLS: dict[str, Any] = {}


class Emit(eqx.Module):
    """A model whose parameters are its outputs."""

    P: Array
    Q: Array

    def __call__(self, x: Array) -> tuple[Array, Array]:
        return self.P, self.Q


def emit(P: Any, Q: Any) -> Emit:
    return Emit(jnp.asarray(P, jnp.float32), jnp.asarray(Q, jnp.float32))


MODEL = emit([1.0, -0.5, 2.0, 0.1, 3.0], [0.5, 1.0, 1e-5, -0.2, 0.0])
LABELS = jnp.array([2.0, -0.5, jnp.inf, -jnp.inf, jnp.nan])
BATCH = (jnp.zeros(5), LABELS)


# ---- values


def test_it_is_the_combined_loss_with_masks_from_the_labels() -> None:
    targets = lift_targets(LABELS)
    total, metrics = eqx.filter_jit(SCMObjective())(MODEL, BATCH, {"tau": 0.3}, KEY)
    expected, terms = SCMTrainingLoss()(
        *(MODEL.P, MODEL.Q, targets.numerator, targets.denominator),
        mask_finite=targets.finite,
        mask_singular=jnp.array([False, False, True, True, False]),  # NaN has no side
        tau_train=0.3,
    )
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    for name in ("fit", "margin", "sign", "rejection"):
        np.testing.assert_allclose(metrics[name], terms[name], rtol=1e-6)
    lifted, _ = SCMObjective()(MODEL, (BATCH[0], targets), {"tau": 0.3}, KEY)
    assert lifted == total


def test_labels_without_a_side_are_not_oriented() -> None:
    batch = (jnp.zeros(2), jnp.array([jnp.nan, jnp.nan]))
    _, metrics = SCMObjective()(emit([1.0, -1.0], [0.0, 0.0]), batch, NO_CONTROLS, KEY)
    assert metrics["sign"] == 0.0


def test_missing_labels_count_in_nothing() -> None:
    y, status = np.array([2.0, 0.0, 0.0], np.float32), ["finite", "censored_above", "missing"]
    targets = lift_semantic_targets(y, status)
    model, rows = emit([1.0, -1.0, 7.0], [0.5, 0.1, 1e-9]), np.array([0, 1])
    known = (jnp.zeros(2), jax.tree.map(lambda field: field[rows], targets))
    evaluate = eqx.filter_jit(SCMObjective())
    total, metrics = evaluate(model, (jnp.zeros(3), targets), NO_CONTROLS, KEY)
    expected, of_known = evaluate(jax.tree.map(lambda a: a[rows], model), known, NO_CONTROLS, KEY)
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    for name in ("fit", "margin", "sign", "rejection", "strict_error", "strict_recall"):
        np.testing.assert_allclose(metrics[name], of_known[name], rtol=1e-6, err_msg=name)
    slope = jax.grad(lambda model: SCMObjective()(model, (jnp.zeros(3), targets), NO_CONTROLS, KEY)[0])(model)
    assert slope.P[2] == slope.Q[2] == 0.0


def test_controls_override_threshold_and_weights() -> None:
    objective = SCMObjective(SCMTrainingLoss(LossConfig(tau_train=0.4)))
    _, metrics = objective(MODEL, BATCH, NO_CONTROLS, KEY)
    assert metrics["tau_train"] == np.float32(0.4)
    controls = {name: jnp.array(0.0) for name in ("lambda_margin", "lambda_sign", "lambda_rej")}
    total, metrics = jax.jit(objective)(MODEL, BATCH, {"tau": 0.3, "lambda_fit": 2.0, **controls}, KEY)
    np.testing.assert_allclose(total, 2.0 * metrics["fit"], rtol=1e-6)
    assert metrics["tau_train"] == np.float32(0.3)


# ---- metrics


def test_golden_coverage_of_a_batch() -> None:
    for case in golden.cases("trainer_coverage"):
        P = jnp.asarray(golden.array(case["P"], case["dtype"]))
        outputs = P if case["Q"] is None else (P, jnp.asarray(golden.array(case["Q"], case["dtype"])))
        found = batch_coverage(outputs, case["tau"])
        assert found == case["out"]
        assert found.dtype == jnp.float32


def test_coverage_of_a_threshold_of_zero_still_takes_a_pole_for_one() -> None:
    assert batch_coverage((jnp.ones(2), jnp.array([0.0, 1e-30])), 0.0) == 0.5
    assert batch_coverage((jnp.ones(2), jnp.array([True, False]))) == 0.5


def test_metrics_by_hand() -> None:
    model = emit([1.0, 3.0, 1.0, 1.0, math.nan], [0.5, 1.0, 1e-5, 0.2, math.nan])
    batch = (jnp.zeros(5), jnp.array([2.5, jnp.inf, jnp.inf, 5.0, jnp.nan]))
    _, metrics = SCMObjective(tau_infer=1e-3)(model, batch, {"tau": 0.3}, KEY)
    expected = {
        "coverage": 2 / 5,
        "bottom_frac": 3 / 5,
        "tau_train": 0.3,
        "denom_abs_min": 1e-5,
        "denom_abs_mean": (0.5 + 1.0 + 1e-5 + 0.2) / 4,
        "denom_abs_available": 1.0,
        "strict_coverage": 3 / 5,
        "strict_error": 0.25,  # 2 for 2.5, 5 for 5
        "strict_recall": 2 / 3,  # 3/1 is no ⊥
    }
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-6, err_msg=name)


def test_metrics_where_there_is_nothing_to_average() -> None:
    model = emit([1.0, 1.0], [math.nan, math.inf])
    _, metrics = SCMObjective()(model, (jnp.zeros(2), jnp.ones(2)), NO_CONTROLS, KEY)
    assert metrics["denom_abs_available"] == 0.0
    for name in ("denom_abs_min", "denom_abs_mean", "strict_error", "strict_recall"):
        assert np.isnan(metrics[name]), name


def test_a_shared_denominator_decides_for_the_sample() -> None:
    model = emit([[1.0, 2.0], [1.0, 2.0]], [0.5, 1e-9])
    batch = (jnp.zeros(2), jnp.array([[2.0, 5.0], [jnp.inf, jnp.inf]]))
    total, metrics = SCMObjective()(model, batch, NO_CONTROLS, KEY)
    assert bool(jnp.isfinite(total))
    assert metrics["coverage"] == metrics["strict_coverage"] == 0.5
    assert metrics["strict_recall"] == 1.0
    np.testing.assert_allclose(metrics["strict_error"], 0.5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_everything_has_the_dtype_of_the_loss(x64: None, dtype: str) -> None:
    model, batch = cast_floats((MODEL, BATCH), dtype)
    loss = lambda model: SCMObjective()(model, batch, {"tau": jnp.asarray(1e-4, dtype)}, KEY)
    (total, metrics), slope = jax.jit(jax.value_and_grad(loss, has_aux=True))(model)
    wide = "float32" if dtype == "bfloat16" else dtype
    assert total.dtype == wide
    assert {metric.dtype.name for metric in metrics.values()} == {wide}
    assert slope.P.dtype == dtype


# ---- losses of one's own


def test_a_function_of_outputs_and_targets() -> None:
    seen: dict[str, Any] = {}

    def fit_only(outputs: Any, targets: Any, *, tau: Any, inputs: Any) -> Any:
        seen.update(tau=tau, inputs=inputs)
        return jnp.mean((outputs[0] - outputs[1] * targets.numerator) ** 2), {"mine": 3.0}

    total, metrics = SCMObjective(fit_only)(MODEL, BATCH, {"tau": 0.25}, KEY)
    assert seen["tau"] == 0.25
    assert seen["inputs"] is BATCH[0]
    assert bool(jnp.isfinite(total))
    assert metrics["mine"] == 3.0
    assert "fit" not in metrics
    plain, _ = SCMObjective(lambda outputs, targets: jnp.sum(outputs[0]))(MODEL, BATCH, NO_CONTROLS, KEY)
    np.testing.assert_allclose(plain, 5.6, rtol=1e-6)
    everything, _ = SCMObjective(lambda outputs, targets, **more: jnp.float32(len(more)))(MODEL, BATCH, {}, KEY)
    assert everything == 4.0


@pytest.mark.parametrize("masked", [False, True])
def test_values_with_or_without_a_mask(masked: bool) -> None:
    y = jnp.array([1.0, jnp.nan, 3.0])
    outputs = (jnp.where(jnp.isnan(y), 0.0, y), jnp.isnan(y)) if masked else y

    def loss(outputs: Any, targets: Any) -> Array:
        values = outputs[0] if isinstance(outputs, tuple) else outputs
        return jnp.mean(jnp.where(targets.finite, values - targets.numerator, 0.0) ** 2)

    batch = (jnp.zeros(3), jnp.array([1.5, jnp.nan, 3.0]))
    total, metrics = SCMObjective(loss)(lambda x: outputs, batch, NO_CONTROLS, KEY)
    np.testing.assert_allclose(total, 0.25 / 3, rtol=1e-6)
    np.testing.assert_allclose(metrics["coverage"], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(metrics["strict_error"], 0.25)
    assert metrics["strict_recall"] == 1.0
    assert metrics["denom_abs_available"] == 0.0


# ---- policies


@eqx.filter_jit
def slopes(objective: SCMObjective, model: Emit = MODEL) -> Emit:
    return jax.grad(lambda model: objective(model, BATCH, {"tau": 1e-4}, KEY)[0])(model)


def linear(outputs: Any, targets: Any) -> Array:
    return 5.0 * jnp.sum(outputs[0]) + 5.0 * jnp.sum(outputs[1])


BOTTOM = np.array([False, False, True, False, True])
EXPECTED = {CLAMP: np.where(BOTTOM, 0, 1), PROJECT: np.where(BOTTOM, 0, 5), REJECT: 0 * BOTTOM, PASSTHROUGH: [5] * 5}


def test_outputs_pass_everything_by_default() -> None:
    found = slopes(SCMObjective(linear))
    np.testing.assert_array_equal(found.P, EXPECTED[PASSTHROUGH])
    np.testing.assert_array_equal(found.Q, EXPECTED[PASSTHROUGH])


@pytest.mark.parametrize("policy", GradientPolicy)
def test_policies_of_an_objective_of_a_call_and_of_a_construction(policy: GradientPolicy) -> None:
    other = REJECT if policy is not REJECT else CLAMP
    explicit = SCMObjective(linear, policy=policy)
    np.testing.assert_array_equal(slopes(explicit).Q, EXPECTED[policy])
    with gradient_policy(policy):
        np.testing.assert_array_equal(slopes(SCMObjective(linear, policy=other)).Q, EXPECTED[other])
        np.testing.assert_array_equal(slopes(SCMObjective(linear)).P, EXPECTED[policy])
        built = SCMObjective(linear)
    np.testing.assert_array_equal(slopes(built).P, EXPECTED[policy])
    with gradient_policy(other):
        np.testing.assert_array_equal(slopes(built).P, EXPECTED[other])
    with policy_scope(other):  # as an objective around this one does
        np.testing.assert_array_equal(slopes(built).P, EXPECTED[other])


def test_a_policy_of_the_objective_reaches_the_layers_that_have_none() -> None:
    inner: list[float] = []

    def model(P: Array) -> Any:
        layered = with_policy(P, jnp.zeros(5, bool))  # PROJECT by default
        inner.append(1.0)
        return 7.0 * layered, MODEL.Q

    def gradient(objective: SCMObjective) -> Array:
        return jax.grad(lambda P: objective(lambda x: model(P), BATCH, {"tau": 1e-4}, KEY)[0])(MODEL.P)

    np.testing.assert_array_equal(gradient(SCMObjective(linear)), [35] * 5)
    np.testing.assert_array_equal(gradient(SCMObjective(linear, policy=CLAMP)), np.where(BOTTOM, 0, 1))
    assert inner


def test_a_numerator_that_is_not_finite_is_stopped_too() -> None:
    model = emit([math.inf, 1.0], [1.0, 1.0])
    loss = lambda model: SCMObjective(linear, policy=PROJECT)(model, (0, jnp.ones(2)), {"tau": 1e-4}, KEY)[0]
    found = jax.grad(loss)(model)
    np.testing.assert_array_equal(found.P, [0.0, 5.0])
    np.testing.assert_array_equal(found.Q, [5.0, 5.0])


# ---- models with running state


class Counting(eqx.Module):
    """Counts its updates."""

    scale: Array
    seen: Array
    inference: bool = False

    def __call__(self, x: Array) -> tuple[Array, Array]:
        return self.scale * x, jnp.ones_like(x)

    def update(self, x: Array) -> tuple[tuple[Array, Array], Counting]:
        return self(x), eqx.tree_at(lambda model: model.seen, self, self.seen + 1)


def test_a_model_with_running_state_comes_third() -> None:
    model, batch = Counting(jnp.ones(()), jnp.zeros(())), (jnp.ones(3), jnp.ones(3))
    loss, metrics, changed = SCMObjective()(model, batch, NO_CONTROLS, KEY)
    assert changed.seen == 1
    assert loss == 0.0
    assert metrics["fit"] == 0.0
    assert len(SCMObjective()(eqx.nn.inference_mode(model), batch, NO_CONTROLS, KEY)) == 2


# ---- refusals


def test_what_it_can_not_take_is_refused() -> None:
    for make in (
        lambda: SCMObjective(SCMTrainingLoss),
        lambda: SCMObjective(3.0),
        lambda: SCMObjective(policy="clamp"),
        lambda: SCMObjective(tau_train=-1.0),
        lambda: SCMObjective(tau_infer=0.0),
        lambda: SCMTrainingLoss("fit"),  # type: ignore[arg-type]
    ):
        with pytest.raises(Exception, match=r"got|expected|violates|Type"):
            make()
    for outputs in (jnp.ones(3), (jnp.ones(3), jnp.zeros(3, bool)), (1.0, 2.0, 3.0), {"P": 1.0}, 3.0):
        with pytest.raises(UsageError, match="emits"):
            SCMObjective()(lambda x, outputs=outputs: outputs, (jnp.zeros(3), jnp.ones(3)), NO_CONTROLS, KEY)
    with pytest.raises(UsageError, match="fit together"):
        SCMObjective()(MODEL, (jnp.zeros(4), jnp.ones(4)), NO_CONTROLS, KEY)


# ---- hard batches, and a real run


@jax.jit
def value_and_slope(model: Emit, labels: Array, tau: Array) -> tuple[Array, Emit]:
    return jax.value_and_grad(lambda model: SCMObjective()(model, (0, labels), {"tau": tau}, KEY)[0])(model)


@pytest.mark.parametrize(
    "labels",
    [[jnp.inf] * 5, [-jnp.inf] * 5, [jnp.nan] * 5, [3e38, -3e38, 1e30, 0.0, 1e-38], [0.0] * 5],
    ids=["all poles", "all below", "no side", "huge", "zeros"],
)
def test_gradients_are_finite_for_every_kind_of_batch(labels: list[float]) -> None:
    for tau in (1e-4, 0.0):
        value, slope = value_and_slope(MODEL, jnp.asarray(labels), tau)
        assert bool(jnp.isfinite(value))
        assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(slope))


def test_the_trainer_takes_it_and_skips_a_row_of_nan() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (64, 1)).astype(np.float32)
    y = np.where(np.arange(64) % 8 == 0, np.inf, x[:, 0]).astype(np.float32)
    x[3] = np.nan
    data = InMemory((x, lift_targets(y)), batch_size=16, allow_non_finite=True)

    class Line(eqx.Module):
        layer: eqx.nn.Linear

        def __call__(self, x: Array) -> tuple[Array, Array]:
            out = jax.vmap(self.layer)(x)
            return out[:, 0], out[:, 1]

    model = Line(eqx.nn.Linear(1, 2, key=KEY))
    trainer = Trainer(GradientMethod(Autodiff(), optax.adam(1e-2)))
    result = trainer.fit(model, SCMObjective(), data, epochs=2, seed=0)
    leaves = jax.tree.leaves(eqx.filter(result.model, eqx.is_inexact_array))
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in leaves)
    assert any(bool(jnp.any(a != b)) for a, b in zip(leaves, jax.tree.leaves(model), strict=True))
