"""Watching: each event from files that someone else might have written, and from runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from searching import look, train

from hardgrad.core import UsageError, dumps
from hardgrad.search import (
    Candidate,
    Event,
    Goal,
    InTurn,
    Limits,
    SearchFolder,
    Setup,
    Standing,
    State,
    candidates,
    poll_run,
    poll_search,
)
from hardgrad.training import EpochRecord, RunFolder
from hardgrad.training._storage import save_tree


@pytest.fixture
def run(tmp_path):
    """A run that someone trains in, as far as anyone can tell."""
    folder = RunFolder.create(tmp_path / "run")
    folder.config_path.write_text("{}")
    with folder.held():
        yield folder


def tell(folder, *losses, skipped=0, **metrics):
    """Add an epoch for each loss."""
    begin = sum(1 for _ in folder.records())
    with open(folder.telemetry_path, "a", encoding="utf-8") as file:
        for epoch, loss in enumerate(losses, start=begin):
            figures = {"loss": loss, "skipped": skipped, **metrics}
            record = EpochRecord(epoch, epoch + 1, {}, figures).as_json()
            file.write(dumps({"kind": "epoch_end", **record}) + "\n")


def save(folder, epoch, best=None):
    """A checkpoint, and the best so far."""
    save_tree(folder.checkpoints_path / f"{epoch:06d}", {}, {"epoch": epoch})
    if best is not None:
        save_tree(folder.best_path, {}, {"metric": "val_score", "value": best, "epoch": epoch - 1})


def end(folder, status):
    tell_end = {"kind": "run_end", "epoch": 0, "status": status}
    with open(folder.telemetry_path, "a", encoding="utf-8") as file:
        file.write(json.dumps(tell_end) + "\n")
    folder.write_json(folder.result_path, {"status": status})


class Watcher:
    """Polls, and remembers as the command does: as JSON."""

    def __init__(self, folder, **limits):
        self.folder, self.limits, self.memory = folder, Limits(**limits), None
        self.look = poll_search if isinstance(folder, SearchFolder) else poll_run

    def __call__(self):
        self.poll = self.look(self.folder, self.memory, self.limits)
        self.memory = json.loads(dumps(self.poll.memory))
        return [event.status for event in self.poll.events]

    def fields(self, status):
        return next(dict(event.fields) for event in self.poll.events if event.status == status)


def test_a_heartbeat_every_so_many_polls(run):
    watch = Watcher(run)
    tell(run, 3.0, 2.0)
    assert [watch() for _ in range(8)] == [[], [], [], ["HEARTBEAT"]] * 2
    assert watch.fields("HEARTBEAT") == {"epoch": 2, "loss": 2.0}
    assert not watch.poll.over


def test_steps_that_were_not_finite(run):
    watch = Watcher(run)
    tell(run, 1.0, skipped=50)
    assert watch() == []
    tell(run, 1.0, 1.0, skipped=25)
    assert watch() == []
    tell(run, 1.0, skipped=51)
    assert watch() == ["NAN_SPIKE"]
    assert watch.fields("NAN_SPIKE") == {"skipped": 151, "grown": 51}
    assert watch() == []


def test_the_loss_leaps(run):
    watch = Watcher(run, window=3)
    tell(run, 1.0, 1.0, 1.0, 2.0, 2.0)
    assert watch() == []
    tell(run, 2.1)  # the mean of the last three is above twice that of the three before
    assert watch() == ["LOSS_SPIKE"]
    assert watch.fields("LOSS_SPIKE")["before"] == 1.0
    assert watch() == []  # told once
    tell(run, 8.0)
    assert watch() == []  # of overlapping epochs too
    tell(run, 8.0, 8.0)
    assert watch() == ["LOSS_SPIKE"]


def test_losses_below_zero_do_not_leap(run):
    tell(run, *[-1.0] * 5, *[-0.1] * 5)
    assert Watcher(run)() == []


@pytest.mark.parametrize("now", [float("inf"), float("nan")])
def test_a_loss_that_is_not_finite(run, now):
    tell(run, *[1.0] * 5, *[now] * 5)
    assert Watcher(run)() == ["LOSS_SPIKE"]


def test_new_checkpoints_and_the_plateau_of_their_scores(run):
    watch = Watcher(run, gain=0.02, checkpoints=2)
    tell(run, *[1.0] * 12, val_score=0.5)
    assert watch() == []
    for epoch, best, said in (
        (8, 0.50, "NEW_CKPT"),
        (9, 0.53, "NEW_CKPT"),
        (10, 0.54, "NEW_CKPT"),  # by its number, not its letters
        (11, 0.535, "PLATEAU"),
        (12, 0.60, "NEW_CKPT"),
    ):
        save(run, epoch, best)
        assert watch() == [said], epoch
        assert watch.fields(said)["checkpoint"] == epoch
        assert watch.fields(said)["best"] == best
        assert watch.fields(said)["val_score"] == 0.5
        assert watch() == []


def test_many_small_steps_are_a_move_in_the_end(run):
    """A plateau is measured from where the best last moved, not from the checkpoint before."""
    watch = Watcher(run, gain=0.02, checkpoints=3)
    tell(run, *[1.0] * 9)
    said = []
    for epoch in range(1, 9):
        save(run, epoch, 0.5 + 0.006 * epoch)
        said += watch()
    assert said == ["NEW_CKPT"] * 8


@pytest.mark.parametrize("unit", [1.0, 1e-3, -1e6])
def test_a_plateau_does_not_depend_on_the_unit_of_the_score(run, unit):
    """A small error that falls well is no plateau."""
    watch = Watcher(run)
    tell(run, *[1.0] * 7)
    said = []
    for epoch, best in enumerate((0.99, 0.78, 0.69, 0.60, 0.595, 0.59), start=1):
        save(run, epoch, unit * best)
        said += watch()
    assert said == ["NEW_CKPT"] * 5 + ["PLATEAU"]


def test_without_a_score_checkpoints_are_told_with_the_loss(run):
    watch = Watcher(run)
    tell(run, 1.0, 0.5)
    save(run, 2)
    assert watch() == ["NEW_CKPT"]
    assert watch.fields("NEW_CKPT") == {"checkpoint": 2, "loss": 0.5}


def test_a_checkpoint_that_cannot_be_read(run):
    watch = Watcher(run)
    tell(run, 1.0)
    save(run, 1)
    (run.checkpoints_path / "000001" / "manifest.json").write_text("{")
    assert watch() == ["CKPT_ERR"]
    assert "is damaged" in watch.fields("CKPT_ERR")["error"]
    assert watch() == []


def test_the_loss_stands_still(run):
    watch = Watcher(run, loss_polls=3, heartbeat=99)
    tell(run, 1.0)
    said = [watch()]
    for loss in (0.99, 0.985, 0.981, 0.90, 0.95, 0.899, 0.90, 0.89, 0.89, 0.89):
        assert watch() == []  # a poll without new epochs counts for nothing
        tell(run, loss)
        said.append(watch())
    assert said == [[], [], [], ["PLATEAU_LOSS"], [], [], [], ["PLATEAU_LOSS"], [], [], ["PLATEAU_LOSS"]]
    assert watch.fields("PLATEAU_LOSS") == {"epoch": 11, "loss": 0.89, "lowest": 0.89}


def test_several_things_at_once_are_all_told(run):
    watch = Watcher(run)
    tell(run, *[1.0] * 5, *[9.0] * 5, skipped=30)
    save(run, 10)
    assert watch() == ["NAN_SPIKE", "LOSS_SPIKE", "NEW_CKPT"]


@pytest.mark.parametrize(
    ("status", "well"),
    [("completed", True), ("stopped", True), ("paused", True), ("diverged", False), ("interrupted", False)],
)
def test_the_end(tmp_path, status, well):
    folder = RunFolder.create(tmp_path / "run")
    folder.config_path.write_text("{}")
    watch = Watcher(folder)
    with folder.held():
        tell(folder, 1.0)
        end(folder, status)
        assert watch() == []  # not yet: the process still tidies up
    assert watch() == ["END"]
    assert watch.fields("END") == {"result": status, "epoch": 1}
    assert (watch.poll.over, watch.poll.well) == (True, well)


def test_a_run_that_nobody_trains_is_dead(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.config_path.write_text("{}")
    watch = Watcher(folder)
    assert watch() == ["DEAD"]
    assert (watch.poll.over, watch.poll.well) == (True, False)
    tell(folder, 1.0)
    end(folder, "interrupted")  # an earlier session's
    tell(folder, 1.0)  # since then it was resumed, and killed
    assert watch() == ["DEAD"]
    with folder.held():
        assert watch() == []
    with open(folder.telemetry_path, "a") as file:
        file.write('{"kind": "error", "type": "ValueError", "message": "lost"}\n')
    assert watch() == ["DEAD"]
    assert watch.fields("DEAD")["error"] == "ValueError: lost"


def test_looking_does_not_keep_a_process_out(tmp_path):
    """A run that begins while someone looks waits a moment for the lock."""
    folder = RunFolder.create(tmp_path / "run")
    code = f"""
