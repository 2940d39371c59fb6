"""A run that was stopped and resumed gives the bits of one that never was."""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import shutil

import jax
import numpy as np
import optax
import pytest
from toys import METHOD, SCHEDULED, fit, line, rows, same, squares, telemetry

from hardgrad.core import CheckpointError, UsageError, dumps
from hardgrad.estimators import SPSA, Autodiff, CentralDifference
from hardgrad.schedules import LinearRamp, Plan
from hardgrad.training import GradientMethod, InMemory, RunFolder, Stream, Trainer
from hardgrad.training.callbacks import Best, Callback, Checkpoints, EarlyStopping, Telemetry


class Kill(BaseException):
    """Ends a run as abruptly as Python allows: nothing after it runs but `on_error`."""


class KillAt(Callback):
    """Kills at one moment."""

    def __init__(self, hook, epoch):
        self.hook, self.epoch = hook, epoch

    def _strike(self, hook, epoch):
        if hook == self.hook and epoch == self.epoch:
            raise Kill

    def on_epoch_begin(self, run, controls):
        self._strike("begin", run.epoch)

    def on_block_end(self, run, done, total):
        self._strike("block", run.epoch)

    def on_epoch_end(self, run, record):
        self._strike("end", record.epoch)


class KillBeforeSaving(KillAt):
    order = 89


def files(folder):
    """All that must be equal, times apart."""
    result = json.loads((folder / "result.json").read_text())
    del result["wall_seconds"]
    checkpoint = sorted((folder / "checkpoints").iterdir())[-1]
    best = folder / "best" / "arrays.safetensors"
    return (
        [r for r in telemetry(folder) if r["kind"] != "error"],
        result,
        checkpoint.name,
        (checkpoint / "arrays.safetensors").read_bytes(),
        best.read_bytes() if best.exists() else None,
        json.loads((folder / "config.json").read_text()),
    )


ADAM = GradientMethod(CentralDifference(1e-2), optax.adam(0.1))
NOISY = GradientMethod(SPSA(1e-2), optax.adam(0.05))
LBFGS = GradientMethod(Autodiff(), optax.lbfgs(memory_size=2))


def batches(epoch):
    x, y = rows()
    order = np.random.default_rng(epoch).permutation(len(x))
    return [(x[part], y[part]) for part in np.array_split(order, 3)]


def steep(model, batch, controls, key):
    return 40.0 * squares(model, batch, controls, key)[0], {}


