"""The columns of the matrix."""

from __future__ import annotations

from ._chains import box, chain
from ._names import check_application
from ._poles import poles
from ._problem import Problem
from ._regression import regression
from ._songs import songs
from ._spikes import classification, control

_MADE = {
    "regression": regression,
    "chain": chain,
    "box": box,
    "rational": poles,
    "song": songs,
    "spiking": classification,
    "control": control,
}


def problem(name: str) -> Problem:
    """The problem of a name, with its data.

    Raises:
        UsageError: there is none.
    """
    check_application(name)
    return _MADE[name]()
