"""Metric records in the published form, and their JSON lines.

    {schema_name, schema_version, record_type, phase, metrics, step?, epoch?, context?, <metric>: value, ...}

Each metric stands under ``metrics`` and once more at top level, unless its name is taken there. What is not finite
is null. Source of names and rules: the published trainer's log, schema ``zeroproofml.metric_log``, version 1.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ...core import UsageError

SCHEMA_NAME, SCHEMA_VERSION = "zeroproofml.metric_log", 1
_RESERVED = frozenset({"schema_name", "schema_version", "record_type", "phase", "step", "epoch", "metrics", "context"})

_ENCODER = json.JSONEncoder(sort_keys=True, allow_nan=False, ensure_ascii=False)

Record = dict[str, Any]
"""A record: JSON throughout."""


def metric_log_record(
    metrics: Mapping[str, Any],
    *,
    phase: str,
    step: int | None = None,
    epoch: int | None = None,
    context: Mapping[str, Any] | None = None,
    record_type: str = "metric",
) -> Record:
    """Metrics as a record of the published schema.

    Args:
        metrics: numbers or arrays by name. An array of one element becomes a number, others become lists.
        phase: such as ``"train"`` or ``"eval"``; not empty.
        step: steps done.
        epoch: which epoch, from 0.
        context: what else tells this record from others, such as ``{"seed": 1}``.
        record_type: ``"metric"``, or a kind of one's own.

    Raises:
        UsageError: an empty phase, or a value without a JSON form.

    Examples:
        >>> record = metric_log_record({"loss": 0.5, "coverage": float("nan")}, phase="train", step=1)
        >>> record["metrics"], record["loss"], record["step"]
        ({'loss': 0.5, 'coverage': None}, 0.5, 1)
    """
    if not phase:
        raise UsageError("a record's phase must not be empty: 'train', 'eval' or a name of your own.")
    plain = _plain(metrics)
    record: Record = {
        "schema_name": SCHEMA_NAME,
        "schema_version": SCHEMA_VERSION,
        "record_type": record_type,
        "phase": phase,
        "metrics": plain,
    }
    placed = {"step": step, "epoch": epoch, "context": None if context is None else _plain(context)}
    record |= {name: value for name, value in placed.items() if value is not None}
    return record | {name: value for name, value in plain.items() if name not in _RESERVED}


def _plain(value: Any) -> Any:
    """`value` in the types JSON knows, null for what is not finite."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            return _plain(array.item() if array.size == 1 else array.tolist())
    raise UsageError(f"a record holds numbers, text and lists of them, not {type(value).__name__}: {value!r}.")


@runtime_checkable
class ResumableHook(Protocol):
    """A hook that is told when a run is resumed: some records will then come a second time."""

    def resume(self) -> None:
        """Before the first record of a resumed run."""
        ...


class JsonlLogger:
    """A hook that appends each record to a file as one line of strict JSON, keys sorted.

    Give it as ``TrainingConfig(log_hook=JsonlLogger("runs/metrics.jsonl"))``. Missing folders are made. A line is
    with the system when the call returns. A resumed run comes once more through what it had logged after its last
    checkpoint; those records are found in the file and not written twice.

    Args:
        path: the file; what it holds stays.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self._present: set[tuple[Any, ...]] = set()

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Append one record.

        Raises:
            UsageError: it holds something without a JSON form.
        """
        if self._present and _identity(record) in self._present:
            return
        try:
            line = _ENCODER.encode(record) + "\n"
        except (TypeError, ValueError):  # NaN, or arrays
            line = _ENCODER.encode(_plain(record)) + "\n"
        try:
            file = open(self.path, "ab")  # noqa: SIM115
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = open(self.path, "ab")  # noqa: SIM115
        with file:
            file.write(line.encode())

    def resume(self) -> None:
        """Leave out what the file holds already of the run that is resumed; cut a line that a kill left torn."""
        self._present = set()
        if not self.path.is_file():
            return
        with open(self.path, "rb+") as file:
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
        last = -1
        for record in read_jsonl(self.path):
            step = record.get("step")
            if not isinstance(step, int):
                continue
            if step < last:  # an earlier run that used the same file ends here
                self._present.clear()
            last = step
            self._present.add(_identity(record))


def _identity(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells a record from the others of its run."""
    return tuple(record.get(name) for name in ("record_type", "phase", "step", "epoch"))


def read_jsonl(path: str | os.PathLike[str]) -> list[Record]:
    """The records of a file of JSON lines, in order. Empty lines count for nothing.

    Raises:
        UsageError: there is no such file, or a line is not a JSON object.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}.") from error
    records = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line, parse_constant=_not_json)
        except ValueError as error:
            raise UsageError(f"line {number} of {path} is not JSON: {error}.") from error
        if not isinstance(record, dict):
            raise UsageError(f"line {number} of {path} is no JSON object, but {line[:60]!r}.")
        records.append(record)
    return records


def _not_json(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
