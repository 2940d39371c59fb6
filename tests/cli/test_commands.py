"""The commands: what they print, what they leave, what they return."""

from __future__ import annotations

import html
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from hardgrad import zoo
from hardgrad.cli import main
from hardgrad.training import RunFolder

RECIPES = [entry.name for entry in zoo.entries()]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Runs land in a folder of the test's own, on a terminal of 80 columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


HELP = [
    ["--help"],
    ["list", "--help"],
    ["choose", "--help"],
    ["run", "--help"],
    ["resume", "--help"],
    ["search", "--help"],
    ["search", "hypercausal-depth", "--help"],
    ["watch", "--help"],
    ["audit", "--help"],
    ["audit", "hypercausal-depth", "--help"],
    ["audit", "--model", "--help"],
    ["bench", "--help"],
    ["bench", "hypercausal-depth", "--help"],
    ["report", "--help"],
    ["matrix", "--help"],
    *(["run", name, "--help"] for name in RECIPES),
]


@pytest.mark.parametrize("arguments", HELP, ids=" ".join)
def test_help_fits_the_screen_and_holds_an_example(capsys, arguments):
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert max(len(line) for line in said.out.splitlines()) <= 80
    assert "xample" in said.out
    assert f"hardgrad {arguments[0]}" in said.out or arguments == ["--help"]


