"""Candidates, their order, and the table they are kept in."""

from __future__ import annotations

import dataclasses
import itertools
import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from hardgrad.core import UsageError
from hardgrad.search import Candidate, Goal, SearchFolder, Setup, Standing, State, candidates, ranked
from hardgrad.search._candidates import cull_epoch
from hardgrad.search._standing import chosen, winner_of

LOWEST = Goal("val_loss", "min", (("val_worst", "max"),))


def standing(number, score, state=State.FINISHED, tie=None, epochs=5):
    ties = {} if tie is None else {"val_worst": tie}
    return Standing(Candidate(number, number, 5), state, epochs, score=score, ties=ties)


def order(standings, goal=LOWEST):
    return [one.candidate.number for one in ranked(standings, goal)]


def test_seeds_and_settings_are_combined():
    found = candidates([3, 4], epochs=7, grid={"width": [8, 16], "rate": [0.1]})
    assert [(one.number, one.seed, dict(one.settings)) for one in found] == [
        (0, 3, {"width": 8, "rate": 0.1}),
        (1, 4, {"width": 8, "rate": 0.1}),
        (2, 3, {"width": 16, "rate": 0.1}),
        (3, 4, {"width": 16, "rate": 0.1}),
    ]
    assert found[3].label == "seed 4, width=16, rate=0.1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seeds": []}, "no value of the seeds"),
        ({"seeds": [1, 1]}, "holds 1 twice"),
        ({"seeds": [-1]}, "a seed must be a whole number"),
        ({"grid": {"width": []}}, "no value of width"),
        ({"grid": {"width": [8, 8]}}, "width holds 8 twice"),
        ({"epochs": 0}, "epochs must be a whole number, at least 1"),
    ],
)
def test_candidates_that_are_none(arguments, said):
    with pytest.raises(UsageError, match=said):
        candidates(**{"seeds": [0], "epochs": 3, **arguments})


@pytest.mark.parametrize(("fraction", "epochs", "epoch"), [(0.4, 50, 20), (0.5, 2, 1), (0.01, 10, 1), (0.5, 5, 2)])
def test_the_epoch_of_culling(fraction, epochs, epoch):
    assert cull_epoch(fraction, epochs) == epoch


@pytest.mark.parametrize(("fraction", "epochs"), [(0.9, 2), (0.5, 1), (0.99, 10)])
def test_culling_at_the_end_spares_nothing(fraction, epochs):
    with pytest.raises(UsageError, match="which spares nothing"):
        cull_epoch(fraction, epochs)


def test_not_finite_comes_last_whichever_way_is_up():
    scores = [math.nan, 2.0, math.inf, 1.0, -math.inf, None]
    found = [standing(number, score) for number, score in enumerate(scores)]
    assert order(found) == [3, 1, 0, 2, 4, 5]
    assert order(found, Goal("val_loss", "max")) == [1, 3, 0, 2, 4, 5]
    assert winner_of(found, LOWEST).candidate.number == 3
    assert winner_of([one for one in found if not one.scored], LOWEST) is None


def test_ties_decide_then_the_lower_number():
    found = [standing(0, 1.0, tie=0.5), standing(1, 1.0, tie=0.9), standing(2, 1.0, tie=0.9)]
    found += [standing(3, 1.0, tie=math.nan), standing(4, 1.0)]
    assert order(found) == [1, 2, 0, 3, 4]
    assert order(found[::-1]) == [1, 2, 0, 3, 4]


def test_what_broke_off_comes_after_what_was_culled():
    found = [
        standing(0, 0.1, State.FAILED),
        standing(1, 0.2, State.DIVERGED),
        standing(2, 0.3, State.CULLED),
        standing(3, math.nan),
        standing(4, 9.0),
    ]
    assert order(found) == [4, 3, 2, 1, 0]
    assert winner_of(found, LOWEST).candidate.number == 4
    assert winner_of(found[:4], LOWEST).candidate.number == 1  # better than none


def test_who_goes_on():
    found = [
        standing(0, 0.5, State.PAUSED, epochs=2),
        standing(1, math.nan, State.PAUSED, epochs=2),
        standing(2, 0.1, State.DIVERGED, epochs=1),
        standing(3, 0.2, State.FINISHED, epochs=1),  # stopped early, of its own accord
        standing(4, 0.4, State.PAUSED, epochs=2),
        standing(5, 0.0, State.FAILED, epochs=1),
    ]
    assert chosen(found, LOWEST, 2) == [3, 4]
    assert chosen(found, LOWEST, 4) == [0, 1, 3, 4]
    assert chosen(found, LOWEST, 9) == [0, 1, 3, 4]


