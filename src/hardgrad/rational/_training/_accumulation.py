"""Updates from groups of batches.

`optax.MultiSteps` counts gradients; it knows neither where an epoch ends nor that a batch was left out, and from then
on its groups would straddle epochs. Here a schedule says at which steps a group ends.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ...core import Progress

GROUP_ENDS = "group_ends"
"""The control that is true where the gradients of a group become an update."""


@dataclasses.dataclass(frozen=True)
class GroupEnds:
    """True at every `size`-th step of an epoch and at its last; of the run, where an epoch's length is unknown.

    Attributes:
        size: steps of a group.
    """

    size: int

    def __call__(self, progress: Progress) -> bool:
        """Whether a group ends with this step."""
        per_epoch = progress.steps_per_epoch
        done = progress.step + 1 - (progress.epoch * per_epoch if per_epoch else 0)
        return done % self.size == 0 or done == per_epoch

    def by_group(self, progress: Progress) -> Progress:
        """The same moment, counted in groups."""
        per_epoch = progress.steps_per_epoch
        if not per_epoch:
            return dataclasses.replace(progress, step=progress.step // self.size)
        groups = -(-per_epoch // self.size)
        within = (progress.step - progress.epoch * per_epoch) // self.size
        return dataclasses.replace(progress, step=progress.epoch * groups + within, steps_per_epoch=groups)


class GroupState(NamedTuple):
    """A group so far.

    Attributes:
        total: sum of its gradients.
        count: how many.
        inner: the optimiser's state.
    """

    total: Any
    count: Any
    inner: Any


def in_groups(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """An optimiser that is given the mean of a group's gradients, and until then holds the parameters."""
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> GroupState:
        return GroupState(jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32), inner.init(params))

    def update(updates: Any, state: GroupState, params: Any = None, **extra: Any) -> tuple[Any, GroupState]:
        total = jax.tree.map(jnp.add, state.total, updates)
        count = state.count + 1

        def apply() -> tuple[Any, GroupState]:
            mean = jax.tree.map(lambda x: x / count.astype(x.real.dtype), total)
            given = {**extra, "grad": mean} if "grad" in extra else extra
            changes, after = inner.update(mean, state.inner, params, **given)
            return changes, GroupState(jax.tree.map(jnp.zeros_like, total), jnp.zeros_like(count), after)

        def wait() -> tuple[Any, GroupState]:
            return jax.tree.map(jnp.zeros_like, updates), GroupState(total, count, state.inner)

        changed: tuple[Any, GroupState] = jax.lax.cond(extra["controls"][GROUP_ENDS], apply, wait)
        return changed

    return optax.GradientTransformationExtraArgs(init, update)
