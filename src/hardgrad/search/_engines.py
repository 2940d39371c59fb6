"""How candidates are trained: all in one program, each in a process, or one after another.

An engine trains tasks and says of each when it has ended. What came of it stands in the run's folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import queue
import shutil
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from ..core import HardgradError, UsageError, whole_number
from ..training import FitResult, RunFolder
from ..training import Status as RunStatus
from ..training._together import NotAlike
from ._candidates import Candidate
from ._gang import Gang
from ._standing import Standing, State

_TICK = 0.1  # seconds between two looks at what is going on
_GRACE = 10.0  # seconds that a process is given to end
_LAST = 4096  # bytes of a log in which its last line is looked for


@dataclasses.dataclass(frozen=True)
class Task:
    """A candidate to be trained.

    Attributes:
        candidate: which.
        path: its run's folder.
        until: how many epochs it is to have done then.
        log: where to write what goes wrong.
    """

    candidate: Candidate
    path: Path
    until: int
    log: Path

    @property
    def begun(self) -> bool:
        """Whether there is a run to be resumed."""
        return (self.path / "config.json").is_file()


@dataclasses.dataclass(frozen=True)
class Ended:
    """A task that is over.

    Attributes:
        task: which.
        error: the exception that ended it, or what is known of it; None if it went as it should.
    """

    task: Task
    error: Exception | str | None = None

    @property
    def message(self) -> str:
        """What went wrong, in a sentence."""
        if isinstance(self.error, Exception):
            known = isinstance(self.error, HardgradError)
            return str(self.error) if known else f"{type(self.error).__name__}: {self.error}"
        return self.error or ""


Train = Callable[..., FitResult]
"""``train(candidate, run=folder, until=epoch, resume=bool)``: one call of `Trainer.fit` with these arguments."""


@runtime_checkable
class Engine(Protocol):
    """What trains the candidates of a search."""

    name: ClassVar[str]

    def gather(self, todo: Sequence[Task], done: Sequence[tuple[Task, Standing]]) -> list[Task]:
        """What has to be trained so that the tasks of `todo` end as they would have without an interruption."""
        ...

    def run(self, tasks: Sequence[Task]) -> Iterator[Ended | None]:
        """Train them. Each is handed out when it has ended; None means that time has passed."""
        ...


class InTurn:
    """One candidate after another, in this process.

    Args:
        train: trains one; see `Train`.
    """

    name: ClassVar[str] = "turn"

    def __init__(self, train: Train):
        self.train = train

    def gather(self, todo: Sequence[Task], done: Sequence[tuple[Task, Standing]]) -> list[Task]:
        """The tasks themselves: each resumes on its own."""
        return list(todo)

    def run(self, tasks: Sequence[Task]) -> Iterator[Ended | None]:
        """Train them."""
        for task in tasks:
            yield Ended(task, _attempt(self.train, task))


class Together:
    """All candidates in one program, vmapped: see the module ``_gang``.

    They must be alike: the same model but for its numbers, the same method and shapes of data. What differs may be
    seeds, and settings that reach the program as numbers: controls, first parameters, data. Numbers agree with those
    of a candidate trained alone up to rounding, and repeat to the bit.

    Args:
        train: trains one; see `Train`. It is called in a thread for each candidate, all at once: trainer and
            callbacks must be made anew in each call.
    """

    name: ClassVar[str] = "vmap"

    def __init__(self, train: Train):
        self.train = train

    def gather(self, todo: Sequence[Task], done: Sequence[tuple[Task, Standing]]) -> list[Task]:
        """Bring all back to the newest checkpoint that they have in common, so that they go on side by side.

        Whoever has ended since then comes along: it was in the program, and the bits of the others depend on that.
        """
        together = list(todo)
        left = list(done)
        while together:
            common = max(set.intersection(*(_saved(task) for task in together)))
            came_along = [(task, one) for task, one in left if _took_part(one, common) and common in _saved(task)]
            if not came_along:
                break
            together += [task for task, _ in came_along]
            left = [pair for pair in left if pair not in came_along]
        for task in together:
            for checkpoint in RunFolder(task.path).checkpoints():
                if int(checkpoint.name) > common:
                    shutil.rmtree(checkpoint)
        return sorted(together, key=lambda task: task.candidate.number)

    def run(self, tasks: Sequence[Task]) -> Iterator[Ended | None]:
        """Train them.

        Raises:
            NotAlike: they can't share a program, and nothing has been trained.
            UsageError: they can't any more.
        """
        gang = Gang([task.candidate.number for task in tasks])
        ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()

        def work(task: Task) -> None:
            try:
                with gang.member(task.candidate.number):
                    error = _attempt(self.train, task)
            except KeyboardInterrupt:  # told so by `gang.stop`
                return
            ended.put(Ended(task, error))

        threads = [threading.Thread(target=work, args=(task,), daemon=True) for task in tasks]
        try:
            for thread in threads:
                thread.start()
            for _ in tasks:
                one = None
                while one is None:
                    try:
                        one = ended.get(timeout=_TICK)
                    except queue.Empty:
                        yield None
                if isinstance(one.error, NotAlike):
                    raise one.error if gang.rounds == 0 else UsageError(f"{one.message} Begin the search anew.")
                yield one
        finally:
            gang.stop()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()


class Processes:
    """Each candidate in a process of its own, some at a time.

    A process is given its task as one line of JSON on its standard input, which stays open: when it closes, the
    search is gone, and the process has to end. What it prints goes to the task's log; a last line that it leaves with
    an exit code other than 0 is the reason of the failure.

    Args:
        command: from a task to the program and its arguments.
        describe: from a task to what the process is told of it; anything JSON can hold.
        workers: how many at a time; None is one for each core, at most one for each candidate. The cores are divided
            among them.

    Raises:
        UsageError: `workers` out of range.
    """

    name: ClassVar[str] = "processes"

    def __init__(
        self,
        command: Callable[[Task], Sequence[str]],
        describe: Callable[[Task], Mapping[str, Any]],
        *,
        workers: int | None = None,
    ):
        self.command, self.describe = command, describe
        self.workers = None if workers is None else whole_number("workers", workers, least=1)

    def gather(self, todo: Sequence[Task], done: Sequence[tuple[Task, Standing]]) -> list[Task]:
        """The tasks themselves: each resumes on its own."""
        return list(todo)

    def run(self, tasks: Sequence[Task]) -> Iterator[Ended | None]:
        """Train them."""
        cores = _cores()
        workers = min(self.workers or cores, len(tasks))
        waiting, running = list(tasks), dict[int, tuple[Task, subprocess.Popen[bytes]]]()
        try:
            while waiting or running:
                while waiting and len(running) < workers:
                    task = waiting.pop(0)
                    running[task.candidate.number] = task, self._start(task, max(1, cores // workers))
                ended = [number for number, (_, process) in running.items() if process.poll() is not None]
                for number in ended:
                    task, process = running.pop(number)
                    _close(process)
                    yield Ended(task, _failure(process.returncode, task.log))
                if not ended:
                    yield None
                    time.sleep(_TICK)
        finally:
            _end([process for _, process in running.values()])

    def _start(self, task: Task, cores: int) -> subprocess.Popen[bytes]:
        with open(task.log, "wb") as log:
            process = subprocess.Popen(
                list(self.command(task)),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=_environment(cores),
                start_new_session=True,  # Ctrl-C is for the search, which ends its processes itself
            )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already; its log says why
            process.stdin.write((json.dumps(self.describe(task)) + "\n").encode())
            process.stdin.flush()
        return process


def _attempt(train: Train, task: Task) -> Exception | None:
    """Train one candidate; the error that ended it, if one did."""
    try:
        result = train(task.candidate, run=task.path, until=task.until, resume=task.begun)
    except Exception as error:  # one candidate's failure is not the search's
        if not isinstance(error, HardgradError):
            task.log.write_text(traceback.format_exc(), encoding="utf-8")
        return error
    if result.status is RunStatus.INTERRUPTED:
        raise KeyboardInterrupt
    return None


def _saved(task: Task) -> set[int]:
    """The epochs a run can be resumed from; its beginning is one."""
    return {0, *(int(checkpoint.name) for checkpoint in RunFolder(task.path).checkpoints())}


def _took_part(one: Standing, epoch: int) -> bool:
    """Whether a candidate that has ended was still in the program of that epoch, counted from 0."""
    broke_off = one.state in (State.DIVERGED, State.FAILED)  # within the epoch after the last that it finished
    return one.epochs >= epoch if broke_off else one.epochs > epoch


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _environment(cores: int) -> dict[str, str]:
    """That of this process, with threads for so many cores."""
    environment = dict(os.environ)
    if cores < _cores():
        environment |= {name: str(cores) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        environment["NPROC"] = str(cores)  # what XLA takes for the number of cores
        environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # several share a GPU's memory
    return environment


def _failure(code: int, log: Path) -> str | None:
    """Why a process failed, by its exit code and the last line it left."""
    if code == 0:
        if log.stat().st_size == 0:
            log.unlink()
        return None
    if code < 0:
        return f"its process was killed by {signal.Signals(-code).name}"
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - _LAST))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"its process ended with exit code {code}"


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes: by closing their input, and by force what takes too long over it."""
    for process in processes:
        _close(process)
    deadline = time.monotonic() + _GRACE
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
