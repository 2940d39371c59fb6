"""What every estimator keeps. A new one is tested by adding a line to `ESTIMATORS`; a public one not there fails."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardgrad.core import (
    AbstractEstimator,
    BlackBox,
    Loss,
    NoDerivativeError,
    Order,
    UsageError,
    control,
    leaf_names,
    split_parameters,
)
from hardgrad.estimators import (
    SPSA,
    AntitheticNES,
    Autodiff,
    Blocks,
    CentralDifference,
    Every,
    ForwardDifference,
    GuidedES,
    Hybrid,
    WithObjective,
)
from hardgrad.training import load_tree, save_tree
from public_names import public_classes


@dataclasses.dataclass(frozen=True)
class Case:
    """An estimator, and its number that may be a control."""

    estimator: Any
    number: str | None = None
    chunked: bool = False

    @property
    def name(self):
        return type(self.estimator).__name__ + ("-chunked" if self.chunked else "")


ESTIMATORS = [
    Case(Autodiff()),
    Case(CentralDifference(eps=0.01), "eps"),
    Case(CentralDifference(eps=0.01, chunk_size=4), "eps", chunked=True),
    Case(ForwardDifference(eps=0.01), "eps"),
    Case(ForwardDifference(eps=0.01, chunk_size=3), "eps", chunked=True),
    Case(SPSA(eps=0.01), "eps"),
    Case(SPSA(eps=0.01, directions=5, chunk_size=2), "eps", chunked=True),
    Case(AntitheticNES(sigma=0.01, pairs=5), "sigma"),
    Case(AntitheticNES(sigma=0.01, pairs=5, chunk_size=3), "sigma", chunked=True),
    Case(Hybrid(Autodiff(), AntitheticNES(sigma=0.01, pairs=5), fraction=0.01), "fraction"),
    Case(GuidedES(Autodiff(), sigma=0.01, pairs=5), "sigma"),
    Case(GuidedES(CentralDifference(eps=0.01), sigma=0.01, pairs=5, chunk_size=3), "sigma", chunked=True),
    Case(Every(2, AntitheticNES(sigma=0.01, pairs=5))),
    Case(Blocks({...: AntitheticNES(sigma=0.01, pairs=5)})),
]


def each_of(cases):
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


# Replaces the loss of a step by another on the same batch, which the bare functions here do not have: test_hybrid.py.
ELSEWHERE = {WithObjective}

# Chunks matter where evaluations are counted and trees rebuilt; elsewhere one form of each will do.
whole = [case for case in ESTIMATORS if not case.chunked]
each, each_whole = each_of(ESTIMATORS), each_of(whole)
each_numbered, each_numbered_whole = (each_of([c for c in cases if c.number]) for cases in (ESTIMATORS, whole))
each_step_size = each_of([case for case in whole if case.number in ("eps", "sigma")])
each_zeroth_numbered = each_of([c for c in whole if c.number and c.estimator.contract.order is Order.ZERO])

KEY = jax.random.key(0)
POINT = np.float32([1.0, -2.0, 0.5])


def quadratic(params):
    """A sum of squares over any pytree; its gradient is twice the parameters."""
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(params)]
    parts = [jnp.sum(jnp.square(x)).astype(leaves[-1].dtype) for x in leaves]
    return sum(parts[1:], parts[0]), {"largest": jnp.max(leaves[-1])}


@functools.cache
def program(estimator, loss):
    """One compiled program for an estimator and a loss, shared by the tests."""

    def run(params, controls, key, factor):
        def multiplied(p):
            value, metrics = loss(p)
            return value * factor.astype(value.dtype), metrics

        state = estimator.init(params)
        return estimator.estimate(multiplied, params, state, controls=controls, key=key)[0]

    return jax.jit(run)


def estimate(case_or_estimator, params, *, loss=quadratic, controls=None, key=KEY, factor=1.0):
    estimator = getattr(case_or_estimator, "estimator", case_or_estimator)
    return program(estimator, loss)(params, controls or {}, key, jnp.float32(factor))


def any_pytree(last=np.float32):
    linear, _ = split_parameters(eqx.nn.Linear(2, 1, key=KEY))
    return {
        "a scalar": jnp.float32(0.5),
        "b none": None,
        "c empty": jnp.zeros((0, 2), jnp.float32),
        "d module": linear,
        "e wide": (jnp.full((2, 1), 0.7, last),),
    }


def test_every_public_estimator_is_here():
    assert public_classes(AbstractEstimator) - ELSEWHERE <= {type(case.estimator) for case in ESTIMATORS}


def assert_descends(params, gradient):
    """A step against the gradient lowers a sum of squares: this holds for every draw of a direction."""
    slope = sum(
        float(np.sum(np.float64(p) * np.float64(g)))
        for p, g in zip(jax.tree.leaves(params), jax.tree.leaves(gradient), strict=True)
    )
    assert slope > 0.0


@each
def test_any_pytree(case):
    params = any_pytree()
    found = estimate(case, params)
    assert jax.tree.structure(found.gradient) == jax.tree.structure(params)
    for name, p, g in zip(leaf_names(params), jax.tree.leaves(params), jax.tree.leaves(found.gradient), strict=True):
        assert (g.shape, g.dtype, g.weak_type) == (p.shape, p.dtype, False), name
    assert_descends(params, found.gradient)
    value, metrics = quadratic(params)
    assert found.loss == pytest.approx(float(value), rel=1e-6)
    assert found.metrics["largest"] == metrics["largest"]
    assert all(d.shape == () for d in found.diagnostics.values())


@each_whole
def test_leaves_of_both_precisions(case, x64):
    params = any_pytree(np.float64)
    found = estimate(case, params)
    assert jax.tree.map(lambda g: g.dtype, found.gradient) == jax.tree.map(lambda p: p.dtype, params)
    assert found.loss.dtype == jnp.float64
    assert_descends(params, found.gradient)


@each_of([case for case in whole if not case.estimator.contract.needs_key])  # eager draws compile op by op
def test_jit_changes_nothing_and_plain_floats_will_do(case):
    estimator = case.estimator
    eager, state = estimator.estimate(quadratic, 3.0, estimator.init(3.0), controls={}, key=KEY)
    compiled = estimate(case, 3.0)
    assert jax.tree.structure(state) == jax.tree.structure(estimator.init(3.0))
    assert eager.loss == 9.0
    assert eager.gradient == pytest.approx(float(compiled.gradient), rel=1e-3)


@each_whole
def test_vmap_over_parameters_and_keys(case):
    points = jnp.stack([POINT, 2.0 * POINT])
    keys = jax.random.split(KEY)
    estimator = case.estimator
    state = estimator.init(POINT)
    many = jax.jit(jax.vmap(lambda p, k: estimator.estimate(quadratic, p, state, controls={}, key=k)[0]))(points, keys)
    for i in range(2):
        alone = estimate(case, points[i], key=keys[i])
        np.testing.assert_allclose(many.gradient[i], alone.gradient, rtol=1e-3)
        assert many.loss[i] == pytest.approx(float(alone.loss), rel=1e-6)


@each
def test_the_key_decides_the_numbers_where_the_contract_says_so(case):
    first, again, other = (estimate(case, POINT, key=jax.random.key(seed)).gradient for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert case.estimator.contract.needs_key == bool(np.any(first != other))


@each_whole
def test_a_state_comes_back_from_disk_to_the_same_bits(case, tmp_path):
    state = case.estimator.init(any_pytree())
    save_tree(tmp_path / "saved", state, {})
    back = load_tree(tmp_path / "saved", state)
    assert jax.tree.structure(back) == jax.tree.structure(state)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(state), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        np.testing.assert_array_equal(ours, theirs)


@each_whole
def test_nothing_compiles_twice(case):
    """The trainer's way: plain floats of a method are traced, so another number is the same program."""
    traces = []

    def counted(params):
        traces.append(1)
        return quadratic(params)

    @eqx.filter_jit
    def run(values, static, params, key):
        estimator = eqx.combine(values, static)
        return estimator.estimate(counted, params, estimator.init(params), controls={}, key=key)[0]

    def step(estimator, params, key):
        values, static = eqx.partition(estimator, lambda x: isinstance(x, float))
        return run(jax.tree.map(jnp.asarray, values), static, params, key).gradient

    first = step(case.estimator, jnp.asarray(POINT), KEY)
    count = len(traces)
    step(case.estimator, first, jax.random.key(1))
    if case.number:
        other = dataclasses.replace(case.estimator, **{case.number: 0.5})
        step(other, jnp.asarray(POINT), KEY)
    assert len(traces) == count


