"""Running state: arrays of a model that change without being trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hardgrad as hg
from hardgrad.core import Running, running_state, split_parameters

X = np.linspace(-1.0, 3.0, 24, dtype=np.float32)


class Centred(eqx.Module):
    """A line through data that are centred by a running mean."""

    weight: jax.Array
    mean: Running
    seen: Running

    def __call__(self, x: Any) -> Any:
        return self.weight * (x - self.mean.value.astype(x.dtype))


def line() -> Centred:
    return Centred(jnp.ones(()), Running(jnp.zeros(())), Running(jnp.zeros((), jnp.int32)))


def objective(model: Centred, x: Any, controls: Any, key: Any) -> Any:
    mean = 0.75 * model.mean.value + 0.25 * jnp.mean(x).astype(model.mean.value.dtype)
    model = eqx.tree_at(lambda m: (m.mean.value, m.seen.value), model, (mean, model.seen.value + 1))
    return jnp.mean((model(x) - 2 * x) ** 2), {"mean": mean}, model


def fit(*, method: Any = None, objective: Any = objective, **options: Any) -> Any:
    trainer_options = {k: options.pop(k) for k in ("accumulate", "precision", "callbacks", "plan") if k in options}
    trainer = hg.Trainer(method or hg.GradientMethod(hg.Autodiff(), optax.sgd(0.05)), **trainer_options)
    return trainer.fit(line(), objective, X, **{"epochs": 3, "batch_size": 8, **options})


def by_hand(epochs: int = 3) -> float:
    mean = 0.0
    for epoch in range(epochs):
        for rows in np.random.default_rng((0, epoch)).permutation(24).reshape(3, 8):
            mean = 0.75 * mean + 0.25 * float(X[rows].mean())
    return mean


def test_it_is_no_parameter() -> None:
    params, rest = split_parameters(line())
    assert [leaf.shape for leaf in jax.tree.leaves(params)] == [()]
    assert len(jax.tree.leaves(running_state(rest))) == 2
    assert running_state({"weight": jnp.ones(2)}) is None


@pytest.mark.parametrize(
    "method",
    [
        None,
        hg.GradientMethod(hg.CentralDifference(eps=1e-3), optax.sgd(0.05)),
        hg.GradientMethod(hg.SPSA(), optax.sgd(0.01)),
    ],
    ids=["autodiff", "central", "spsa"],
)
def test_every_step_moves_it_once_whatever_the_estimator(method: Any) -> None:
    result = fit(method=method)
    assert int(result.model.seen.value) == 9
    np.testing.assert_allclose(float(result.model.mean.value), by_hand(), rtol=1e-5)
    assert set(result.history[0].metrics) >= {"loss", "mean"}
    assert not any("running" in name for name in result.history[0].metrics)


def test_microbatches_move_it_by_their_mean() -> None:
    result = fit(accumulate=2)
    assert int(result.model.seen.value) == 9
    np.testing.assert_allclose(float(result.model.mean.value), by_hand(), rtol=1e-5)


def test_it_keeps_its_precision() -> None:
    result = fit(precision="bfloat16")
    assert result.model.mean.value.dtype == jnp.float32
    np.testing.assert_allclose(float(result.model.mean.value), by_hand(), rtol=1e-2)


def test_steps_that_are_not_finite_or_frozen_leave_it_alone() -> None:
    def bad(model: Centred, x: Any, controls: Any, key: Any) -> Any:
        loss, metrics, model = objective(model, x, controls, key)
        return loss * jnp.where(jnp.mean(x) > 1.0, jnp.nan, 1.0), metrics, model

    result = fit(objective=bad)
    assert result.skipped > 0
    assert int(result.model.seen.value) == result.steps - result.skipped

    frozen = fit(plan=hg.Plan(freeze=lambda progress: progress.epoch == 1))
    assert int(frozen.model.seen.value) == 6


def test_validation_reads_it_and_leaves_it_alone() -> None:
    result = fit(validation=X)
    mean = by_hand()
    np.testing.assert_allclose(result.history[-1].metrics["val_mean"], 0.75 * mean + 0.25 * X.mean(), rtol=1e-5)
    assert int(result.model.seen.value) == 9


def test_the_best_model_has_its_own() -> None:
    def worse(model: Centred, x: Any, controls: Any, key: Any) -> Any:
        _, metrics, model = objective(model, x, controls, key)
        return model.seen.value.astype(jnp.float32) + 0.0 * model.weight, metrics, model

    with pytest.warns(UserWarning, match="every gradient was exactly zero"):
        result = fit(objective=worse, callbacks=[hg.Best("loss", "min")])
    assert int(result.best_model.seen.value) == 3
    assert int(result.model.seen.value) == 9


def test_it_survives_a_stop(tmp_path: Path) -> None:
    whole = fit(epochs=4, callbacks=[hg.Best("loss", "min")])
    fit(epochs=2, run=tmp_path / "run", callbacks=[hg.Best("loss", "min")])
    resumed = fit(epochs=4, run=tmp_path / "run", resume=True, callbacks=[hg.Best("loss", "min")])
    for name in ("model", "best_model"):
        for a, b in zip(jax.tree.leaves(getattr(whole, name)), jax.tree.leaves(getattr(resumed, name)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_objective_that_forgets_it_is_told() -> None:
    def forgetful(model: Centred, x: Any, controls: Any, key: Any) -> Any:
        return jnp.mean(model(x) ** 2), {}

    with pytest.raises(hg.UsageError, match=r"return \(loss, metrics, model\)"):
        fit(objective=forgetful)


class Noisy(eqx.Module):
    """A line with dropout, and with running state that it only moves in training."""

    line: Centred
    dropout: eqx.nn.Dropout
    inference: bool = False


def test_validation_is_in_inference_mode() -> None:
    def dropped(model: Noisy, x: Any, controls: Any, key: Any) -> Any:
        kept = model.dropout(jnp.ones_like(x), key=key)
        loss, metrics, line = objective(model.line, x, controls, key)
        metrics = {**metrics, "kept": jnp.mean(kept == 1.0)}
        if model.inference:
            return loss, metrics
        return loss, metrics, eqx.tree_at(lambda m: m.line, model, line)

    trainer = hg.Trainer(hg.GradientMethod(hg.Autodiff(), optax.sgd(0.05)))
    result = trainer.fit(Noisy(line(), eqx.nn.Dropout(0.5)), dropped, X, epochs=2, batch_size=8, validation=X)
    assert result.history[-1].metrics["val_kept"] == 1.0
    assert result.history[-1].metrics["kept"] == 0.0
    assert int(result.model.line.seen.value) == 6
    assert result.model.inference is False
