"""The search: what is culled costs nothing more, failures stay with whom they befall, and it finds what it found."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import shutil
import threading

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from searching import EPOCHS, look, rows, train, trainer

from hardgrad.core import RunError, UsageError
from hardgrad.estimators import Autodiff
from hardgrad.search import (
    Ended,
    InTurn,
    NotAlike,
    SearchFolder,
    SearchInterrupted,
    State,
    Together,
    candidates,
    search,
)
from hardgrad.training import GradientMethod, RunFolder, Status, Trainer
from hardgrad.training.callbacks import Best, Callback, Checkpoints


def table(path):
    """search.csv without times."""
    with open(path / "search.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def newest(path, number):
    """The bits that a candidate ended with."""
    return (RunFolder(path / "candidates" / str(number)).checkpoints()[-1] / "arrays.safetensors").read_bytes()


def simple(model, batch, controls, key):
    """Least squares: an objective for what does not depend on it, since it soon compiles."""
    x, y = batch
    return jnp.mean((x @ model["w"] - y) ** 2), {}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """A search in one program, never stopped. Not to be written to."""
    path = tmp_path_factory.mktemp("together") / "search"
    return look(Together(train), path)


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory):
    """The same, one after another. Not to be written to."""
    path = tmp_path_factory.mktemp("in_turn") / "search"
    return look(InTurn(train), path)


def test_the_weak_are_culled_and_cost_nothing_more(together):
    path = together.folder.path
    states = {one.candidate.number: (one.state, one.epochs) for one in together.standings}
    assert sorted(states.values(), key=str) == [(State.CULLED, 6)] * 2 + [(State.FINISHED, EPOCHS)] * 2
    for number, (_, epochs) in states.items():
        assert len(list(together.folder.run(number).records())) == epochs
    assert [one.state for one in together.standings] == [State.FINISHED] * 2 + [State.CULLED] * 2
    assert together.winner == together.standings[0]
    assert json.loads((path / "search.json").read_text())["kept"] == sorted(
        number for number, (state, _) in states.items() if state is State.FINISHED
    )


def test_the_kept_are_the_best_at_that_epoch(together):
    at_culling = {
        one.candidate.number: min(
            record.metrics["val_mean"]
            for record in together.folder.run(one.candidate.number).records()
            if record.epoch < 6
        )
        for one in together.standings
    }
    best = sorted(at_culling, key=at_culling.get)[:2]
    assert sorted(best) == sorted(one.candidate.number for one in together.standings[:2])


def test_the_schedules_are_those_of_the_full_run(together, in_turn):
    for result in (together, in_turn):
        number = result.winner.candidate.number
        rates = [record.controls["rate"] for record in result.folder.run(number).records()]
        assert rates == [0.05 / (1.0 + 0.1 * epoch) for epoch in range(EPOCHS)]


def test_the_score_is_the_best_value_and_the_best_is_kept(together):
    for one in together.standings:
        records = list(together.folder.run(one.candidate.number).records())
        best = min(records[: one.epochs], key=lambda record: record.metrics["val_mean"])
        assert (one.score, one.best_epoch) == (best.metrics["val_mean"], best.epoch)
        assert one.ties == {"val_worst": best.metrics["val_worst"]}


def test_both_engines_agree_to_rounding(together, in_turn):
    assert together.winner.candidate == in_turn.winner.candidate
    pairs = zip(together.standings, in_turn.standings, strict=True)
    for one, other in pairs:
        assert (one.candidate, one.state, one.epochs, one.best_epoch) == (
            other.candidate,
            other.state,
            other.epochs,
            other.best_epoch,
        )
        assert one.score == pytest.approx(other.score, rel=1e-5)


def test_one_after_another_is_a_run_of_its_own(tmp_path, in_turn):
    winner = in_turn.winner.candidate
    train(winner, run=tmp_path / "alone")
    alone = RunFolder(tmp_path / "alone").checkpoints()[-1] / "arrays.safetensors"
    assert alone.read_bytes() == newest(in_turn.folder.path, winner.number)


def test_the_table_and_the_manifest(together):
    path = together.folder.path
    rows = table(path)
    assert list(rows[0]) == [
        *("candidate", "seed", "status", "epochs", "score", "val_worst", "best_epoch", "rank", "run", "message")
    ]
    assert [row["candidate"] for row in rows] == ["0", "1", "2", "3"]
    assert sorted(row["rank"] for row in rows) == ["1", "2", "3", "4"]
    winner, manifest = together.winner, json.loads((path / "winner.json").read_text())
    assert float(rows[winner.candidate.number]["score"]) == winner.score == manifest["score"]
    assert (manifest["candidate"], manifest["seed"]) == (winner.candidate.number, winner.candidate.seed)
    assert (manifest["metric"], manifest["mode"]) == ("val_mean", "min")
    assert (path / manifest["best"] / "arrays.safetensors").is_file()
    assert (manifest["search"]["finished"], manifest["search"]["culled"]) == (2, 2)
    assert manifest["environment"]["jax"]


def test_a_culled_candidate_can_be_taken_to_its_end_by_hand(tmp_path, in_turn):
    path = tmp_path / "search"
    shutil.copytree(in_turn.folder.path, path)
    before = table(path)
    culled = next(one.candidate for one in in_turn.standings if one.state is State.CULLED)
    result = train(culled, run=path / "candidates" / str(culled.number), resume=True)
    assert (result.status, result.epochs) == (Status.COMPLETED, EPOCHS)
    train(culled, run=tmp_path / "alone")
    alone = RunFolder(tmp_path / "alone").checkpoints()[-1] / "arrays.safetensors"
    assert alone.read_bytes() == newest(path, culled.number)
    again = look(InTurn(train), path, resume=True)  # and the search does not mind
    assert again.winner == in_turn.winner
    assert table(path) == before


def test_resuming_what_is_finished_changes_nothing(together):
    path = together.folder.path
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != "winner.json"}
    again = look(Together(pytest.fail), path, resume=True)
    assert again.winner == together.winner
    assert {p: p.read_bytes() for p in before} == before


def test_settings_are_searched_as_well(tmp_path):
    every = candidates([0, 1], epochs=4, grid={"rate": [0.001, 0.1]})
    result = look(Together(train), tmp_path / "search", every=every, cull_fraction=0.0)
    assert [one.state for one in result.standings] == [State.FINISHED] * 4
    assert result.winner.candidate.settings == {"rate": 0.1}
    assert [row["settings.rate"] for row in table(tmp_path / "search")] == ["0.001", "0.001", "0.1", "0.1"]
    alone = look(InTurn(train), tmp_path / "turn", every=every, cull_fraction=0.0)
    for one, other in zip(result.standings, alone.standings, strict=True):
        assert one.candidate == other.candidate
        assert one.score == pytest.approx(other.score, rel=1e-5)


# -- stopped and resumed -------------------------------------------------------------------------


class Stop(Callback):
    """Interrupts at an epoch, as Ctrl-C would."""

    order = 99

    def __init__(self, epoch, interrupt):
        self.epoch, self.interrupt = epoch, interrupt

    def on_epoch_end(self, run, record):
        if record.epoch == self.epoch:
            self.interrupt()


class StoppedTogether(Together):
    """Ends, as Ctrl-C in the main thread ends it, when told to."""

    def __init__(self, train):
        super().__init__(train)
        self.stop = threading.Event()

    def run(self, tasks):
        for one in super().run(tasks):
            if self.stop.is_set():
                raise KeyboardInterrupt
            yield one


@pytest.mark.parametrize("epoch", [0, 5, 8])
def test_an_interrupted_search_in_one_program_ends_the_same(tmp_path, together, epoch):
    engine = StoppedTogether(lambda candidate, **place: train(candidate, callbacks=[Hold()], **place))

    class Hold(Callback):
        """Lets nobody go on from that epoch until the interruption has come."""

        order = 99

        def on_epoch_end(self, run, record):
            if record.epoch == epoch:
                engine.stop.set()
                threading.Event().wait(0.3)

    with pytest.raises(SearchInterrupted) as caught:
        look(engine, tmp_path / "search")
    assert caught.value.path == tmp_path / "search"
    assert not (tmp_path / "search" / "winner.json").exists()
    again = look(Together(train), tmp_path / "search", resume=True)
    assert dataclasses.replace(again.winner, seconds=0.0) == dataclasses.replace(together.winner, seconds=0.0)
    assert table(tmp_path / "search") == table(together.folder.path)
    for number in range(4):
        assert newest(tmp_path / "search", number) == newest(together.folder.path, number)


@pytest.mark.parametrize(("number", "epoch"), [(0, 2), (3, 8)])
def test_an_interrupted_search_in_turn_ends_the_same(tmp_path, in_turn, number, epoch):
    def interrupt():
        raise KeyboardInterrupt

    def stopped(candidate, **place):
        callbacks = [Stop(epoch, interrupt)] if candidate.number == number else []
        return train(candidate, callbacks=callbacks, **place)

    state = {one.candidate.number: one.state for one in in_turn.standings}[number]
    if state is State.CULLED and epoch >= 6:
        look(InTurn(stopped), tmp_path / "search")
    else:
        with pytest.raises(SearchInterrupted):
            look(InTurn(stopped), tmp_path / "search")
        look(InTurn(train), tmp_path / "search", resume=True)
    assert table(tmp_path / "search") == table(in_turn.folder.path)
    for one in range(4):
        assert newest(tmp_path / "search", one) == newest(in_turn.folder.path, one)


class Leave(Callback):
    """Stops its run at an epoch, as early stopping would."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, run, record):
        if record.epoch == self.epoch:
            run.stop("it had to go")


