"""What is said while a search goes on: a line a candidate, every so many epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..core import UsageError
from ..training import EpochRecord
from ._candidates import Candidate, Goal
from ._engines import Task
from ._tail import Tail

_LINES = 8  # a candidate, over its whole run
_WIDTH = 80

Say = Callable[[str], None]
"""Takes a line for a person to read."""


class Progress:
    """Follows the telemetry of candidates.

    Args:
        goal: whose metric is shown.
        say: takes the lines; None says nothing.
    """

    def __init__(self, goal: Goal, say: Say | None):
        self.goal, self.say = goal, say
        self._followed: list[_Followed] = []

    def follow(self, tasks: Sequence[Task]) -> None:
        """Turn to these candidates; what they did before is not told again."""
        self._followed = [_Followed(task, self.goal) for task in tasks] if self.say is not None else []

    def look(self) -> None:
        """Tell what is new."""
        for one in self._followed:
            for line in one.lines():
                self.tell(line)

    def tell(self, line: str) -> None:
        """Say something."""
        if self.say is not None:
            self.say(line)


class _Followed:
    """One candidate's telemetry."""

    def __init__(self, task: Task, goal: Goal):
        self.candidate, self.until, self.goal = task.candidate, task.until, goal
        self.every = math.ceil(task.candidate.epochs / _LINES)
        self.tail = Tail(task.path / "telemetry.jsonl")
        self.value: float | None = None
        self.best: float | None = None
        self.epochs = 0
        self._read()

    def _read(self) -> list[int]:
        """Take in what is new; the epochs done that a line is due for."""
        due = []
        for fields in self.tail.read():
            if fields.get("kind") != "epoch_end":
                continue
            try:
                record = EpochRecord.from_json(fields)
            except UsageError:
                continue
            self.epochs = record.epoch + 1
            value = record.metrics.get(self.goal.metric)
            if value is not None:
                self.value = value
                if math.isfinite(value) and (self.best is None or (value < self.best) == (self.goal.mode == "min")):
                    self.best = value
            if self.epochs % self.every == 0 or self.epochs == self.until:
                due.append(self.epochs)
        return due

    def lines(self) -> list[str]:
        """What to say now: of several epochs that are due, the last."""
        due = self._read()
        return [progress_line(self.candidate, self.epochs, self.goal.metric, self.value, self.best)] if due else []


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def progress_line(candidate: Candidate, epochs: int, metric: str, value: float | None, best: float | None) -> str:
    """Where a candidate is."""
    place = f"epoch {epochs}/{candidate.epochs}"
    score = f"{metric} {_short(value)}, best {_short(best)}"
    room = _WIDTH - len(place) - len(score) - len(f"{candidate.number:>3}  ") - 4
    label = candidate.label if len(candidate.label) <= room else candidate.label[: max(0, room - 1)] + "…"
    return f"{candidate.number:>3}  {label}  {place}  {score}"