SETTINGS = {
    "adam, shuffled": (lambda: {"data": InMemory(rows(), batch_size=4)}, {"method": ADAM}),
    "noise": (lambda: {"data": InMemory(rows(), batch_size=5), "validation": rows()}, {"method": NOISY}),
    "stream by epoch": (lambda: {"data": Stream(batches)}, {"method": ADAM}),
    "one-pass stream": (
        lambda: {"data": Stream((b for e in range(99) for b in batches(e)), steps_per_epoch=3)},
        {"method": ADAM},
    ),
    "float16": (
        lambda: {"objective": steep},
        {"method": GradientMethod(Autodiff(), optax.sgd(0.002)), "precision": "float16"},
    ),
    "early stopping": (
        lambda: {"data": rows()},
        {"method": METHOD, "callbacks": (EarlyStopping("loss", "max", patience=4), Best("loss", "min"))},
    ),
    "line search": (dict, {"method": LBFGS}),
    "schedules": (
        lambda: {"data": InMemory(rows(), batch_size=3)},
        {
            "method": SCHEDULED,
            "plan": Plan(
                learning_rate=lambda p: 0.1 if p.previous is None else 0.9 * p.previous["learning_rate"],
                ramp=LinearRamp(0.0, 1.0, 4, unit="step"),
                freeze=lambda p: p.epoch == 3,
            ),
        },
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_resumed_is_identical(tmp_path, name):
    given, settings = SETTINGS[name]
    settings = {"callbacks": (Best("loss", "min"),), **settings}

    def trainer(*more):
        saving = Checkpoints(spacing=0.0, every=2)
        return Trainer(**{**settings, "callbacks": [*settings["callbacks"], saving, *more]})

    straight = fit(trainer(), epochs=7, run=tmp_path / "straight", seed=3, **given())
    moments = [("begin", 0), ("block", 2), ("end", 4)]
    for i, (hook, epoch) in enumerate(moments):
        run = tmp_path / f"killed{i}"
        with pytest.raises(Kill):
            fit(trainer(KillAt(hook, epoch)), epochs=7, run=run, seed=3, **given())
        resumed = fit(trainer(), epochs=7, run=run, resume=True, seed=3, **given())
        same(resumed.model, straight.model)
        same(resumed.best_model, straight.best_model)
        assert files(run) == files(tmp_path / "straight")
        assert resumed.reason == straight.reason
        for ours, theirs in zip(resumed.history, straight.history, strict=True):
            assert dumps(ours.as_json()) == dumps(theirs.as_json())


def test_killed_again_and_again(tmp_path):
    def trainer(*more):
        return Trainer(ADAM, callbacks=[Best("loss", "min"), Checkpoints(spacing=0.0), *more])

    fit(trainer(), epochs=5, run=tmp_path / "straight")
    run = tmp_path / "killed"
    for attempt, killer in enumerate(
        [KillAt("end", 0), KillBeforeSaving("end", 2), KillAt("block", 3), KillAt("begin", 4)]
    ):
        with pytest.raises(Kill):
            fit(trainer(killer), epochs=5, run=run, resume=attempt > 0)
    fit(trainer(), epochs=5, run=run, resume=True)
    assert files(run) == files(tmp_path / "straight")
    fit(trainer(), epochs=5, run=run, resume=True)  # a run that is done stays as it is
    assert files(run) == files(tmp_path / "straight")


def test_a_torn_line_is_cut_and_written_again(tmp_path):
    fit(epochs=3, run=tmp_path / "straight")
    fit(epochs=3, run=tmp_path / "run")
    path = tmp_path / "run" / "telemetry.jsonl"
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    path.write_bytes(path.read_bytes()[:-30])
    fit(epochs=3, run=tmp_path / "run", resume=True)
    assert telemetry(tmp_path / "run") == telemetry(tmp_path / "straight")


def test_resuming_something_else_is_refused_and_harmless(tmp_path):
    run = tmp_path / "run"
    fit(Trainer(ADAM), epochs=2, run=run)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(UsageError, match="was begun with seed 0; resume it with that seed, not 1"):
        fit(Trainer(ADAM), epochs=2, run=run, resume=True, seed=1)
    with pytest.raises(UsageError, match="was begun with another method"):
        fit(Trainer(METHOD), epochs=2, run=run, resume=True)
    half = jax.tree.map(lambda x: x.astype("bfloat16"), line())
    with pytest.raises(CheckpointError, match=r"'params.weight' has dtype float32, expected bfloat16"):
        fit(Trainer(ADAM), model=half, epochs=2, run=run, resume=True)
    with pytest.raises(UsageError, match=r"already holds a run, which stays untouched\. Resume it \(fit\("):
        fit(Trainer(ADAM), epochs=2, run=run)
    with pytest.raises(UsageError, match="there is no folder"):
        fit(Trainer(ADAM), epochs=2, run=tmp_path / "none", resume=True)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_a_damaged_checkpoint_names_the_way_out_and_it_works(tmp_path):
    run = tmp_path / "run"
    trainer = Trainer(ADAM, callbacks=[Checkpoints(spacing=0.0)])
    fit(trainer, epochs=3, run=run)
    newest = run / "checkpoints" / "000003"
    (newest / "arrays.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"damaged.*Delete that folder to resume from checkpoint 000002"):
        fit(trainer, epochs=5, run=run, resume=True)
    shutil.rmtree(newest)
    same(fit(trainer, epochs=5, run=run, resume=True).model, fit(trainer, epochs=5).model)
    for old in (run / "checkpoints").iterdir():
        (old / "manifest.json").write_text("{")
    for old in sorted((run / "checkpoints").iterdir())[:-1]:
        shutil.rmtree(old)
    with pytest.raises(CheckpointError, match="begin the run again from its first epoch"):
        fit(trainer, epochs=5, run=run, resume=True)


def test_a_manifest_with_other_progress_is_damage(tmp_path):
    run = tmp_path / "run"
    fit(epochs=1, run=run)
    path = run / "checkpoints" / "000001" / "manifest.json"
    manifest = json.loads(path.read_text())
    for broken in ({}, {**manifest["meta"], "epoch": "x"}, {**manifest["meta"], "callbacks": None, "step": None}):
        path.write_text(json.dumps({**manifest, "meta": broken}))
        with pytest.raises(CheckpointError, match=r"damaged.*Delete that folder"):
            fit(epochs=2, run=run, resume=True)


def test_a_lost_best_says_what_to_do(tmp_path):
    run = tmp_path / "run"
    trainer = Trainer(ADAM, callbacks=[Best("loss", "min")])
    fit(trainer, epochs=2, run=run)
    shutil.rmtree(run / "best")
    with pytest.raises(CheckpointError, match=r"best.*[Dd]elete .*checkpoints"):
        fit(trainer, epochs=3, run=run, resume=True)


def test_an_iterator_that_is_past_its_place_is_refused(tmp_path):
    endless = Stream((b for e in range(99) for b in batches(e)), steps_per_epoch=3)
    trainer = Trainer(ADAM, callbacks=[Checkpoints(spacing=0.0), KillAt("block", 2)])
    with pytest.raises(Kill):
        fit(trainer, data=endless, epochs=4, run=tmp_path / "run")
    with pytest.raises(UsageError, match="already given 9 batches and the run stands at 6"):
        fit(Trainer(ADAM), data=endless, epochs=4, run=tmp_path / "run", resume=True)


# -- a full disk ---------------------------------------------------------------------------------


class FullDisk:
    """From a given moment on, nothing more can be written to files whose path holds a word."""

    def __init__(self, monkeypatch, word, after):
        self.word, self.left = word, after
        self.real_open, self.real_io_open = builtins.open, io.open
        monkeypatch.setattr(builtins, "open", self.open)

    def open(self, path, mode="r", *args, **named):
        file = self.real_open(path, mode, *args, **named)
        if self.word in str(path) and set(mode) & set("wa+"):
            return _Refuses(file, self)
        return file


class _Refuses:
    def __init__(self, file, disk):
        self._file, self._disk = file, disk

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def write(self, data):
        if self._disk.left > 0:
            self._disk.left -= 1
            return self._file.write(data)
        if self._disk.left == 0 and isinstance(
            self._file, io.RawIOBase
        ):  # as a real disk does: a part, and then no more
            self._disk.left = -1
            return self._file.write(data[:7])
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("word", "after"),
    [("checkpoints", 4), ("checkpoints", 5), ("best", 3), ("telemetry", 4), ("telemetry", 0), ("result", 0)],
)
def test_a_full_disk_loses_nothing_that_was_there(tmp_path, monkeypatch, word, after):
    def trainer():
        return Trainer(ADAM, callbacks=[Best("loss", "min"), Checkpoints(spacing=0.0, keep=None)])

    fit(trainer(), epochs=5, run=tmp_path / "straight")
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        FullDisk(patch, word, after)
        with pytest.raises(UsageError, match=r"the disk is full: could not write .* then resume the run") as caught:
            fit(trainer(), epochs=5, run=run)
    assert len(str(caught.value).splitlines()) == 1
    kept = RunFolder(run).checkpoints()
    for checkpoint in kept:  # whole, every one of them
        twin = tmp_path / "straight" / "checkpoints" / checkpoint.name / "arrays.safetensors"
        assert (checkpoint / "arrays.safetensors").read_bytes() == twin.read_bytes()
    assert not list(run.rglob("*.tmp"))
    list(RunFolder(run).telemetry())  # readable to its end
    if (run / "telemetry.jsonl").exists():
        assert (run / "telemetry.jsonl").read_bytes()[-1:] in (b"\n", b"")
    fit(trainer(), epochs=5, run=run, resume=True)
    assert files(run) == files(tmp_path / "straight")


def test_a_disk_full_from_the_start_leaves_the_name_free(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        FullDisk(patch, "config", 0)
        with pytest.raises(UsageError, match="the disk is full"):
            fit(run=tmp_path / "run")
    fit(run=tmp_path / "run")


def test_a_disk_that_takes_half_a_line_gets_the_rest(tmp_path, monkeypatch):
    """Unbuffered writes may be short without being errors."""
    real = builtins.open

    class Short:
        def __init__(self, file):
            self._file = file

        def __getattr__(self, name):
            return getattr(self._file, name)

        def write(self, data):
            return self._file.write(data[: max(1, len(data) // 2)])

    def shorting(path, mode="r", *args, **named):
        file = real(path, mode, *args, **named)
        return Short(file) if mode == "ab" else file

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", shorting)
        fit(Trainer(METHOD, callbacks=[Telemetry()]), run=tmp_path / "run")
    fit(run=tmp_path / "whole")
    assert telemetry(tmp_path / "run") == telemetry(tmp_path / "whole")
    assert os.path.getsize(tmp_path / "run" / "telemetry.jsonl") > 0
