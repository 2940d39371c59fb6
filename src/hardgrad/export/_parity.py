"""Whether two results of one program are the same: to the bit, or for another runtime to rounding."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

RTOL = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-12}
"""Relative differences that rounding explains, where sums are taken in another order."""


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far two results agree.

    Attributes:
        rows: how many were compared.
        bitwise: whether every entry is the same to the bit; one NaN counts as another.
        worst: the largest difference of finite floating-point numbers, relative to the number or, where that is
            larger, to the median size of its output.
        problem: where they differ by more than is allowed, in a sentence; None if they don't.
    """

    rows: int
    bitwise: bool
    worst: float
    problem: str | None = None


def compare(wanted: Arrays, found: Arrays, *, rtol: float | Mapping[str, float]) -> Parity:
    """Compare two results by name.

    Masks and other whole numbers must be identical, and so must be where a number is NaN or infinite.

    Args:
        wanted: the reference.
        found: of the same names.
        rtol: relative difference allowed in finite entries, for all floating dtypes or by dtype, in the measure of
            `Parity.worst`. What is below the least normal number counts as zero.
    """
    rows, bitwise, worst, problem = 0, True, 0.0, None
    for name, reference in wanted.items():
        value = np.asarray(found[name])
        rows = max(rows, len(reference) if reference.ndim else 1)
        if value.dtype != reference.dtype or value.shape != reference.shape:
            text = f"{value.dtype} {list(value.shape)} instead of {reference.dtype} {list(reference.shape)}"
            return Parity(rows, False, float("inf"), f"'{name}' is {text}")
        same = _same_bits(reference, value)
        bitwise = bitwise and bool(same.all())
        bad = ~same
        if reference.dtype.kind == "f":
            difference = _relative(reference, value)
            finite = np.isfinite(difference)
            worst = max(worst, float(difference[finite].max(initial=0.0)))
            bad &= ~(difference <= (rtol if isinstance(rtol, float) else rtol[reference.dtype.name]))
        if problem is None and bad.any():
            problem = _described(name, reference, value, bad)
    return Parity(rows, bitwise, worst, problem)


def _same_bits(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    if a.dtype.kind != "f":
        return np.asarray(a == b)
    whole = f"u{a.dtype.itemsize}"
    equal = np.ascontiguousarray(a).view(whole).reshape(a.shape) == np.ascontiguousarray(b).view(whole).reshape(b.shape)
    return np.asarray(equal | (np.isnan(a) & np.isnan(b)))


def _relative(reference: NDArray[Any], value: NDArray[Any]) -> NDArray[np.float64]:
    """|value − reference| / max(|reference|, median |reference|); 0 where both are NaN or the same infinity, ∞
    where only one is. A sum of terms of the output's usual size has an error of that size, however small it is."""
    tiny = float(np.finfo(reference.dtype).tiny)
    a, b = reference.astype(np.float64), value.astype(np.float64)
    a, b = (np.where(np.abs(x) < tiny, 0.0, x) for x in (a, b))
    sizes = np.abs(a[np.isfinite(a)])
    usual = max(float(np.median(sizes)), tiny) if sizes.size else tiny
    with np.errstate(all="ignore"):
        distance = np.where(a == b, 0.0, np.abs(a - b) / np.maximum(np.abs(a), usual))
    distance = np.where(np.isfinite(a) & np.isfinite(b) | (a == b), distance, np.inf)
    return np.asarray(np.where(np.isnan(a) & np.isnan(b), 0.0, distance))


def _described(name: str, reference: NDArray[Any], value: NDArray[Any], bad: NDArray[np.bool_]) -> str:
    first = tuple(int(i) for i in np.argwhere(bad)[0])
    where = f" of row {first[0]}" if first else ""
    return (
        f"'{name}' differs in {int(bad.sum())} of {bad.size} entries, first in one{where}: "
        f"{value[first].item()!r} instead of {reference[first].item()!r}"
    )
