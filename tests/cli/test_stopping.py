"""Ctrl-C, once and again, in every part of a run: what is said at once, what is kept, and how to go on."""

from __future__ import annotations

import json
import pathlib
import signal
import time

import pytest

from hardgrad.cli import _main, main, run_command
from hardgrad.cli._stopping import Stopping
from hardgrad.training import RunFolder
from hardgrad.training.callbacks import Callback
from hardgrad.zoo import _launch

RUN = ["run", "hypercausal-depth", "--epochs", "3", "--quiet", "--out", "r"]
SAID = "stopping: what was reached is being scored; Ctrl-C again leaves that out"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """Also where the suite was started in the background, whose processes are born deaf to Ctrl-C."""
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Press(Callback):
    """Ctrl-C after the first epoch."""

    order = 99

    def __init__(self, stopping):
        self.stopping = stopping

    def on_epoch_end(self, run, record):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            deadline = time.monotonic() + 10
            while self.stopping._training:  # it is answered by a thread
                assert time.monotonic() < deadline
                time.sleep(0.001)
            raise


@pytest.fixture
def pressed(monkeypatch):
    real = run_command.launch

    def launch(*given, callbacks, **more):
        stopping = next(one for one in callbacks if isinstance(one, Stopping))
        return real(*given, callbacks=[*callbacks, Press(stopping)], **more)

    monkeypatch.setattr(run_command, "launch", launch)


def refuse(*given, **more):
    raise KeyboardInterrupt


def test_once_is_answered_at_once_and_the_result_says_where_it_stands(pressed, capsys):
    assert main(RUN) == 130
    printed = capsys.readouterr()
    assert printed.err.splitlines()[0] == SAID
    assert printed.err.count("stopping") == 1
    assert "Interrupted after 1 of 3 epochs: the figures are of these." in printed.err
    assert "interrupted after 1 of 3 epochs (1 epochs" in printed.err
    assert printed.err.splitlines()[-1] == "run: r    go on: hardgrad resume r"
    result = json.loads(pathlib.Path("r/result.json").read_text())
    assert result["notes"][-1] == "Interrupted after 1 of 3 epochs: the figures are of these."
    assert result["wall_seconds"] > 0
    assert main(["resume", "r", "--quiet"]) == 0
    assert not any("Interrupted" in note for note in json.loads(pathlib.Path("r/result.json").read_text())["notes"])


def test_again_leaves_the_result_out_and_says_how_to_go_on(pressed, capsys, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_json", refuse)
        assert main(RUN) == 130
    said = capsys.readouterr().err.splitlines()
    assert said == [SAID, "", "interrupted: what is saved is saved", "run: r    go on: hardgrad resume r"]
    with monkeypatch.context() as patched:
        patched.setattr(_launch, "_run", refuse)
        assert main(["resume", "r", "--quiet"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "run: r    go on: hardgrad resume r"
    assert main(["resume", "r", "--quiet"]) == 0


@pytest.mark.parametrize("given", [["--out", "r"], []])
def test_before_the_run_has_begun_there_is_nothing_to_resume(capsys, monkeypatch, tmp_path, given):
    monkeypatch.setattr(_launch, "_run", refuse)
    assert main(["run", "hypercausal-depth", *given]) == 130
    assert capsys.readouterr().err == "\ninterrupted before the run began: there is nothing to resume\n"
    assert not (tmp_path / "r").exists()
    assert not list(tmp_path.glob("runs/*"))


def test_before_a_command_is_there_nothing_was_begun(capsys, monkeypatch):
    monkeypatch.setattr(_main.importlib, "import_module", refuse)
    assert main(RUN) == 130
    assert capsys.readouterr().err == "hardgrad: interrupted before anything was begun.\n"


def test_ctrl_c_is_as_it_was_when_the_run_is_over():
    before = signal.set_wakeup_fd(-1)
    with Stopping().announced():
        assert signal.set_wakeup_fd(-1) != before
    assert signal.set_wakeup_fd(before) == before
