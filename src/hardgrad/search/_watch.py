"""Watching a run or a search from outside, by what its files say.

A poll looks once and tells what has happened since the last one, an `Event` each. What it has to remember between two
polls is a plain dict that JSON can hold.

| event | when |
|---|---|
| ``DEAD`` | no process works in the folder, and it has not ended |
| ``NAN_SPIKE`` | more steps than that were left out since the last poll, because something was not finite |
| ``LOSS_SPIKE`` | the mean loss of some epochs is a multiple of that of as many before |
| ``CKPT_ERR`` | the newest checkpoint can't be read |
| ``NEW_CKPT`` | there is a newer checkpoint |
| ``PLATEAU`` | there is, but the best score has not moved for some checkpoints in a row |
| ``PLATEAU_LOSS`` | the loss has not fallen for some polls in a row that saw new epochs |
| ``CANDIDATE`` | a search: a candidate was culled, has finished, diverged or failed |
| ``END`` | it has ended |
| ``HEARTBEAT`` | nothing of all this for some polls |
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..core import CheckpointError, UsageError, number, whole_number
from ..training import EpochRecord, RunFolder
from ..training import Status as RunStatus
from ..training._storage import read_manifest
from ._folder import SearchFolder
from ._standing import State

_GOOD = {RunStatus.COMPLETED.value, RunStatus.STOPPED.value, RunStatus.PAUSED.value}


@dataclasses.dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        status: which kind; see the table above.
        fields: what there is to say of it.
    """

    status: str
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def line(self) -> str:
        """``status=… key=value…``, for people and programs alike.

        Examples:
            >>> from hardgrad.search import Event
            >>> Event("NEW_CKPT", {"checkpoint": 12, "loss": 0.25, "note": "two words"}).line()
            'status=NEW_CKPT checkpoint=12 loss=0.25 note="two words"'
        """
        shown = [f"{name}={_word(value)}" for name, value in self.fields.items() if value is not None]
        return " ".join([f"status={self.status}", *shown])


@dataclasses.dataclass(frozen=True)
class Limits:
    """When something is worth telling.

    Attributes:
        nonfinite: steps left out between two polls that are borne.
        window: epochs whose losses are averaged.
        factor: by which their mean may exceed that of the window before.
        gain: the share by which the best score must move to count as moved.
        checkpoints: how many in a row without such a move make a plateau.
        loss_gain: the share by which the loss must fall to count as fallen.
        loss_polls: how many polls in a row without make a plateau.
        heartbeat: polls without an event, after which there is a sign of life.

    Raises:
        UsageError: one is out of range.
    """

    _: dataclasses.KW_ONLY
    nonfinite: int = 50
    window: int = 5
    factor: float = 2.0
    gain: float = 0.02
    checkpoints: int = 2
    loss_gain: float = 0.02
    loss_polls: int = 8
    heartbeat: int = 4

    def __post_init__(self) -> None:
        for name in ("window", "checkpoints", "loss_polls", "heartbeat"):
            whole_number(name, getattr(self, name), least=1)
        whole_number("nonfinite", self.nonfinite, least=0)
        if not self.factor > 1:
            raise UsageError(f"factor must be above 1, got {self.factor!r}.")
        for name in ("gain", "loss_gain"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name} must be at least 0, got {getattr(self, name)!r}.")


Memory = dict[str, Any]
"""What a poll remembers for the next one."""


@dataclasses.dataclass(frozen=True)
class Poll:
    """What one look has shown.

    Attributes:
        events: in the order of the table above.
        memory: for the next look.
        over: whether there will be nothing more to see.
        well: whether it has not ended badly.
    """

    events: Sequence[Event]
    memory: Memory
    over: bool = False
    well: bool = True


def poll_run(folder: RunFolder, memory: Memory | None = None, limits: Limits | None = None) -> Poll:
    """Look at a run once.

    Args:
        folder: the run.
        memory: what the last look left; None for the first.
        limits: when something is worth telling; None takes the defaults.

    Raises:
        UsageError: the run's files or the memory are damaged.
    """
    return _poll_run(folder, _checked(memory), limits or Limits())


