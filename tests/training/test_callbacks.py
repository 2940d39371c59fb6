"""Callbacks: who is called when, what each promises, and what is left when something breaks."""

from __future__ import annotations

import importlib
import io
import json
import math
import re
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console
from toys import METHOD, SCHEDULED, fit, line, rows, same, telemetry

from hardgrad.core import MissingExtraError, UsageError
from hardgrad.schedules import Plan
from hardgrad.training import InMemory, Status, Trainer
from hardgrad.training.callbacks import (
    Best,
    Callback,
    Checkpoints,
    EarlyStopping,
    History,
    ProgressBar,
    StopBelow,
    Telemetry,
    TensorBoard,
)

# -- the list ------------------------------------------------------------------------------------


def spy(label, place, said, hooks=("on_run_begin", "on_epoch_begin", "on_block_end", "on_epoch_end", "on_run_end")):
    """A callback that says when it is called."""

    def hook(name):
        return lambda self, *args: said.append((name, label))

    return type(label, (Callback,), {"order": place, **{name: hook(name) for name in hooks}})()


def test_they_are_called_in_their_order_whatever_order_they_are_given_in():
    said = []
    fit(Trainer(METHOD, callbacks=[spy("Late", 90, said), spy("Early", 10, said), spy("Middle", 50, said)]), epochs=1)
    names = ["on_run_begin", "on_epoch_begin", "on_block_end", "on_epoch_end", "on_run_end"]
    assert said == [(name, label) for name in names for label in ("Early", "Middle", "Late")]


def test_blocks_are_told_how_far_they_are():
    told = []

    class Count(Callback):
        def on_block_end(self, run, done, total):
            told.append((run.epoch, done, total, run.step))

    fit(Trainer(METHOD, callbacks=[Count()], steps_per_dispatch=2), data=InMemory(rows(), batch_size=3))
    assert told == [(0, 2, 4, 2), (0, 3, 4, 3), (0, 4, 4, 4), (1, 2, 4, 6), (1, 3, 4, 7), (1, 4, 4, 8)]


def test_mistakes_are_errors_before_training():
    class Misspelt(Callback):
        def on_epoch_ends(self, run, record):
            pass

    with pytest.raises(UsageError, match=r"'Misspelt.on_epoch_ends' is not a hook. Did you mean 'on_epoch_end'\?"):
        fit(Trainer(METHOD, callbacks=[Misspelt()]))
    twice = [EarlyStopping("loss", "min", patience=1), EarlyStopping("wide", "min", patience=1)]
    with pytest.raises(UsageError, match="two callbacks are named 'EarlyStopping'"):
        fit(Trainer(METHOD, callbacks=twice))
    with pytest.raises(Exception, match=r"must be a hardgrad.Callback|violates|annotation"):
        fit(Trainer(METHOD, callbacks=[print]))


def test_two_of_a_kind_may_have_names_of_their_own():
    one, other = EarlyStopping("loss", "min", patience=1), EarlyStopping("wide", "min", patience=1)
    other.name = "other"
    assert fit(Trainer(METHOD, callbacks=[one, other])).status is Status.COMPLETED


def test_instances_begin_anew():
    stopping, best, history = EarlyStopping("loss", "max", patience=0), Best("loss", "min"), History()
    trainer = Trainer(METHOD, callbacks=[stopping, best, history])
    first, second = fit(trainer, epochs=5), fit(trainer, epochs=5)
    assert (first.epochs, first.best) == (second.epochs, second.best)
    assert len(history.records) == first.epochs == 2


# -- early stopping and the best -----------------------------------------------------------------


def follow(values, callbacks, **settings):
    """A run whose metric ``m`` takes the given values, an epoch each."""
    table = jnp.asarray(values, jnp.float32)

    def objective(model, batch, controls, key):
        return jnp.sum(model.weight**2), {"m": batch[jnp.asarray(controls["epoch"], jnp.int32)]}

    plan = Plan(epoch=lambda p: p.epoch, **settings)
    data = InMemory((table,), allow_non_finite=True)
    named = lambda model, batch, controls, key: objective(model, batch[0], controls, key)
    return fit(Trainer(METHOD, callbacks=callbacks, plan=plan), objective=named, data=data, epochs=len(values))


