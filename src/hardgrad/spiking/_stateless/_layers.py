"""Layers without a state: functions of one sample at one time, mapped over batch and time by a `Network`."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from .._surrogates import SuperSpike, Surrogate

_SUPERSPIKE = SuperSpike()


class Flatten(eqx.Module):
    """All of a sample's axes as one, the last running fastest.

    Examples:
        >>> Flatten()(jnp.ones((2, 3, 4))).shape
        (24,)
    """

    def __call__(self, x: Array, *, key: Any = None) -> Array:
        """One sample of any rank."""
        return jnp.ravel(x)


class SumPool2d(eqx.nn.Pool):
    """Sums over windows: spikes stay whole numbers, as averages would not.

    Examples:
        >>> SumPool2d(2)(jnp.ones((1, 4, 4)))
        Array([[[4., 4.],
                [4., 4.]]], dtype=float32)
    """

    def __init__(
        self, kernel_size: int | tuple[int, int], stride: int | tuple[int, int] | None = None, padding: Any = 0
    ) -> None:
        """Make the layer.

        Args:
            kernel_size: of the window, height and width.
            stride: from window to window; None: windows side by side.
            padding: zeros around, as in `equinox.nn.AvgPool2d`.
        """
        super().__init__(
            init=0,
            operation=lax.add,
            num_spatial_dims=2,
            kernel_size=kernel_size,
            stride=kernel_size if stride is None else stride,
            padding=padding,
        )

    def __call__(self, x: Float[Array, "channels height width"], *, key: Any = None) -> Float[Array, "channels _ _"]:
        """One sample."""
        return super().__call__(x)


class Scale(eqx.Module):
    """A factor on each feature, trained with the rest.

    Attributes:
        scale: one number, or an array that broadcasts to a sample.
    """

    scale: Float[Array, "*shape"]

    def __call__(self, x: Float[Array, "*sample"], *, key: Any = None) -> Float[Array, "*sample"]:
        """One sample."""
        return x * self.scale


class SpikeThreshold(eqx.Module):
    """A spike wherever the input is above a threshold, without a membrane: after a `LeakyIntegrator`, for one.

    Attributes:
        threshold: one number, or an array that broadcasts to a sample.
        surrogate: the spike function.
    """

    threshold: Float[Array, "*shape"]
    surrogate: Surrogate = eqx.field(static=True)

    def __init__(self, threshold: Any = 1.0, *, surrogate: Surrogate = _SUPERSPIKE) -> None:
        """Make the layer.

        Args:
            threshold: a number, or an array that broadcasts to a sample; trained with the rest.
            surrogate: the spike function.
        """
        self.threshold = jnp.asarray(threshold, None if hasattr(threshold, "dtype") else float)
        self.surrogate = surrogate

    def __call__(self, x: Float[Array, "*shape"], *, key: Any = None) -> Float[Array, "*shape"]:
        """One sample: 1 where x > threshold, else 0."""
        return self.surrogate(x - self.threshold)
