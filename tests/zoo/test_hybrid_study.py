"""The study of hybrids: the race is fair, the tasks are what they say, the verdict follows from the figures."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hardgrad import Autodiff, GradientMethod, zoo
from hardgrad.core import Loss, UsageError, control, named_key
from hardgrad.estimators import Blocks, Every, Hybrid
from hardgrad.spiking import SuperSpike, Triangular
from hardgrad.training import RunFolder, controlled
from hardgrad.zoo import hybrid_study as study
from hardgrad.zoo._race import Arm, Race, RaceObjective
from hardgrad.zoo._study_arms import BUDGET, CHOSEN, chosen_rows, entries
from hardgrad.zoo._study_report import compared, study_lines
from hardgrad.zoo._study_tasks import TEST, TRAIN, DelayLine, Delays, Plant, Silent


def _cost(contract):
    return contract.fixed_evaluations + 2 * contract.backward_passes


def _inner(estimator):
    """What has turns in an estimator, if anything."""
    parts = estimator.estimators if isinstance(estimator, Blocks) else [getattr(estimator, "zeroth", None)]
    return next((part for part in parts if isinstance(part, Every)), None)


@pytest.mark.parametrize("task", [Silent, Delays, Plant], ids=lambda task: task.__name__)
def test_every_arm_pays_what_its_contract_says(task):
    for name, entry in entries(task(1, 1)).items():
        arm, estimator = entry.arm, entry.arm.method.estimator
        turns = _inner(estimator)
        whole = _cost(estimator.contract)
        if name == "few":  # has hybrid's steps, not its evaluations
            assert whole < arm.cost == _cost(entries(task(1, 1))["hybrid"].arm.method.estimator.contract)
        elif turns is None:
            assert arm.cost == whole
            assert arm.period == 1
        else:
            assert arm.period == turns.n
            assert arm.cost == turns.n * whole - (turns.n - 1) * _cost(turns.contract)
        assert arm.steps(BUDGET) * arm.cost == BUDGET * arm.period
        chosen, levels = CHOSEN[task.__name__.lower()][name], study.TASKS[task.__name__.lower()][1]
        assert len(chosen) == (3 if name == "hybrid" else 1)
        for row in chosen:
            assert len(row) == len(levels)
            assert all(v in entry.grid[what] for level in row for what, v in zip(entry.grid, level, strict=True))


def _loss(objective, batch, rest):
    return Loss(objective, rest, batch, {}, jax.random.key(0))


def test_a_member_of_a_race_is_trained_as_if_alone():
    def objective(model, level, controls, key):
        target = level + jax.random.normal(key, ())
        return jnp.sum((model - target) ** 2), {}

    method = GradientMethod(Autodiff(), controlled(optax.adam, control("learning_rate")))
    arm = Arm("gradient", method, objective, cost=20)
    race = Race({"only": arm}, budget=60, rounds=2)
    start = {"only": jnp.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])}
    batch = {
        "only": {
            "level": jnp.array([[0.0, 1.0, 2.0]]),
            "seed": jnp.array([[7, 8, 9]]),
            "settings": {"learning_rate": jnp.array([[0.1, 0.2, 0.3]])},
        }
    }

    @jax.jit
    def rounds(params, batch):
        state = race.init(params, key=jax.random.key(1))
        for key in jax.random.split(jax.random.key(2), 2):
            loss = _loss(RaceObjective({"only": objective}), batch, {"only": None})
            params, state, outcome = race.update(loss, params, state, controls={}, key=key)
        return params, outcome

    together, outcome = rounds(start, batch)
    for i in range(3):
        one = slice(i, i + 1)
        alone, _ = rounds({"only": start["only"][one]}, jax.tree.map(lambda x, one=one: x[:, one], batch))
        np.testing.assert_allclose(together["only"][i], alone["only"][0], rtol=1e-6)
    assert set(outcome.metrics) == {"only_loss"}

    # Two rounds of three steps under a cosine over all six, by Optax itself.
    optimizer = optax.adam(optax.cosine_decay_schedule(0.2, 6))
    params, memory = start["only"][1], optimizer.init(start["only"][1])
    for key in jax.random.split(jax.random.key(2), 2):
        for inner in jax.random.split(jax.random.fold_in(key, 8), 3):
            samples = named_key(inner, "samples")
            gradient = jax.grad(lambda p, k=samples: objective(p, 1.0, {}, k)[0])(params)
            with jax.numpy_dtype_promotion("standard"):
                updates, memory = optimizer.update(gradient, memory)
            params = params + updates
    np.testing.assert_allclose(together["only"][1], params, rtol=1e-5)


def test_arms_see_the_same_samples_as_far_as_their_steps_go():
    def objective(model, level, controls, key):
        return jnp.sum(model) * jax.random.normal(key, ()), {}

    method = GradientMethod(Autodiff(), controlled(optax.sgd, control("learning_rate")))
    arms = {"long": Arm("long", method, objective, cost=20), "short": Arm("short", method, objective, cost=60)}
    race = Race(arms, budget=60, rounds=1)
    told = {"level": jnp.zeros((1, 1)), "seed": jnp.zeros((1, 1), int), "settings": {"learning_rate": jnp.ones((1, 1))}}
    loss = _loss(RaceObjective(dict.fromkeys(arms, objective)), dict.fromkeys(arms, told), dict.fromkeys(arms))
    start = dict.fromkeys(arms, jnp.zeros((1, 1)))
    state = race.init(start, key=jax.random.key(0))
    after, _, _ = jax.jit(lambda p, s: race.update(loss, p, s, controls={}, key=jax.random.key(0)))(start, state)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 3)
    slopes = np.array([jax.random.normal(named_key(key, "samples"), ()) for key in keys])
    np.testing.assert_allclose(after["short"][0, 0], -slopes[0], rtol=1e-6)
    np.testing.assert_allclose(after["long"][0, 0], -slopes @ [1.0, 0.75, 0.25], rtol=1e-6)  # a cosine over three


def test_a_step_that_is_not_finite_is_held_by_its_member_alone():
    def objective(model, level, controls, key):
        return jnp.where(level > 0, jnp.nan, jnp.sum(model**2)), {}

    method = GradientMethod(Autodiff(), controlled(optax.sgd, control("learning_rate")))
    race = Race({"only": Arm("gradient", method, objective, cost=20)}, budget=20, rounds=1)
    start = {"only": jnp.ones((2, 1))}
    told = {"level": jnp.array([[0.0, 1.0]]), "seed": jnp.array([[0, 0]])}
    batch = {"only": {**told, "settings": {"learning_rate": jnp.full((1, 2), 0.25)}}}
    loss = _loss(RaceObjective({"only": objective}), batch, {"only": None})
    state = race.init(start, key=jax.random.key(0))
    after, _, _ = jax.jit(lambda p, s: race.update(loss, p, s, controls={}, key=jax.random.key(0)))(start, state)
    np.testing.assert_array_equal(after["only"], [[0.5], [1.0]])


def test_a_budget_that_does_not_come_out_even_is_refused():
    arm = Arm("odd", GradientMethod(Autodiff(), optax.sgd(0.1)), None, cost=7)
    with pytest.raises(UsageError, match="odd pays 7 evaluations at a time, which 60 is no multiple of"):
        arm.steps(60)


@pytest.mark.parametrize("level", [0.5, 1.0])
def test_silent_units_have_no_gradient_through_a_compact_surrogate(level):
    task = Silent(2, 64)
    samples = jax.tree.map(lambda x: jnp.asarray(x[0]), task.pool)

    def gradient(surrogate):
        model = task.build(jax.random.key(0), level, surrogate)
        return eqx.filter_jit(eqx.filter_grad(lambda m: task.loss(m, level, samples)))(model).layers[0].weight

    silent = round(12 * level)
    assert not np.any(gradient(Triangular())[:silent])
    assert np.all(np.any(np.asarray(gradient(SuperSpike())), axis=1))
    if level < 1:
        assert np.any(gradient(Triangular())[silent:])


def test_samples_are_of_their_class_and_parts_differ():
    for task in (Silent(1, 1), Delays(1, 1)):
        spikes, labels = task.draw(TRAIN, 300)
        assert spikes.shape == (300, task.steps, task.channels)
        assert set(np.unique(spikes)) == {0, 1}
        assert set(labels) == {0, 1, 2}
        assert not np.array_equal(spikes, task.draw(TEST, 300)[0])
    spikes, labels = Silent(1, 1).draw(TEST, 2000)
    counts = spikes.sum(axis=1).reshape(2000, 3, 4).sum(axis=2)
    assert np.mean(counts.argmax(axis=1) == labels) > 0.99


def test_a_delay_line_is_a_loop_over_synapses():
    rng = np.random.default_rng(0)
    weight, raw = rng.normal(size=(2, 3)).astype("float32"), rng.uniform(-0.1, 0.7, (2, 3)).astype("float32")
    x = rng.normal(size=(4, 9, 3)).astype("float32")
    found = DelayLine(jnp.asarray(weight), jnp.asarray(raw), 5, False)(jnp.asarray(x))
    expected = np.zeros((4, 9, 2))
    for out in range(2):
        for into in range(3):
            delay = int(np.round(np.clip(10 * raw[out, into], 0, 5)))
            for time in range(delay, 9):
                expected[:, time, out] += weight[out, into] * x[:, time - delay, into]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_only_an_interpolated_delay_has_a_gradient_and_it_is_that_of_the_line_between_steps():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 9, 1)), jnp.float32)
    total = lambda raw, interpolated: jnp.sum(
        DelayLine(jnp.ones((1, 1)), raw, 5, interpolated)(x)[0, :, 0] * x[0, :, 0]
    )
    raw = jnp.array([[0.23]])
    assert jax.grad(total)(raw, False) == 0.0
    ends = [total(jnp.array([[delay]]), False) for delay in (0.2, 0.3)]
    np.testing.assert_allclose(jax.grad(total)(raw, True), (ends[1] - ends[0]) / 0.1, rtol=1e-4)
    np.testing.assert_allclose(total(raw, True), total(raw, False), rtol=1e-6)


def test_the_modelled_plant_is_the_true_one_at_level_0():
    task = Plant(3, 8)
    model, key = task.build(jax.random.key(0), 0.0), jax.random.key(1)
    both = jax.jit(lambda level: (task(model, level, {}, key)[0], task.modelled(model, level, {}, key)[0]))
    true, modelled = both(0.0)
    assert true == modelled
    windy, modelled_again = both(1.0)
    assert modelled_again == modelled
    assert windy != true


def test_the_told_plant_is_the_true_one_with_a_gradient_through_its_dead_zone():
    task = Plant(3, 8)
    model, key = task.build(jax.random.key(0), 0.0), jax.random.key(1)
    value = lambda objective: eqx.filter_jit(eqx.filter_value_and_grad(lambda m: objective(m, 50.0, {}, key)[0]))(model)
    (true, stuck), (told, moved) = value(task), value(task.told)
    np.testing.assert_allclose(told, true, rtol=1e-6)
    assert not np.any(stuck.layers[2].weight)
    assert np.any(moved.layers[2].bias)


def test_the_comparison_is_a_paired_exact_test():
    ours, theirs = np.linspace(0.1, 0.2, 12), np.linspace(0.3, 0.5, 12)
    mean, p = compared(ours, theirs)
    np.testing.assert_allclose(mean, -0.25)
    np.testing.assert_allclose(p, 2 / 2**12)
    assert compared(ours, ours) == (0.0, 1.0)
    assert np.isnan(compared(ours, theirs * np.nan)[1])


def test_the_verdict_follows_from_the_figures():
    rng = np.random.default_rng(0)
    base = 1.0 + 0.01 * rng.normal(size=(2, 12))
    shifted = base + np.array([[0.2], [-0.2]])
    table = {
        "surrogate": {"arm": "surrogate", "loss": base.tolist()},
        "other": {"arm": "es", "loss": shifted.tolist()},
    }
    kept, lines = study_lines(table, {"task": "silent", "levels": [0.0, 1.0], "seeds": list(range(12))}, 600)
    assert "At 0 the surrogate is best." in lines
    assert any(line.startswith("At 1 best: other; 0.2 below the surrogate") for line in lines)
    row = next(line for line in lines if line.startswith("other"))
    assert row.count("-") == 1
    assert row.endswith("+")
    assert [one["p"] for one in kept["against_surrogate"]["other"]] == [2 / 2**12] * 2
    assert all(len(line) <= 80 for line in lines)


def test_tuning_tries_the_grid_on_seeds_the_study_does_not_use(tmp_path):
    config = study.Config(**{**study.RECIPE.smoke, "arms": ("surrogate",), "tune": True, "members": 1})
    assert not set(config.member_seeds) & set(study.Config().member_seeds)
    done = zoo.launch("hybrid-study", config, run=tmp_path / "run")
    found = done.result["rows"]
    for level, best in enumerate(done.result["best"]["surrogate"]):
        label = min(found, key=lambda label: np.mean(found[label]["loss"][level]))
        assert found[label]["settings"]["learning_rate"][level] == best["learning_rate"]
    assert len(done.result["rows"]) == 3
    assert study.figures(RunFolder(tmp_path / "run")) == {}


def test_every_fraction_of_the_hybrid_is_in_the_table():
    entry = entries(Silent(1, 1))["hybrid"]
    assert isinstance(entry.arm.method.estimator, Hybrid)
    rows = chosen_rows("silent", "hybrid", entry)
    assert [row.settings["fraction"] for row in rows] == [(0.1,) * 4, (0.3,) * 4, (1.0,) * 4]


def test_an_arm_there_is_not_is_named():
    with pytest.raises(UsageError, match="'tails' is no arm of the task delays"):
        study.Config(task="delays", arms=("surrogate", "tails"))
    with pytest.raises(UsageError, match="must have the surrogate among them"):
        study.Config(arms=("hybrid",))
