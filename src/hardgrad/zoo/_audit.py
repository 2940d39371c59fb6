"""A recipe as something to audit: one member of one arm, at its start or as a run left it."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..audit import Audit, AuditCase, audit
from ..core import AbstractEstimator, Progress, UsageError, did_you_mean, leaf_names, split_parameters
from ..estimators import Autodiff
from ..training import (
    AbstractMethod,
    EnsembleObjective,
    EvolutionMethod,
    GradientMethod,
    InMemory,
    RunFolder,
    Stream,
    Trainer,
    member,
    trained_model,
)
from ..training._data import as_feed
from ._arms import ArmsObjective
from ._choices import EstimatorName, make_estimator
from ._digits_hybrid import EachMember
from ._launch import float64
from ._race import Race, RaceObjective
from ._recipe import Experiment
from ._registry import find

_MOST_VALUES, _MOST_SHAPES = 5, 4  # of a control, where growth is looked at
_BY_DEPTH = ("depth", "horizon")


@dataclasses.dataclass(frozen=True)
class Point:
    """Where in a recipe to audit.

    Attributes:
        at: a run of the recipe, whose best parameters are taken, or its last; None takes the recipe's start.
        epoch: whose controls hold; None: that of the parameters.
        arm: of a recipe that trains several side by side; empty: the first.
        member: of an arm that trains several seeds side by side.
        gradient: another estimator than the recipe's: its name and its step or spread; None: the recipe's.
        only: a pattern on the names of parameters, as `hardgrad.estimators.Blocks` takes it: only those count as
            parameters, the others stay as they are. Empty: all.
        growth: a control and its values; None: those of the plan's depth or horizon, if it has one.
            No values: none.
    """

    at: RunFolder | None = None
    epoch: int | None = None
    arm: str = ""
    member: int = 0
    gradient: tuple[EstimatorName, float] | None = None
    only: str = ""
    growth: tuple[str, Sequence[int]] | None = None


def audit_recipe(name: str, config: Any, point: Point = Point(), **options: Any) -> Audit:
    """Audit a recipe.

    Args:
        name: which.
        config: its config.
        point: where.
        options: as for `audit`: ``directions``, ``rows``, ...

    Raises:
        UsageError: an arm, a member or an epoch that there is not, or a method that has nothing to audit.
    """
    recipe = find(name).load()
    with float64() if recipe.float64(config) else contextlib.nullcontext():
        return audit_case(recipe_case(name, recipe.experiment(config), point), **options)


def audit_case(case: AuditCase, **options: Any) -> Audit:
    """`audit` of a case."""
    given = {field.name: getattr(case, field.name) for field in dataclasses.fields(case)}
    return audit(**given, **options)


def recipe_case(name: str, experiment: Experiment, point: Point) -> AuditCase:
    """What there is to audit of a recipe made concrete.

    Raises:
        UsageError: see `audit_recipe`.
    """
    trainer, model, epoch, title = experiment.trainer, experiment.model, 0, name
    if point.at is not None:
        model, about = trained_model(point.at, model)
        epoch = int(about["epoch"])
        title += f", {about['params']} parameters of {point.at.path.name}, epoch {epoch}"
    if point.epoch is not None:
        epoch = point.epoch
    if not 0 <= epoch <= max(0, experiment.epochs - 1):
        raise UsageError(f"epoch {epoch} is none of the recipe's {experiment.epochs}, which count from 0.")
    feed = as_feed(experiment.data, batch_size=experiment.batch_size)
    controls = first_controls(trainer, feed, epoch, experiment.epochs)
    part = _Part(model, experiment.objective, feed, trainer.method, controls, title).narrowed(point)
    estimator, notes = _estimator(part, point)
    if trainer.precision is not None:
        notes.append(f"The recipe computes in {trainer.precision}; audited in the parameters' own precision.")
    return AuditCase(
        model=part.model,
        objective=part.objective,
        data=part.feed,
        estimator=estimator,
        controls=part.controls,
        growth=_growth(trainer, feed, experiment.epochs) if point.growth is None else point.growth,
        trainable=trainable(part.model, point.only) if point.only else None,
        title=part.title + (f", {point.only} only" if point.only else ""),
        notes=(*part.notes, *notes),
    )


def trainable(model: Any, pattern: str) -> Any:
    """Which parameters have names of a pattern, such as ``layers.1.*``: an Equinox filter specification.

    Raises:
        UsageError: none has.
    """
    params, _ = split_parameters(model)
    names = leaf_names(params)
    if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
        raise UsageError(f"no parameter is called '{pattern}'. {did_you_mean(pattern, names)}")
    chosen = iter([fnmatch.fnmatchcase(name, pattern) for name in names])
    return jax.tree.map(lambda x: False if x is None else next(chosen), params, is_leaf=lambda x: x is None)


def first_controls(trainer: Trainer, feed: InMemory | Stream, epoch: int, epochs: int) -> dict[str, Any]:
    """Those of an epoch's first step; static ones as ints, which `audit` takes for static."""
    per_epoch = feed.steps_per_epoch
    found = trainer.plan.at(Progress(epoch, epoch * (per_epoch or 1), epochs, per_epoch))
    static = trainer.plan.static_names
    return {
        name: int(value) if name in static else jnp.asarray(value) if isinstance(value, int) else float(value)
        for name, value in found.items()
    }


