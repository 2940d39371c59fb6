"""Normalisation and softmax over what may be ⊥."""

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

from hardgrad.core import UsageError, split_parameters
from hardgrad.rational import GradientPolicy, SCMNorm, SCMSoftmax, gradient_policy, scm_norm, scm_softmax


def _policy(case: dict[str, Any]) -> GradientPolicy | None:
    return None if case["policy"] is None else GradientPolicy[case["policy"]]


# --- norm ---------------------------------------------------------------------------------------------------------


def _norm_by_hand(x: np.ndarray[Any, Any], valid: np.ndarray[Any, Any], eps: float) -> np.ndarray[Any, Any]:
    y = np.zeros_like(x)
    for f in range(x.shape[1]):
        rows = valid[:, f]
        if rows.any():
            kept = x[rows, f]
            y[rows, f] = (kept - kept.mean()) / np.sqrt(kept.var() + eps)
    return y


def _norm_total(x: Any, mask: Any, arriving: Any, eps: float, policy: GradientPolicy | None) -> Any:
    y, bottom = scm_norm(x, mask, eps=eps, policy=policy)
    return jnp.sum(y * arriving), (y, bottom)


_norm_gradient = jax.jit(jax.value_and_grad(_norm_total, has_aux=True), static_argnums=(3, 4))
_norm = jax.jit(scm_norm, static_argnames=("eps", "policy"))


@pytest.mark.parametrize("case", golden.cases("scm_norm"), ids=lambda c: f"{c['policy']}-{c['eps']}".lower())
@pytest.mark.usefixtures("x64")
def test_norm_as_published(case: dict[str, Any]) -> None:
    """Where the published layer has NaN ours has 0; where its ε > 0 leaves a constant feature ⊥, ours is 0 and valid;
    where its gradient is NaN beside a masked NaN, ours is the derivative."""
    x = golden.array(case["x"], "float64")
    mask, weights = golden.array(case["bottom_mask"], bool), golden.array(case["weights"], "float64")
    policy, eps = _policy(case), case["eps"]
    (_, (y, bottom)), by_x = _norm_gradient(x, mask, weights, eps, policy)
    out = {name: golden.array(value) for name, value in case["out"].items()}
    constant = np.zeros_like(mask)
    constant[:, 1] = eps > 0
    np.testing.assert_array_equal(bottom, np.where(constant, False, out["mask"]))
    near = golden.tolerance("float64")
    np.testing.assert_allclose(y, np.where(np.isnan(out["output"]), 0.0, out["output"]), **near)
    published = np.isfinite(out["grad_x"]) & ~constant
    np.testing.assert_allclose(np.asarray(by_x)[published], out["grad_x"][published], **near)
    np.testing.assert_array_equal(np.asarray(by_x)[np.asarray(bottom)], 0.0)
    # The rest, against finite differences of the formula in which the policy has acted on the weights.
    effective = GradientPolicy.CLAMP if policy is None else policy
    arriving = {GradientPolicy.CLAMP: np.clip(weights, -1, 1), GradientPolicy.REJECT: 0 * weights}.get(
        effective, weights
    )
    valid = ~np.asarray(bottom)
    for i, f in zip(*np.nonzero(valid), strict=True):
        step = np.zeros_like(x)
        step[i, f] = 1e-6
        ahead, behind = (np.sum(_norm_by_hand(x + s, valid, eps) * arriving) for s in (step, -step))
        assert abs((ahead - behind) / 2e-6 - float(by_x[i, f])) < 1e-7 * max(1.0, 1 / np.sqrt(eps or 1.0))


entries = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True, width=32),
    st.sampled_from([0.0, -0.0, 1.0, 1e-40, float("nan"), float("inf"), 3e38, -3e38]),
)
batches = st.lists(st.lists(entries, min_size=2, max_size=2), min_size=5, max_size=5)
masks = st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=5, max_size=5)