def poll_search(folder: SearchFolder, memory: Memory | None = None, limits: Limits | None = None) -> Poll:
    """Look at a search once: at each of its candidates that trains, and at itself.

    Args:
        folder: the search.
        memory: what the last look left; None for the first.
        limits: when something is worth telling; None takes the defaults.

    Raises:
        UsageError: the files of the search or the memory are damaged.
    """
    return _poll_search(folder, _checked(memory), limits or Limits())


def _checked(memory: Any) -> Memory:
    """A copy of what the last poll left; `UsageError` if it can't be that."""
    if memory is None:
        return {}
    kinds: dict[str, Any] = {"candidates": dict, "state": str}
    for name, value in memory.items() if isinstance(memory, dict) else [("all of it", memory)]:
        if not isinstance(value, kinds.get(name, int | float)):
            raise UsageError(f"what the last poll left is damaged: {name} is {value!r}. Delete it to begin anew.")
    candidates = {name: _checked(value) for name, value in memory.get("candidates", {}).items()}
    return {**memory, "candidates": candidates} if candidates else dict(memory)


def _poll_run(folder: RunFolder, memory: Memory, limits: Limits) -> Poll:
    alive = folder.in_use()  # asked first: what has ended since then has its files complete
    records, last = list(folder.records()), _last_event(folder)
    result = folder.read_json(folder.result_path) if folder.result_path.is_file() else None
    ended = last.get("kind") == "run_end" and isinstance(result, dict) and not alive
    events = _training(folder, records, memory, limits)
    if ended:
        status = str(result.get("status")) if isinstance(result, dict) else ""
        end = Event("END", {"result": status, "epoch": len(records), **_best(folder)})
        return Poll([*events, end], memory, over=True, well=status in _GOOD)
    if alive is False:
        error = {"error": f"{last.get('type')}: {last.get('message')}"} if last.get("kind") == "error" else {}
        return Poll([Event("DEAD", {"epoch": len(records), **error}), *events], memory, over=True, well=False)
    standing = {"epoch": len(records), **_losses(records), **_best(folder)}
    return Poll(_or_heartbeat(events, standing, memory, limits), memory)


def _poll_search(folder: SearchFolder, memory: Memory, limits: Limits) -> Poll:
    alive = folder.in_use()
    setup = folder.read_setup()
    standings = folder.read_table(setup)
    winner = folder.read_winner()
    before = memory.get("candidates", {})
    after: Memory = {}
    events: list[Event] = []
    for one in standings:
        name = str(one.candidate.number)
        known: Memory = dict(before.get(name, {}))
        run = folder.run(one.candidate.number)
        if one.state is State.TRAINING and run.path.is_dir():
            found = _training(run, list(run.records()), known, limits)
            events += [Event(event.status, {"candidate": one.candidate.number, **event.fields}) for event in found]
        if one.over and known.get("state") != one.state.value:
            said = {"state": one.state.value, "score": one.score, "message": one.message or None}
            events.append(Event("CANDIDATE", {"candidate": one.candidate.number, **said}))
        after[name] = {**known, "state": one.state.value}
    memory["candidates"] = after
    done = all(one.over for one in standings)
    if done and not alive:
        fields = {"winner": "none"} if winner is None else {"winner": winner["candidate"], "score": winner.get("score")}
        return Poll([*events, Event("END", fields)], memory, over=True, well=winner is not None)
    over = sum(one.over for one in standings)
    if alive is False:
        return Poll([Event("DEAD", {"over": over, "of": len(standings)}), *events], memory, over=True, well=False)
    return Poll(_or_heartbeat(events, {"over": over, "of": len(standings)}, memory, limits), memory)


def _or_heartbeat(events: list[Event], fields: Mapping[str, Any], memory: Memory, limits: Limits) -> list[Event]:
    """The events; and a sign of life where there were none for long enough."""
    memory["quiet"] = 0 if events else memory.get("quiet", 0) + 1
    if memory["quiet"] < limits.heartbeat:
        return events
    memory["quiet"] = 0
    return [Event("HEARTBEAT", fields)]


def _training(folder: RunFolder, records: list[EpochRecord], memory: Memory, limits: Limits) -> list[Event]:
    """What has happened in the training of a run."""
    new = len(records) > memory.get("epoch", 0)
    memory["epoch"] = len(records)
    found = [
        _nan_spike(records, memory, limits),
        _loss_spike(records, memory, limits),
        _checkpoint(folder, records, memory, limits),
        _loss_plateau(records, memory, limits) if new else None,
    ]
    return [event for event in found if event is not None]


