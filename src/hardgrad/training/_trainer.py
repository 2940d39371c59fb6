"""The trainer: runs a method over data, epoch by epoch, with a plan and callbacks.

It knows no application. This is the door; behind it, `_session` goes through the epochs and calls the
callbacks, `_dispatch` sends blocks of steps to the device, `_program` is what is compiled, `_step` what
happens in a step, and `_data` how data arrives.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from ..core import (
    Objective,
    RunError,
    UsageError,
    dumps,
    split_parameters,
    whole_number,
)
from ..schedules import Plan
from ._data import Feed, InMemory, Stream, as_feed
from ._description import check_same_data, check_same_thing, describe, summarise
from ._dispatch import Dispatcher
from ._folder import RunFolder, environment
from ._job import Job
from ._method import AbstractMethod
from ._parameters import check_parameters
from ._record import Reducer, check_reducers
from ._run import FitResult, Run, Status
from ._session import Session
from ._step import Recorder
from ._storage import write_text
from .callbacks import Best, Callback
from .callbacks._base import CallbackList

_SIGNATURE = "objective(model, batch, controls, key) -> (loss, metrics)"
_PRECISIONS = (None, "bfloat16", "float16", "float32")


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Runs a method over data. The first three arguments are the ones usually given.

    Attributes:
        method: such as ``GradientMethod(CentralDifference(), optax.adam(1e-3))``.
        plan: the schedules. Of the controls they set, the trainer itself reads ``freeze``.
        callbacks: in any order. `History` is always there; a run with a folder also has `Telemetry`
            and `Checkpoints`, yours if you give one, else the defaults.
        precision: ``"bfloat16"`` or ``"float16"``: arithmetic of the model in that dtype, parameters
            kept as they are, float16 with a loss scale that adapts. None leaves arithmetic alone.
        accumulate: cut every batch into so many microbatches, to save memory. It must divide a batch's rows;
            a shorter last batch is cut into as many as divide it.
        steps_per_dispatch: most steps sent to the device at once; None sends an epoch.
        max_nonfinite: stop after so many non-finite steps in a row.
        reduce: how an epoch's steps become one number, by metric: ``{"reward": "max"}``. The mean else. Where batches
            differ in rows, as a shorter last one does, the mean of loss and metrics counts each step by its rows, that
            of the method's diagnostics all steps alike.
        record: ``record(params, outcome) -> {name: array}`` to keep for every step, in records
            and telemetry.
        execution: ``"compiled"``, or ``"eager"``: every operation on its own, for debugging, and for
            black boxes whose results must not depend on how XLA fuses what is around them.

    Raises:
        UsageError: an argument out of range.
    """

    method: AbstractMethod
    plan: Plan = dataclasses.field(default_factory=Plan)
    callbacks: Sequence[Callback] = ()
    _: dataclasses.KW_ONLY
    precision: str | None = None
    accumulate: int = 1
    steps_per_dispatch: int | None = None
    max_nonfinite: int = 10
    reduce: Mapping[str, Reducer] = dataclasses.field(default_factory=dict)
    record: Recorder | None = None
    execution: str = "compiled"

    def __post_init__(self) -> None:
        if not isinstance(self.method, AbstractMethod):
            raise UsageError(
                f"a trainer runs a method, such as GradientMethod(Autodiff(), optax.adam(1e-3)); got {self.method!r}."
            )
        if not isinstance(self.plan, Plan):
            raise UsageError(
                f"plan must be a Plan, such as Plan(learning_rate=Cosine(1e-2, 0.0, 100)); got {self.plan!r}."
            )
        if self.precision not in _PRECISIONS:
            raise UsageError(f"precision must be one of {_PRECISIONS}, got {self.precision!r}.")
        if self.execution not in ("compiled", "eager"):
            raise UsageError(f"execution must be 'compiled' or 'eager', got {self.execution!r}.")
        for name in ("accumulate", "max_nonfinite", "steps_per_dispatch"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise UsageError(f"{name} must be a positive int, got {value!r}.")
        check_reducers(self.reduce)
        CallbackList(self.callbacks)
        if sum(isinstance(callback, Best) for callback in self.callbacks) > 1:
            raise UsageError("a run has one best: give a single Best callback. EarlyStopping may watch another metric.")

    def fit(
        self,
        model: PyTree,
        objective: Objective,
        data: Any,
        *,
        epochs: int,
        validation: Any = None,
        batch_size: int | None = None,
        seed: int = 0,
        run: str | os.PathLike[str] | None = None,
        resume: bool = False,
        until: int | None = None,
        trainable: PyTree | None = None,
        settings: Mapping[str, Any] | None = None,
        conclude: Callable[[FitResult], Mapping[str, Any]] | None = None,
        throw: bool = False,
    ) -> FitResult:
        """Train a model.

        Args:
            model: any pytree; its inexact arrays are trained.
            objective: ``objective(model, batch, controls, key) -> (loss, metrics)``. It is compiled, and
                compiled once for all runs: like under `jax.jit`, a variable or attribute it reads counts as
                it was then. What changes goes in through batch and controls, or as an array of an
                Equinox module.
            data: a pytree of arrays (held in memory), an iterator or loader of batches, or an `InMemory` or
                `Stream`. A list counts as a pytree: give a list of batches as ``Stream(batches)``.
            epochs: how many, at least 0.
            validation: data evaluated after every epoch, under the names ``val_...``.
            batch_size: rows a step, for arrays; None gives them whole to every step.
            seed: decides everything random.
            run: a folder for the run, new unless `resume`.
            resume: go on from the newest checkpoint in `run`, to the bits of a run never stopped.
                The same arguments must be given again.
            until: pause after so many of the epochs, to be resumed later; schedules are those of all. None does
                not pause.
            trainable: which inexact arrays to train: an Equinox filter specification.
            settings: anything JSON can hold, kept in the run's config.json.
            conclude: what result.json is to hold besides, from the result; not asked of a run that is paused.
            throw: raise if the run diverged, instead of saying so in the result.

        Raises:
            UsageError: an argument out of range, data not finite, a run folder in use.
            RunError: with `throw`, if too many steps in a row were not finite.
        """
        epochs = whole_number("epochs", epochs, least=0)
        until = None if until is None else whole_number("until", until, least=0)
        seed = whole_number("seed", seed, least=0, most=2**32 - 1)
        feed = as_feed(data, batch_size=batch_size)
        held_out = None
        if validation is not None:
            rows = validation_batch(validation, feed)
            held_out = as_feed(validation, batch_size=rows, what="the validation data")
        if not callable(objective):
            raise UsageError(f"the objective must be a function {_SIGNATURE}, got {objective!r}.")
        params, rest = split_parameters(model, trainable)
        check_parameters(model, params, trainable)
        session = Session(self, Job(objective, params, rest, feed, held_out, epochs, seed))
        session.dispatcher.warn_of_many_programs()
        if resume and run is None:
            raise UsageError("resume=True needs the folder of the run: fit(..., run='runs/name', resume=True).")
        config: dict[str, Any] = {}
        if run is not None:  # describing data brings some of them to the host
            config = {**self._config(objective, feed, held_out, epochs, seed), "settings": dict(settings or {})}
        with (
            self._in_folder(session.run, run, config, resume=resume),
            jax.disable_jit() if self.execution == "eager" else contextlib.nullcontext(),
        ):
            result = session.fit(resume=resume, until=until, conclude=conclude)
        if result.status is not Status.DIVERGED:
            session.warn_if_nothing_moved()
        if throw and result.status is Status.DIVERGED:
            raise RunError(f"the run diverged: {result.reason}.")
        return result

    def validate(
        self,
        model: PyTree,
        objective: Objective,
        validation: Any,
        *,
        controls: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
        seed: int = 0,
    ) -> dict[str, float]:
        """What `fit` reports of a model after an epoch, under ``val_...``.

        Args:
            model: the model.
            objective: see `fit`.
            validation: see `fit`.
            controls: those of the epoch's last step, such as ``EpochRecord.controls`` has them.
            batch_size: rows evaluated together, for arrays; `fit` takes that of its training data.
            seed: the run's.

        Raises:
            UsageError: an argument out of range, data not finite.
        """
        seed = whole_number("seed", seed, least=0, most=2**32 - 1)
        rows = None if isinstance(validation, InMemory | Stream) else batch_size
        held_out = as_feed(validation, batch_size=rows, what="the validation data")
        params, rest = split_parameters(model)
        job = Job(objective, params, rest, held_out, held_out, 1, seed)
        with jax.disable_jit() if self.execution == "eager" else contextlib.nullcontext():
            return Dispatcher(self, job, donates=False).validate(params, dict(controls or {}))

    @contextlib.contextmanager
    def _in_folder(
        self, state: Run, path: str | os.PathLike[str] | None, config: dict[str, Any], *, resume: bool
    ) -> Iterator[None]:
        """Give the run its folder, if it has one, and keep others out of it for the while."""
        if path is None:
            yield
            return
        text = _as_json(config)
        state.folder = folder = RunFolder.open(path) if resume else RunFolder.create(path)
        with folder.held():
            if resume:
                _check_same(folder, config)
            else:
                folder.begin_anew()  # checked once more: another may have come first
                write_text(folder.config_path, text)
            yield

    def _config(self, objective: Any, feed: Feed, held_out: Feed | None, epochs: int, seed: int) -> dict[str, Any]:
        return {
            "schema": "hardgrad.config",
            "version": 1,
            "epochs": epochs,
            "seed": seed,
            "batch_size": getattr(feed, "batch_size", None),
            "method": describe(self.method),
            "objective": describe(objective),
            "data": summarise(feed),
            "validation": summarise(held_out),
            "plan": {name: _text(schedule) for name, schedule in self.plan.schedules.items()},
            "precision": self.precision,
            "accumulate": self.accumulate,
            "execution": self.execution,
            "max_nonfinite": self.max_nonfinite,
            "jax_enable_x64": jax.dtypes.canonicalize_dtype("float64") == "float64",
            "environment": environment(),
        }


def _as_json(config: dict[str, Any]) -> str:
    try:
        return dumps(config, indent=2) + "\n"
    except TypeError as error:
        raise UsageError(f"settings must be what JSON can hold: {error}.") from error


def _check_same(folder: RunFolder, config: dict[str, Any]) -> None:
    """Refuse to resume with other settings than those whose change would go unnoticed."""
    read = folder.read_json(folder.config_path)
    before = read if isinstance(read, dict) else {}
    for name in ("batch_size", "accumulate", "precision", "jax_enable_x64"):
        was = before.get(name)
        if was != config[name]:
            raise UsageError(f"{folder.path} was begun with {name}={was!r}; resume it with that, not {config[name]!r}.")
    check_same_thing(folder.path, "method", before.get("method"), config["method"])
    check_same_thing(folder.path, "objective", before.get("objective"), config["objective"], rounded=True)
    check_same_data(folder.path, before.get("data"), config["data"])


def _text(schedule: Any) -> str:
    """A schedule as text without addresses, so that equal runs have equal configurations."""
    return getattr(schedule, "__qualname__", None) or repr(schedule)


def validation_batch(validation: Any, feed: Feed) -> int | None:
    """Validation arrays are cut like the training data where those are cut."""
    if isinstance(validation, InMemory | Stream) or not isinstance(feed, InMemory) or feed.batch_size is None:
        return None
    leaves = [] if isinstance(validation, Iterator) else jax.tree.leaves(validation)
    arrays = bool(leaves) and all(eqx.is_array_like(leaf) and np.ndim(leaf) > 0 for leaf in leaves)
    return min(feed.batch_size, len(leaves[0])) if arrays else None
