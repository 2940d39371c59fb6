"""Evolution strategies behind a method: the papers' formulas, bad members, limits, and runs that resume to the bits."""

from __future__ import annotations

import functools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import line, rows, same, squares

from hardgrad.core import BlackBox, MissingExtraError, Order, UsageError, control
from hardgrad.schedules import LinearRamp, Plan
from hardgrad.training import (
    CMAES,
    SNES,
    EvolutionMethod,
    InMemory,
    OpenES,
    SepCMAES,
    Trainer,
    controlled,
)
from hardgrad.training._strategies import shared_weights
from hardgrad.training.callbacks import Callback

KEY = jax.random.key(0)
TARGET = np.array([1.0, -2.0, 0.5, 3.0])
SCALES = np.array([1.0, 9.0, 0.25, 1.0])
SGD = optax.sgd(0.2)


def bowl(p):
    return jnp.sum(jnp.asarray(SCALES, p.dtype) * (p - jnp.asarray(TARGET, p.dtype)) ** 2), {"first": p[0]}


@functools.cache
def step_of(method, loss=bowl):
    return jax.jit(lambda p, s, k, controls: method.update(loss, p, s, controls=controls, key=k))


def run(method, steps, loss=bowl, start=None, controls=None):
    """Parameters, state and outcome after some steps, and the members sampled in each."""
    params = jnp.zeros(4) if start is None else start
    state, outcome, sampled = method.init(params, key=KEY), None, []
    for i in range(steps):
        key = jax.random.key(i)
        sampled.append(members(method, state, key, controls))
        params, state, outcome = step_of(method, loss)(params, state, key, controls or {})
    return params, state, outcome, sampled


def members(method, state, key, controls=None):
    """The population that the method samples with this key."""
    algorithm, settings = method.strategy.build(state.mean.size)
    with jax.numpy_dtype_promotion("standard"):
        state = method.strategy.prepare(state, controls or {})
        return np.asarray(algorithm.ask(jax.random.split(key)[0], state, settings)[0])


def losses_of(sampled):
    return np.sum(SCALES * (sampled - TARGET) ** 2, axis=1)


# ----------------------------------------------------------------- parity with NumPy, in float64


def test_openai_is_ranks_times_noise(x64):
    """Salimans et al. 2017, with plain descent: mean - rate · Σ rank_i z_i / (P σ)."""
    sigma, rate = 0.3, 0.2
    params, _, _, sampled = run(EvolutionMethod(OpenES(8, sigma, SGD)), 3)
    mean = np.zeros(4)
    for x in sampled:
        ranks = np.argsort(np.argsort(losses_of(x))) / 7 - 0.5
        np.testing.assert_allclose(x[:4] + x[4:], np.tile(2 * mean, (4, 1)), atol=1e-12)  # opposites
        mean = mean - rate * ranks @ ((x - mean) / sigma) / (8 * sigma)
    np.testing.assert_allclose(params, mean, rtol=1e-9)


def test_snes_is_the_papers(x64):
    """Wierstra et al. 2014, algorithm 6, and the utilities and rates of its table 1."""
    count, size = 8, 4
    params, state, _, sampled = run(EvolutionMethod(SNES(count, 0.5)), 3)
    raw = np.maximum(0.0, np.log(count / 2 + 1) - np.log(np.arange(1, count + 1)))
    utilities = raw / raw.sum() - 1 / count
    mean, width = np.zeros(size), np.full(size, 0.5)
    for x in sampled:
        u = utilities[np.argsort(np.argsort(losses_of(x)))]
        z = (x - mean) / width
        mean = mean + width * (u @ z)
        width = width * np.exp((3 + np.log(size)) / (5 * np.sqrt(size)) / 2 * (u @ (z**2 - 1)))
    np.testing.assert_allclose(params, mean, rtol=1e-9)
    np.testing.assert_allclose(state.std, width, rtol=1e-9)


