"""Cells: what a node does to its input before it looks ahead.

Recursion in depth, without and with recurrence in time (D channels, time t, level j, depth d):

    s_t^(0) = x_t            or, with a recurrence u,   s_t^(0) = x_t + u s_{t-1}^(d),   s_{-1} = 0
    s_t^(j) = tanh(w s_t^(j-1) + b)                     j = 1 … d

Source: the published hypercausal system, whose w and b are scalars and which has no recurrence (its
previous state is handed on and never used). w and u may also be one number a channel, or a matrix that
mixes channels: (w s)_i = Σ_j w_ij s_j.
"""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import UsageError
from ._numbers import FloatArray, as_depth, as_parameter, check_channels, per_channel
from ._recursion import recurse


class AbstractCell(eqx.Module):
    """Turns a sequence of inputs into a sequence of states of the same shape."""

    @abc.abstractmethod
    def __call__(
        self, inputs: Float[Array | np.ndarray, "*batch time channel"], *, depth: Any = 1
    ) -> Float[Array, "*batch time channel"]:
        """The states, in the parameters' dtype.

        Args:
            inputs: any number of sequences.
            depth: recursion depth: an int, or an integer scalar array that may change at run time.
        """


def _apply(matrix_or_scale: Array, state: Array) -> Array:
    """A matrix that mixes channels, or a scale for all of them or for each."""
    if matrix_or_scale.ndim == 2:
        return jnp.einsum("ij,...j->...i", matrix_or_scale, state)
    scaled: Array = per_channel(matrix_or_scale, state) * state
    return scaled


def _level(params: tuple[Array, Array], state: Array) -> Array:
    weight, bias = params
    return jnp.tanh(_apply(weight, state) + per_channel(bias, state))


class TanhCell(AbstractCell):
    """s ← tanh(w s + b), `depth` times from the input; with `recurrence`, from input plus u·(last state).

    Without a recurrence the steps of a sequence do not depend on each other and are computed together;
    with one, time is a `jax.lax.scan`.

    Attributes:
        weight: w: a scalar, ``[D]`` (one a channel) or ``[D, D]`` (mixing channels). Its dtype is the cell's.
        bias: b: a scalar or ``[D]``.
        recurrence: u: None, a scalar, ``[D]`` or ``[D, D]``.

    Raises:
        UsageError: a parameter has another shape, or theirs do not agree.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.hypercausal import TanhCell
        >>> TanhCell(0.9, 0.03)(jnp.zeros((48, 3)), depth=2).shape
        (48, 3)
    """

    weight: FloatArray
    bias: FloatArray
    recurrence: FloatArray | None

    def __init__(self, weight: Any, bias: Any = 0.0, recurrence: Any = None):
        self.weight = as_parameter("weight", weight)
        self.bias = as_parameter("bias", bias, self.weight.dtype)
        self.recurrence = None if recurrence is None else as_parameter("recurrence", recurrence, self.weight.dtype)
        _check_shapes(self.weight, self.bias, self.recurrence)

    def __call__(
        self, inputs: Float[Array | np.ndarray, "*batch time channel"], *, depth: Any = 1
    ) -> Float[Array, "*batch time channel"]:
        """The states, of the inputs' shape and the parameters' dtype."""
        depth = as_depth(depth)
        inputs = jnp.asarray(inputs).astype(self.weight.dtype)
        for name in ("weight", "bias", "recurrence"):
            if (parameter := getattr(self, name)) is not None:
                check_channels(name, parameter.shape, inputs)
        params = (self.weight, self.bias)
        recurrence = self.recurrence
        if recurrence is None:
            alone: Array = recurse(_level, params, inputs, depth)
            return alone

        def at_each_time(before: Array, now: Array) -> tuple[Array, Array]:
            state = recurse(_level, params, now + _apply(recurrence, before), depth)
            return state, state

        by_time = jnp.moveaxis(inputs, -2, 0)
        _, states = jax.lax.scan(at_each_time, jnp.zeros_like(by_time[0]), by_time)
        return jnp.moveaxis(states, 0, -2)


def _check_shapes(weight: Array, bias: Array, recurrence: Array | None) -> None:
    """Raise `UsageError` unless all are scalars, [D] or, save for the bias, [D, D] of one D."""
    channels: set[int] = set()
    for name, parameter, most in (("weight", weight, 2), ("bias", bias, 1), ("recurrence", recurrence, 2)):
        shape = () if parameter is None else parameter.shape
        channels.update(shape)
        if len(shape) > most or (len(shape) == 2 and shape[0] != shape[1]):
            allowed = "a scalar, [D] or [D, D]" if most == 2 else "a scalar or [D]"
            raise UsageError(f"{name} must be {allowed} for D channels, got shape {shape}.")
    if len(channels) > 1:
        shapes = [None if p is None else p.shape for p in (weight, bias, recurrence)]
        raise UsageError(
            "weight, bias and recurrence must agree on the number of channels, got shapes "
            f"{shapes[0]}, {shapes[1]} and {shapes[2]}."
        )
