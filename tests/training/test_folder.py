"""A run's folder: one process at a time, nothing missing, and a name that a failed start does not block."""

from __future__ import annotations

import json
import shutil

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hardgrad.core import CheckpointError, RunError, UsageError, control
from hardgrad.estimators import Autodiff, CentralDifference
from hardgrad.schedules import Plan
from hardgrad.training import GradientMethod, RunFolder, Status, Trainer
from hardgrad.training.callbacks import Best, Checkpoints
from hardgrad.zoo._launch import reserve_run

METHOD = GradientMethod(Autodiff(), optax.sgd(0.1))
DATA = jnp.array([1.0, -1.0])


def objective(model, batch, controls, key):
    return sum(jnp.sum((leaf - batch) ** 2) for leaf in model.values()), {}


def fit(run, *, model=None, epochs=4, resume=False, trainer=None, **more):
    trainer = trainer or Trainer(METHOD, callbacks=[Best("loss", "min"), Checkpoints(spacing=0.0, keep=None)])
    model = {"w": jnp.zeros(2)} if model is None else model
    return trainer.fit(model, objective, DATA, epochs=epochs, run=run, resume=resume, **more)


def test_another_process_is_kept_out(tmp_path):
    fit(tmp_path / "run")
    before = sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*"))
    with RunFolder.open(tmp_path / "run").held(), pytest.raises(UsageError, match="another process is training in"):
        fit(tmp_path / "run", epochs=8, resume=True)
    assert before == sorted((p.name, p.stat().st_mtime_ns) for p in (tmp_path / "run").rglob("*"))
    assert fit(tmp_path / "run", epochs=8, resume=True).epochs == 8  # let go again


def test_two_runs_never_share_a_reserved_name(tmp_path):
    taken = [reserve_run("recipe", root=tmp_path) for _ in range(3)]
    assert [p.name for p in taken] == ["recipe-001", "recipe-002", "recipe-003"]


@pytest.mark.parametrize("keep", [0, 2])
def test_lost_telemetry_is_noticed_and_the_way_out_works(tmp_path, keep):
    whole, run = fit(tmp_path / "whole", epochs=6), tmp_path / "run"
    fit(run)
    lines = (run / "telemetry.jsonl").read_text().splitlines(keepends=True)
    lost = [line for line in lines if not ('"epoch_end"' in line and json.loads(line)["epoch"] >= keep)]
    (run / "telemetry.jsonl").write_text("".join(lost))
    result = (run / "result.json").read_bytes()
    with pytest.raises(CheckpointError, match=f"delete the checkpoints after {keep:06d}"):
        fit(run, epochs=6, resume=True)
    assert (run / "result.json").read_bytes() == result
    for path in RunFolder(run).checkpoints()[keep:]:
        shutil.rmtree(path)
    resumed = fit(run, epochs=6, resume=True)
    assert [r.metrics for r in resumed.history] == [r.metrics for r in whole.history]


def test_another_model_does_not_cost_a_checkpoint(tmp_path):
    fit(tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"missing 'params\.extra'") as error:
        fit(tmp_path / "run", model={"w": jnp.zeros(2), "extra": jnp.zeros(2)}, epochs=8, resume=True)
    assert "Delete" not in str(error.value)


def test_a_start_that_failed_does_not_block_its_name(tmp_path):
    broken = Trainer(GradientMethod(CentralDifference(control("epss")), optax.sgd(0.1)), plan=Plan(eps=1e-3))
    with pytest.raises(UsageError, match="no control named 'epss'"):
        fit(tmp_path / "run", trainer=broken)
    kinds = [record["kind"] for record in RunFolder(tmp_path / "run").telemetry()]
    assert kinds[-1] == "error"  # what happened is kept until the next try
    mended = fit(tmp_path / "run")
    assert mended.epochs == 4
    assert "error" not in [record["kind"] for record in RunFolder(tmp_path / "run").telemetry()]
    with pytest.raises(UsageError, match="already holds a run"):
        fit(tmp_path / "run")


def test_other_settings_and_fewer_epochs_are_refused_on_resume(tmp_path):
    fit(tmp_path / "run")
    with pytest.raises(UsageError, match="has done 4 epochs already"):
        fit(tmp_path / "run", epochs=1, resume=True)
    other = Trainer(METHOD, precision="bfloat16")
    with pytest.raises(UsageError, match="was begun with precision=None"):
        fit(tmp_path / "run", trainer=other, epochs=8, resume=True)


def test_settings_json_cannot_hold_leave_no_folder(tmp_path):
    with pytest.raises(UsageError, match="settings must be what JSON can hold"):
        fit(tmp_path / "run", settings={"odd": object()})
    assert not (tmp_path / "run").exists()


def test_a_result_is_written_once_with_the_callers_part(tmp_path):
    fit(tmp_path / "run", conclude=lambda result: {"mine": result.epochs})
    assert json.loads((tmp_path / "run" / "result.json").read_text())["mine"] == 4


def test_no_finite_step_is_not_completed():
    dead = Trainer(GradientMethod(CentralDifference(control("eps")), optax.sgd(0.1)), plan=Plan(eps=0.0))
    result = fit(None, trainer=dead, epochs=3)
    assert (result.status, result.reason, result.skipped) == (Status.DIVERGED, "no step was finite", 3)
    with pytest.raises(RunError, match="no step was finite"):
        fit(None, trainer=dead, epochs=3, throw=True)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((np.zeros((0, 3)), np.zeros(0)), "is empty, of shape"),
        (np.array(["a", "b"]), "must hold numbers"),
        ([[1.0, 2.0], [3.0, 4.0]], "a list counts as a pytree"),
    ],
)
def test_data_no_step_could_use(data, said):
    with pytest.raises(UsageError, match=said):
        Trainer(METHOD).fit({"w": jnp.zeros(2)}, objective, data, epochs=1)


def test_accumulation_divides_or_says_so():
    trainer = Trainer(METHOD, accumulate=4)
    rows = jnp.ones((14, 2))
    with pytest.raises(UsageError, match="accumulate=4 does not divide a batch of 7 rows"):
        trainer.fit({"w": jnp.zeros(2)}, objective, rows, epochs=1, batch_size=7)
    assert trainer.fit({"w": jnp.zeros(2)}, objective, rows, epochs=1, batch_size=8).steps == 2