def some_leave(candidate, *, callbacks=(), **place):
    """Candidate 1 leaves after 3 epochs, candidate 3 after 9."""
    leave = {1: [Leave(2)], 3: [Leave(8)]}.get(candidate.number, [])
    return train(candidate, callbacks=[*callbacks, *leave, Checkpoints(keep=None)], **place)


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """A search some of whose candidates left early. Not to be written to."""
    path = tmp_path_factory.mktemp("left") / "search"
    result = look(Together(some_leave), path, cull_fraction=0.0)
    assert {one.candidate.number: one.epochs for one in result.standings} == {0: 12, 1: 3, 2: 12, 3: 9}
    return path


@pytest.mark.parametrize(("saved", "called"), [(9, [0, 2]), (8, [0, 2, 3]), (2, [0, 1, 2, 3])])
def test_who_has_left_since_the_last_common_checkpoint_comes_along(tmp_path, left, saved, called):
    """The bits of those who stay depend on who else was in the program."""
    path = tmp_path / "search"
    shutil.copytree(left, path)
    # As a kill leaves it: candidates 1 and 3 are done, 0 has saved after so many epochs, 2 was a step ahead.
    for number, newest_one in ((0, saved), (2, saved + 1)):
        run = path / "candidates" / str(number)
        (run / "result.json").unlink()
        for checkpoint in RunFolder(run).checkpoints():
            if int(checkpoint.name) > newest_one:
                shutil.rmtree(checkpoint)
    (path / "search.csv").write_text((path / "search.csv").read_text().replace(",finished,12,", ",training,12,"))
    (path / "winner.json").unlink()
    resumed = []

    def train_again(candidate, **place):
        resumed.append((candidate.number, [int(p.name) for p in RunFolder(place["run"]).checkpoints()][-1]))
        return some_leave(candidate, **place)

    look(Together(train_again), path, resume=True, cull_fraction=0.0)
    assert sorted(resumed) == [(number, saved) for number in called]
    assert table(path) == table(left)
    for number in range(4):
        assert newest(path, number) == newest(left, number)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"keep": 1}, "begun with other keep"),
        ({"cull_fraction": 0.25}, "begun with other cull fraction"),
        ({"mode": "max"}, "begun with other goal"),
        ({"every": candidates(range(3), epochs=EPOCHS)}, "begun with other candidates"),
        ({"engine": InTurn(train)}, "begun with the engine 'vmap'"),
    ],
)
def test_resuming_with_other_arguments_is_refused(together, changed, said):
    engine = changed.pop("engine", Together(train))
    with pytest.raises(UsageError, match=said):
        look(engine, together.folder.path, resume=True, **changed)


