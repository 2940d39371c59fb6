"""The surrogates in use, each with its g(v), its mass ∫ g and its width.

Peaks, tails and masses differ: where g has compact support (`Triangular`, `Boxcar`), a unit that stays away from its
threshold has a gradient of exactly 0 and does not come back by itself.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp

from ...core import UsageError
from ._base import Floats, Surrogate


@dataclasses.dataclass(frozen=True)
class SuperSpike(Surrogate):
    """g(v) = 1 / (1 + k·|v|)²: heavy tails, peak 1, mass 2/k.

    The derivative of a fast sigmoid (Zenke and Ganguli 2018, "SuperSpike", Neural Computation 30(6), eq. 3).

    Attributes:
        steepness: k.
    """

    steepness: float = 25.0

    def unscaled(self, v: Floats) -> Floats:
        """1 / (1 + k·|v|)²."""
        return 1.0 / jnp.square(1.0 + self.steepness * jnp.abs(v))


@dataclasses.dataclass(frozen=True)
class ArcTan(Surrogate):
    """g(v) = 1 / (π·(1 + (π·k·v)²)): a Cauchy bell, peak 1/π whatever k is, mass 1/(π·k).

    Fang et al. 2021, "Incorporating learnable membrane time constant", ICCV, have (α/2) / (1 + (π·α·v/2)²), of mass 1:
    that is ``ArcTan(steepness=α/2, scale=π*α/2)``. The peak of 1/π costs a factor of three a layer; such a scale
    restores it.

    Attributes:
        steepness: k.
    """

    steepness: float = 2.0

    def unscaled(self, v: Floats) -> Floats:
        """1 / (π·(1 + (π·k·v)²))."""
        return (1.0 / math.pi) / (1.0 + jnp.square((math.pi * self.steepness) * v))


@dataclasses.dataclass(frozen=True)
class SechSquared(Surrogate):
    """g(v) = sech²(k·v): tails that fall like exp(-2k·|v|), peak 1, mass 2/k.

    The derivative of tanh without its factor k; 4·p·(1 - p) for the logistic p of 2k·v.

    Attributes:
        steepness: k.
    """

    steepness: float = 1.0

    def unscaled(self, v: Floats) -> Floats:
        """sech²(k·v), by exponentials that cannot overflow."""
        tail = jnp.exp((-2.0 * self.steepness) * jnp.abs(v))
        return 4.0 * tail / jnp.square(1.0 + tail)


@dataclasses.dataclass(frozen=True)
class Triangular(Surrogate):
    """g(v) = max(0, 1 - k·|v|): compact support |v| < 1/k, peak 1, mass 1/k.

    Esser et al. 2016, "Convolutional networks for fast, energy-efficient neuromorphic computing", PNAS 113(41);
    Bellec et al. 2018, "Long short-term memory and learning-to-learn in networks of spiking neurons", with scale 0.3.

    Attributes:
        steepness: k.
    """

    steepness: float = 2.0

    def unscaled(self, v: Floats) -> Floats:
        """max(0, 1 - k·|v|)."""
        return jnp.maximum(0.0, 1.0 - self.steepness * jnp.abs(v))


@dataclasses.dataclass(frozen=True)
class Boxcar(Surrogate):
    """g(v) = h where |v| < w/2, else 0, at |v| = w/2 too: compact support, mass h·w.

    The straight-through estimator that saturates (Hubara et al. 2016, "Binarized neural networks", section 2.3).

    Attributes:
        width: w.
        height: h.
    """

    width: float = 2.0
    height: float = 0.5

    def unscaled(self, v: Floats) -> Floats:
        """h within half a width of the threshold."""
        return jnp.where(jnp.abs(v) < self.width / 2, self.height, 0.0).astype(v.dtype)


@dataclasses.dataclass(frozen=True)
class StraightThrough(Surrogate):
    """g(v) = 1 everywhere (Bengio, Léonard, Courville 2013, arXiv:1308.3432, section 4)."""

    def unscaled(self, v: Floats) -> Floats:
        """1."""
        return jnp.ones_like(v)


@dataclasses.dataclass(frozen=True)
class HardThreshold(Surrogate):
    """g(v) = 0: the step with its true derivative, for methods that need only its values."""

    def unscaled(self, v: Floats) -> Floats:
        """0."""
        return jnp.zeros_like(v)


@dataclasses.dataclass(frozen=True)
class CustomSurrogate(Surrogate):
    """g(v) = function(v): any function of arrays, elementwise.

    Two of them are equal, and share a compiled program, if their functions are the same object: define the function
    once, not as a lambda in a loop.

    Attributes:
        function: g, from an array to one of the same shape and dtype.

    Examples:
        >>> gaussian = CustomSurrogate(lambda v: jnp.exp(-v * v))
        >>> gaussian.derivative(jnp.array([0.0, 1.0]))
        Array([1.        , 0.36787945], dtype=float32)
    """

    function: Any

    def __post_init__(self) -> None:
        super().__post_init__()
        if not callable(self.function):
            raise UsageError(f"CustomSurrogate takes a function of an array, got {self.function!r}.")

    def unscaled(self, v: Floats) -> Floats:
        """function(v)."""
        found = self.function(v)
        if jnp.shape(found) != v.shape:
            raise UsageError(f"a surrogate's function must keep the shape {v.shape}; it returned {jnp.shape(found)}.")
        return jnp.asarray(found).astype(v.dtype)
