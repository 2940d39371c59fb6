"""The weak sign: 0 at 0, ⊥ at ⊥, else v/|v| (±1 for reals, a point of the unit circle for complex numbers).

With hysteresis the sign of what is near 0 is the last one that was clear, so that it does not flicker. With
release = ε(1 + h), a value of magnitude m has

    m ≤ ε                           the last sign, or 0 if there is none
    m < release, with a last sign   the last sign
    otherwise                       its own sign, remembered from then on

⊥ has the sign ⊥ and changes nothing. Source: the published weak sign and its tracker.
"""

from __future__ import annotations

import math
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Inexact

from ...core import UsageError
from . import _array, _value
from ._array import ArrayOperand, SCMArray
from ._scaling import inverse_power_of_two, magnitude, squared
from ._value import Scalar, SCMValue


@overload
def weak_sign(v: Scalar) -> SCMValue: ...
@overload
def weak_sign(v: ArrayOperand) -> SCMArray: ...
def weak_sign(v: object) -> SCMValue | SCMArray:
    """The weak sign of a value or of an array of them.

    Args:
        v: a number or `SCMValue`, giving an `SCMValue`; or an array or `SCMArray`, giving an `SCMArray`. Its
            derivative is 0 for reals and, as everywhere, at ⊥.

    Raises:
        UsageError: not numbers.

    Examples:
        >>> weak_sign(-0.5), weak_sign(0), weak_sign(3 + 4j)
        (SCMValue(-1.0), SCMValue(0.0), SCMValue((0.6+0.8j)))
    """
    if not _array.is_array(v):
        value = _value.as_value(v)
        return value if value.value is None else SCMValue(_direction(value.value))
    payload, mask = _array.as_array(v)
    return SCMArray(_directions(payload), mask)


class HystereticOrientationTracker:
    """The weak sign with hysteresis, one value after another. For arrays see `hysteretic_weak_sign`.

    Examples:
        >>> tracker = HystereticOrientationTracker(epsilon=0.1)
        >>> [tracker.update(v).value for v in (1.0, -0.05, -0.11, -0.2)]
        [1.0, 1.0, 1.0, -1.0]
    """

    def __init__(
        self, epsilon: float | int = 1e-9, hysteresis: float | int = 0.25, last_sign: float | complex | None = None
    ) -> None:
        """Start without a sign, or with a given one.

        Args:
            epsilon: ε, at least 0.
            hysteresis: h, at least 0.
            last_sign: None, or a number of modulus 1 within 1e-9.

        Raises:
            UsageError: out of range, or not a number.
        """
        self.epsilon, self.hysteresis = _checked(epsilon, hysteresis)
        sign = None if last_sign is None else _value.as_value(last_sign).payload
        if sign is not None and abs(math.hypot(sign.real, sign.imag) - 1) > 1e-9:
            raise UsageError(f"last_sign must be None or of modulus 1, not {last_sign}.")
        self._last_sign = sign

    @property
    def last_sign(self) -> float | complex | None:
        """The last clear sign; None if there was none yet."""
        return self._last_sign

    @property
    def state(self) -> dict[str, Any]:
        """What a new tracker needs to go on: ``HystereticOrientationTracker(**tracker.state)``."""
        return {"epsilon": self.epsilon, "hysteresis": self.hysteresis, "last_sign": self._last_sign}

    def reset(self) -> None:
        """Forget the last sign."""
        self._last_sign = None

    def update(self, v: Scalar) -> SCMValue:
        """The sign of the next value.

        Raises:
            UsageError: not a number.
        """
        value = _value.as_value(v)
        if value.value is None:
            return value
        magnitude = math.hypot(value.value.real, value.value.imag)
        release = self.epsilon * (1 + self.hysteresis)
        if magnitude <= self.epsilon or (self._last_sign is not None and magnitude < release):
            return SCMValue(0.0 if self._last_sign is None else self._last_sign)
        self._last_sign = _direction(value.value)
        return SCMValue(self._last_sign)


def hysteretic_weak_sign(
    v: ArrayOperand,
    last_sign: Inexact[Array | np.ndarray, ...] | None = None,
    *,
    epsilon: float | int = 1e-9,
    hysteresis: float | int = 0.25,
) -> tuple[SCMArray, Inexact[Array, ...]]:
    """The weak sign with hysteresis along the first axis, for each of the other entries by itself.

    Args:
        v: values ``[time, ...]``.
        last_sign: signs to start from, of the shape and dtype of one step; 0 where there is none. All 0 if None.
        epsilon: ε, at least 0.
        hysteresis: h, at least 0.

    Returns:
        The signs, of the shape of `v`, and the last signs to go on from.

    Raises:
        UsageError: no first axis, a start of another shape, or a number out of range.

    Examples:
        >>> signs, last = hysteretic_weak_sign(jnp.array([1.0, -0.05, -0.2]), epsilon=0.1)
        >>> signs.payload
        Array([ 1.,  1., -1.], dtype=float32)
    """
    epsilon, hysteresis = _checked(epsilon, hysteresis)
    values = _array.as_array(v)
    if values.payload.ndim == 0:
        raise UsageError("values must have a first axis, the sequence; a single one needs weak_sign.")
    one = values.shape[1:]
    start = jnp.zeros(one, values.dtype) if last_sign is None else jnp.asarray(last_sign).astype(values.dtype)
    if start.shape != one:
        raise UsageError(f"last_sign must have the shape of one step, {one}, not {start.shape}.")

    def step(last: Array, value: SCMArray) -> tuple[Array, SCMArray]:
        magnitude = jnp.abs(value.payload)
        unclear = (magnitude <= epsilon) | ((last != 0) & (magnitude < epsilon * (1 + hysteresis)))
        sign = jnp.where(unclear, last, _directions(value.payload))
        return jnp.where(value.mask, last, sign), SCMArray(sign, value.mask)

    last, signs = jax.lax.scan(step, start, values)
    return signs, last


def _direction(number: float | complex) -> float | complex:
    """v/|v|, and 0 for 0."""
    if isinstance(number, float):
        return math.copysign(1.0, number) if number else 0.0
    largest = max(abs(number.real), abs(number.imag))
    if not largest:
        return 0.0
    shift = -math.frexp(largest)[1]  # |v| itself may overflow, or lose its digits
    real, imaginary = math.ldexp(number.real, shift), math.ldexp(number.imag, shift)
    modulus = math.hypot(real, imaginary)
    return complex(real / modulus, imaginary / modulus)


def _directions(payload: Array) -> Array:
    """v/|v| entry by entry, and 0 for 0."""
    zero = payload == 0
    if not jnp.iscomplexobj(payload):
        return jnp.where(zero, 0, jnp.sign(payload))
    scaled = jnp.where(zero, 1, payload * inverse_power_of_two(magnitude(payload)).astype(payload.dtype))
    return jnp.where(zero, 0, scaled / jnp.sqrt(squared(scaled)).astype(payload.dtype))


def _checked(epsilon: float | int, hysteresis: float | int) -> tuple[float, float]:
    for name, given in (("epsilon", epsilon), ("hysteresis", hysteresis)):
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given < math.inf:
            raise UsageError(f"{name} must be a finite number, at least 0; got {given!r}.")
    return float(epsilon), float(hysteresis)
