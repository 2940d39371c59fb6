"""``hardgrad COMMAND``: which command, and what an error looks like.

Exit codes: 0 done, 1 the run failed, 2 a mistake of the user's, 130 interrupted.
"""

from __future__ import annotations

import importlib
import io
import os
import re
import sys
import textwrap
from collections.abc import Sequence

_COMMANDS = {
    "list": "the recipes there are",
    "choose": "which method to train with, from a few answers",
    "run": "run a recipe",
    "resume": "go on with a run or a search that was stopped or killed",
    "search": "run a recipe with many seeds and settings, and keep the best",
    "watch": "say what happens in a run or a search: spikes, plateaus, its end",
    "audit": "say how far a gradient can be trusted, and what to try next",
    "report": "make the HTML report of a run or a search",
    "matrix": "train every method on every application, at equal budgets",
    "bench": "say how fast a recipe trains here, and what a step costs",
    "export": "make a bundle of a run's model, to use without its code",
}

_STUCK = "\0"  # in place of a blank that is not to be broken at
_TOGETHER = re.compile(r"(?<!\w)'[^'\n]+'(?!\w)|hardgrad [a-z]+(?: (?:[A-Z]+\b|\S*[-/=.]\S*))*")

_HELP = """\
usage: hardgrad COMMAND [...]

Train models whose gradient is hard to get or hard to trust.

commands:
{commands}

examples:
  hardgrad list
  hardgrad choose
  hardgrad run hypercausal-depth
  hardgrad report runs/hypercausal-depth-001

'hardgrad COMMAND --help' explains each command. Set HARDGRAD_DEBUG=1 for
tracebacks."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; None takes the process's own.

    Returns:
        The exit code.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] in ("-h", "--help", "help"):
        print(_HELP.format(commands="\n".join(f"  {name:<9}{text}" for name, text in _COMMANDS.items())))
        return 0
    if given[0] in ("-V", "--version"):
        from hardgrad import __version__

        print(f"hardgrad {__version__}")
        return 0
    if given[0] not in _COMMANDS:
        import difflib

        close = difflib.get_close_matches(given[0], _COMMANDS, n=1)
        hint = f"Did you mean '{close[0]}'?" if close else f"There are: {', '.join(_COMMANDS)}."
        return _fail(f"there is no command '{given[0]}'. {hint}", 2)
    return _call(given[0], given[1:])


def _call(command: str, arguments: list[str]) -> int:
    _be_quiet()
    begun = False
    try:
        module = importlib.import_module(f".{command}_command", __package__)
        begun = True
        return int(module.run(arguments))
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        return _fail("interrupted." if begun else "interrupted before anything was begun.", 130)
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("HARDGRAD_DEBUG"):
            raise
        from ..core import HardgradError, UsageError

        if isinstance(error, HardgradError):
            return _fail(str(error), 2 if isinstance(error, UsageError) else 1)
        first = str(error).strip().splitlines()
        text = f"{type(error).__name__}: {first[0] if first else 'no message'}"
        return _fail(f"{text}\nThis is not your mistake. HARDGRAD_DEBUG=1 shows where it happened.", 1)


def _be_quiet() -> None:
    """No log lines of libraries among ours, no failure over a letter that the output cannot show; and programs
    compiled once are kept for the next call."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(cache, "hardgrad", "jax"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def _fail(message: str, code: int) -> int:
    text = f"hardgrad: {message}"
    print(_wrapped(text) if sys.stderr.isatty() else text, file=sys.stderr)  # a log keeps whole lines
    return code


def _wrapped(text: str) -> str:
    """`text` for a terminal: no line is broken inside a word, in what is quoted, or in a command to be typed."""
    joined = _TOGETHER.sub(lambda found: found[0].replace(" ", _STUCK), text)
    lines = [
        textwrap.fill(line, 80, break_long_words=False, break_on_hyphens=False, drop_whitespace=True)
        for line in joined.splitlines()
    ]
    return "\n".join(lines).replace(_STUCK, " ")
