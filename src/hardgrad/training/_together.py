"""Runs that train together: a block goes to whoever gathers those of all, not to a program of its own.

What gathers them is set for a thread (`TOGETHER`), around a call of `Trainer.fit`; see `hardgrad.search`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from ..core import UsageError
from ._program import Flat, Packed

Executor = Callable[..., tuple[Flat, Packed]]
"""A block's arguments to its results: `run_block`, compiled or not, or something that does the same."""


class NotAlike(UsageError):
    """Runs can't train in one program: their models, methods or shapes differ, or they have none.

    Args:
        reason: what differs.
    """

    def __init__(self, reason: str):
        super().__init__(f"{reason}. Take the engine 'processes'.")
        self.reason = reason


TOGETHER: ContextVar[Any] = ContextVar("TOGETHER", default=None)
"""The `Executor` of runs begun in this context; None runs each block in a program of its own."""
