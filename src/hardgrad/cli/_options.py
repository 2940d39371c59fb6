"""Options from a dataclass, by tyro, with mistakes told in a line or two."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import io
import itertools
import re
import sys
import typing
from pathlib import Path
from typing import Any, TypeVar

import tyro

from ..core import UsageError

Options = TypeVar("Options")


def unset(metavar: str) -> Any:
    """What marks an option that need not be given: its help says what then holds, instead of ``(default: None)``."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="")


def parse(kind: type[Options], arguments: list[str], *, program: str, description: str, default: Any = None) -> Options:
    """The options a command was given.

    Args:
        kind: a dataclass, one field an option, documented by the string below each field.
        arguments: as typed.
        program: how the command is called, for messages.
        description: for its help; ends with an example.
        default: an instance that options override; None takes the fields' defaults.

    Raises:
        UsageError: an option unknown, lacking its value, or of another type.
        SystemExit: after --help.
    """
    options = tyro.conf.FlagCreatePairsOff[kind]  # type: ignore[valid-type]
    if any(a in ("-h", "--help") for a in arguments):
        tyro.cli(options, args=["--help"], prog=program, description=description, default=default)
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            parsed: Options = tyro.cli(options, args=arguments, prog=program, description=description, default=default)
    except SystemExit:
        problem = _in_a_line(said.getvalue())
        unknown = re.match(r"Unrecognized options: (--[\w.-]+)", problem)
        if unknown:
            problem = f"there is no option {unknown[1]}."
            close = difflib.get_close_matches(unknown[1], _names(kind), n=1)
            problem += f" Did you mean {close[0]}?" if close else ""
        raise UsageError(f"{problem} See: {program} --help.") from None
    return parsed


def _names(kind: Any, prefix: str = "--") -> list[str]:
    """The options that a dataclass of options, or of groups of them, gives rise to."""
    found: list[str] = []
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        marks: tuple[Any, ...] = ()
        if typing.get_origin(hint) is typing.Annotated:
            hint, *marks = typing.get_args(hint)  # type: ignore[assignment]
        if tyro.conf.Suppress in marks:
            continue
        bare = any(getattr(mark, "name", None) == "" for mark in marks)
        name = "" if bare else field.name.replace("_", "-")
        found += (
            _names(hint, f"{prefix}{name}." if name else prefix) if dataclasses.is_dataclass(hint) else [prefix + name]
        )
    return found


def _in_a_line(said: str) -> str:
    """What tyro printed in a box, or where there are no letters for boxes below a title, as a sentence."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said).strip()
    if plain and not plain.startswith("╭"):
        plain = plain.partition("\n")[2]
    lines = [re.sub(r"^[│|]\s?|\s*[│|]$", "", line).strip() for line in plain.splitlines()]
    lines = [line for line in lines if line and not re.match(r"^[╭╰─—]|-+$", line)]
    ends = ("Argument helptext", "For full helptext", "Perhaps you meant")
    message = list(itertools.takewhile(lambda line: not line.startswith(ends), lines))
    return (" ".join(message) or "the options could not be read").rstrip(".") + "."


def show_path(path: Any) -> str:
    """A path as it is typed again: quoted where it holds blanks."""
    text = str(path)
    return f"'{text}'" if re.search(r"\s", text) else text


def tell(text: str) -> None:
    """A line for the person at the terminal, kept out of what is piped on."""
    print(text, file=sys.stderr, flush=True)


def check_out(name: str, path: Path | None) -> None:
    """Refuse a file that can't be written, before anything is measured.

    Args:
        name: of the option.
        path: what it was given.

    Raises:
        UsageError: a folder, or in a folder that does not exist.
    """
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        reason = "is a folder" if path.is_dir() else f"lies in {show_path(path.parent)}, which does not exist"
        raise UsageError(f"{name} {show_path(path)} {reason}. Name a file.")
