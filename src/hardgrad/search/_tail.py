"""Reading on in a file that others write to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Tail:
    """The records of a telemetry file, as they come.

    Args:
        path: the file, which need not be there yet.
    """

    def __init__(self, path: Path):
        self.path = path
        self._position = 0

    def read(self) -> list[dict[str, Any]]:
        """The records of the lines finished since the last call; lines that are no record are passed over."""
        try:
            with open(self.path, "rb") as file:
                file.seek(self._position)
                data = file.read()
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        records = []
        for line in whole.splitlines():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict):
                records.append(record)
        return records
