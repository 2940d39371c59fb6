"""What every surrogate shares: H(v) forwards, and g(v) wherever JAX asks for the derivative of H.

The spike is the step H(v) = 1 for v > 0, else 0, whose derivative is 0 almost everywhere. A surrogate puts a function g
in its place (Neftci, Mostafa, Zenke 2019, "Surrogate gradient learning in spiking neural networks", IEEE Signal
Processing Magazine 36(6)). If the membrane carried noise of density g, the expected spike would be the integral of g,
and g its true derivative: a steepness is a noise level, and an evolution strategy smooths the same way, in the
parameters instead of the membrane.
"""

from __future__ import annotations

import abc
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError

Floats = Float[Array, "..."]


@dataclasses.dataclass(frozen=True)
class Surrogate(abc.ABC):
    """A step whose derivative is replaced.

    ``surrogate(v)`` is exactly 1 where v > 0 and 0 elsewhere, at v = 0 too, in v's dtype; v is the membrane less its
    threshold. Its derivative, forward mode and reverse, is ``surrogate.derivative(v)``; that of the derivative is the
    ordinary one. Frozen and hashable: part of a program, never a parameter.

    Attributes:
        scale: factor on the derivative.

    Raises:
        UsageError: a number that is not positive and finite.

    Examples:
        >>> from hardgrad.spiking import SuperSpike
        >>> spike = SuperSpike(steepness=2.0)
        >>> spike(jnp.array([-0.5, 0.0, 0.5]))
        Array([0., 0., 1.], dtype=float32)
        >>> jax.grad(lambda v: spike(v))(jnp.array(0.5))
        Array(0.25, dtype=float32)
    """

    scale: float = dataclasses.field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not callable(value) and not (number and math.isfinite(value) and value > 0):
                raise UsageError(f"{name} of {type(self).__name__} must be positive and finite, got {value!r}.")

    @abc.abstractmethod
    def unscaled(self, v: Floats) -> Floats:
        """g(v) at scale 1."""

    def derivative(self, v: Floats) -> Floats:
        """What stands for the derivative of the step at v: scale · g(v)."""
        found = self.unscaled(v)
        return found if self.scale == 1.0 else self.scale * found

    def __call__(self, v: Floats) -> Floats:
        """Spikes: 1 where v > 0, else 0."""
        return _spike(self, v)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _spike(surrogate: Surrogate, v: Array) -> Array:
    return (v > 0).astype(v.dtype)


@_spike.defjvp
def _spike_jvp(surrogate: Surrogate, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Array, Array]:
    (v,), (tangent,) = primals, tangents
    return _spike(surrogate, v), surrogate.derivative(jnp.asarray(v)) * tangent
