"""A run on disk: one folder, laid out the same for every recipe and every user's own model."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from ..core import CheckpointError, UsageError
from ._held_folder import Folder
from ._record import EpochRecord
from ._storage import disk_errors, temporary


class RunFolder(Folder):
    """The files of one run; see the table in the documentation.

    Attributes:
        path: the folder.
    """

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> RunFolder:
        """A new folder.

        Raises:
            UsageError: something is there already, or it can't be made.
        """
        folder = cls(path)
        with disk_errors(folder.path):
            folder.check_no_file()
            if folder.path.is_dir():
                folder.check_unused()
            folder.path.mkdir(parents=True, exist_ok=True)
        return folder

    def check_unused(self) -> None:
        """Raise `UsageError` if the folder holds anything but a run that never finished an epoch."""
        found = {p.name for p in self.path.iterdir()}
        if self.config_path.name in found and self._has_done_something():
            go_on = f"hardgrad resume {self.path}" if self.started_by_recipe() else "fit(..., resume=True)"
            raise UsageError(
                f"{self.path} already holds a run, which stays untouched. Resume it ({go_on}), or give another folder."
            )
        if found - {p.name for p in self._first_files()}:
            raise UsageError(f"{self.path} already holds files, which stay untouched. Give another folder.")

    def _first_files(self) -> tuple[Path, ...]:
        """All that there is before the first epoch is finished."""
        return self.config_path, temporary(self.config_path), self.telemetry_path, self.watch_path

    def _has_done_something(self) -> bool:
        if self.result_path.exists() or self.checkpoints_path.exists():
            return True
        try:
            return any(record.get("kind") == "epoch_end" for record in self.telemetry())
        except UsageError:  # damaged: who knows
            return True

    def begin_anew(self) -> None:
        """Take away what a run has left that never finished an epoch."""
        self.check_unused()
        for path in self._first_files():
            path.unlink(missing_ok=True)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """An existing run.

        Raises:
            UsageError: there is none.
        """
        folder = cls(path)
        if not folder.config_path.is_file():
            problem = (
                f"{folder.path} is not a run: it has no config.json."
                if folder.path.exists()
                else f"there is no folder {folder.path}."
            )
            raise UsageError(f"{problem} Runs are folders that 'hardgrad run' or fit(..., run=...) made.")
        return folder

    def started_by_recipe(self) -> bool:
        """Whether the run's config names a recipe."""
        config = self.read_json(self.config_path)
        settings = config.get("settings") if isinstance(config, dict) else None
        return isinstance(settings, dict) and isinstance(settings.get("recipe"), str)

    @property
    def config_path(self) -> Path:
        """Every setting as resolved."""
        return self.path / "config.json"

    @property
    def telemetry_path(self) -> Path:
        """One JSON record an event."""
        return self.path / "telemetry.jsonl"

    @property
    def watch_path(self) -> Path:
        """What ``hardgrad watch --once`` remembers."""
        return self.path / "watch.json"

    @property
    def checkpoints_path(self) -> Path:
        """One folder a checkpoint, named by its epoch."""
        return self.path / "checkpoints"

    @property
    def best_path(self) -> Path:
        """The best parameters."""
        return self.path / "best"

    @property
    def result_path(self) -> Path:
        """How the run ended."""
        return self.path / "result.json"

    def telemetry(self) -> Iterator[dict[str, Any]]:
        """The records of the telemetry, in order; a torn last line is left out.

        Raises:
            UsageError: a line before the last is damaged.
        """
        if not self.telemetry_path.is_file():
            return
        with open(self.telemetry_path, encoding="utf-8", errors="replace") as file:
            for count, line in enumerate(file, start=1):
                if not line.endswith("\n"):
                    return
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise UsageError(f"{self.telemetry_path}, line {count} is damaged: {error}.") from error
                if not isinstance(record, dict):
                    raise UsageError(f"{self.telemetry_path}, line {count} is damaged: it is no record.")
                yield record

    def sync_telemetry(self) -> None:
        """Have the disk hold all telemetry so far, so that no checkpoint outlives the records before it."""
        if self.telemetry_path.is_file():
            descriptor = os.open(self.telemetry_path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def records(self) -> Iterator[EpochRecord]:
        """The record of every epoch told of in the telemetry, in order.

        Raises:
            UsageError: the telemetry is damaged.
        """
        for record in self.telemetry():
            if record.get("kind") == "epoch_end":
                try:
                    yield EpochRecord.from_json(record)
                except UsageError as error:
                    raise UsageError(f"{self.telemetry_path} is damaged: {error}.") from error

    def checkpoints(self) -> list[Path]:
        """The finished checkpoints, oldest first."""
        if not self.checkpoints_path.is_dir():
            return []
        return sorted((p for p in self.checkpoints_path.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))

    def damaged_checkpoint(self, folder: Path, error: CheckpointError) -> CheckpointError:
        """The error for a checkpoint that can't be read, with the way out."""
        earlier = [p.name for p in self.checkpoints() if int(p.name) < int(folder.name)]
        way_out = (
            f"Delete that folder to resume from checkpoint {earlier[-1]}."
            if earlier
            else "Delete that folder to begin the run again from its first epoch."
        )
        return CheckpointError(f"{error} {way_out}")


def environment() -> dict[str, str]:
    """What the run ran on: versions and platform."""
    packages = ("hardgrad", "jax", "equinox", "optax", "numpy")
    return {
        **{name: importlib.metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(jax.devices()[0].device_kind),
        "backend": jax.default_backend(),
    }
