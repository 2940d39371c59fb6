"""Sending a run to the device, block after block.

While the host works through what one block left behind, the device already runs the next: the block to
come needs only the state, not what callbacks make of it. If they stop the run, that block was for nothing
and is dropped; what the run is, it is by its finished blocks alone. There is no looking ahead where it
could lose something: with streams, with state buffers handed on, together with other runs, and in eager
execution; nor where a callback may still decide which rows come next.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from ..core import Params, Progress, UsageError, float_dtype, running_state
from ._data import Block, Feed, InMemory, Stream
from ._job import Job, Settings
from ._program import (
    Flat,
    Packed,
    Program,
    control_kinds,
    evaluate_batch,
    evaluate_compiled,
    run_block,
    run_compiled,
    run_donating,
    split_program,
    stack_controls,
    validate_block,
    validate_compiled,
)
from ._record import reduce_steps, rows_that_differ
from ._step import TrainState
from ._together import Executor

_MANY_PROGRAMS = 8


class Piece(NamedTuple):
    """A block with its place in the run.

    Attributes:
        epoch: which.
        step: the first of its steps, counted over the run.
        block: the steps.
        controls: those of each step.
        closes: whether it is the last of its epoch.
    """

    epoch: int
    step: int
    block: Block
    controls: list[dict[str, Any]]
    closes: bool


class Launched(NamedTuple):
    """A piece that is running or has run.

    Attributes:
        piece: what was sent.
        flat: the state after it.
        packed: what it reports.
    """

    piece: Piece
    flat: Flat
    packed: Packed


class Dispatcher:
    """Sends the blocks of one run.

    Args:
        trainer: how.
        job: what.
        donates: whether state buffers are handed over to the next block.
        together: what runs the blocks instead, where other runs share the program.
    """

    def __init__(self, trainer: Settings, job: Job, *, donates: bool, together: Executor | None = None):
        self.trainer, self.feed, self.held_out = trainer, job.feed, job.held_out
        self.epochs, self.seed = job.epochs, job.seed
        self.eager = trainer.execution == "eager"
        alone = run_block if self.eager else run_donating if donates else run_compiled
        self.execute: Executor = together or alone
        self.looks_ahead = (
            not self.eager
            and not donates
            and together is None  # who has left after an epoch must not be in the next one's program
            and isinstance(job.feed, InMemory)
            and job.feed.order is None
        )
        self.number = np.uint32(job.seed)
        self.running = running_state(job.rest)
        self.most_rows = 0  # of the batches so far
        self.dtype = np.dtype(float_dtype(job.params))
        self.static_names = trainer.plan.static_names
        values, parts = split_program(trainer.method, job.objective, job.rest)
        self.values = Flat.of(values)
        self.arrays = Flat.of(job.feed.arrays if isinstance(job.feed, InMemory) else None)
        held_out = job.held_out if isinstance(job.held_out, InMemory) else None
        self.validation = None if held_out is None else Flat.of(held_out.arrays)
        self.program = Program(
            parts,
            compute_dtype=trainer.precision,
            validation_batch_size=None if held_out is None else held_out.batch_size,
            record=trainer.record,
        )

    def launched(self, flat: Flat, *, epoch: int, step: int, until: int) -> Iterator[Launched]:
        """The blocks from a place in the run to the end of an epoch, each already on its way when it is handed out.

        Args:
            flat: the state there.
            epoch: the first epoch to run.
            step: the first step.
            until: the epoch before which to end.
        """
        pieces = self._pieces(epoch, step, until)
        waiting: Launched | None = None
        while True:
            try:
                piece = next(pieces, None)
                following = None if piece is None else self._launch(piece, flat)
            except Exception:
                if waiting is not None:  # what is finished comes first
                    yield waiting
                raise
            if waiting is not None:
                yield waiting
            if following is None:
                return
            flat = following.flat
            waiting = following if self.looks_ahead else None
            if not self.looks_ahead:
                yield following

    def _pieces(self, epoch: int, step: int, until: int) -> Iterator[Piece]:
        """The run's blocks, cut where a static control changes."""
        plan = self.trainer.plan
        for now in range(epoch, until):
            constant = self._controls(now, step) if plan.per_epoch else None
            held: Piece | None = None
            for block in self.feed.blocks(now, self.seed, self.trainer.steps_per_dispatch):
                controls = [constant or self._controls(now, step + i) for i in range(block.steps)]
                for start, stop in _runs(controls, self.static_names):
                    if held is not None:
                        yield held
                    held = Piece(now, step, _cut(block, start, stop), controls[start:stop], closes=False)
                    step += stop - start
            if held is None:
                raise UsageError(
                    f"the data gave no batch in epoch {now}. An iterator runs dry: "
                    "give Stream a function of the epoch that returns a new one."
                )
            yield held._replace(closes=True)

    def _controls(self, epoch: int, step: int) -> dict[str, Any]:
        return self.trainer.plan.at(Progress(epoch, step, self.epochs, self.feed.steps_per_epoch))

    def _launch(self, piece: Piece, flat: Flat) -> Launched:
        block = piece.block
        self.program = self._program_for(piece)
        xs: dict[str, Any] = {
            "controls": stack_controls(piece.controls, self.program.controls, self.dtype, step=piece.step)
        }
        if block.rows is not None:
            xs["rows"] = block.rows
        if block.batches is not None:
            xs["batches"] = block.batches
        validation = self.validation if piece.closes else None
        after, packed = self.execute(self.program, flat, self.values, self.arrays, xs, self.number, validation)
        return Launched(piece, after, packed)

    def _program_for(self, piece: Piece) -> Program:
        controls = piece.controls[0]
        microbatches = self._microbatches(piece.block)
        static = tuple((name, int(controls[name])) for name in sorted(self.static_names))
        kinds = control_kinds(piece.controls, self.static_names)
        now = self.program
        if (kinds, static, microbatches) == (now.controls, now.static_controls, now.microbatches):
            return now
        return dataclasses.replace(now, controls=kinds, static_controls=static, microbatches=microbatches)

    def _microbatches(self, block: Block) -> int:
        """Into how many a batch is cut; a shorter last one, where it has too few rows, into as many as divide it."""
        accumulate = self.trainer.accumulate
        if accumulate == 1:
            return 1
        rows = batch_rows(block, self.feed)
        if rows is None:
            raise UsageError("accumulate cuts a batch by its rows: all its arrays need the same leading length.")
        self.most_rows = max(self.most_rows, rows)
        if rows == self.most_rows and rows % accumulate:
            raise UsageError(f"accumulate={accumulate} does not divide a batch of {rows} rows. Take one that does.")
        return math.gcd(accumulate, rows)

    def validate_stream(self, launched: Launched) -> dict[str, float]:
        """After an epoch's last block: the mean over the rows of a validation stream, if there is one."""
        if not isinstance(self.held_out, Stream):
            return {}
        piece = launched.piece
        program = self._program_for(piece)  # the next piece is on its way, perhaps with another
        now = self._one_step(program, piece.controls[-1], piece.step)
        return self._validate_stream(self.held_out, program, launched.flat, now, epoch=piece.epoch)

    def _one_step(self, program: Program, controls: dict[str, Any], step: int) -> tuple[Any, ...]:
        """The controls of one step, as the vectors they travel in."""
        return tuple(vector[0] for vector in stack_controls([controls], program.controls, self.dtype, step=step))

    def _validate_stream(
        self, stream: Stream, program: Program, state: Flat, now: tuple[Any, ...], *, epoch: int
    ) -> dict[str, float]:
        found, rows = dict[str, list[float]](), list[int | None]()
        execute = evaluate_batch if self.eager else evaluate_compiled
        for block in stream.blocks(epoch, self.seed, None):
            for i in range(block.steps):
                batch = jax.tree.map(lambda x, i=i: x[i], block.batches)
                packed: Packed = execute(program, self.values, state, batch, now, self.number)
                for name, value in packed.unpack()["validation"].items():
                    found.setdefault(name, []).append(float(value))
                rows.append(batch_rows(block, stream))
        weights = rows_that_differ(rows)
        return {f"val_{name}": reduce_steps(np.array(values), "mean", weights) for name, values in found.items()}

    def validate(self, params: Params, controls: dict[str, Any]) -> dict[str, float]:
        """Loss and metrics on the validation data under their ``val_`` names, outside of a run."""
        state = Flat.of(TrainState(params, None, None, None, None, self.running))  # type: ignore[arg-type]
        program = dataclasses.replace(
            self.program,
            controls=control_kinds([controls], self.static_names),
            static_controls=tuple((name, int(controls[name])) for name in sorted(self.static_names)),
        )
        now = self._one_step(program, controls, 0)
        if isinstance(self.held_out, Stream):
            return self._validate_stream(self.held_out, program, state, now, epoch=0)
        assert self.validation is not None
        execute = validate_block if self.eager else validate_compiled
        packed: Packed = execute(program, self.values, state, self.validation, now, self.number)
        return {f"val_{name}": float(value) for name, value in packed.unpack()["validation"].items()}

    def warn_of_many_programs(self) -> None:
        """Say so before training if static controls would compile again and again."""
        plan = self.trainer.plan
        if not plan.static_names:
            return
        per_epoch = self.feed.steps_per_epoch or 1
        stride = 1 if any(not getattr(s, "per_epoch", False) for s in plan.schedules.values()) else per_epoch
        seen = set()
        for step in range(0, self.epochs * per_epoch, stride):
            controls = plan.at(Progress(step // per_epoch, step, self.epochs, per_epoch))
            seen.add(tuple(controls[name] for name in sorted(plan.static_names)))
        if len(seen) > _MANY_PROGRAMS:
            names = ", ".join(f"'{name}'" for name in sorted(plan.static_names))
            warnings.warn(
                f"the static controls {names} take {len(seen)} different values, "
                "and each compiles a program of its own. Let them take few, such as powers of two.",
                stacklevel=3,
            )


def _runs(controls: list[dict[str, Any]], static: frozenset[str]) -> Iterator[tuple[int, int]]:
    """Start and stop of the stretches of steps that share their static controls."""
    if not static:
        yield 0, len(controls)
        return
    start = 0
    for i in range(1, len(controls) + 1):
        if i == len(controls) or any(controls[i][name] != controls[start][name] for name in static):
            yield start, i
            start = i


def _cut(block: Block, start: int, stop: int) -> Block:
    """The steps of a block from `start` to `stop`."""
    if start == 0 and stop == block.steps:
        return block
    rows = None if block.rows is None else block.rows[start:stop]
    return Block(stop - start, rows, jax.tree.map(lambda x: x[start:stop], block.batches))


def batch_rows(block: Block, feed: Feed) -> int | None:
    """Rows in each batch of a block; None where a batch has no common leading axis."""
    if block.rows is not None:
        return int(block.rows.shape[1])
    arrays = jax.tree.leaves(block.batches if isinstance(feed, Stream) else feed.arrays)
    lengths = {x.shape[1 if isinstance(feed, Stream) else 0 : 2 if isinstance(feed, Stream) else 1] for x in arrays}
    return int(next(iter(lengths))[0]) if len(lengths) == 1 and lengths != {()} else None
