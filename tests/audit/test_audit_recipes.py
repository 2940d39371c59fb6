"""Recipes and models of one's own, from the command line."""

from __future__ import annotations

import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hardgrad.cli import main
from hardgrad.core import Loss, UsageError, split_parameters
from hardgrad.estimators import Autodiff, Hybrid
from hardgrad.schedules import Plan, Static
from hardgrad.training import EnsembleObjective, GradientMethod, InMemory, RunFolder, Trainer
from hardgrad.zoo import find
from hardgrad.zoo._arms import ArmsObjective
from hardgrad.zoo._audit import Point, recipe_case
from hardgrad.zoo._recipe import Conclusion, Experiment

CASE = """
import jax.numpy as jnp
import hardgrad as hg
from hardgrad.audit import AuditCase

def objective(model, batch, controls, key):
    return jnp.mean((batch @ model["w"] - 1.0) ** 2), {}

def case():
    data = jnp.linspace(-1.0, 1.0, 96).reshape(32, 3)
    return AuditCase({"w": jnp.ones(3)}, objective, data, batch_size=8)

def wrong():
    return 3
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("COLUMNS", "80")


def case_of(name, settings, **point):
    recipe = find(name).load()
    return recipe_case(name, recipe.experiment(recipe.config(**settings)), Point(**point))


def errors(model, batch, controls, key):
    x, y = batch
    return jnp.mean(controls["gain"] * (jnp.tanh(x @ model["w"]) - y) ** 2), {}


def side_by_side():
    """Two arms of three members each, with data of their own."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    one = EnsembleObjective(errors, own_data=True)
    return Experiment(
        trainer=Trainer(GradientMethod(Autodiff(), optax.sgd(0.1)), plan=Plan(gain=2.0, horizon=Static(16))),
        model={name: {"w": jnp.asarray(draw(3, 4))} for name in ("first", "second")},
        objective=ArmsObjective({"first": one, "second": one}),
        data=InMemory((draw(16, 3, 4), draw(16, 3)), batch_size=8),
        epochs=4,
        conclude=lambda result: Conclusion({}, ()),
    )


def test_a_part_s_gradient_is_its_share_of_the_whole():
    experiment = side_by_side()
    case = recipe_case("both", experiment, Point(arm="second", member=1))

    def gradient(objective, model, arrays):
        params, rest = split_parameters(model)
        loss = Loss(objective, rest, arrays, {"gain": jnp.float32(2.0)}, jax.random.key(0))
        return jax.grad(lambda p: loss(p)[0])(params)

    whole = gradient(experiment.objective, experiment.model, experiment.data.arrays)
    part = gradient(case.objective, case.model, case.data.arrays)
    np.testing.assert_allclose(part["w"], 3.0 * whole["second"]["w"][1], rtol=1e-4)
    assert case.title == "both, arm second, member 1 of 3"
    assert case.growth == ("horizon", [2, 4, 8, 16])
    assert (case.controls["horizon"], float(case.controls["gain"])) == (16, 2.0)
    only = recipe_case("both", experiment, Point(only="w"))
    assert only.trainable == {"w": True}


def test_what_is_audited_of_each_kind_of_recipe():
    race = case_of("hybrid-study", dict(find("hybrid-study").load().smoke), arm="hybrid", member=3)
    assert isinstance(race.estimator, Hybrid)
    assert {"learning_rate", "fraction", "sigma"} <= race.controls.keys()
    assert "member 3" in race.title
    evolution = case_of("control-lif-es", dict(find("control-lif-es").load().smoke))
    assert isinstance(evolution.estimator, Autodiff)
    assert any("evolution (OpenES)" in note for note in evolution.notes)
    depth = case_of("hypercausal-depth", {}, epoch=8, gradient=("nes", 0.1), growth=("depth", [1, 2]))
    assert (depth.estimator.sigma, int(depth.controls["depth"])) == (0.1, 2)
    assert depth.growth == ("depth", [1, 2])
    assert case_of("hypercausal-depth", {}).growth == ("depth", [1, 2, 3, 6, 12])


