"""Gradient policies: the table, how one is chosen, and that none ever does nothing in silence."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rational_golden as golden
from jaxtyping import Array

from hardgrad.core import UsageError
from hardgrad.rational import (
    GradientPolicy,
    apply_policy,
    current_policy,
    get_policy,
    gradient_policy,
    policy_registry_snapshot,
    register_policy,
    restore_policy_registry,
    with_policy,
)
from hardgrad.rational import _policies as module

CLAMP, PROJECT, REJECT, PASSTHROUGH = GradientPolicy
X, BOTTOM = jnp.array([1.0, 2.0, 3.0]), jnp.array([False, False, True])
# The gradient of sum(5 x) under each policy, with the last entry ⊥.
EXPECTED = {CLAMP: [1, 1, 0], PROJECT: [5, 5, 0], REJECT: [0, 0, 0], PASSTHROUGH: [5, 5, 5]}


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """Put back after each test."""
    before = policy_registry_snapshot()
    yield
    restore_policy_registry(before)


def loss(x: Array, bottom: Array, policy: GradientPolicy | None = None, layer: str = "scm_rational") -> Array:
    return jnp.sum(5.0 * with_policy(x, bottom, policy, layer=layer))


def jitted_step() -> tuple[Callable[[], Array], list[int]]:
    """A compiled gradient of its own, and a list as long as how often it was traced."""
    traces: list[int] = []

    def traced(x: Array, bottom: Array) -> Array:
        traces.append(1)
        return loss(x, bottom)

    compiled = jax.jit(jax.grad(traced))
    return lambda: compiled(X, BOTTOM), traces


# ---- the table


def test_golden_scalars(x64: None) -> None:
    for case in golden.cases("apply_policy"):
        found = apply_policy(golden.number(case["g"]), case["is_bottom"], GradientPolicy[case["policy"]])
        assert found == golden.number(case["out"]), case


def test_golden_arrays(x64: None) -> None:
    for case in golden.cases("apply_policy_vectorized"):
        gradient = jnp.asarray(golden.array(case["g"], "float64"))
        found = apply_policy(gradient, jnp.asarray(case["bottom_mask"]), GradientPolicy[case["policy"]])
        np.testing.assert_array_equal(found, golden.array(case["out"]))


def test_nan_is_kept_where_the_value_is_not_bottom_and_gone_where_it_is() -> None:
    # The published scalar form makes -1 of a NaN under CLAMP, by the order of its comparisons; its arrays keep NaN.
    gradient = jnp.array([jnp.nan, jnp.nan])
    for policy in (CLAMP, PROJECT):
        np.testing.assert_array_equal(apply_policy(gradient, jnp.array([False, True]), policy), [np.nan, 0.0])
    assert np.isnan(apply_policy(float("nan"), False, CLAMP))


def test_a_mask_of_samples_covers_their_outputs() -> None:
    gradient = jnp.full((2, 2), 3.0)
    np.testing.assert_array_equal(apply_policy(gradient, jnp.array([True, False]), PROJECT), [[0, 0], [3, 3]])
    found = jax.grad(lambda x: jnp.sum(3.0 * with_policy(x, jnp.array([True, False]), PROJECT)))(gradient)
    np.testing.assert_array_equal(found, [[0, 0], [3, 3]])


def test_a_mask_of_another_shape_is_refused() -> None:
    for shape in ((3, 2), (2,), (1, 3)):
        with pytest.raises(UsageError, match="shape"):
            with_policy(jnp.ones(3), jnp.ones(shape, bool), PROJECT)


# ---- which one


def test_golden_resolution() -> None:
    for case in golden.cases("policy_resolution"):
        if "inside" in case["what"]:
            with gradient_policy(PASSTHROUGH):
                found = get_policy(case["layer"])
        else:
            found = get_policy(case.get("layer"))
        assert found is GradientPolicy[case["out"]], case


@pytest.mark.parametrize("policy", GradientPolicy)
def test_explicit_goes_before_context_goes_before_registry(policy: GradientPolicy) -> None:
    other = REJECT if policy is not REJECT else CLAMP
    np.testing.assert_array_equal(jax.grad(loss)(X, BOTTOM, policy), EXPECTED[policy])
    with gradient_policy(other):
        np.testing.assert_array_equal(jax.grad(loss)(X, BOTTOM), EXPECTED[other])
        np.testing.assert_array_equal(jax.grad(loss)(X, BOTTOM, policy), EXPECTED[policy])
    register_policy("mine", policy)
    np.testing.assert_array_equal(jax.grad(lambda x: loss(x, BOTTOM, layer="mine"))(X), EXPECTED[policy])
    np.testing.assert_array_equal(jax.grad(lambda x: loss(x, BOTTOM, layer="unknown"))(X), EXPECTED[CLAMP])


def test_nested_blocks_restore() -> None:
    assert current_policy() is None
    with gradient_policy(REJECT):
        with gradient_policy(CLAMP):
            assert current_policy() is CLAMP
        assert current_policy() is REJECT
        with pytest.raises(KeyError), gradient_policy(PROJECT):
            raise KeyError
        assert current_policy() is REJECT
    assert current_policy() is None


def test_names_are_trimmed_and_lower_cased() -> None:
    register_policy("  SCM_Rational ", REJECT)
    assert get_policy("scm_rational") is get_policy(" SCM_RATIONAL") is REJECT
    with pytest.raises(UsageError, match="non-empty"):
        register_policy("  ", REJECT)
    with pytest.raises(UsageError, match="non-empty"):
        get_policy("")


def test_what_is_no_policy_is_refused() -> None:
    for call in (
        lambda: gradient_policy("clamp").__enter__(),
        lambda: register_policy("layer", "clamp"),
        lambda: apply_policy(1.0, True, "clamp"),
        lambda: with_policy(X, BOTTOM, 1),
        lambda: restore_policy_registry({"layer": "clamp"}),  # type: ignore[dict-item]
    ):
        with pytest.raises(Exception, match="GradientPolicy"):
            call()
    with pytest.raises(UsageError, match=r"GradientPolicy\.CLAMP.*got 'clamp'"):
        gradient_policy("clamp").__enter__()


def test_the_registry_can_be_put_back_and_is_read_only() -> None:
    before = policy_registry_snapshot()
    register_policy("scm_norm", REJECT)
    assert before["scm_norm"] is CLAMP
    assert policy_registry_snapshot()["scm_norm"] is REJECT
    restore_policy_registry(before)
    assert policy_registry_snapshot() == before
    with pytest.raises(TypeError):
        before["scm_norm"] = REJECT  # type: ignore[index]


# ---- compiled functions


def test_a_compiled_step_follows_the_context_and_is_traced_once_a_policy() -> None:
    step, traces = jitted_step()
    for _ in range(3):
        np.testing.assert_array_equal(step(), EXPECTED[PROJECT])
        for policy in (CLAMP, REJECT, PASSTHROUGH):
            with gradient_policy(policy):
                np.testing.assert_array_equal(step(), EXPECTED[policy])
                np.testing.assert_array_equal(step(), EXPECTED[policy])
    assert len(traces) == 4


def test_a_compiled_step_follows_the_registry() -> None:
    step, traces = jitted_step()
    np.testing.assert_array_equal(step(), EXPECTED[PROJECT])
    for _ in range(2):
        before = policy_registry_snapshot()
        register_policy("scm_rational", REJECT)
        np.testing.assert_array_equal(step(), EXPECTED[REJECT])
        restore_policy_registry(before)
        np.testing.assert_array_equal(step(), EXPECTED[PROJECT])
    assert len(traces) == 2


def scanned(x: Array, bottom: Array) -> Array:
    def body(carry: Array, _: None) -> tuple[Array, None]:
        return with_policy(carry, bottom), None

    return jnp.sum(5.0 * jax.lax.scan(body, x, None, length=2)[0])


FORMS: dict[str, Callable[[Array, Array], Array]] = {
    "plain": loss,
    "jit": lambda x, bottom: jax.jit(loss)(x, bottom),
    "filter_jit": lambda x, bottom: eqx.filter_jit(loss)(x, bottom),
    "vmap": lambda x, bottom: jnp.sum(jax.vmap(loss)(x[:, None], bottom[:, None])),
    "scan": scanned,
    "checkpoint": lambda x, bottom: jax.checkpoint(loss)(x, bottom),
    "jit of scan": lambda x, bottom: jax.jit(scanned)(x, bottom),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_transformation_takes_the_context(form: str) -> None:
    gradient = jax.grad(FORMS[form])
    np.testing.assert_array_equal(gradient(X, BOTTOM), EXPECTED[PROJECT])
    with gradient_policy(CLAMP):
        np.testing.assert_array_equal(gradient(X, BOTTOM), EXPECTED[CLAMP])
        np.testing.assert_array_equal(eqx.filter_grad(FORMS[form])(X, BOTTOM), EXPECTED[CLAMP])
    np.testing.assert_array_equal(gradient(X, BOTTOM), EXPECTED[PROJECT])


def test_a_batch_of_gradients() -> None:
    found = jax.vmap(jax.grad(loss))(jnp.stack([X, X]), jnp.stack([BOTTOM, ~BOTTOM]))
    np.testing.assert_array_equal(found, [[5, 5, 0], [0, 0, 5]])


def test_second_derivatives_and_where_there_is_no_policy_forward_mode() -> None:
    hessian = jax.jacfwd(jax.grad(lambda x: jnp.sum(with_policy(x, BOTTOM, PROJECT) ** 3)))(X)
    np.testing.assert_array_equal(hessian, np.diag([6.0, 12.0, 0.0]))
    _, tangent = jax.jvp(lambda x: loss(x, BOTTOM, PASSTHROUGH), (X,), (jnp.ones(3),))
    assert tangent == 15.0


# ---- never in silence


@pytest.mark.parametrize("form", FORMS)
def test_a_block_around_the_backward_pass_alone_raises(form: str) -> None:
    _, pull_back = jax.vjp(lambda x: FORMS[form](x, BOTTOM), X)
    with pytest.raises(UsageError, match="around the call that computes the value"), gradient_policy(CLAMP):
        pull_back(jnp.ones(()))
    assert module._task_context.get() is None
    np.testing.assert_array_equal(pull_back(jnp.ones(()))[0], EXPECTED[PROJECT])
    with gradient_policy(CLAMP):
        _, pull_back = jax.vjp(lambda x: FORMS[form](x, BOTTOM), X)
    np.testing.assert_array_equal(pull_back(jnp.ones(()))[0], EXPECTED[CLAMP])


def test_a_block_around_the_backward_pass_that_asks_for_what_is_done_anyway_is_fine() -> None:
    with gradient_policy(PROJECT):
        _, pull_back = jax.vjp(lambda x: loss(x, BOTTOM), X)
        np.testing.assert_array_equal(pull_back(jnp.ones(()))[0], EXPECTED[PROJECT])
    with gradient_policy(PROJECT):
        np.testing.assert_array_equal(pull_back(jnp.ones(()))[0], EXPECTED[PROJECT])


def test_a_block_that_no_layer_asked_raises_on_leaving(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_consulted", set())  # as in a process that has just started
    with pytest.raises(UsageError, match="did nothing"), gradient_policy(CLAMP):
        pass
    with pytest.raises(UsageError, match="did nothing"), gradient_policy(CLAMP):
        jax.grad(loss)(X, BOTTOM, REJECT)  # an explicit policy decides
    with pytest.raises(UsageError, match="did nothing"), gradient_policy(CLAMP):
        _ = jax.jit(jax.grad(loss))  # built here and called elsewhere: nothing is traced yet
    with pytest.raises(ZeroDivisionError), gradient_policy(CLAMP):
        raise ZeroDivisionError


def test_no_false_alarm_in_a_loop_of_cached_steps() -> None:
    step, _ = jitted_step()
    for _ in range(3):
        with gradient_policy(CLAMP):
            step()


def test_a_thread_starts_without_a_policy() -> None:
    found = []
    with gradient_policy(CLAMP):
        thread = threading.Thread(target=lambda: found.append(current_policy()))
        thread.start()
        thread.join()
        assert current_policy() is CLAMP
    assert found == [None]


def test_asyncio_tasks_do_not_share_a_block_in_silence() -> None:
    async def other() -> None:
        with pytest.raises(UsageError, match="asyncio"):
            get_policy()
        with pytest.raises(UsageError, match="asyncio"), gradient_policy(CLAMP):
            pass

    async def first(second: asyncio.Task[None]) -> None:
        with gradient_policy(CLAMP):
            assert current_policy() is CLAMP
            await second

    async def moved_to_a_thread() -> None:
        with gradient_policy(CLAMP):
            with pytest.raises(UsageError, match="thread"):
                await asyncio.to_thread(get_policy)
            assert current_policy() is CLAMP

    async def both() -> None:
        await first(asyncio.create_task(other()))
        await moved_to_a_thread()

    asyncio.run(both())
    assert current_policy() is None
