"""A folder on disk that one process at a time writes to."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core import UsageError, dumps
from ._storage import write_text

try:
    import fcntl
except ImportError:  # pragma: no cover
    fcntl = None  # type: ignore[assignment]

_LOCK_TRIES, _LOCK_WAIT = 5, 0.02


class Folder:
    """A folder of files, with a lock.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)

    def check_no_file(self) -> None:
        """Raise `UsageError` if a file stands where the folder is to be."""
        if self.path.exists() and not self.path.is_dir():
            raise UsageError(f"{self.path} is a file. Give a folder that does not exist yet.")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep the folder to this process for the while; a process that dies lets go of it.

        Raises:
            UsageError: another process writes to it.
        """
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            for _ in range(_LOCK_TRIES):
                if _lock(descriptor) is not False:
                    break
                time.sleep(_LOCK_WAIT)  # it may only have been looked at: see `in_use`
            else:
                raise UsageError(
                    f"another process is training in {self.path}. Wait for it, or stop it, or give another folder."
                )
            yield
        finally:
            os.close(descriptor)

    def in_use(self) -> bool | None:
        """Whether a process writes to it now; None where the system can't tell."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            locked = _lock(descriptor, shared=True)
            return None if locked is None else not locked
        finally:
            os.close(descriptor)

    def write_json(self, path: Path, value: Any) -> None:
        """Replace a JSON file at once."""
        write_text(path, dumps(value, indent=2) + "\n")

    def read_json(self, path: Path) -> Any:
        """A JSON file's content.

        Raises:
            UsageError: it is missing or damaged.
        """
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UsageError(f"{path} is missing.") from None
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{path} is damaged: {error}.") from error


def _lock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Whether the lock could be had; None on a system without locks."""
    if fcntl is None:  # not a POSIX system
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True
