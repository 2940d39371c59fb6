"""The golden answers of the published package, and which of them are checked where.

Every section must be read by a test through `cases`, or stand in `LEFT_OUT` with the reason: `test_golden_complete`
holds us to it.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEFT_OUT: dict[str, str] = {
    "fru_flatten": "symbolic flattening of fracterms is not part of this library",
    "fracterm": "symbolic flattening of fracterms is not part of this library",
    "fru_bounds": "symbolic flattening of fracterms is not part of this library",
    "scalar_graph": "a teaching tool: JAX differentiates the algebra itself",
    "bundle": "our bundles hold StableHLO and have a schema of their own",
}


@functools.cache
def _document() -> dict[str, Any]:
    text = (Path(__file__).parents[1] / "golden" / "rational.json").read_text()
    document: dict[str, Any] = json.loads(text)
    return document


def sections() -> list[str]:
    """All section names."""
    return list(_document()["sections"])


def cases(section: str) -> list[dict[str, Any]]:
    """The cases of a section, as in the file: see `array` and `number` for their values."""
    found: list[dict[str, Any]] = _document()["sections"][section]
    return found


def number(value: Any) -> Any:
    """A number as the file writes it: ``"nan"``, ``"inf"`` and ``{"re", "im"}`` included."""
    if isinstance(value, str):
        return float(value)
    if isinstance(value, dict) and set(value) == {"re", "im"}:
        return complex(number(value["re"]), number(value["im"]))
    return value


def array(value: Any, dtype: Any = None) -> NDArray[Any]:
    """An array: ``{dtype, shape, data}``, or nested lists of numbers."""
    if isinstance(value, dict) and "data" in value:
        flat = [number(v) for v in value["data"]]
        return np.array(flat, dtype=dtype or value["dtype"]).reshape(value["shape"])
    nested = np.array(value, dtype=object)
    flat = [number(v) for v in nested.ravel()] if nested.dtype == object else list(nested.ravel())
    return np.array(flat, dtype=dtype).reshape(nested.shape)


def tolerance(dtype: Any) -> dict[str, float]:
    """How near an answer must come, by dtype."""
    return {"rtol": 2e-6, "atol": 1e-12} if np.dtype(dtype).itemsize <= 4 else {"rtol": 1e-12, "atol": 1e-15}
