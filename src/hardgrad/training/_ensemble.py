"""Several models trained as one: seeds side by side in one compiled program.

The models share an architecture; the arrays of their ensemble have a leading axis of members. A small model
leaves most of a machine idle, so that five seeds take little longer than one. Their gradients do not mix, and
an optimiser that treats each number for itself, as Adam does, trains each member as if it were alone; clipping
by the global norm, and the skipping of a step that is not finite, take them together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from ..core import Controls, UsageError


def make_ensemble(make: Callable[[Key[Array, ""]], PyTree], seeds: list[int]) -> PyTree:
    """One model whose arrays have a leading axis of members.

    Args:
        make: ``make(key)`` builds a member.
        seeds: one a member; a member does not depend on the others' seeds.

    Raises:
        UsageError: no seeds.

    Examples:
        >>> models = make_ensemble(lambda key: eqx.nn.Linear(2, 3, key=key), seeds=[0, 1, 2, 3])
        >>> models.weight.shape, member(models, 1).weight.shape
        ((4, 3, 2), (3, 2))
    """
    if not seeds:
        raise UsageError("an ensemble needs a seed for each member, got none.")
    members = [make(jax.random.key(seed)) for seed in seeds]
    arrays = [eqx.filter(one, eqx.is_array) for one in members]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)
    whole: PyTree = eqx.combine(stacked, members[0])
    return whole


def member(ensemble: PyTree, index: int) -> PyTree:
    """One model of an ensemble."""
    arrays, rest = eqx.partition(ensemble, eqx.is_array)
    one: PyTree = eqx.combine(jax.tree.map(lambda x: x[index], arrays), rest)
    return one


def over_members(function: Callable[..., Any], ensemble: PyTree, *arguments: Any, axis: int | None = None) -> Any:
    """``function(model, *arguments)`` of every member; results have a leading axis of members.

    Args:
        function: of a model and further arguments.
        ensemble: as `make_ensemble` makes it.
        arguments: pytrees of arrays.
        axis: the arguments' axis of members; None gives all of them the same.
    """
    arrays, rest = eqx.partition(ensemble, eqx.is_array)

    def on(arrays: PyTree, *arguments: Any) -> Any:
        return function(eqx.combine(arrays, rest), *arguments)

    return eqx.filter_vmap(on, in_axes=(0, *(axis for _ in arguments)))(arrays, *arguments)


class EnsembleObjective(eqx.Module):
    """The mean of an objective over the members of an ensemble, and the mean of each metric.

    Attributes:
        objective: of one member.
        own_data: whether each member has its own rows: the batch's arrays are then ``[rows, members, ...]``.
    """

    objective: Any
    own_data: bool = eqx.field(static=True, default=False, kw_only=True)

    def __call__(self, model: PyTree, batch: PyTree, controls: Controls, key: Key[Array, ""]) -> Any:
        """Loss, metrics and, if the objective returns one, the changed model."""
        arrays, rest = eqx.partition(model, eqx.is_array)
        keys = jax.random.split(key, jax.tree.leaves(arrays)[0].shape[0])

        def on(arrays: PyTree, batch: PyTree, key: Any) -> Any:
            found = self.objective(eqx.combine(arrays, rest), batch, controls, key)
            return (*found[:2], eqx.filter(found[2], eqx.is_array)) if len(found) == 3 else found

        axes = (0, 1 if self.own_data else None, 0)
        losses, metrics, *changed = eqx.filter_vmap(on, in_axes=axes)(arrays, batch, keys)
        averages = {name: jnp.mean(jnp.asarray(values, losses.dtype)) for name, values in metrics.items()}
        return (jnp.mean(losses), averages, *(eqx.combine(new, rest) for new in changed))
