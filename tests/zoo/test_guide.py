"""The guide: its data, the page made from it, the registry and the methods say the same."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import itertools
import re
from pathlib import Path

import pytest

import hardgrad as hg
from hardgrad.core import Order
from hardgrad.zoo import entries
from hardgrad.zoo._advice import OTHER, Question, advise, named
from hardgrad.zoo._families import FAMILIES, Cost, family, method
from hardgrad.zoo._guide import Basis, Verdict
from hardgrad.zoo._guide_applications import APPLICATIONS
from hardgrad.zoo._guide_architectures import ARCHITECTURES
from hardgrad.zoo._guide_derivatives import DERIVATIVES
from hardgrad.zoo._measured import measured, nearest_column

ROOT = Path(__file__).parents[2]
ROWS = (*DERIVATIVES, *APPLICATIONS, *ARCHITECTURES)
CELLS = [(row.name, order, cell) for row in ROWS for order, cell in row.cells.items()]
METHODS = [entry for one in FAMILIES for entry in one.methods]
REGISTERED = {entry.name: entry for entry in entries()}

# Recipes that train in several ways, or stand for an order that is not the tag of their training.
SEVERAL_ORDERS = {"digits-lif", "hybrid-study", "song-onestep"}


def _tool():
    spec = importlib.util.spec_from_file_location("guide_tables", ROOT / "tools" / "guide_tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---------------------------------------------------------------------------- the data


def test_every_row_has_a_verdict_on_every_family():
    assert [one.order for one in FAMILIES] == list(Order)
    for rows in (DERIVATIVES, APPLICATIONS, ARCHITECTURES):
        assert len({row.name for row in rows}) == len(rows)
        assert OTHER.name not in {row.name for row in rows}
    for row in ROWS:
        assert list(row.cells) == list(Order)
        firsts = [order for order, cell in row.cells.items() if cell.verdict is Verdict.FIRST]
        assert len(firsts) == 1, row.name


@pytest.mark.parametrize(("name", "order", "cell"), CELLS, ids=[f"{name}-{order.value}" for name, order, _ in CELLS])
def test_a_cell_keeps_its_word(name, order, cell):
    assert cell.why
    if cell.method is not None:
        assert method(cell.method).order is order
    for recipe in cell.recipes:
        assert recipe in REGISTERED, f"the guide names a recipe there is not: {recipe}"
        assert REGISTERED[recipe].order == order.value or recipe in SEVERAL_ORDERS
    if cell.basis is Basis.RECIPE:
        assert cell.recipes
    if cell.basis in (Basis.PUBLISHED, Basis.REASONED) and cell.verdict is Verdict.UNTRIED:
        assert not cell.recipes
    if cell.verdict is Verdict.NO:
        assert cell.method is None
        assert cell.recipes == ()
    if re.search(r"\.\d\d", cell.why):
        assert cell.basis in (Basis.RECIPE, Basis.MATRIX), "a figure without its source"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_quotes_a_column_of_the_matrix_and_rests_on_its_figures_only_where_there_are_some(row):
    figures = measured(row.matrix)
    assert bool(figures) == (row.matrix is not None)
    for order, cell in row.cells.items():
        assert cell.basis is not Basis.MATRIX or order in figures
    for figure in figures.values():
        assert figure.median >= 0
        assert figure.spread >= 0
    if figures:
        assert any(figure.best for figure in figures.values())


def test_every_recipe_has_its_place_in_the_guide():
    named_ = {recipe for _, _, cell in CELLS for recipe in cell.recipes}
    assert set(REGISTERED) - named_ == set()


# ---------------------------------------------------------------------------- the methods


@pytest.mark.parametrize("entry", METHODS, ids=lambda entry: entry.name)
def test_an_entry_point_exists_and_its_code_names_what_exists(entry):
    found = getattr(importlib.import_module(entry.package), entry.name)
    assert callable(found)
    assert entry.package in ("hardgrad.estimators", "hardgrad.training", "hardgrad.spiking")
    for name in re.findall(r"\bhg\.(\w+)", entry.code):
        assert hasattr(hg, name)
    assert entry.name in entry.code or entry.name == "EvolutionMethod"
    known = {row.name for row in ARCHITECTURES}
    assert set(entry.fits) <= known


MADE = {
    "CentralDifference": lambda m: hg.CentralDifference(),
    "ForwardDifference": lambda m: hg.ForwardDifference(),
    "SPSA": lambda m: hg.SPSA(directions=m),
    "AntitheticNES": lambda m: hg.AntitheticNES(pairs=m),
    "EvolutionMethod": lambda m: hg.EvolutionMethod(hg.SNES(population=m)),
    "Autodiff": lambda m: hg.Autodiff(),
    "Hybrid": lambda m: hg.Hybrid(hg.Autodiff(), hg.AntitheticNES(pairs=m)),
    "GuidedES": lambda m: hg.GuidedES(hg.Autodiff(), pairs=m),
    "Blocks": lambda m: hg.Blocks({"delay": hg.AntitheticNES(pairs=m), ...: hg.Autodiff()}),
}
"""What has a contract. The others train by Autodiff."""


@pytest.mark.parametrize("entry", [e for e in METHODS if e.cost], ids=lambda entry: entry.name)
def test_the_costs_are_those_of_the_contracts(entry):
    for samples, parameters in itertools.product((4, 10), (1, 7, 1000)):
        contract = MADE.get(entry.name, MADE["Autodiff"])(samples).contract
        assert entry.cost.evaluations(parameters, samples) == contract.evaluations(parameters)
        assert entry.cost.backward == contract.backward_passes
        if entry.name in MADE:
            assert contract.order is entry.order
    if entry.samples:  # m as its code draws it, spelled out or by default
        sizes = [int(size) for size in re.findall(r"(?:directions|pairs|population)=(\d+)", entry.code)]
        assert sizes in ([entry.samples], [])
        assert sizes or entry.samples == hg.AntitheticNES().pairs == hg.GuidedES(hg.Autodiff()).pairs


def test_a_cost_in_words():
    assert str(Cost(1, per_parameter=2)) == "2n + 1"
    assert str(Cost(1, per_sample=1)) == "m + 1"
    assert str(Cost(2, per_sample=2, backward=1)) == "2m + 2 and a backward pass"
    assert Cost(2, per_sample=2, backward=1).work(0, 8) == 2 + 2 * 8 + 2
    assert method("Autodiff").evaluations == "1 and a backward pass"
    with pytest.raises(ValueError, match="cost or a price"):
        dataclasses.replace(method("Autodiff"), price="something")
    with pytest.raises(KeyError):
        method("Magic")


# ---------------------------------------------------------------------------- the page


def test_the_page_holds_what_the_data_says():
    tool = _tool()
    text = tool.PAGE.read_text(encoding="utf-8")
    assert tool.filled(text, tool.TABLES) == text, "run: python tools/guide_tables.py"
    assert set(re.findall(r"<!-- table: ([\w-]+) -->", text)) == set(tool.TABLES)
    links = set(re.findall(r"\]\(#([\w-]+)\)", text)) & set(REGISTERED)
    assert links
    assert all(f'<a id="{name}"></a>' in text for name in links)


def test_the_page_is_first_in_its_section_and_linked_from_home():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    section = navigation.partition("- Explanation:\n")[2]
    assert section.splitlines()[0].endswith("explanation/choosing.md")
    assert "(explanation/choosing.md)" in (ROOT / "docs" / "index.md").read_text(encoding="utf-8")


def test_a_stale_page_is_noticed_and_mended(tmp_path, capsys):
    tool, page = _tool(), tmp_path / "page.md"
    page.write_text("By hand.\n\n<!-- table: bases -->\nold\n<!-- end -->\n\nBy hand.\n", encoding="utf-8")
    assert tool.main(["--check", str(page)]) == 1
    assert "is out of date" in capsys.readouterr().err
    assert "old" in page.read_text(encoding="utf-8")
    assert tool.main([str(page)]) == 0
    assert tool.main(["--check", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("By hand.\n\n<!-- table: bases -->\n\n| rests on |")
    assert text.endswith("<!-- end -->\n\nBy hand.\n")


# ---------------------------------------------------------------------------- the advice


def ask(derivative, application="other", architecture="other", **size):
    return advise(
        Question(
            named((*APPLICATIONS, OTHER), application),
            named((*ARCHITECTURES, OTHER), architecture),
            named(DERIVATIVES, derivative),
            **size,
        )
    )


def test_all_answers_to_all_questions_make_sense():
    places = itertools.product(DERIVATIVES, (*APPLICATIONS, OTHER), (*ARCHITECTURES, OTHER))
    for derivative, application, architecture in places:
        found = advise(Question(application, architecture, derivative))
        best = found[0]
        assert sorted(one.order.value for one in found) == sorted(order.value for order in Order)
        assert best.possible
        assert best.method is not None
        assert [one.possible for one in found] == sorted((one.possible for one in found), reverse=True)
        penalties = [one.penalty for one in found if one.possible]
        assert penalties == sorted(penalties)
        for one in found:
            if one.possible and one.method and architecture is not OTHER:
                assert not one.method.fits or architecture.name in one.method.fits
            if one.recipe:
                assert one.shows
            assert one.possible == all(cell.verdict is not Verdict.NO for _, cell in one.reasons)
        if derivative.name in ("exact", "surrogate", "explodes"):
            assert best.order is Order.ONE
        if derivative.name == "none":
            assert best.order is Order.ZERO
            assert {one.order for one in found if one.possible} <= {Order.ZERO, Order.TRANSFER}


def test_what_the_study_says_is_what_is_advised():
    assert ask("none", "control", "lif")[0].method.name == "EvolutionMethod"
    assert ask("none", "control", "lif")[0].recipe == "control-lif-es"
    assert ask("wrong", "control", "lif")[0].order is Order.ZERO
    assert ask("partial", "classification", "lif")[0].method.name == "SuperSpike"
    assert ask("partial", "classification", "lif")[1].method.name == "Hybrid"
    assert ask("surrogate", "classification", "lif")[0].recipe == "classification-rsnn"
    assert ask("online", "classification", "lif")[0].method.name == "EProp"
    assert ask("trained", "classification", "lif")[0].method.name == "convert"
    assert ask("bits", "classification", "lif")[0].method.name == "quantise"
    assert ask("none", "forecasting", "recursive")[0].method.name == "EvolutionMethod"
    assert ask("none", "sound", "ode")[0].method.name == "EvolutionMethod"
    assert ask("exact", "poles", "rational")[0].recipe == "rational-pole"
    assert ask("explodes", "sound", "ode")[0].recipe == "song-coldstart"
    # Made for LIF cells, so not advised to others.
    assert "EProp" not in {one.method.name for one in ask("online", "language", "state-space") if one.method}


def test_the_matrix_is_not_contradicted_where_values_of_the_loss_are_all_there_is():
    places = itertools.product((*APPLICATIONS, OTHER), (*ARCHITECTURES, OTHER), (None, 5, 30, 3000), (None, 200, 2000))
    for application, architecture, parameters, budget in places:
        best = advise(Question(application, architecture, named(DERIVATIVES, "none"), parameters, budget))[0]
        figures = measured(nearest_column(application, named(DERIVATIVES, "none")))
        assert figures[Order.ZERO].label in ("CMAES", "SepCMAES", "SNES", "OpenES")  # what an EvolutionMethod runs
        assert best.method.name == "EvolutionMethod"


def test_size_and_budget_count():
    by_differences = {one.order: one for one in ask("exact", "forecasting", "recursive", parameters=18)}
    assert by_differences[Order.ZERO].method.name == "CentralDifference"
    many = {one.order: one for one in ask("exact", "forecasting", "recursive", parameters=500)}[Order.ZERO]
    assert many.method.name == "EvolutionMethod"
    assert many.notes[0] == "Differences would take 1,001 evaluations a step for 500 parameters."
    small = ask("none", "control", "lif", parameters=12, budget=33 * 400)[0]
    assert "CMAES" in small.method.code
    assert small.notes == ("Your budget is 400 steps of it.",)
    assert "SNES" in ask("none", "control", "lif", parameters=42)[0].method.code
    for budget, population in ((33 * 100, 32), (33 * 100 - 1, 16), (17 * 100 - 1, 8), (20, 8)):
        few = ask("none", parameters=30, budget=budget)[0].method
        assert (f"population={population})" in few.code, few.samples) == (True, population)
    assert "SNES" in ask("none", "control", "lif", parameters=3000)[0].method.code
    large = {one.order: one for one in ask("wrong", "control", "lif", parameters=50_000)}
    assert any("noisy" in note for note in large[Order.ZERO].notes)
    before = {one.order: one for one in ask("wrong", "control", "lif", parameters=5_000)}
    assert large[Order.ZERO].penalty > before[Order.ZERO].penalty
    poor = {one.order: one for one in ask("partial", "classification", "lif", budget=1000)}
    assert poor[Order.MIXED].notes == ("Your budget is only 27 steps of it.",)  # 2 · 16 + 2 and a backward pass
    assert poor[Order.ONE].notes == ("Your budget is 333 steps of it.",)


def test_a_spike_has_no_exact_derivative():
    assert ask("exact", "classification", "lif") == ask("surrogate", "classification", "lif")
    assert family(Order.MIXED).title == "Hybrids"
