"""What a call of `Trainer.fit` hands to the rooms behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import PyTree

from ..core import Params
from ..schedules import Plan
from ._data import Feed
from ._method import AbstractMethod
from ._record import Reducer
from ._step import Recorder
from .callbacks import Callback


@runtime_checkable
class Settings(Protocol):
    """What is read of a trainer; see `Trainer` for what each means."""

    @property
    def method(self) -> AbstractMethod:
        """The method."""
        ...

    @property
    def plan(self) -> Plan:
        """The schedules."""
        ...

    @property
    def callbacks(self) -> Sequence[Callback]:
        """In any order."""
        ...

    @property
    def precision(self) -> str | None:
        """The dtype of the arithmetic."""
        ...

    @property
    def accumulate(self) -> int:
        """Microbatches of a batch."""
        ...

    @property
    def steps_per_dispatch(self) -> int | None:
        """Most steps of a block."""
        ...

    @property
    def max_nonfinite(self) -> int:
        """Non-finite steps in a row that end the run."""
        ...

    @property
    def reduce(self) -> Mapping[str, Reducer]:
        """How steps become an epoch."""
        ...

    @property
    def record(self) -> Recorder | None:
        """Arrays to keep."""
        ...

    @property
    def execution(self) -> str:
        """Compiled or eager."""
        ...


class Job(NamedTuple):
    """What is trained, on what, for how long.

    Attributes:
        objective: what is minimised.
        params: the parameters at the start.
        rest: the model without them.
        feed: the data.
        held_out: validation data, or None.
        epochs: how many.
        seed: decides everything random.
    """

    objective: Any
    params: Params
    rest: PyTree
    feed: Feed
    held_out: Feed | None
    epochs: int
    seed: int
