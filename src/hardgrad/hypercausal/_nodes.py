"""A node: a cell that finds the state, a projector that looks ahead, a policy that decides.

    s = cell(x),   F = projector(s),   ŝ = policy(F)

Source: the published hypercausal system.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from ..core import UsageError
from ._cells import AbstractCell
from ._numbers import as_depth, check_branches
from ._policies import AbstractPolicy, MeanPolicy
from ._projectors import AbstractProjector, LinearProjector


class Prediction(NamedTuple):
    """What a node or a model found, of one node or of each.

    For a `Node` the fields are arrays, for a `Chain` tuples of them in the order of its nodes, for a
    `Graph` dicts of them by node name.

    Attributes:
        states: s, ``[..., time, channel]``.
        futures: ŝ, ``[..., time, channel]``.
        branches: F, ``[branch, ..., time, channel]``.
        diagnostics: what the policy had to say: a dict of arrays.
    """

    states: Any
    futures: Any
    branches: Any
    diagnostics: Any


def check_sequences(name: str, value: Any) -> None:
    """Raise `UsageError` unless `value` has a time and a channel axis, neither empty."""
    shape = np.shape(value)
    if len(shape) < 2 or 0 in shape[-2:]:
        raise UsageError(
            f"{name} must be sequences [..., time, channel], at least one step of one channel, got shape {shape}."
        )


class Node(eqx.Module):
    """Cell, projector and policy.

    Attributes:
        cell: from inputs to states.
        projector: from states to branches.
        policy: from branches to one future.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.hypercausal import Node, TanhCell
        >>> Node(TanhCell(0.9, 0.03))(jnp.zeros((48, 3)), branches=5).branches.shape
        (5, 48, 3)
    """

    cell: AbstractCell
    projector: AbstractProjector = LinearProjector()
    policy: AbstractPolicy = MeanPolicy()

    def __call__(
        self, inputs: Float[Array | np.ndarray, "*batch time channel"], *, depth: Any = 1, branches: int = 2
    ) -> Prediction:
        """State, branches and future of every time step.

        Args:
            inputs: any number of sequences.
            depth: recursion depth: an int, or an integer scalar array that may change at run time.
            branches: how many futures the projector is asked for, at least 2.

        Raises:
            UsageError: the inputs don't fit the parameters, or branches or depth is out of range.
        """
        check_sequences("inputs", inputs)
        depth = as_depth(depth)
        states = self.cell(inputs, depth=depth)
        projected = self.projector(states, branches=check_branches(branches), depth=depth)
        future, diagnostics = self.policy(projected)
        return Prediction(states, future, projected, diagnostics)


def gather(names: Any, predictions: list[Prediction]) -> Prediction:
    """One `Prediction` of many: tuples if `names` is None, else dicts by name."""
    columns = zip(*predictions, strict=True)
    if names is None:
        return Prediction(*map(tuple, columns))
    return Prediction(*(dict(zip(names, column, strict=True)) for column in columns))
