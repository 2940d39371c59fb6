"""Figures measured between epochs, and runs that pause."""

from __future__ import annotations

import json
import math

import jax.numpy as jnp
import pytest
from toys import METHOD, SCHEDULED, fit, line, rows, same, squares, telemetry

from hardgrad.core import UsageError
from hardgrad.schedules import Plan
from hardgrad.training import InMemory, Status, Stream, Trainer
from hardgrad.training.callbacks import Best, Callback, Checkpoints, EarlyStopping, Evaluate, StopBelow


def size(model):
    return {"size": jnp.sum(jnp.abs(model.weight))}


def trainer(*callbacks, every=1, function=size, names=("size",)):
    return Trainer(METHOD, callbacks=[Evaluate(function, names, every=every), *callbacks])


def measured(result):
    return [record.epoch for record in result.history if "val_size" in record.metrics]


@pytest.mark.parametrize(
    ("every", "epochs", "which"),
    [(1, 3, [0, 1, 2]), (2, 5, [1, 3, 4]), (2, 4, [1, 3]), (9, 4, [3])],
)
def test_which_epochs_are_measured(tmp_path, every, epochs, which):
    result = fit(trainer(every=every), epochs=epochs, run=tmp_path / "run")
    assert measured(result) == which
    ends = [r for r in telemetry(tmp_path / "run") if r["kind"] == "epoch_end"]
    assert [r["epoch"] for r in ends if "val_size" in r["metrics"]] == which
    assert result.history[-1].metrics["val_size"] == float(size(result.model)["size"])


def test_the_model_measured_is_that_of_the_epoch():
    result = fit(trainer(every=2), epochs=5)
    for record in result.history:
        if "val_size" in record.metrics:
            alone = fit(Trainer(METHOD), epochs=record.epoch + 1)
            assert record.metrics["val_size"] == float(size(alone.model)["size"])


def test_the_best_is_judged_only_where_it_is_measured():
    result = fit(trainer(Best("val_size", "max"), every=2), epochs=5)
    values = {r.epoch: r.metrics["val_size"] for r in result.history if "val_size" in r.metrics}
    assert result.best == {"epoch": max(values, key=values.get), "metric": "val_size", "value": max(values.values())}


def test_patience_counts_evaluations():
    flat = lambda model: {"size": 1.0}
    result = fit(trainer(EarlyStopping("val_size", "min", patience=1), every=3, function=flat), epochs=30)
    assert (result.epochs, result.reason) == (9, "val_size has not improved for 2 evaluations")
    result = fit(trainer(StopBelow("val_size", 2.0, patience=2), every=3, function=flat), epochs=30)
    assert (result.epochs, result.reason) == (6, "val_size has been below 2.0 for 2 evaluations")


@pytest.mark.parametrize("watch", [Best("val_sise", "min"), EarlyStopping("val_sise", "min", patience=1)])
def test_a_misspelt_metric_is_an_error_in_the_first_epoch(watch):
    seen = []
    with pytest.raises(UsageError, match=r"no metric 'val_sise' to watch. Did you mean 'val_size'\?"):
        fit(trainer(watch, every=7, function=lambda model: seen.append(1)), epochs=20)
    assert seen == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"names": ()}, "needs the names"),
        ({"names": ("a", "a")}, "each once"),
        ({"every": 0}, "every must be a whole number, at least 1"),
    ],
)
def test_arguments_out_of_range(arguments, said):
    with pytest.raises(UsageError, match=said):
        Evaluate(size, **{"names": ("size",), **arguments})


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda model: {"sizes": 1.0}, r"was to measure \['size'\], its function returned \['sizes'\]"),
        (lambda model: 1.0, "its function returned 1.0"),
        (lambda model: {"size": "large"}, "must be numbers"),
    ],
)
def test_what_the_function_returns_is_checked(function, said):
    with pytest.raises(UsageError, match=said):
        fit(trainer(function=function))


def test_a_name_that_is_taken():
    with pytest.raises(UsageError, match="'Evaluate' measures 'val_loss', which the run records already"):
        fit(trainer(function=lambda m: {"loss": 0.0}, names=("loss",), every=9), validation=rows(), epochs=20)


def test_a_figure_that_is_not_finite_is_never_best(tmp_path):
    values = iter([math.nan, 2.0, math.inf, 3.0])
    odd = trainer(Best("val_size", "max"), function=lambda model: {"size": next(values)})
    result = fit(odd, epochs=4, run=tmp_path / "run")
    assert result.best == {"epoch": 3, "metric": "val_size", "value": 3.0}
    assert [r["metrics"]["val_size"] for r in telemetry(tmp_path / "run") if r["kind"] == "epoch_end"] == [
        "NaN",
        2.0,
        "Infinity",
        3.0,
    ]


