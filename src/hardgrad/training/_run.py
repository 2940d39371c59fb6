"""A run in progress, as callbacks see it, and what is left when it ends."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..core import Params
from ._folder import RunFolder
from ._program import Flat
from ._record import EpochRecord
from ._step import TrainState


class Status(enum.Enum):
    """How a run ended."""

    COMPLETED = "completed"  # all epochs done
    STOPPED = "stopped"  # a callback asked for it
    PAUSED = "paused"  # at the epoch it was to go to for now
    DIVERGED = "diverged"  # too many non-finite steps in a row
    INTERRUPTED = "interrupted"  # Ctrl-C


@dataclasses.dataclass
class Run:
    """A run in progress.

    Attributes:
        epochs: how many epochs were asked for.
        seed: the run's seed.
        folder: where it is kept, or None.
        rest: the model without its parameters.
        flat: the leaves of `state`. Their buffers may be reused by the next block: keep a `snapshot`.
        epoch: epochs finished.
        step: optimiser steps done.
        skipped: steps left out because something was not finite.
        evaluations: evaluations of the objective by the method's contract; validation, backward passes and an
            optimiser's line searches are not counted.
        seconds: time spent training, earlier sessions of a resumed run included.
        stop_reason: why it is to stop after this epoch, or None.
        resumed: whether it began from a checkpoint.
        donates: whether state buffers are handed over to the next block.
        between_epochs: whether `state` is that of a finished epoch, and so may be saved.
        together: whether its steps are done in one program with those of other runs.
        measures: the metrics that only some epochs have, because callbacks measure them.
    """

    epochs: int
    seed: int
    folder: RunFolder | None
    rest: PyTree
    flat: Flat
    epoch: int = 0
    step: int = 0
    skipped: int = 0
    evaluations: int = 0
    seconds: float = 0.0
    stop_reason: str | None = None
    resumed: bool = False
    donates: bool = False
    between_epochs: bool = True
    together: bool = False
    measures: frozenset[str] = frozenset()

    @property
    def state(self) -> TrainState:
        """The state after the last finished block."""
        state: TrainState = self.flat.tree()
        return state

    @property
    def params(self) -> Params:
        """The present parameters."""
        return self.state.params

    @property
    def model(self) -> PyTree:
        """The present model."""
        return self.model_with(self.state.learned)

    def model_with(self, learned: PyTree) -> PyTree:
        """The model with other parameters and running state: see `TrainState.learned`."""
        return eqx.combine(learned, self.rest)

    def snapshot(self) -> Flat:
        """The present state, safe to keep: ``snapshot.tree()`` is a `TrainState`."""
        return jax.tree.map(jnp.copy, self.flat) if self.donates else self.flat

    def stop(self, reason: str) -> None:
        """Ask the trainer to stop after this epoch; the first reason given is kept."""
        if self.stop_reason is None:
            self.stop_reason = reason


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `Trainer.fit` returns.

    Attributes:
        model: with the last parameters.
        status: how it ended.
        reason: the same in a sentence.
        history: a record an epoch, the epochs before a resume included where there is telemetry.
        best_model: with the best parameters, if a `Best` callback watched.
        best: its record: ``epoch``, ``metric``, ``value``; None without one.
        epochs: epochs finished.
        steps: optimiser steps done.
        skipped: steps left out because something was not finite.
        evaluations: evaluations of the objective by the method's contract; validation, backward passes and an
            optimiser's line searches are not counted.
        seconds: time spent training.
    """

    model: PyTree
    status: Status
    reason: str
    history: list[EpochRecord]
    best_model: PyTree | None
    best: dict[str, Any] | None
    epochs: int
    steps: int
    skipped: int
    evaluations: int
    seconds: float

    def summary(self) -> dict[str, Any]:
        """What result.json holds for every run."""
        return {
            "schema": "hardgrad.result",
            "version": 1,
            "status": self.status.value,
            "reason": self.reason,
            "epochs_completed": self.epochs,
            "steps": self.steps,
            "skipped": self.skipped,
            "objective_evaluations": self.evaluations,
            "best": self.best,
            "final": dict(self.history[-1].metrics) if self.history else {},
            "wall_seconds": self.seconds,
        }
