"""The polynomial field: a full tensor-product basis with a frequency and a damping of their own.

    x'' = -ω² x - γ v - Σ_{p,k=0..n} w[p][k] x^p v^k

w[1][0] and w[0][1] do not exist (ω and γ own the linear terms), nor does the constant force w[0][0] unless it is kept.
Source: the published system.
"""

from __future__ import annotations

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core import whole_number
from ._field import AbstractField, Drives, check_amplitude, check_outputs, scale_of
from ._sum import Exponents


class PolynomialField(AbstractField):
    """x'' = -ω² x - γ v - Σ ``w[p][k]`` x^p v^k with drives ω, γ and w; P = order + 1 powers of x and of v.

    The encoder gives 2 + P² numbers a moment: ω, γ, and w row by row. ω is taken by its absolute value. The three
    entries of w that may be masked are read and left out, so that their values, NaN included, reach nothing.

    Attributes:
        order: highest power of x and of v, from 1; 15 and more work.
        keep_const: whether ``w[0][0]``, a constant force, exists.
        amplitude: scale a of the sound. The encoder's weights are those of x/a, so that they need not span many
            powers of ten: ``w[p][k] = raw·a^(1-p-k)``. 1 is the published form.

    Raises:
        UsageError: an order below 1, or an amplitude that is not above 0.

    Examples:
        >>> field = PolynomialField(order=2)
        >>> field.outputs, field.exponents
        (11, ((0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)))
        >>> drives = field.drives(jnp.zeros((4, 50, 11)))
        >>> {name: drive.shape for name, drive in drives.items()}
        {'omega': (4, 50), 'gamma': (4, 50), 'weights': (4, 50, 3, 3)}
        >>> field.coefficients(drives).shape
        (4, 50, 8)
    """

    order: int = eqx.field(static=True, default=3)
    _: dataclasses.KW_ONLY
    keep_const: bool = eqx.field(static=True, default=False)
    amplitude: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        whole_number("order", self.order, least=1)
        check_amplitude(self.amplitude)

    @property
    def outputs(self) -> int:
        """2 + P²."""
        return 2 + (self.order + 1) ** 2

    @property
    def exponents(self) -> Exponents:
        """All pairs row by row: (0, 0) only if kept, (1, 0) and (0, 1) always."""
        P = self.order + 1
        return tuple((p, k) for p in range(P) for k in range(P) if self.keep_const or p + k > 0)

    def drives(self, raw: Float[Array, "*moments outputs"]) -> Drives:
        """``omega`` |raw₀|, ``gamma`` raw₁, both ``[...]``, and ``weights`` ``[..., P, P]``.

        Raises:
            UsageError: another number of outputs, or an amplitude whose powers the dtype cannot hold.
        """
        check_outputs(self, raw)
        P = self.order + 1
        weights = raw[..., 2:].reshape(*raw.shape[:-1], P, P)
        if self.amplitude != 1.0:
            weights = weights * self._scales(raw.dtype)
        return {"omega": jnp.abs(raw[..., 0]), "gamma": raw[..., 1], "weights": weights}

    def _scales(self, dtype: np.dtype) -> Array:
        P = self.order + 1
        return jnp.array([[scale_of(self.amplitude, p, k, dtype) for k in range(P)] for p in range(P)], dtype)

    def coefficients(self, drives: Drives) -> Float[Array, "*moments terms"]:
        """-ω² for (1, 0), -γ for (0, 1), ``-w[p][k]`` for the others."""
        P = self.order + 1
        w = drives["weights"].reshape(*drives["weights"].shape[:-2], P * P)
        stiffness = jnp.square(drives["omega"])[..., None]
        first = [w[..., :1]] if self.keep_const else []
        return -jnp.concatenate([*first, drives["gamma"][..., None], w[..., 2:P], stiffness, w[..., P + 1 :]], axis=-1)
