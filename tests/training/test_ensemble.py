"""Ensembles: several models trained as one, each as if it were alone."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hardgrad as hg
from hardgrad.core import Running
from hardgrad.training import EnsembleObjective, make_ensemble, member, over_members

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3, 2)).astype(np.float32)  # rows, members, features
Y = RNG.normal(size=(24, 3)).astype(np.float32)


class Line(eqx.Module):
    weight: jax.Array
    steps: Running

    def __init__(self, key: Any):
        self.weight, self.steps = jax.random.normal(key, (2,)), Running(jnp.zeros((), jnp.int32))

    def __call__(self, x: Any) -> Any:
        return x @ self.weight


def objective(model: Line, batch: Any, controls: Any, key: Any) -> Any:
    x, y = batch
    error = jnp.mean((model(x) - y) ** 2)
    return error, {"rows": jnp.asarray(len(y))}, eqx.tree_at(lambda m: m.steps.value, model, model.steps.value + 1)


def fit(model: Any, objective: Any, data: Any) -> Any:
    trainer = hg.Trainer(hg.GradientMethod(hg.Autodiff(), optax.adam(0.1, eps=1e-12)))
    return trainer.fit(model, objective, data, epochs=4, batch_size=8)


@pytest.mark.parametrize("own_data", [True, False])
def test_each_member_trains_as_if_it_were_alone(own_data: bool) -> None:
    data = (X, Y) if own_data else (X[:, 0], Y[:, 0])
    together = fit(make_ensemble(Line, [4, 5, 6]), EnsembleObjective(objective, own_data=own_data), data)
    for i, seed in enumerate([4, 5, 6]):
        own = (X[:, i], Y[:, i]) if own_data else data
        alone = fit(Line(jax.random.key(seed)), objective, own)
        np.testing.assert_allclose(member(together.model, i).weight, alone.model.weight, rtol=2e-5, atol=1e-6)
        assert int(member(together.model, i).steps.value) == 12
    assert together.history[0].metrics["rows"] == 8


def test_a_member_does_not_depend_on_the_others() -> None:
    np.testing.assert_array_equal(make_ensemble(Line, [7, 8]).weight[1], make_ensemble(Line, [8]).weight[0])


def test_functions_of_all_members() -> None:
    models = make_ensemble(Line, [1, 2, 3])
    found = over_members(lambda model, x: model(x), models, X[:, 0])
    assert found.shape == (3, 24)
    np.testing.assert_allclose(found[2], member(models, 2)(X[:, 0]), rtol=1e-6)
    own = over_members(lambda model, x: model(x), models, X, axis=1)
    np.testing.assert_allclose(own[1], member(models, 1)(X[:, 1]), rtol=1e-6)


def test_an_ensemble_of_none() -> None:
    with pytest.raises(hg.UsageError, match="seed for each member"):
        make_ensemble(Line, [])
