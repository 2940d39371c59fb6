"""The parameters of a run, found again and shipped."""

from __future__ import annotations

import shutil

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hardgrad as hg
from hardgrad.core import CheckpointError, UsageError
from hardgrad.core import Running as Kept
from hardgrad.export import Exportable, export_bundle, trained_model
from hardgrad.training import RunFolder


def objective(model, batch, controls, key):
    """The best epoch is not the last: the rate is far too high."""
    loss = jnp.sum((model["w"] - batch) ** 2)
    return loss, {}, {**model, "seen": Kept(model["seen"].value + 1)}


MODEL = {"w": jnp.array([3.0, 1.0]), "seen": Kept(jnp.zeros(())), "name": "line"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    trainer = hg.Trainer(hg.GradientMethod(hg.Autodiff(), optax.sgd(1.05)), callbacks=[hg.Best("loss", "min")])
    path = tmp_path_factory.mktemp("runs") / "run"
    result = trainer.fit(MODEL, objective, jnp.array([1.0, -1.0]), epochs=6, run=path)
    return trainer, result, path


def test_best_and_last(run):
    trainer, result, path = run
    folder = RunFolder.open(path)
    best, about = trained_model(folder, trainer, MODEL)
    assert about == {"params": "best", **result.best}
    assert about["epoch"] < 5
    assert np.array_equal(best["w"], result.best_model["w"])
    assert best["seen"].value == result.best_model["seen"].value
    last, about = trained_model(folder, trainer, MODEL, which="final")
    assert about == {"params": "final", "epoch": 5}
    assert np.array_equal(last["w"], result.model["w"])
    assert (last["seen"].value, last["name"]) == (6, "line")
    assert not np.array_equal(last["w"], best["w"])


def test_what_is_not_there(run, tmp_path):
    trainer, _, path = run
    shutil.copytree(path, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    with pytest.raises(CheckpointError, match="does not fit"):
        trained_model(folder, trainer, {**MODEL, "w": jnp.zeros(3)})
    shutil.rmtree(folder.best_path)
    with pytest.raises(UsageError, match=r"kept no best parameters\. Take the last ones: --params final"):
        trained_model(folder, trainer, MODEL, which="best")
    assert trained_model(folder, trainer, MODEL)[1]["params"] == "final"
    shutil.rmtree(folder.checkpoints_path)
    with pytest.raises(UsageError, match="has finished no epoch"):
        trained_model(folder, trainer, MODEL)


def test_a_trained_model_ships(run, tmp_path):
    trainer, result, path = run
    model, about = trained_model(RunFolder.open(path), trainer, MODEL)
    bundle = export_bundle(
        Exportable(lambda x: {"y": x @ model["w"]}, {"x": np.eye(2, dtype=np.float32)}, metadata=about), tmp_path / "b"
    )
    assert np.array_equal(bundle(np.eye(2, dtype=np.float32))["y"], result.best_model["w"])
    assert bundle.metadata == about
