"""The sounds of a run as players in the page: WAV files, checked, and embedded as they are."""

from __future__ import annotations

import base64
import re
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..core import UsageError
from ._text import count, escape, format_seconds, shorten

FOLDER = "sounds"
"""Where in a run's folder they are."""

MOST_BYTES = 4 * 2**20
"""Of all sounds of a page together: 47 seconds of 16 bits at 44.1 kHz. In the page they take a third more."""

_MOST_FILES = 60
_KINDS = ("target", "sung")
_PAIRED = re.compile(rf"(.+)-(\d+)-({'|'.join(_KINDS)})", re.DOTALL)
_PLAYABLE = (1, 3, 0xFFFE)  # PCM, floats, and either in the longer header


class _Sound(NamedTuple):
    label: str
    seconds: float
    content: bytes


def players(run: Path) -> str:
    """A player for each WAV file in a run's folder of sounds; empty where it has none.

    ``NAME-N-target.wav`` and ``NAME-N-sung.wav`` stand side by side; any other file stands alone. What is no WAV file,
    or more than a page should hold, is left out and said.

    Args:
        run: the run's folder.
    """
    groups = _grouped(_files(run / FOLDER))
    pieces: list[str] = []
    refused: list[str] = []
    room, places, beyond = MOST_BYTES, _MOST_FILES, 0
    for title, files in groups.items():
        contents = [_read(path, room + 1) for _, path in files]
        if sum(map(len, contents)) > room or len(files) > places:
            beyond += len(files)
            continue
        sounds = []
        for (label, path), content in zip(files, contents, strict=True):
            seconds = wav_seconds(content)
            if seconds is None:
                refused.append(path.name)
            else:
                sounds.append(_Sound(label, seconds, content))
        if sounds:
            pieces.append(_piece(title, sounds))
            room, places = room - sum(len(sound.content) for sound in sounds), places - len(sounds)
    return "\n".join([*pieces, *_left_out(refused, beyond)])


def _files(folder: Path) -> list[Path]:
    """WAV files by name, numbers in it as numbers. Links are not followed: a page is to hold what is the run's."""
    if not folder.is_dir() or folder.is_symlink():
        return []
    try:
        found = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() == ".wav" and path.name[0] != "." and stat.S_ISREG(path.lstat().st_mode)
        ]
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror}.") from error
    # Odd parts are numbers, so that 10 comes after 9.
    return sorted(found, key=lambda path: [int(s) if i % 2 else s for i, s in enumerate(re.split(r"(\d+)", path.name))])


def _grouped(files: Iterable[Path]) -> dict[str, list[tuple[str, Path]]]:
    """Files by title, each with its label: those of a pair together, the target first."""
    groups: dict[str, list[tuple[str, Path]]] = {}
    for path in files:
        paired = _PAIRED.fullmatch(path.stem)
        title, label = (f"{paired[1]} {paired[2]}", paired[3]) if paired else (path.name, "")
        groups.setdefault(title, []).append((label, path))
    for group in groups.values():
        group.sort(key=lambda pair: _KINDS.index(pair[0]) if pair[0] else 0)
    return groups


def _read(path: Path, most: int) -> bytes:
    """The file, or as much of it as says that it is too long; nothing where it can't be read."""
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError:
        return b""


def wav_seconds(content: bytes) -> float | None:
    """How long a WAV file plays, by its header; None where it is none that a browser could play.

    Examples:
        >>> from hardgrad.report._sounds import wav_seconds
        >>> wav_seconds(b"RIFF, or so they say") is None
        True
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return None
    position, bytes_a_second = 12, 0
    while position + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, position)
        position += 8
        if position + size > len(content):
            return None
        if name == b"fmt " and size >= 16:
            kind, channels, _, bytes_a_second = struct.unpack_from("<HHII", content, position)
            if kind not in _PLAYABLE or not channels:
                return None
        elif name == b"data":
            return size / bytes_a_second if size and bytes_a_second else None
        position += size + size % 2
    return None


def _piece(title: str, sounds: Iterable[_Sound]) -> str:
    shown = "\n".join(_player(title, sound) for sound in sounds)
    return f'<h3>{escape(shorten(title, 80))}</h3>\n<div class="players">\n{shown}\n</div>'


def _player(title: str, sound: _Sound) -> str:
    name = f"{sound.label}, " if sound.label else ""
    said = escape(shorten(f"{title} {sound.label}".strip(), 80))
    data = base64.b64encode(sound.content).decode("ascii")
    return (
        f"<figure><figcaption>{name}{format_seconds(sound.seconds)}</figcaption>\n"
        f'<audio controls preload="metadata" aria-label="{said}"\nsrc="data:audio/wav;base64,{data}"></audio></figure>'
    )


def _left_out(refused: list[str], beyond: int) -> list[str]:
    said = []
    if beyond:
        what = f"{count(beyond, 'file')} of {FOLDER}/ {'is' if beyond == 1 else 'are'} left out"
        said.append(f"{what}: a page holds {MOST_BYTES // 2**20} MB of sound in {_MOST_FILES} players at most.")
    if refused:
        names = ", ".join(shorten(name, 60) for name in refused[:8]) + (", …" if len(refused) > 8 else "")
        said.append(f"Left out, since no browser could play it: {names}.")
    return [f'<p class="note">{escape(text)}</p>' for text in said]
