"""One call of `Trainer.fit`, on the host: epochs, records, callbacks, resume."""

from __future__ import annotations

import contextlib
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ..core import Order, Params, UsageError, black_box_failure, count_parameters, running_state
from ._data import Stream
from ._dispatch import Dispatcher, Launched, batch_rows
from ._job import Job, Settings
from ._program import Flat, Named
from ._record import EpochRecord, reduce_steps, rows_that_differ
from ._run import FitResult, Run, Status
from ._step import initial_state
from ._together import TOGETHER, NotAlike
from .callbacks import Best, Callback, Checkpoints, History, Telemetry
from .callbacks._base import CallbackList, busy
from .callbacks._checkpoints import load_newest

_DONATE_ABOVE = 2**20  # bytes of parameters; below, a copy costs less than giving up the old buffers


Conclude = Callable[[FitResult], Mapping[str, Any]]


class Session:
    """One run being trained.

    Args:
        trainer: how.
        job: what.
    """

    def __init__(self, trainer: Settings, job: Job):
        self.trainer, self.feed, self.held_out = trainer, job.feed, job.held_out
        self.cost = trainer.method.contract.evaluations(count_parameters(job.params))
        scaled = trainer.precision == "float16"
        state = eqx.filter_jit(initial_state)(
            trainer.method, job.params, np.uint32(job.seed), running_state(job.rest), scaled=scaled
        )
        together = TOGETHER.get()
        if together is not None and trainer.execution != "compiled":
            raise NotAlike("a run whose execution is 'eager' has no program to share with others")
        donates = together is None and trainer.execution == "compiled" and _bytes(job.params) > _DONATE_ABOVE
        if donates:
            state = jax.tree.map(jnp.copy, state)  # the caller's own arrays are not ours to give away
        self.dispatcher = Dispatcher(trainer, job, donates=donates, together=together)
        self.run = Run(
            job.epochs, job.seed, None, job.rest, Flat.of(state), donates=donates, together=together is not None
        )
        self.callbacks = CallbackList([])
        self.history = History()
        self.streak_ended_it = False

    def fit(self, *, resume: bool, until: int | None = None, conclude: Conclude | None = None) -> FitResult:
        """Train, up to epoch `until` if it is given; `conclude` says what result.json is to hold besides."""
        self._assemble_callbacks()
        with busy(self.callbacks.callbacks):
            return self._fit(resume, min(self.run.epochs, self.run.epochs if until is None else until), conclude)

    def _fit(self, resume: bool, until: int, conclude: Conclude | None) -> FitResult:
        run = self.run
        saved = load_newest(run) if resume else None
        if run.epoch > run.epochs:
            raise UsageError(f"the run has done {run.epoch} epochs already: give epochs={run.epoch} or more.")
        if isinstance(self.feed, Stream):
            self.feed.skip_to(run.step)
        started, before = time.monotonic(), run.seconds
        black_box_failure()  # an earlier run's is none of ours
        try:
            self.callbacks.call("on_run_begin", run)
            if saved is not None:
                self.callbacks.restore(saved, run)
            status = Status.COMPLETED if run.stop_reason is None else Status.STOPPED
            blocks = self.dispatcher.launched(run.flat, epoch=run.epoch, step=run.step, until=until)
            while run.epoch < until and run.stop_reason is None:
                run.between_epochs = False
                record, diverged = self._epoch(blocks)
                if diverged:  # the epoch is told of, but not finished and so not saved
                    run.seconds = before + time.monotonic() - started
                    status = Status.DIVERGED
                    self.streak_ended_it = True
                    self.callbacks.call("on_epoch_end", run, record)
                    break
                record = self.callbacks.measured(run, record)
                run.seconds = before + time.monotonic() - started
                run.epoch += 1
                run.between_epochs = True
                self.callbacks.call("on_epoch_end", run, record)
                if run.stop_reason is not None:
                    status = Status.STOPPED
            if status is Status.COMPLETED and run.epoch < run.epochs:
                status = Status.PAUSED
            if run.step and run.skipped == run.step:
                status = Status.DIVERGED
        except KeyboardInterrupt:
            status = Status.INTERRUPTED
            run.seconds = before + time.monotonic() - started
            run.between_epochs = False  # some callbacks may not have heard of the epoch: what is saved is saved
        except BaseException as error:
            cause = black_box_failure() if isinstance(error, Exception) else None
            # The error that leaves is the first one, whatever befalls those who hear of it.
            with contextlib.suppress(Exception):
                self.callbacks.call_all("on_error", run, cause or error)
            if cause is not None:
                raise cause from None
            raise
        result = self._result(status)
        try:
            if run.folder is not None:
                conclusion = conclude(result) if conclude and status is not Status.PAUSED else {}
                content = {**result.summary(), **conclusion}
                run.folder.write_json(run.folder.result_path, content)
        finally:
            self.callbacks.call_all("on_run_end", run, result)
        return result

    def warn_if_nothing_moved(self) -> None:
        """Say so where every gradient of the run was zero: training then does nothing, and looks as if it did."""
        norms = [r.metrics.get("gradient_norm") for r in self.history.records if not r.frozen]
        if not norms or any(norm != 0.0 for norm in norms) or "gradient_norm" in self.trainer.reduce:
            return
        way_out = (
            "the loss does not change where the method looked"
            if self.trainer.method.contract.order is Order.ZERO
            else "the loss has no slope, as after a rounding or a step. Look with hg.audit.audit(...) or 'hardgrad "
            "audit', or take a method of order 0, such as hg.GradientMethod(hg.CentralDifference(), ...)"
        )
        warnings.warn(
            f"every gradient was exactly zero, in all {len(norms)} epochs: nothing was learned from them; {way_out}.",
            stacklevel=3,
        )

    def _assemble_callbacks(self) -> None:
        given = list(self.trainer.callbacks)
        wanted: list[type[Callback]] = [History]
        if self.run.folder is not None:
            wanted += [Telemetry, Checkpoints]
        given += [kind() for kind in wanted if not any(isinstance(c, kind) for c in given)]
        self.callbacks = CallbackList(given)
        self.run.measures = self.callbacks.measures
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
            Status.PAUSED: f"paused after {run.epoch} of {run.epochs} epochs",
            Status.DIVERGED: (
                f"{self.trainer.max_nonfinite} steps in a row were not finite, in epoch {run.epoch}"
                if self.streak_ended_it
                else "no step was finite"
            ),
            Status.INTERRUPTED: f"interrupted after {run.epoch} of {run.epochs} epochs",
        }
        best = next((c for c in self.callbacks.callbacks if isinstance(c, Best)), None)
        return FitResult(
            model=run.model,
            status=status,
            reason=reasons[status],
            history=self.history.records,
            best_model=None if best is None or best.learned is None else run.model_with(best.learned),
            best=None if best is None else best.summary(),
            epochs=run.epoch,
            steps=run.step,
            skipped=run.skipped,
            evaluations=run.evaluations,
            seconds=run.seconds,
        )

    def _epoch(self, blocks: Iterator[Launched]) -> tuple[EpochRecord, bool]:
        """Work through one epoch; its record, and whether it diverged."""
        run, first = self.run, self.run.step
        found: list[Named] = []
        rows: list[int | None] = []
        while True:
            launched = next(blocks)
            if not found:
                self.callbacks.call("on_epoch_begin", run, launched.piece.controls[0])
            found.append(self._collect(launched))
            rows += [batch_rows(launched.piece.block, self.feed)] * launched.piece.block.steps
            self.callbacks.call("on_block_end", run, run.step - first, self.feed.steps_per_epoch)
            controls = launched.piece.controls[-1]
            if found[-1]["flag"]["streak"].max() >= self.trainer.max_nonfinite:
                return self._record(found, rows, controls, self._not_validated(found)), True
            if launched.piece.closes:
                return self._record(found, rows, controls, self.dispatcher.validate_stream(launched)), False

    def _collect(self, launched: Launched) -> Named:
        """Wait for a block and take it into the run."""
        run, steps = self.run, launched.piece.block.steps
        found = launched.packed.unpack()
        updates = steps - int(np.count_nonzero(found["flag"]["frozen"]))
        run.flat = launched.flat
        run.step += steps
        counted = found.get("diagnostic", {}).get("evaluations")  # of methods whose steps differ in cost; 0 if frozen
        run.evaluations += (self.cost * updates if counted is None else int(counted.sum())) + steps - updates
        run.skipped += steps - int(np.count_nonzero(found["flag"]["finite"]))
        return found

    def _not_validated(self, found: list[Named]) -> dict[str, float]:
        """NaN for all that validation would have found, where an epoch ended before it."""
        if self.held_out is None or "validation" in found[-1]:
            return {}
        return {f"val_{name}": math.nan for name in found[0]["scalar"]}

    def _record(
        self, found: list[Named], rows: list[int | None], controls: dict[str, Any], streamed: dict[str, float]
    ) -> EpochRecord:
        """One record from the outputs of an epoch's blocks, and the rows of each step."""
        all_steps = found[0] if len(found) == 1 else _joined(found)
        flags = all_steps["flag"]
        steps, frozen = len(flags["frozen"]), int(np.count_nonzero(flags["frozen"]))
        counted = flags["finite"] != 0
        if not counted.any() or flags["streak"].max() >= self.trainer.max_nonfinite:
            counted[:] = True  # an epoch that diverged is shown as it is
        weights = rows_that_differ([count for count, counts in zip(rows, counted, strict=True) if counts])
        metrics = self._reduced({name: values[counted] for name, values in all_steps["scalar"].items()}, weights)
        if frozen < steps:
            updated = counted & (flags["frozen"] == 0)
            updated = updated if updated.any() else flags["frozen"] == 0
            metrics |= self._reduced({name: v[updated] for name, v in all_steps.get("diagnostic", {}).items()})
        metrics["skipped"] = float(steps - np.count_nonzero(flags["finite"]))
        metrics |= {f"val_{name}": float(value) for name, value in found[-1].get("validation", {}).items()}
        run = self.run
        arrays = all_steps.get("array", {})
        return EpochRecord(run.epoch, run.step, controls, metrics | streamed, frozen == steps, arrays)

    def _reduced(self, values: Mapping[str, NDArray[Any]], rows: NDArray[Any] | None = None) -> dict[str, float]:
        reducers = self.trainer.reduce
        return {name: reduce_steps(steps, reducers.get(name, "mean"), rows) for name, steps in values.items()}


def _joined(found: list[Named]) -> Named:
    """The steps of several blocks, one after another."""
    return {
        kind: {name: np.concatenate([block[kind][name] for block in found]) for name in members}
        for kind, members in found[0].items()
        if kind != "validation"
    }


def _bytes(params: Params) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(params))
