"""An estimator for each block: who trains what, when, at what cost."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hardgrad.core import Loss, Order, UsageError
from hardgrad.estimators import SPSA, AntitheticNES, Autodiff, Blocks, CentralDifference, Every, WithObjective
from hardgrad.training import GradientMethod, InMemory, RunFolder, Trainer, by_block
from hardgrad.training.callbacks import Callback

KEY = jax.random.key(0)
PARAMS = {"delay": jnp.array([1.2, 4.4]), "net": {"weight": jnp.ones((2, 2)), "bias": jnp.zeros(2)}}
ES = AntitheticNES(sigma=0.5, pairs=4)


def rounded(p):
    """Smooth in the net, a staircase in the delays, and each depends on the other."""
    delay = jnp.round(p["delay"])
    return jnp.sum((p["net"]["weight"] @ delay + p["net"]["bias"] - 3.0) ** 2), {"delay": jnp.sum(delay)}


def estimate(blocks, params=PARAMS, loss=rounded, state=None):
    run = jax.jit(lambda p, s: blocks.estimate(loss, p, s, controls={}, key=KEY))
    return run(params, blocks.init(params) if state is None else state)


# ------------------------------------------------------------------------------- who trains what


def test_each_block_gets_what_its_estimator_finds_for_it_alone():
    found, _ = estimate(Blocks({"delay": CentralDifference(eps=0.5), ...: Autodiff()}))
    of_net = jax.grad(lambda net: rounded({**PARAMS, "net": net})[0])(PARAMS["net"])
    for name, expected in of_net.items():
        np.testing.assert_allclose(found.gradient["net"][name], expected, rtol=1e-6)
    by_hand = []
    for i in range(2):
        up, down = (rounded({**PARAMS, "delay": PARAMS["delay"].at[i].add(s)})[0] for s in (0.5, -0.5))
        by_hand.append(float(up - down))
    np.testing.assert_allclose(found.gradient["delay"], by_hand, rtol=1e-5)
    np.testing.assert_allclose(found.loss, rounded(PARAMS)[0], rtol=1e-6)
    assert found.metrics["delay"] == 5.0
    assert found.diagnostics["evaluations"] == 1 + 2 * 2 + 1  # of two delays, not of eight parameters


def test_probes_move_their_own_block_only():
    def loss(p):
        moved = jnp.any(p["net"]["weight"] != 1.0)
        return jnp.where(moved, jnp.nan, jnp.sum(p["delay"] ** 2)), {}

    found, _ = estimate(Blocks({"delay": SPSA(eps=0.1), ...: Autodiff()}), loss=loss)
    assert np.all(np.isfinite(found.gradient["delay"]))
    np.testing.assert_array_equal(found.gradient["net"]["weight"], 0.0)
    assert found.diagnostics["rest/blind"] == 1.0
    assert found.diagnostics["delay/blind"] == 0.0


def test_a_bound_objective_and_one_of_the_blocks_own():
    """The other blocks stand still inside the bound loss, microbatches included; so `WithObjective` still finds it."""

    def objective(model, batch, controls, key):
        return jnp.mean((batch @ model["a"] - jnp.round(model["b"])) ** 2), {}

    def other(model, batch, controls, key):
        return jnp.sum(model["b"] * 7.0), {}

    batch = jnp.arange(8.0).reshape(2, 2, 2)
    params = {"a": jnp.array([0.5, -1.0]), "b": jnp.array(0.7)}
    loss = Loss(objective, {"a": None, "b": None}, batch, {}, KEY, microbatches=2)
    blocks = Blocks({"a": Autodiff(), "b": WithObjective(CentralDifference(0.5), other)})
    found, _ = estimate(blocks, params, loss)
    rows = np.arange(8.0).reshape(4, 2)
    error = rows @ [0.5, -1.0] - 1.0
    np.testing.assert_allclose(found.gradient["a"], rows.T @ error / 2, rtol=1e-5)
    np.testing.assert_allclose(found.gradient["b"], 7.0, rtol=1e-5)
    np.testing.assert_allclose(found.loss, np.mean(error**2), rtol=1e-6)


def test_patterns():
    tree = {"layers": [{"weight": 1.0, "bias": 2.0}, {"weight": 3.0}], "delay": 4.0}
    one = Autodiff()

    def split(*keys):
        return [sorted(jax.tree.leaves(part)) for part in Blocks(dict.fromkeys(keys, one)).split(tree)]

    assert split("layers", "delay") == [[1.0, 2.0, 3.0], [4.0]]
    assert split("*.weight", ...) == [[1.0, 3.0], [2.0, 4.0]]
    assert split("layers.0", ("layers.1", "del*")) == [[1.0, 2.0], [3.0, 4.0]]
    assert split(...) == [[1.0, 2.0, 3.0, 4.0]]
    parts = Blocks({"layers.?.bias": one, ...: one}).split(tree)
    assert eqx.combine(*parts) == tree
    assert Blocks({("a", "b.*"): one, ...: one}).names == ("a+b.*", "rest")


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"delay": ES}, r"'net.bias' \(and 1 more\) belongs to no block. Add a pattern"),
        ({"net": ES, "net.*": ES, ...: ES}, r"'net.bias' belongs to two blocks, 'net' and 'net.\*'"),
        ({"delais": ES, ...: ES}, r"no parameter is called 'delais'. Did you mean 'delay'\?"),
        ({"net": ES, "delay": ES, ...: ES}, "every parameter belongs to a named block"),
    ],
)
def test_every_parameter_is_in_one_block(blocks, message):
    with pytest.raises(UsageError, match=message):
        Blocks(blocks).init(PARAMS)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({}, "blocks must be a mapping"),
        ({"": ES}, "a block is named by a pattern"),
        ({(): ES}, "a block is named by a pattern"),
        ({"a": Every(2, ES), ...: Every(3, ES)}, "every 2, 3 steps, so that in some steps nothing"),
    ],
)
def test_blocks_that_cannot_be(blocks, message):
    with pytest.raises(UsageError, match=message):
        Blocks(blocks)


@pytest.mark.parametrize("n", [0, -1, True])
def test_turns_come_every_whole_number_of_steps(n):
    with pytest.raises(UsageError, match="n must be a whole number, at least 1"):
        Every(n, ES)


def test_the_contract_is_the_most_a_step_can_cost():
    blocks = Blocks({"delay": Every(5, ES), "net": CentralDifference(), ...: Autodiff()})
    contract = blocks.contract
    assert (contract.order, contract.needs_key, contract.backward_passes) == (Order.MIXED, True, 1)
    assert contract.evaluations(10) == 9 + (2 * 10 + 1) + 1
    assert Blocks({"a": ES, ...: SPSA()}).contract.order is Order.ZERO


# ----------------------------------------------------------------------------------------- turns


def test_off_its_turn_a_block_costs_nothing_and_stands_still():
    calls = []

    def counted(p):
        jax.debug.callback(lambda _: calls.append(1), p["delay"])
        return rounded(p)

    blocks = Blocks({"delay": Every(3, ES), ...: Autodiff()})
    run = jax.jit(lambda p, s, k: blocks.estimate(counted, p, s, controls={}, key=k))
    state, made, said, turns, moved = blocks.init(PARAMS), [], [], [], []
    for i in range(7):
        before = len(calls)
        found, state = run(PARAMS, state, jax.random.key(i))
        jax.effects_barrier()
        made.append(len(calls) - before)
        said.append(int(found.diagnostics["evaluations"]))
        turns.append(float(found.diagnostics["delay/turn"]))
        moved.append(bool(jnp.any(found.gradient["delay"] != 0)))
        assert jnp.all(found.gradient["net"]["bias"] != 0)
    assert made == said == [10, 1, 1, 10, 1, 1, 10]
    assert turns == [1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
    assert moved == [True, False, False, True, False, False, True]


def test_on_its_own_a_resting_estimator_reports_the_loss_for_one_evaluation():
    estimator = Every(2, ES)
    run = jax.jit(lambda p, s: estimator.estimate(rounded, p, s, controls={}, key=KEY))
    on, state = run(PARAMS, estimator.init(PARAMS))
    off, _ = run(PARAMS, state)
    assert (on.diagnostics["evaluations"], off.diagnostics["evaluations"]) == (9, 1)
    assert on.loss == off.loss == rounded(PARAMS)[0]
    assert on.metrics == off.metrics
    assert jnp.all(on.gradient["net"]["bias"] != 0)
    assert not any(jnp.any(g != 0) for g in jax.tree.leaves(off.gradient))


def objective(model, batch, controls, key):
    loss, metrics = rounded(model)
    return loss + jnp.mean(batch), metrics


RATES = {"delay": optax.adam(0.3), ...: optax.adam(0.02)}


def split_method(optimizer=None):
    blocks = Blocks({"delay": Every(3, ES), ...: Autodiff()})
    return GradientMethod(blocks, by_block(blocks, RATES if optimizer is None else optimizer))


METHOD = split_method()


def test_an_optimiser_by_block_rests_with_its_block():
    """Against a loop by hand in which each block has an Adam of its own, called on its turns only."""
    blocks = METHOD.estimator
    params, state = PARAMS, METHOD.init(PARAMS, key=KEY)
    by_hand = PARAMS
    adam = {"delay": RATES["delay"].init(PARAMS["delay"]), "net": RATES[...].init(PARAMS["net"])}
    step = jax.jit(lambda p, s, k: METHOD.update(rounded, p, s, controls={}, key=k))
    gradient = jax.jit(lambda p, s, k: blocks.estimate(rounded, p, s, controls={}, key=k))
    estimator_state = blocks.init(PARAMS)
    for i in range(7):
        key = jax.random.key(i)
        params, state, _ = step(params, state, key)
        found, estimator_state = gradient(by_hand, estimator_state, key)
        for name in ("delay", "net") if i % 3 == 0 else ("net",):
            rate = RATES["delay" if name == "delay" else ...]
            with jax.numpy_dtype_promotion("standard"):
                moves, adam[name] = rate.update(found.gradient[name], adam[name])
            by_hand = {**by_hand, name: optax.apply_updates(by_hand[name], moves)}
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(by_hand), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    (_, memory), _ = state[1]
    assert memory[0].count == 3
    assert jnp.any(params["delay"] != PARAMS["delay"])


def test_one_optimiser_for_all_blocks_and_line_searches_see_their_block():
    method = split_method(optax.chain(optax.scale(-1.0), optax.scale_by_backtracking_linesearch(20)))
    step = jax.jit(lambda p, s, k: method.update(rounded, p, s, controls={}, key=k))
    params, *_ = step(PARAMS, method.init(PARAMS, key=KEY), KEY)
    assert rounded({**PARAMS, "net": params["net"]})[0] < rounded(PARAMS)[0]


def test_optimisers_for_other_blocks_are_refused():
    blocks = Blocks({"delay": ES, ...: Autodiff()})
    with pytest.raises(UsageError, match=r"are for the blocks \['delays'\], the estimators for \['delay', 'rest'\]"):
        by_block(blocks, {"delays": optax.sgd(0.1)})


class Stop(Callback):
    """Ends the run in an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, run, controls):
        if run.epoch == self.epoch:
            raise KeyboardInterrupt


