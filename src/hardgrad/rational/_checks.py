"""Checks of plain arguments."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np

from ..core import UsageError, did_you_mean


def check_choice(name: str, given: Any, known: Any) -> None:
    """Raise `UsageError` unless `given` is one of the strings of a `Literal`."""
    if given not in get_args(known):
        raise UsageError(f"{name} is not {given!r}. {did_you_mean(str(given), get_args(known))}")


def check_number(name: str, value: Any, *, least: float = -math.inf, above: float | None = None) -> float:
    """`value` as a finite float that is at least `least`, or larger than `above`."""
    plain = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not plain or not math.isfinite(value) or value < least or (above is not None and value <= above):
        wanted = f" above {above:g}" if above is not None else f", at least {least:g}" if least > -math.inf else ""
        raise UsageError(f"{name} must be a finite number{wanted}; got {value!r}.")
    return float(value)
