"""Values of a signed common meadow, one at a time: the finite numbers and one more element, ⊥ ("bottom").

Division is total: anything divided by 0 is ⊥, and ⊥ absorbs every operation. There are no infinities and no
NaN. Where a finite result is too large for a float, the scalar form raises `MeadowOverflowError`; arrays, which
can't raise for one entry, say ⊥ (see `_array`). A result too small becomes 0, as floats do.

Source: Bergstra and Ponse's common meadows; the published scalar algebra.
"""

from __future__ import annotations

import cmath
import math
import numbers
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...core import UsageError

Scalar: TypeAlias = "SCMValue | complex | float | int"
"""What a scalar operation takes."""


class MeadowOverflowError(UsageError, OverflowError):
    """A finite result of a scalar operation is too large for a float.

    Raised by operators and functions alike. (The published package raises OverflowError from some and
    ValueError from others: this is both.)
    """


def as_number(name: str, given: object) -> float | complex:
    """A Python float or complex from any real or complex number, NumPy's scalars included.

    Raises:
        UsageError: not a number.
        MeadowOverflowError: an int too large for a float.
    """
    if not isinstance(given, numbers.Complex):
        raise UsageError(f"{name} must be a real or complex number, not {type(given).__name__}.")
    try:
        return float(given) if isinstance(given, numbers.Real) else complex(given)
    except OverflowError as error:
        raise MeadowOverflowError(f"{name} is too large for a float.") from error


def finite_number(name: str, given: object) -> float | complex:
    """As `as_number`, and finite.

    Raises:
        UsageError: not a number, or NaN or infinite.
        MeadowOverflowError: an int too large for a float.
    """
    number = as_number(name, given)
    if not cmath.isfinite(number):
        raise UsageError(f"{name} must be finite, not {number}; from_ieee takes NaN and infinities to ⊥.")
    return number


@dataclass(frozen=True, slots=True, init=False, repr=False)
class SCMValue:
    """A finite number or ⊥, with ``+ - * / **`` and unary minus, also beside Python numbers.

    ⊥ equals ⊥. A negative base with a fractional exponent gives a complex value, as in Python.

    Attributes:
        value: a float or complex; None for ⊥.
        is_bottom: whether it is ⊥.

    Examples:
        >>> x = SCMValue(3)
        >>> 1 / (x - 1), 1 / (x - 3), 0 * (1 / (x - 3))
        (SCMValue(0.5), SCMValue(⊥), SCMValue(⊥))
    """

    value: float | complex | None
    is_bottom: bool
    __array_ufunc__ = None  # NumPy leaves mixed operations to us, and does not make object arrays

    def __init__(self, value: object, is_bottom: bool = False) -> None:
        """Check and store a value.

        Args:
            value: a finite number; ints and booleans become floats. Not looked at for ⊥.
            is_bottom: make ⊥.

        Raises:
            UsageError: not a number, or NaN or infinite.
            MeadowOverflowError: an int too large for a float.
        """
        object.__setattr__(self, "value", None if is_bottom else finite_number("the value", value))
        object.__setattr__(self, "is_bottom", is_bottom)

    @property
    def payload(self) -> float | complex:
        """The number.

        Raises:
            UsageError: there is none in ⊥.
        """
        if self.value is None:
            raise UsageError("⊥ has no payload; ask is_bottom first.")
        return self.value

    def __repr__(self) -> str:
        return f"SCMValue({'⊥' if self.is_bottom else repr(self.value)})"

    def __add__(self, other: object) -> SCMValue:
        return add(self, other) if _operand(other) else NotImplemented

    def __radd__(self, other: object) -> SCMValue:
        return add(other, self) if _operand(other) else NotImplemented

    def __sub__(self, other: object) -> SCMValue:
        return subtract(self, other) if _operand(other) else NotImplemented

    def __rsub__(self, other: object) -> SCMValue:
        return subtract(other, self) if _operand(other) else NotImplemented

    def __mul__(self, other: object) -> SCMValue:
        return multiply(self, other) if _operand(other) else NotImplemented

    def __rmul__(self, other: object) -> SCMValue:
        return multiply(other, self) if _operand(other) else NotImplemented

    def __truediv__(self, other: object) -> SCMValue:
        return divide(self, other) if _operand(other) else NotImplemented

    def __rtruediv__(self, other: object) -> SCMValue:
        return divide(other, self) if _operand(other) else NotImplemented

    def __pow__(self, exponent: object) -> SCMValue:
        return power(self, exponent)

    def __rpow__(self, base: object) -> SCMValue:
        return power(base, self)

    def __neg__(self) -> SCMValue:
        return negate(self)


def _operand(given: object) -> bool:
    return isinstance(given, SCMValue | numbers.Complex)


_BOTTOM = SCMValue(None, is_bottom=True)


def scm_bottom() -> SCMValue:
    """⊥."""
    return _BOTTOM