@each_numbered_whole
def test_a_number_may_be_weakly_typed_or_a_control(case):
    plain = estimate(case, POINT)
    by_control = dataclasses.replace(case.estimator, **{case.number: control("reach")})
    for value in (0.01, np.float32(0.01)):  # the first is a weakly typed tracer under jit
        found = estimate(by_control, POINT, controls={"reach": value})
        assert found.gradient.dtype == jnp.float32
        np.testing.assert_allclose(found.gradient, plain.gradient, rtol=1e-3)
    misspelt = dataclasses.replace(case.estimator, **{case.number: control("reech")})
    with pytest.raises(UsageError, match=r"Did you mean 'reach'\?"):
        estimate(misspelt, POINT, controls={"reach": 0.25})


@each
def test_the_contract_counts_the_evaluations_made(case):
    contract, calls = case.estimator.contract, []
    expected = contract.evaluations(POINT.size)
    if contract.order is Order.ZERO:

        def host(w):
            calls.append(1)
            return np.sum(w**2)

        box = BlackBox(host, POINT)
        loss = lambda p: (eqx.tree_at(lambda b: b.params, box, p)(), {})
    else:

        def loss(p):
            jax.debug.callback(lambda _: calls.append(1), p)  # with an argument: once for each of a batch
            return quadratic(p)

    found = estimate(case, POINT, loss=loss)
    jax.block_until_ready(found)
    jax.effects_barrier()
    assert len(calls) == expected
    np.testing.assert_allclose(found.gradient, estimate(case, POINT).gradient, rtol=1e-2, atol=1e-3)


