"""Arrays of meadow values: a payload, and a mask that is True at ⊥.

Every operation masks an entry if an operand is masked or not finite, if the operation has no value there
(division by 0, the logarithm of a negative number …), or if its result overflows. The payload at ⊥ is exactly 0,
and so is every derivative: operands at ⊥ are replaced by harmless ones *before* the operation, since a
derivative that overflows would turn the 0 that comes back into NaN.

Derivatives that exist and are infinite stay infinite: of √x, and of x**p with 0 < p < 1, at an entry that is 0;
derivatives of 1/x and ln x may overflow where x is tiny. Division is stricter: an entry whose derivative by the
denominator, |x|/y², overflows is ⊥.

Source of the rules: the published vector operations.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Inexact
from numpy.typing import NDArray

from ...core import UsageError
from ._value import SCMValue, as_number, real_exponent

ArrayOperand: TypeAlias = "SCMArray | Array | NDArray[Any]"
"""What makes an operation one on arrays."""


class SCMArray(eqx.Module):
    """An array of meadow values, a pytree: use it under ``jit``, ``vmap`` and ``grad``.

    Unpacks as ``payload, mask = x``. Has ``+ - * / **`` and unary minus beside arrays, numbers and `SCMValue`.
    XLA takes subnormal numbers as 0 on most platforms, CPUs included; where the imaginary part of a negative number
    is one, a complex logarithm or power may come from the other side of the cut.

    Attributes:
        payload: finite, 0 at ⊥.
        mask: True at ⊥.

    Examples:
        >>> x = SCMArray(jnp.array([1.0, 0.0, jnp.nan]))
        >>> payload, mask = 1 / x
        >>> payload, mask
        (Array([1., 0., 0.], dtype=float32), Array([False,  True,  True], dtype=bool))
    """

    payload: Inexact[Array, "*shape"]
    mask: Bool[Array, "*shape"]
    __array_ufunc__ = None  # NumPy leaves mixed operations to us, and does not make object arrays

    def __init__(self, payload: object, mask: object = False) -> None:
        """Make an array of values; entries that are not finite become ⊥.

        Args:
            payload: numbers; NumPy arrays become JAX arrays and integers floats of the default width.
            mask: True at ⊥, of a shape that broadcasts with the payload's.

        Raises:
            UsageError: the payload holds no numbers, or the mask no booleans; the shapes differ.
        """
        values, flags = as_inexact(payload), jnp.asarray(mask)
        if flags.dtype != jnp.bool_:
            raise UsageError(f"a mask holds booleans, True at ⊥; this one is of {flags.dtype}.")
        try:
            bottom = flags | ~jnp.isfinite(values)
        except (TypeError, ValueError) as error:
            shapes = f"a mask of shape {flags.shape} does not fit a payload of shape {values.shape}"
            raise UsageError(f"{shapes}; give each number its flag.") from error
        self.payload = jnp.where(bottom, 0, values)
        self.mask = bottom

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the payload and of the mask."""
        return self.payload.shape

    @property
    def dtype(self) -> Any:
        """Dtype of the payload."""
        return self.payload.dtype

    def __iter__(self) -> Iterator[Array]:
        return iter((self.payload, self.mask))

    def __getitem__(self, index: Any) -> SCMArray:
        return SCMArray(self.payload[index], self.mask[index])

    def __add__(self, other: object) -> SCMArray:
        return add(self, other)

    def __radd__(self, other: object) -> SCMArray:
        return add(other, self)

    def __sub__(self, other: object) -> SCMArray:
        return subtract(self, other)

    def __rsub__(self, other: object) -> SCMArray:
        return subtract(other, self)

    def __mul__(self, other: object) -> SCMArray:
        return multiply(self, other)

    def __rmul__(self, other: object) -> SCMArray:
        return multiply(other, self)

    def __truediv__(self, other: object) -> SCMArray:
        return divide(self, other)

    def __rtruediv__(self, other: object) -> SCMArray:
        return divide(other, self)

    def __pow__(self, exponent: object) -> SCMArray:
        return power(self, exponent)

    def __rpow__(self, base: object) -> SCMArray:
        return power(base, self)

    def __neg__(self) -> SCMArray:
        return negate(self)


def is_array(given: object) -> bool:
    """Whether an operand makes the operation one on arrays. NumPy's scalars count as Python numbers."""
    return isinstance(given, SCMArray | jax.Array | np.ndarray)


def as_inexact(given: object) -> Array:
    """Numbers as a JAX array of a floating-point or complex dtype.

    Raises:
        UsageError: an array of something else.
    """
    array = jnp.asarray(given)
    if jnp.issubdtype(array.dtype, jnp.integer):
        return array.astype(jnp.result_type(float))
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        raise UsageError(f"an operand holds real or complex numbers, not {array.dtype}; is it a mask?")
    return array


def as_array(given: object) -> SCMArray:
    """An operand as an array of values; what is not finite becomes ⊥.

    Raises:
        UsageError: not an array, a number or an SCM value.
        MeadowOverflowError: an int too large for a float.
    """
    if isinstance(given, SCMArray):
        return given
    if isinstance(given, SCMValue):
        return SCMArray(0.0 if given.value is None else given.value, given.is_bottom)
    if is_array(given):
        return SCMArray(given)
    if isinstance(given, numbers.Complex) and not isinstance(given, bool):
        return SCMArray(as_number("an operand", given))
    raise UsageError(f"an operand is an array, a number or an SCM value, not {type(given).__name__}.")