@pytest.mark.parametrize("eps", [0.0, 1e-5])
@settings(max_examples=30)
@given(x=batches, mask=masks, policy=st.sampled_from(list(GradientPolicy)))
def test_norm_is_finite_whatever_comes(eps: float, x: Any, mask: Any, policy: GradientPolicy) -> None:
    points, hidden = jnp.asarray(x, jnp.float32), jnp.asarray(mask)
    y, bottom = _norm(points, hidden, eps=eps)
    arriving = jnp.where(bottom, jnp.nan, 0.25)  # and whatever gradient arrives at ⊥
    (_, (again, same)), by_x = _norm_gradient(points, hidden, arriving, eps, policy)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(again, y, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(same, bottom)
    assert np.asarray(bottom)[np.asarray(hidden) | ~np.isfinite(points)].all()
    np.testing.assert_array_equal(np.asarray(y)[np.asarray(bottom)], 0.0)
    np.testing.assert_array_equal(np.asarray(by_x)[np.asarray(bottom)], 0.0)
    assert np.isfinite(by_x).all()


@settings(max_examples=25)
@given(
    x=st.lists(st.lists(st.floats(-3, 3), min_size=2, max_size=2), min_size=5, max_size=5),
    mask=masks,
    eps=st.sampled_from([1e-5, 1e-2]),
)
def test_norm_gradients_are_the_slopes(x: Any, mask: Any, eps: float) -> None:
    with jax.enable_x64(True):
        points, valid = np.array(x), ~np.array(mask)
        weights = np.arange(10.0).reshape(5, 2) - 4.0

        _, found = _norm_gradient(points, ~valid, weights, eps, GradientPolicy.PROJECT)
        for i, f in zip(*np.nonzero(valid), strict=True):
            step = np.zeros_like(points)
            step[i, f] = 1e-6
            ahead, behind = (np.sum(weights * _norm_by_hand(points + s, valid, eps)) for s in (step, -step))
            assert abs((ahead - behind) / 2e-6 - float(found[i, f])) < 1e-4 / np.sqrt(eps)


@pytest.mark.usefixtures("x64")
def test_norm_second_derivatives() -> None:
    x = jnp.array([[0.3, 1.0], [-1.2, 1.0], [2.0, jnp.nan], [0.7, 1.0]])

    def curve(t: Any) -> Any:
        shifted = x.at[1, 0].add(t)
        y, _ = scm_norm(shifted, eps=1e-3, policy=GradientPolicy.PROJECT)
        return jnp.sum(y**3)

    slope = jax.grad(curve)
    ahead, behind, reverse, forward = jax.jit(
        lambda h: (slope(h), slope(-h), jax.grad(slope)(0.0), jax.jacfwd(slope)(0.0))
    )(1e-5)
    np.testing.assert_allclose([reverse, forward], (ahead - behind) / 2e-5, rtol=1e-7)


def test_a_constant_feature() -> None:
    x = jnp.full((7, 1), 0.1)  # the mean of seven such is not 0.1 in float32
    assert np.asarray(_norm(x, eps=0.0)[1]).all()
    y, bottom = _norm(x)
    assert not np.asarray(bottom).any()
    np.testing.assert_allclose(y, 0.0, atol=1e-4)


def test_without_compiling() -> None:
    x = jnp.array([[1.0, jnp.inf, 3e38, 1.0], [2.0, 1.0, -3e38, 1.0], [5.0, -2.0, 3e38, 1.0]])
    for eps in (0.0, 1e-5):
        for eager, compiled in zip(scm_norm(x, eps=eps), _norm(x, eps=eps), strict=True):
            np.testing.assert_allclose(eager, compiled, rtol=1e-5)
    norm = _see(SCMNorm(4, affine=True), x)
    for eager, compiled in zip(jax.tree.leaves(norm.update(x)), jax.tree.leaves(_update(norm, x)), strict=True):
        np.testing.assert_allclose(eager, compiled, rtol=1e-5)
    for eager, compiled in zip(norm(x), _deploy(norm, x), strict=True):
        np.testing.assert_allclose(eager, compiled, rtol=1e-5)


def test_leading_axes_are_rows() -> None:
    x = jax.random.normal(jax.random.key(0), (3, 4, 2))
    np.testing.assert_allclose(_norm(x)[0].reshape(12, 2), _norm(x.reshape(12, 2))[0], rtol=1e-5, atol=1e-6)
    y, mask = _norm(jnp.zeros((0, 2)), eps=0.0)
    assert y.shape == mask.shape == (0, 2)


def test_half_precision_is_normalised_in_single() -> None:
    x = jnp.linspace(100.0, 300.0, 64).astype(jnp.float16)[:, None]  # squares beyond the range of float16
    y, bottom = _norm(x)
    assert y.dtype == jnp.float16
    assert not np.asarray(bottom).any()
    np.testing.assert_allclose(np.std(np.asarray(y, np.float32)), 1.0, atol=1e-2)


# --- running statistics -------------------------------------------------------------------------------------------


@eqx.filter_jit
def _update(norm: SCMNorm, x: Any, mask: Any = None) -> Any:
    return norm.update(x, mask)


@eqx.filter_jit
def _deploy(norm: SCMNorm, x: Any) -> Any:
    return norm(x)


def _see(norm: SCMNorm, x: Any, mask: Any = None) -> SCMNorm:
    after: SCMNorm = _update(norm, x, mask)[1]
    return after


@pytest.mark.usefixtures("x64")
def test_with_momentum_1_the_statistics_are_those_of_all_rows() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal([3.0, -200.0, 0.5], [2.0, 0.1, 1e-3], (60, 3))
    mask = rng.random((60, 3)) < 0.3
    mask[:20, 1] = True  # two batches without a row of the second feature
    x[mask] = np.where(rng.random(mask.sum()) < 0.5, np.nan, 1e9)
    norm = SCMNorm(3, momentum=1.0)
    for start in range(0, 60, 10):
        norm = _see(norm, x[start : start + 10], mask[start : start + 10])
    for f in range(3):
        kept = x[~mask[:, f], f]
        np.testing.assert_allclose(norm.rows.value[f], kept.size)
        np.testing.assert_allclose(norm.mean.value[f], kept.mean(), rtol=1e-12)
        np.testing.assert_allclose(norm.variance.value[f], kept.var(), rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_statistics_are_those_of_rows_weighed_by_age() -> None:
    """And so unbiased from the first batch on."""
    rng = np.random.default_rng(1)
    batches = [rng.normal(k, 1 + k, (4 + k, 1)) for k in range(6)]
    norm = SCMNorm(1, momentum=0.7)
    for k, batch in enumerate(batches):
        norm = _see(norm, batch)
        seen = np.concatenate(batches[: k + 1])[:, 0]
        age = np.concatenate([np.full(b.shape[0], 0.7 ** (k - i)) for i, b in enumerate(batches[: k + 1])])
        mean = np.average(seen, weights=age)
        np.testing.assert_allclose(norm.mean.value, [mean], rtol=1e-12)
        np.testing.assert_allclose(norm.variance.value, [np.average((seen - mean) ** 2, weights=age)], rtol=1e-12)


def test_statistics_converge_to_the_population() -> None:
    rng = np.random.default_rng(2)
    norm = SCMNorm(2)
    for _ in range(300):
        norm = _see(norm, rng.normal([5.0, -1.0], [2.0, 0.1], (32, 2)).astype(np.float32))
    np.testing.assert_allclose(norm.mean.value, [5.0, -1.0], atol=0.1)
    np.testing.assert_allclose(norm.variance.value, [4.0, 0.01], rtol=0.1)
    y, bottom = _deploy(norm, np.array([[5.0, -1.0], [7.0, np.nan]], np.float32))
    np.testing.assert_allclose(y, [[0.0, 0.0], [1.0, 0.0]], atol=0.1)
    np.testing.assert_array_equal(bottom, [[False, False], [False, True]])


def test_a_batch_without_rows_changes_nothing() -> None:
    norm = _see(SCMNorm(2), jnp.array([[1.0, 2.0], [3.0, 5.0]]))
    nothing = jnp.full((2, 2), jnp.nan)
    for after in (_see(norm, nothing), _see(norm, jnp.ones((2, 2)), jnp.ones((2, 2), bool)), _see(norm, nothing[:0])):
        assert eqx.tree_equal(after, norm)


def test_overflowing_batches_leave_the_statistics_alone() -> None:
    norm = _see(SCMNorm(1), jnp.array([[1.0], [3.0]]))
    huge = jnp.array([[3e38], [-3e38], [3e38]])
    (y, bottom), after = _update(norm, huge)
    assert eqx.tree_equal(after, norm)
    assert np.asarray(bottom).all()
    np.testing.assert_array_equal(y, 0.0)


def test_a_constant_batch_is_seen_with_eps_0_too() -> None:
    """It can't be normalised by itself, and is part of the population all the same."""
    norm = SCMNorm(1, eps=0.0, momentum=1.0)
    (_, bottom), norm = _update(norm, jnp.full((4, 1), 2.0))
    assert np.asarray(bottom).all()
    assert np.asarray(_deploy(norm, jnp.ones((1, 1)))[1]).all(), "nothing has varied yet"
    norm = _see(norm, jnp.full((4, 1), 6.0))
    np.testing.assert_array_equal(norm.mean.value, [4.0])
    np.testing.assert_array_equal(norm.variance.value, [4.0])
    y, bottom = _deploy(norm, jnp.full((1, 1), 8.0))
    np.testing.assert_array_equal(y, [[2.0]])
    assert not np.asarray(bottom).any()


def test_statistics_are_no_parameters_and_pass_no_gradient() -> None:
    norm = _see(SCMNorm(2, affine=True), jnp.array([[1.0, 2.0], [3.0, 5.0]]))
    params, _ = split_parameters(norm)
    assert params.mean.value is None
    assert params.scale is not None
    x = jnp.array([[0.5, 1.0], [2.0, jnp.nan]])

    @eqx.filter_jit
    def gradients(norm: SCMNorm, x: Any) -> Any:
        def seen(x: Any) -> Any:
            after = norm.update(x)[1]
            return jnp.sum(after.mean.value) + jnp.sum(after.variance.value)

        return jax.grad(seen)(x), eqx.filter_grad(lambda n: jnp.sum(n(x)[0]))(norm)

    by_x, grads = gradients(norm, x)
    np.testing.assert_array_equal(by_x, 0.0)
    np.testing.assert_array_equal(grads.mean.value, 0.0)
    np.testing.assert_array_equal(grads.variance.value, 0.0)
    np.testing.assert_array_equal(grads.offset, [2.0, 1.0])
    assert np.isfinite(grads.scale).all()


@settings(max_examples=30)
@given(x=batches, mean=entries.filter(np.isfinite), spread=st.sampled_from([0.0, 1e-38, 1.0, 3e38]))
def test_deployed_norm_is_finite_whatever_comes(x: Any, mean: float, spread: float) -> None:
    norm = _deployed(jnp.full(2, mean, jnp.float32), jnp.full(2, spread, jnp.float32))
    points = jnp.asarray(x, jnp.float32)
    ((_, (y, bottom)), (by_norm, by_x)), by_row = _deployed_gradient((norm, points))
    assert np.isfinite(y).all()
    assert np.asarray(bottom)[~np.isfinite(points)].all()
    np.testing.assert_array_equal(np.asarray(by_x)[np.asarray(bottom)], 0.0)
    assert not np.isnan(by_norm.scale).any()
    np.testing.assert_allclose(by_row[0], y, rtol=1e-5)


def _deployed(mean: Any, variance: Any) -> SCMNorm:
    norm = SCMNorm(2, eps=0.0, affine=True)
    return eqx.tree_at(lambda n: (n.mean.value, n.variance.value), norm, (mean, variance))


@eqx.filter_jit
def _deployed_gradient(both: Any) -> Any:
    def total(both: Any) -> Any:
        norm, x = both
        y, bottom = _deploy(norm, x)
        return jnp.sum(y * jnp.where(bottom, jnp.inf, 1.0)), (y, bottom)

    return eqx.filter_value_and_grad(total, has_aux=True)(both), jax.vmap(both[0])(both[1])


class NormedModel(eqx.Module):
    """What an SCMNorm in the middle of a model looks like."""

    norm: SCMNorm
    linear: eqx.nn.Linear

    def __call__(self, x: Any) -> Any:
        y, _ = self.norm(x)
        return y @ self.linear.weight[0]

    def update(self, x: Any) -> tuple[Any, Any]:
        (y, _), norm = self.norm.update(x)
        return y @ self.linear.weight[0], eqx.tree_at(lambda m: m.norm, self, norm)


def test_a_model_that_holds_a_norm() -> None:
    """Trained on features of very different scale, some of them ⊥, it answers the same once deployed."""
    rng = np.random.default_rng(3)
    x = rng.normal([100.0, 0.0], [30.0, 1e-2], (64, 2)).astype(np.float32)
    x[rng.random(x.shape) < 0.1] = np.nan
    target = jnp.asarray(np.nan_to_num((x[:, 0] - 100.0) / 30.0) - np.nan_to_num(x[:, 1] / 1e-2))
    model = NormedModel(SCMNorm(2), eqx.nn.Linear(2, 1, key=jax.random.key(0)))

    @eqx.filter_jit
    def step(model: NormedModel, x: Any) -> tuple[NormedModel, Any]:
        params, rest = split_parameters(model)

        def loss(params: Any) -> Any:
            predicted, after = eqx.combine(params, rest).update(x)
            return jnp.mean(jnp.square(predicted - target)), after

        (value, after), grads = jax.value_and_grad(loss, has_aux=True)(params)
        return eqx.apply_updates(after, jax.tree.map(lambda g: -0.1 * g, grads)), value

    losses = []
    for _ in range(60):
        model, value = step(model, jnp.asarray(x))
        losses.append(float(value))
    assert losses[-1] < 0.05 * losses[0]
    deployed = float(jnp.mean(jnp.square(model(jnp.asarray(x)) - target)))
    np.testing.assert_allclose(deployed, losses[-1], rtol=0.05)


# --- softmax ------------------------------------------------------------------------------------------------------


@eqx.filter_jit
def _weighted_softmax(layer: SCMSoftmax, logits: Any, mask: Any, weights: Any) -> Any:
    def total(logits: Any) -> Any:
        result = layer(logits, mask)
        return jnp.sum(result.probabilities * weights), result

    return jax.value_and_grad(total, has_aux=True)(logits)


@pytest.mark.parametrize("case", golden.cases("scm_softmax"), ids=lambda c: str(c["policy"]).lower())
@pytest.mark.usefixtures("x64")
def test_softmax_as_published(case: dict[str, Any]) -> None:
    logits = jnp.asarray(golden.array(case["logits"], "float64"))
    mask, weights = golden.array(case["bottom_mask"], bool), golden.array(case["weights_row"], "float64")
    (_, result), grads = _weighted_softmax(SCMSoftmax(_policy(case)), logits, mask, weights)
    near = golden.tolerance("float64")
    np.testing.assert_allclose(result.probabilities, golden.array(case["out"]["probs"]), **near)
    np.testing.assert_array_equal(result.singular_rows, golden.array(case["out"]["singular_rows"]))
    np.testing.assert_allclose(grads, golden.array(case["out"]["grad_x"]), **near)
    assert not np.asarray(result.bottom_rows).any()


def test_layers_follow_the_context() -> None:
    x = jnp.array([[0.0, 3.0], [1.0, 1.0], [2.0, jnp.nan]])

    @jax.jit
    def gradients(x: Any) -> Any:
        def norm(x: Any) -> Any:
            return jnp.sum(scm_norm(x)[0] * jnp.arange(6.0).reshape(3, 2) ** 2)

        def softmax(x: Any) -> Any:
            return jnp.sum(scm_softmax(x).probabilities * jnp.arange(6.0).reshape(3, 2) ** 2)

        return jax.grad(norm)(x), jax.grad(softmax)(x)

    clamped = gradients(x)
    with gradient_policy(GradientPolicy.PROJECT):
        projected = gradients(x)
    with gradient_policy(GradientPolicy.REJECT):
        rejected = gradients(x)
    for k in range(2):
        assert np.abs(projected[k]).max() > 1.5 * np.abs(clamped[k]).max()
        np.testing.assert_array_equal(rejected[k], 0.0)


def test_a_row_of_nothing_but_bottom_is_bottom() -> None:
    """The published layer is certain of class 0 there."""
    result = scm_softmax(jnp.array([[1.0, 2.0], [3.0, 4.0]]), jnp.array([[True, True], [False, False]]))
    np.testing.assert_array_equal(result.probabilities[0], [0.0, 0.0])
    np.testing.assert_array_equal(result.bottom_rows, [True, False])
    np.testing.assert_array_equal(result.singular_rows, [True, False])


rows = st.lists(st.lists(entries, min_size=3, max_size=3), min_size=4, max_size=4)


def _softmax_total(logits: Any, arriving: Any) -> Any:
    result = scm_softmax(logits, policy=GradientPolicy.PASSTHROUGH)
    return jnp.sum(result.probabilities * arriving), (result, jax.vmap(scm_softmax)(logits))


_softmax = jax.jit(scm_softmax)
_softmax_gradient = jax.jit(jax.value_and_grad(_softmax_total, has_aux=True))


@settings(max_examples=30)
@given(logits=rows)
def test_softmax_whatever_comes(logits: Any) -> None:
    points = jnp.asarray(logits, jnp.float32)
    bottom = ~np.isfinite(points)
    result = _softmax(points)
    arriving = jnp.where(result.singular_rows[:, None], jnp.inf, jnp.arange(12.0).reshape(4, 3))
    (_, (jitted, by_row)), by_logits = _softmax_gradient(points, arriving)
    np.testing.assert_array_equal(result.singular_rows, bottom.any(-1))
    np.testing.assert_array_equal(result.bottom_rows, bottom.all(-1))
    np.testing.assert_allclose(result.probabilities.sum(-1), ~bottom.all(-1), rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(result.probabilities)[bottom], 0.0)
    np.testing.assert_allclose(jitted.probabilities, result.probabilities, rtol=1e-6)
    np.testing.assert_allclose(by_row.probabilities, result.probabilities, rtol=1e-6)
    assert np.isfinite(by_logits).all()
    np.testing.assert_array_equal(np.asarray(by_logits)[bottom.any(-1)], 0.0)
    for i in np.flatnonzero(bottom.any(-1) & ~bottom.all(-1)):
        kept = np.where(bottom[i], -np.inf, np.where(np.abs(points[i]) < 1.2e-38, 0, points[i]))  # XLA: denormals are 0
        assert int(jnp.argmax(result.probabilities[i])) == int(np.argmax(kept))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: SCMNorm(0), "size"),
        (lambda: SCMNorm(2, eps=-1.0), "eps"),
        (lambda: SCMNorm(2, momentum=1.5), "momentum"),
        (lambda: SCMNorm(2)(jnp.ones((3, 4))), r"\[\.\.\., 2\]"),
        (lambda: SCMNorm(2).update(jnp.ones((3, 2)), jnp.ones(3, bool)), "mask"),
        (lambda: scm_norm(jnp.ones((3, 2)), eps=float("inf")), "eps"),
        (lambda: scm_softmax(jnp.ones((3, 0))), "class"),
        (lambda: scm_softmax(jnp.ones((3, 2)), jnp.ones((2, 3), bool)), "mask"),
    ],
)
def test_wrong_inputs(build: Any, words: str) -> None:
    with pytest.raises((UsageError, TypeError), match=words):
        build()