# -- pausing -------------------------------------------------------------------------------------

FALLING = Plan(learning_rate=lambda p: 0.1 * (1 - p.epoch / p.epochs))


def paused_and_resumed(run, *pauses, epochs=6, **given):
    make = lambda: Trainer(
        SCHEDULED, plan=FALLING, callbacks=[Evaluate(size, ["size"], every=4), Best("val_size", "max")]
    )
    results = [
        fit(make(), epochs=epochs, run=run, until=until, resume=i > 0, **given)
        for i, until in enumerate([*pauses, None])
    ]
    return results, fit(make(), epochs=epochs, **given)


@pytest.mark.parametrize("pauses", [(1,), (3,), (2, 4), (3, 3), (3, 1)])
def test_a_pause_changes_nothing(tmp_path, pauses):
    results, straight = paused_and_resumed(tmp_path / "run", *pauses, data=InMemory(rows(), batch_size=4))
    assert all(one.status is Status.PAUSED for one in results[:-1])
    assert results[0].reason == f"paused after {pauses[0]} of 6 epochs"
    assert results[-1].status is Status.COMPLETED
    same(results[-1].model, straight.model)
    same(results[-1].best_model, straight.best_model)
    assert [r.metrics for r in results[-1].history] == [r.metrics for r in straight.history]


def test_a_paused_run_on_disk(tmp_path):
    asked = []
    result = fit(epochs=5, until=2, run=tmp_path / "run", conclude=lambda result: asked.append(result) or {"more": 1})
    content = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (content["status"], content["epochs_completed"], "more" in content, asked) == ("paused", 2, False, [])
    assert result.epochs == 2
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir())[-1] == "000002"
    fit(epochs=5, run=tmp_path / "run", resume=True, conclude=lambda result: {"more": 1})
    content = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (content["status"], content["more"]) == ("completed", 1)


def test_a_run_that_ends_before_its_pause():
    assert fit(epochs=3, until=3).status is Status.COMPLETED
    assert fit(epochs=3, until=9).status is Status.COMPLETED
    stopped = fit(Trainer(METHOD, callbacks=[EarlyStopping("loss", "max", patience=0)]), epochs=9, until=5)
    assert stopped.status is Status.STOPPED
    with pytest.raises(UsageError, match="until must be a whole number, at least 0"):
        fit(epochs=3, until=-1)


def test_callbacks_serve_one_run_at_a_time():
    shared = trainer()

    class Nested(Callback):
        def on_epoch_end(self, run, record):
            fit(shared)

    both = Trainer(METHOD, callbacks=[*shared.callbacks, Nested()])
    with pytest.raises(UsageError, match="'Evaluate' already serves another run that is training"):
        fit(both)
    assert fit(shared).status is Status.COMPLETED  # it is free again


def test_runs_have_the_folder_to_themselves_though_it_is_looked_at(tmp_path):
    folders = []

    class Look(Callback):
        def on_run_begin(self, run):
            folders.append((run.folder, run.folder.in_use()))

    fit(Trainer(METHOD, callbacks=[Look(), Checkpoints(spacing=0.0)]), run=tmp_path / "run")
    ((folder, during),) = folders
    assert (during, folder.in_use()) == (True, False)


# -- validation on its own -----------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 4])
def test_validating_once_more_gives_what_fit_reported(batch_size):
    plan = Plan(learning_rate=lambda p: 0.1 / (1 + p.epoch))

    def objective(model, batch, controls, key):
        loss, metrics = squares(model, batch, controls, key)
        return loss * (1.0 + controls["learning_rate"]), metrics

    held_out = rows(count=11)
    runs = Trainer(SCHEDULED, plan=plan)
    result = fit(runs, objective=objective, batch_size=5, validation=held_out, epochs=3)
    last = result.history[-1]
    found = runs.validate(result.model, objective, held_out, controls=last.controls, batch_size=5)
    assert found == {name: value for name, value in last.metrics.items() if name.startswith("val_")}
    as_stream = runs.validate(result.model, objective, Stream([held_out]), controls=last.controls)
    assert as_stream["val_loss"] == pytest.approx(found["val_loss"], rel=1e-6)
    other = runs.validate(line(), objective, held_out, controls=last.controls, batch_size=batch_size)
    assert other["val_loss"] != found["val_loss"]
