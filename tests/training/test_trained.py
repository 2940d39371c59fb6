"""The parameters of a run, found again and shipped."""

from __future__ import annotations

import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hardgrad as hg
from hardgrad.core import CheckpointError, UsageError
from hardgrad.core import Running as Kept
from hardgrad.export import Exportable, export_bundle
from hardgrad.training import RunFolder, load_tree, trained_model


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
    return result, path


def test_best_and_last(run):
    result, path = run
    folder = RunFolder.open(path)
    best, about = trained_model(folder, MODEL)
    assert about == {"params": "best", **result.best}
    assert about["epoch"] < 5
    assert np.array_equal(best["w"], result.best_model["w"])
    assert best["seen"].value == result.best_model["seen"].value
    last, about = trained_model(folder, MODEL, which="final")
    assert about == {"params": "final", "epoch": 5}
    assert np.array_equal(last["w"], result.model["w"])
    assert (last["seen"].value, last["name"]) == (6, "line")
    assert not np.array_equal(last["w"], best["w"])


def test_what_is_not_there(run, tmp_path):
    _, path = run
    shutil.copytree(path, tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    with pytest.raises(CheckpointError, match="does not fit"):
        trained_model(folder, {**MODEL, "w": jnp.zeros(3)})
    shutil.rmtree(folder.best_path)
    with pytest.raises(UsageError, match=r"kept no best parameters: .*hg\.Best\((.|\n)*the last ones: --params final"):
        trained_model(folder, MODEL, which="best")
    assert trained_model(folder, MODEL)[1]["params"] == "final"
    shutil.rmtree(folder.checkpoints_path)
    with pytest.raises(UsageError, match="has finished no epoch"):
        trained_model(folder, MODEL)


def test_a_trained_model_ships(run, tmp_path):
    result, path = run
    model, about = trained_model(path, MODEL)
    bundle = export_bundle(
        Exportable(lambda x: {"y": x @ model["w"]}, {"x": np.eye(2, dtype=np.float32)}, metadata=about), tmp_path / "b"
    )
    assert np.array_equal(bundle(np.eye(2, dtype=np.float32))["y"], result.best_model["w"])
    assert bundle.metadata == about


class Net(eqx.Module):
    """Leaves of every kind: trained, not trained, functions, numbers, nothing."""

    layers: eqx.nn.MLP
    drop: eqx.nn.Dropout
    table: jax.Array
    absent: None = None

    def __call__(self, x):
        return self.drop(self.layers(x * self.table.astype(x.dtype)), inference=True)


def net(seed):
    layers = eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(seed))
    return Net(layers, eqx.nn.Dropout(0.25), jnp.array([1, 2]))


def loss(model, batch, controls, key):
    return jnp.mean(jax.vmap(model)(batch) ** 2), {}


def same_leaves(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.array_equal(a, b) if eqx.is_array(a) else a == b


@pytest.mark.parametrize("trainable", [None, "last layer"])
def test_an_equinox_model_comes_back_whole(tmp_path, trainable):
    if trainable is not None:
        trainable = eqx.tree_at(lambda m: m.layers.layers[-1].bias, jax.tree.map(lambda _: False, net(0)), True)
    best = hg.Best("loss", "max")  # the first epoch, so that it is not the last
    trainer = hg.Trainer(hg.GradientMethod(hg.Autodiff(), optax.adam(0.1)), callbacks=[best], precision="float16")
    given = {"data": jnp.ones((4, 2)), "epochs": 3, "run": str(tmp_path / "run"), "trainable": trainable}
    result = trainer.fit(net(0), loss, **given)
    start = net(0) if trainable is not None else net(1)  # what is not trained is taken from it
    for which, ours in {"final": result.model, "best": result.best_model}.items():
        model, about = trained_model(str(tmp_path / "run"), start, which=which, trainable=trainable)
        assert about["params"] == which
        same_leaves(model, ours)
        assert model(jnp.ones(2)) == ours(jnp.ones(2))
    assert not np.array_equal(*(m.layers.layers[-1].bias for m in (result.model, result.best_model)))


def test_a_runs_whole_state_says_how_the_model_is_taken_from_it(run):
    newest = RunFolder.open(run[1]).checkpoints()[-1]
    with pytest.raises(CheckpointError, match=r"a run's whole state: hg\.training\.trained_model\(run, model\)"):
        load_tree(newest, {"w": MODEL["w"]})
    with pytest.raises((UsageError, TypeError), match="which"):  # the suite's check of types is there first
        trained_model(run[1], MODEL, which="last")


def test_a_refused_resume_begins_anew_from_its_parameters(run):
    result, path = run
    other = hg.Trainer(hg.GradientMethod(hg.Autodiff(), optax.adam(0.1)))
    with pytest.raises(UsageError, match=r"begin a new run from its parameters \(hg\.training\.trained_model\)"):
        other.fit(MODEL, objective, jnp.array([1.0, -1.0]), epochs=8, run=path, resume=True)
    model, _ = trained_model(path, MODEL, which="final")
    again = other.fit(model, objective, jnp.array([1.0, -1.0]), epochs=1)
    assert np.array_equal(again.history[0].metrics["loss"], jnp.sum((result.model["w"] - jnp.array([1.0, -1.0])) ** 2))