def _nan_spike(records: list[EpochRecord], memory: Memory, limits: Limits) -> Event | None:
    skipped = int(sum(record.metrics.get("skipped", 0.0) for record in records))
    grown = skipped - memory.get("skipped", 0)
    memory["skipped"] = skipped
    return Event("NAN_SPIKE", {"skipped": skipped, "grown": grown}) if grown > limits.nonfinite else None


def _loss_spike(records: list[EpochRecord], memory: Memory, limits: Limits) -> Event | None:
    """Told once of the same epochs."""
    window, epochs = limits.window, len(records)
    losses = [record.metrics["loss"] for record in records[-2 * window :] if "loss" in record.metrics]
    if len(losses) < 2 * window or epochs < memory.get("spiked", -window) + window:
        return None
    before, now = sum(losses[:window]) / window, sum(losses[window:]) / window
    if not math.isfinite(before) or before <= 0 or now <= limits.factor * before:
        return None
    memory["spiked"] = epochs
    return Event("LOSS_SPIKE", {"epoch": epochs, "loss": now, "before": before})


def _checkpoint(folder: RunFolder, records: list[EpochRecord], memory: Memory, limits: Limits) -> Event | None:
    checkpoints = folder.checkpoints()  # in the order of their numbers
    newest = int(checkpoints[-1].name) if checkpoints else 0
    if newest <= memory.get("checkpoint", 0):
        return None
    memory["checkpoint"] = newest
    fields: dict[str, Any] = {"checkpoint": newest}
    try:
        read_manifest(checkpoints[-1])
    except CheckpointError as error:
        if not checkpoints[-1].exists():  # there is a newer one by now
            return None
        return Event("CKPT_ERR", {**fields, "error": str(error)})
    best = _best(folder)
    metrics = next((record.metrics for record in records if record.epoch == newest - 1), {})
    shown = str(best["metric"]) if "metric" in best else "loss"
    fields |= {shown: metrics.get(shown), **best}
    score, known = best.get("best"), memory.get("best")
    if score is None:
        return Event("NEW_CKPT", fields)
    if known is None or abs(score - known) > limits.gain * abs(known):
        memory |= {"best": score, "stale": 0}
        return Event("NEW_CKPT", fields)
    memory["stale"] = memory.get("stale", 0) + 1
    return Event("PLATEAU" if memory["stale"] >= limits.checkpoints else "NEW_CKPT", fields)


def _loss_plateau(records: list[EpochRecord], memory: Memory, limits: Limits) -> Event | None:
    """Only polls that saw new epochs count: slow epochs are no plateau."""
    losses = [loss for record in records if math.isfinite(loss := record.metrics.get("loss", math.nan))]
    if not losses:
        return None
    lowest, known = min(losses), memory.get("loss")
    if known is None or known - lowest > limits.loss_gain * abs(known):
        memory |= {"loss": lowest, "loss_polls": 0}
        return None
    memory["loss_polls"] = memory.get("loss_polls", 0) + 1
    if memory["loss_polls"] % limits.loss_polls:
        return None
    return Event("PLATEAU_LOSS", {"epoch": len(records), "loss": losses[-1], "lowest": lowest})


def _losses(records: list[EpochRecord]) -> dict[str, Any]:
    return {"loss": records[-1].metrics.get("loss")} if records else {}


def _best(folder: RunFolder) -> dict[str, Any]:
    """Metric, value and epoch of the best, where there is one."""
    if not folder.best_path.is_dir():
        return {}
    try:
        meta = read_manifest(folder.best_path)["meta"]
    except CheckpointError:  # being replaced
        return {}
    value = number(meta.get("value"))
    if not isinstance(value, int | float):
        return {}
    return {"metric": meta.get("metric"), "best": float(value), "best_epoch": meta.get("epoch")}


def _last_event(folder: RunFolder) -> dict[str, Any]:
    last: dict[str, Any] = {}
    for record in folder.telemetry():
        last = record
    return last


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    odd = not text or any(sign.isspace() or sign in '"=' for sign in text)
    return json.dumps(text, ensure_ascii=False) if odd else text