NAN = math.nan


@pytest.mark.parametrize(
    ("values", "mode", "patience", "epochs"),
    [
        ([3, 2, 1, 0], "min", 0, 4),
        ([3, 3, 1, 0], "min", 0, 2),  # improvement is strict
        ([3, 3, 3, 1], "min", 1, 3),  # stops when bad > patience
        ([3, 4, 2, 3, 3, 0], "min", 1, 5),  # an improvement resets the count
        ([NAN, 3, NAN, NAN, 1], "min", 1, 4),  # NaN is never best, and bad
        ([NAN, NAN, 1], "min", 1, 2),
        ([0, 1, 2, 2, 2], "max", 1, 5),
        ([math.inf, 5, 6, 7], "min", 1, 4),
    ],
)
def test_patience(values, mode, patience, epochs):
    result = follow(values, [EarlyStopping("m", mode, patience=patience)])
    stopped = epochs < len(values) or result.status is Status.STOPPED
    assert result.epochs == epochs
    assert result.status is (Status.STOPPED if stopped else Status.COMPLETED)
    if stopped:
        assert result.reason == f"m has not improved for {patience + 1} epochs"


def test_frozen_epochs_try_patience():
    result = follow([3, 3, 3, 3], [EarlyStopping("m", "min", patience=1)], freeze=lambda p: p.epoch > 0)
    assert result.epochs == 3
    assert result.history[-1].frozen


@pytest.mark.parametrize(
    ("values", "mode", "best"),
    [([3, 1, 2], "min", 1), ([3, 1, 4, 4], "max", 2), ([NAN, 2, NAN], "min", 1), ([NAN, NAN], "max", None)],
)
def test_the_best_is_kept(tmp_path, values, mode, best):
    result = follow(values, [Best("m", mode)])
    if best is None:
        assert result.best is None
        assert result.best_model is None
        return
    assert result.best == {"epoch": best, "metric": "m", "value": values[best]}
    same(result.best_model.weight, follow(values[: best + 1], []).model.weight)


def test_the_best_on_disk(tmp_path):
    trainer = Trainer(METHOD, callbacks=[Best("loss", "max"), Checkpoints(spacing=0.0)])
    result = fit(trainer, epochs=3, run=tmp_path / "run")
    content = json.loads((tmp_path / "run" / "best" / "best_params.json").read_text())
    assert content.keys() == {"weight", "bias"}
    np.testing.assert_array_equal(np.float32(content["weight"]), result.best_model.weight)
    manifest = json.loads((tmp_path / "run" / "best" / "manifest.json").read_text())
    assert manifest["meta"] == {"metric": "loss", "value": result.best["value"], "epoch": 0}
    summary = json.loads((tmp_path / "run" / "result.json").read_text())
    assert summary["best"] == result.best
    assert {p.name for p in (tmp_path / "run" / "best").iterdir()} == {
        "arrays.safetensors",
        "best_params.json",
        "manifest.json",
    }


def test_many_parameters_are_not_spelled_out(tmp_path):
    model = {"line": line(), "ballast": jnp.zeros(5000)}

    def objective(model, batch, controls, key):
        return jnp.sum(model["line"].weight ** 2) + jnp.sum(model["ballast"]), {}

    trainer = Trainer(METHOD, callbacks=[Best("loss", "min")])
    fit(trainer, model=model, objective=objective, run=tmp_path / "run")
    assert {p.name for p in (tmp_path / "run" / "best").iterdir()} == {"arrays.safetensors", "manifest.json"}


@pytest.mark.parametrize("make", [lambda m, d: EarlyStopping(m, d, patience=1), Best])
def test_a_monitor_names_metric_and_direction(make):
    with pytest.raises(Exception, match=r"direction is 'min' or 'max', got 'down'|violates|annotation"):
        make("loss", "down")
    with pytest.raises(UsageError, match=r"no metric 'los' to watch. Did you mean 'loss'\?"):
        fit(Trainer(METHOD, callbacks=[make("los", "min")]))
    with pytest.raises(UsageError, match="patience must be a whole number, at least 0"):
        EarlyStopping("loss", "min", patience=-1)


