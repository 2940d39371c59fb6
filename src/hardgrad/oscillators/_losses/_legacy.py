"""The loss before rollouts: one-step regression, with a penalty on the polynomial's weights that grows with degree.

    error     mean_b Σ_t (x''_model - x''_data)²
    penalty   mean_b Σ_t Σ_{p,k} λ^(p+k) w[p][k]²

Source: the published system, whose validation penalty lacks the sum over time; here there is one definition.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...core import UsageError, finite_number, whole_number
from ._checks import Scalar, Values, rows


def one_step_loss(model: Values, data: Values) -> Scalar:
    """The squared error of accelerations ``[batch, time]``: summed over time, averaged over the batch.

    Args:
        model: x'' of the field at the recorded states.
        data: x'' of the recording. No gradient reaches it.

    Raises:
        UsageError: shapes that differ.

    Examples:
        >>> float(one_step_loss(jnp.ones((2, 8)), jnp.zeros((2, 8))))
        8.0
    """
    model, data = rows(model=model, data=data)
    return jnp.mean(jnp.sum(jnp.square(model - jax.lax.stop_gradient(data)), axis=1))


def weight_penalty(weights: Values, base: Any) -> Scalar:
    """The sum of squared weights, each times ``base`` to its total degree; averaged over the batch.

    Args:
        weights: ``[batch, time, P, P]``, the weight of x^p v^k at [p, k]; 0 where a term is masked.
        base: λ above 0, a number or a traced scalar; above 1 high degrees cost more.

    Raises:
        UsageError: another shape, or a number out of range.

    Examples:
        >>> float(weight_penalty(jnp.ones((1, 3, 2, 2)), 2.0))  # 3 (1 + 2 + 2 + 4)
        27.0
    """
    weights = jnp.asarray(weights)
    if weights.ndim != 4 or weights.shape[2] != weights.shape[3] or 0 in weights.shape:
        raise UsageError(f"weights must be [batch, time, P, P], got {weights.shape}.")
    if not isinstance(base, jax.Array):
        finite_number("base", base, above=0.0)
    powers = weights.shape[2]
    degree = jnp.arange(powers)[:, None] + jnp.arange(powers)
    price = jnp.asarray(base).astype(weights.dtype) ** degree.astype(weights.dtype)
    return jnp.sum(price * jnp.sum(jnp.square(weights), axis=(0, 1))) / weights.shape[0]


def penalty_values(order: int, count: int = 7) -> tuple[float, ...]:
    """The values of λ that the search tries: evenly spaced from 1.01 to 10^(4/(2 order)).

    At the last one, the highest degree, x^n v^n, costs 10⁴ times what a constant costs.

    Args:
        order: n, the highest power of x and of v, at least 1.
        count: how many, at least 1; one is 1.01 alone.

    Raises:
        UsageError: a number out of range.

    Examples:
        >>> [round(value, 3) for value in penalty_values(15)]
        [1.01, 1.068, 1.126, 1.185, 1.243, 1.301, 1.359]
    """
    order, count = whole_number("order", order, least=1), whole_number("count", count, least=1)
    return tuple(np.linspace(1.01, 10.0 ** (4.0 / (2.0 * order)), count).tolist())