def test_a_search_at_work_is_left_alone(tmp_path):
    said = []

    def train_and_look(candidate, **place):
        try:
            look(InTurn(train), tmp_path / "search", resume=True)
        except UsageError as error:
            said.append(str(error))
        return train(candidate, **place)

    look(InTurn(train_and_look), tmp_path / "search", every=candidates([0], epochs=2), cull_fraction=0.0)
    assert "another process is training in" in said[0]


# -- what goes wrong -----------------------------------------------------------------------------


class Explode(Callback):
    def on_epoch_end(self, run, record):
        if record.epoch == 2:
            raise ZeroDivisionError("on purpose")


@pytest.mark.parametrize("engine", [Together, InTurn])
def test_a_failure_is_recorded_and_the_search_goes_on(tmp_path, engine):
    said = []

    def some_fail(candidate, **place):
        return train(candidate, callbacks=[Explode()] if candidate.number == 2 else [], **place)

    result = look(engine(some_fail), tmp_path / "search", say=said.append)
    failed = result.standings[-1]
    assert (failed.candidate.number, failed.state, failed.epochs) == (2, State.FAILED, 3)
    assert failed.message == "ZeroDivisionError: on purpose"
    assert [one.state for one in result.standings[:3]] == [State.FINISHED, State.FINISHED, State.CULLED]
    assert "Explode" in (tmp_path / "search" / "candidates" / "2.log").read_text()
    assert any("failed: ZeroDivisionError: on purpose" in line for line in said)
    assert table(tmp_path / "search")[2]["message"] == "ZeroDivisionError: on purpose"