def cma_by_hand(sampled, sigma, *, separable):
    """Hansen 2016, equations 38 to 58; the separable form with the rates of Ros and Hansen 2008."""
    count, n = sampled[0].shape
    mu = count // 2
    raw = np.log((count + 1) / 2) - np.log(np.arange(1, count + 1))
    mu_eff = raw[:mu].sum() ** 2 / (raw[:mu] ** 2).sum()
    mu_minus = raw[mu:].sum() ** 2 / (raw[mu:] ** 2).sum()
    c_c = (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n)
    c_s = (mu_eff + 2) / (n + mu_eff + 5)
    d_s = 1 + 2 * max(0, np.sqrt((mu_eff - 1) / (n + 1)) - 1) + c_s
    c_1 = 2 / ((n + 1.3) ** 2 + mu_eff)
    c_mu = min(1 - c_1 - 1e-8, 2 * (mu_eff - 2 + 1 / mu_eff) / ((n + 2) ** 2 + mu_eff))
    alpha = min(1 + c_1 / c_mu, 1 + 2 * mu_minus / (mu_eff + 2), (1 - c_1 - c_mu) / (n * c_mu))
    negative = 0.0 if separable else alpha / np.abs(raw[raw < 0]).sum()
    weights = np.where(raw >= 0, raw / raw[raw > 0].sum(), negative * raw)
    if separable:
        c_1 = c_1 * (n + 2) / 3
        c_mu = min(c_mu * (n + 2) / 3, 1 - c_1)
    chi = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n**2))
    mean, p_s, p_c, C = np.zeros(n), np.zeros(n), np.zeros(n), np.eye(n)
    for g, x in enumerate(sampled):
        # evosax adds 1e-8 to the diagonal before it factors, and counts generations from 1 in the test for a stall.
        C = C + 1e-8 * np.eye(n)
        values, B = np.linalg.eigh(C)
        root = B @ np.diag(values**-0.5) @ B.T
        y = (x[np.argsort(losses_of(x))] - mean) / sigma
        y_w = weights[:mu] @ y[:mu]
        mean = mean + sigma * y_w
        p_s = (1 - c_s) * p_s + np.sqrt(c_s * (2 - c_s) * mu_eff) * root @ y_w
        norm = np.linalg.norm(p_s)
        h = norm / np.sqrt(1 - (1 - c_s) ** (2 * (g + 2))) < (1.4 + 2 / (n + 1)) * chi
        p_c = (1 - c_c) * p_c + h * np.sqrt(c_c * (2 - c_c) * mu_eff) * y_w
        scaled = np.where(weights >= 0, weights, weights * n / np.sum((y @ root) ** 2, axis=1))
        rank_one, rank_mu = np.outer(p_c, p_c), np.einsum("i,ij,ik->jk", scaled, y, y)
        stall = c_1 * (1 - h) * c_c * (2 - c_c)
        C = (1 + stall - c_1 - c_mu * weights.sum()) * C + c_1 * rank_one + c_mu * rank_mu
        C = np.diag(np.diag(C)) if separable else C
        sigma = sigma * np.exp(c_s / d_s * (norm / chi - 1))
    return mean, sigma, C


@pytest.mark.parametrize("kind", [CMAES, SepCMAES])
def test_covariance_adaptation_is_the_tutorials(kind, x64):
    params, state, _, sampled = run(EvolutionMethod(kind(8, 0.5)), 4)
    mean, sigma, C = cma_by_hand(sampled, 0.5, separable=kind is SepCMAES)
    np.testing.assert_allclose(params, mean, rtol=1e-7)
    assert state.std == pytest.approx(sigma, rel=1e-7)
    np.testing.assert_allclose(state.C, np.diag(C) if kind is SepCMAES else C, rtol=1e-6, atol=1e-9)


