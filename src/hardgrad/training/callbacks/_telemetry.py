"""Telemetry: one JSON record an event, on disk the moment it happens.

A record has ``schema``, ``version``, ``time`` (seconds since 1970), ``kind`` and the fields of its
kind. Kinds: ``run_begin``, ``epoch_begin`` (epoch, controls), ``epoch_end`` (see `EpochRecord`),
``run_end`` (status, reason), ``error`` (type, message). NaN and infinities are the strings ``"NaN"``,
``"Infinity"``, ``"-Infinity"``.

The file is only ever added to. A resumed run that comes again through epochs it had recorded before
the kill finds their records there and leaves them; times apart, the file of a run that was killed
equals that of one that never was.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from ...core import dumps
from .._record import EpochRecord
from .._storage import disk_errors
from ._base import Callback

if TYPE_CHECKING:
    from .._folder import RunFolder
    from .._run import FitResult, Run

SCHEMA, VERSION = "hardgrad.metric_log", 1


class Telemetry(Callback):
    """Write ``telemetry.jsonl`` in the run's folder. A run without a folder writes none."""

    order: ClassVar[int] = 20

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._path = Path()
        self._present: set[tuple[str, int, str]] = set()

    def on_run_begin(self, run: Run) -> None:
        """Open the file; drop a line that a kill left torn."""
        if run.folder is None:
            return
        path = self._path = run.folder.telemetry_path
        self._present = {_identity(record) for record in run.folder.telemetry()}
        with disk_errors(path):
            _cut_torn_line(run.folder)
            # Unbuffered: what is written is with the system, whatever happens to this process.
            self._file = open(path, "ab", buffering=0)  # noqa: SIM115
        self._write("run_begin", {"epoch": 0, "epochs": run.epochs, "seed": run.seed})

    def on_epoch_begin(self, run: Run, controls: Mapping[str, Any]) -> None:
        """Which epoch, and its controls."""
        self._write("epoch_begin", {"epoch": run.epoch, "step": run.step, "controls": dict(controls)})

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """The epoch's record."""
        self._write("epoch_end", record.as_json())

    def on_run_end(self, run: Run, result: FitResult) -> None:
        """How it ended."""
        fields = {"epoch": run.epoch, "status": result.status.value, "reason": result.reason}
        try:
            self._write("run_end", fields)
        finally:
            self._close()

    def on_error(self, run: Run, error: BaseException) -> None:
        """What went wrong; always written."""
        self._present = set()
        try:
            self._write("error", {"epoch": run.epoch, "type": type(error).__name__, "message": str(error)})
        finally:
            self._close()

    def _write(self, kind: str, fields: dict[str, Any]) -> None:
        if self._file is None:
            return
        record = {"schema": SCHEMA, "version": VERSION, "time": time.time(), "kind": kind, **fields}
        if _identity(record) in self._present:
            return
        line = (dumps(record) + "\n").encode()
        with disk_errors(self._path):
            begin = os.fstat(self._file.fileno()).st_size
            try:
                while line:  # a disk that is nearly full takes a part, and only then refuses
                    line = line[self._file.write(line) :]
            except OSError:
                self._file.truncate(begin)
                raise

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _identity(record: Mapping[str, Any]) -> tuple[str, int, str]:
    """What tells a record from all others of its file."""
    return record.get("kind", ""), record.get("epoch", -1), record.get("status", "")


def _cut_torn_line(folder: RunFolder) -> None:
    path = folder.telemetry_path
    if not path.is_file() or path.stat().st_size == 0:
        return
    with open(path, "rb+") as file:
        data = file.read()
        if not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)
            os.fsync(file.fileno())
