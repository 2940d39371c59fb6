"""How a candidate stands: read from its run's files, and put in order."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from ..core import UsageError, number
from ..training import RunFolder
from ..training import Status as RunStatus
from ._candidates import Candidate, Goal


class State(enum.Enum):
    """Where a candidate is in the search."""

    WAITING = "waiting"  # not begun
    TRAINING = "training"
    PAUSED = "paused"  # waits for the others, to be ranked
    CULLED = "culled"  # trained no further
    FINISHED = "finished"  # all its epochs done, or its own early stopping ended it
    DIVERGED = "diverged"
    FAILED = "failed"  # an error ended it


_ORDER = {State.FINISHED: 0, State.DIVERGED: 2, State.FAILED: 3}  # all others between
_REACHED = {
    RunStatus.COMPLETED.value: State.FINISHED,
    RunStatus.STOPPED.value: State.FINISHED,
    RunStatus.PAUSED.value: State.PAUSED,
    RunStatus.DIVERGED.value: State.DIVERGED,
}


@dataclasses.dataclass(frozen=True)
class Standing:
    """How a candidate stands.

    Attributes:
        candidate: which.
        state: where it is.
        epochs: epochs done.
        score: its best value so far; None without one.
        ties: the metrics that decide between equal scores, at the epoch of the best.
        best_epoch: which epoch that is.
        seconds: time spent training.
        message: why it ended as it did, where there is something to say.
    """

    candidate: Candidate
    state: State = State.WAITING
    epochs: int = 0
    score: float | None = None
    ties: Mapping[str, float] = dataclasses.field(default_factory=dict)
    best_epoch: int | None = None
    seconds: float = 0.0
    message: str = ""

    @property
    def over(self) -> bool:
        """Whether it trains no further in this search."""
        return self.state in (State.CULLED, State.FINISHED, State.DIVERGED, State.FAILED)

    @property
    def scored(self) -> bool:
        """Whether its score is a finite number."""
        return self.score is not None and math.isfinite(self.score)


def standing_of(candidate: Candidate, path: Path, goal: Goal) -> Standing:
    """What a run's files say of it.

    Raises:
        UsageError: they are missing or damaged, or the run kept the best of another metric.
    """
    folder = RunFolder.open(path)
    result = folder.read_json(folder.result_path)
    try:
        state = _REACHED[result["status"]]
        best, epochs, seconds = (
            result["best"],
            int(result["epochs_completed"]),
            round(float(number(result["wall_seconds"])), 3),
        )
        reason = "" if result["status"] in ("completed", "paused") else str(result["reason"])
        found = Standing(candidate, state, epochs, seconds=seconds, message=reason)
        if best is None:
            return found
        metric, value, epoch = best["metric"], float(number(best["value"])), int(best["epoch"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{folder.result_path} is damaged ({type(error).__name__}: {error}).") from error
    if metric != goal.metric:
        raise UsageError(f"the run {path} keeps the best '{metric}', and the search ranks by '{goal.metric}'.")
    metrics: Mapping[str, float] = {}
    if goal.ties:
        metrics = next((record.metrics for record in folder.records() if record.epoch == epoch), {})
    ties = {name: float(metrics[name]) for name, _ in goal.ties if name in metrics}
    return dataclasses.replace(found, score=value, ties=ties, best_epoch=epoch)


def ranked(standings: Iterable[Standing], goal: Goal) -> list[Standing]:
    """The best first.

    What is not finite comes last, in score and ties alike. Of two equal scores the ties decide, then the lower
    number. Those that finished come before those that were culled or still train, then what diverged, then what
    failed, whatever they had scored before.
    """

    def worth(value: float | None, mode: str) -> tuple[bool, float]:
        if value is None or not math.isfinite(value):
            return True, 0.0
        return False, value if mode == "min" else -value

    def key(one: Standing) -> tuple[object, ...]:
        ties = [worth(one.ties.get(name), mode) for name, mode in goal.ties]
        return _ORDER.get(one.state, 1), worth(one.score, goal.mode), *ties, one.candidate.number

    return sorted(standings, key=key)


def chosen(standings: Iterable[Standing], goal: Goal, keep: int) -> list[int]:
    """The numbers of the `keep` best that may go on, of those that were judged after the same part of their budget.

    What has ended early is judged with the others, but for what diverged or failed.
    """
    alive = [one for one in standings if one.state in (State.PAUSED, State.FINISHED)]
    as_equals = [dataclasses.replace(one, state=State.PAUSED) for one in alive]
    return sorted(one.candidate.number for one in ranked(as_equals, goal)[:keep])


def winner_of(standings: Iterable[Standing], goal: Goal) -> Standing | None:
    """The best of those that went to their end with a finite score; None where there is none.

    One that diverged after a finite score wins only if no other finished with one.
    """
    ended = [one for one in ranked(standings, goal) if one.state in (State.FINISHED, State.DIVERGED) and one.scored]
    return ended[0] if ended else None
