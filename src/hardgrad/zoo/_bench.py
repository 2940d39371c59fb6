"""How fast a recipe trains here: its first epoch, the others, and a step beside an evaluation of its loss."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp

from ..core import Loss, Params, UsageError, named_key, running_state, split_parameters
from ..training import EpochRecord, Run
from ..training._data import as_feed, first_batches
from ..training._folder import environment
from ..training.callbacks import Callback
from ._audit import first_controls
from ._launch import EpochLines, float64
from ._recipe import Experiment
from ._registry import find
from ._timing import seconds_a_step

_LEAST = 2  # epochs that are timed, however long they take


@dataclasses.dataclass(frozen=True)
class Speed:
    """What was measured. Times are in seconds.

    Attributes:
        recipe: which.
        first: from a config to the end of the first epoch: data, model, tracing, compiling.
        epochs: of each further epoch, everything on: validation, callbacks, the files of a run.
        of: epochs of the whole run.
        steps: in an epoch, on average.
        steps_alone: of an epoch's steps, without anything else; the median.
        evaluations: of the objective in a step, on average, by the method's contract; backward passes not counted.
        evaluation: of the loss once, on one batch, without a derivative.
        static: controls that decide shapes, as they were: a longer horizon takes longer.
        environment: versions, device, cores, and the load before.
    """

    recipe: str
    first: float
    epochs: tuple[float, ...]
    of: int
    steps: float
    steps_alone: float
    evaluations: float
    evaluation: float
    static: dict[str, int]
    environment: dict[str, Any]

    @property
    def epoch(self) -> float:
        """Seconds of an epoch, everything on; the median."""
        return statistics.median(self.epochs)

    @property
    def step(self) -> float:
        """Seconds of a step, nothing else on."""
        return self.steps_alone / self.steps

    @property
    def step_in_evaluations(self) -> float:
        """What a step costs, in evaluations of its loss."""
        return self.step / self.evaluation

    def as_json(self) -> dict[str, Any]:
        """Everything, by name."""
        derived = {name: getattr(self, name) for name in ("epoch", "step", "step_in_evaluations")}
        return {"schema": "hardgrad.bench", "version": 1, **dataclasses.asdict(self), **derived}


def bench(name: str, config: Any, *, seconds: float = 10.0) -> Speed:
    """Time a recipe.

    It is begun twice, with all that belongs to a run and without, and left when the time is up.

    Args:
        name: which.
        config: its config.
        seconds: how long epochs are timed, each time; two epochs are timed in any case.

    Raises:
        UsageError: fewer than three epochs, or time that is none.
    """
    if not seconds > 0:
        raise UsageError(f"seconds must be above 0, got {seconds!r}.")
    about = {
        **environment(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }
    recipe = find(name).load()
    with (
        float64() if recipe.float64(config) else contextlib.nullcontext(),
        tempfile.TemporaryDirectory() as scratch,
    ):
        began = time.perf_counter()
        experiment = recipe.experiment(config)
        if experiment.epochs <= _LEAST:
            raise UsageError(f"epochs must be at least {_LEAST + 1}: the first is compiled, the others are timed.")
        everything = _Clock(seconds)
        own = [one for one in experiment.trainer.callbacks if not isinstance(one, EpochLines)]
        experiment.fit([*own, everything], run=Path(scratch) / "run")
        bare = _Clock(seconds)
        result = experiment.fit([bare], validate=False)
        if min(len(everything.ends), len(bare.ends)) <= _LEAST:
            raise UsageError(f"the recipe stopped after {len(everything.ends)} epochs: there is nothing to time.")
        return Speed(
            recipe=name,
            first=everything.ends[0] - began,
            epochs=tuple(everything.apart()),
            of=experiment.epochs,
            steps=result.steps / result.epochs,
            steps_alone=statistics.median(bare.apart()),
            evaluations=result.evaluations / result.steps,
            evaluation=_evaluation(experiment),
            static={name: int(result.history[-1].controls[name]) for name in experiment.trainer.plan.static_names},
            environment=about,
        )


class _Clock(Callback):
    """Notes when epochs end, and ends the run when the time is up."""

    order: ClassVar[int] = 99

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.ends: list[float] = []

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """Note it."""
        self.ends.append(time.perf_counter())
        if len(self.ends) > _LEAST and self.ends[-1] - self.ends[0] >= self.seconds:
            run.stop("timed long enough")

    def apart(self) -> list[float]:
        """Seconds of each epoch but the first."""
        return [after - before for before, after in zip(self.ends, self.ends[1:], strict=False)]


def _evaluation(experiment: Experiment) -> float:
    """Seconds of an evaluation of the loss at the recipe's start, on its first batch."""
    trainer = experiment.trainer
    feed = as_feed(experiment.data, batch_size=experiment.batch_size)
    batches, _, _ = first_batches(feed, 1, seed=experiment.seed)
    params, rest = split_parameters(experiment.model)
    loss = Loss(
        experiment.objective,
        rest,
        jax.tree.map(lambda x: x[0], batches),
        first_controls(trainer, feed, 0, experiment.epochs),
        named_key(jax.random.key(experiment.seed), "objective"),
        running=running_state(rest),
    )
    if trainer.execution == "eager":
        with jax.disable_jit():
            return seconds_a_step(lambda times: _in_turn(loss, params, times))
    together = eqx.filter_jit(_together)
    return seconds_a_step(lambda times: together(loss, params, jnp.asarray(times)).block_until_ready())


def _in_turn(loss: Loss, params: Params, times: int) -> None:
    for _ in range(times):
        loss(params)[0].block_until_ready()


def _together(loss: Loss, params: Params, times: Any) -> Any:
    """The loss so many times, each after the one before: sending it to the device is not what is timed."""

    def again(_: Any, before: Any) -> Any:
        # What depends on the last result can't be computed once for all; 0 · NaN keeps XLA from leaving it out.
        moved = jax.tree.map(lambda x: x + (0.0 * before).astype(x.dtype), params)
        return loss(moved)[0].astype(before.dtype)

    return jax.lax.fori_loop(0, times, again, jnp.zeros((), jnp.result_type(float)))
