"""S5: a continuous diagonal state space, sampled at steps it learns.

    ẋ = A ⊙ x + B u,  A = -softplus(ρ) + iω,      y = Re(C x) + D ⊙ u
    held over steps Δ = exp(log Δ) (zero-order hold):   λ = exp(A Δ),   B̄ = (λ - 1)/A · B

A number per state for A and Δ. As Re A < 0 for every value of the parameters, the recurrence never grows. (λ - 1)/A is
computed as Δ · (exp z - 1)/z of z = A Δ by real functions without cancellation, exact to rounding down to z = 0.

States are not kept in conjugate pairs: they are the halves with ω ≥ 0, and Re doubles nothing; a factor 2 would only
rescale C, which is drawn.

Sources: Smith, Warrington & Linderman 2023, arXiv:2208.04933 (eq. 6, section 3); Gu et al. 2022,
arXiv:2206.11893 (S4D-Lin and S4D-LegS poles).
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ...core import UsageError, did_you_mean, whole_number
from ._diagonal_scan import resolved
from ._layer import DiscreteStateSpace, StateSpaceLayer

POLES = ("linear", "legs")


class S5(StateSpaceLayer):
    """A linear sequence layer ``[batch, time, d_model] -> [batch, time, d_model]``.

    Attributes:
        raw_decay: ρ ``[d_state]``: -Re A is its softplus.
        frequency: ω = Im A ``[d_state]``.
        log_step: ln Δ ``[d_state]``.
        input_weight: B ``[2, d_state, d_model]``, real and imaginary parts.
        output_weight: C ``[2, d_model, d_state]``.
        skip: D ``[d_model]``, or None.
        form: of `diagonal_scan`.

    At first Δ is log-uniform in [step_min, step_max]; the parts of B and C are normal with variances 1/(2·d_model) and
    1/(2·d_state), D standard normal.

    Args:
        d_model: channels of input and output.
        d_state: complex states.
        poles: A at first: ``"linear"`` is -½ + iπn, n = 0, 1, ...; ``"legs"`` the eigenvalues above the real axis of
            the normal part of the HiPPO-LegS matrix of size 2·d_state.
        step_min: least Δ at first.
        step_max: largest Δ at first.
        skip: whether there is a D.
        form: how the scan is computed, see `diagonal_scan`.
        key: of the draw.
        dtype: of the parameters.

    Raises:
        UsageError: a size is no whole number of at least 1, steps out of order, other poles or form.

    Examples:
        >>> layer = S5(4, 8, key=jax.random.key(0))
        >>> inputs = jnp.ones((2, 5, 4))
        >>> whole = layer.sequence(inputs)
        >>> state, first = layer.step(layer.init_state(2), inputs[:, 0])
        >>> whole.shape, state.shape, bool(jnp.allclose(whole[:, 0], first, atol=1e-5))
        ((2, 5, 4), (2, 2, 8), True)
    """

    raw_decay: Float[Array, " n"]
    frequency: Float[Array, " n"]
    log_step: Float[Array, " n"]
    input_weight: Float[Array, "2 n d"]
    output_weight: Float[Array, "2 d n"]
    skip: Float[Array, " d"] | None
    form: str = eqx.field(static=True)

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        poles: str = "linear",
        step_min: float = 1e-3,
        step_max: float = 1e-1,
        skip: bool = True,
        form: str = "auto",
        key: Key[Array, ""],
        dtype: Any = jnp.float32,
    ):
        d_model = whole_number("d_model", d_model, least=1)
        d_state = whole_number("d_state", d_state, least=1)
        if not 0 < step_min <= step_max < math.inf:
            raise UsageError(f"steps need 0 < step_min <= step_max, got {step_min!r} and {step_max!r}.")
        resolved(form)
        decay, frequency = initial_poles(poles, d_state)
        self.raw_decay = jnp.asarray(decay + np.log(-np.expm1(-decay)), dtype)  # the inverse of softplus
        self.frequency = jnp.asarray(frequency, dtype)
        for_steps, for_b, for_c, for_skip = jax.random.split(key, 4)
        self.log_step = jax.random.uniform(for_steps, (d_state,), dtype, math.log(step_min), math.log(step_max))
        self.input_weight = jax.random.normal(for_b, (2, d_state, d_model), dtype) / math.sqrt(2 * d_model)
        self.output_weight = jax.random.normal(for_c, (2, d_model, d_state), dtype) / math.sqrt(2 * d_state)
        self.skip = jax.random.normal(for_skip, (d_model,), dtype) if skip else None
        self.form = form

    def prepared(self) -> DiscreteStateSpace:
        """The recurrence: discretised by zero-order hold."""
        step = jnp.exp(self.log_step)
        decay, angle = -jax.nn.softplus(self.raw_decay) * step, self.frequency * step
        pole, gain = _held(decay, angle)
        re, im = step[:, None] * gain[0][:, None], step[:, None] * gain[1][:, None]
        b_re, b_im = self.input_weight
        into = jnp.stack([re * b_re - im * b_im, re * b_im + im * b_re])
        return DiscreteStateSpace(jnp.stack(pole), into, self.output_weight, self.skip, self.form)


def initial_poles(poles: str, d_state: int) -> tuple[np.ndarray, np.ndarray]:
    """Decays -Re A and frequencies Im A, ``[d_state]`` each.

    Raises:
        UsageError: other poles.
    """
    if poles == "linear":
        return np.full(d_state, 0.5), np.pi * np.arange(d_state)
    if poles == "legs":
        # The normal part of LegS is -½I + S, S skew-symmetric with √(2i+1)√(2j+1)/2 below the diagonal.
        root = np.sqrt(2.0 * np.arange(2 * d_state) + 1.0)
        below = np.tril(np.outer(root, root), -1) / 2
        return np.full(d_state, 0.5), np.sort(np.linalg.eigvalsh(1j * (below - below.T)))[d_state:]
    raise UsageError(f"poles are {' or '.join(POLES)}, not {poles!r}. {did_you_mean(str(poles), POLES)}")


def _held(a: Array, b: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """exp z and (exp z - 1)/z of z = a + ib, a ≤ 0.

    exp z - 1 = expm1(a) cos b - 2 sin²(b/2) + i exp(a) sin b, where nothing cancels.
    """
    size = jnp.exp(a)
    pole = size * jnp.cos(b), size * jnp.sin(b)
    above = jnp.expm1(a) * jnp.cos(b) - 2.0 * jnp.square(jnp.sin(b / 2.0))
    norm = a * a + b * b
    tiny = norm < np.finfo(a.dtype).tiny  # the square underflows: the quotient is 1 to rounding
    norm = jnp.where(tiny, 1.0, norm)
    re, im = (above * a + pole[1] * b) / norm, (pole[1] * a - above * b) / norm
    return pole, (jnp.where(tiny, 1.0, re), jnp.where(tiny, 0.0, im))