def _growth(trainer: Trainer, feed: InMemory | Stream, epochs: int) -> tuple[str, list[int]] | None:
    """A depth or a horizon of the plan, and values around those it takes."""
    plan = trainer.plan
    names = [name for name in plan.schedules if name in plan.static_names or name in _BY_DEPTH]
    if not names:
        return None
    name, per_epoch = names[0], feed.steps_per_epoch
    taken = sorted({int(plan.at(Progress(e, e * (per_epoch or 1), epochs, per_epoch))[name]) for e in range(epochs)})
    if not taken:
        return None
    if name in plan.static_names:  # a shape: what is longer may not exist, and each value compiles
        values = {taken[-1] >> k for k in range(_MOST_SHAPES)}
        return name, sorted(v for v in values if v >= 2)
    largest = taken[-1]
    values = {*taken, 2 * largest, 4 * largest}
    return name, sorted(values)[-_MOST_VALUES:]


@dataclasses.dataclass(frozen=True)
class _Part:
    """A part of an experiment that trains for itself."""

    model: Any
    objective: Any
    feed: InMemory | Stream
    method: AbstractMethod | AbstractEstimator
    controls: dict[str, Any]
    title: str
    notes: tuple[str, ...] = ()

    def narrowed(self, point: Point) -> _Part:
        """One member of one arm: gradients of others do not mix with its own."""
        part, armed = self, False
        while True:
            objective = part.objective
            if isinstance(objective, ArmsObjective):
                part, armed = part._arm(_chosen(point.arm, objective.arms)), True
            elif isinstance(objective, RaceObjective):
                part, armed = part._lane(_chosen(point.arm, objective.arms), point.member), True
            elif isinstance(objective, EnsembleObjective):
                part = part._member(point.member)
            else:
                break
        if point.arm and not armed:
            raise UsageError(f"this recipe trains no arms side by side: leave --arm {point.arm} out.")
        return part

    def _arm(self, name: str) -> _Part:
        arms = self.objective.arms
        feed = self._data(lambda arrays: arrays[name]) if self.objective.own_data else self.feed
        note = f"Arms: {', '.join(arms)} (--arm)."
        return dataclasses.replace(
            self,
            model=self.model[name],
            objective=arms[name],
            feed=feed,
            title=f"{self.title}, arm {name}",
            notes=(*self.notes, note),
        )

    def _member(self, index: int) -> _Part:
        arrays = [x for x in jax.tree.leaves(self.model) if hasattr(x, "shape") and x.ndim]
        size = arrays[0].shape[0]
        _check_member(index, size)
        method = self.method
        estimator = method.estimator if isinstance(method, GradientMethod) else method
        if isinstance(estimator, EachMember):
            method = estimator.estimators[index // (size // len(estimator.estimators))]
        feed = self._data(lambda x: jax.tree.map(lambda x: x[:, index], x)) if self.objective.own_data else self.feed
        return dataclasses.replace(
            self,
            model=member(self.model, index),
            objective=self.objective.objective,
            feed=feed,
            method=method,
            title=f"{self.title}, member {index} of {size}",
        )

    def _lane(self, name: str, index: int) -> _Part:
        """Of a race: a member with the level and the settings it races with."""
        assert isinstance(self.method, Race)
        assert isinstance(self.feed, InMemory)
        told = self.feed.arrays[name]
        size = told["level"].shape[1]
        _check_member(index, size)
        settings = {what: float(values[0, index]) for what, values in told["settings"].items()}
        level = told["level"][0, index]
        arms = self.objective.arms
        return dataclasses.replace(
            self,
            model=member(self.model[name], index),
            objective=arms[name],
            feed=InMemory(level),
            method=self.method.methods[name],
            controls={**self.controls, **settings},
            title=f"{self.title}, arm {name}, member {index} of {size} (level {float(level):g})",
            notes=(*self.notes, f"Arms: {', '.join(arms)} (--arm)."),
        )

    def _data(self, take: Any) -> InMemory:
        if not isinstance(self.feed, InMemory):
            raise UsageError("the data of a part can be had of arrays in memory only, not of a stream.")
        return InMemory(
            take(self.feed.arrays),
            batch_size=self.feed.batch_size,
            shuffle=self.feed.shuffle,
            keep_remainder=self.feed.keep_remainder,
            allow_non_finite=True,  # they were let through once
        )


def _chosen(name: str, arms: Any) -> str:
    if not name:
        return str(next(iter(arms)))
    if name not in arms:
        raise UsageError(f"there is no arm '{name}'. {did_you_mean(name, arms)}")
    return name


def _check_member(index: int, size: int) -> None:
    if not 0 <= index < size:
        raise UsageError(f"member must be from 0 to {size - 1}, got {index}.")


def _estimator(part: _Part, point: Point) -> tuple[AbstractEstimator, list[str]]:
    if point.gradient is not None:
        name, step = point.gradient
        return make_estimator(name, eps=step), ["Not the recipe's own gradient, but the one that was asked for."]
    if isinstance(part.method, AbstractEstimator):
        return part.method, []
    if isinstance(part.method, GradientMethod):
        return part.method.estimator, []
    if isinstance(part.method, EvolutionMethod):
        strategy = type(part.method.strategy).__name__
        return Autodiff(), [
            f"The recipe trains by evolution ({strategy}), which uses no gradient; audited is the one it does without."
        ]
    raise UsageError(
        f"the recipe's method, {type(part.method).__name__}, is neither a gradient's nor an evolution strategy: there "
        "is no estimate of a gradient to audit. Name one: --gradient autodiff."
    )
