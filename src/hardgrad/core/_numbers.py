"""Checked arguments: numbers and choices."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any, get_args

from ._errors import UsageError, did_you_mean


def whole_number(name: str, value: Any, *, least: int, most: int | None = None) -> int:
    """`value` as an int; NumPy's integers are whole numbers too, booleans and floats are not.

    Raises:
        UsageError: it is none, or out of range.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least or (most is not None and number > most):
        wanted = f"at least {least}" if most is None else f"from {least} to {most}"
        raise UsageError(f"{name} must be a whole number, {wanted}; got {value!r}.")
    return number


def finite_number(name: str, value: Any, *, least: float = -math.inf, above: float | None = None) -> float:
    """`value` as a finite float; NumPy's real numbers will do, booleans, arrays and text do not.

    Args:
        name: of the argument, for the message.
        value: what was given.
        least: the least value allowed.
        above: a bound that it must exceed; None for none.

    Raises:
        UsageError: it is none, or out of range.
    """
    plain = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not plain or not math.isfinite(value) or value < least or (above is not None and value <= above):
        wanted = f" above {above:g}" if above is not None else f", at least {least:g}" if least > -math.inf else ""
        raise UsageError(f"{name} must be a finite number{wanted}; got {value!r}.")
    return float(value)


def one_of(name: str, value: Any, choices: Any) -> None:
    """Check that `value` is one of the strings of a ``Literal``.

    Raises:
        UsageError: it is not; the message names the nearest.
    """
    if value not in get_args(choices):
        raise UsageError(f"{name} is not {value!r}. {did_you_mean(str(value), get_args(choices))}")
