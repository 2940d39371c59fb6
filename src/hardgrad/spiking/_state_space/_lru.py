"""LRU, the linear recurrent unit: a discrete diagonal recurrence with poles in a ring.

    λ = exp(-exp(ν) + i exp(ϑ)),   x_t = λ ⊙ x_{t-1} + exp(γ) ⊙ B u_t,   y_t = Re(C x_t) + D ⊙ u_t

As |λ| = exp(-exp(ν)) < 1 for every ν, the recurrence never grows. γ starts at ln √(1 - |λ|²), which gives states a
variance that does not depend on |λ| under white input, and is trained.

Source: Orvieto et al. 2023, arXiv:2303.06349, section 3 and appendix A.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ...core import UsageError, whole_number
from ._diagonal_scan import resolved
from ._layer import DiscreteStateSpace, StateSpaceLayer

_LEAST = 1e-6  # |λ|² and the phase start no closer to 0, nor |λ|² to 1


class LRU(StateSpaceLayer):
    """A linear sequence layer ``[batch, time, d_model] -> [batch, time, d_model]``.

    Attributes:
        log_decay: ν ``[d_state]``.
        log_phase: ϑ ``[d_state]``.
        log_gain: γ ``[d_state]``.
        input_weight: B ``[2, d_state, d_model]``, real and imaginary parts.
        output_weight: C ``[2, d_model, d_state]``.
        skip: D ``[d_model]``, or None.
        form: of `diagonal_scan`.

    At first λ is uniform in area in the ring r_min ≤ |λ| ≤ r_max, at angles from 0 to max_phase; the parts of B and C
    are normal with variances 1/(2·d_model) and 1/d_state, D standard normal.

    Args:
        d_model: channels of input and output.
        d_state: complex states.
        r_min: inner radius, at least 0.
        r_max: outer radius, at most 1.
        max_phase: largest angle, in radians.
        skip: whether there is a D.
        form: how the scan is computed, see `diagonal_scan`.
        key: of the draw.
        dtype: of the parameters.

    Raises:
        UsageError: a size is no whole number of at least 1, radii or angle out of range, another form.

    Examples:
        >>> layer = LRU(4, 8, r_min=0.9, key=jax.random.key(0))
        >>> layer.sequence(jnp.ones((2, 5, 4))).shape
        (2, 5, 4)
    """

    log_decay: Float[Array, " n"]
    log_phase: Float[Array, " n"]
    log_gain: Float[Array, " n"]
    input_weight: Float[Array, "2 n d"]
    output_weight: Float[Array, "2 d n"]
    skip: Float[Array, " d"] | None
    form: str = eqx.field(static=True)

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        r_min: float = 0.0,
        r_max: float = 1.0,
        max_phase: float = 2 * math.pi,
        skip: bool = True,
        form: str = "auto",
        key: Key[Array, ""],
        dtype: Any = jnp.float32,
    ):
        d_model = whole_number("d_model", d_model, least=1)
        d_state = whole_number("d_state", d_state, least=1)
        if not 0 <= r_min < r_max <= 1:
            raise UsageError(f"radii need 0 <= r_min < r_max <= 1, got {r_min!r} and {r_max!r}.")
        if not 0 < max_phase <= 2 * math.pi:
            raise UsageError(f"max_phase lies between 0 and 2π, got {max_phase!r}.")
        resolved(form)
        for_radius, for_phase, for_b, for_c, for_skip = jax.random.split(key, 5)
        squared = jax.random.uniform(for_radius, (d_state,), dtype, r_min**2, r_max**2)
        squared = jnp.clip(squared, _LEAST, 1.0 - _LEAST)
        self.log_decay = jnp.log(-0.5 * jnp.log(squared))
        phase = jax.random.uniform(for_phase, (d_state,), dtype, 0.0, max_phase)
        self.log_phase = jnp.log(jnp.maximum(phase, _LEAST))
        self.log_gain = 0.5 * jnp.log1p(-squared)
        self.input_weight = jax.random.normal(for_b, (2, d_state, d_model), dtype) / math.sqrt(2 * d_model)
        self.output_weight = jax.random.normal(for_c, (2, d_model, d_state), dtype) / math.sqrt(d_state)
        self.skip = jax.random.normal(for_skip, (d_model,), dtype) if skip else None
        self.form = form

    def prepared(self) -> DiscreteStateSpace:
        """The recurrence."""
        size, phase = jnp.exp(-jnp.exp(self.log_decay)), jnp.exp(self.log_phase)
        pole = jnp.stack([size * jnp.cos(phase), size * jnp.sin(phase)])
        into = jnp.exp(self.log_gain)[:, None] * self.input_weight
        return DiscreteStateSpace(pole, into, self.output_weight, self.skip, self.form)
