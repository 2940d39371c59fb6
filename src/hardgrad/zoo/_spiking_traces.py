"""What each layer of a spiking network did with one sample, kept in a run's folder for its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from ..core import UsageError
from ..training import FitResult, Run, RunFolder, Status
from ..training._storage import write_bytes
from ..training.callbacks import Callback

_FILE, _LARGEST = "spikes.safetensors", 256 * 2**20


@dataclasses.dataclass(frozen=True)
class Trace:
    """One layer, one sample.

    Attributes:
        name: the layer's, as it is written beside its panel.
        spikes: ``[time, units]``, 0 and 1; an input may hold any numbers.
        voltages: ``[time, units]``; None where there are no membranes.
        threshold: of all units.
        rates: mean spikes a step of each unit over many samples, ``[units]``; None takes those of this sample.

    Raises:
        UsageError: shapes that do not belong together.
    """

    name: str
    spikes: NDArray[Any]
    voltages: NDArray[Any] | None = None
    threshold: float = 1.0
    rates: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.spikes.ndim != 2 or 0 in self.spikes.shape:
            raise UsageError(f"the spikes of '{self.name}' must be [time, units], got shape {self.spikes.shape}.")
        for what, array, shape in (
            ("voltages", self.voltages, self.spikes.shape),
            ("rates", self.rates, self.spikes.shape[1:]),
        ):
            if array is not None and array.shape != shape:
                raise UsageError(f"the {what} of '{self.name}' must have shape {shape}, got {array.shape}.")

    @property
    def binary(self) -> bool:
        """Whether every value is 0 or 1."""
        return bool(np.isin(self.spikes, (0, 1)).all())

    @property
    def unit_rates(self) -> NDArray[np.float64]:
        """Mean spikes a step of each unit, ``[units]``."""
        return np.asarray(np.mean(self.spikes, axis=0) if self.rates is None else self.rates, np.float64)


def traces_of(
    inputs: Any, spikes: Sequence[Any], voltages: Sequence[Any], *, names: Sequence[str] = (), sample: int = 0
) -> list[Trace]:
    """What a recorded run shows of one sample: its inputs, then each cell; the rates are those of the whole batch.

    Args:
        inputs: ``[batch, time, ...]``.
        spikes: of each cell, ``[batch, time, *units]``; None for a cell that never spikes, which is left out.
        voltages: likewise.
        names: of the cells; else they are counted.
        sample: which of the batch.

    Raises:
        UsageError: there are not as many names as cells, or shapes do not belong together.
    """
    names = names or [f"cell {index}" for index in range(len(spikes))]
    if not len(names) == len(spikes) == len(voltages):
        raise UsageError(f"there are {len(names)} names for {len(spikes)} cells with {len(voltages)} voltages.")

    def flat(array: Any) -> NDArray[Any]:
        array = np.asarray(array)
        rows: NDArray[Any] = array.reshape(*array.shape[:2], -1)
        return rows

    given = flat(inputs)
    found = [Trace("input", given[sample], rates=np.mean(given, axis=(0, 1)))]
    for name, sent, voltage in zip(names, spikes, map(flat, voltages), strict=True):
        if sent is None:
            continue
        fired = flat(sent)
        found.append(Trace(name, fired[sample], voltage[sample], rates=np.mean(fired, axis=(0, 1))))
    return found


def write_traces(folder: RunFolder, traces: Sequence[Trace]) -> None:
    """Keep traces in a run's folder, in place of those it had.

    Spikes are kept as bytes where they are 0 and 1, everything else as float32.

    Raises:
        UsageError: the disk is full or may not be written.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for index, trace in enumerate(traces):
        arrays[f"{index}.spikes"] = np.ascontiguousarray(trace.spikes, np.uint8 if trace.binary else np.float32)
        if trace.voltages is not None:
            arrays[f"{index}.voltages"] = np.ascontiguousarray(trace.voltages, np.float32)
        if trace.rates is not None:
            arrays[f"{index}.rates"] = np.ascontiguousarray(trace.rates, np.float32)
        arrays[f"{index}.threshold"] = np.array([trace.threshold], np.float32)
    names = {f"{index}.name": trace.name for index, trace in enumerate(traces)}
    write_bytes(folder.path / _FILE, safetensors.numpy.save(arrays, metadata=names))


class KeepTraces(Callback):
    """Keep traces of the trained model in the run's folder, when the run ends.

    Args:
        record: from the best model, or the last where none was judged, to its traces.
    """

    order = 80

    def __init__(self, record: Callable[[Any], Sequence[Trace]]):
        self.record = record

    def on_run_end(self, run: Run, result: FitResult) -> None:
        """Write them."""
        if run.folder is not None and result.status is not Status.PAUSED:
            write_traces(run.folder, self.record(result.model if result.best_model is None else result.best_model))


def read_traces(folder: RunFolder) -> list[Trace]:
    """The traces `write_traces` kept; none if it was never called.

    Raises:
        UsageError: the file is damaged.
    """
    path = folder.path / _FILE
    if not path.is_file():
        return []
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"it is larger than {_LARGEST // 2**20} MiB")
        return _read(path)
    except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
        raise UsageError(f"{path} is damaged ({error}). Delete it to report without pictures of spikes.") from error


def _read(path: Path) -> list[Trace]:
    with safetensors.safe_open(str(path), "numpy") as file:
        names, kept = file.metadata() or {}, set(file.keys())
        found = []
        for index in range(len(names)):
            parts = {
                part: file.get_tensor(f"{index}.{part}") for part in ("voltages", "rates") if f"{index}.{part}" in kept
            }
            threshold = float(file.get_tensor(f"{index}.threshold").reshape(()))
            found.append(
                Trace(names[f"{index}.name"], file.get_tensor(f"{index}.spikes"), threshold=threshold, **parts)
            )
        return found
