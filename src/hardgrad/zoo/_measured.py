"""What the matrix measured, as advice quotes it: the best method of each family. Imports no JAX.

The figures are those of the documentation's page on the matrix; ``tools/matrix_tables.py`` writes both.
"""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from ..core import Order
from ._guide import Row

PATH = Path(__file__).with_name("_measured.json")


def figure(value: float) -> str:
    """A score in at most five signs."""
    if not math.isfinite(value):
        return "inf"
    if 0 < value < 0.0005 or value >= 1000:
        return f"{value:.0e}"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"


class Measured(NamedTuple):
    """A family's best method on one problem, at equal evaluations.

    Attributes:
        label: which method.
        median: over seeds, as a share of what a trivial answer scores: 1 has learned nothing, 0 is perfect.
        spread: half of the interquartile range, likewise.
        best: whether no method at all is better by more than chance.
    """

    label: str
    median: float
    spread: float
    best: bool

    def __str__(self) -> str:
        return f"{self.label} {figure(self.median)} ± {figure(self.spread)}"


def measured(column: str | None) -> dict[Order, Measured]:
    """The best of each family that could be tried in a column; nothing where there is no column.

    Args:
        column: name of a column of the matrix, or None.
    """
    cells = {} if column is None else _content()["columns"].get(column, {})
    return {Order(order): Measured(**cell) for order, cell in cells.items()}


_KINDS = {"control": ("none",), "spiking": ("surrogate",), "song": ("exact", "explodes"), "box": ("none",)}
"""Kinds of derivative that a column's problem stands for; of the others, an exact one."""


def nearest_column(application: Row, derivative: Row) -> str | None:
    """The column for a question: the application's if its problem has such a derivative, else the derivative's."""
    if application.matrix is not None and derivative.name in _KINDS.get(application.matrix, ("exact",)):
        return application.matrix
    return derivative.matrix


def about(column: str | None) -> str:
    """What the problem of a column is."""
    return str(_content()["about"].get(column, ""))


def conditions() -> str:
    """Budget, seeds and date."""
    content = _content()
    return f"{content['budget']:,} evaluations, {content['seeds']} seeds, {content['date']}"


@functools.cache
def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return content
