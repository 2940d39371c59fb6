"""Ctrl-C while a run trains: answered at once, though Python itself hears of it only when the device is done."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from typing import ClassVar

from ..training import EpochRecord, FitResult, Run
from ..training.callbacks import Callback
from ._options import tell


class Stopping(Callback):
    """Says that the run is stopping. Before training and after it Ctrl-C ends all at once, and nothing is said."""

    order: ClassVar[int] = 95

    def __init__(self) -> None:
        self._training = False

    def on_run_begin(self, run: Run) -> None:
        """From here on what is reached is scored."""
        self._training = True

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """After the last epoch it is being scored already."""
        self._training = run.epoch < run.epochs and run.stop_reason is None

    def on_run_end(self, run: Run, result: FitResult) -> None:
        """All is done."""
        self._training = False

    @contextlib.contextmanager
    def announced(self) -> Iterator[None]:
        """Answer Ctrl-C for the while."""
        hears, told = socket.socketpair()
        told.setblocking(False)
        try:
            before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
        except ValueError:  # in a thread there are no signals
            hears.close()
            told.close()
            yield
            return
        listener = threading.Thread(target=self._listen, args=(hears,), daemon=True)
        listener.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
            told.close()
            listener.join()
            hears.close()

    def _listen(self, hears: socket.socket) -> None:
        while received := hears.recv(1):
            if received[0] == signal.SIGINT and self._training:
                self._training = False
                tell("stopping: what was reached is being scored; Ctrl-C again leaves that out")
