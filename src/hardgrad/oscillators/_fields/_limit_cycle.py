"""The polynomial field written around a limit cycle, in units of its own period and amplitude.

    x'' = -ω² x - γ v - Σ w[p][k] x^p v^k,      w[p][k] = u[p][k] ω^(2-k) a^(1-p-k),   p + k ≤ degree

It is a polynomial field like any other; what differs is what the encoder's numbers r mean, and where they start. With
all u fixed, x/a as a function of ωt does not depend on ω: pitch is one drive, timbre the others, and a change of
timbre does not change the pitch by orders of magnitude. At r = 0 it is an asymmetric van der Pol oscillator,

    γ = -μω,   u[2][1] = 4μ,   u[1][1] = 8μb,   u[3][0] = 0.1,   u[0][3] = 0.02,    μ = 0.5, b = 0.2

of amplitude near a, which has harmonics for a vocal tract to shape, and which silence (γ > 0) turns off. u[2][1],
u[3][0] and u[0][3] stay positive, which pulls large states back. The linear oscillator's ω is the pitch to within
some percent.

Source: van der Pol 1926, Phil. Mag. 2:978; Mindlin et al. 2003, PRE 68:041908 (the same damping, of the syrinx).
"""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import whole_number
from ._field import AbstractField, Drives, check_amplitude, check_outputs
from ._sum import Exponents

_STRENGTH, _SKEW = 0.5, 0.2  # μ and b
_GATE = 0.6  # γ/ω a unit of r
_FORCE, _OTHERS = 0.03, 0.3  # u[0][0] and the other u a unit of r
_AT_REST = {(2, 1): 4.0 * _STRENGTH, (3, 0): 0.1, (0, 3): 0.02}  # positive ones: times e^r
_MOST = 3.0  # r beyond is bent: r ← 3 tanh(r/3)


class LimitCycleField(AbstractField):
    """x'' = -ω²x - γv - Σ ``w[p][k]`` x^p v^k around a limit cycle of amplitude a and angular frequency ω.

    The encoder gives ln ω (radians a sample), then γ's number, then one for each of the other terms in the order of
    `exponents`. All but the first are bent to ±3.

    Attributes:
        degree: highest p + k, at least 3.
        amplitude: a, the sound's peak.

    Raises:
        UsageError: a degree below 3, or an amplitude that is not above 0.

    Examples:
        >>> field = LimitCycleField(amplitude=0.1)
        >>> field.outputs, field.exponents
        (10, ((0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (3, 0)))
        >>> drives = field.drives(jnp.zeros(10).at[0].set(jnp.log(0.1)))
        >>> float(drives["omega"]), float(drives["gamma"])
        (0.1, -0.05)
    """

    degree: int = eqx.field(static=True, default=3)
    amplitude: float = eqx.field(static=True, default=0.1)

    def __check_init__(self) -> None:
        whole_number("degree", self.degree, least=3)
        check_amplitude(self.amplitude)

    @property
    def exponents(self) -> Exponents:
        """All pairs with p + k up to the degree, row by row."""
        return tuple((p, k) for p in range(self.degree + 1) for k in range(self.degree + 1 - p))

    @property
    def outputs(self) -> int:
        """One a term."""
        return len(self.exponents)

    @property
    def _others(self) -> Exponents:
        return tuple(pair for pair in self.exponents if pair not in ((1, 0), (0, 1)))

    def drives(self, raw: Float[Array, "*moments outputs"]) -> Drives:
        """``omega``, ``gamma``, both ``[...]``, and ``weights`` w ``[..., terms - 2]``, in the order of `exponents`
        without (1, 0) and (0, 1).

        Raises:
            UsageError: another number of outputs.
        """
        check_outputs(self, raw)
        omega = jnp.exp(raw[..., 0])
        bent = _MOST * jnp.tanh(raw[..., 1:] / _MOST)
        gamma = omega * (_GATE * bent[..., 0] - _STRENGTH)
        weights = [
            self._shape(pair, bent[..., i]) * omega ** (2 - pair[1]) * self.amplitude ** (1 - sum(pair))
            for i, pair in enumerate(self._others, start=1)
        ]
        return {"omega": omega, "gamma": gamma, "weights": jnp.stack(weights, axis=-1)}

    def _shape(self, pair: tuple[int, int], r: Array) -> Array:
        """u of one term."""
        if pair in _AT_REST:
            return _AT_REST[pair] * jnp.exp(r)
        start = 8.0 * _STRENGTH * _SKEW if pair == (1, 1) else 0.0
        return start + (_FORCE if pair == (0, 0) else _OTHERS) * r

    def coefficients(self, drives: Drives) -> Float[Array, "*moments terms"]:
        """-ω² for (1, 0), -γ for (0, 1), -w for the others."""
        own = {(1, 0): jnp.square(drives["omega"]), (0, 1): drives["gamma"]}
        own |= {pair: drives["weights"][..., i] for i, pair in enumerate(self._others)}
        return -jnp.stack([own[pair] for pair in self.exponents], axis=-1)
