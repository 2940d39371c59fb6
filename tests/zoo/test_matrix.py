"""The matrix: what a step costs is what it calls, budgets are equal, and a matrix that was killed goes on."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardgrad.core import Loss, UsageError, dumps
from hardgrad.spiking import LIF, FeedbackLinear, Network
from hardgrad.training import EvolutionMethod
from hardgrad.zoo import _timing
from hardgrad.zoo._matrix import SMOKE, Setup, heat_map, lines, run_matrix
from hardgrad.zoo._matrix import _run as running
from hardgrad.zoo._matrix._applications import problem
from hardgrad.zoo._matrix._cell import Cell, Shared, spans
from hardgrad.zoo._matrix._chains import DEPTH, box, chain
from hardgrad.zoo._matrix._figure import as_svg
from hardgrad.zoo._matrix._methods import ENTRIES, affordable
from hardgrad.zoo._matrix._names import APPLICATIONS, METHODS
from hardgrad.zoo._matrix._problem import Problem, flat, flattened, unflattened
from hardgrad.zoo._matrix._table import shown
from hardgrad.zoo._matrix._transfer import with_feedback


def clock(train):
    """A clock that every machine agrees on."""
    return 1e-3


def line(scale=1.0):
    """A problem of two parameters, y = w·x; each evaluation of its objective is counted."""
    x = np.linspace(-1, 1, 16, dtype=np.float32)[:, None] * np.ones(2, np.float32)

    def objective(model, rows, controls, key):
        inputs, targets = rows
        loss = jnp.mean(jnp.square(scale * (inputs @ model["w"]) - targets))
        jax.debug.callback(lambda _: calls.append(1), jax.lax.stop_gradient(loss))  # once for each value under vmap
        return loss, {}

    calls: list[int] = []
    rows = x, (x @ np.array([1.0, -0.5])).astype(np.float32)
    return calls, Problem(
        name="line",
        title="line",
        about="two numbers",
        unit="mean squared error",
        build=lambda key: {"w": jax.random.normal(key, (2,))},
        objective=objective,
        score=lambda model, rows: jnp.mean(jnp.square(rows[0] @ model["w"] - rows[1])),
        train=rows,
        validation=rows,
        test=rows,
        batch_size=8,
        trivial=0.1,
        trivial_is="0",
    )


def test_names_and_tables_agree():
    assert tuple(ENTRIES) == METHODS
    assert {len(entry.rows) for entry in ENTRIES.values()} == {6}
    assert all(set(entry.grid) <= {"learning_rate", "sigma"} for entry in ENTRIES.values())


@pytest.mark.parametrize("name", [name for name in METHODS if ENTRIES[name].prepare.__name__ == "<lambda>"])
def test_a_step_calls_the_objective_as_often_as_it_is_charged_for(name):
    calls, line_ = line()
    entry = ENTRIES[name]
    vector, rest = flattened(line_.build(jax.random.key(0)))
    method, params = entry.make(entry.rows[0]), (vector, None)
    charged = entry.costs(2)
    backward = 2 * method.contract.backward_passes
    settings = {what: jnp.float32(value) for what, value in entry.rows[0].items()}

    @jax.jit
    def step(params, state, key):
        loss = Loss(flat(line_), (None, rest), line_.train, settings, key)
        return method.update(loss, params, state, controls=settings, key=key)[:2]

    state = method.init(params, key=jax.random.key(1))
    for turn, cost in enumerate(charged + charged[:1]):
        calls.clear()
        params, state = jax.block_until_ready(step(params, state, jax.random.key(turn)))
        jax.effects_barrier()
        assert len(calls) + backward == cost, (turn, charged)


def test_budgets_are_spent_to_the_last_step_that_can_be_paid():
    assert affordable((3,), 6000) == (2000, 6000)
    assert affordable((17,), 50) == (2, 34)
    assert affordable((257,), 256) == (0, 0)
    # One step of 20 and four of 3: 32 a turn.
    assert affordable((20, 3, 3, 3, 3), 64) == (10, 64)
    assert affordable((20, 3, 3, 3, 3), 62) == (9, 61)
    assert affordable((20, 3, 3, 3, 3), 51) == (5, 32)
    for entry in ENTRIES.values():
        costs = entry.costs(40)
        steps, spent = affordable(costs, 6000)
        assert 0 <= 6000 - spent < costs[steps % len(costs)]
        assert sum((costs * steps)[:steps]) == spent


def test_tuning_seeds_are_never_reported():
    setup = Setup()
    assert not set(setup.seeds) & set(setup.chosen_on)
    assert min(setup.chosen_on) > 9_999
    with pytest.raises(UsageError, match="seeds from 10000 on are those that settings are chosen on"):
        Setup(seeds=(0, 10_000))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"methods": ("autodif",)}, "Did you mean 'autodiff'"),
        ({"applications": ("songs",)}, "Did you mean 'song'"),
        ({"methods": ()}, "methods is empty"),
        ({"seeds": (1, 1)}, "'1' stands twice in seeds"),
        ({"budget": 0}, "budget"),
    ],
)
def test_a_setup_that_makes_no_sense_is_refused(given, said):
    with pytest.raises(UsageError, match=said):
        Setup(**given)


def test_a_member_is_trained_as_if_alone_and_scored_along_the_way():
    _, line_ = line()
    entry = ENTRIES["autodiff"]
    rows = [{"learning_rate": 0.1}, {"learning_rate": 0.3}, {"learning_rate": 0.1}]
    together = Cell(entry, line_, width=2, shared=Shared(optimise=False))([1, 2, 3], rows, 40)
    alone = Cell(entry, line_, width=1, shared=Shared(optimise=False))([2], rows[1:2], 40)
    assert together.scores.shape == (3, 11)
    np.testing.assert_allclose(together.scores[1], alone.scores[0], rtol=1e-4)
    start = float(line_.score(line_.build(jax.random.key(0)), line_.test))
    assert start != together.scores[0, 0]
    assert together.final.max() < 0.01
    assert together.refused.tolist() == [0, 0, 0]
    assert spans(7)[-1, 1] == 7
    assert (spans(7)[1:, 0] == spans(7)[:-1, 1]).all()


def test_tuning_looks_at_other_rows():
    _, line_ = line()
    other = line_.test[0], line_.test[1] + 10.0
    moved = dataclasses.replace(line_, validation=other)
    cell = Cell(ENTRIES["autodiff"], moved, width=1, shared=Shared(optimise=False))
    assert cell([0], [{"learning_rate": 0.1}], 3, judge="validation").final[0] > 50
    assert cell([0], [{"learning_rate": 0.1}], 3).final[0] < 10


def test_the_black_box_is_the_chain():
    one, other = chain(), box()
    key, rows = jax.random.key(3), jax.tree.map(lambda x: x[:8], one.train)
    controls = {"depth": DEPTH}
    ours = one.objective(one.build(key), rows, controls, key)
    theirs = other.objective(other.build(key), rows, controls, key)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5)
    np.testing.assert_allclose(one.score(one.build(key), one.test), other.score(other.build(key), one.test), rtol=1e-5)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_a_trivial_answer_is_beaten_by_no_start_by_much_and_vectors_are_models(name):
    found = problem(name)
    assert 10 <= found.parameters <= 1000
    model = found.build(jax.random.key(0))
    vector, rest = flattened(model)
    assert vector.size == found.parameters
    again = unflattened(found, vector, rest)
    assert all(map(np.array_equal, jax.tree.leaves(model), jax.tree.leaves(again)))


@pytest.mark.parametrize(
    ("method", "application", "said"),
    [
        ("e-prop", "control", "EProp stands in the place of a SpikingObjective"),
        ("synthetic", "chain", "here the objective is HypercausalObjective"),
        ("feedback", "box", "in a Network; this is a BlackBox"),
        ("quantise", "chain", "there is nothing to quantise in a Chain"),
        ("quantise", "rational", "a ProjectiveMLP reads the weights of its layers"),
        ("convert", "regression", "a function 'tanh', cannot be converted"),
        ("convert", "control", "layer 1, LIF, cannot be converted"),
    ],
)
def test_what_cannot_apply_is_refused_by_the_code_that_would_have_to(method, application, said):
    with pytest.raises(UsageError, match=said):
        ENTRIES[method].prepare(problem(application))


def test_feedback_alignment_keeps_the_weights_and_changes_what_travels_back():
    keys = jax.random.split(jax.random.key(0), 3)
    network = Network([eqx.nn.Linear(2, 3, key=keys[0]), LIF(3, decay=0.9), eqx.nn.Linear(3, 1, key=keys[1])])
    aligned = with_feedback(network, keys[2])
    assert isinstance(aligned.layers[2], FeedbackLinear)
    assert not isinstance(aligned.layers[0], FeedbackLinear)
    x = jnp.ones((4, 6, 2))
    np.testing.assert_array_equal(network(x), aligned(x))
    with pytest.raises(UsageError, match="needs two dense layers"):
        with_feedback(Network([eqx.nn.Linear(2, 3, key=keys[0]), LIF(3, decay=0.9)]), keys[2])


def _fitted(monkeypatch, problems):
    monkeypatch.setattr(running, "problem", lambda name: problems[name])


TWO = dataclasses.replace(SMOKE, applications=("regression", "box"), methods=("autodiff", "spsa"), budget=60)


def test_a_matrix_says_what_diverges_and_what_cannot_apply_and_goes_on_after_a_kill(monkeypatch, tmp_path):
    _, wild = line(scale=1e30)  # the loss overflows: no step is finite
    monkeypatch.setattr(running, "DIVERGED", 1e-3)  # and a start counts as lost
    _fitted(monkeypatch, {"regression": dataclasses.replace(wild, name="regression"), "box": box()})
    whole = run_matrix(TWO, tmp_path / "whole", measure=clock)
    wild_cell = whole["columns"]["regression"]["cells"]["autodiff"]
    assert wild_cell["status"] == "diverged"
    assert wild_cell["reason"].startswith("2 of 2 seeds end above 0.001 times the trivial score or not finite")
    assert "100.0% of the steps were not finite and not taken" in wild_cell["reason"]
    refused = whole["columns"]["box"]["cells"]["autodiff"]
    assert refused["status"] == "cannot apply"
    assert "HostChain' has no derivative: it runs outside JAX" in refused["reason"]
    spsa = whole["columns"]["box"]["cells"]["spsa"]
    assert (spsa["steps"], spsa["evaluations"]) == (3, 51)
    assert np.shape(spsa["tuning"]["scores"]) == (2, 1)
    assert np.shape(spsa["curve"]) == (11, 2)
    assert whole["columns"]["box"]["seconds"] == pytest.approx(3e-3)
    assert spsa["equal_seconds"]["steps"] == 3

    # Killed while it measures the third cell: two are kept, nothing is half written.
    seen = []

    def killed(train):
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return clock(train)

    with pytest.raises(KeyboardInterrupt):
        run_matrix(TWO, tmp_path / "killed", measure=killed)
    kept = sorted(path.name for path in (tmp_path / "killed").rglob("*.json"))
    assert kept == ["autodiff.json", "setup.json"]
    again = run_matrix(TWO, tmp_path / "killed", measure=clock)
    assert dumps(again) == dumps(whole)
    files = [(tmp_path / name / "matrix.json").read_bytes() for name in ("whole", "killed")]
    assert files[0] == files[1]

    # The text, the picture, and a folder that is another matrix's.
    text = lines(whole)
    assert max(map(len, text)) <= 80
    assert any("diverges [" in row for row in text)
    assert any(row.startswith("[1] ") for row in text)
    marks = shown(whole["columns"]["box"], seconds=False)
    assert not any(mark.best for mark in marks.values())
    monkeypatch.undo()
    fine_box = run_matrix(dataclasses.replace(TWO, applications=("box",)), tmp_path / "box", measure=clock)
    assert shown(fine_box["columns"]["box"], seconds=True)["spsa"].best
    svg = as_svg(heat_map(whole))
    assert b"AntitheticNES" not in svg
    assert b"SPSA" in svg
    assert svg == as_svg(heat_map(whole))
    with pytest.raises(UsageError, match="holds a matrix of other budget"):
        run_matrix(dataclasses.replace(TWO, budget=61), tmp_path / "whole", measure=clock)
    (tmp_path / "killed" / "cells" / "box" / "spsa.json").write_text("{")
    with pytest.raises(UsageError, match=r"spsa.json is damaged"):
        run_matrix(TWO, tmp_path / "killed", measure=clock)


def test_time_is_that_of_a_step(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(_timing.time, "perf_counter", lambda: now[0])

    def train(steps):
        now[0] += 1e-4 + 2e-3 * steps

    assert _timing.seconds_a_step(train) == pytest.approx(2e-3, rel=0.01)


def test_the_committed_page_is_that_of_the_committed_figures():
    tool = Path(__file__).parents[2] / "tools" / "matrix_tables.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_evolution_strategy_is_a_row():
    from hardgrad import training

    names = {name for name in vars(training) if isinstance(getattr(training, name), type)}
    strategies = {
        name
        for name in names
        if issubclass(getattr(training, name), training.AbstractStrategy) and name != "AbstractStrategy"
    }
    rows = [entry.make({"sigma": 0.1, "learning_rate": 0.1}) for entry in ENTRIES.values()]
    assert strategies == {type(row.strategy).__name__ for row in rows if isinstance(row, EvolutionMethod)}
    assert json.loads(dumps(dataclasses.asdict(SMOKE)))["budget"] == 300
