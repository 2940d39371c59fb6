"""Between IEEE numbers, which have NaN and infinities, and meadow values, which have ⊥."""

from __future__ import annotations

import math
from typing import Any, overload

import jax.numpy as jnp
from jaxtyping import Array, Float

from . import _array, _value
from ._array import ArrayOperand, SCMArray
from ._value import Scalar, SCMValue


@overload
def from_ieee(x: Scalar) -> SCMValue: ...
@overload
def from_ieee(x: ArrayOperand) -> SCMArray: ...
def from_ieee(x: object) -> SCMValue | SCMArray:
    """Values from IEEE numbers: NaN and infinities, in either part of a complex number, become ⊥.

    Args:
        x: a number, giving an `SCMValue`; or an array, giving an `SCMArray`, as ``SCMArray(x)`` does.

    Raises:
        UsageError: not numbers; booleans are none.

    Examples:
        >>> from_ieee(1.5), from_ieee(math.nan)
        (SCMValue(1.5), SCMValue(⊥))
    """
    return _array.as_array(x) if _array.is_array(x) else _value.as_value(x, non_finite_is_bottom=True)


@overload
def to_ieee(v: Scalar) -> float: ...
@overload
def to_ieee(v: ArrayOperand) -> Float[Array, ...]: ...
def to_ieee(v: object) -> Any:
    """Real IEEE numbers from values: ⊥ becomes NaN, and so does what has an imaginary part other than 0.

    Args:
        v: an `SCMValue` or a number, giving a float; or an `SCMArray` or an array, giving an array of the
            dtype of its real part.

    Raises:
        UsageError: not values.

    Examples:
        >>> to_ieee(SCMValue(1) / 0), to_ieee(1 / SCMArray(jnp.array([2.0, 0.0])))
        (nan, Array([0.5, nan], dtype=float32))
    """
    if _array.is_array(v):
        payload, mask = _array.as_array(v)
        return jnp.where(mask | (jnp.imag(payload) != 0), jnp.nan, jnp.real(payload))
    number = _value.as_value(v).value
    return math.nan if number is None or number.imag != 0 else float(number.real)
