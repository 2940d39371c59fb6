"""Phases as real numbers, as unit complex numbers, and as the time of one spike.

A period of T steps is cut into T bins, bin k being the phases from 2πk/T - π up to 2π(k+1)/T - π. A phase is a spike
in its bin, and a spike is the phase in the middle of its bin: from phase to spike to phase the error is at most half a
bin, π/T, and nothing is biased. A unit that is silent for the whole period has no phase; what it is read as is for the
caller to say.

Complex numbers are pairs of real arrays on the last axis, ``[..., 2]``: (real, imaginary).

Source of the codes: Frady & Sommer 2019, "Robust computation with rhythmic spike patterns", PNAS 116(36).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core import UsageError, whole_number


def real_to_phasor(x: Float[Array, "*shape"], *, scale: float = math.pi) -> Float[Array, "*shape 2"]:
    """exp(i·scale·x): real numbers from -1 to 1 as unit complex numbers.

    Args:
        x: of any shape.
        scale: radians of 1.

    Examples:
        >>> real_to_phasor(jnp.array([0.0, 0.5])).round(3) + 0.0
        Array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    angle = scale * x
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)


def phasor_to_real(z: Float[Array, "*shape 2"]) -> Float[Array, "*shape"]:
    """The real part."""
    return z[..., 0]


def phase_of(z: Float[Array, "*shape 2"]) -> Float[Array, "*shape"]:
    """The angle, in [-π, π]; that of 0 is 0, and its gradient too."""
    re, im = z[..., 0], z[..., 1]
    silent = (re == 0) & (im == 0)
    return jnp.arctan2(im, jnp.where(silent, 1.0, re))


def phase_to_phasor(phase: Float[Array, "*shape"]) -> Float[Array, "*shape 2"]:
    """exp(i·phase)."""
    return real_to_phasor(phase, scale=1.0)


def phase_to_spikes(
    phase: Float[Array, " batch *units"], steps: int, *, silent: Any = None
) -> Float[Array, "batch {steps} *units"]:
    """One spike a unit in a period, in the bin of its phase.

    Args:
        phase: in radians, of any turn: 3π is π.
        steps: T, of a period.
        silent: bool, of phase's shape: units that send no spike; None is none of them.

    Returns:
        Zeros and ones of phase's dtype.

    Raises:
        UsageError: steps is no whole number of at least 1.

    Examples:
        >>> phase_to_spikes(jnp.array([[-3.1, 0.1]]), 4)[0]
        Array([[1., 0.],
               [0., 0.],
               [0., 1.],
               [0., 0.]], dtype=float32)
    """
    steps = whole_number("steps", steps, least=1)
    turns = phase / (2 * math.pi) + 0.5
    place = jnp.floor((turns - jnp.floor(turns)) * steps).astype(jnp.int32)
    place = jnp.minimum(place, steps - 1)  # a tiny negative angle is one turn to rounding
    spikes = jax.nn.one_hot(place, steps, axis=1, dtype=phase.dtype)
    return spikes if silent is None else jnp.where(jnp.expand_dims(silent, 1), 0.0, spikes)


def spikes_to_phase(spikes: Float[Array, "batch time *units"], *, silent: float = 0.0) -> Float[Array, " batch *units"]:
    """The phase of a unit's spikes in a period: the direction of their mean, each in the middle of its bin.

    The mean is circular, so that spikes on both sides of ±π mean π and not 0. Where spikes cancel out there is no
    direction, and the unit counts as silent.

    Args:
        spikes: a period; values count as weights.
        silent: the phase that silent units are read as; 0 by default. `spikes_to_phasor` tells them apart.

    Raises:
        UsageError: no time steps.

    Examples:
        >>> spikes = jnp.zeros((1, 4, 3)).at[0, 2, 0].set(1).at[0, 2:, 1].set(1)
        >>> (spikes_to_phase(spikes)[0] / math.pi).round(4)  # bins are half of π wide; the third unit is silent
        Array([0.25, 0.5 , 0.  ], dtype=float32)
    """
    z = spikes_to_phasor(spikes)
    return jnp.where(jnp.sum(jnp.square(z), axis=-1) > 0, phase_of(z), silent)


def spikes_to_phasor(spikes: Float[Array, "batch time *units"]) -> Float[Array, "batch *units 2"]:
    """A unit's spikes as a unit complex number, and as 0 if it is silent, so that it adds nothing to a sum.

    Args:
        spikes: a period; values count as weights.

    Raises:
        UsageError: no time steps.
    """
    steps = spikes.shape[1]
    if steps == 0:
        raise UsageError(f"a period has at least one step; got spikes of shape {spikes.shape}.")
    middle = (2 * math.pi / steps) * (jnp.arange(steps, dtype=spikes.dtype) + 0.5) - math.pi
    total = jnp.einsum("bt...,tk->b...k", spikes, phase_to_phasor(middle))
    limits = np.finfo(spikes.dtype)
    size = jnp.sqrt(jnp.sum(jnp.square(total), axis=-1, keepdims=True) + limits.tiny)
    heard = size > steps * limits.eps  # what is left of spikes that cancel is rounding
    return jnp.where(heard, total / size, 0.0)