def test_equal_members_share_the_weights_of_their_ranks():
    class Settings:
        weights = jnp.float32([0.5, 0.25, 0.125, -0.875])

    shared = shared_weights(None, jnp.float32([3.0, 1.0, 3.0, jnp.inf]), None, Settings)
    np.testing.assert_allclose(shared, [0.1875, 0.5, 0.1875, -0.875])
    level = shared_weights(None, jnp.zeros(4), None, Settings)
    np.testing.assert_allclose(level, 0.0, atol=1e-7)


@pytest.mark.parametrize("strategy", [OpenES(8, 0.3, SGD), SNES(8, 0.3)])
def test_on_a_plateau_the_mean_stays(strategy):
    params, _, outcome, _ = run(EvolutionMethod(strategy), 2, loss=flat)
    np.testing.assert_allclose(params, 0.0, atol=1e-6)
    assert outcome.diagnostics["population_spread"] == 0.0


def flat(p):
    return jnp.float32(2.0) + 0 * p[0], {}


# ----------------------------------------------------------------------- what a step says and does

ALL = [OpenES(8, 0.3, optax.adam(0.2)), SNES(8, 1.0), CMAES(8, 1.0), SepCMAES(8, 1.0)]
names = lambda value: type(value).__name__


@pytest.mark.parametrize("strategy", ALL, ids=names)
def test_each_finds_the_bottom_through_the_trainer(strategy):
    objective = lambda model, batch, controls, key: bowl(model)
    data = InMemory(jnp.zeros((120, 1)), batch_size=1)
    result = Trainer(EvolutionMethod(strategy)).fit(jnp.zeros(4), objective, data, epochs=1)
    loose = isinstance(strategy, OpenES)  # its width stays
    np.testing.assert_allclose(result.model, TARGET, atol=0.4 if loose else 1e-2)
    assert result.evaluations == 120 * (strategy.population + 1)


def test_what_a_step_reports():
    method = EvolutionMethod(SNES(24, 0.5))
    start = jnp.ones(4)
    *_, outcome, (sampled,) = run(method, 1, start=start)
    found = losses_of(sampled)
    assert outcome.loss == pytest.approx(float(bowl(start)[0]))
    assert outcome.metrics["first"] == 1.0
    assert outcome.gradient is None
    expected = {
        "population_best": found.min(),
        "population_mean": found.mean(),
        "population_spread": found.std(),
        "failed": 0.0,
        "best_so_far": found.min(),
        "sigma": 0.5,
    }
    assert outcome.diagnostics.keys() == expected.keys()
    for name, value in expected.items():
        assert outcome.diagnostics[name] == pytest.approx(float(value), rel=1e-5), name


def test_the_best_member_is_kept():
    method = EvolutionMethod(CMAES(8, 1.0), trained="best")
    params, state, outcome, sampled = run(method, 5)
    everyone = np.concatenate(sampled)
    np.testing.assert_allclose(params, everyone[np.argmin(losses_of(everyone))], rtol=1e-6)
    assert outcome.diagnostics["best_so_far"] == pytest.approx(losses_of(everyone).min(), rel=1e-5)
    mean, *_ = run(EvolutionMethod(CMAES(8, 1.0)), 5)
    np.testing.assert_array_equal(mean, state.mean)


def test_evaluations_come_in_chunks_and_are_the_contracts():
    shapes = []

    def host(w):
        shapes.append(w.shape)
        return np.sum((w - TARGET) ** 2, axis=-1)

    box = BlackBox(host, np.zeros(4, np.float32), vectorized=True)
    objective = lambda model, batch, controls, key: (model(), {})
    method = EvolutionMethod(SNES(8, 0.5), chunk_size=3)
    result = Trainer(method).fit(box, objective, jnp.zeros((1, 1)), epochs=2)
    assert max(int(np.prod(s[:-1])) for s in shapes) == 3
    evaluated = sum(int(np.prod(s[:-1])) for s in shapes)
    assert evaluated == result.evaluations == 2 * method.contract.evaluations(4) == 18
    assert method.contract.order is Order.ZERO
    assert method.contract.needs_key
    together = Trainer(EvolutionMethod(SNES(8, 0.5))).fit(box, objective, jnp.zeros((1, 1)), epochs=2)
    np.testing.assert_allclose(result.model.params, together.model.params, rtol=1e-5)


