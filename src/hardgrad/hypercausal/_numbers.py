"""Numbers of a module: trained if given as arrays, constants of the compiled program if not."""

from __future__ import annotations

import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import UsageError, whole_number


@jax.tree_util.register_static
class Fixed:
    """A number that is not trained: a pytree without leaves.

    Attributes:
        value: the number.
    """

    def __init__(self, value: float):
        self.value = float(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fixed) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"Fixed({self.value!r})"


FloatArray = Float[Array, "..."]
"""A float array of any shape."""

Number = FloatArray | Fixed
"""What a module holds for a number: an array, which is trained, or a constant."""


def as_parameter(name: str, value: Any, dtype: Any = None) -> FloatArray:
    """`value` as a strongly typed float array; without `dtype`, of its own precision.

    Raises:
        UsageError: it isn't made of real numbers.
    """
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} must be a number or an array of numbers, got {value!r}.") from error
    if jnp.iscomplexobj(array):
        raise UsageError(f"{name} must be real, got {array.dtype}. Hold real and imaginary parts as two channels.")
    if dtype is None:
        dtype = array.dtype if jnp.issubdtype(array.dtype, jnp.floating) else jnp.result_type(float)
    return array.astype(dtype)  # a weak type would compile again after the first update


def as_number(name: str, value: Any, *, minimum: float | None = None) -> Number:
    """`value` as `Fixed` if it is a Python number, as a float array if it is an array.

    Raises:
        UsageError: it isn't a real number, or is a Python number below `minimum`.
    """
    if isinstance(value, Fixed):
        return value
    if isinstance(value, bool | str) or value is None:
        raise UsageError(f"{name} must be a number, or an array to be trained, got {value!r}.")
    if not isinstance(value, int | float):
        return as_parameter(name, value)
    if minimum is not None and not value >= minimum:
        raise UsageError(f"{name} must be at least {minimum}, got {value!r}.")
    return Fixed(value)


def is_fixed(number: Number, value: float) -> bool:
    """Whether it is the constant `value`, so that arithmetic with it can be left out."""
    return isinstance(number, Fixed) and number.value == value


def per_channel(number: Number, like: Array) -> Any:
    """A scalar or one number a channel, ready to meet ``like[..., channel]`` in its dtype."""
    if isinstance(number, Fixed):
        return number.value
    return number.astype(like.dtype).reshape((1,) * (like.ndim - 1) + number.shape if number.ndim else ())


def check_channels(name: str, shape: tuple[int, ...], inputs: Any) -> None:
    """Raise `UsageError` unless parameters of this shape fit the last axis of `inputs`."""
    if shape and shape[-1] != inputs.shape[-1]:
        raise UsageError(
            f"{name} of shape {shape} is for {shape[-1]} channels, but the inputs of shape {inputs.shape} "
            f"[..., time, channel] have {inputs.shape[-1]}."
        )


def as_depth(depth: Any) -> Any:
    """A recursion depth, at least 1: a Python int, or an integer scalar array when it is traced.

    Raises:
        UsageError: it is not one integer.
    """
    if isinstance(depth, jax.Array):
        if depth.ndim == 0 and jnp.issubdtype(depth.dtype, jnp.integer):
            return jnp.maximum(depth, 1)
        raise UsageError(f"depth must be one integer, got an array of shape {depth.shape} and type {depth.dtype}.")
    try:
        return max(1, operator.index(depth))
    except TypeError:
        raise UsageError(
            f"depth must be an int or an integer scalar array, got {depth!r}. LinearDepth gives such."
        ) from None


def check_finite(name: str, value: Any, *, also: str = "") -> None:
    """Raise `UsageError` unless `value` is a finite Python number; `also` names what else would do."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{name} must be a finite number{also and ' or ' + also}, got {value!r}.")


def check_branches(branches: Any) -> int:
    """The number of projected futures, which must be an int of at least 2."""
    return whole_number("branches", branches, least=2)
