"""Steps that must not be taken: frozen ones, and those in which something is not finite."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import METHOD, SCHEDULED, fit, line, rows, same, squares, telemetry

from hardgrad.core import RunError, control
from hardgrad.estimators import Autodiff, CentralDifference
from hardgrad.schedules import Plan
from hardgrad.training import GradientMethod, InMemory, Status, Trainer, clip_by_global_norm
from hardgrad.training.callbacks import Best, Callback, EarlyStopping

pytestmark = pytest.mark.optimised  # bits that differ between programs compiled in haste


class Watch(Callback):
    """Keeps the whole state after every epoch."""

    def __init__(self):
        self.states = []

    def on_epoch_end(self, run, record):
        self.states.append(jax.tree.map(np.asarray, run.state))


ADAM = GradientMethod(CentralDifference(1e-2), optax.chain(clip_by_global_norm(1.0), optax.adam(0.1)))


def freeze_in(*epochs):
    def freeze(progress):
        return progress.epoch in epochs

    return freeze


# -- freezing ------------------------------------------------------------------------------------


def test_a_frozen_epoch_changes_nothing_and_reports_its_loss():
    watch = Watch()
    trainer = Trainer(ADAM, plan=Plan(freeze=freeze_in(0, 2)), callbacks=[watch])
    result = fit(trainer, epochs=4, validation=rows())
    frozen, updated = result.history[2], result.history[1]
    same(watch.states[2], watch.states[1])  # parameters, Adam's moments and its count
    assert [r.frozen for r in result.history] == [True, False, True, False]
    assert frozen.metrics["loss"] == pytest.approx(updated.metrics["val_loss"], rel=1e-6)
    assert frozen.metrics["val_loss"] == frozen.metrics["loss"]
    assert {"gradient_norm", "clipped_norm"} <= updated.metrics.keys()
    assert not {"gradient_norm", "clipped_norm"} & frozen.metrics.keys()
    assert frozen.metrics["skipped"] == 0
    assert "wide" in frozen.metrics
    same(watch.states[0].params, line())
    # Adam never saw the frozen epochs: the run is one of half the length.
    same(result.model, fit(Trainer(ADAM), epochs=2).model)
    assert result.evaluations == 2 * ADAM.contract.evaluations(4) + 2
    assert math.isfinite(updated.metrics["gradient_norm"])


def test_freezing_by_step_leaves_frozen_steps_out_of_the_diagnostics():
    def freeze(progress):
        return progress.step % 2 == 1

    data = InMemory(rows(), batch_size=5, shuffle=False)
    part = fit(Trainer(METHOD, plan=Plan(freeze=freeze)), data=data, epochs=1).history[0]
    first = fit(Trainer(METHOD, steps_per_dispatch=1), data=data, epochs=1).history[0]
    assert not part.frozen
    x, y = rows()
    start = float(jnp.mean((line()(x[:5]) - y[:5]) ** 2))
    alone = fit(data=(x[:5], y[:5]), epochs=1).history[0]
    assert alone.metrics["loss"] == pytest.approx(start, rel=1e-5)
    assert part.metrics["gradient_norm"] == pytest.approx(alone.metrics["gradient_norm"], rel=1e-5)
    assert part.metrics["gradient_norm"] != first.metrics["gradient_norm"]


def test_a_frozen_loss_that_is_not_finite_is_counted():
    result = fit(
        Trainer(METHOD, plan=Plan(freeze=True), max_nonfinite=3), objective=broken_loss, data=np.float32(1.0), epochs=9
    )
    assert result.status is Status.DIVERGED
    assert result.skipped == 3


# -- non-finite ----------------------------------------------------------------------------------


def broken_loss(model, batch, controls, key):
    """NaN where the batch is 1, else as usual."""
    fine = jnp.sum(jnp.square(model.weight - 1.0)) + model.bias**2
    return jnp.where(jnp.max(batch) > 0.5, jnp.nan, fine), {}


def broken_gradient(model, batch, controls, key):
    """Loss always finite; where the batch is 1 it ends at the kink of a root."""
    fine = jnp.sum(jnp.square(model.weight - 1.0)) + model.bias**2
    return fine + jnp.sqrt(jnp.where(jnp.max(batch) > 0.5, 0.0 * model.bias, 1.0)), {}


BROKEN = [broken_loss, broken_gradient]


def switches(*values):
    """A batch of one row a step: 1 breaks it."""
    return InMemory(np.array(values, np.float32)[:, None], batch_size=1, shuffle=False)


@pytest.mark.parametrize("objective", BROKEN)
def test_a_bad_step_is_skipped_and_counted(objective):
    watch = Watch()
    adam = GradientMethod(Autodiff(), optax.adam(0.1))
    result = fit(
        Trainer(adam, callbacks=[watch], max_nonfinite=2), objective=objective, data=switches(0, 1, 0, 1, 0), epochs=2
    )
    good = fit(Trainer(adam), objective=objective, data=switches(0, 0, 0), epochs=2)
    same(result.model, good.model)  # as if the bad steps had not been there, Adam's count included
    assert (result.status, result.skipped, result.steps) == (Status.COMPLETED, 4, 10)
    assert [r.metrics["skipped"] for r in result.history] == [2, 2]
    for found, wanted in zip(result.history, good.history, strict=True):  # it counts in no mean
        assert {**found.metrics, "skipped": 0} == {**wanted.metrics, "skipped": 0}
    assert watch.states[0].streak == 0


@pytest.mark.parametrize("objective", BROKEN)
@pytest.mark.parametrize("size", [1, None])
def test_a_run_stops_after_so_many_in_a_row_and_not_before(objective, size):
    def run(*values):
        trainer = Trainer(METHOD, max_nonfinite=3, steps_per_dispatch=size)
        return fit(trainer, objective=objective, data=switches(*values), epochs=2)

    spared = run(1, 1, 0, 1)  # the row of two goes over the epoch's end: 1, then 1, 1
    assert spared.status is Status.DIVERGED
    assert (spared.epochs, spared.skipped) == (1, 5 if size else 6)  # a dispatch is not broken off
    fine = run(1, 1, 0, 0)
    assert (fine.status, fine.epochs, fine.skipped) == (Status.COMPLETED, 2, 4)
    over = run(0, 1, 1, 1)
    assert (over.status, over.epochs) == (Status.DIVERGED, 0)
    assert "3 steps in a row were not finite, in epoch 0" in over.reason


def test_a_diverged_epoch_is_on_record(tmp_path):
    watch, trainer_callbacks = Watch(), [EarlyStopping("val_loss", "min", patience=0), Best("val_loss", "min")]
    trainer = Trainer(METHOD, max_nonfinite=2, callbacks=[watch, *trainer_callbacks], steps_per_dispatch=1)
    result = fit(
        trainer, objective=broken_loss, data=switches(0, 1, 1, 0), validation=np.float32(0.0), run=tmp_path / "run"
    )
    assert result.status is Status.DIVERGED
    assert len(result.history) == 1
    assert math.isnan(result.history[0].metrics["loss"])
    assert result.history[0].metrics["skipped"] == 2
    assert result.best is None
    records = telemetry(tmp_path / "run")
    assert [r["kind"] for r in records] == ["run_begin", "epoch_begin", "epoch_end", "run_end"]
    assert records[2]["metrics"]["loss"] == "NaN"
    assert records[3]["status"] == "diverged"
    assert not (tmp_path / "run" / "checkpoints").exists()  # an unfinished epoch is never saved


def test_throw_makes_an_error_of_it():
    trainer = Trainer(METHOD, max_nonfinite=2)
    with pytest.raises(RunError, match="the run diverged: 2 steps in a row were not finite, in epoch 0"):
        fit(trainer, objective=broken_loss, data=switches(1, 1), throw=True)
    assert fit(trainer, objective=broken_loss, data=switches(0, 1), throw=True).status is Status.COMPLETED


def test_an_update_that_leaves_the_finite_numbers_is_not_made():
    huge = Plan(learning_rate=lambda p: 3e38)
    result = fit(Trainer(SCHEDULED, plan=huge), epochs=2)
    same(result.model, line())
    assert result.skipped == 2
    assert result.history[0].metrics["skipped"] == 1


def test_parameters_that_start_as_nan_diverge():
    model = line()
    model = type(model)(model.weight * jnp.nan, model.bias)
    result = fit(Trainer(METHOD, max_nonfinite=2), model=model, epochs=5)
    assert result.status is Status.DIVERGED
    assert result.steps == 2


# -- precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_arithmetic_keeps_wide_parameters(precision):
    seen = []

    def objective(model, batch, controls, key):
        seen.append((model.weight.dtype, batch[0].dtype, controls["rate"].dtype))
        return squares(model, batch, controls, key)

    trainer = Trainer(METHOD, precision=precision, plan=Plan(rate=0.5))
    low = fit(trainer, objective=objective, epochs=8, validation=rows())
    full = fit(epochs=8 - low.skipped)  # float16 may skip a step while its scale settles
    assert set(seen) == {(jnp.dtype(precision),) * 3}
    assert low.model.weight.dtype == jnp.float32
    np.testing.assert_allclose(low.model.weight, full.model.weight, atol=0.05)
    assert not np.array_equal(low.model.weight, full.model.weight)
    assert low.history[-1].metrics["val_loss"] < 0.3 * low.history[0].metrics["loss"]


def test_the_loss_scale_halves_until_gradients_fit():
    watch = Watch()

    def steep(model, batch, controls, key):
        return 40.0 * squares(model, batch, controls, key)[0], {}

    gentle = GradientMethod(Autodiff(), optax.sgd(0.002))
    result = fit(Trainer(gentle, precision="float16", callbacks=[watch]), objective=steep, epochs=8)
    scales = [float(state.loss_scale) for state in watch.states]
    skipped = int(result.skipped)
    assert 1 <= skipped < 8
    assert scales == [2.0 ** (14 - min(i, skipped - 1)) for i in range(8)]
    assert [r.metrics["skipped"] for r in result.history] == [1.0] * skipped + [0.0] * (8 - skipped)
    losses = [r.metrics["loss"] for r in result.history]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[skipped] == losses[0]  # skipped steps moved nothing
    assert losses[-1] < losses[skipped]
    # And afterwards gradients are those of float32, whatever the scale.
    reference = fit(Trainer(gentle), objective=steep, epochs=8 - skipped)
    np.testing.assert_allclose(result.model.weight, reference.model.weight, rtol=2e-2)


def test_float16_gradients_too_small_for_it_survive():
    def faint(model, batch, controls, key):
        return 1e-7 * squares(model, batch, controls, key)[0].astype(jnp.float32), {}

    trainer = Trainer(GradientMethod(Autodiff(), optax.sgd(1e6)), precision="float16")
    full = Trainer(GradientMethod(Autodiff(), optax.sgd(1e6)))
    np.testing.assert_allclose(
        fit(trainer, objective=faint).model.weight, fit(full, objective=faint).model.weight, rtol=1e-2
    )


def test_the_difference_step_follows_a_control():
    method = GradientMethod(CentralDifference(control("eps")), optax.sgd(0.1))

    def cubic(model, batch, controls, key):
        return jnp.sum(model.weight**3), {}

    result = fit(Trainer(method, plan=Plan(eps=lambda p: 0.5)), objective=cubic, epochs=1)
    start = line().weight
    np.testing.assert_allclose(result.model.weight, start - 0.1 * (3 * start**2 + 0.25), rtol=1e-5)
