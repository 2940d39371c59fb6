"""`hardgrad choose`: the same answers by options and at a terminal, without waiting for JAX."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from hardgrad.cli import choose_command, main
from hardgrad.core import Order
from hardgrad.zoo import entries
from hardgrad.zoo._advice import OTHER, Question, advise
from hardgrad.zoo._guide_applications import APPLICATIONS
from hardgrad.zoo._guide_architectures import ARCHITECTURES
from hardgrad.zoo._guide_derivatives import DERIVATIVES
from hardgrad.zoo._measured import measured

GIVEN = ["choose", "--application", "control", "--architecture", "lif", "--derivative", "none"]


@pytest.fixture
def terminal(monkeypatch):
    """Somebody who types; gives a function that takes what is typed, line by line."""

    def types(*lines):
        left = iter(lines)

        def read(prompt=""):
            try:
                return next(left)
            except StopIteration:
                raise EOFError from None

        monkeypatch.setattr("builtins.input", read)
        monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())

    return types


def test_the_answer_names_method_reasons_recipe_and_command(capsys):
    assert main([*GIVEN, "--parameters", "42", "--budget", "100000"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0] == "Control · LIF, recurrent LIF · derivative: none, 42 parameters"
    assert lines[2] == "Take EvolutionMethod (evolution and differences, order 0)"
    for wanted in (
        "  derivative    first choice: ",
        "  application   first choice: ",
        "  architecture  special cases: ",
        "  evaluations   m + 1 a step, for m samples",
        "  in Python     hg.EvolutionMethod(",
        "  note          Your budget is 3,030 steps of it.",
        "  recipe        control-lif-es, which shows this application and architecture",
        "  hardgrad run control-lif-es --smoke",
        "Measured by hardgrad matrix (",
        f"  {measured('control')[Order.ZERO]}",
        "Not possible here: ",
    ):
        assert any(line.startswith(wanted) for line in lines), wanted


def test_every_answer_fits_the_screen_and_names_recipes_there_are():
    known = {entry.name for entry in entries()}
    for application, architecture, derivative in itertools.product(
        (*APPLICATIONS, OTHER), (*ARCHITECTURES, OTHER), DERIVATIVES
    ):
        for parameters, budget in ((None, None), (123_456, 7_000)):
            question = Question(application, architecture, derivative, parameters, budget)
            lines = "\n".join(choose_command._lines(question, advise(question))).splitlines()
            assert max(map(len, lines)) <= 80
            (command,) = [line for line in lines if line.startswith("  hardgrad ")]
            words = command.split()
            assert words[1] == "list" or (words[1] == "run" and words[2] in known)


def test_json(capsys):
    assert main([*GIVEN, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[0]["order"] == "0"
    assert {one["order"] for one in found} == {"0", "1", "0+1", "local", "transfer"}
    assert found[0]["method"] == "EvolutionMethod"
    assert [reason["subject"] for reason in found[0]["reasons"]] == ["derivative", "application", "architecture"]
    assert not found[-1]["possible"]


def test_an_exact_spike_is_read_as_a_surrogate(capsys):
    assert main([*GIVEN[:-1], "exact"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("derivative: surrogate")
    assert said[1] == "A spike has no exact derivative: 'exact' is read as 'surrogate'."


def test_at_a_terminal_what_is_left_out_is_asked(capsys, terminal):
    terminal("1", "lif", "nonsense", "99", "9", "42", "1e5", "100,000")
    assert main(["choose"]) == 0
    asked = capsys.readouterr()
    assert "'nonsense' is none of them." in asked.err
    assert "'99' is none of them." in asked.err
    assert "'1e5' is not a whole number of 1 or more." in asked.err
    lines = [re.sub("^1 to [0-9]: ", "", line) for line in asked.err.splitlines()]  # typing ends the prompt's line
    assert max(map(len, lines)) <= 80
    assert main([*GIVEN, "--parameters", "42", "--budget", "100000"]) == 0
    assert capsys.readouterr().out == asked.out


def test_what_is_given_is_not_asked_and_numbers_may_be_left_out(capsys, terminal):
    terminal("none", "", "")
    assert main(GIVEN[:-2]) == 0
    asked = capsys.readouterr()
    assert "What is the model to do?" not in asked.err
    assert main(GIVEN) == 0
    assert capsys.readouterr().out == asked.out


def test_enter_alone_is_no_answer_and_says_what_is(capsys, terminal):
    terminal("", "none", "", "")
    assert main(GIVEN[:-2]) == 0
    said = capsys.readouterr().err
    assert "type a number, or a name such as 'exact'." in said
    assert "''" not in said


def test_what_else_there_is_to_know_of_a_method_stands_in_sentences(capsys):
    given = ["--application", "sound", "--architecture", "ode", "--derivative", "exact", "--parameters", "4200"]
    assert main(["choose", *given, "--budget", "100"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(r"\w \[\w+\]\. Your budget is only \d+ steps of it\.( [A-Z\d]|$)", said)
    assert not re.search(r"[.;] ?;|\.\.", said)


def test_the_page_it_points_to_exists(capsys):
    """By its title: an installed package has no docs."""
    page = Path(__file__).parents[2] / "docs" / "explanation" / "choosing.md"
    title = page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
    assert main(GIVEN) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"All of it: the page '{title}' of the documentation."


def test_answers_that_end_too_soon(capsys, terminal):
    terminal("1")
    assert main(["choose"]) == 2
    assert "hardgrad: the answers ended before the questions." in capsys.readouterr().err


def test_help_fits_the_screen_and_explains_every_word(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["choose", "--help"]) == 0
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "Example: hardgrad choose" in out
    assert all(row.name in out for row in (*APPLICATIONS, *ARCHITECTURES, *DERIVATIVES))


@pytest.mark.parametrize("name", ["application", "architecture", "derivative"])
def test_the_options_are_the_rows_of_the_tables(name):
    hint = typing.get_type_hints(choose_command.Options)[name]
    _, rows = choose_command._QUESTIONS[name]
    assert typing.get_args(hint) == ("ask", *(row.name for row in rows))


def test_it_does_not_wait_for_jax():
    script = f"import sys; from hardgrad.cli import main; main({GIVEN}); print(*sys.modules)"
    source = str(Path(choose_command.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": source, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=True,
    )
    loaded = set(done.stdout.decode().splitlines()[-1].split())
    assert not loaded & {"jax", "numpy", "equinox", "optax"}
