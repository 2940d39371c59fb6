"""Mistakes: one or two lines that say what to do, exit code 2, and nothing destroyed."""

from __future__ import annotations

import builtins
import errno
import hashlib
import json
import os
import pathlib
import shutil
import sys

import pytest

from hardgrad.cli import main


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run to be careful with."""
    import contextlib
    import io

    out = tmp_path_factory.mktemp("finished") / "run"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main(["run", "hypercausal-depth", "--smoke", "--out", str(out), "--quiet"]) == 0
    return out


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, finished):
    """A folder that holds a finished run, one that is damaged, and some files; every byte of it is watched."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    shutil.copytree(finished, "run")
    pathlib.Path("thesis").mkdir()
    pathlib.Path("thesis/chapter.tex").write_text("Years of work.")
    return tmp_path


def fingerprint(folder="."):
    """Every path and content below a folder."""
    found = {}
    for path in sorted(pathlib.Path(folder).rglob("*")):
        found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
    return found


def refused(capsys, *arguments, code=2):
    """What is said on the error stream, in at most two lines; nothing else has changed."""
    before = fingerprint()
    assert main([str(a) for a in arguments]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert 1 <= len(said.err.strip().splitlines()) <= 2, said.err
    assert said.err.startswith("hardgrad: ")
    assert "Traceback" not in said.err
    assert "not your mistake" not in said.err
    assert fingerprint() == before
    return said.err


RUN = ("run", "hypercausal-depth", "--quiet", "--out", "new")
CHOOSE = ("choose", "--application", "control", "--architecture", "lif", "--derivative", "none")
AUDIT = ("audit", "hypercausal-depth")
SEARCH = ("search", "hypercausal-depth", "--quiet", "--out", "new")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], "there is no command 'rnu'. Did you mean 'run'?"),
        (["xyzzy"], "There are: list, choose, run, resume, search, watch, audit, report, matrix, bench, export."),
        (["run", "hypercausal-dept"], "Did you mean 'hypercausal-depth'?"),
        (["run", "xyzzy"], "there is no recipe 'xyzzy'. See: hardgrad list."),
        (["run", "--smoke"], "the recipe comes first: hardgrad run RECIPE --smoke"),
        (["bench", "song"], "Did you mean 'song-coldstart', 'song-onestep' or 'song-syrinx'?"),
        (["bench", "hypercausal-depth", "--epochs", "2"], "epochs must be at least 3"),
        (["bench", "hypercausal-depth", "--seconds", "0"], "seconds must be above 0"),
        (["bench", "hypercausal-depth", "--json", "nowhere/x.json"], "Name a file."),
        (["matrix", "--methods", "autodif", "--out", "new"], "Did you mean 'autodiff'?"),
        (["matrix", "--applications", "songs", "--out", "new"], "Did you mean 'song'?"),
        (["matrix", "--applications", ",", "--out", "new"], "applications is empty"),
        (["matrix", "--seeds", "0-3,2", "--out", "new"], "the seed 2 stands twice"),
        (["matrix", "--seeds", "10000", "--out", "new"], "that settings are chosen on"),
        (["matrix", "--budget", "0", "--out", "new"], "budget must be"),
        (["matrix", "--out", "thesis"], "already holds files, which stay untouched"),
        (["matrix", "--out", "thesis/chapter.tex"], "is a file"),
        (["matrix", "surplus"], "surplus"),
        (["run", "--epochs", "3", "hypercausal-depth"], "the recipe comes first"),
        ([*RUN, "--epoch", "3"], "there is no option --epoch. Did you mean --epochs?"),
        ([*RUN, "--estimater=nes"], "Did you mean --estimator?"),
        ([*RUN, "surplus"], "surplus"),
        ([*RUN, "--epochs"], "--epochs"),
        ([*RUN, "--epochs", "many"], "many"),
        ([*RUN, "--epochs", "1.5"], "1.5"),
        ([*RUN, "--estimator", "magic"], "magic"),
        ([*RUN, "--epochs", "-3"], "epochs must be at least 0, got -3."),
        ([*RUN, "--patience=-1"], "patience must be at least 0"),
        ([*RUN, "--branches", "1"], "branches must be at least 2"),
        ([*RUN, "--steps", "0"], "steps must be at least 1"),
        ([*RUN, "--eps", "0"], "eps must be positive"),
        ([*RUN, "--eps", "nan"], "eps must be"),
        ([*RUN, "--learning-rate", "nan"], "learning_rate must be finite, got nan."),
        ([*RUN, "--weights.task", "inf"], "weights.task must be finite, got inf."),
        ([*RUN, "--seed", "-1"], "seed must be at least 0"),
        ([*RUN, "--channels", "2"], "3 signals for 2 channels"),
        ([*RUN, "--metric-channel", "3"], "metric_channel must be between 0 and 2"),
        ([*RUN, "--depth-schedule.start", "0"], "a depth is at least 1"),
        ([*RUN, "--execution", "host", "--estimator", "autodiff"], "take --estimator central, forward, spsa or nes"),
        (["run", "hypercausal-graph", "--noise", "nan", "--out", "new"], "noise must be"),
        (["run", "hypercausal-graph", "--depth-start", "0", "--out", "new"], "a depth is at least 1"),
        (["run", "hypercausal-graph", "--eps", "0", "--out", "new"], "eps must be positive"),
        (["run", "hypercausal-sunspots", "--lags", "200", "--out", "new"], "take fewer lags"),
        (["run", "hypercausal-sunspots", "--coverage", "2", "--out", "new"], "lie between 0 and 1"),
        (
            ["run", "hypercausal-depth", "--quiet", "--out", "run"],
            "already holds a run, which stays untouched. Resume it",
        ),
        (["run", "hypercausal-depth", "--quiet", "--out", "thesis"], "already holds files, which stay untouched"),
        (["run", "hypercausal-depth", "--quiet", "--out", "thesis/chapter.tex"], "is a file"),
        (["run", "hypercausal-depth", "--quiet", "--out", "thesis/chapter.tex/run"], "Choose another folder"),
        (["run", "hypercausal-depth", "--quiet", "--out", "x" * 300], "Choose another folder"),
        (["resume"], "PATH"),
        (["resume", "run", "surplus"], "surplus"),
        (["resume", "run", "--quite"], "Did you mean --quiet?"),
        (["resume", "nowhere"], "there is no folder nowhere. Runs are folders that"),
        (["resume", "thesis"], "thesis is not a run"),
        ([*RUN, "--until", "-1"], "until must be a whole number, at least 0"),
        (["audit", "hypercausal-dept"], "Did you mean 'hypercausal-depth'?"),
        (["audit", "--arm", "x", "hypercausal-depth"], "the recipe comes first: hardgrad audit RECIPE"),
        ([*AUDIT, "--gradient", "magic"], "--gradient takes central, forward, autodiff, spsa, nes; got 'magic'."),
        ([*AUDIT, "--gradient", "nes=0"], "--gradient nes takes a step above 0"),
        ([*AUDIT, "--growth", "depth"], "as in horizon=256,512; got 'depth'."),
        ([*AUDIT, "--directions", "3"], "directions must be a whole number, at least 16"),
        ([*AUDIT, "--evaluations", "20"], "20 are too few for an audit"),
        ([*AUDIT, "--epoch", "99"], "epoch 99 is none of the recipe's 16"),
        ([*AUDIT, "--arm", "x"], "trains no arms side by side"),
        ([*AUDIT, "--only", "xyz"], "no parameter is called 'xyz'"),
        ([*AUDIT, "--at", "nowhere"], "there is no folder nowhere."),
        ([*AUDIT, "--html", "thesis"], "--html thesis is a folder"),
        ([*AUDIT, "--json", "nowhere/a.json"], "which does not exist"),
        (["audit", "--model", "no_such_module:case"], "there is no module 'no_such_module'"),
        (["audit", "--model", "thesis/chapter.tex"], "--model takes MODULE:FUNCTION"),
        (["search", "--seeds", "0-3", "hypercausal-depth"], "the recipe comes first: hardgrad search RECIPE"),
        (["search", "hypercausal-dept"], "Did you mean 'hypercausal-depth'?"),
        ([*SEARCH, "--seed", "1-"], "1-"),
        ([*SEARCH, "--seeds", "1-"], "seeds are numbers and ranges, such as 0-7 or 0,3,5; got '1-'."),
        ([*SEARCH, "--seeds", "7-0"], "the range of seeds '7-0' runs backwards. Write 0-7."),
        ([*SEARCH, "--seeds", "0-3,2"], "the seed 2 stands twice in '0-3,2'."),
        ([*SEARCH, "--seeds", "0-99999"], "is too long"),
        ([*SEARCH, "--seeds", "9999999999"], "a seed must be a whole number"),
        ([*SEARCH, "--seeds", ""], "seeds are numbers and ranges"),
        ([*SEARCH, "--grid", "epochs"], "settings to try are written NAME=VALUE,VALUE"),
        ([*SEARCH, "--grid", "epoch=3"], "'epoch' is not a field of this config. Did you mean 'epochs'?"),
        ([*SEARCH, "--grid", "epochs=3,many"], "'epochs' must be a whole number, got \"many\"."),
        ([*SEARCH, "--grid", "epochs=3,0"], "a search needs at least one epoch"),
        ([*SEARCH, "--grid", "weights.tsk=3"], "'weights.tsk' is not a field of this config. Did you mean 'task'?"),
        ([*SEARCH, "--grid", "eps=1e-3,0"], "eps must be positive, got 0.0."),
        ([*SEARCH, "--grid", "eps=1e-3,1e-3"], "eps holds 0.001 twice"),
        ([*SEARCH, "--grid", "eps=1e-3", "--grid", "eps=1e-4"], "the setting 'eps' is given twice"),
        ([*SEARCH, "--grid", "seed=1,2"], "seeds are given as seeds (--seeds 0-7)"),
        ([*SEARCH, "--cull-fraction", "1"], "lies between 0 and 1, got 1.0."),
        ([*SEARCH, "--cull-fraction=-0.5"], "lies between 0 and 1, got -0.5."),
        ([*SEARCH, "--cull-fraction", "nan"], "lies between 0 and 1, got nan."),
        ([*SEARCH, "--cull-fraction", "0.99"], "which spares nothing"),
        ([*SEARCH, "--keep", "2"], "--keep is about culling: give --cull-fraction too"),
        ([*SEARCH, "--cull-fraction", "0.5", "--keep", "4"], "keeping 4 of 4 candidates culls none"),
        ([*SEARCH, "--cull-fraction", "0.5", "--keep", "0"], "keep must be a whole number, at least 1"),
        ([*SEARCH, "--engine", "ray"], "ray"),
        ([*SEARCH, "--engine", "vmap", "--workers", "2"], "workers are about processes"),
        ([*SEARCH, "--workers", "0"], "workers must be a whole number, at least 1"),
        (["search", "hypercausal-depth", "--quiet", "--out", "run"], "already holds files, which stay untouched"),
        (["search", "hypercausal-depth", "--quiet", "--out", "thesis/chapter.tex"], "is a file"),
        (["watch"], "PATH"),
        (["watch", "nowhere"], "there is no folder nowhere."),
        (["watch", "thesis"], "thesis is not a run: it has no config.json"),
        (["watch", "run", "--interval", "0"], "--interval must be above 0 seconds"),
        (["watch", "run", "--factor", "1"], "factor must be above 1"),
        (["watch", "run", "--state", "thesis"], "cannot read thesis"),
        (["watch", "run", "--state", "thesis/chapter.tex"], "chapter.tex is damaged"),
        (["choose"], "no terminal to ask at. Give --application, --architecture, --derivative, such as:"),
        (["choose", "--application", "sound", "--derivative", "none"], "Give --architecture, such as:"),
        (["choose", "--aplication", "sound"], "Did you mean --application?"),
        (["choose", "--application", "xyzzy"], "xyzzy"),
        ([*CHOOSE, "--parameters", "0"], "--parameters must be at least 1, got 0."),
        ([*CHOOSE, "--budget=-5"], "--budget must be at least 1, got -5."),
        ([*CHOOSE, "--budget", "much"], "much"),
        (["report"], "PATH"),
        (["report", "nowhere"], "there is no folder nowhere."),
        (["report", "thesis"], "thesis is not a run"),
        (["list", "--application", "xyzzy"], "There are: hypercausal, oscillators, rational, spiking."),
        (["list", "--jsn"], "Did you mean --json?"),
    ],
    ids=lambda v: " ".join(v)[:60] if isinstance(v, list) else None,
)
def test_wrong_arguments(capsys, arguments, said):
    assert said in refused(capsys, *arguments)


