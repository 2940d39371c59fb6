"""Methods side by side at equal evaluations: in one step of the race every arm may spend as much, on steps of its own.

A step of the trainer is a round. Arms differ in what a step costs them, so that they take different numbers of steps in
it. Each arm trains several members at once, each as if it were alone; a member's samples are the same in all arms, as
far as their steps go. Settings are numbers of each member's own, so that a grid of them is one program too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ..core import (
    Contract,
    Controls,
    Loss,
    LossFunction,
    Order,
    Params,
    UsageError,
    all_finite,
    named_key,
)
from ..training import AbstractMethod, Outcome, over_members

_TOLD = ("blind", "cosine", "correction_fraction", "guide_gain", "signal_to_noise")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        label: what people read.
        method: trains one member.
        objective: of one member: ``objective(model, batch, controls, key)``.
        cost: evaluations that `period` steps cost, a reverse pass counted as two.
        period: steps after which the cost repeats.
    """

    label: str
    method: AbstractMethod
    objective: Any
    cost: int
    period: int = 1

    def steps(self, budget: int) -> int:
        """Steps that a budget pays for.

        Raises:
            UsageError: the budget does not come out even.
        """
        if budget % self.cost:
            raise UsageError(f"{self.label} pays {self.cost} evaluations at a time, which {budget} is no multiple of.")
        return budget // self.cost * self.period


class RaceObjective(eqx.Module):
    """The mean over arms of their members' mean objective; `Race` takes it apart.

    The model is a dict of ensembles by arm. The batch is, by arm, ``{"level", "seed", "settings": {name}}``, each
    ``[1, members]``: what a member's objective gets for its batch, what its samples are drawn with, and its controls.
    """

    arms: Mapping[str, Any]

    def __call__(self, model: Mapping[str, Any], batch: Any, controls: Controls, key: Key[Array, ""]) -> Any:
        """Loss and no metrics."""
        means = [
            jnp.mean(
                over_members(
                    lambda one, b, o=o: o(one, b, controls, key)[0], model[name], batch[name]["level"][0], axis=0
                )
            )
            for name, o in self.arms.items()
        ]
        return jnp.mean(jnp.stack(means)), {}


class Race(AbstractMethod):
    """Arms with a method each, on an equal budget; the objective is a `RaceObjective`, the model a dict by arm.

    An arm's ``learning_rate`` among its settings falls to 0 along a cosine over all its steps. A step that is not
    finite is not taken, by that member alone. Diagnostics are some of the arms' own, ``arm/...``, averaged
    over steps and members; metrics the arms' mean losses, ``arm_loss``.

    Attributes:
        methods: of the arms by name.
        steps: of each arm in a round, by name; pairs, since a dict does not keep its order under `jax.jit`.
        budget: evaluations an arm has in a round.
        rounds: of the whole race.
    """

    methods: Mapping[str, AbstractMethod]
    steps: tuple[tuple[str, int], ...] = eqx.field(static=True)
    budget: int = eqx.field(static=True)
    rounds: int = eqx.field(static=True)

    def __init__(self, arms: Mapping[str, Arm], *, budget: int, rounds: int):
        self.methods = {name: arm.method for name, arm in arms.items()}
        self.steps = tuple((name, arm.steps(budget)) for name, arm in arms.items())
        self.budget = budget
        self.rounds = rounds

    @property
    def contract(self) -> Contract:
        """All arms together."""
        return Contract(
            Order.MIXED,
            needs_key=True,
            fixed_evaluations=self.budget * len(self.methods),
            bias="each arm's own",
        )

    def init(self, params: Params, *, key: Key[Array, ""]) -> Any:
        """Steps taken, and the state of every member, by arm."""
        found = {}
        for name, method in self.methods.items():
            start = partial(method.init, key=key)
            axes = _axes(jax.eval_shape(start, jax.tree.map(lambda x: x[0], params[name])))
            found[name] = jnp.zeros((), jnp.int32), jax.vmap(start, out_axes=axes)(params[name])
        return found

    def update(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Params, Any, Outcome]:
        """A round."""
        assert isinstance(loss_fn, Loss)
        after, memory, metrics = {}, {}, {}
        diagnostics: dict[str, Array] = {}
        for name, steps in self.steps:
            lane = Lane(self.methods[name], loss_fn.objective.arms[name], loss_fn.rest[name])
            batch = jax.tree.map(lambda x: x[0], loss_fn.batch[name])
            keys = jax.vmap(lambda seed: jax.random.fold_in(key, seed))(batch["seed"])
            done, members = state[name]
            axes = _axes(members)
            run = jax.vmap(_Round(lane, steps, self.rounds), in_axes=(0, axes, 0, 0, 0, None), out_axes=(0, axes, 0, 0))
            after[name], members, losses, said = run(
                params[name], members, batch["level"], batch["settings"], keys, done
            )
            memory[name] = (done + steps, members)
            metrics[f"{name}_loss"] = jnp.mean(losses)
            diagnostics |= {f"{name}/{what}": jnp.mean(said[what]) for what in _TOLD if what in said}
        loss = jnp.mean(jnp.stack(list(metrics.values())))
        return after, memory, Outcome(loss, None, metrics, diagnostics)


