"""The teacher-forced anchor: the model's acceleration at the recorded state against the recorded one.

    L = mean (x''_model - x''_data)² / V

with V the variance of x''_data over the training set, computed once: batches of onsets are almost silent, and their
own variance would make the quotient explode. Source: the published system.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ...core import UsageError, finite_number, whole_number
from ._checks import Scalar, Values, rows


def anchor_loss(model: Values, data: Values, variance: Any = None, *, floor: float | None = None) -> Scalar:
    """The squared error of accelerations ``[batch, time]``, divided by a variance.

    Args:
        model: x'' of the field at the recorded states.
        data: x'' of the recording. No gradient reaches it.
        variance: V, a number or a traced scalar, as of `anchor_variance`; None: that of the batch, unbiased.
        floor: V is at least this, above 0; None: as published, 1e-6 for a given variance, 1e-3 for that of the batch.
            The sound's x'' in units of amplitude per sample² is small (a ω²/√2 rms for a sine): give a floor of the
            data's own size for quiet or low-pitched sound.

    Raises:
        UsageError: shapes that differ, or a number out of range.

    Examples:
        >>> float(anchor_loss(jnp.ones((2, 8)), jnp.zeros((2, 8)), 4.0))
        0.25
    """
    model, data = rows(model=model, data=data)
    data = jax.lax.stop_gradient(data)
    given = variance is not None
    least = (1e-6 if given else 1e-3) if floor is None else finite_number("floor", floor, above=0.0)
    if not given:
        variance = jnp.var(data, ddof=1)
    elif not isinstance(variance, jax.Array):
        variance = finite_number("variance", variance, least=0.0)
    return jnp.mean(jnp.square(model - data)) / jnp.maximum(jnp.asarray(variance).astype(model.dtype), least)


def anchor_variance(
    accelerations: Float[np.ndarray, "examples time"], batch_size: int, *, floor: float = 1e-6
) -> float:
    """V of a training set: the unbiased variances of its batches, averaged with the batches' sizes as weights.

    Args:
        accelerations: x'' of the recordings ``[examples, time]``, taken in this order.
        batch_size: examples in a batch, at least 1; the last batch may be smaller.
        floor: the least that is returned, above 0.

    Returns:
        The variance, in float64.

    Raises:
        UsageError: fewer than two moments, a value that is not finite, or a number out of range.

    Examples:
        >>> round(anchor_variance(np.array([[0.0, 2.0], [1.0, 1.0], [0.0, 4.0]]), batch_size=2), 4)
        3.1111
    """
    batch_size = whole_number("batch_size", batch_size, least=1)
    finite_number("floor", floor, above=0.0)
    if accelerations.ndim != 2 or accelerations.shape[0] < 1 or accelerations.shape[1] < 2:
        raise UsageError(f"accelerations must be [examples, time] with time at least 2, got {accelerations.shape}.")
    values = np.asarray(accelerations, np.float64)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise UsageError(f"accelerations must be finite; example {row} is not. Mend or drop its recording.")
    batches = [values[start : start + batch_size] for start in range(0, len(values), batch_size)]
    total = sum(float(np.var(batch, ddof=1)) * len(batch) for batch in batches)
    return max(total / len(values), floor)
