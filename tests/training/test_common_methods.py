"""What every method keeps. A new one is tested by adding a line to `METHODS`; a public one that is not there fails."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import same

from hardgrad.core import BlackBox, Order, UsageError, control, leaf_names, split_parameters
from hardgrad.estimators import SPSA, AntitheticNES, Autodiff, Blocks, CentralDifference, Every, Hybrid
from hardgrad.training import (
    CMAES,
    SNES,
    AbstractMethod,
    AbstractStrategy,
    EvolutionMethod,
    GradientMethod,
    OpenES,
    SepCMAES,
    by_block,
    clip_by_global_norm,
    controlled,
    load_tree,
    save_tree,
)
from public_names import public_classes

RATE = control("rate")
DESCENT = controlled(optax.sgd, RATE)
BLOCKS = Blocks({"wide": Every(2, AntitheticNES(sigma=0.05, pairs=3)), ...: Autodiff()})


@dataclasses.dataclass(frozen=True)
class Case:
    """A method, and whether it reads the control ``rate``."""

    name: str
    method: AbstractMethod
    reads_rate: bool = False


METHODS = [
    Case("descent", GradientMethod(Autodiff(), DESCENT), reads_rate=True),
    Case("differences", GradientMethod(CentralDifference(eps=1e-2), optax.adam(0.05))),
    Case("perturbations", GradientMethod(SPSA(eps=1e-2), optax.adam(0.05))),
    Case(
        "hybrid",
        GradientMethod(
            Hybrid(Autodiff(), AntitheticNES(sigma=0.05, pairs=3)), optax.chain(clip_by_global_norm(2.0), DESCENT)
        ),
        reads_rate=True,
    ),
    Case("by block", GradientMethod(BLOCKS, by_block(BLOCKS, {"wide": DESCENT, ...: optax.adam(0.05)})), True),
    Case("OpenES", EvolutionMethod(OpenES(8, 0.1, DESCENT)), reads_rate=True),
    Case("SNES", EvolutionMethod(SNES(8, 0.3))),
    Case("CMAES", EvolutionMethod(CMAES(8, 0.3), trained="best")),
    Case("SepCMAES", EvolutionMethod(SepCMAES(8, 0.3), chunk_size=3)),
]
each = pytest.mark.parametrize("case", METHODS, ids=[case.name for case in METHODS])

KEY = jax.random.key(0)


def tree(last: Any = np.float32) -> Any:
    """A scalar, nothing, an empty array, a module, and a block of the dtype asked for."""
    linear, _ = split_parameters(eqx.nn.Linear(2, 1, key=KEY, dtype=jnp.float32))
    return {
        "a scalar": jnp.asarray(0.5, np.float32),
        "none": None,
        "empty": jnp.zeros((0, 2), np.float32),
        "module": linear,
        "wide": jnp.full((2, 1), 0.7, last),
    }


TRACED = []


def quadratic(params):
    """A sum of squares, in the dtype of the last leaf; `TRACED` grows whenever it is traced."""
    TRACED.append(1)
    leaves = [jnp.asarray(x) for x in jax.tree.leaves(params)]
    parts = [jnp.sum(jnp.square(x)).astype(leaves[-1].dtype) for x in leaves]
    return sum(parts[1:], parts[0]), {"largest": jnp.max(leaves[-1])}


@functools.cache
def program(method, loss=quadratic):
    """One compiled step of a method, shared by the tests."""

    def step(params, state, key, rate, factor):
        def multiplied(p):
            value, metrics = loss(p)
            return value * factor.astype(value.dtype), metrics

        return method.update(multiplied, params, state, controls={"rate": rate}, key=key)

    return jax.jit(step)


def start(case, params=None):
    """Parameters and state before the first step, as the trainer has them: no dtype is left to be guessed."""
    if params is None:
        return first(case.method)
    return params, jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), case.method.init(params, key=KEY))


@functools.cache
def first(method):
    return start(Case("", method), tree())


def step(case, params, state, *, key=KEY, rate=0.05, factor=1.0, loss=quadratic):
    return program(case.method, loss)(params, state, key, jnp.float32(rate), jnp.float32(factor))


def kinds(pytree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), pytree)


def test_every_public_method_and_strategy_is_here():
    methods = [case.method for case in METHODS]
    assert public_classes(AbstractMethod) <= {type(method) for method in methods}
    assert public_classes(AbstractStrategy) <= {type(m.strategy) for m in methods if isinstance(m, EvolutionMethod)}


def check_kinds(params, state, new, after, outcome):
    assert jax.tree.structure((new, after)) == jax.tree.structure((params, state))
    assert kinds(new) == kinds(params)
    assert kinds(after) == kinds(state)  # or the second step would compile again
    assert (outcome.loss.shape, outcome.loss.dtype) == ((), jnp.dtype(params["wide"].dtype))
    assert all(said.shape == () for said in outcome.diagnostics.values())
    if outcome.gradient is not None:
        assert kinds(outcome.gradient) == kinds(params)


@each
def test_any_pytree(case):
    params, state = start(case)
    new, after, outcome = step(case, params, state)
    check_kinds(params, state, new, after, outcome)
    value, metrics = quadratic(params)
    assert outcome.loss == pytest.approx(float(value), rel=1e-6)  # of the parameters before the step
    assert outcome.metrics["largest"] == metrics["largest"]
    for name, old, moved in zip(leaf_names(params), jax.tree.leaves(params), jax.tree.leaves(new), strict=True):
        assert case.method.contract.needs_key or old.size == 0 or np.all(old != moved), name


@each
def test_leaves_of_both_precisions(case, x64):
    """Dtypes are decided when a step is traced, so that nothing need be compiled."""
    params, state = start(case, tree(np.float64))
    check_kinds(params, state, *jax.eval_shape(functools.partial(step, case), params, state))


@each
def test_it_trains(case):
    params, state = start(case)
    before = float(quadratic(params)[0])
    for i in range(40):
        params, state, _ = step(case, params, state, key=jax.random.key(i))
    assert float(quadratic(params)[0]) < 0.5 * before


@each
def test_nothing_compiles_twice(case):
    """Another step, another key, another value of a control: one program."""
    params, state, _ = step(case, *start(case))
    before = len(TRACED)
    for i in range(2):
        params, state, _ = step(case, params, state, key=jax.random.key(i), rate=0.02 * (i + 1))
    assert before > 0
    assert len(TRACED) == before


@each
def test_vmap_over_parameters_states_and_keys(case):
    tops = jnp.float32([1.0, -2.0])
    trees = [eqx.tree_at(lambda p: p["a scalar"], tree(), top) for top in tops]
    keys = jax.random.split(KEY)
    begun = [start(case, one) for one in trees]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *begun)
    factor, rate = jnp.float32(1.0), jnp.float32(0.05)
    many = jax.jit(jax.vmap(program(case.method), in_axes=(0, 0, 0, None, None)))(*stacked, keys, rate, factor)
    for i, (params, state) in enumerate(begun):
        alone = step(case, params, state, key=keys[i])
        for ours, theirs in zip(jax.tree.leaves(many[0]), jax.tree.leaves(alone[0]), strict=True):
            np.testing.assert_allclose(ours[i], theirs, rtol=1e-3, atol=1e-5)
        assert many[2].loss[i] == pytest.approx(float(alone[2].loss), rel=1e-6)


@each
def test_the_key_decides_the_step_where_the_contract_says_so(case):
    begun = start(case)
    one, again, other = (step(case, *begun, key=jax.random.key(seed))[0] for seed in (0, 0, 1))
    same(one, again)
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    assert case.method.contract.needs_key == any(bool(np.any(a != b)) for a, b in pairs)


@each
def test_a_state_comes_back_from_disk_to_the_same_bits(case, tmp_path):
    params, state, _ = step(case, *start(case))
    save_tree(tmp_path / "saved", (params, state), {})
    back = load_tree(tmp_path / "saved", start(case))
    same(back, (params, state))
    assert kinds(back) == kinds((params, state))
    same(step(case, *back, key=jax.random.key(1)), step(case, params, state, key=jax.random.key(1)))


@each
def test_the_contract_counts_the_evaluations_made(case):
    called, point = [], {"wide": jnp.float32([1.0, -2.0]), "other": jnp.float32(0.5)}
    if case.method.contract.order is Order.ZERO:

        def host(w):
            called.append(1)
            return np.sum(w["wide"] ** 2) + w["other"] ** 2

        box = BlackBox(host, point)
        loss = lambda p: (eqx.tree_at(lambda b: b.params, box, p)(), {})
    else:

        def loss(p):
            # With arguments: once for each of a batch.
            jax.debug.callback(lambda *_: called.append(1), *jax.tree.leaves(p))
            return quadratic(p)

    jax.block_until_ready(step(case, *start(case, point), loss=loss))
    jax.effects_barrier()
    assert len(called) == case.method.contract.evaluations(3)


@each
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_is_not_hidden(case, bad):
    """The trainer skips the step by it; see `hardgrad.training._step`."""
    outcome = step(case, *start(case), factor=bad)[2]
    assert not np.isfinite(outcome.loss)
    if outcome.gradient is not None:
        assert not any(bool(np.all(np.isfinite(g))) for g in jax.tree.leaves(outcome.gradient) if g.size)


@pytest.mark.parametrize("case", [case for case in METHODS if case.reads_rate], ids=lambda case: case.name)
def test_a_control_that_is_missing_is_named(case):
    with pytest.raises(UsageError, match="no control named 'rate'"):
        jax.eval_shape(lambda p, s: case.method.update(quadratic, p, s, controls={}, key=KEY)[0], *start(case))


@each
def test_it_describes_itself_without_addresses(case):
    """As config.json has it: equal runs have equal configurations."""
    assert " at 0x" not in eqx.tree_pformat(case.method, width=110)