def test_a_terminal_gets_short_lines_and_a_log_whole_ones(capsys, monkeypatch):
    """Words, paths and commands stay whole: they are copied."""
    command = "hardgrad run hypercausal-depth --help"
    given = ["run", "hypercausal-depth", "--" + 40 * "x"]
    assert main(given) == 2
    (whole,) = capsys.readouterr().err.splitlines()
    assert len(whole) > 80
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(given) == 2
    lines = capsys.readouterr().err.splitlines()
    assert " ".join(lines) == whole
    assert max(map(len, lines)) <= 80
    assert any(command in line for line in lines)
    path = "/".join(["a-long-name"] * 10)
    assert main(["report", path]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert f"{path}." in lines  # a line of its own, although it is longer
    assert any("'hardgrad run'" in line for line in lines)


SIGNAL = {"amp": 0.1, "fn": "sin", "omega": 0.3, "phase": 0.0}


def with_signal(**changes):
    return json.dumps({"D": 1, "input_channels": [{**SIGNAL, **changes}]})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "my.json is not JSON: "),
        ("", "my.json is not JSON: Expecting value at line 1, column 1."),
        ("[1]", "the config must be a JSON object, got [1]."),
        ("null", "must be a JSON object"),
        ('{"epoch": 3}', "'epoch' is not a field of this config. Did you mean 'epochs'?"),
        ('{"K": 5, "branches": 5}', "'branches' is given twice, under two names."),
        ('{"epochs": "3"}', "'epochs' must be a whole number, got \"3\"."),
        ('{"epochs": 3.0}', "'epochs' must be a whole number"),
        ('{"epochs": true}', "'epochs' must be a whole number, got true."),
        ('{"epochs": null}', "'epochs' must be a whole number"),
        ('{"epochs": -1}', "epochs must be at least 0, got -1."),
        ('{"base_lr": NaN}', "'base_lr' must be finite"),
        ('{"base_lr": 1e999}', "'base_lr' must be finite"),
        ('{"base_lr": 1' + "0" * 400 + "}", "'base_lr' must be finite"),
        ('{"base_lr": 1' + "0" * 5000 + "}", "my.json"),
        ("[" * 100_000, "my.json"),
        ('{"base_lr": "fast"}', "'base_lr' must be a number"),
        ('{"policy": "median "}', "'policy' must be one of 'mean', 'median'"),
        ('{"policy": ["mean"]}', "'policy' must be one of"),
        ('{"nodes": {}}', "'nodes' must be a list"),
        ('{"nodes": []}', "nodes must hold at least one node"),
        ('{"nodes": [{"w": 1.0}]}', "nodes[0]. lacks 'bias'"),
        ('{"nodes": [7]}', "must be a JSON object, got 7"),
        ('{"D": 2}', "3 signals for 2 channels"),
        ('{"clip_thresholds": []}', "clip_thresholds must hold at least one"),
        (
            '{"clip_thresholds": [{"depth_mean_below": 3, "max_norm": 1}, {"depth_mean_below": 2, "max_norm": 1}]}',
            "must rise",
        ),
        (with_signal(amp=float("nan")), "'input_channels[0].amp' must be finite, got nan."),
        (with_signal(amp=float("inf")), "must be finite"),
        (with_signal(amp=1e308, omega=1e308), "the data"),
        (with_signal(fn="tan"), "'input_channels[0].fn' must be one of 'sin', 'cos'"),
        (with_signal(amplitude=1.0), "given twice"),
        (b"\xff\xfe{}", "cannot read the config file my.json"),
    ],
)
@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")
def test_wrong_config_files(capsys, content, said):
    pathlib.Path("my.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert said in refused(capsys, *RUN, "--config", "my.json")


def test_config_files_that_are_none(capsys):
    assert "there is no config file nowhere.json" in refused(capsys, *RUN, "--config", "nowhere.json")
    assert "cannot read the config file thesis" in refused(capsys, *RUN, "--config", "thesis")
    assert "--config" in refused(capsys, *RUN, "--config")
    assert "thesis/chapter.tex/x" in refused(capsys, *RUN, "--config=thesis/chapter.tex/x")


def newest():
    return max(pathlib.Path("run/checkpoints").iterdir())


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


DAMAGES = {
    "truncated arrays": (lambda: cut(newest() / "arrays.safetensors", 100), "Delete that folder to resume from"),
    "truncated manifest": (lambda: cut(newest() / "manifest.json", 50), "Delete that folder to resume from"),
    "no manifest": (lambda: (newest() / "manifest.json").unlink(), "Delete that folder to resume from"),
    "truncated config": (lambda: cut(pathlib.Path("run/config.json"), 50), "config.json is damaged"),
    "another's config": (lambda: pathlib.Path("run/config.json").write_text("{}"), "was not started by a recipe"),
    "a recipe there is not": (
        lambda: pathlib.Path("run/config.json").write_text('{"settings": {"recipe": "xyzzy"}}'),
        "there is no recipe 'xyzzy'",
    ),
    "a config that does not fit": (
        lambda: pathlib.Path("run/config.json").write_text(
            '{"settings": {"recipe": "hypercausal-depth", "config": 1}}'
        ),
        "must be a JSON object",
    ),
    "a damaged line": (
        lambda: pathlib.Path("run/telemetry.jsonl").write_text('{"kind": "run_begin"\n{}\n'),
        "line 1 is damaged",
    ),
    "a line that is no record": (
        lambda: pathlib.Path("run/telemetry.jsonl").write_text("[1]\n{}\n"),
        "line 1 is damaged",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_resuming_what_is_damaged(capsys, name):
    damage, said = DAMAGES[name]
    damage()
    assert said in refused(capsys, "resume", "run", "--quiet")


def test_a_lost_best(capsys):
    expected = json.loads(pathlib.Path("run/result.json").read_text())["best_params"]
    shutil.rmtree("run/best")
    assert main(["resume", "run", "--quiet"]) == 2  # telemetry keeps the error
    assert "to begin the run again from its first epoch" in capsys.readouterr().err
    shutil.rmtree("run/checkpoints")  # as it says
    assert main(["resume", "run", "--quiet"]) == 0
    assert json.loads(pathlib.Path("run/result.json").read_text())["best_params"] == expected


def test_the_way_out_of_a_truncated_checkpoint(capsys):
    expected = json.loads(pathlib.Path("run/result.json").read_text())["best_params"]
    cut(newest() / "arrays.safetensors", 100)
    said = refused(capsys, "resume", "run", "--quiet")
    assert str(newest()) in said
    shutil.rmtree(newest())
    assert main(["resume", "run", "--quiet"]) == 0
    assert json.loads(pathlib.Path("run/result.json").read_text())["best_params"] == expected


@pytest.mark.parametrize("word", ["config", "telemetry", "checkpoints", "best", "result"])
def test_a_full_disk(capsys, monkeypatch, word):
    real = builtins.open

    def full(path, mode="r", *args, **named):
        ours = f"{os.sep}new" in str(path) or str(path).startswith("new")
        if ours and word in str(path) and set(mode) & set("wa"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, mode, *args, **named)

    before = {k: v for k, v in fingerprint().items() if not k.startswith("new")}
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", full)
        assert main([*RUN, "--smoke"]) == 2
    said = capsys.readouterr().err
    assert "hardgrad: the disk is full: could not write" in said
    assert "Free some space, then resume the run; nothing earlier is lost." in said
    assert len(said.strip().splitlines()) == 1
    assert {k: v for k, v in fingerprint().items() if not k.startswith("new")} == before
    again = main([*RUN, "--smoke"]) if word == "config" else main(["resume", "new", "--quiet"])
    assert again == 0
    one, two = (json.loads(pathlib.Path(n, "result.json").read_text()) for n in ("run", "new"))
    assert {k: v for k, v in one.items() if k != "wall_seconds"} == {
        k: v for k, v in two.items() if k != "wall_seconds"
    }


def test_our_own_failure_is_not_blamed_on_the_user(capsys, monkeypatch):
    from hardgrad.cli import list_command

    def broken(arguments):
        raise ZeroDivisionError("division by zero\nand more")

    monkeypatch.setattr(list_command, "run", broken)
    monkeypatch.delenv("HARDGRAD_DEBUG", raising=False)
    assert main(["list"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "hardgrad: ZeroDivisionError: division by zero",
        "This is not your mistake. HARDGRAD_DEBUG=1 shows where it happened.",
    ]
    monkeypatch.setenv("HARDGRAD_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["list"])


def test_a_missing_extra_says_its_install_line(capsys, monkeypatch):
    import importlib

    real = importlib.import_module

    def without(name, *rest):
        if name.split(".")[0] in ("statsmodels", "tensorboardX", "matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    said = refused(capsys, "run", "hypercausal-sunspots", "--smoke", "--quiet", "--out", "new")
    assert "pip install 'hardgrad[data]'" in said
    assert "pip install 'hardgrad[tensorboard]'" in refused(capsys, *RUN, "--tensorboard")
