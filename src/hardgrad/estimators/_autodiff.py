"""Order 1: reverse-mode automatic differentiation, exact up to rounding."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ..core import AbstractEstimator, Contract, Controls, Estimate, LossFunction, Order, Params


class Autodiff(AbstractEstimator):
    """The exact derivative of the objective as JAX sees it, surrogates included.

    Examples:
        >>> import jax
        >>> import hardgrad as hg
        >>> loss = lambda p: (p**2, {})
        >>> estimate, _ = hg.Autodiff().estimate(loss, 3.0, (), controls={}, key=jax.random.key(0))
        >>> float(estimate.gradient)
        6.0
    """

    @property
    def contract(self) -> Contract:
        """Order 1: one forward and one backward pass."""
        return Contract(Order.ONE, needs_key=False, fixed_evaluations=1, backward_passes=1)

    def init(self, params: Params) -> Any:
        """No state."""
        return ()

    def estimate(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Estimate, Any]:
        """One forward and one backward pass."""
        (loss, metrics), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params)
        gradient = jax.tree.map(jnp.conj, gradient)  # complex parameters: descend along it; real ones: as it was
        return Estimate(loss, gradient, metrics, {}), state
