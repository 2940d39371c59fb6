"""Contrafactual anticipation: the projector's futures, and what they would be if something else happened.

With base branches B (K rows), their mean c and perturbations p_1 … p_P, the rows are

    B,  p_1(c),  2c - p_1(c),  p_2(c),  2c - p_2(c),  …

(the mirrored rows only if `symmetric`). Source: the published hypercausal system; cutting and padding to a
fixed number of rows follows its case study.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import UsageError, whole_number
from ._numbers import Fixed, Number, as_number, check_branches
from ._projectors import AbstractProjector

Perturbation = Callable[[Array], Array]
"""What might have happened instead: a function of ``[..., channel]`` that keeps the shape."""


class ShiftChannel(eqx.Module):
    """The perturbation that adds an amount to one channel.

    Attributes:
        channel: which, from 0.
        amount: a number, or a scalar array to be trained.

    Raises:
        UsageError: the channel is not an int of at least 0, or the state does not have it.
    """

    channel: int = eqx.field(static=True)
    amount: Number

    def __init__(self, channel: int, amount: Any):
        self.channel = whole_number("channel", channel, least=0)
        self.amount = as_number("amount", amount)

    def __call__(self, state: Float[Array, "*batch channel"]) -> Float[Array, "*batch channel"]:
        """`state` with the amount added to its channel."""
        channels = state.shape[-1]
        if self.channel >= channels:
            raise UsageError(
                f"ShiftChannel({self.channel}, ...) met a state of {channels} channels: 0 to {channels - 1}."
            )
        amount = self.amount.value if isinstance(self.amount, Fixed) else self.amount.astype(state.dtype)
        here = (np.arange(channels) == self.channel).astype(state.dtype).reshape((1,) * (state.ndim - 1) + (-1,))
        return state + amount * jnp.asarray(here)


class ContrafactualAnticipator(AbstractProjector):
    """The branches of another projector, followed by perturbed copies of their mean.

    The number of rows is its own affair: K + P (2P if symmetric), or `total`. The model's `branches` is
    not used.

    Attributes:
        projector: gives the base branches.
        perturbations: functions of ``[..., channel]`` that keep the shape, such as `ShiftChannel`.
        branches: K, how many base branches.
        symmetric: whether each perturbed row is followed by its mirror image about the mean.
        total: None, or cut to so many rows, or repeat the last row to reach them.

    Raises:
        UsageError: fewer than 2 base branches or rows in total.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.hypercausal import ContrafactualAnticipator, LinearProjector, ShiftChannel
        >>> ContrafactualAnticipator(LinearProjector(), [ShiftChannel(0, 0.1)])(jnp.zeros((48, 3))).shape
        (5, 48, 3)
    """

    projector: AbstractProjector
    perturbations: tuple[Perturbation, ...]
    branches: int = eqx.field(static=True)
    symmetric: bool = eqx.field(static=True)
    total: int | None = eqx.field(static=True)

    def __init__(
        self,
        projector: AbstractProjector,
        perturbations: Sequence[Perturbation],
        *,
        branches: int = 3,
        symmetric: bool = True,
        total: int | None = None,
    ):
        self.projector = projector
        self.perturbations = tuple(perturbations)
        self.branches = check_branches(branches)
        self.symmetric = symmetric
        self.total = None if total is None else whole_number("total", total, least=2)

    def __call__(
        self, states: Float[Array, "*batch time channel"], *, branches: int = 2, depth: Any = 1
    ) -> Float[Array, "branch *batch time channel"]:
        """Base rows first, then each perturbation's; `branches` is ignored."""
        base = self.projector(states, branches=self.branches, depth=depth)
        centre = jnp.mean(base, axis=0)
        rows = []
        for perturb in self.perturbations:
            moved = perturb(centre)
            rows += [moved, 2.0 * centre - moved] if self.symmetric else [moved]
        missing = 0 if self.total is None else self.total - self.branches - len(rows)
        last = rows[-1] if rows else base[-1]
        rows += [last] * missing
        result = jnp.concatenate([base, *(row[None] for row in rows)], axis=0)
        return result if self.total is None else result[: self.total]
