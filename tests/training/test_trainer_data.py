"""Validation, reducers, recorders, what is trained; and arguments that are refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import METHOD, SGD, Line, close, fit, line, rows, same, squares, telemetry

import hardgrad as hg
from hardgrad.core import UsageError
from hardgrad.estimators import SPSA, Autodiff
from hardgrad.schedules import Plan
from hardgrad.training import GradientMethod, InMemory, Stream, Trainer


def counted(model, batch, controls, key):
    """Also metrics that are not floats."""
    loss, _ = squares(model, batch, controls, key)
    y = batch[1]
    return loss, {"positive": jnp.sum(y > 0) / y.size, "any": jnp.any(y > 0), "rows": jnp.int32(y.size)}


def test_validation_is_the_mean_over_all_rows_whatever_the_batch(x64):
    given = {"model": line(np.float64), "objective": counted, "epochs": 2}
    held_out = rows(np.float64, count=11)
    data = InMemory(rows(np.float64), batch_size=4, shuffle=False)
    whole = fit(data=data, validation=InMemory(held_out), **given)
    for batch_size in (1, 4, 5, 11):
        cut = fit(data=data, validation=InMemory(held_out, batch_size=batch_size), **given)
        for a, b in zip(cut.history, whole.history, strict=True):
            assert a.metrics["val_loss"] == pytest.approx(b.metrics["val_loss"], abs=1e-12)
            assert a.metrics["val_positive"] == pytest.approx(b.metrics["val_positive"], abs=1e-7)
    x, y = held_out
    by_hand = np.mean((x @ np.asarray(whole.model.weight) + float(whole.model.bias) - y) ** 2)
    assert whole.history[-1].metrics["val_loss"] == pytest.approx(by_hand, abs=1e-12)
    # Bare arrays are cut like the training data.
    same(fit(data=data, validation=held_out, **given).model, whole.model)


def test_validation_is_after_the_update():
    result = fit(epochs=3, validation=rows())
    losses = [r.metrics["loss"] for r in result.history]
    held_out = [r.metrics["val_loss"] for r in result.history]
    np.testing.assert_allclose(held_out[:-1], losses[1:], rtol=1e-6)
    assert {"val_loss", "val_wide", "loss", "wide", "gradient_norm", "skipped"} == result.history[0].metrics.keys()


@pytest.mark.parametrize("execution", ["compiled", "eager"])
def test_a_stream_of_validation_data(execution):
    x, y = rows(count=6)
    stream = Stream([(x[:3], y[:3]), (x[3:], y[3:])])
    streamed = fit(Trainer(METHOD, execution=execution, plan=Plan(rate=0.5)), validation=stream)
    whole = fit(validation=(x, y))
    for a, b in zip(streamed.history, whole.history, strict=True):
        assert a.metrics["val_loss"] == pytest.approx(b.metrics["val_loss"], rel=1e-6)


def slope_alone(model):
    """Zero, and yet with a gradient: what is reported is of the rows alone."""
    return jnp.sum(model.weight - jax.lax.stop_gradient(model.weight))


def constant(model, batch, controls, key):
    return jnp.mean(batch) + slope_alone(model), {"peak": jnp.max(batch), "size": jnp.int32(batch.size)}


@pytest.mark.parametrize("per_dispatch", [None, 1])
def test_every_row_counts_alike_where_the_last_batch_is_shorter(per_dispatch):
    x = np.random.default_rng(0).uniform(size=30).astype(np.float32)
    trainer = Trainer(METHOD, steps_per_dispatch=per_dispatch, reduce={"peak": "max"})
    cut = [x[i : i + 8] for i in range(0, 30, 8)]
    for data in (InMemory(x, batch_size=8), Stream(cut)):
        for record in fit(trainer, objective=constant, data=data, validation=Stream(cut), epochs=3).history:
            assert record.metrics["loss"] == pytest.approx(x.mean(), rel=1e-6)
            assert record.metrics["val_loss"] == pytest.approx(x.mean(), rel=1e-6)
            assert record.metrics["peak"] == x.max()
            assert record.metrics["size"] == pytest.approx((3 * 8 * 8 + 6 * 6) / 30)


def test_diagnostics_count_every_step_alike():
    objective = lambda model, batch, controls, key: (jnp.sum(model.weight) * batch.size + model.bias * 0.0, {})
    data = InMemory(np.ones(10, np.float32), batch_size=8, shuffle=False)
    (record,) = fit(objective=objective, data=data, epochs=1).history
    assert record.metrics["gradient_norm"] == pytest.approx(np.sqrt(3) * (8 + 2) / 2)


def test_a_step_left_out_leaves_out_its_rows():
    x = np.arange(1.0, 11.0, dtype=np.float32)

    def objective(model, batch, controls, key):
        return jnp.where(batch[0] == 1.0, jnp.nan, jnp.mean(batch)) + slope_alone(model), {}

    for size, left in ((4, x[4:]), (8, x[8:])):
        (record,) = fit(objective=objective, data=InMemory(x, batch_size=size, shuffle=False), epochs=1).history
        assert record.metrics["loss"] == pytest.approx(left.mean(), rel=1e-6)


def test_reducers():
    x = np.arange(1.0, 6.0, dtype=np.float32)

    def objective(model, batch, controls, key):
        value = jnp.sum(batch)
        names = ("a", "b", "c", "d", "e", "f", "g")
        return jnp.sum(model.weight**2), dict.fromkeys(names, value)

    reduce = {"a": "mean", "b": "sum", "c": "min", "d": "max", "e": "first", "f": "last", "g": lambda v: np.median(v)}
    data = InMemory(x, batch_size=1, shuffle=False)
    trainer = Trainer(METHOD, reduce=reduce, steps_per_dispatch=2)
    found = fit(trainer, objective=objective, data=data, epochs=1).history[0].metrics
    assert [found[n] for n in "abcdefg"] == [3.0, 15.0, 1.0, 5.0, 1.0, 5.0, 3.0]
    with pytest.raises(UsageError, match=r"reducer of 'loss' is 'maen'. Did you mean 'mean'\?"):
        Trainer(METHOD, reduce={"loss": "maen"})


def test_only_what_is_trainable_moves():
    spec = Line(weight=True, bias=False, absent=False)
    model = Line(line().weight, jnp.float32(0.25))
    result = fit(model=model, trainable=spec, epochs=3)
    assert float(result.model.bias) == 0.25
    assert not np.array_equal(result.model.weight, model.weight)
    assert result.evaluations == 3
    everything = fit(model=model, trainable=eqx.is_inexact_array, epochs=3)
    same(everything.model, fit(model=model, epochs=3).model)
    with pytest.raises(UsageError, match="nothing to train: `trainable` lets none"):
        fit(model=model, trainable=False)
    with pytest.raises(UsageError, match=r"nothing to train.*'n' is int32"):
        fit(model={"n": jnp.arange(3)})


def test_a_python_number_that_looks_like_a_parameter_is_spoken_of():
    model, objective = {"w": jnp.ones(2), "b": 0.0}, lambda m, batch, controls, key: (jnp.sum(m["w"] ** 2) + m["b"], {})
    with pytest.warns(UserWarning, match="the model's 'b' is a Python number, which is not trained"):
        Trainer(METHOD).fit(model, objective, jnp.ones(1), epochs=1)
    Trainer(METHOD).fit(model, objective, jnp.ones(1), epochs=1, trainable=eqx.is_inexact_array)


def test_the_recorder_keeps_every_step(tmp_path):
    def record(params, outcome):
        return {"weight": params.weight, "slope": outcome.gradient.bias, "count": jnp.int32(3)}

    trainer = Trainer(METHOD, record=record, steps_per_dispatch=2)
    data = InMemory(rows(), batch_size=3, shuffle=False)
    result = fit(trainer, data=data, run=tmp_path / "run")
    first = result.history[0].arrays
    assert first["weight"].shape == (4, 3)
    assert first["slope"].shape == first["count"].shape == (4,)
    same(result.history[1].arrays["weight"][-1], result.model.weight)
    # Telemetry brings the very same numbers back.
    again = [hg.training.EpochRecord.from_json(r) for r in telemetry(tmp_path / "run") if r["kind"] == "epoch_end"]
    for ours, theirs in zip(again, result.history, strict=True):
        assert ours.metrics == theirs.metrics
        assert ours.controls == theirs.controls
        for name in first:
            np.testing.assert_array_equal(ours.arrays[name], theirs.arrays[name].astype(float))


def test_a_frozen_steps_recorded_gradient_is_absent():
    def record(params, outcome):
        return {"slope": outcome.gradient.bias}

    result = fit(Trainer(METHOD, plan=Plan(freeze=lambda p: p.epoch == 0), record=record))
    assert np.isnan(result.history[0].arrays["slope"][0])
    assert np.isfinite(result.history[1].arrays["slope"][0])


@pytest.mark.parametrize("seed", [2**31, 2**32 - 1])
def test_large_seeds(tmp_path, seed):
    trainer = Trainer(GradientMethod(SPSA(), optax.sgd(0.1)))
    result = fit(trainer, seed=seed, run=tmp_path / "run")
    same(result.model, fit(trainer, seed=seed).model)
    assert not np.array_equal(result.model.weight, fit(trainer, seed=1).model.weight)
    fit(trainer, seed=seed, run=tmp_path / "run", resume=True)


def test_no_epochs_is_a_run_of_none(tmp_path):
    result = fit(epochs=0, run=tmp_path / "run")
    assert (result.status.value, result.epochs, result.history) == ("completed", 0, [])
    same(result.model, line())
    assert (tmp_path / "run" / "result.json").is_file()


@dataclasses.dataclass
class Table:
    """Unknown to JAX."""

    x: Any


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ({"epochs": -1}, r"epochs must be a whole number, at least 0; got -1"),
        ({"seed": -1}, r"seed must be a whole number, from 0 to 4294967295; got -1"),
        ({"data": (np.zeros((3, 3)), np.array([0.0, np.nan, np.inf]))}, r"'1' holds nan at \(1,\), 2 non-finite of 3"),
        ({"validation": (np.full((2, 3), np.inf), np.zeros(2))}, r"'0' holds inf at \(0, 0\)"),
        ({"seed": 2**32}, r"seed must be a whole number, from 0 to"),
        ({"batch_size": 11}, r"batch_size must be at most the 10 rows there are, got 11"),
        ({"batch_size": 0}, r"batch_size must be a whole number, at least 1"),
        ({"batch_size": 2, "data": (np.zeros((3, 3)), np.zeros(4))}, r"same leading length; found '0': 3, '1': 4"),
        ({"batch_size": 2, "data": Stream([1.0])}, r"give the batch size to Stream"),
        ({"batch_size": 2, "data": iter([1.0])}, r"a stream brings its own batches"),
        ({"data": ()}, r"array|batch"),
        ({"data": "text"}, r"arrays|numbers"),
        ({"data": [rows(), rows()]}, r"a list of 2 tuples of arrays\. If each is a batch: Stream\(batches\)"),
        ({"data": [{"x": x} for x in rows()]}, r"a list of 2 dicts of arrays\. If each"),
        ({"data": lambda: iter([rows()])}, r"takes the epoch, and <lambda> does not: Stream\(lambda epoch: "),
        ({"data": (rows()[0], ["a", "b"]), "batch_size": 2}, r"'1\.0' is the text 'a'\. Number the classes"),
        ({"data": (rows()[0], ["a", "b"])}, r"'1\.0' is the text 'a'\. Number the classes"),
        ({"data": Table(rows()[0]), "batch_size": 2}, r"into the dataclass Table\. Register it: jax\.tree_util"),
        ({"validation": Table(rows()[0])}, r"the validation data must be .* into the dataclass Table"),
        ({"resume": True}, r"resume=True needs the folder"),
        ({"objective": lambda m, b, c, k: jnp.sum(m.weight)}, r"must return \(loss, metrics\)"),
        ({"objective": lambda m, b, c, k: (m.weight, {})}, r"'loss' must be a scalar, got shape \(3,\)"),
    ],
)
def test_wrong_arguments_are_refused(problem, said):
    with pytest.raises(UsageError, match=said):
        fit(**problem)


def test_an_objective_that_is_none_is_refused():
    # The runtime type check of the suite may be there first.
    with pytest.raises((UsageError, TypeError), match=r"the objective must be a function .*, got None|parameter 'obj"):
        fit(objective=None)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ({"precision": "float8"}, "precision must be one of"),
        ({"execution": "fast"}, "execution must be 'compiled' or 'eager'"),
        ({"accumulate": 0}, "accumulate must be a positive int"),
        ({"max_nonfinite": 0}, "max_nonfinite must be a positive int"),
        ({"steps_per_dispatch": 0}, "steps_per_dispatch must be a positive int"),
        ({"plan": {"rate": 1}}, "plan must be a Plan"),
        ({"method": Autodiff()}, "a trainer runs a method"),
    ],
)
def test_a_trainer_of_wrong_parts_is_refused(problem, said):
    # The runtime type check of the suite may be there first: either says no before any work.
    with pytest.raises(Exception, match=f"{said}|annotation|type|violates"):
        Trainer(**{"method": METHOD, **problem})


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((Autodiff(), 1e-2), r"the optimizer must be an Optax transformation, such as optax\.adam\(0\.01\); got 0\.01"),
        ((Autodiff(), optax.adam), r"such as optax\.adam\(1e-2\); got <function adam"),
        ((Autodiff, SGD), r"the estimator must be one, such as hg\.Autodiff\(\); got"),
    ],
)
def test_a_method_of_wrong_parts_is_refused(parts, said):
    # The runtime type check of the suite may be there first: either says no before any work.
    with pytest.raises(Exception, match=f"{said}|annotation|type|violates"):
        GradientMethod(*parts)


def test_a_list_of_tuples_that_is_meant_as_one_pytree_passes():
    def objective(model, batch, controls, key):
        return sum(squares(model, part, controls, key)[0] for part in batch), {}

    one, other = (fit(data=kind([rows(), rows()]), objective=objective).model for kind in (InMemory, tuple))
    same(one, other)


def flat(model, batch, controls, key):
    return jnp.sum(jnp.round(model.weight + 0.1)) + 0.0 * model.bias, {}


@pytest.mark.parametrize(
    ("estimator", "said"),
    [(Autodiff(), "the loss has no slope.*hg.audit"), (SPSA(), "does not change where the method")],
)
def test_a_run_of_zero_gradients_is_spoken_of_at_its_end(tmp_path, estimator, said):
    trainer = Trainer(GradientMethod(estimator, SGD))
    with pytest.warns(UserWarning, match=rf"every gradient was exactly zero, in all 2 epochs(.|\n)*{said}"):
        fit(trainer, objective=flat, run=tmp_path / "run")
    with pytest.warns(UserWarning, match="in all 3 epochs"):
        fit(trainer, objective=flat, run=tmp_path / "run", epochs=3, resume=True)


def test_a_gradient_that_is_zero_for_a_while_is_not_spoken_of():
    later = lambda model, batch, controls, key: (controls["on"] * squares(model, batch, controls, key)[0], {})
    fit(Trainer(METHOD, plan=Plan(on=lambda p: float(p.epoch))), objective=later)
    fit(Trainer(METHOD, plan=Plan(freeze=lambda p: True)), objective=flat)
    fit(epochs=0)


def test_non_finite_data_may_be_allowed():
    x, y = rows()
    x[0, 0] = np.nan

    def careful(model, batch, controls, key):
        a, b = batch
        return squares(model, (jnp.where(jnp.isnan(a), 0.0, a), b), controls, key)

    clean = np.where(np.isnan(x), np.float32(0.0), x)
    allowed = fit(data=InMemory((x, y), allow_non_finite=True), objective=careful)
    close(allowed.model, fit(data=(clean, y)).model)


def test_a_metric_called_loss_does_not_hide_the_loss():
    def objective(model, batch, controls, key):
        return squares(model, batch, controls, key)[0], {"loss": jnp.float32(-1.0)}

    with pytest.raises(UsageError, match="'loss'"):
        fit(objective=objective)


def test_the_model_of_another_precision_is_kept():
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), line())

    def objective(model, batch, controls, key):
        wide = jax.tree.map(lambda x: x.astype(jnp.float32), model)
        return squares(wide, batch, controls, key)

    result = fit(Trainer(GradientMethod(Autodiff(), optax.adam(0.05))), model=half, objective=objective, epochs=3)
    assert result.model.weight.dtype == jnp.bfloat16
    assert result.history[-1].metrics["loss"] < result.history[0].metrics["loss"]


# -- an order of rows --------------------------------------------------------------------------------


def test_an_order_decides_the_rows_of_each_epoch():
    asked = []

    def order(epoch, seed):
        asked.append((epoch, seed))
        return np.full(10, epoch)  # one row, again and again

    x, y = rows()
    result = fit(data=InMemory((x, y), batch_size=4, order=order), epochs=2, seed=3)
    assert asked == [(0, 3), (1, 3)]
    same_rows = [(x[[epoch] * n], y[[epoch] * n]) for epoch in range(2) for n in (4, 4, 2)]
    close(result.model, fit(data=Stream(lambda epoch: same_rows[3 * epoch : 3 * epoch + 3]), epochs=2).model)


def test_an_order_is_asked_when_callbacks_have_heard_of_the_epoch_before():
    said = []

    class Hears(hg.Callback):
        def on_epoch_end(self, run, record):
            said.append(("heard", record.epoch))

    def order(epoch, seed):
        said.append(("asked", epoch))
        return np.arange(10)

    fit(Trainer(METHOD, callbacks=[Hears()]), data=InMemory(rows(), batch_size=5, order=order), epochs=3)
    assert said == [(what, epoch) for epoch in range(3) for what in ("asked", "heard")]


@pytest.mark.parametrize("wrong", [np.arange(9), np.arange(10) - 1, np.arange(1, 11), np.arange(10.0)])
def test_an_order_must_name_rows(wrong):
    with pytest.raises(UsageError, match="an order of rows must be 10 whole numbers from 0 to 9"):
        fit(data=InMemory(rows(), batch_size=5, order=lambda epoch, seed: wrong))


def test_an_order_needs_a_batch_size():
    with pytest.raises(UsageError, match="an order of rows needs a batch size"):
        InMemory(rows(), order=lambda epoch, seed: np.arange(10))
