"""Projectors: from one state to K possible futures, the branches.

Linear projector (a weight, c bias, σ span, K branches k = 0 … K-1, d the depth):

    F[k] = tanh(a s + c + δ_k),    δ_k = k · 2σ/(K-1) - σ,    δ_{K-1} = σ exactly
    σ(d) = max(floor, σ / (1 + κ (d - 1)))

Source: the published hypercausal system. Branches come first, ``[K, ..., time, channel]``: a mean over
them then adds K contiguous slabs, which is what a CPU does best.
"""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import UsageError
from ._numbers import Fixed, Number, as_depth, as_number, check_channels, is_fixed, per_channel


class AbstractProjector(eqx.Module):
    """Turns states into branches."""

    @abc.abstractmethod
    def __call__(
        self, states: Float[Array, "*batch time channel"], *, branches: int = 2, depth: Any = 1
    ) -> Float[Array, "branch *batch time channel"]:
        """The branches of every state.

        Args:
            states: what a cell returned.
            branches: how many the model asks for.
            depth: the recursion depth, an int or an integer scalar array.
        """


def even_offsets(span: Any, branches: int) -> Any:
    """K numbers from -span to +span, in the published order of rounding, float64.

    Args:
        span: a number, or an array ``[..., 1]`` of them.
        branches: K, at least 2.

    Returns:
        A NumPy array ``[..., K]``.
    """
    span = np.asarray(span, dtype=np.float64)
    offsets = np.arange(branches) * (2.0 * span / (branches - 1)) + (-span)
    return np.where(np.arange(branches) == branches - 1, span, offsets)


class LinearProjector(AbstractProjector):
    """F[k] = tanh(a s + c + δ_k), with δ evenly from -σ to +σ.

    Numbers given as Python floats are constants; given as arrays they are trained.

    Attributes:
        weight: a: a number, or an array: a scalar or ``[D]``.
        bias: c: a number, or an array: a scalar or ``[D]``.
        span: σ at depth 1, at least 0: a number or a scalar array.
        span_floor: σ never falls below it. At least 0.
        span_depth_coefficient: κ, how fast σ shrinks with the depth. At least 0; 0 keeps it.

    Raises:
        UsageError: a number out of range or an array of another shape.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.hypercausal import LinearProjector
        >>> LinearProjector(span=0.22)(jnp.zeros((48, 3)), branches=5).shape
        (5, 48, 3)
    """

    weight: Number
    bias: Number
    span: Number
    span_floor: Number
    span_depth_coefficient: Number

    def __init__(
        self,
        weight: Any = 1.0,
        bias: Any = 0.0,
        span: Any = 0.2,
        *,
        span_floor: Any = 0.0,
        span_depth_coefficient: Any = 0.0,
    ):
        self.weight = as_number("weight", weight)
        self.bias = as_number("bias", bias)
        self.span = as_number("span", span, minimum=0.0)
        self.span_floor = as_number("span_floor", span_floor, minimum=0.0)
        self.span_depth_coefficient = as_number("span_depth_coefficient", span_depth_coefficient, minimum=0.0)
        for name in ("weight", "bias", "span", "span_floor", "span_depth_coefficient"):
            number, most = getattr(self, name), int(name in ("weight", "bias"))
            if not isinstance(number, Fixed) and number.ndim > most:
                allowed = "a scalar or [D]" if most else "a scalar"
                raise UsageError(f"{name} must be {allowed}, got shape {number.shape}.")

    def __call__(
        self, states: Float[Array, "*batch time channel"], *, branches: int = 2, depth: Any = 1
    ) -> Float[Array, "branch *batch time channel"]:
        """``[max(2, branches), ..., time, channel]``, in the dtype of `states`."""
        for name in ("weight", "bias"):
            if not isinstance(number := getattr(self, name), Fixed):
                check_channels(name, number.shape, states)
        centre = states
        if not is_fixed(self.weight, 1.0):
            centre = per_channel(self.weight, states) * centre
        if not is_fixed(self.bias, 0.0):
            centre = centre + per_channel(self.bias, states)
        offsets = self._offsets(max(2, branches), as_depth(depth), states.dtype)
        return jnp.tanh(centre[None] + offsets.reshape((-1,) + (1,) * states.ndim))

    def _offsets(self, branches: int, depth: Any, dtype: Any) -> Array:
        """δ, ``[branches]``."""
        numbers = (self.span, self.span_floor, self.span_depth_coefficient)
        if isinstance(depth, int) and all(isinstance(n, Fixed) for n in numbers):
            span, floor, coefficient = (n.value for n in numbers if isinstance(n, Fixed))
            known = max(floor, span / (1.0 + coefficient * (depth - 1)))
            return jnp.asarray(even_offsets(known, branches).astype(dtype))
        given: list[Any] = [n.value if isinstance(n, Fixed) else n.astype(dtype) for n in numbers]
        deeper = jnp.asarray(depth - 1).astype(dtype)
        narrowed = jnp.maximum(given[1], given[0] / (1.0 + given[2] * deeper))
        index = np.arange(branches)
        offsets = jnp.asarray(index.astype(dtype)) * (2.0 * narrowed / (branches - 1)) - narrowed
        return jnp.where(index == branches - 1, narrowed, offsets)
