"""``hardgrad search``: what it prints and leaves, whatever happens in between."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from hardgrad import zoo
from hardgrad.cli import main
from hardgrad.search import SearchFolder
from hardgrad.training import RunFolder
from hardgrad.training.callbacks import Evaluate


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Searches land in a folder of the test's own, on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def table(path):
    """search.csv without times."""
    with open(pathlib.Path(path) / "search.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def fits(said):
    assert max(len(line) for line in said.splitlines()) <= 80, said


SMALL = ["hypercausal-depth", "--epochs", "6", "--patience", "9"]
RATES = ["--grid", "learning-rate=0.01,0.1", "--seeds", "0,1"]


def test_seeds_and_settings_culled_in_one_program(capsys):
    given = ["search", *SMALL, *RATES, "--cull-fraction", "0.5", "--keep", "1", "--out", "a search"]
    assert main(given) == 0
    said = capsys.readouterr()
    fits(said.out)
    fits(said.err)
    lines = said.out.splitlines()
    assert lines[0].split() == ["candidate", "status", "epochs", "score", "at", "time", "settings"]
    assert [line.split()[1] for line in lines[1:5]] == ["finished", "culled", "culled", "culled"]
    assert lines[5] == "score: the lowest val_loss; at: its epoch, counted from 0"
    # Seeds mean nothing to a method without chance: the tie goes to the lower number.
    assert "winner: candidate 2: seed 0, learning_rate=0.1" in lines
    winner = json.loads(pathlib.Path("a search/winner.json").read_text())
    assert f"val_loss {winner['score']!r} in epoch 5" in lines
    assert lines[-1].startswith(f"scored again from its best parameters: {winner['scored_again']['value']!r}, the same")
    assert winner["scored_again"]["value"] == pytest.approx(winner["score"], rel=1e-12)
    assert winner["config"]["settings"]["config"]["learning_rate"] == 0.1
    assert winner["search"]["engine"] == "vmap"
    assert "manifest: 'a search/winner.json'" in said.err
    assert "culled: 0, 1, 3; on go: 2" in said.err
    assert [row["settings.learning_rate"] for row in table("a search")] == ["0.01", "0.01", "0.1", "0.1"]
    assert [row["epochs"] for row in table("a search")] == ["3", "3", "6", "3"]


def test_every_part_of_it_works_on_a_search(capsys):
    assert main(["search", "hypercausal-graph", "--smoke", "--quiet"]) == 0
    path = "runs/search-hypercausal-graph-001"
    first = capsys.readouterr()
    assert "the same to the bit" in first.out
    assert "epoch" not in first.err
    before = table(path)
    assert [row["status"] for row in before] in (["finished", "culled"], ["culled", "finished"])
    assert main(["resume", path, "--quiet"]) == 0
    assert capsys.readouterr().out == first.out
    assert main(["watch", path]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("status=END winner=")
    assert main(["report", path]) == 0
    page = pathlib.Path(path, "report.html").read_text()
    assert "report of a search" in page
    assert "culled" in page
    assert page.count("<img") == 1
    winner = json.loads(pathlib.Path(path, "winner.json").read_text())["candidate"]
    culled = 1 - winner
    for number in (0, 1):
        assert main(["report", f"{path}/candidates/{number}"]) == 0
        assert main(["watch", f"{path}/candidates/{number}", "--once"]) == 0
    capsys.readouterr()
    assert main(["resume", f"{path}/candidates/{culled}", "--quiet"]) == 0
    assert "completed: all 2 epochs done" in capsys.readouterr().err
    assert main(["resume", path, "--quiet"]) == 0
    assert table(path) == before
    capsys.readouterr()
    assert main(["resume", path, "--until", "1"]) == 2
    assert "--until is about a run" in capsys.readouterr().err
    assert main(["search", "hypercausal-graph", "--smoke", "--out", path]) == 2
    assert "already holds a search, which stays untouched" in capsys.readouterr().err


def test_a_run_that_is_paused_goes_on(capsys):
    assert main(["run", "hypercausal-depth", "--smoke", "--out", "straight", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["run", "hypercausal-depth", "--smoke", "--out", "r", "--quiet", "--until", "2"]) == 0
    said = capsys.readouterr()
    assert "paused: paused after 2 of 6 epochs" in said.err
    assert "run: r    go on: hardgrad resume r" in said.err
    assert main(["report", "r"]) == 0
    assert main(["resume", "r", "--quiet", "--until", "4"]) == 0
    assert main(["resume", "r", "--quiet"]) == 0
    one, two = (json.loads(pathlib.Path(n, "result.json").read_text()) for n in ("straight", "r"))
    assert {k: v for k, v in one.items() if k != "wall_seconds"} == {
        k: v for k, v in two.items() if k != "wall_seconds"
    }


def test_processes_agree_with_one_program(capsys):
    given = ["search", *SMALL, "--grid", "learning-rate=0.01,0.1", "--seeds", "0", "--quiet"]
    assert main([*given, "--engine", "processes", "--out", "processes"]) == 0
    assert main([*given, "--engine", "vmap", "--out", "vmap"]) == 0
    capsys.readouterr()
    for one, other in zip(table("processes"), table("vmap"), strict=True):
        assert float(one.pop("score")) == pytest.approx(float(other.pop("score")), rel=1e-12)
        assert one == other
    assert [p.name for p in pathlib.Path("processes/candidates").iterdir() if p.suffix == ".log"] == []
    alone = ["run", *SMALL, "--learning-rate", "0.1", "--out", "alone", "--quiet"]
    assert main(alone) == 0
    results = [json.loads(pathlib.Path(p, "result.json").read_text()) for p in ("alone", "processes/candidates/1")]
    assert results[0]["best"] == results[1]["best"]  # to the bit


def test_what_cannot_share_a_program_trains_in_processes(capsys):
    given = ["search", *SMALL, "--grid", "steps=48,40", "--seeds", "0", "--out"]
    assert main([*given, "auto"]) == 0
    said = capsys.readouterr().err
    assert "candidates 0 and 1 can't train in one program: they differ in an array of their data" in said
    assert "So they train in processes." in said
    assert json.loads(pathlib.Path("auto/search.json").read_text())["engine"] == "processes"
    assert {row["status"] for row in table("auto")} == {"finished"}
    assert main([*given, "vmap", "--engine", "vmap", "--quiet"]) == 2
    assert "Take the engine 'processes'." in capsys.readouterr().err


def test_a_candidate_that_fails_in_its_process(capsys, monkeypatch):
    from hardgrad.zoo import _search

    worker = [sys.executable, "-c", WORKER]
    real = _search.Processes
    monkeypatch.setattr(
        _search, "Processes", lambda command, describe, **more: real(lambda t: worker, describe, **more)
    )
    given = ["search", *SMALL, "--seeds", "0-2", "--engine", "processes", "--out", "s"]
    assert main(given) == 0
    said = capsys.readouterr()
    fits(said.out)
    rows = table("s")
    assert [row["status"] for row in rows] == ["finished", "failed", "failed"]
    assert rows[1]["message"] == "ValueError: on purpose"
    assert rows[2]["message"] == "its process was killed by SIGKILL"
    assert "Traceback" in pathlib.Path("s/candidates/1.log").read_text()
    assert "winner: candidate 0" in said.out


WORKER = """
import json, os, sys
from hardgrad.zoo import _worker
line = _worker._line()
task = json.loads(line)
if task["config"]["seed"] == 1:
    raise ValueError("on purpose")