@pytest.mark.parametrize("strategy", [OpenES(8, 0.5, SGD), CMAES(8, 0.5)], ids=names)
def test_a_member_that_failed_counts_as_the_worst(strategy):
    """Minus infinity too: otherwise one overflow would be the best ever. If all failed, nothing moves."""
    method = EvolutionMethod(strategy, trained="best")
    state = method.init(jnp.zeros(4), key=KEY)
    sampled = members(method, state, KEY)

    @jax.jit
    def step(value, cut):
        loss = lambda p: (jnp.where((p[0] <= cut) & jnp.any(p != 0), value, bowl(p)[0]), {})
        return method.update(loss, jnp.zeros(4), state, controls={}, key=KEY)

    cut = float(np.sort(sampled[:, 0])[2])  # three members fail
    good = losses_of(sampled)[sampled[:, 0] > cut]
    _, worst, _ = step(1e9, cut)
    for bad in (np.nan, np.inf, -np.inf):
        _, after, outcome = step(bad, cut)
        np.testing.assert_allclose(after.mean, worst.mean, rtol=1e-6)
        np.testing.assert_allclose(after.std, worst.std, rtol=1e-6)
        assert outcome.diagnostics["failed"] == pytest.approx(3 / 8)
        assert outcome.diagnostics["best_so_far"] == pytest.approx(good.min(), rel=1e-4)
        assert outcome.diagnostics["population_mean"] == pytest.approx(good.mean(), rel=1e-4)
        params, after, outcome = step(bad, 1e9)
        same(after, state)
        np.testing.assert_array_equal(params, 0.0)
        assert outcome.diagnostics["failed"] == 1.0


def test_any_pytree_of_real_parameters(x64):
    params = {"a": jnp.ones((2, 2), jnp.float32), "b": None, "c": (jnp.float64(1.0), jnp.zeros((0, 3)))}
    loss = lambda p: (jnp.sum(p["a"]).astype(jnp.float64) ** 2 + p["c"][0] ** 2, {})
    method = EvolutionMethod(SNES(8, 0.5))
    state = method.init(params, key=KEY)
    new, after, _ = jax.jit(lambda p, s: method.update(loss, p, s, controls={}, key=KEY))(params, state)
    layout = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)
    assert layout(new) == layout(params)
    assert layout(after) == layout(state)
    with pytest.raises(UsageError, match="real floating-point parameters"):
        method.init(jnp.ones(2, jnp.complex64), key=KEY)


def test_many_seeds_under_vmap():
    method = EvolutionMethod(SNES(8, 0.5))
    keys = jax.random.split(KEY, 3)
    state = method.init(jnp.zeros(4), key=KEY)
    many = jax.jit(jax.vmap(lambda k: method.update(bowl, jnp.zeros(4), state, controls={}, key=k)[0]))(keys)
    for i, key in enumerate(keys):
        alone, *_ = step_of(method)(jnp.zeros(4), state, key, {})
        np.testing.assert_allclose(many[i], alone, rtol=1e-5, atol=1e-6)


# -------------------------------------------------------------------------------------- controls


def test_a_schedule_may_set_width_and_rate_of_openai():
    by_control = OpenES(8, control("width"), controlled(optax.sgd, control("rate")))
    controls = {"width": jnp.float32(0.3), "rate": jnp.float32(0.2)}
    found, *_ = run(EvolutionMethod(by_control), 2, controls=controls)
    plain, *_ = run(EvolutionMethod(OpenES(8, 0.3, SGD)), 2)
    np.testing.assert_allclose(found, plain, rtol=1e-5)
    plan = Plan(width=LinearRamp(1.0, 0.25, over=2), rate=0.1)
    trainer = Trainer(EvolutionMethod(by_control), plan=plan)
    result = trainer.fit(line(), squares, rows(), epochs=3)
    assert [r.metrics["sigma"] for r in result.history] == pytest.approx([r.controls["width"] for r in result.history])