# -- checkpoints ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "epochs", "names"),
    [
        ({"spacing": 0.0}, 5, ["000003", "000004", "000005"]),
        ({"spacing": 0.0, "keep": None}, 3, ["000001", "000002", "000003"]),
        ({"spacing": 0.0, "keep": 1}, 4, ["000004"]),
        ({"spacing": 0.0, "every": 2, "keep": None}, 5, ["000002", "000004", "000005"]),  # and the last
        ({"spacing": 1e9}, 5, ["000001", "000005"]),
        ({"spacing": 0.0}, 0, []),
    ],
)
def test_which_checkpoints_are_there(tmp_path, settings, epochs, names):
    fit(Trainer(METHOD, callbacks=[Checkpoints(**settings)]), epochs=epochs, run=tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(p.name for p in folder.glob("*")) == names


def test_a_second_run_saves_at_once(tmp_path):
    trainer = Trainer(METHOD, callbacks=[Checkpoints(spacing=1e9, keep=None)])
    for name in ("one", "two"):
        fit(trainer, epochs=3, run=tmp_path / name)
        assert sorted(p.name for p in (tmp_path / name / "checkpoints").iterdir()) == ["000001", "000003"]


def test_what_a_kill_left_half_written_is_cleared_away(tmp_path):
    fit(epochs=1, run=tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / ".000007.tmp").mkdir()
    fit(epochs=2, run=tmp_path / "run", resume=True)
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["000001", "000002"]


@pytest.mark.parametrize("wrong", [{"every": 0}, {"keep": 0}, {"spacing": -1.0}, {"spacing": math.nan}])
def test_checkpoints_out_of_range(wrong):
    with pytest.raises(UsageError, match="checkpoints need every >= 1"):
        Checkpoints(**wrong)


# -- telemetry -----------------------------------------------------------------------------------


def test_the_records_of_a_run(tmp_path):
    plan = Plan(learning_rate=lambda p: 0.1 / (1 + p.epoch), depth=lambda p: 2 + p.epoch, freeze=lambda p: p.epoch == 1)
    result = fit(Trainer(SCHEDULED, plan=plan), validation=rows(), run=tmp_path / "run", seed=5)
    lines = (tmp_path / "run" / "telemetry.jsonl").read_text().splitlines()
    assert all(isinstance(json.loads(line)["time"], float) for line in lines)
    records = telemetry(tmp_path / "run")
    assert all((r["schema"], r["version"]) == ("hardgrad.metric_log", 1) for r in records)
    kinds = ["run_begin", *["epoch_begin", "epoch_end"] * 2, "run_end"]
    assert [r["kind"] for r in records] == kinds
    assert (records[0]["epochs"], records[0]["seed"]) == (2, 5)
    assert records[1]["controls"] == {"learning_rate": 0.1, "depth": 2, "freeze": False}
    assert (records[3]["epoch"], records[3]["step"]) == (1, 1)
    assert records[4]["frozen"] is True
    assert records[2]["metrics"] == dict(result.history[0].metrics)  # in full precision
    assert records[-1]["status"] == "completed"


def test_numbers_that_are_not_finite_are_encoded(tmp_path):
    run = tmp_path / "run"

    def objective(model, batch, controls, key):
        odd = {"nan": jnp.nan, "up": jnp.inf, "down": -jnp.inf}
        return jnp.sum(model.weight**2), {k: jnp.float32(v) for k, v in odd.items()}

    result = fit(Trainer(METHOD, callbacks=[Best("up", "min")]), objective=objective, epochs=1, run=run)
    end = next(r for r in telemetry(run) if r["kind"] == "epoch_end")
    assert [end["metrics"][n] for n in ("nan", "up", "down")] == ["NaN", "Infinity", "-Infinity"]
    json.loads((run / "result.json").read_text(), parse_constant=pytest.fail)
    resumed = fit(Trainer(METHOD, callbacks=[Best("up", "min")]), objective=objective, epochs=1, run=run, resume=True)
    assert math.isnan(resumed.history[0].metrics["nan"])
    assert resumed.best is result.best is None  # what is not finite is never best


class Crash(Callback):
    """Fails at the end of epoch 1."""

    def on_epoch_end(self, run, record):
        if record.epoch == 1:
            raise ZeroDivisionError("on purpose")


def test_a_crash_leaves_complete_telemetry(tmp_path):
    ended = []

    class Hears(Callback):
        order = 5

        def on_error(self, run, error):
            ended.append(type(error).__name__)
            raise RuntimeError("a second failure")  # hides nothing and stops nobody

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        fit(Trainer(METHOD, callbacks=[Crash(), Hears()]), epochs=5, run=tmp_path / "run")
    records = telemetry(tmp_path / "run")
    assert [r["kind"] for r in records] == ["run_begin", *["epoch_begin", "epoch_end"] * 2, "error"]
    assert records[-1] == {
        "schema": "hardgrad.metric_log",
        "version": 1,
        "kind": "error",
        "epoch": 2,
        "type": "ZeroDivisionError",
        "message": "on purpose",
    }
    assert ended == ["ZeroDivisionError"]
    resumed = fit(epochs=5, run=tmp_path / "run", resume=True)
    same(resumed.model, fit(epochs=5).model)
    assert [r.epoch for r in resumed.history] == list(range(5))


def test_a_crash_in_the_objective(tmp_path):
    def objective(model, batch, controls, key):
        raise KeyError("lost")

    with pytest.raises(KeyError):
        fit(objective=objective, run=tmp_path / "run")
    kinds = [r["kind"] for r in telemetry(tmp_path / "run")]
    assert (kinds[0], kinds[-1]) == ("run_begin", "error")
    assert "epoch_end" not in kinds


def test_an_interrupt_is_a_result_and_resumes(tmp_path):
    class Interrupt(Callback):
        order = 17  # after the history, before telemetry

        def on_epoch_end(self, run, record):
            if record.epoch == 2 and not run.resumed:
                raise KeyboardInterrupt

    trainer = Trainer(METHOD, callbacks=[Interrupt(), Checkpoints(spacing=0.0), Best("loss", "min")])
    result = fit(trainer, epochs=4, run=tmp_path / "run")
    assert result.status is Status.INTERRUPTED
    assert json.loads((tmp_path / "run" / "result.json").read_text())["status"] == "interrupted"
    resumed = fit(trainer, epochs=4, run=tmp_path / "run", resume=True)
    straight = fit(trainer.__class__(METHOD, callbacks=[Best("loss", "min")]), epochs=4)
    same(resumed.model, straight.model)
    assert resumed.best == straight.best
    ends = [r["epoch"] for r in telemetry(tmp_path / "run") if r["kind"] == "epoch_end"]
    assert ends == [0, 1, 2, 3]  # none lost, none twice
    assert telemetry(tmp_path / "run")[-1]["status"] == "completed"


# -- the bar, TensorBoard ------------------------------------------------------------------------


def drawn(text):
    """The lines that a terminal was sent, one over the other."""
    return re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text.getvalue()))