SCORES = st.one_of(st.none(), st.floats(width=32), st.sampled_from([0.0, 1.0]))


@given(st.lists(st.tuples(SCORES, SCORES, st.sampled_from(State)), min_size=1, max_size=6))
def test_the_order_is_the_same_however_they_come(values):
    found = [standing(i, score, state, tie) for i, (score, tie, state) in enumerate(values)]
    orders = {tuple(order(list(some))) for some in itertools.islice(itertools.permutations(found), 24)}
    assert len(orders) == 1
    finite = [standing_.scored for standing_ in ranked(found, LOWEST) if standing_.state is State.FINISHED]
    assert finite == sorted(finite, reverse=True)


@given(st.lists(st.tuples(SCORES, SCORES, st.sampled_from(State)), min_size=1, max_size=5))
def test_the_table_keeps_every_digit(tmp_path_factory, values):
    folder = SearchFolder.create(tmp_path_factory.mktemp("table") / "search")
    every = [Candidate(i, 10 + i, 5, {"rate": 0.1 * i, "kind": "a,b"}) for i in range(len(values))]
    setup = Setup(tuple(every), LOWEST)
    before = [
        Standing(one, state, 3, score, {} if tie is None else {"val_worst": tie}, 2, 1.25, "said, twice")
        for one, (score, tie, state) in zip(every, values, strict=True)
    ]
    folder.write_table(before[::-1], LOWEST)
    after = folder.read_table(setup)
    assert [repr(one) for one in after] == [repr(one) for one in before]


def test_the_setup_comes_back(tmp_path):
    folder = SearchFolder.create(tmp_path / "search")
    every = candidates([0, 5], epochs=9, grid={"rate": [0.1, 0.3]})
    setup = Setup(
        tuple(every),
        LOWEST,
        cull_fraction=0.4,
        keep=2,
        engine="auto",
        settings={"recipe": "x", "config": {"width": [1, 2]}},
        kept=(1, 2),
    )
    folder.write_setup(setup)
    assert folder.read_setup() == setup
    assert folder.read_table(setup) == [Standing(one) for one in every]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("search.json", "{", "search.json is damaged"),
        ("search.json", "[]", "search.json is damaged"),
        ("search.json", '{"schema": "hardgrad.search", "version": 2}', "version 2"),
        ("search.csv", "candidate,seed\n0,1\n", "search.csv is damaged"),
        ("search.csv", "", "search.csv is damaged"),
        ("winner.json", "[1]", "winner.json is damaged"),
        ("winner.json", '{"candidate": "x"}', "names no candidate"),
    ],
)
def test_damaged_files(tmp_path, name, content, said):
    folder = SearchFolder.create(tmp_path / "search")
    setup = Setup(tuple(candidates([0], epochs=2)), LOWEST)
    folder.write_setup(setup)
    (folder.path / name).write_text(content)
    read = {
        "search.json": folder.read_setup,
        "search.csv": lambda: folder.read_table(setup),
        "winner.json": folder.read_winner,
    }
    with pytest.raises(UsageError, match=said):
        read[name]()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("Years of work.")
    with pytest.raises(UsageError, match="already holds files"):
        SearchFolder.create(tmp_path / "full")
    with pytest.raises(UsageError, match="is a file"):
        SearchFolder.create(tmp_path / "full" / "thesis.tex")
    with pytest.raises(UsageError, match="is not a search"):
        SearchFolder.open(tmp_path / "full")
    folder = SearchFolder.create(tmp_path / "new")
    folder.write_setup(Setup(tuple(candidates([0], epochs=2)), LOWEST))
    with pytest.raises(UsageError, match=r"already holds a search, which stays untouched\. Resume it"):
        SearchFolder.create(tmp_path / "new")


def test_directions():
    with pytest.raises(Exception, match=r"is 'min' or 'max', got 'up'|violates|annotation"):
        Goal("loss", "up")
    assert dataclasses.replace(LOWEST, mode="max").mode == "max"
