"""What every callback keeps. A new one is tested by adding a line to `CALLBACKS`; a public one not there fails."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import rich.console
from toys import METHOD, fit, line, rows, same, telemetry

from hardgrad.core import UsageError, dumps
from hardgrad.rational import AdaptiveSampler
from hardgrad.training import InMemory, Status, Trainer
from hardgrad.training.callbacks import (
    Best,
    Callback,
    Checkpoints,
    EarlyStopping,
    Evaluate,
    History,
    ProgressBar,
    StopBelow,
    Telemetry,
    TensorBoard,
)
from public_names import public_classes

EPOCHS = 5
ORDERS = range(91)  # measure 5, show 10, record 20, judge 50, save 90


@dataclasses.dataclass(frozen=True)
class Case:
    """How a callback is made, given a folder for what it writes elsewhere than in the run's.

    Attributes:
        make: makes one that does not stop the run.
        remembers: whether it has a state to keep over a kill.
        folder: whether it can do nothing without a folder.
        measures: what it adds to the records.
    """

    make: Callable[[Any], Callback]
    remembers: bool = False
    folder: bool = False
    measures: tuple[str, ...] = ()

    @property
    def name(self):
        return type(self.make(None)).__name__


def sampler(folder):
    """Of the rational models: it judges the rows by the denominators of the line, which has one."""
    made = AdaptiveSampler()
    made.attach(rows()[0], np.arange(len(rows()[0])) % 3 == 0)
    made.update(np.linspace(-1e-4, 1e-4, len(rows()[0])))
    return made


def bar(folder):
    return ProgressBar(rich.console.Console(file=io.StringIO(), force_terminal=True, width=80))


CALLBACKS = [
    Case(lambda folder: Best("wide", "min"), remembers=True),
    Case(lambda folder: Checkpoints(every=2, keep=None, spacing=0.0)),
    Case(lambda folder: EarlyStopping("loss", "min", patience=9), remembers=True),
    Case(lambda folder: Evaluate(lambda model: {"bias": model.bias}, ["bias"], every=2), measures=("val_bias",)),
    Case(lambda folder: History()),
    Case(bar),
    Case(lambda folder: StopBelow("loss", 1e9, patience=99), remembers=True),
    Case(lambda folder: Telemetry()),
    Case(lambda folder: TensorBoard(folder and str(folder)), folder=True),
    Case(sampler, remembers=True),
]
each = pytest.mark.parametrize("case", CALLBACKS, ids=[case.name for case in CALLBACKS])


def judged(model, batch, controls, key):
    """The mean squared error; the sampler asks the same model for a denominator."""
    x, y = batch
    return ((model(x)[1] - y) ** 2).mean(), {"wide": abs(model(x)[1] - y).max()}


class Fraction(type(line())):
    """A line under a one."""

    def __call__(self, x):
        return x @ self.weight, x @ self.weight + self.bias


DATA = InMemory(rows(), batch_size=4)


def trained(*callbacks, method=METHOD, **given):
    model = Fraction(line().weight, line().bias)
    return fit(Trainer(method, callbacks=callbacks), model=model, objective=judged, data=DATA, epochs=EPOCHS, **given)


@pytest.fixture(scope="module")
def plain():
    """The run without callbacks."""
    return trained(seed=3)


def records(result, case=None):
    """Every epoch's record as JSON, without what the callback measures."""
    extra = case.measures if case else ()
    kept = [record.as_json() for record in result.history]
    return dumps([{**r, "metrics": {k: v for k, v in r["metrics"].items() if k not in extra}} for r in kept])


def test_every_public_callback_is_here():
    assert public_classes(Callback) <= {type(case.make(None)) for case in CALLBACKS}


@each
def test_its_order_and_name_are_declared(case):
    callback = case.make(None)
    assert type(callback).order in ORDERS
    assert "order" in vars(type(callback)), "say where it stands: the base's order is for users' own"
    assert callback.name in ("", case.name)
    assert callback.measures == case.measures
    assert (type(callback).state is not Callback.state) == case.remembers
    assert (type(callback).restore is not Callback.restore) == case.remembers


@each
def test_without_a_folder_it_leaves_the_bits_as_they_are(case, plain, tmp_path):
    """And begins anew in a second run of the same trainer."""
    callback = case.make(tmp_path)
    for _ in range(2):
        result = trained(callback, seed=3)
        same(result.model, plain.model)
        assert records(result, case) == records(plain)
        assert result.status is Status.COMPLETED


@each
def test_paused_and_resumed_is_a_run_in_one_go(case, plain, tmp_path):
    straight, halted = case.make(None), case.make(None)
    saving = () if case.name == "Checkpoints" else (Checkpoints(spacing=0.0),)
    whole = trained(straight, *saving, seed=3, run=tmp_path / "whole")
    same(whole.model, plain.model)
    assert trained(halted, *saving, seed=3, run=tmp_path / "halted", until=2).status is Status.PAUSED
    resumed = case.make(None)  # as a new process has it
    result = trained(resumed, *saving, seed=3, run=tmp_path / "halted", resume=True)
    same(result.model, whole.model)
    assert records(result) == records(whole)
    assert dumps(resumed.state()) == dumps(straight.state())
    assert result.best == whole.best
    told = [
        [r for r in telemetry(tmp_path / name) if (r["kind"], r.get("status")) != ("run_end", "paused")]
        for name in ("whole", "halted")
    ]
    assert told[0] == told[1]


@pytest.mark.parametrize("case", [case for case in CALLBACKS if case.remembers], ids=lambda case: case.name)
def test_its_state_is_json_and_comes_back(case, tmp_path):
    callback, fresh = case.make(None), case.make(None)
    trained(callback, seed=3)
    kept = json.loads(dumps(callback.state()))
    assert kept is not None
    run = FakeRun()
    fresh.on_run_begin(run)
    assert dumps(fresh.state()) != dumps(callback.state())
    fresh.restore(kept, run)
    assert dumps(fresh.state()) == dumps(callback.state())


class FakeRun:
    """A run without a folder that begins."""

    folder, resumed, epoch, epochs, seed = None, False, 0, EPOCHS, 3
    measures = frozenset()


class Trouble(Callback):
    """Ends the run in its third epoch."""

    def on_epoch_end(self, run, record):
        if record.epoch == 2:
            raise RuntimeError("trouble")


@each
def test_an_error_elsewhere_leaves_it_fit_for_another_run(case, plain, tmp_path):
    callback = case.make(tmp_path)
    with pytest.raises(RuntimeError, match="trouble"):
        trained(callback, Trouble(), seed=3)
    same(trained(callback, seed=3).model, plain.model)


@pytest.mark.parametrize("case", [case for case in CALLBACKS if case.folder], ids=lambda case: case.name)
def test_what_needs_a_folder_says_so(case):
    with pytest.raises(UsageError, match="needs somewhere to write"):
        trained(case.make(None), seed=3)