@pytest.mark.parametrize("kind", [SNES, CMAES, SepCMAES])
def test_a_width_that_adapts_takes_no_schedule(kind):
    with pytest.raises(UsageError, match=rf"{kind.__name__} adapts its sigma.*OpenES takes a schedule"):
        kind(8, control("width"))


# ---------------------------------------------------------------------------------------- limits


def test_what_is_refused():
    with pytest.raises(UsageError, match="must be even, got 7: take 6 or 8"):
        OpenES(7)
    for kind in (OpenES, SNES, CMAES, SepCMAES):
        with pytest.raises(UsageError, match="sigma must be"):
            kind(8, 0.0)
        with pytest.raises(UsageError, match="population must be a whole number"):
            kind(0)
    with pytest.raises(UsageError, match="trained must be 'mean' or 'best', got 'median'"):
        EvolutionMethod(SNES(), trained="median")
    with pytest.raises(UsageError, match="chunk_size must be a positive int"):
        EvolutionMethod(SNES(), chunk_size=0)


def test_a_full_covariance_of_thousands_is_refused_before_any_memory_is_taken():
    size = 20_000
    message = rf"20,000 x 20,000.*about {8 * size**2 * 4:,} bytes.*SepCMAES or SNES.*memory_limit={8 * size**2 * 4}"
    with pytest.raises(UsageError, match=message):
        EvolutionMethod(CMAES(16)).init(jnp.zeros(size), key=KEY)
    assert SepCMAES(16).build(size)[1].std_init == 0.1


def test_without_evosax_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "evosax.algorithms", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hardgrad\[evolution\]'"):
        EvolutionMethod(SNES(8)).init(jnp.zeros(4), key=KEY)


# ---------------------------------------------------------------------------------------- resume


class Kill(BaseException):
    """Ends a run at once."""


class KillAt(Callback):
    """Kills when an epoch begins."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, run, controls):
        if run.epoch == self.epoch:
            raise Kill


@pytest.mark.parametrize("strategy", [OpenES(8, 0.3, optax.adam(0.1)), CMAES(8, 0.5)], ids=names)
def test_killed_and_resumed_to_the_same_bits(tmp_path, strategy):
    method = EvolutionMethod(strategy, trained="best", chunk_size=4)
    given = {"data": InMemory(rows(), batch_size=5), "epochs": 4, "validation": rows()}
    fit = lambda folder, *callbacks, **more: Trainer(method, callbacks=callbacks).fit(
        line(), squares, **given, run=tmp_path / folder, **more
    )
    whole = fit("whole")
    with pytest.raises(Kill):
        fit("cut", KillAt(2))
    resumed = fit("cut", resume=True)
    same(resumed.model, whole.model)
    saved = [sorted((tmp_path / f / "checkpoints").iterdir())[-1] / "arrays.safetensors" for f in ("whole", "cut")]
    assert saved[0].read_bytes() == saved[1].read_bytes()
    told = [json.loads((tmp_path / folder / "result.json").read_text()) for folder in ("whole", "cut")]
    assert told[0] | {"wall_seconds": 0} == told[1] | {"wall_seconds": 0}


def test_a_frozen_step_costs_one_evaluation_and_holds_the_distribution():
    trainer = Trainer(EvolutionMethod(SNES(8, 0.5)), plan=Plan(freeze=lambda p: p.epoch > 0))
    result = trainer.fit(line(), squares, rows(), epochs=2)
    assert result.evaluations == 9 + 1
    assert "sigma" not in result.history[1].metrics
