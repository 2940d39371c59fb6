"""The surrogate gradient with random directions beside it, and without: each member by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from ..core import (
    BACKWARD_COSTS,
    AbstractEstimator,
    Contract,
    Controls,
    Estimate,
    Loss,
    LossFunction,
    Metrics,
    Params,
    UsageError,
)
from ..estimators import AntitheticNES, Autodiff, Hybrid
from ..training import EnsembleObjective, EpochRecord
from ._digits_config import Config
from ._verdicts import compare, spread


class EachMember(AbstractEstimator):
    """Estimators at work on each member of an ensemble by itself, as if it were trained alone.

    An estimator of the whole ensemble would move all members at once along one random direction, blame each for the
    losses of all, and project on the gradient of all. Here the members are as many groups of one size as there are
    estimators, in order, and what a member draws and projects is its own.

    Loss and metrics are means over members; the gradient is that of this mean. Diagnostics are means over a group,
    ``group/diagnostic``.

    Attributes:
        names: of the groups.
        estimators: of each.

    Raises:
        UsageError: the objective is not that of an ensemble whose size the groups divide.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    estimators: tuple[AbstractEstimator, ...]

    def __init__(self, groups: Mapping[str, AbstractEstimator]):
        self.names, self.estimators = tuple(groups), tuple(groups.values())

    @property
    def contract(self) -> Contract:
        """What a step costs a member of the dearest group."""
        return max((one.contract for one in self.estimators), key=lambda c: (c.evaluations(1), c.backward_passes))

    def init(self, params: Params) -> Any:
        """Each member's state, group by group."""
        return tuple(
            jax.vmap(estimator.init)(group)
            for estimator, group in zip(self.estimators, self._groups(params), strict=True)
        )

    def estimate(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Estimate, Any]:
        """Each member's estimate."""
        if not (isinstance(loss_fn, Loss) and isinstance(loss_fn.objective, EnsembleObjective)):
            raise UsageError("EachMember takes the trainer's loss of an EnsembleObjective.")
        if not loss_fn.objective.own_data or loss_fn.microbatches > 1 or loss_fn.running is not None:
            raise UsageError("EachMember takes members with data of their own, whole batches and no running state.")
        size = jax.tree.leaves(params)[0].shape[0]
        rest, static = eqx.partition(loss_fn.rest, eqx.is_array)
        batch = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), loss_fn.batch)
        everything = (params, rest, batch, jax.random.split(key, size))
        found, states = [], []
        for estimator, group, before in zip(self.estimators, self._groups(everything), state, strict=True):

            def alone(item: Any, estimator: AbstractEstimator = estimator) -> Any:
                (params, rest, batch, key), before = item
                loss = dataclasses.replace(
                    loss_fn,
                    objective=loss_fn.objective.objective,
                    rest=eqx.combine(rest, static),
                    batch=batch,
                    key=key,
                )
                return estimator.estimate(loss, params, before, controls=controls, key=key)

            # One after another: side by side they share nothing, and caches hold one.
            estimates, after = jax.lax.map(alone, (group, before))
            found.append(estimates)
            states.append(after)
        diagnostics: Metrics = {}
        for name, one in zip(self.names, found, strict=True):
            diagnostics |= {f"{name}/{key}": jnp.mean(value) for key, value in one.diagnostics.items()}
        gradient = jax.tree.map(lambda *parts: jnp.concatenate(parts) / size, *(one.gradient for one in found))
        loss, metrics = jax.tree.map(
            lambda *parts: jnp.mean(jnp.concatenate(parts)), *((one.loss, one.metrics) for one in found)
        )
        return Estimate(loss, gradient, metrics, diagnostics), tuple(states)

    def _groups(self, tree: Any) -> list[Any]:
        count, size = len(self.estimators), jax.tree.leaves(tree)[0].shape[0]
        if size % count:
            raise UsageError(f"{size} members can't be {count} groups of one size.")
        each = size // count
        return [jax.tree.map(lambda x, i=i: x[i * each : (i + 1) * each], tree) for i in range(count)]


def estimators(config: Config) -> dict[str, AbstractEstimator]:
    """One an arm."""
    directions = AntitheticNES(config.sigma, pairs=config.pairs)
    return {
        "surrogate": Autodiff(),
        "hybrid": Hybrid(Autodiff(), directions, fraction=config.fraction, normalize=config.normalize),
    }


def work(config: Config) -> dict[str, int]:
    """Forward evaluations a step of each arm, a backward pass counted as two."""
    return {name: estimator.contract.work(0) for name, estimator in estimators(config).items()}


def hybrid_lines(config: Config, accuracy: Mapping[str, list[float]], last: EpochRecord | None) -> list[str]:
    """Who won at the same steps and at what cost, and what the two gradients have to do with one another.

    Args:
        config: the recipe's.
        accuracy: of each arm's members.
        last: the last epoch's record.
    """
    alone, mixed = accuracy["surrogate"], accuracy["hybrid"]
    points = [100 * (b - a) for a, b in zip(alone, mixed, strict=True)]
    units = work(config)
    lines = [
        f"At the same steps the hybrid {compare(mixed, alone, -1.0)} the surrogate alone: "
        f"{np.mean(points):+.2f} ± {spread(points):.2f} points.",
        f"A step takes {units['hybrid']} evaluations to {units['surrogate']}; "
        f"a backward pass counts as {BACKWARD_COSTS}.",
    ]
    said = {} if last is None else last.metrics
    if "hybrid/cosine" in said:
        noise = said.get("hybrid/zeroth/signal_to_noise")
        lines += [
            f"In the last epoch: cosine of gradient and samples {said['hybrid/cosine']:+.3f}"
            + ("," if noise is None else f", signal to noise {noise:.3f},"),
            f"correction {said['hybrid/correction_fraction']:.2f} of the gradient, which is 0 on "
            f"{said['hybrid/blind']:.1%} of the parameters.",
        ]
    return lines