def test_no_command_is_a_call_for_help(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("usage: hardgrad COMMAND")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("hardgrad 0.")


def test_list_names_every_recipe_and_fits_the_screen(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert all(any(line.startswith(name) for line in out.splitlines()) for name in RECIPES)
    assert main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == RECIPES
    assert {"summary", "application", "method", "architecture", "order"} == rows[0].keys() - {"name"}
    assert main(["list", "--application", "hypercausal"]) == 0
    assert "hypercausal-graph" in capsys.readouterr().out


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs_its_smallest_budget_and_reports(tmp_path, capsys, name):
    if name == "hypercausal-sunspots":
        pytest.importorskip("statsmodels")
    out = tmp_path / "a run"  # a path with a blank
    assert main(["run", name, "--smoke", "--out", str(out), "--quiet"]) == 0
    said = capsys.readouterr()
    assert f"run: '{out}'    report: hardgrad report '{out}'" in said.err
    assert "{run}" not in said.out
    result = json.loads((out / "result.json").read_text())
    config = json.loads((out / "config.json").read_text())
    assert (result["status"], result["recipe"], result["skipped"]) == ("completed", name, 0)
    assert any(letter.isdigit() for letter in result["headline"])
    assert "\n" not in result["headline"]
    assert len(result["headline"]) <= 110
    assert config["settings"]["recipe"] == name
    assert {"hardgrad", "jax", "python", "platform"} <= config["environment"].keys()
    smoke = zoo.find(name).load().smoke
    assert result["epochs_completed"] == smoke["epochs"]
    assert {p.name for p in out.iterdir()} >= {"config.json", "telemetry.jsonl", "result.json", "checkpoints", "best"}
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert main(["report", str(out)]) == 0
    assert f"report: '{out}/report.html'" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert html.escape(result["headline"], quote=False)[:40] in page
    smoke_note = "This is a smoke run: nothing can be read from its figures."
    assert all(smoke_note in text for text in (said.err, page, *result["notes"][-1:]))
    text = html.unescape(page)
    assert all(line.replace("{run}", str(out)) in text for line in result["lines"])
    assert {p: p.read_bytes() for p in before} == before  # nothing else was touched


@pytest.mark.parametrize("estimator", ["autodiff", "forward", "central", "spsa", "nes"])
def test_the_published_recipe_with_every_estimator(tmp_path, capsys, estimator):
    assert main(["run", "hypercausal-depth", "--estimator", estimator, "--out", "r", "--quiet", "--patience", "9"]) == 0
    result = json.loads(pathlib.Path("r/result.json").read_text())
    # Beyond the gain of growing depth, which the frozen epochs show apart: the last stretch falls by training.
    last = [e["after"]["total"] for e in result["epochs"] if e["depths"][0] == 3]
    assert last[-1] < last[0]
    # The published figure, as close as each estimator's bias and variance let it.
    distance = {"autodiff": 1e-7, "central": 1e-12, "forward": 1e-4, "spsa": 5e-3, "nes": 5e-3}[estimator]
    assert abs(result["best"]["total"] - 0.023146860278082843) < distance


@pytest.mark.parametrize("estimator", ["forward", "spsa", "nes"])
def test_every_estimator_of_order_0_on_the_host(capsys, estimator):
    given = ["--execution", "host", "--smoke", "--patience", "9", "--estimator", estimator]
    assert main(["run", "hypercausal-depth", *given, "--out", "host", "--quiet"]) == 0
    assert main(["run", "hypercausal-depth", *given[2:], "--out", "compiled", "--quiet"]) == 0
    host, compiled = (json.loads(pathlib.Path(n, "result.json").read_text()) for n in ("host", "compiled"))
    for ours, theirs in zip(host["epochs"], compiled["epochs"], strict=True):
        assert ours["after"]["total"] == pytest.approx(theirs["after"]["total"], abs=1e-9)


def test_options_win_over_the_file_and_the_file_over_defaults(capsys):
    pathlib.Path("my.json").write_text(json.dumps({"base_lr": 0.25, "epochs": 3, "K": 4}))
    assert main(["run", "hypercausal-depth", "--config=my.json", "--epochs", "2", "--out", "r", "--quiet"]) == 0
    config = json.loads(pathlib.Path("r/config.json").read_text())["settings"]["config"]
    assert (config["learning_rate"], config["epochs"], config["branches"], config["steps"]) == (0.25, 2, 4, 48)
    # What a run keeps is itself a config: the same run again.
    pathlib.Path("again.json").write_text(json.dumps(config))
    assert main(["run", "hypercausal-depth", "--config", "again.json", "--out", "r2", "--quiet"]) == 0
    one, two = (json.loads(pathlib.Path(n, "result.json").read_text())["epochs"] for n in ("r", "r2"))
    assert one == two


def test_runs_without_a_name_get_the_next_free_one(capsys):
    for _ in range(2):
        assert main(["run", "hypercausal-graph", "--smoke", "--quiet"]) == 0
    assert sorted(p.name for p in pathlib.Path("runs").iterdir()) == ["hypercausal-graph-001", "hypercausal-graph-002"]


def test_no_epochs(capsys):
    assert main(["run", "hypercausal-depth", "--epochs", "0", "--out", "r", "--quiet"]) == 0
    assert json.loads(pathlib.Path("r/result.json").read_text())["epochs"] == []
    assert main(["report", "r"]) == 0
    assert main(["resume", "r", "--quiet"]) == 0


def test_tensorboard_is_an_option(capsys):
    pytest.importorskip("tensorboardX")
    assert main(["run", "hypercausal-graph", "--smoke", "--out", "r", "--quiet", "--tensorboard"]) == 0
    assert list(pathlib.Path("r/tensorboard").iterdir())


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # NumPy, of metrics that are infinite
def test_a_run_that_diverges_exits_with_1_and_says_so(capsys):
    huge = {"amp": 1e200, "fn": "cos", "omega": 0.1, "phase": 0.0}
    pathlib.Path("my.json").write_text(json.dumps({"target_channels": [huge] * 3, "patience": 99}))
    assert main(["run", "hypercausal-depth", "--config", "my.json", "--out", "r", "--quiet"]) == 1
    said = capsys.readouterr()
    assert "diverged: 10 steps in a row were not finite" in said.err
    assert "10 of 10 steps were not finite and left out" in said.err
    result = json.loads(pathlib.Path("r/result.json").read_text(), parse_constant=pytest.fail)
    assert result["status"] == "diverged"
    assert result["best"] is None  # what is not finite is never best
    assert result["epochs"][0]["before"]["total"] == "Infinity"


def test_resuming_a_finished_run_gives_the_same_again(capsys):
    assert main(["run", "hypercausal-depth", "--smoke", "--out", "r", "--quiet"]) == 0
    first = capsys.readouterr().out
    before = json.loads(pathlib.Path("r/result.json").read_text())
    telemetry = pathlib.Path("r/telemetry.jsonl").read_bytes()
    assert main(["resume", "r", "--quiet"]) == 0
    after = json.loads(pathlib.Path("r/result.json").read_text())
    assert {k: v for k, v in after.items() if k != "wall_seconds"} == {
        k: v for k, v in before.items() if k != "wall_seconds"
    }
    assert pathlib.Path("r/telemetry.jsonl").read_bytes() == telemetry
    said = capsys.readouterr()
    second = said.out
    assert "nothing was left to train" in said.err
    assert first.endswith(second)  # the epoch lines are not printed again, the conclusion is


def test_the_front_door_in_a_process_of_its_own(tmp_path):
    """Output that goes to a file is all there, though the bar is drawn on a terminal beside it."""
    import pty

    screen, terminal = pty.openpty()
    with open("out.txt", "wb") as out:
        arguments = ["-m", "hardgrad", "run", "hypercausal-graph", "--smoke", "--out", "r"]
        process = subprocess.Popen([sys.executable, *arguments], stdout=out, stderr=terminal)
    os.close(terminal)
    drawn = b""
    while True:
        try:
            part = os.read(screen, 65536)
        except OSError:
            break
        if not part:
            break
        drawn += part
    os.close(screen)
    assert process.wait() == 0
    lines = pathlib.Path("out.txt").read_text().splitlines()
    assert [line[:9] for line in lines[:2]] == ["[Epoch 0]", "[Epoch 1]"]
    assert b"[Epoch" not in drawn
    assert b"2/2" in drawn
    assert b"completed: all 2 epochs done" in drawn


def test_a_pipe_that_closes_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "hardgrad", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() in (0, 1, 120)
    assert said == b""


def test_letters_the_output_lacks_are_replaced():
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    given = [sys.executable, "-m", "hardgrad", "run", "hypercausal-depth"]
    done = subprocess.run([*given, "--epochs", "0", "--quiet", "--out", "r"], env=environment, capture_output=True)
    assert (done.returncode, b"Telemetry JSONL ? " in done.stdout) == (0, True)
    done = subprocess.run([*given, "--epoch", "3"], env=environment, capture_output=True)
    assert (done.returncode, b"there is no option --epoch. Did you mean --epochs?" in done.stderr) == (2, True)


def test_runs_are_the_same_from_python(tmp_path, capsys):
    launched = zoo.launch("hypercausal-graph", run=tmp_path / "r")
    assert launched.folder.path == tmp_path / "r"
    assert launched.result == json.loads((tmp_path / "r" / "result.json").read_text())
    epochs = [r for r in RunFolder(tmp_path / "r").telemetry() if r["kind"] == "epoch_end"]
    assert len(epochs) == 6
    assert launched.result["epochs"][5]["loss_after"]["total"] == pytest.approx(0.029850, abs=5e-7)
    resumed = zoo.resume(tmp_path / "r")
    assert np.array_equal(resumed.result["final_states"], launched.result["final_states"])
