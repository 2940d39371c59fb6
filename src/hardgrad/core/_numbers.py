"""Checked numbers."""

from __future__ import annotations

import operator
from typing import Any

from ._errors import UsageError


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
