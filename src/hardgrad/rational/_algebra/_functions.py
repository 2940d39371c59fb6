"""The operations of the algebra, one name each for single values and for arrays.

With Python numbers and `SCMValue` they return an `SCMValue`; as soon as one operand is an array or an `SCMArray`,
an `SCMArray` (NumPy arrays become JAX arrays, in float64 only where JAX has it enabled). ⊥ in any operand gives ⊥.

The two forms differ where an array can't do what a single value can:

- a finite result that is too large: `MeadowOverflowError` for a value, ⊥ in an array;
- NaN and infinities among the operands: `UsageError` for a value, ⊥ in an array;
- a negative real to a fractional power: a complex value, ⊥ in an array, whose dtype can't change by entry;
- x/y where |x|/y², the derivative by y, overflows: the quotient for a value, ⊥ in an array.

Derivatives: see `SCMArray`'s module, `_array`. Source: the published algebra and its golden answers.
"""

from __future__ import annotations

from typing import Any, overload

from jaxtyping import Array
from numpy.typing import NDArray

from . import _array, _value
from ._array import ArrayOperand, SCMArray
from ._value import Scalar, SCMValue


@overload
def scm_add(x: Scalar, y: Scalar) -> SCMValue: ...
@overload
def scm_add(x: ArrayOperand, y: Scalar | ArrayOperand) -> SCMArray: ...
@overload
def scm_add(x: Scalar, y: ArrayOperand) -> SCMArray: ...
def scm_add(x: object, y: object) -> SCMValue | SCMArray:
    """The sum x + y.

    Raises:
        UsageError: an operand is not made of numbers, or is a single number that is not finite.
        MeadowOverflowError: the result, of single values, is too large for a float.
    """
    return _array.add(x, y) if _array.is_array(x) or _array.is_array(y) else _value.add(x, y)


@overload
def scm_sub(x: Scalar, y: Scalar) -> SCMValue: ...
@overload
def scm_sub(x: ArrayOperand, y: Scalar | ArrayOperand) -> SCMArray: ...
@overload
def scm_sub(x: Scalar, y: ArrayOperand) -> SCMArray: ...
def scm_sub(x: object, y: object) -> SCMValue | SCMArray:
    """The difference x - y.

    Raises:
        UsageError: an operand is not made of numbers, or is a single number that is not finite.
        MeadowOverflowError: the result, of single values, is too large for a float.
    """
    return _array.subtract(x, y) if _array.is_array(x) or _array.is_array(y) else _value.subtract(x, y)


@overload
def scm_mul(x: Scalar, y: Scalar) -> SCMValue: ...
@overload
def scm_mul(x: ArrayOperand, y: Scalar | ArrayOperand) -> SCMArray: ...
@overload
def scm_mul(x: Scalar, y: ArrayOperand) -> SCMArray: ...
def scm_mul(x: object, y: object) -> SCMValue | SCMArray:
    """The product x · y. 0 times ⊥ is ⊥.

    Raises:
        UsageError: an operand is not made of numbers, or is a single number that is not finite.
        MeadowOverflowError: the result, of single values, is too large for a float.
    """
    return _array.multiply(x, y) if _array.is_array(x) or _array.is_array(y) else _value.multiply(x, y)


@overload
def scm_div(x: Scalar, y: Scalar) -> SCMValue: ...
@overload
def scm_div(x: ArrayOperand, y: Scalar | ArrayOperand) -> SCMArray: ...
@overload
def scm_div(x: Scalar, y: ArrayOperand) -> SCMArray: ...
def scm_div(x: object, y: object) -> SCMValue | SCMArray:
    """The quotient x / y; ⊥ for y = 0, of either sign and for x = 0 too.

    Raises:
        UsageError: an operand is not made of numbers, or is a single number that is not finite.
        MeadowOverflowError: the result, of single values, is too large for a float.

    Examples:
        >>> scm_div(1, 4), scm_div(0, 0)
        (SCMValue(0.25), SCMValue(⊥))
        >>> scm_div(1, SCMArray([4.0, 0.0])).payload
        Array([0.25, 0.  ], dtype=float32)
    """
    return _array.divide(x, y) if _array.is_array(x) or _array.is_array(y) else _value.divide(x, y)


@overload
def scm_inv(x: Scalar) -> SCMValue: ...
@overload
def scm_inv(x: ArrayOperand) -> SCMArray: ...
def scm_inv(x: object) -> SCMValue | SCMArray:
    """The reciprocal 1 / x; ⊥ for 0.

    Raises:
        UsageError: the operand is not made of numbers, or is a single number that is not finite.
        MeadowOverflowError: the result, of a single value, is too large for a float.
    """
    return _array.invert(x) if _array.is_array(x) else _value.invert(x)


