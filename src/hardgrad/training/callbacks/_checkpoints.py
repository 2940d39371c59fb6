"""Checkpoints: all a run needs to go on as if nothing had happened."""

from __future__ import annotations

import math
import shutil
import time
from typing import TYPE_CHECKING, Any, ClassVar

from ...core import CheckpointError, DamagedCheckpointError, UsageError
from .._program import Flat
from .._storage import load_tree, read_manifest, save_tree
from ._base import Callback, CallbackList
from ._monitor import Best

if TYPE_CHECKING:
    from .._record import EpochRecord
    from .._run import FitResult, Run

_SAVES_TOGETHER = 32  # checkpoints over a whole run of those that train together


class Checkpoints(Callback):
    """Save the run's state every so many epochs and at its end.

    Saved are parameters, states of method and callbacks, and progress; keys and data order follow
    from seed and progress.

    Args:
        every: epochs between two checkpoints, at least 1.
        keep: how many to keep, the newest, at least 1; None keeps all.
        spacing: seconds that must lie between two, so that quick epochs are not slowed by the disk. Runs that train
            together in one program save by epochs alone, 32 times.

    Raises:
        UsageError: a number out of range.
    """

    order: ClassVar[int] = 90

    def __init__(self, *, every: int = 1, keep: int | None = 3, spacing: float = 1.0):
        if every < 1 or (keep is not None and keep < 1) or not spacing >= 0:
            raise UsageError(
                f"checkpoints need every >= 1, keep >= 1 or None and spacing >= 0, "
                f"got every={every}, keep={keep}, spacing={spacing}."
            )
        self.every, self.keep, self.spacing = every, keep, spacing
        self._last = -math.inf
        self._others = CallbackList([])
        self._saved: int | None = None

    def attach(self, callbacks: CallbackList) -> None:
        """The callbacks whose state is saved too."""
        self._others = callbacks

    def on_run_begin(self, run: Run) -> None:
        """Begin anew."""
        self._saved, self._last = run.epoch if run.resumed else None, -math.inf
        if run.folder is not None:  # what a kill left half written
            for torn in run.folder.checkpoints_path.glob(".*.tmp"):
                shutil.rmtree(torn, ignore_errors=True)

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """Save if it is time."""
        if self._due(run, record.epoch + 1) or run.stop_reason is not None:
            self._save(run)

    def _due(self, run: Run, epoch: int) -> bool:
        if run.together:  # all save after the same epochs, so that they can go on together; a clock would part them
            return epoch % max(self.every, math.ceil(run.epochs / _SAVES_TOGETHER)) == 0
        return epoch % self.every == 0 and time.monotonic() - self._last >= self.spacing

    def on_run_end(self, run: Run, result: FitResult) -> None:
        """Save what is not saved yet."""
        self._save(run)

    def _save(self, run: Run) -> None:
        if run.folder is None or not run.between_epochs or run.epoch == 0 or self._saved == run.epoch:
            return
        for callback in self._others.callbacks:
            if isinstance(callback, Best):
                callback.write(run)
        run.folder.sync_telemetry()
        meta = {
            "epoch": run.epoch,
            "epochs": run.epochs,
            "step": run.step,
            "seed": run.seed,
            "skipped": run.skipped,
            "evaluations": run.evaluations,
            "seconds": run.seconds,
            "stop_reason": run.stop_reason,
            "callbacks": self._others.state(),
        }
        save_tree(run.folder.checkpoints_path / f"{run.epoch:06d}", run.state, meta)
        self._saved, self._last = run.epoch, time.monotonic()
        if self.keep is not None:
            keep = max(self.keep, 2) if run.together else self.keep  # the newest may not be everyone's yet
            for old in run.folder.checkpoints()[:-keep]:
                shutil.rmtree(old, ignore_errors=True)


def load_newest(run: Run) -> dict[str, Any] | None:
    """Put a run where its newest checkpoint left it.

    Returns:
        The states of the callbacks by name, or None where no epoch was ever finished.

    Raises:
        CheckpointError: damaged, or of another model or method.
        UsageError: of another seed.
    """
    if run.folder is None or not run.folder.checkpoints():
        return None
    newest = run.folder.checkpoints()[-1]
    try:
        meta = read_manifest(newest)["meta"]
        run.flat = Flat.of(load_tree(newest, run.state))
        callbacks: dict[str, Any] = meta["callbacks"]
        seed, run.epoch, run.step = int(meta["seed"]), int(meta["epoch"]), int(meta["step"])
        run.skipped, run.evaluations = int(meta["skipped"]), int(meta["evaluations"])
        run.seconds, run.stop_reason = float(meta["seconds"]), meta["stop_reason"]
    except DamagedCheckpointError as error:
        raise run.folder.damaged_checkpoint(newest, error) from error
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        message = f"the manifest of {newest} is damaged ({type(error).__name__}: {error})."
        raise run.folder.damaged_checkpoint(newest, CheckpointError(message)) from error
    if seed != run.seed:
        raise UsageError(f"{run.folder.path} was begun with seed {seed}; resume it with that seed, not {run.seed}.")
    run.resumed = True
    return callbacks