@pytest.mark.parametrize(
    ("point", "said"),
    [
        ({"arm": "secund"}, "there is no arm 'secund'. Did you mean 'second'?"),
        ({"member": 3}, "member must be from 0 to 2, got 3."),
        ({"epoch": 4}, "epoch 4 is none of the recipe's 4"),
        ({"only": "xyz"}, "no parameter is called 'xyz'"),
    ],
)
def test_points_that_there_are_not(point, said):
    with pytest.raises(UsageError) as caught:
        recipe_case("both", side_by_side(), Point(**point))
    assert said in str(caught.value)


def test_a_recipe_at_its_best_with_page_and_figures(capsys):
    assert main(["run", "hypercausal-depth", "--epochs", "3", "--out", "r", "--quiet"]) == 0
    capsys.readouterr()
    given = ["--at", "r", "--directions", "32", "--html", "a.html", "--json", "a.json", "--growth", "depth=1,2,4"]
    assert main(["audit", "hypercausal-depth", *given]) == 0
    said = capsys.readouterr()
    assert max(map(len, said.out.splitlines())) <= 80
    assert "+ Trust it: at radius" in said.out
    assert f"epoch {RunFolder.open('r').read_json(pathlib.Path('r/result.json'))['best']['epoch']}" in said.out
    found = json.loads(pathlib.Path("a.json").read_text())
    assert [one["about"] for one in found["verdicts"]] == ["trust", "growth"]
    assert found["growth"]["values"] == [1, 2, 4]
    page = pathlib.Path("a.html").read_text()
    assert page.count("<img ") == 2  # agreement, growth
    assert "<script" not in page
    assert "Trust it: at radius" in page
    assert main(["audit", "rational-pole", "--at", "r"]) == 2
    assert "is a run of 'hypercausal-depth': hardgrad audit hypercausal-depth --at r" in capsys.readouterr().err


def test_a_model_of_one_s_own(capsys):
    pathlib.Path("audited_here.py").write_text(CASE)
    given = ["--directions", "32", "--only", "w", "--html", "a.html"]
    assert main(["audit", "--model", "audited_here:case", *given]) == 0
    said = capsys.readouterr().out
    assert said.startswith("audited_here:case: Autodiff (order 1), 3 parameters")
    assert "+ Trust it" in said
    assert "rows: 8 examined" in said
    assert pathlib.Path("a.html").read_text().count("<img ") == 3  # agreement, noise, rows
    for where, message in {
        "audited_here": "--model takes MODULE:FUNCTION",
        "audited_here:case()": "--model takes MODULE:FUNCTION",
        "audited_hear:case": "there is no module 'audited_hear'",
        "audited_here:cases": "has no function 'cases'. Did you mean 'case'?",
        "audited_here:wrong": "must return a hardgrad.audit.AuditCase, got int.",
    }.items():
        assert main(["audit", "--model", where]) == 2
        assert message in capsys.readouterr().err


STEP = """
import jax, jax.numpy as jnp
from hardgrad.audit import AuditCase

def objective(w, batch, controls, key):
    return jnp.mean((batch @ w > 0.5).astype(jnp.float32)), {}

def case():
    x = jax.random.normal(jax.random.key(0), (8, 3))
    return AuditCase(jnp.ones(3), objective, x, growth=("depth", [1, 2]))
"""


def test_the_page_of_a_gradient_that_is_zero(capsys):
    """What there is nothing to put beside is said, not drawn as an empty panel; and nobody is warned of a legend."""
    pathlib.Path("steps_here.py").write_text(STEP)
    assert main(["audit", "--model", "steps_here:case", "--directions", "32", "--html", "a.html"]) == 0
    assert "the gradient is exactly 0 everywhere" in capsys.readouterr().out
    page = pathlib.Path("a.html").read_text()
    assert page.count("<img ") == 1  # the loss's own slope; no growth and no rows of zeros
    assert "The gradient in use is 0 or not finite: it has no direction." in page
