"""The errors a user meets. Each message names the value, what was expected and how to mend it.

The command line exits with 2 for `UsageError` (a mistake the user can mend) and with 1 for
`RunError` (the run itself failed).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HardgradError(Exception):
    """Base class of every error hardgrad raises on purpose."""


class UsageError(HardgradError, ValueError):
    """Something the caller gave is wrong: an option, a configuration, a file, a data set."""


class RunError(HardgradError, RuntimeError):
    """The run was set up correctly and failed all the same."""


class NoDerivativeError(UsageError):
    """A derivative was asked of something that has none, such as a host function."""


class CheckpointError(UsageError):
    """A checkpoint is missing, damaged, or does not fit the run it is loaded into."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint can't be read: files are missing, cut short or changed."""


class BundleError(UsageError):
    """A bundle can't be made, or is missing, damaged, of a later version, or given inputs it was not made for."""


class MissingExtraError(UsageError, ImportError):
    """An optional package is not installed; the message gives the install line."""


_PART, _FEW = 3, 4  # letters that tell names apart, and names that are all shown


def did_you_mean(given: str, known: Iterable[str], *, most: int = 8) -> str:
    """The sentence that helps after an unknown name.

    Args:
        given: the name that was not found.
        known: the names that exist.
        most: how many of them are shown when none is close.

    Returns:
        ``"Did you mean 'x'?"`` when one is close, or a few hold what was given; else ``"Known: a, b."``.
    """
    names = sorted(known)
    holding = [name for name in names if len(given) >= _PART and given.casefold() in name.casefold()]
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.8)
    close = close or (holding if len(holding) <= _FEW else [])
    close = close or difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    if close:
        quoted = [f"'{name}'" for name in close]
        return f"Did you mean {' or '.join(part for part in (', '.join(quoted[:-1]), quoted[-1]) if part)}?"
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"Known: {shown or '(none)'}."