if task["config"]["seed"] == 2:
    os.kill(os.getpid(), 9)
_worker._line = lambda: line
sys.exit(_worker.main())
"""


@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
def test_no_winner_exits_with_1(capsys):
    huge = {"amp": 1e200, "fn": "cos", "omega": 0.1, "phase": 0.0}
    pathlib.Path("my.json").write_text(json.dumps({"target_channels": [huge] * 3, "patience": 99}))
    assert main(["search", "hypercausal-depth", "--config", "my.json", "--seeds", "0,1", "--out", "s", "--quiet"]) == 1
    said = capsys.readouterr()
    assert "no winner: no candidate finished with a finite score" in said.err
    assert {row["status"] for row in table("s")} == {"diverged"}
    assert "10 steps in a row were not finite" in table("s")[0]["message"]
    assert main(["report", "s"]) == 0
    assert main(["watch", "s"]) == 1
    assert main(["resume", "s", "--quiet"]) == 1


def test_a_score_of_training_cannot_be_found_again(capsys):
    pytest.importorskip("statsmodels")
    assert main(["search", "hypercausal-sunspots", "--smoke", "--quiet", "--out", "s"]) == 0
    assert "not scored again: 'loss' is a figure of training" in capsys.readouterr().out
    assert json.loads(pathlib.Path("s/winner.json").read_text())["scored_again"]["value"] is None


def with_evaluation(monkeypatch, every=1, ties=()):
    """hypercausal-depth, scored by what is measured between epochs."""
    from hardgrad.training.callbacks import Best
    from hardgrad.zoo import hypercausal_depth

    recipe = hypercausal_depth.RECIPE

    def experiment(config):
        made = recipe.experiment(config)
        score = Evaluate(lambda model: {"bias": sum(float(n.cell.bias) for n in model.nodes)}, ["bias"], every=every)
        trainer = dataclasses.replace(made.trainer, callbacks=[score, Best("val_bias", "max")])
        return dataclasses.replace(made, trainer=trainer, ties=ties)

    monkeypatch.setattr(hypercausal_depth, "RECIPE", dataclasses.replace(recipe, experiment=experiment))


def test_what_is_measured_between_epochs_ranks_and_is_found_again(capsys, monkeypatch):
    with_evaluation(monkeypatch, every=2, ties=(("val_loss", "min"),))
    assert main(["search", *SMALL, *RATES, "--cull-fraction", "0.5", "--keep", "2", "--out", "s"]) == 0
    said = capsys.readouterr()
    assert "the same to the bit" in said.out
    rows = table("s")
    assert "val_loss" in rows[0]
    winner = SearchFolder("s").read_winner()
    records = list(RunFolder(pathlib.Path("s", winner["run"])).records())
    assert winner["score"] == max(r.metrics["val_bias"] for r in records if "val_bias" in r.metrics)
    assert winner["ties"] == {"val_loss": records[winner["best_epoch"]].metrics["val_loss"]}


def test_culling_before_there_is_a_score_is_refused(capsys, monkeypatch):
    with_evaluation(monkeypatch, every=4)
    assert main(["search", *SMALL, "--cull-fraction", "0.5", "--keep", "1", "--out", "s"]) == 2
    said = capsys.readouterr().err
    assert "after 3 epochs there is nothing to rank by: 'val_bias' is measured every 4 epochs. Cull later." in said
    assert not pathlib.Path("s").exists()


def test_a_winner_that_scores_otherwise_is_called_out(capsys, monkeypatch):
    with_evaluation(monkeypatch)
    monkeypatch.setattr(Evaluate, "scores", _drifting())
    assert main(["search", *SMALL, "--seeds", "0", "--out", "s", "--quiet"]) == 1
    assert "NOT THE SAME" in capsys.readouterr().out
    assert json.loads(pathlib.Path("s/winner.json").read_text())["scored_again"]["same"] is False


def _drifting():
    calls = []

    def scores(self, model):
        calls.append(1)
        return {"val_bias": float(len(calls))}

    return scores


def test_from_python(tmp_path):
    found = zoo.search("hypercausal-depth", seeds=[0, 1], run=tmp_path / "s", engine="turn")
    assert found.result.winner.candidate.number == 0  # a tie
    assert found.rescored.same
    with pytest.raises(Exception, match=r"takes a Config|violates"):
        zoo.search("hypercausal-depth", {"epochs": 3}, seeds=[0])
    again = zoo.resume_search(tmp_path / "s")
    assert again.result.winner == found.result.winner
    assert zoo.searched_recipe(SearchFolder(tmp_path / "s"))[0] == "hypercausal-depth"


# -- killed and interrupted ----------------------------------------------------------------------

LONG = ["hypercausal-depth", "--epochs", "1500", "--patience", "9999", "--grid", "learning-rate=0.02,0.05"]
KILLED = [*LONG, "--seeds", "0", "--cull-fraction", "0.4", "--keep", "1"]


def start(*arguments):
    process = subprocess.Popen(
        [sys.executable, "-m", "hardgrad", "search", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    return process


def wait_for(path, epochs, process):
    """Until a run's telemetry tells of so many epochs."""
    while process.poll() is None:
        if path.exists() and path.read_bytes().count(b'"epoch_end"') >= epochs:
            return
        time.sleep(0.002)
    raise AssertionError(process.stderr.read().decode())