def _total(
    operation: Callable[..., Array], *operands: SCMArray, invalid: Array | bool = False, stand_ins: tuple[int, ...]
) -> SCMArray:
    """An operation on payloads that may not be evaluated where `invalid`, with harmless operands at ⊥."""
    bottom = jnp.asarray(invalid)
    for operand in operands:
        bottom = bottom | operand.mask

    def evaluate(bottom: Array, payloads: list[Array]) -> Array:
        harmless = zip(payloads, stand_ins, strict=True)
        return operation(*(jnp.where(bottom, stand_in, payload) for payload, stand_in in harmless))

    payloads = [operand.payload for operand in operands]
    # Evaluated twice, so that what overflows is known before anything is differentiated.
    bottom = bottom | ~jnp.isfinite(evaluate(bottom, jax.lax.stop_gradient(payloads)))
    return SCMArray(evaluate(bottom, payloads), bottom)


def _pair(x: object, y: object) -> tuple[SCMArray, SCMArray]:
    """Two operands in one dtype; what is too large for it becomes ⊥."""
    first, second = as_array(x), as_array(y)
    dtype = jnp.result_type(first.payload, second.payload)
    return SCMArray(first.payload.astype(dtype), first.mask), SCMArray(second.payload.astype(dtype), second.mask)


def add(x: object, y: object) -> SCMArray:
    """x + y."""
    return _total(jnp.add, *_pair(x, y), stand_ins=(0, 0))


def subtract(x: object, y: object) -> SCMArray:
    """x - y."""
    return _total(jnp.subtract, *_pair(x, y), stand_ins=(0, 0))


def multiply(x: object, y: object) -> SCMArray:
    """x · y."""
    return _total(jnp.multiply, *_pair(x, y), stand_ins=(0, 0))


def divide(x: object, y: object) -> SCMArray:
    """x / y, ⊥ for y = 0 and, for reals, where |x|/y² overflows."""
    dividend, divisor = _pair(x, y)
    n, d = jax.lax.stop_gradient((dividend.payload, divisor.payload))
    invalid = d == 0
    if not jnp.iscomplexobj(d):
        invalid = ~jnp.isfinite(jnp.abs(n) / jnp.square(d))
    return _total(jnp.divide, dividend, divisor, invalid=invalid, stand_ins=(0, 1))


def invert(x: object) -> SCMArray:
    """1 / x, ⊥ for 0."""
    operand = as_array(x)
    return _total(lambda x: 1 / x, operand, invalid=operand.payload == 0, stand_ins=(1,))


def negate(x: object) -> SCMArray:
    """-x."""
    operand = as_array(x)
    return SCMArray(-operand.payload, operand.mask)


def power(x: object, exponent: object) -> SCMArray:
    """x ** exponent, ⊥ for 0 with a negative exponent and for negative reals with a fractional one."""
    if not is_array(exponent) or isinstance(exponent, SCMArray):
        exponent = real_exponent(exponent)
    base, p = as_array(x), jax.lax.stop_gradient(as_array(exponent))
    if jnp.iscomplexobj(p.payload):
        raise UsageError("an exponent must be real; write x**y as scm_exp(scm_mul(y, scm_log(x))).")
    p = SCMArray(p.payload.astype(jnp.real(base.payload).dtype), p.mask)
    invalid = p.mask | ((base.payload == 0) & (p.payload < 0))
    if jnp.iscomplexobj(base.payload):
        if isinstance(exponent, float) and exponent.is_integer() and abs(exponent) <= 100:
            whole = int(exponent)  # by multiplication, exact where exp(p log x) is not
            return _total(lambda x: jax.lax.integer_pow(x, whole), base, invalid=invalid, stand_ins=(1,))
    else:
        invalid |= (base.payload < 0) & (p.payload != jnp.floor(p.payload))
    raised = p.payload.astype(base.dtype)
    # x**0 is 1 for every x; its derivative as JAX has it, 0 · x**-1, is not 0 at 0.
    return _total(lambda x: jnp.power(jnp.where(raised == 0, 1, x), raised), base, invalid=invalid, stand_ins=(1,))


def logarithm(x: object) -> SCMArray:
    """ln x, principal for complex x; ⊥ for 0 and for negative reals."""
    operand = as_array(x)
    payload = operand.payload
    return _total(jnp.log, operand, invalid=payload == 0 if jnp.iscomplexobj(payload) else payload <= 0, stand_ins=(1,))


def exponential(x: object) -> SCMArray:
    """e**x."""
    return _total(jnp.exp, as_array(x), stand_ins=(0,))


def square_root(x: object) -> SCMArray:
    """√x, principal for complex x; ⊥ for negative reals."""
    operand = as_array(x)
    if jnp.iscomplexobj(operand.payload):
        return _total(_complex_square_root, operand, stand_ins=(1,))
    return _total(jnp.sqrt, operand, invalid=operand.payload < 0, stand_ins=(1,))


def _complex_square_root(z: Array) -> Array:
    """√z with its cut along the negative reals, -0 as imaginary part below it. XLA puts both zeros above."""
    below = (z.imag == 0) & jnp.signbit(z.imag) & (z.real < 0)
    root = jnp.sqrt(z)
    return jnp.where(below, -root, root)


def sine(x: object) -> SCMArray:
    """sin x."""
    return _total(jnp.sin, as_array(x), stand_ins=(0,))


def cosine(x: object) -> SCMArray:
    """cos x."""
    return _total(jnp.cos, as_array(x), stand_ins=(0,))


def tangent(x: object) -> SCMArray:
    """tan x."""
    return _total(jnp.tan, as_array(x), stand_ins=(0,))