def test_a_refusal_before_the_first_step_is_recorded_too(tmp_path):
    def some_refuse(candidate, **place):
        if candidate.number == 0:
            raise UsageError("not with this seed.")
        return train(candidate, **place)

    result = look(Together(some_refuse), tmp_path / "search")
    assert (result.standings[-1].state, result.standings[-1].message) == (State.FAILED, "not with this seed.")
    assert not (tmp_path / "search" / "candidates" / "0.log").exists()  # a mistake of the user's is no crash
    assert result.winner is not None


@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
def test_what_diverges_takes_no_place_and_comes_last(tmp_path):
    every = candidates([0, 1], epochs=6, grid={"rate": [0.05, float("inf")]})
    result = look(Together(train), tmp_path / "search", every=every, keep=1)
    states = {one.candidate.number: one.state for one in result.standings}
    assert (states[2], states[3]) == (State.DIVERGED, State.DIVERGED)
    assert sorted([states[0], states[1]], key=str) == [State.CULLED, State.FINISHED]
    assert result.standings[-1].message.endswith("not finite, in epoch 2") or "finite" in result.standings[-1].message


def test_no_finite_score_no_winner(tmp_path):
    def without(candidate, **place):
        start = {"w": jnp.full((4,), 0.1)}
        nothing = trainer()
        callbacks = [Best("m", "min")]
        odd = lambda m, b, c, k: (simple(m, b, c, k)[0], {"m": jnp.float32(jnp.nan)})
        fitted = dataclasses.replace(nothing, callbacks=callbacks)
        return fitted.fit(start, odd, rows(), epochs=candidate.epochs, seed=candidate.seed, **place)

    result = look(Together(without), tmp_path / "search", metric="m", ties=())
    assert result.winner is None
    assert not (tmp_path / "search" / "winner.json").exists()
    assert [one.candidate.number for one in result.standings] == [0, 1, 2, 3]  # the lower number
    assert [one.state for one in result.standings[:2]] == [State.FINISHED] * 2


def test_another_metric_than_the_runs_keep(tmp_path):
    result = look(InTurn(train), tmp_path / "search", metric="val_worst")
    assert {one.state for one in result.standings} == {State.FAILED}
    assert "keeps the best 'val_mean', and the search ranks by 'val_worst'" in result.standings[0].message


# -- numbers that differ -------------------------------------------------------------------------


class Weighted(eqx.Module):
    """A loss whose weight is a plain number."""

    weight: float = 1.0
    asks: bool = eqx.field(static=True, default=False)

    def __call__(self, model, batch, controls, key):
        loss, metrics = simple(model, batch, controls, key)
        if self.asks and self.weight > 2.5:
            loss = loss + 1.0
        return self.weight * loss, metrics