def test_the_bar_shows_loss_and_controls():
    text = io.StringIO()
    console = rich.console.Console(file=text, force_terminal=True, width=100)
    trainer = Trainer(SCHEDULED, plan=Plan(learning_rate=0.25, depth=7), callbacks=[ProgressBar(console)])
    result = fit(trainer, epochs=2)
    shown = text.getvalue()
    assert "compiling" in shown
    assert "2/2" in shown
    assert f"loss {result.history[-1].metrics['loss']:.4g}" in shown
    assert "learning_rate 0.25" in shown
    assert "depth 7" in shown


@pytest.mark.parametrize("width", [40, 59, 60, 80])
def test_the_bar_keeps_within_the_terminal_and_cuts_no_word(width):
    """Controls that do not fit are left out whole."""
    text = io.StringIO()
    console = rich.console.Console(file=text, force_terminal=True, width=width)
    plan = Plan(learning_rate=0.25, a_control_with_a_name_that_fills_most_of_a_line=1.5, depth=7)
    result = fit(Trainer(SCHEDULED, plan=plan, callbacks=[ProgressBar(console)]), epochs=2)
    last = next(line.rstrip() for line in reversed(drawn(text)) if "2/2" in line)
    assert len(last) <= width
    assert "…" not in last
    assert f"loss {result.history[-1].metrics['loss']:.4g}" in last
    assert ("━" in last) == (width >= 60)
    assert "a_control" not in last
    assert ("learning_rate 0.25" in last) == (width in (59, 80))
    assert "depth 7" in last


