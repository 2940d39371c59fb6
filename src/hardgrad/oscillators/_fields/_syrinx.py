"""The syrinx field: the labia of a bird's syrinx, driven by air-sac pressure and labial tension.

    x'' = g² (α + β x + x² - x³) - g (δ + x + x²) v,        g = τγ = softplus(θ)

in rescaled time; α is the pressure, β the tension, δ an added linear damping that the published equation lacks (0
recovers it), γ the rate of the physical system and τ one sample.

Source: Arneodo et al. 2021, Curr. Biol., after Sitt et al. 2010, PRE 81:031927; one learned rate as in the published
system.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError
from ._field import AbstractField, Drives, check_amplitude, check_outputs, scale_of
from ._sum import Exponents

_EXPONENTS: Exponents = ((0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (2, 1))


class SyrinxField(AbstractField):
    """x'' = g²(α + βx + x² - x³) - g(δ + x + x²)v with drives α, β, δ and a learned constant g > 0.

    The encoder gives three numbers a moment, α, β and δ, used as they are. Start its heads at 0: the initial force is
    then not many times that of the sound.

    Attributes:
        theta: g = softplus(theta); trained with the encoder.
        amplitude: scale a of the sound: the equation holds for x/a. 1 is the published form.

    Raises:
        UsageError: a rate or an amplitude that is not above 0.

    Examples:
        >>> field = SyrinxField(rate=0.5)
        >>> drives = field.drives(jnp.array([-0.15, -0.02, 0.0]))
        >>> field.acceleration(drives, jnp.array(0.2), jnp.array(0.1))  # 0.25·(-0.122) - 0.5·0.24·0.1
        Array(-0.0425, dtype=float32)
    """

    theta: Float[Array, ""]
    amplitude: float = eqx.field(static=True)

    def __init__(self, rate: float = 1.0, *, amplitude: float = 1.0, dtype: Any = None) -> None:
        """A field with a given g.

        Args:
            rate: initial g, the physical rate times the length of a sample.
            amplitude: scale of the sound.
            dtype: of theta; JAX's default float if None.
        """
        number = isinstance(rate, int | float) and not isinstance(rate, bool)
        if not number or not math.isfinite(rate) or rate <= 0:
            raise UsageError(f"rate must be a finite number above 0, g of the equation; got {rate!r}.")
        check_amplitude(amplitude)
        # softplus backwards; for a large g, e^-g is what is left of the logarithm
        self.theta = jnp.asarray(rate + math.log(-math.expm1(-rate)), dtype or jnp.result_type(float))
        self.amplitude = amplitude

    @property
    def outputs(self) -> int:
        """3: α, β and δ."""
        return 3

    @property
    def exponents(self) -> Exponents:
        """Powers 0 to 3 of x, and v, xv, x²v."""
        return _EXPONENTS

    def drives(self, raw: Float[Array, "*moments outputs"]) -> Drives:
        """``alpha``, ``beta`` and ``delta``, each ``[...]``.

        Raises:
            UsageError: another number of outputs.
        """
        check_outputs(self, raw)
        return {"alpha": raw[..., 0], "beta": raw[..., 1], "delta": raw[..., 2]}

    def coefficients(self, drives: Drives) -> Float[Array, "*moments terms"]:
        """g²α, g²β, g², -g², -gδ, -g and -g, each times a^(1-p-k)."""
        alpha, beta, delta = drives["alpha"], drives["beta"], drives["delta"]
        g = jax.nn.softplus(self.theta).astype(alpha.dtype)
        one = jnp.ones_like(alpha)
        square = jnp.square(g)
        found = [square * alpha, square * beta, square * one, -square * one, -g * delta, -g * one, -g * one]
        scales = jnp.array([scale_of(self.amplitude, p, k, alpha.dtype) for p, k in _EXPONENTS], alpha.dtype)
        return jnp.stack(found, axis=-1) * scales