@each
def test_a_vectorized_black_box_gets_its_probes_together(case):
    if case.estimator.contract.order is not Order.ZERO:
        box = BlackBox(lambda w: np.sum(w**2), POINT)
        with pytest.raises(NoDerivativeError, match="CentralDifference"):
            estimate(case, POINT, loss=lambda p: (eqx.tree_at(lambda b: b.params, box, p)(), {}))
        return
    shapes = []

    def host(w):
        shapes.append(w.shape)
        return np.sum(w**2, axis=-1)

    box = BlackBox(host, POINT, vectorized=True)
    found = estimate(case, POINT, loss=lambda p: (eqx.tree_at(lambda b: b.params, box, p)(), {}))
    jax.block_until_ready(found)
    total = sum(int(np.prod(s[:-1])) for s in shapes)
    assert total == case.estimator.contract.evaluations(POINT.size)
    assert case.chunked or len(shapes) <= 2
    np.testing.assert_allclose(found.gradient, estimate(case, POINT).gradient, rtol=1e-2, atol=1e-3)


@each
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_not_hidden(case, bad):
    found = estimate(case, POINT, factor=bad)
    assert not np.isfinite(found.loss)
    assert not np.any(np.isfinite(found.gradient))


@each_whole
def test_a_bound_objective_in_microbatches_inside_a_scan(case):
    def objective(model, batch, controls, key):
        return jnp.mean((model["w"] * batch) ** 2), {"mean": jnp.mean(batch)}

    def gradients(microbatches):
        def step(carry, key):
            w, state = carry
            batch = jnp.arange(1.0, 5.0).reshape((microbatches, -1) if microbatches > 1 else (4,))
            loss = Loss(objective, {"w": None}, batch, {}, key, microbatches=microbatches)
            found, state = case.estimator.estimate(loss, {"w": w}, state, controls={}, key=key)
            return (w - jnp.float32(0.01) * found.gradient["w"], state), found

        start = jnp.float32(1.0), case.estimator.init({"w": jnp.float32(1.0)})
        return jax.jit(lambda: jax.lax.scan(step, start, jax.random.split(KEY, 2))[1])()

    whole, cut = gradients(1), gradients(2)
    np.testing.assert_allclose(cut.gradient["w"], whole.gradient["w"], rtol=1e-3)
    np.testing.assert_allclose(cut.loss, whole.loss, rtol=1e-5)


@each_whole
def test_no_parameters_at_all(case):
    found = estimate(case, {"none": None, "empty": jnp.zeros((0,))}, loss=lambda p: (jnp.float32(2.0), {}))
    assert found.loss == 2.0
    assert found.gradient["none"] is None
    assert found.gradient["empty"].shape == (0,)


@each_step_size
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), 0, None, "eps"])
def test_a_step_size_must_be_positive(case, value):
    with pytest.raises(UsageError, match=f"{case.number} must be"):
        dataclasses.replace(case.estimator, **{case.number: value})


@each_numbered
def test_counts_must_be_positive_ints(case):
    for name in (name for name in ("chunk_size", "directions", "pairs") if hasattr(case.estimator, name)):
        for value in (0, -1, True):
            with pytest.raises(UsageError, match=f"{name} must be a positive int"):
                dataclasses.replace(case.estimator, **{name: value})


@each_numbered_whole
@pytest.mark.parametrize("leaf", [jnp.ones(2, jnp.complex64), jnp.arange(2)], ids=["complex", "int"])
def test_order_zero_moves_real_parameters_only(case, leaf):
    with pytest.raises(UsageError, match=r"real floating-point parameters.*shape \(2,\)"):
        case.estimator.estimate(lambda p: (jnp.sum(jnp.abs(p)), {}), leaf, (), controls={}, key=KEY)


@each_zeroth_numbered
def test_a_count_of_errors_is_a_loss_at_order_zero(case):
    wide = dataclasses.replace(case.estimator, **{case.number: 1.0})
    count = lambda p: (jnp.sum(p > jnp.asarray([0.5, 0.0, -0.5], p.dtype)).astype(jnp.uint8), {})
    found = estimate(wide, np.float32([0.0, 0.0, 0.0]), loss=count)
    assert found.loss == 1.0
    assert np.all(np.isfinite(found.gradient))
    assert np.all(np.abs(found.gradient) < 20.0)  # an unsigned difference would wrap
