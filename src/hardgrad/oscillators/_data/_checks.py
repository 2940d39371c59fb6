"""Checks of plain arguments."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np

from ...core import UsageError, did_you_mean


def check_choice(name: str, given: Any, known: Any) -> None:
    """Raise `UsageError` unless `given` is one of the strings of a `Literal`."""
    if given not in get_args(known):
        raise UsageError(f"{name} is not {given!r}. {did_you_mean(str(given), get_args(known))}")


def is_number(value: Any) -> bool:
    """Whether it is a finite number, and no boolean."""
    plain = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return plain and math.isfinite(value)
