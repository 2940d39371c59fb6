"""The controls of a run: which changed and are worth a curve, and which one line of text tells."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ..training import EpochRecord
from ._text import as_number


def split_controls(records: Sequence[EpochRecord]) -> tuple[list[str], dict[str, Any]]:
    """Controls that change, and those that do not with their value.

    What is neither a number nor a yes or no is left out where it changes.

    Returns:
        Names of those that change, and the value of each of the others by name.
    """
    names = dict.fromkeys(itertools.chain.from_iterable(record.controls for record in records))
    changing: list[str] = []
    constant: dict[str, Any] = {}
    for name in names:
        values = [record.controls.get(name) for record in records]
        if all(_same(value, values[0]) for value in values):
            constant[name] = values[0]
        elif all(value is None or isinstance(value, bool) or as_number(value) is not None for value in values):
            changing.append(name)
    return changing, constant


def is_flag(records: Sequence[EpochRecord], name: str) -> bool:
    """Whether a control is yes or no in every epoch that has it."""
    values = [record.controls.get(name) for record in records]
    return all(value is None or isinstance(value, bool) for value in values)


def _same(value: Any, other: Any) -> bool:
    """Equal, with NaN equal to itself."""
    return bool(value == other or (value != value and other != other))
