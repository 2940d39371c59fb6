"""How a rollout is kept within bounds.

    tanh    u ← B tanh(u/B)                                                          after every sample
    knee    u ← u                                            where |u| ≤ 0.8 B,
            u ← sign(u) (0.8 B + 0.2 B tanh((|u| - 0.8 B)/(0.2 B)))   elsewhere;     after every sample,
            and on what the non-linear terms see, at every stage

for u = x with B = `x_bound` and u = v with B = `v_bound`. The knee has slope 1 and no curvature where it begins, so it
changes nothing inside: the ODE is the one that is written down. The tanh is the published system's; it shrinks a
cycle of amplitude A by A²/(8 B²) a sample, a damping that no drive asked for.

Non-linear are all terms but x and v themselves, p + k ≠ 1. A stage of the integrator may lie outside the bounds, and
beyond 1 a high power overflows.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array

from ...core import UsageError, did_you_mean

Kind = Literal["knee", "tanh", "none"]
KINDS = ("knee", "tanh", "none")

# Where the knee begins, and how far it is from there to the bound.
KNEE, REST = 0.8, 0.2


@dataclasses.dataclass(frozen=True)
class Saturation:
    """Bounds of a rollout's state.

    Attributes:
        kind: ``"knee"``, the identity up to 0.8 of the bound; ``"tanh"``, the published form, with bounds 0.5 and 1.0
            in its recipe; ``"none"``.
        x_bound: bound of the sound, above 0; four times the largest peak is ample.
        v_bound: bound of its change per sample, above 0.

    Raises:
        UsageError: an unknown kind, or a bound that is not above 0.

    Examples:
        >>> Saturation()
        Saturation(kind='knee', x_bound=1.0, v_bound=2.0)
        >>> published = Saturation("tanh", x_bound=0.5, v_bound=1.0)
    """

    kind: str = "knee"
    x_bound: float = 1.0
    v_bound: float = 2.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"saturation is not {self.kind!r}. {did_you_mean(str(self.kind), KINDS)}")
        for name in ("x_bound", "v_bound"):
            bound = getattr(self, name)
            number = isinstance(bound, int | float) and not isinstance(bound, bool)
            if not number or not math.isfinite(bound) or bound <= 0:
                raise UsageError(f"{name} must be a finite number above 0; got {bound!r}.")


def knee(u: Array, bound: float) -> Array:
    """The identity up to 0.8 of the bound, then bent towards it."""
    size = jnp.abs(u)
    bent = KNEE * bound + REST * bound * jnp.tanh((size - KNEE * bound) * (1.0 / (REST * bound)))
    return jnp.where(size <= KNEE * bound, u, jnp.sign(u) * bent)


def saturate(kind: str, u: Array, bound: float) -> Array:
    """A state after a sample."""
    if kind == "tanh":
        return bound * jnp.tanh(u * (1.0 / bound))
    return knee(u, bound) if kind == "knee" else u


def saturate_slope(kind: str, after: Array, bound: float) -> Array:
    """Derivative of `saturate` where it left a state: 1 - t² for the tanh t, which that state tells."""
    if kind == "none":
        return jnp.ones_like(after)
    size = jnp.abs(after)
    knee_at, rest = (KNEE * bound, REST * bound) if kind == "knee" else (0.0, bound)
    bend = (size - knee_at) * (1.0 / rest)
    slope = 1 - bend * bend
    return jnp.where(size <= knee_at, jnp.ones_like(after), slope) if kind == "knee" else slope
