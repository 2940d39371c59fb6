"""``hardgrad watch RUN``: say what happens in a run or a search, a line an event."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..core import UsageError, dumps
from ..search import Limits, Poll, SearchFolder, poll_run, poll_search
from ..training import RunFolder
from ..training._storage import write_text
from ._options import parse, unset


@dataclasses.dataclass(frozen=True)
class Options:
    """Which run, and when to speak."""

    run: Annotated[Path, tyro.conf.Positional]
    """the folder of the run or the search"""
    once: bool = False
    """look once, and remember for the next time what was seen"""
    interval: float = 30.0
    """seconds between two looks"""
    state: Annotated[Path | None, unset("PATH")] = None
    """file to remember in; with --once else watch.json in the folder"""
    nonfinite: int = 50
    """NAN_SPIKE: more steps than so many left out since the last look"""
    window: int = 5
    """LOSS_SPIKE: epochs whose losses are averaged"""
    factor: float = 2.0
    """LOSS_SPIKE: how many times the mean of the window before"""
    gain: float = 0.02
    """PLATEAU: share by which a better score must be better"""
    checkpoints: int = 2
    """PLATEAU: so many checkpoints in a row without a better score"""
    loss_gain: float = 0.02
    """PLATEAU_LOSS: share by which a lower loss must be lower"""
    loss_polls: int = 8
    """PLATEAU_LOSS: so many looks in a row without a lower loss"""
    heartbeat: int = 4
    """HEARTBEAT: so many looks in a row without an event"""


def run(arguments: list[str]) -> int:
    """Watch; 0 when all is well, or ended so, and 1 when it is dead, diverged or failed."""
    options = parse(
        Options,
        arguments,
        program="hardgrad watch",
        description="Say what happens in a run or a search, a line an event, until it ends.\n\n"
        "Example: hardgrad watch runs/hypercausal-depth-001 --interval 10",
    )
    if not options.interval > 0:
        raise UsageError(f"--interval must be above 0 seconds, got {options.interval!r}.")
    limits = Limits(**{field.name: getattr(options, field.name) for field in dataclasses.fields(Limits)})
    search = SearchFolder(options.run)
    folder = search if search.is_search() else RunFolder.open(options.run)
    kept = options.state or (options.run / "watch.json" if options.once else None)
    memory = _read(kept)
    while True:
        found = _look(folder, memory, limits)
        for event in found.events:
            print(event.line(), flush=True)
        memory = found.memory
        if kept is not None:
            write_text(kept, dumps(memory, indent=2) + "\n")
        if found.over or options.once:
            return 0 if found.well else 1
        time.sleep(options.interval)


def _look(folder: RunFolder | SearchFolder, memory: dict[str, Any], limits: Limits) -> Poll:
    if isinstance(folder, SearchFolder):
        return poll_search(folder, memory, limits)
    return poll_run(folder, memory, limits)


def _read(path: Path | None) -> dict[str, Any]:
    """What the last look left."""
    if path is None or not path.exists():
        return {}
    content = RunFolder(path.parent).read_json(path)
    if not isinstance(content, dict):
        raise UsageError(f"{path} is damaged: it must hold a JSON object. Delete it to begin anew.")
    return content