def test_the_bar_keeps_up_with_what_is_printed(monkeypatch):
    """A line printed between two drawings has the bar of its own epoch below it."""
    monkeypatch.setattr("hardgrad.training.callbacks._progress_bar._SHOW_EVERY", 0.0)
    text = io.StringIO()
    console = rich.console.Console(file=text, force_terminal=True, width=80)

    class Says(Callback):
        order = 12

        def on_epoch_end(self, run, record):
            console.print(f"said {record.epoch}")

    fit(Trainer(METHOD, callbacks=[Says(), ProgressBar(console)]), epochs=3)
    shown = drawn(text)
    for epoch in range(3):
        assert f"{epoch + 1}/3" in shown[shown.index(f"said {epoch}") + 1]


def test_a_log_gets_no_bar_but_a_line_now_and_then(capsys, monkeypatch):
    now = iter(range(0, 1000, 4))
    clock = types.SimpleNamespace(monotonic=lambda: float(next(now)))
    monkeypatch.setattr("hardgrad.training.callbacks._progress_bar.time", clock)
    plan = Plan(learning_rate=0.25, depth=7)
    result = fit(Trainer(SCHEDULED, plan=plan, callbacks=[ProgressBar()]), epochs=7)
    out, said = capsys.readouterr()
    assert out == ""
    losses = [f"loss {record.metrics['loss']:.4g} learning_rate 0.25 depth 7" for record in result.history]
    assert said.splitlines() == [f"epoch 3/7 {losses[2]}", f"epoch 6/7 {losses[5]}"]


def test_a_short_run_says_nothing_in_a_log(capsys):
    fit(Trainer(METHOD, callbacks=[ProgressBar()]))
    assert capsys.readouterr() == ("", "")


def test_the_bar_leaves_the_output_to_its_file(capsys):
    """What is printed while the bar is drawn on the error stream still reaches the output."""

    class Says(Callback):
        def on_epoch_end(self, run, record):
            sys.stdout.write(f"epoch {record.epoch}\n")

    console = rich.console.Console(file=io.StringIO(), force_terminal=True)
    before = sys.stdout
    fit(Trainer(METHOD, callbacks=[Says(), ProgressBar(console)]))
    assert capsys.readouterr().out == "epoch 0\nepoch 1\n"
    assert sys.stdout is before


def test_the_bar_goes_away_when_something_breaks():
    console = rich.console.Console(file=io.StringIO(), force_terminal=True)
    bar = ProgressBar(console)
    with pytest.raises(ZeroDivisionError):
        fit(Trainer(METHOD, callbacks=[bar, Crash()]), epochs=3)
    fit(Trainer(METHOD, callbacks=[bar]))  # a second live display beside a first would be an error


def test_tensorboard_writes_events(tmp_path):
    pytest.importorskip("tensorboardX")
    trainer = Trainer(SCHEDULED, plan=Plan(learning_rate=0.1), callbacks=[TensorBoard()])
    fit(trainer, run=tmp_path / "run")
    events = b"".join(p.read_bytes() for p in (tmp_path / "run" / "tensorboard").glob("events.out.tfevents.*"))
    for name in (b"loss", b"wide", b"controls/learning_rate"):
        assert name in events
    fit(Trainer(METHOD, callbacks=[TensorBoard(str(tmp_path / "logs"))]))
    assert list((tmp_path / "logs").glob("events.out.tfevents.*"))
    with pytest.raises(UsageError, match="TensorBoard needs somewhere to write"):
        fit(Trainer(METHOD, callbacks=[TensorBoard()]))


def test_a_missing_extra_says_how_to_install_it(monkeypatch):
    real = importlib.import_module

    def without(name, *rest):
        if name == "tensorboardX":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'hardgrad\[tensorboard\]'"):
        TensorBoard()


# -- what it costs, what it keeps ----------------------------------------------------------------