def test_resumed_in_the_middle_of_a_round_of_turns(tmp_path):
    given = {"data": InMemory(jnp.zeros((8, 1)), batch_size=4), "epochs": 4}
    whole = Trainer(METHOD).fit(PARAMS, objective, **given, run=tmp_path / "whole")
    Trainer(METHOD, callbacks=(Stop(2),)).fit(PARAMS, objective, **given, run=tmp_path / "cut")
    resumed = Trainer(METHOD).fit(PARAMS, objective, **given, run=tmp_path / "cut", resume=True)
    for a, b in zip(jax.tree.leaves(resumed.model), jax.tree.leaves(whole.model), strict=True):
        np.testing.assert_array_equal(a, b)
    records = RunFolder.open(tmp_path / "cut").telemetry()
    shares = [r["metrics"]["delay/turn"] for r in records if r["kind"] == "epoch_end"]
    assert whole.evaluations == resumed.evaluations == 3 * (9 + 1) + 5  # turns, and steps between them
    assert shares == [0.5, 0.5, 0.0, 0.5]  # turns at steps 0, 3 and 6
    assert whole.history[0].metrics["evaluations"] == pytest.approx((10 + 1) / 2)


def test_a_step_that_is_skipped_leaves_estimator_and_optimiser_in_step():
    """A bad batch at the second step: the turn after it comes one step later, for both."""

    def fragile(model, batch, controls, key):
        loss, metrics = rounded(model)
        return loss + jnp.where(jnp.mean(batch) > 0.5, jnp.nan, 0.0), metrics

    data = InMemory(jnp.array([[0.0], [1.0], [0.0], [0.0], [0.0]]), batch_size=1, shuffle=False)
    turns = lambda params, outcome: {"delay": params["delay"]}
    result = Trainer(METHOD, record=turns).fit(PARAMS, fragile, data, epochs=1)
    delays = np.concatenate([np.asarray(PARAMS["delay"])[None], result.history[0].arrays["delay"]])
    moved = np.any(np.diff(delays, axis=0) != 0, axis=1)
    assert moved.tolist() == [True, False, False, False, True]
    assert result.skipped == 1
