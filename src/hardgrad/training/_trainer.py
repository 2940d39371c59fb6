"""The trainer: runs a method over data, epoch by epoch, with a plan and callbacks.

It knows no application. What happens in a step is in `_step`, what is compiled in `_program`, how data
arrives in `_data`; here the host's side is kept: schedules, blocks, records, callbacks, resume.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import NDArray

from ..core import (
    Objective,
    Params,
    Progress,
    RunError,
    UsageError,
    count_parameters,
    float_dtype,
    split_parameters,
)
from ..schedules import Plan
from ._data import Block, Feed, InMemory, Stream, as_feed
from ._folder import RunFolder, environment
from ._method import AbstractMethod
from ._program import (
    Packed,
    Program,
    evaluate_batch,
    evaluate_compiled,
    run_block,
    run_compiled,
    run_donating,
    split_program,
)
from ._record import EpochRecord, Reducer, check_reducers, reduce_steps
from ._run import FitResult, Run, Status
from ._step import Recorder, initial_state
from .callbacks import Best, Callback, Checkpoints, History, Telemetry
from .callbacks._base import CallbackList
from .callbacks._checkpoints import load_newest

_PRECISIONS = (None, "bfloat16", "float16", "float32")
_DONATE_ABOVE = 2**20  # bytes of parameters; below, a copy costs less than giving up the old buffers
_MANY_PROGRAMS = 8


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Runs a method over data.

    Main arguments:
        method: such as ``GradientMethod(CentralDifference(), optax.adam(1e-3))``.
        plan: the schedules. Of the controls they set, the trainer itself reads ``freeze``.
        callbacks: in any order. `History` is always there; a run with a folder also has `Telemetry`
            and `Checkpoints`, yours if you give one, else the defaults.

    Other arguments, rarely needed:
        precision: ``"bfloat16"`` or ``"float16"``: arithmetic of the model in that dtype, parameters
            kept as they are, float16 with a loss scale that adapts. None leaves arithmetic alone.
        accumulate: cut every batch into so many microbatches, to save memory.
        steps_per_dispatch: most steps sent to the device at once; None sends an epoch.
        max_nonfinite: stop after so many non-finite steps in a row.
        reduce: how an epoch's steps become one number, by metric: ``{"reward": "max"}``. The mean else.
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
        trainable: PyTree | None = None,
        settings: Mapping[str, Any] | None = None,
        throw: bool = False,
    ) -> FitResult:
        """Train a model.

        Main arguments:
            model: any pytree; its inexact arrays are trained.
            objective: ``objective(model, batch, controls, key) -> (loss, metrics)``.
            data: arrays (held in memory), an iterable of batches, or an `InMemory` or `Stream`.
            epochs: how many, at least 0.
            validation: data evaluated after every epoch, under the names ``val_...``.
            batch_size: rows a step, for arrays; None gives them whole to every step.
            seed: decides everything random.

        Other arguments:
            run: a folder for the run, new unless `resume`.
            resume: go on from the newest checkpoint in `run`, to the bits of a run never stopped.
                The same arguments must be given again.
            trainable: which inexact arrays to train: an Equinox filter specification.
            settings: anything JSON can hold, kept in the run's config.json.
            throw: raise if the run diverged, instead of saying so in the result.

        Raises:
            UsageError: an argument out of range, data not finite, a run folder in use.
            RunError: with `throw`, if too many steps in a row were not finite.
        """
        if not isinstance(epochs, int) or epochs < 0:
            raise UsageError(f"epochs must be a whole number, at least 0; got {epochs!r}.")
        feed = as_feed(data, batch_size=batch_size)
        held_out = None if validation is None else as_feed(validation, batch_size=_validation_batch(validation, feed))
        params, rest = split_parameters(model, trainable)
        if not jax.tree.leaves(params):
            raise UsageError(
                "the model has nothing to train: no inexact array in it, or none that `trainable` lets through."
            )
        session = _Session(self, objective, params, rest, feed, held_out, epochs=epochs, seed=seed)
        session.warn_of_many_programs()
        if resume and run is None:
            raise UsageError("resume=True needs the folder of the run: fit(..., run='runs/name', resume=True).")
        if run is not None and resume:
            session.run.folder = RunFolder.open(run)
        elif run is not None:
            config = {**self._config(feed, epochs, seed), "settings": dict(settings or {})}
            session.run.folder = RunFolder.create(run)
            session.run.folder.write_json(session.run.folder.config_path, config)
        with jax.disable_jit() if self.execution == "eager" else contextlib.nullcontext():
            result = session.fit(resume=resume)
        if throw and result.status is Status.DIVERGED:
            raise RunError(f"the run diverged: {result.reason}.")
        return result

    def _config(self, feed: Feed, epochs: int, seed: int) -> dict[str, Any]:
        return {
            "schema": "hardgrad.config",
            "version": 1,
            "epochs": epochs,
            "seed": seed,
            "batch_size": getattr(feed, "batch_size", None),
            "method": eqx.tree_pformat(self.method, width=110),
            "plan": {name: _text(schedule) for name, schedule in self.plan.schedules.items()},
            "precision": self.precision,
            "accumulate": self.accumulate,
            "execution": self.execution,
            "max_nonfinite": self.max_nonfinite,
            "environment": environment(),
        }


def _text(schedule: Any) -> str:
    """A schedule as text without addresses, so that equal runs have equal configurations."""
    return getattr(schedule, "__qualname__", None) or repr(schedule)


def _validation_batch(validation: Any, feed: Feed) -> int | None:
    """Validation arrays are cut like the training data where those are cut."""
    if isinstance(validation, InMemory | Stream) or not isinstance(feed, InMemory) or feed.batch_size is None:
        return None
    leaves = jax.tree.leaves(validation)
    arrays = bool(leaves) and all(eqx.is_array_like(leaf) and np.ndim(leaf) > 0 for leaf in leaves)
    return min(feed.batch_size, len(leaves[0])) if arrays else None


class _Session:
    """One call of fit."""

    def __init__(
        self,
        trainer: Trainer,
        objective: Any,
        params: Params,
        rest: PyTree,
        feed: Feed,
        held_out: Feed | None,
        *,
        epochs: int,
        seed: int,
    ):
        self.trainer, self.feed, self.held_out = trainer, feed, held_out
        self.key = jax.random.key(seed)
        self.values, parts = split_program(trainer.method, objective, rest)
        self.validation = held_out.arrays if isinstance(held_out, InMemory) else None
        self.program = Program(
            parts,
            microbatches=trainer.accumulate,
            compute_dtype=trainer.precision,
            validation_batch_size=held_out.batch_size if isinstance(held_out, InMemory) else None,
            record=trainer.record,
        )
        self.dtype = np.dtype(float_dtype(params))
        self.parameter_count = count_parameters(params)
        state = initial_state(trainer.method, params, key=jax.random.fold_in(self.key, 0))
        donates = trainer.execution == "compiled" and _bytes(params) > _DONATE_ABOVE
        if donates:
            state = jax.tree.map(jnp.copy, state)  # the caller's own arrays are not ours to give away
        self.run = Run(epochs, seed, None, rest, state, donates=donates)
        self.callbacks = CallbackList([])
        self.history = History()

    # -- the run ---------------------------------------------------------------------------------

    def fit(self, *, resume: bool) -> FitResult:
        run = self.run
        saved = load_newest(run) if resume else None
        self._assemble_callbacks()
        if isinstance(self.feed, Stream):
            self.feed.skip_to(run.step)
        started, before = time.monotonic(), run.seconds
        try:
            self.callbacks.call("on_run_begin", run)
            if saved is not None:
                self.callbacks.restore(saved, run)
            status = Status.COMPLETED if run.stop_reason is None else Status.STOPPED
            while run.epoch < run.epochs and run.stop_reason is None:
                run.between_epochs = False
                record, diverged = self._epoch()
                run.seconds = before + time.monotonic() - started
                if diverged:
                    status = Status.DIVERGED
                    break
                run.epoch += 1
                run.between_epochs = True
                self.callbacks.call("on_epoch_end", run, record)
                if run.stop_reason is not None:
                    status = Status.STOPPED
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
        except BaseException as error:
            # The error that leaves is the first one, whatever befalls those who hear of it.
            with contextlib.suppress(Exception):
                self.callbacks.call_all("on_error", run, error)
            raise
        result = self._result(status)
        if run.folder is not None:
            run.folder.write_json(run.folder.result_path, result.summary())
        self.callbacks.call_all("on_run_end", run, result)
        return result

    def _assemble_callbacks(self) -> None:
        given = list(self.trainer.callbacks)
        wanted: list[type[Callback]] = [History]
        if self.run.folder is not None:
            wanted += [Telemetry, Checkpoints]
        given += [kind() for kind in wanted if not any(isinstance(c, kind) for c in given)]
        self.callbacks = CallbackList(given)
        for callback in self.callbacks.callbacks:
            if isinstance(callback, History):
                self.history = callback
            if isinstance(callback, Checkpoints):
                callback.attach(self.callbacks)

    def _result(self, status: Status) -> FitResult:
        run = self.run
        reasons = {
            Status.COMPLETED: f"all {run.epochs} epochs done",
            Status.STOPPED: run.stop_reason or "",
            Status.DIVERGED: f"{self.trainer.max_nonfinite} steps in a row were not finite, in epoch {run.epoch}",
            Status.INTERRUPTED: f"interrupted in epoch {run.epoch}",
        }
        best = next((c for c in self.callbacks.callbacks if isinstance(c, Best)), None)
        return FitResult(
            model=run.model,
            status=status,
            reason=reasons[status],
            history=self.history.records,
            best_model=None if best is None or best.params is None else eqx.combine(best.params, run.rest),
            best=None if best is None else best.summary(),
            epochs=run.epoch,
            steps=run.step,
            skipped=run.skipped,
            evaluations=run.evaluations,
            seconds=run.seconds,
        )

    # -- an epoch --------------------------------------------------------------------------------

    def _epoch(self) -> tuple[EpochRecord, bool]:
        """Run one epoch; its record, and whether it diverged."""
        run, first = self.run, self.run.step
        constant = self._controls(first) if self.trainer.plan.per_epoch else None
        self.callbacks.call("on_epoch_begin", run, constant or self._controls(first))
        found: list[dict[str, NDArray[Any]]] = []
        controls: list[dict[str, Any]] = [{}]
        for (block, controls), last in _with_last(self._pieces(first, constant)):
            found.append(self._dispatch(block, controls, validate=last and self.validation is not None))
            run.step += block.steps
            self.callbacks.call("on_block_end", run, run.step - first, self.feed.steps_per_epoch)
            if found[-1]["streak"].max() >= self.trainer.max_nonfinite:
                return self._record(found, controls[-1], {}), True
        if not found:
            raise UsageError(
                f"the data gave no batch in epoch {run.epoch}. An iterator runs dry: "
                "give Stream a function of the epoch that returns a new one."
            )
        streamed = self._validate_stream(controls[-1]) if isinstance(self.held_out, Stream) else {}
        return self._record(found, controls[-1], streamed), False

    def _controls(self, step: int) -> dict[str, Any]:
        run = self.run
        return self.trainer.plan.at(Progress(run.epoch, step, run.epochs, self.feed.steps_per_epoch))

    def _pieces(self, first: int, constant: dict[str, Any] | None) -> Iterator[tuple[Block, list[dict[str, Any]]]]:
        """The epoch's blocks with the controls of their steps, cut where a static control changes."""
        static = self.trainer.plan.static_names
        step = first
        for block in self.feed.blocks(self.run.epoch, self.run.seed, self.trainer.steps_per_dispatch):
            if constant is not None:
                controls = [constant] * block.steps
            else:
                controls = [self._controls(step + i) for i in range(block.steps)]
            step += block.steps
            start = 0
            for i in range(1, block.steps + 1):
                if i == block.steps or any(controls[i][name] != controls[start][name] for name in static):
                    yield _cut(block, start, i), controls[start:i]
                    start = i

    def _dispatch(self, block: Block, controls: list[dict[str, Any]], *, validate: bool) -> dict[str, NDArray[Any]]:
        """Run one block on the device."""
        run, trainer = self.run, self.trainer
        program = self._program_for(controls[0], _batch_rows(block, self.feed))
        xs: dict[str, Any] = {
            "step": np.arange(run.step, run.step + block.steps, dtype=np.int32),
            "controls": self._stack_controls(controls),
        }
        if block.rows is not None:
            xs["rows"] = block.rows
        if block.batches is not None:
            xs["batches"] = block.batches
        arrays = self.feed.arrays if isinstance(self.feed, InMemory) else None
        execute = run_block if trainer.execution == "eager" else run_donating if run.donates else run_compiled
        run.state, packed = execute(
            program, run.state, self.values, arrays, xs, self.key, self.validation if validate else None
        )
        found = packed.unpack()
        updates = int(np.sum(found["frozen"] == 0))
        run.evaluations += trainer.method.contract.evaluations(self.parameter_count) * updates + block.steps - updates
        run.skipped += int(np.sum(found["finite"] == 0))
        return found

    def _program_for(self, controls: Mapping[str, Any], rows: int | None) -> Program:
        names = sorted(self.trainer.plan.static_names)
        static = tuple((name, int(controls[name])) for name in names)
        microbatches = self.trainer.accumulate if rows is None else math.gcd(self.trainer.accumulate, rows)
        if static == self.program.static_controls and microbatches == self.program.microbatches:
            return self.program
        return dataclasses.replace(self.program, static_controls=static, microbatches=microbatches)

    def _stack_controls(self, controls: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
        """Dynamic controls as arrays of [steps]: floats in the dtype of the loss."""
        static = self.trainer.plan.static_names
        out = {}
        for name, value in controls[0].items():
            if name in static:
                continue
            dtype = bool if isinstance(value, bool) else np.int32 if isinstance(value, int) else self.dtype
            out[name] = np.array([c[name] for c in controls], dtype)
        return out

    def _validate_stream(self, controls: dict[str, Any]) -> dict[str, float]:
        """Mean over the batches of a validation stream."""
        assert isinstance(self.held_out, Stream)
        run, count = self.run, 0
        totals: dict[str, float] = {}
        execute = evaluate_batch if self.trainer.execution == "eager" else evaluate_compiled
        program = self._program_for(controls, None)
        now = {name: value[0] for name, value in self._stack_controls([controls]).items()}
        for block in self.held_out.blocks(run.epoch, run.seed, None):
            for i in range(block.steps):
                batch = jax.tree.map(lambda x, i=i: x[i], block.batches)
                packed: Packed = execute(program, self.values, run.params, batch, now, self.key)
                for name, value in packed.unpack().items():
                    totals[name] = totals.get(name, 0.0) + float(value)
                count += 1
        return {f"val_{name}": total / count for name, total in totals.items()}

    def _record(
        self, found: list[dict[str, NDArray[Any]]], controls: dict[str, Any], streamed: dict[str, float]
    ) -> EpochRecord:
        """One record from the outputs of an epoch's blocks."""
        stepwise = [name for name in found[0] if not name.startswith("validation:")]
        joined = found[0] if len(found) == 1 else {n: np.concatenate([f[n] for f in found]) for n in stepwise}
        frozen = joined["frozen"] != 0
        metrics: dict[str, float] = {}
        arrays: dict[str, Any] = {}
        for name in stepwise:
            kind, _, label = name.partition(":")
            if kind == "array":
                arrays[label] = joined[name]
            elif kind in ("scalar", "diagnostic"):
                values = joined[name][~frozen] if kind == "diagnostic" else joined[name]
                if len(values):
                    metrics[label] = reduce_steps(values, self.trainer.reduce.get(label, "mean"))
        metrics["skipped"] = float(np.sum(joined["finite"] == 0))
        metrics |= {f"val_{n.partition(':')[2]}": float(v) for n, v in found[-1].items() if n.startswith("validation:")}
        run = self.run
        return EpochRecord(run.epoch, run.step, controls, metrics | streamed, bool(frozen.all()), arrays)

    def warn_of_many_programs(self) -> None:
        """Say so before training if static controls would compile again and again."""
        plan, run = self.trainer.plan, self.run
        if not plan.static_names:
            return
        per_epoch = self.feed.steps_per_epoch or 1
        stride = 1 if any(not getattr(s, "per_epoch", False) for s in plan.schedules.values()) else per_epoch
        seen = set()
        for step in range(0, run.epochs * per_epoch, stride):
            controls = plan.at(Progress(step // per_epoch, step, run.epochs, per_epoch))
            seen.add(tuple(controls[name] for name in sorted(plan.static_names)))
        if len(seen) > _MANY_PROGRAMS:
            names = ", ".join(f"'{name}'" for name in sorted(plan.static_names))
            warnings.warn(
                f"the static controls {names} take {len(seen)} different values, "
                "and each compiles a program of its own. Let them take few, such as powers of two.",
                stacklevel=3,
            )


def _with_last(items: Iterator[Any]) -> Iterator[tuple[Any, bool]]:
    """Each item, and whether it is the last."""
    held = next(items, None)
    while held is not None:
        following = next(items, None)
        yield held, following is None
        held = following


def _cut(block: Block, start: int, stop: int) -> Block:
    """The steps of a block from `start` to `stop`."""
    if start == 0 and stop == block.steps:
        return block
    rows = None if block.rows is None else block.rows[start:stop]
    return Block(stop - start, rows, jax.tree.map(lambda x: x[start:stop], block.batches))


def _batch_rows(block: Block, feed: Feed) -> int | None:
    """Rows in each batch of a block; None where a batch has no common leading axis."""
    if block.rows is not None:
        return int(block.rows.shape[1])
    arrays = jax.tree.leaves(block.batches if isinstance(feed, Stream) else feed.arrays)
    lengths = {x.shape[1 if isinstance(feed, Stream) else 0 : 2 if isinstance(feed, Stream) else 1] for x in arrays}
    return int(next(iter(lengths))[0]) if len(lengths) == 1 and lengths != {()} else None


def _bytes(params: Params) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