@overload
def scm_neg(x: Scalar) -> SCMValue: ...
@overload
def scm_neg(x: ArrayOperand) -> SCMArray: ...
def scm_neg(x: object) -> SCMValue | SCMArray:
    """The negative -x.

    Raises:
        UsageError: the operand is not made of numbers, or is a single number that is not finite.
    """
    return _array.negate(x) if _array.is_array(x) else _value.negate(x)


@overload
def scm_pow(x: Scalar, exponent: float) -> SCMValue: ...
@overload
def scm_pow(x: ArrayOperand, exponent: float | Array | NDArray[Any]) -> SCMArray: ...
@overload
def scm_pow(x: Scalar, exponent: Array | NDArray[Any]) -> SCMArray: ...
def scm_pow(x: object, exponent: object) -> SCMValue | SCMArray:
    """x to a real power; ⊥ for 0 to a negative one. 0 to the power 0 is 1.

    A negative real to a fractional power is complex for a single value and ⊥ in an array.

    Args:
        x: the base.
        exponent: a real number, or an array of them, never an SCM value; a constant to the gradient. Entries
            of an array that are not finite give ⊥.

    Raises:
        UsageError: an operand is not made of numbers, or is a single number that is not finite; or the exponent
            is complex or an SCM value.
        MeadowOverflowError: the result, of a single value, is too large for a float.
    """
    return _array.power(x, exponent) if _array.is_array(x) or _array.is_array(exponent) else _value.power(x, exponent)


@overload
def scm_log(x: Scalar) -> SCMValue: ...
@overload
def scm_log(x: ArrayOperand) -> SCMArray: ...
def scm_log(x: object) -> SCMValue | SCMArray:
    """The natural logarithm, principal for complex x; ⊥ for 0 and for negative reals.

    Raises:
        UsageError: the operand is not made of numbers, or is a single number that is not finite.
    """
    return _array.logarithm(x) if _array.is_array(x) else _value.logarithm(x)


@overload
def scm_exp(x: Scalar) -> SCMValue: ...
@overload
def scm_exp(x: ArrayOperand) -> SCMArray: ...
def scm_exp(x: object) -> SCMValue | SCMArray:
    """The exponential e**x.

    Raises:
        UsageError: the operand is not made of numbers, or is a single number that is not finite.
        MeadowOverflowError: the result, of a single value, is too large for a float.
    """
    return _array.exponential(x) if _array.is_array(x) else _value.exponential(x)


@overload
def scm_sqrt(x: Scalar) -> SCMValue: ...
@overload
def scm_sqrt(x: ArrayOperand) -> SCMArray: ...
def scm_sqrt(x: object) -> SCMValue | SCMArray:
    """The square root, principal for complex x; ⊥ for negative reals.

    Raises:
        UsageError: the operand is not made of numbers, or is a single number that is not finite.
    """
    return _array.square_root(x) if _array.is_array(x) else _value.square_root(x)


@overload
def scm_sin(x: Scalar) -> SCMValue: ...
@overload
def scm_sin(x: ArrayOperand) -> SCMArray: ...
def scm_sin(x: object) -> SCMValue | SCMArray:
    """The sine.

    Raises:
        UsageError: the operand is not made of numbers, or is a single number that is not finite.
        MeadowOverflowError: the result, of a single complex value, is too large for a float.
    """
    return _array.sine(x) if _array.is_array(x) else _value.sine(x)


@overload
def scm_cos(x: Scalar) -> SCMValue: ...
@overload
def scm_cos(x: ArrayOperand) -> SCMArray: ...
def scm_cos(x: object) -> SCMValue | SCMArray:
    """The cosine.

    Raises:
        UsageError: the operand is not made of numbers, or is a single number that is not finite.
        MeadowOverflowError: the result, of a single complex value, is too large for a float.
    """
    return _array.cosine(x) if _array.is_array(x) else _value.cosine(x)


@overload
def scm_tan(x: Scalar) -> SCMValue: ...
@overload
def scm_tan(x: ArrayOperand) -> SCMArray: ...
def scm_tan(x: object) -> SCMValue | SCMArray:
    """The tangent.

    Raises:
        UsageError: the operand is not made of numbers, or is a single number that is not finite.
        MeadowOverflowError: the result, of a single complex value, is too large for a float.
    """
    return _array.tangent(x) if _array.is_array(x) else _value.tangent(x)
