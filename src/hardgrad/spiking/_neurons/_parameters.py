"""Parameters of cells: decays in (0, 1) through a logit, thresholds above 0 through a softplus, both per unit.

A decay that is clipped to [0, 1] where it is used has no gradient outside, and stays there. Through
decay = 1 / (1 + exp(-raw)) every value of the parameter is a decay, and none is lost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ...core import UsageError, whole_number
from .._surrogates import Floats

_NEAREST = 1e-3  # a drawn decay keeps so far from 0 and 1


def _default_float() -> Any:
    """Given by name, or the array is weakly typed and compiles again after the first update."""
    return jnp.zeros(()).dtype


def shape_of_units(units: Any) -> tuple[int, ...]:
    """`units` as a shape: a number of units, or a shape of any rank."""
    sizes = tuple(units) if isinstance(units, Sequence) and not isinstance(units, str) else (units,)
    return tuple(whole_number("units", size, least=1) for size in sizes)


def raw_decay(name: str, start: float | None, units: tuple[int, ...], key: Key[Array, ""] | None) -> Array:
    """The logit of a decay, per unit.

    Args:
        name: of the decay, for messages.
        start: every unit's decay at first; None draws 0.5 + 0.25·N, N a standard normal cut at ±2.
        units: shape.
        key: of the draw.

    Raises:
        UsageError: a decay outside (0, 1), or one to draw without a key.
    """
    if start is None:
        if key is None:
            raise UsageError(f"{name}=None draws a {name} for each unit and needs a key; or give a number, {name}=0.9.")
        drawn = 0.5 + 0.25 * jax.random.truncated_normal(key, -2.0, 2.0, units)
        return jax.scipy.special.logit(jnp.clip(drawn, _NEAREST, 1.0 - _NEAREST))
    if not 0.0 < start < 1.0:
        raise UsageError(f"{name} must lie between 0 and 1, both excluded, got {start!r}. For no leak at all: IF.")
    return jnp.full(units, math.log(start) - math.log1p(-start), _default_float())


def raw_threshold(start: float, learned: bool, units: tuple[int, ...]) -> Array | None:
    """The inverse softplus of a threshold, per unit, or None where it is not learned.

    Raises:
        UsageError: a threshold that is not positive and finite.
    """
    if not (start > 0.0 and math.isfinite(start)):
        raise UsageError(f"threshold must be positive and finite, got {start!r}.")
    return jnp.full(units, start + math.log(-math.expm1(-start)), _default_float()) if learned else None


def decay_of(raw: Floats) -> Floats:
    """In (0, 1)."""
    return jax.nn.sigmoid(raw)


def threshold_of(raw: Floats | None, start: float) -> Any:
    """The number given, or what was learned."""
    return start if raw is None else jax.nn.softplus(raw)
