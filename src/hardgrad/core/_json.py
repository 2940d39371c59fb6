"""JSON with full-precision floats. Bare NaN is not JSON, so non-finite numbers are strings."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


_ON_ONE_LINE = json.JSONEncoder(allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """`value` in the types JSON knows; arrays as nested lists, non-finite numbers as strings."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, str | int | float):
        return value
    if hasattr(value, "__array__"):
        return _plain(np.asarray(value).tolist())
    raise TypeError(f"cannot write {type(value).__name__} as JSON: {value!r}")


def dumps(value: Any, *, indent: int | None = None) -> str:
    """`value` as JSON text: floats in full precision, arrays as lists, NaN and infinities as strings.

    Raises:
        TypeError: something in it has no JSON form.
    """
    encoder = _ON_ONE_LINE if indent is None else json.JSONEncoder(allow_nan=False, ensure_ascii=False, indent=indent)
    try:
        return encoder.encode(value)
    except (ValueError, TypeError):
        return encoder.encode(_plain(value))


def number(value: Any) -> Any:
    """A number read from such text: the strings that stand for non-finite ones become floats."""
    if isinstance(value, list):
        return [number(v) for v in value]
    return _NON_FINITE.get(value, value) if isinstance(value, str) else value