@pytest.mark.optimised
@pytest.mark.slow
def test_killed_with_its_processes_and_resumed(capsys):
    given = [*KILLED, "--engine", "processes", "--quiet"]
    assert main(["search", *given, "--out", "straight"]) == 0
    for out, epochs in (("early", 200), ("late", 900)):
        winner = SearchFolder("straight").read_winner()["candidate"]
        with start(*given, "--out", out) as process:
            for number, wanted in ((0, 1), (1, 1), (winner, epochs)):  # each has a folder by then
                wait_for(pathlib.Path(out, "candidates", str(number), "telemetry.jsonl"), wanted, process)
            process.kill()
        for number in (0, 1):  # its processes end with it
            run = RunFolder(pathlib.Path(out, "candidates", str(number)))
            deadline = time.monotonic() + 10
            while run.in_use():
                assert time.monotonic() < deadline
                time.sleep(0.01)
        capsys.readouterr()
        assert main(["resume", out, "--quiet"]) == 0
        assert table(out) == table("straight")
        assert SearchFolder(out).read_winner()["score"] == SearchFolder("straight").read_winner()["score"]


@pytest.fixture
def ctrl_c_works():
    """Also where the suite was started in the background, whose processes are born deaf to it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize("engine", ["vmap", "processes"])
def test_ctrl_c_says_how_to_go_on(engine, capsys, ctrl_c_works):
    with start(*KILLED, "--engine", engine, "--out", "s", "--quiet") as process:
        wait_for(pathlib.Path("s/candidates/0/telemetry.jsonl"), 50, process)
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
        assert process.wait() == 130
    assert said.strip().splitlines() == [
        "interrupted: what is saved is saved",
        "search: s",
        "go on: hardgrad resume s",
    ]
    assert main(["watch", "s", "--once"]) == 1
    assert capsys.readouterr().out.startswith("status=DEAD over=0 of=2")
    assert main(["resume", "s", "--quiet"]) == 0
    assert sorted(row["status"] for row in table("s")) == ["culled", "finished"]


def test_a_worker_ends_when_its_search_has_gone():
    process = subprocess.Popen([sys.executable, "-m", "hardgrad.zoo._worker"], stdin=subprocess.PIPE)
    process.stdin.close()
    assert process.wait(timeout=60) == 3


def test_workers_have_their_share_of_the_cores(monkeypatch):
    from hardgrad.search import _engines

    monkeypatch.setattr(_engines, "_cores", lambda: 8)
    given = _engines._environment(2)
    assert (given["OMP_NUM_THREADS"], given["NPROC"]) == ("2", "2")
    assert "NPROC" not in {k for k, v in _engines._environment(8).items() if os.environ.get(k) != v}
