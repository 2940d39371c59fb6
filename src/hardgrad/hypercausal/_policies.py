"""Policies: from K projected futures to one.

    mean      ŝ = mean over k of F[k]
    median    ŝ = element-wise median (K even: the mean of the two in the middle)
    min-risk  ŝ = F[k*],  k* the first k of least risk(F[k])

Source: the published hypercausal system. Branches come first: ``[K, ..., channel]``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Diagnostics = dict[str, Array]


class AbstractPolicy(eqx.Module):
    """Turns branches into one future."""

    @abc.abstractmethod
    def __call__(
        self, branches: Float[Array, "branch *batch channel"]
    ) -> tuple[Float[Array, "*batch channel"], Diagnostics]:
        """The future, and what the policy has to say about its choice (arrays by name)."""


class MeanPolicy(AbstractPolicy):
    """The mean of all branches."""

    def __call__(
        self, branches: Float[Array, "branch *batch channel"]
    ) -> tuple[Float[Array, "*batch channel"], Diagnostics]:
        """The mean; no diagnostics."""
        return jnp.mean(branches, axis=0), {}


class MedianPolicy(AbstractPolicy):
    """The element-wise median of the branches; NaN where a branch is NaN."""

    def __call__(
        self, branches: Float[Array, "branch *batch channel"]
    ) -> tuple[Float[Array, "*batch channel"], Diagnostics]:
        """The median; no diagnostics."""
        if branches.shape[0] > _NETWORK:
            return jnp.median(branches, axis=0), {}
        return _median_by_network(branches), {}


_NETWORK = 16  # most rows for which the network is used: its size grows with their square


def _median_by_network(branches: Array) -> Array:
    """The median over axis 0 by odd-even transposition (Habermann 1972, "Parallel neighbor-sort").

    Whole slabs are compared and exchanged, K rounds of neighbours: on a CPU some forty times as fast as a
    sort along that axis. A NaN spreads to every row.
    """
    rows, count = list(branches), branches.shape[0]
    for start in range(count):
        for low in range(start % 2, count - 1, 2):
            pair = rows[low], rows[low + 1]
            rows[low], rows[low + 1] = jnp.minimum(*pair), jnp.maximum(*pair)
    middle = count // 2
    median: Array = rows[middle] if count % 2 else (rows[middle - 1] + rows[middle]) / 2
    return median


def l2_risk(branches: Float[Array, "*batch channel"]) -> Float[Array, "*batch"]:
    """The Euclidean norm over channels: a future near rest is a safe one."""
    return jnp.sqrt(jnp.sum(jnp.square(branches), axis=-1))


class MinRiskPolicy(AbstractPolicy):
    """The branch of least risk, the first of them if several share it.

    The choice is not differentiated, the chosen branch is.

    Attributes:
        risk: a score for ``[..., channel]``, lower is better: returns ``[...]``.
    """

    risk: Callable[[Array], Array] = eqx.field(static=True, default=l2_risk)

    def __call__(
        self, branches: Float[Array, "branch *batch channel"]
    ) -> tuple[Float[Array, "*batch channel"], Diagnostics]:
        """The branch, with ``chosen_index`` and ``min_score``, each ``[...]``."""
        scores = jax.lax.stop_gradient(self.risk(branches))
        chosen = jnp.argmin(scores, axis=0)
        # A mask and a sum instead of a gather: faster on a CPU, and its transpose is no scatter.
        rows = jnp.arange(branches.shape[0]).reshape((-1,) + (1,) * chosen.ndim)
        mask = rows == chosen[None]
        future = jnp.sum(jnp.where(mask[..., None], branches, 0), axis=0)
        return future, {"chosen_index": chosen, "min_score": jnp.min(scores, axis=0)}