def scm_real(x: object) -> SCMValue:
    """A finite real number as a value.

    Raises:
        UsageError: not a real number, or NaN or infinite.
        MeadowOverflowError: an int too large for a float.
    """
    if not isinstance(x, numbers.Real):
        raise UsageError(f"x must be a real number, not {type(x).__name__}; scm_complex takes complex ones.")
    return SCMValue(x)


def scm_complex(z: object) -> SCMValue:
    """A finite complex number as a value; a real one becomes complex.

    Raises:
        UsageError: not a number, or NaN or infinite.
        MeadowOverflowError: an int too large for a float.
    """
    return SCMValue(complex(finite_number("z", z)))


def as_value(given: object, *, non_finite_is_bottom: bool = False) -> SCMValue:
    """An operand as a value.

    Raises:
        UsageError: not a number, or NaN or infinite, unless those are to become ⊥. Booleans are refused: most
            often a mask came in the place of a number.
    """
    if isinstance(given, SCMValue):
        return given
    if isinstance(given, bool):
        raise UsageError(f"an operand is a number or an SCMValue, not {given}; is it a mask?")
    number = as_number("an operand", given)
    if non_finite_is_bottom and not cmath.isfinite(number):
        return _BOTTOM
    return SCMValue(number)


def _total(name: str, operation: Callable[..., Any], *operands: SCMValue) -> SCMValue:
    """An operation on payloads: ⊥ if any operand is, an error if the result is too large."""
    if any(operand.is_bottom for operand in operands):
        return _BOTTOM
    payloads = [operand.payload for operand in operands]
    try:
        result = operation(*payloads)
        overflow = not cmath.isfinite(result)
    except ArithmeticError:  # a complex power that overflows may divide by 0 on its way
        overflow = True
    if overflow:
        shown = ", ".join(repr(payload) for payload in payloads)
        raise MeadowOverflowError(f"{name} of {shown} is too large for a float; scale the operands.")
    return SCMValue(result)


def add(x: object, y: object) -> SCMValue:
    """x + y."""
    return _total("the sum", operator.add, as_value(x), as_value(y))


def subtract(x: object, y: object) -> SCMValue:
    """x - y."""
    return _total("the difference", operator.sub, as_value(x), as_value(y))


def multiply(x: object, y: object) -> SCMValue:
    """x · y."""
    return _total("the product", operator.mul, as_value(x), as_value(y))


def divide(x: object, y: object) -> SCMValue:
    """x / y, ⊥ for y = 0."""
    dividend, divisor = as_value(x), as_value(y)
    return _BOTTOM if divisor.value == 0 else _total("the quotient", operator.truediv, dividend, divisor)


def invert(x: object) -> SCMValue:
    """1 / x, ⊥ for 0."""
    return divide(1.0, x)


def negate(x: object) -> SCMValue:
    """-x."""
    return _total("the negative", operator.neg, as_value(x))


def real_exponent(exponent: object) -> float:
    """An exponent as a float.

    Raises:
        UsageError: not a finite real number.
    """
    if isinstance(exponent, bool) or not isinstance(exponent, numbers.Real):
        hint = " Write x**y as scm_exp(scm_mul(y, scm_log(x)))." if not isinstance(exponent, bool) else ""
        raise UsageError(f"an exponent must be a real number, not {type(exponent).__name__}.{hint}")
    return float(finite_number("an exponent", exponent).real)


def power(x: object, exponent: object) -> SCMValue:
    """x ** exponent, ⊥ for 0 with a negative exponent."""
    base, number = as_value(x), real_exponent(exponent)
    return _BOTTOM if base.value == 0 and number < 0 else _total("the power", lambda payload: payload**number, base)


def _elementary(name: str, real: Callable[..., Any], general: Callable[..., Any], x: SCMValue) -> SCMValue:
    return _total(name, general if isinstance(x.value, complex) else real, x)


def logarithm(x: object) -> SCMValue:
    """ln x, principal for complex x; ⊥ for 0 and for negative reals."""
    value = as_value(x)
    if value.value == 0 or (isinstance(value.value, float) and value.value < 0):
        return _BOTTOM
    return _elementary("the logarithm", math.log, cmath.log, value)


def exponential(x: object) -> SCMValue:
    """e**x."""
    return _elementary("the exponential", math.exp, cmath.exp, as_value(x))


def square_root(x: object) -> SCMValue:
    """√x, principal for complex x; ⊥ for negative reals."""
    value = as_value(x)
    if isinstance(value.value, float) and value.value < 0:
        return _BOTTOM
    if value.value == 0:
        return SCMValue(0.0)  # real for 0j too
    return _elementary("the square root", math.sqrt, cmath.sqrt, value)


def sine(x: object) -> SCMValue:
    """sin x."""
    return _elementary("the sine", math.sin, cmath.sin, as_value(x))


def cosine(x: object) -> SCMValue:
    """cos x."""
    return _elementary("the cosine", math.cos, cmath.cos, as_value(x))


def tangent(x: object) -> SCMValue:
    """tan x."""
    return _elementary("the tangent", math.tan, cmath.tan, as_value(x))