def weighted(candidate, *, asks=False, **place):
    plain = dataclasses.replace(trainer(), callbacks=[Best("loss", "min")])
    given = Weighted(1.0 + candidate.settings["weight"], asks)
    start = {"w": jnp.full((4,), 0.1)}
    return plain.fit(start, given, rows(), epochs=candidate.epochs, seed=candidate.seed, **place)


def test_plain_numbers_may_differ(tmp_path):
    every = candidates([0, 1], epochs=4, grid={"weight": [0.0, 1.0, 2.0]})
    settings = {"metric": "loss", "ties": (), "every": every, "cull_fraction": 0.5, "keep": 3}
    one = look(Together(weighted), tmp_path / "vmap", **settings)
    other = look(InTurn(weighted), tmp_path / "turn", **settings)
    for mine, theirs in zip(one.standings, other.standings, strict=True):
        assert (mine.candidate, mine.state) == (theirs.candidate, theirs.state)
        assert mine.score == pytest.approx(theirs.score, rel=1e-5)


def test_a_number_that_code_decides_by_may_not(tmp_path):
    every = candidates([0], epochs=4, grid={"weight": [0.0, 2.0]})
    asking = functools.partial(weighted, asks=True)
    with pytest.raises(NotAlike, match=r"they differ in parts.\[1\].weight: 1.0 and 3.0"):
        look(Together(asking), tmp_path / "s", every=every, metric="loss", ties=(), cull_fraction=0.0)


# -- not alike -----------------------------------------------------------------------------------


def of_widths(candidate, **place):
    """Candidates 0 and 1 have other shapes than the rest."""
    width = 3 if candidate.number < 2 else 4
    x, y = rows()
    start = {"w": jnp.full((width,), 0.1)}
    plain = dataclasses.replace(trainer(), callbacks=[Best("loss", "min")])
    return plain.fit(start, simple, (x[:, :width], y), epochs=candidate.epochs, seed=candidate.seed, **place)


SGD = optax.sgd(0.1)
BAKED = [optax.adam(0.1), optax.adam(0.2)]


def of_rates(candidate, **place):
    """The rate is baked into the optimiser."""
    method = GradientMethod(Autodiff(), BAKED[candidate.number % 2])
    start = {"w": jnp.full((4,), 0.1)}
    return Trainer(method, callbacks=[Best("loss", "min")]).fit(
        start, simple, rows(), epochs=candidate.epochs, seed=candidate.seed, **place
    )


@pytest.mark.parametrize(
    ("train_one", "said"),
    [
        (of_widths, "candidates 0 and 2 can't train in one program: they differ in an array of their data"),
        (of_rates, "candidates 0 and 1 can't train in one program: they differ in .*: -?0.1 and -?0.2"),
    ],
)
def test_candidates_that_are_not_alike(tmp_path, train_one, said):
    settings = {"metric": "loss", "ties": ()}
    with pytest.raises(NotAlike, match=said) as caught:
        look(Together(train_one), tmp_path / "search", **settings)
    assert "Take the engine 'processes'." in str(caught.value)
    notes = []
    result = look(Together(train_one), tmp_path / "other", otherwise=InTurn(train_one), say=notes.append, **settings)
    assert "So they train in processes." in notes[0]
    assert result.winner is not None
    assert json.loads((tmp_path / "other" / "search.json").read_text())["engine"] == "turn"
    alone = look(InTurn(train_one), tmp_path / "turn", **settings)
    assert table(tmp_path / "other") == table(tmp_path / "turn")
    assert dataclasses.replace(alone.winner, seconds=0.0) == dataclasses.replace(result.winner, seconds=0.0)


def test_a_decided_search_takes_the_engine_it_decided_on(tmp_path):
    said = []
    look(Together(train), tmp_path / "search", otherwise=InTurn(pytest.fail), say=said.append)
    assert json.loads((tmp_path / "search" / "search.json").read_text())["engine"] == "vmap"
    assert not any("processes" in line for line in said)
    look(Together(train), tmp_path / "search", otherwise=InTurn(pytest.fail), resume=True)


