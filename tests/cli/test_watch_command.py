"""``hardgrad watch``: a line an event, until the run ends."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

from hardgrad.cli import main, watch_command


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "hypercausal-depth", "--smoke", "--out", "run", "--quiet"]) == 0
    capsys.readouterr()


def test_once_remembers_what_it_has_seen(capsys):
    assert main(["watch", "run", "--once"]) == 0
    first = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in first] == ["status=NEW_CKPT", "status=END"]
    assert "checkpoint=6" in first[0]
    assert "val_loss=" in first[0]
    assert main(["watch", "run", "--once"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["status=END"]
    assert json.loads(pathlib.Path("run/watch.json").read_text())["checkpoint"] == 6
    assert main(["watch", "run", "--once", "--state", "elsewhere.json"]) == 0
    assert "status=NEW_CKPT" in capsys.readouterr().out
    assert pathlib.Path("elsewhere.json").is_file()


def test_it_follows_until_the_end(capsys, monkeypatch):
    naps = []
    result = pathlib.Path("run/result.json")
    content = result.read_text()
    result.unlink()

    def nap(seconds):
        naps.append(seconds)
        if len(naps) == 5:
            result.write_text(content)

    monkeypatch.setattr(watch_command.time, "sleep", nap)
    with held("run"):
        monkeypatch.setattr(watch_command, "poll_run", let_go_when(result, watch_command.poll_run))
        assert main(["watch", "run", "--interval", "7", "--heartbeat", "2"]) == 0
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert said == ["status=NEW_CKPT", "status=HEARTBEAT", "status=HEARTBEAT", "status=END"]
    assert naps == [7.0] * 5
    assert not pathlib.Path("run/watch.json").exists()


def held(path):
    from hardgrad.training import RunFolder

    return RunFolder(path).held()


def let_go_when(result, poll):
    """The poll, of a run that is trained until its result is there."""

    def look(folder, memory, limits):
        if result.exists():
            type(folder).in_use = lambda self: False
        try:
            return poll(folder, memory, limits)
        finally:
            type(folder).in_use = original

    from hardgrad.training import RunFolder

    original = RunFolder.in_use
    return look


def test_dead_and_diverged_runs_exit_with_1(capsys):
    result = pathlib.Path("run/result.json")
    changed = {**json.loads(result.read_text()), "status": "diverged"}
    result.write_text(json.dumps(changed))
    assert main(["watch", "run"]) == 1
    assert "status=END result=diverged" in capsys.readouterr().out
    result.unlink()
    assert main(["watch", "run"]) == 1
    assert capsys.readouterr().out.startswith("status=DEAD")


@pytest.mark.optimised
def test_a_real_run_is_watched_to_its_end():
    train = [sys.executable, "-m", "hardgrad", "run", "hypercausal-depth", "--epochs", "3000", "--patience", "9999"]
    with subprocess.Popen([*train, "--out", "long", "--quiet"], stdout=subprocess.DEVNULL) as process:
        while not pathlib.Path("long/telemetry.jsonl").exists():
            assert process.poll() is None
        done = subprocess.run(
            [sys.executable, "-m", "hardgrad", "watch", "long", "--interval", "0.2"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert process.wait() == 0
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("status=END result=completed epoch=3000")
    assert "status=NEW_CKPT" in done.stdout
    assert "status=DEAD" not in done.stdout
