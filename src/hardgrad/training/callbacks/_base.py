"""What a callback is, and the order in which they are called.

Callbacks run on the host, between dispatches. Those that change the run come before those that save
it: `order` says where each stands, smaller first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ...core import UsageError, did_you_mean

if TYPE_CHECKING:
    from .._record import EpochRecord
    from .._run import FitResult, Run


class Callback:
    """Base class: every hook does nothing. Override those you need; the others cost nothing.

    A callback with something to remember over a kill returns it from `state` and takes it back in
    `restore`; it must be JSON.
    """

    name: ClassVar[str] = ""
    """The key its state is kept under; the class name if empty."""
    order: ClassVar[int] = 50
    """Smaller is called earlier: measure 5, show 10, record 20, judge 50, save 90."""
    measures: tuple[str, ...] = ()
    """The metrics that `measure` adds to the records of some epochs."""

    def on_run_begin(self, run: Run) -> None:
        """Before the first epoch; ``run.resumed`` says whether there were epochs before. Reset here."""

    def on_epoch_begin(self, run: Run, controls: Mapping[str, Any]) -> None:
        """An epoch begins, with the controls of its first step. The device may be at work on it already."""

    def on_block_end(self, run: Run, done: int, total: int | None) -> None:
        """After a dispatch: `done` of `total` steps of the epoch. None: the stream does not say."""

    def measure(self, run: Run, record: EpochRecord) -> Mapping[str, float]:
        """Figures for the record of a finished epoch: all of `measures`, or none. Nobody has heard of it yet."""
        return {}

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """After an epoch. Call ``run.stop(reason)`` to end the run."""

    def on_run_end(self, run: Run, result: FitResult) -> None:
        """After the last epoch."""

    def on_error(self, run: Run, error: BaseException) -> None:
        """An exception is about to leave the trainer."""

    def state(self) -> Any:
        """What to keep in a checkpoint."""
        return None

    def restore(self, state: Any, run: Run) -> None:
        """Take back what `state` returned. Called after `on_run_begin`."""


HOOKS = ("on_run_begin", "on_epoch_begin", "on_block_end", "on_epoch_end", "on_run_end", "on_error")


class CallbackList:
    """Callbacks in order; calls only the hooks that are overridden.

    Raises:
        UsageError: two share a name, one has a misspelt hook, one is no callback, or they are no sequence.
    """

    def __init__(self, callbacks: Sequence[Callback]):
        if isinstance(callbacks, Callback):
            raise UsageError(f"callbacks are a sequence: callbacks=[{type(callbacks).__name__}(...)].")
        names: set[str] = set()
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise UsageError(f"a callback must be a hardgrad.Callback, got {callback!r}.")
            key = key_of(callback)
            if key in names:
                raise UsageError(f"two callbacks are named '{key}'. Leave one out, or give one another `name`.")
            names.add(key)
            for attribute in dir(type(callback)):
                if attribute.startswith("on_") and attribute not in HOOKS:
                    raise UsageError(
                        f"'{type(callback).__name__}.{attribute}' is not a hook. {did_you_mean(attribute, HOOKS)}"
                    )
        self.callbacks = sorted(callbacks, key=lambda c: c.order)
        self.measures = frozenset(name for callback in callbacks for name in callback.measures)
        self._hooks: dict[str, list[Callable[..., None]]] = {
            hook: [getattr(c, hook) for c in self.callbacks if getattr(type(c), hook) is not getattr(Callback, hook)]
            for hook in HOOKS
        }

    def call(self, hook: str, *args: Any) -> None:
        """Call one hook of all, in order."""
        for function in self._hooks[hook]:
            function(*args)

    def call_all(self, hook: str, *args: Any) -> None:
        """Call one hook of all even if some fail; then raise the first failure."""
        failures: list[Exception] = []
        for function in self._hooks[hook]:
            try:
                function(*args)
            except Exception as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def measured(self, run: Run, record: EpochRecord) -> EpochRecord:
        """The record with what they measure.

        Raises:
            UsageError: two figures share a name.
        """
        if not self.measures:
            return record
        metrics = dict(record.metrics)
        for callback in self.callbacks:
            if not callback.measures:
                continue
            taken = [name for name in callback.measures if name in metrics]
            if taken:
                raise UsageError(f"'{key_of(callback)}' measures '{taken[0]}', which the run records already.")
            metrics |= callback.measure(run, record)
        return dataclasses.replace(record, metrics=metrics)

    def state(self) -> dict[str, Any]:
        """The state of each that has one, by name."""
        found = {key_of(c): c.state() for c in self.callbacks}
        return {name: state for name, state in found.items() if state is not None}

    def restore(self, states: Mapping[str, Any], run: Run) -> None:
        """Hand each its state back."""
        for callback in self.callbacks:
            if key_of(callback) in states:
                callback.restore(states[key_of(callback)], run)


_busy: set[int] = set()
_busy_lock = threading.Lock()


@contextlib.contextmanager
def busy(callbacks: Sequence[Callback]) -> Iterator[None]:
    """Keep callbacks to one run for the while: what they remember is that run's.

    Raises:
        UsageError: one serves another run at the moment.
    """
    mine = {id(callback) for callback in callbacks}
    with _busy_lock:
        shared = [callback for callback in callbacks if id(callback) in _busy]
        if shared:
            raise UsageError(
                f"'{key_of(shared[0])}' already serves another run that is training. Make callbacks, and the trainer "
                "they are in, anew for each run."
            )
        _busy.update(mine)
    try:
        yield
    finally:
        with _busy_lock:
            _busy.difference_update(mine)


def key_of(callback: Callback) -> str:
    """The name a callback's state is kept under."""
    return callback.name or type(callback).__name__