def _axes(state: Any) -> Any:
    """Where the members are in a method's state: nowhere in integers, which count steps.

    What depends on the count, as `Every` does, is then decided once for all members, and not computed both ways.
    """
    return jax.tree.map(lambda x: None if jnp.issubdtype(x.dtype, jnp.integer) else 0, state)


@dataclasses.dataclass(frozen=True)
class Lane:
    """One member and its method, trained step by step as if alone.

    Attributes:
        method: trains it.
        objective: ``objective(model, batch, controls, key)``.
        rest: the member's model without its parameters.
    """

    method: AbstractMethod
    objective: Any
    rest: Any

    def step(self, carried: Any, *, batch: Any, settings: Mapping[str, Any], share: Any, key: Any) -> Any:
        """Parameters and state after a step, what it found, and whether it was finite; else it was not taken.

        Args:
            carried: parameters and the method's state.
            batch: the objective's.
            settings: the controls; a ``learning_rate`` falls to 0 along a cosine.
            share: steps taken of all there are.
            key: of the step.
        """
        controls = dict(settings)
        if "learning_rate" in settings:
            controls["learning_rate"] = settings["learning_rate"] * 0.5 * (1.0 + jnp.cos(jnp.pi * share))
        loss = Loss(self.objective, self.rest, batch, controls, named_key(key, "samples"))
        new = self.method.update(loss, *carried, controls=controls, key=named_key(key, "method"))
        outcome = new[2]
        good = jnp.isfinite(outcome.loss) & all_finite(new[0])
        keep = lambda new, old: new if jnp.issubdtype(new.dtype, jnp.integer) else jnp.where(good, new, old)
        return jax.tree.map(keep, new[:2], carried), outcome, good


@dataclasses.dataclass(frozen=True)
class _Round:
    """A round of one member of one arm."""

    lane: Lane
    steps: int
    rounds: int

    def __call__(self, params: Params, state: Any, level: Any, settings: Any, key: Any, done: Any) -> Any:
        """New parameters and state; losses and diagnostics of the steps."""

        def step(carried: Any, item: Any) -> Any:
            index, key = item
            share = (done + index).astype(level.dtype) / (self.rounds * self.steps)
            after, outcome, _ = self.lane.step(carried, batch=level, settings=settings, share=share, key=key)
            return after, (outcome.loss, outcome.diagnostics)

        items = jnp.arange(self.steps), jax.random.split(key, self.steps)
        (params, state), (losses, said) = jax.lax.scan(step, (params, state), items)
        return params, state, losses, said