def test_hooks_nobody_overrides_are_not_called():
    from hardgrad.training.callbacks._base import HOOKS, CallbackList

    assert all(not CallbackList([Callback()])._hooks[hook] for hook in HOOKS)


def test_state_is_handed_back_after_the_beginning(tmp_path):
    said = []

    class Remembers(Callback):
        count = 0

        def on_run_begin(self, run):
            self.count = 0
            said.append(("begin", run.resumed))

        def on_epoch_end(self, run, record):
            self.count += 1

        def state(self):
            return {"count": self.count}

        def restore(self, state, run):
            said.append(("restore", state["count"]))
            self.count = state["count"]

    keeper = Remembers()
    fit(Trainer(METHOD, callbacks=[keeper]), epochs=3, run=tmp_path / "run")
    fit(Trainer(METHOD, callbacks=[keeper]), epochs=5, run=tmp_path / "run", resume=True)
    assert said == [("begin", False), ("begin", True), ("restore", 3)]
    assert keeper.count == 5


def test_a_snapshot_outlives_the_buffers_it_was_taken_from():
    model = {"line": line(), "ballast": jnp.zeros(2**19)}

    def objective(model, batch, controls, key):
        return jnp.sum((model["line"].weight - 1.0) ** 2) + jnp.sum(model["ballast"] ** 2), {}

    result = fit(Trainer(METHOD, callbacks=[Best("loss", "max")]), model=model, objective=objective, epochs=4)
    assert result.best["epoch"] == 0
    start = line().weight
    np.testing.assert_allclose(result.best_model["line"].weight, start - 0.2 * (start - 1.0), atol=1e-6)


def test_telemetry_needs_a_folder():
    assert fit(Trainer(METHOD, callbacks=[Telemetry()])).status is Status.COMPLETED
    assert jax.tree.leaves(fit().model)


# -- a threshold -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "patience", "epochs"),
    [
        ([0.9, 0.9, 0.9, 0.99], 3, 3),
        ([0.9, 0.96, 0.9, 0.9, 0.9], 3, 5),  # one good epoch resets the count
        ([0.9, 0.9, 0.95, 0.9, 0.9], 3, None),  # the threshold itself is good enough
        ([NAN, 0.99, NAN, NAN], 2, 4),  # NaN is not
        ([0.9], 1, 1),
    ],
)
def test_a_metric_that_stays_below(values, patience, epochs):
    result = follow(values, [StopBelow("m", 0.95, patience=patience)])
    assert result.epochs == (epochs or len(values))
    assert result.status is (Status.COMPLETED if epochs is None else Status.STOPPED)
    if epochs is not None:
        assert result.reason == f"m has been below 0.95 for {patience} epochs"


def test_the_count_survives_a_kill(tmp_path):
    values = [0.9, 0.9, 0.9, 0.9, 0.9, 0.9]
    spacing = [Checkpoints(spacing=0.0), StopBelow("m", 0.95, patience=4)]
    table = jnp.asarray(values, jnp.float32)
    plan = Plan(epoch=lambda p: p.epoch)
    objective = lambda model, batch, controls, key: (
        jnp.sum(model.weight**2),
        {"m": batch[jnp.asarray(controls["epoch"], jnp.int32)]},
    )
    given = {"objective": objective, "data": InMemory(table), "run": tmp_path / "run"}
    with pytest.raises(ZeroDivisionError):
        fit(Trainer(METHOD, callbacks=[*spacing, Crash()], plan=plan), epochs=6, **given)
    resumed = fit(Trainer(METHOD, callbacks=spacing, plan=plan), epochs=6, resume=True, **given)
    assert resumed.status is Status.STOPPED
    assert resumed.epochs == 4


def test_thresholds_that_are_refused():
    with pytest.raises(UsageError, match="threshold must be a number"):
        StopBelow("m", NAN, patience=1)
    with pytest.raises(UsageError, match="patience must be a whole number, at least 1"):
        StopBelow("m", 0.5, patience=0)
    with pytest.raises(UsageError, match=r"no metric 'los' to watch. Did you mean 'loss'\?"):
        fit(Trainer(METHOD, callbacks=[StopBelow("los", 0.5, patience=1)]))
