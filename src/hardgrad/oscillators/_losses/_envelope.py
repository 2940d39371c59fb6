"""Envelope losses: is the sound as loud as the target, moment by moment.

The envelope E(u) is |u| under a Gaussian low-pass. With a the generated sound and x the target:

    linear        mean_b [ mean_t |E_a - E_x| / (mean_t E_x + 1e-6) ]
    logarithmic   mean |ln (E_a + ε) - ln (E_x + ε)|

The linear one costs at most 1 for a sound that is too quiet, and K - 1 for one K times too loud: weighed heavily, it
drives a model into silence. The logarithmic one is nearly symmetric as long as ε is small beside both envelopes.

Source: the published system.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import finite_number
from .._encoders import gaussian_lowpass
from ._checks import Scalar, Values, rows
from ._slopes import absolute

_SILENT = 1e-6  # added to the target's mean envelope


def envelope(u: Values, sigma: float) -> Float[Array, "batch time"]:
    """|u| under a centred Gaussian low-pass.

    Args:
        u: sound ``[batch, time]``.
        sigma: standard deviation of the kernel in samples, at least 0; 0 leaves |u|. The published 2 ms are 88.2
            samples at 44,100 Hz.

    Returns:
        Of the shape of `u` and its unit, at least 0.

    Raises:
        UsageError: a shape or number out of range.
    """
    (u,) = rows(u=u)
    smooth = gaussian_lowpass(absolute(u), finite_number("sigma", sigma, least=0.0))
    return jnp.maximum(smooth, 0.0)  # rounding of a loud sound may leave a silence just below 0, where ln fails


def envelope_loss(generated: Values, target: Values) -> Scalar:
    """The linear loss of two envelopes ``[batch, time]``; no gradient reaches the target's.

    Raises:
        UsageError: shapes that differ.

    Examples:
        >>> target = jnp.full((2, 100), 0.5)
        >>> [round(float(envelope_loss(factor * target, target)), 2) for factor in (1.0, 28.0, 0.001)]
        [0.0, 27.0, 1.0]
    """
    generated, target = rows(generated=generated, target=target)
    target = jax.lax.stop_gradient(target)
    return jnp.mean(jnp.mean(absolute(generated - target), axis=1) / (jnp.mean(target, axis=1) + _SILENT))


def envelope_log_loss(generated: Values, target: Values, epsilon: Any = 1e-4) -> Scalar:
    """The logarithmic loss of two envelopes ``[batch, time]``; no gradient reaches the target's.

    Args:
        generated: the envelope of the generated sound.
        target: that of the target.
        epsilon: ε above 0, in the unit of the envelopes, a number or a traced scalar: what is quieter counts as silent.

    Raises:
        UsageError: shapes that differ, or a number out of range.

    Examples:
        >>> target = jnp.full((2, 100), 0.00389)  # ε caps what a silent sound costs
        >>> [round(float(envelope_log_loss(factor * target, target)), 2) for factor in (1.0, 28.0, 1 / 1430)]
        [0.0, 3.31, 3.66]
    """
    generated, target = rows(generated=generated, target=target)
    if not isinstance(epsilon, jax.Array):
        finite_number("epsilon", epsilon, above=0.0)
    epsilon = jnp.asarray(epsilon).astype(generated.dtype)
    return jnp.mean(absolute(jnp.log((generated + epsilon) / (jax.lax.stop_gradient(target) + epsilon))))