def test_eager_execution_has_no_program(tmp_path):
    def eager(candidate, **place):
        start = {"w": jnp.full((4,), 0.1)}
        own = Trainer(GradientMethod(Autodiff(), SGD), callbacks=[Best("loss", "min")], execution="eager")
        return own.fit(start, simple, rows(), epochs=candidate.epochs, seed=candidate.seed, **place)

    settings = {"metric": "loss", "ties": ()}
    with pytest.raises(NotAlike, match="a run whose execution is 'eager' has no program to share with others"):
        look(Together(eager), tmp_path / "search", **settings)
    result = look(Together(eager), tmp_path / "other", otherwise=InTurn(eager), **settings)
    assert result.winner is not None


def test_one_trainer_for_all_is_refused(tmp_path):
    shared = trainer()

    def share(candidate, **place):
        start = {"w": jnp.full((4,), 0.1)}
        return shared.fit(start, simple, rows(), epochs=candidate.epochs, seed=candidate.seed, **place)

    result = look(Together(share), tmp_path / "search", cull_fraction=0.0)
    assert any("already serves another run" in one.message for one in result.standings)


# -- arguments -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cull_fraction": 1.0}, "lies between 0 and 1, got 1.0"),
        ({"cull_fraction": -0.1}, "lies between 0 and 1"),
        ({"cull_fraction": float("nan")}, "lies between 0 and 1"),
        ({"cull_fraction": 0.99}, "which spares nothing"),
        ({"keep": 4}, "keeping 4 of 4 candidates culls none"),
        ({"keep": 0}, "keep must be a whole number, at least 1"),
        ({"every": candidates(range(2), epochs=4)[1:]}, "numbered from 0"),
    ],
)
def test_arguments_that_could_only_disappoint(tmp_path, changed, said):
    with pytest.raises(UsageError, match=said):
        look(Together(train), tmp_path / "search", **changed)
    assert not (tmp_path / "search").exists()


def test_settings_must_be_json(tmp_path):
    with pytest.raises(UsageError, match="settings must be what JSON can hold"):
        look(Together(train), tmp_path / "search", settings={"odd": object()})


def test_an_engine_of_ones_own(tmp_path):
    """Anything that trains tasks and says when they have ended."""

    class Backwards(InTurn):
        name = "backwards"

        def run(self, tasks):
            for task in reversed(tasks):
                yield None
                train(task.candidate, run=task.path, until=task.until, resume=task.begun)
                yield Ended(task, RunError("so I say") if task.candidate.number == 0 else None)

    result = look(Backwards(train), tmp_path / "search")
    assert result.standings[-1].message == "so I say"
    assert result.winner is not None


def test_progress_is_told_in_lines_that_fit(tmp_path):
    said = []
    every = candidates([123456789], epochs=40, grid={"rate": [0.05], "a_long_name_of_a_setting": ["and its value"]})
    slow = functools.partial(train, seconds=0.02)
    search(every, Together(slow), run=tmp_path / "search", metric="val_mean", mode="min", say=said.append)
    assert max(map(len, said)) <= 80
    assert said[-1].startswith("  0  seed 123456789")
    assert "epoch 40/40" in said[-1]
    assert 2 <= len(said) <= 8
    assert SearchFolder(tmp_path / "search").read_winner()["candidate"] == 0


def test_data_of_ones_own_and_running_state(tmp_path):
    """What differs between candidates travels with them, whatever it is."""

    def own(candidate, **place):
        x, y = rows()
        x = x * np.float32(1 + candidate.seed)
        start = {"w": jnp.full((4,), 0.1)}
        plain = dataclasses.replace(trainer(), callbacks=[Best("val_loss", "min")])
        return plain.fit(
            start,
            simple,
            (x, y),
            epochs=candidate.epochs,
            batch_size=8,
            seed=candidate.seed,
            validation=(x[:7], y[:7]),
            **place,
        )

    settings = {"metric": "val_loss", "ties": ()}
    one = look(Together(own), tmp_path / "vmap", **settings)
    other = look(InTurn(own), tmp_path / "turn", **settings)
    for mine, theirs in zip(one.standings, other.standings, strict=True):
        assert mine.candidate == theirs.candidate
        assert mine.score == pytest.approx(theirs.score, rel=1e-5)
