"""What a field is: the right-hand side of a second-order ODE of sound, in rescaled time.

    x'' = Σ_j c_j(t) x^p_j v^k_j,        v = x',        unit of time: one sample

The exponents (p_j, k_j) are fixed; the coefficients c_j follow from *drives*, which an encoder gives moment by moment.
"""

from __future__ import annotations

import abc
import math
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from ...core import UsageError
from ._sum import Exponents, evaluate

Drives = dict[str, Array]


class AbstractField(eqx.Module):
    """A right-hand side Σ_j c_j x^p_j v^k_j whose coefficients follow from drives."""

    @property
    @abc.abstractmethod
    def exponents(self) -> Exponents:
        """(power of x, power of v) of each term; masked terms are not among them."""

    @property
    @abc.abstractmethod
    def outputs(self) -> int:
        """How many numbers a moment the encoder gives."""

    @abc.abstractmethod
    def drives(self, raw: Float[Array, "*moments outputs"]) -> Drives:
        """The encoder's numbers, named, shaped and made admissible. They may be smoothed before they are used.

        Raises:
            UsageError: another number of outputs.
        """

    @abc.abstractmethod
    def coefficients(self, drives: Drives) -> Float[Array, "*moments terms"]:
        """The coefficient of each term, in the order of `exponents`."""

    def acceleration(
        self, drives: Drives, x: Float[Array, "*moments"], v: Float[Array, "*moments"]
    ) -> Float[Array, "*moments"]:
        """x'' per sample² at given states: the model's answer when it is teacher forced."""
        return evaluate(self.exponents, self.coefficients(drives), x, v)


def check_outputs(field: AbstractField, raw: Any) -> None:
    """Raise `UsageError` unless the last axis of `raw` is what the field asks for."""
    if raw.ndim < 1 or raw.shape[-1] != field.outputs:
        raise UsageError(
            f"{type(field).__name__} takes {field.outputs} numbers a moment on the last axis; got shape {raw.shape}."
        )


def check_amplitude(amplitude: Any) -> None:
    """Raise `UsageError` unless it is a finite number above 0."""
    number = isinstance(amplitude, int | float) and not isinstance(amplitude, bool)
    if not number or not math.isfinite(amplitude) or amplitude <= 0:
        raise UsageError(f"amplitude must be a finite number above 0, the scale of the sound; got {amplitude!r}.")


def scale_of(amplitude: float, p: int, k: int, dtype: Any) -> float:
    """a^(1 - p - k), which takes the coefficient of a term for x/a to that for x.

    Raises:
        UsageError: it is out of the dtype's range.
    """
    with np.errstate(over="ignore", under="ignore"):
        scale = float(np.asarray(np.power(np.float64(amplitude), 1 - p - k)).astype(dtype))
    if scale == 0.0 or not math.isfinite(scale):
        raise UsageError(
            f"amplitude {amplitude:g} is out of reach of {np.dtype(dtype).name} for the term x^{p} v^{k}, whose "
            f"coefficient it scales by {amplitude:g}^{1 - p - k}; lower the order or use float64."
        )
    return scale