import fcntl, os, sys, time
descriptor = os.open({str(folder.path)!r}, os.O_RDONLY)
fcntl.flock(descriptor, fcntl.LOCK_SH)
print("looking", flush=True)
time.sleep(0.03)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as looker:
        looker.stdout.readline()
        with folder.held():
            pass
        looker.wait()


def test_damage_is_named(run):
    run.telemetry_path.write_text("{\n{}\n")
    with pytest.raises(UsageError, match="line 1 is damaged"):
        poll_run(run)
    run.telemetry_path.unlink()
    for memory in ({"epoch": "x"}, {"candidates": [1]}, {"skipped": None}):
        with pytest.raises(UsageError, match="what the last poll left is damaged"):
            poll_run(run, memory)


@pytest.mark.parametrize("wrong", [{"window": 0}, {"factor": 1.0}, {"gain": -1.0}, {"heartbeat": 0}, {"nonfinite": -1}])
def test_limits_out_of_range(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Limits(**wrong)


def test_lines_are_for_people_and_programs():
    event = Event("X", {"a": 1, "b": 0.123456789, "c": None, "d": "", "e": 'say "a b"', "f": True})
    assert event.line() == r'status=X a=1 b=0.123457 d="" e="say \"a b\"" f=True'


# -- searches ------------------------------------------------------------------------------------


@pytest.fixture
def search(tmp_path):
    """A search that someone works at: two candidates train, one is paused."""
    folder = SearchFolder.create(tmp_path / "search")
    setup = Setup(tuple(candidates(range(3), epochs=9)), Goal("val_score", "max"))
    folder.write_setup(setup)
    for number in range(3):
        RunFolder.create(folder.run(number).path).config_path.write_text("{}")
    with folder.held():
        yield folder, setup


def write(folder, setup, *states, score=None):
    standings = [Standing(one, state, 2, score) for one, state in zip(setup.candidates, states, strict=True)]
    folder.write_table(standings, setup.goal)


def test_a_search_is_watched_candidate_by_candidate(search):
    folder, setup = search
    watch = Watcher(folder, loss_polls=2)
    write(folder, setup, State.TRAINING, State.TRAINING, State.PAUSED)
    assert watch() == []
    tell(folder.run(1), *[1.0] * 5, *[9.0] * 5)
    tell(folder.run(0), 1.0, skipped=60)
    tell(folder.run(2), 1.0, skipped=60)  # does not train
    assert watch() == ["NAN_SPIKE", "LOSS_SPIKE"]
    assert watch.fields("NAN_SPIKE")["candidate"] == 0
    assert watch.fields("LOSS_SPIKE")["candidate"] == 1
    write(folder, setup, State.FINISHED, State.FAILED, State.CULLED, score=0.5)
    assert watch() == ["CANDIDATE"] * 3
    assert [event.fields["state"] for event in watch.poll.events] == ["finished", "failed", "culled"]
    assert [watch() for _ in range(4)] == [[], [], [], ["HEARTBEAT"]]
    assert watch.fields("HEARTBEAT") == {"over": 3, "of": 3}


def test_the_end_of_a_search(tmp_path):
    result = look(InTurn(train), tmp_path / "search", every=[Candidate(0, 0, 2), Candidate(1, 1, 2)], keep=1)
    watch = Watcher(result.folder)
    assert watch() == ["CANDIDATE", "CANDIDATE", "END"]
    assert watch.fields("END") == {"winner": result.winner.candidate.number, "score": result.winner.score}
    assert (watch.poll.over, watch.poll.well) == (True, True)
    assert watch() == ["END"]
    (tmp_path / "search" / "winner.json").unlink()
    assert watch() == ["END"]
    assert (watch.fields("END"), watch.poll.well) == ({"winner": "none"}, False)


def test_a_search_that_nobody_works_at_is_dead(tmp_path):
    folder = SearchFolder.create(tmp_path / "search")
    setup = Setup(tuple(candidates(range(3), epochs=9)), Goal("val_score", "max"))
    folder.write_setup(setup)
    assert Watcher(folder)() == ["DEAD"]  # before there is a table
    write(folder, setup, State.TRAINING, State.FINISHED, State.CULLED)
    watch = Watcher(folder)
    assert watch() == ["DEAD", "CANDIDATE", "CANDIDATE"]
    assert watch.fields("DEAD") == {"over": 2, "of": 3}
    shutil.rmtree(folder.path / "candidates")
    assert watch() == ["DEAD"]
