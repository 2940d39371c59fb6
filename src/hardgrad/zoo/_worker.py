"""``python -m hardgrad.zoo._worker``: trains one candidate of a search, in a process of its own.

The task comes as a line of JSON on the standard input: recipe, config, run, until. The input stays open as long as the
search is there; when it closes, this process ends at once, as if it were killed, which a run is made to bear.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from ..core import HardgradError
from ._config import from_json
from ._launch import train_quietly
from ._registry import find

_INPUT, _ORPHANED = 0, 3


def main() -> int:
    """Train; 0 if the run ended, however it did, and 1 if it could not be run: the last line says why."""
    task = json.loads(_line())
    threading.Thread(target=_end_with_the_search, daemon=True).start()
    run = Path(task["run"])
    try:
        config = from_json(find(task["recipe"]).load().config, task["config"])
        train_quietly(task["recipe"], config, run, until=int(task["until"]), resume=(run / "config.json").is_file())
    except HardgradError as error:
        print(error, file=sys.stderr)  # noqa: T201 - it goes to the candidate's log
        return 1
    return 0


def _line() -> bytes:
    """The first line of the input, which is not buffered: a thread that waits in a buffer can't end."""
    line = b""
    while not line.endswith(b"\n"):
        part = os.read(_INPUT, 65536)
        if not part:
            os._exit(_ORPHANED)
        line += part
    return line


def _end_with_the_search() -> None:
    while os.read(_INPUT, 1):
        pass
    os._exit(_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
