"""From a laboratory's folders to a flat one that `load_recordings` reads."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ...core import UsageError
from ...training._storage import disk_errors


class Staged(NamedTuple):
    """What `stage_recordings` did.

    Attributes:
        linked: pairs linked now.
        present: pairs that were linked already.
        empty: annotations passed over because they have no lines.
        missing_audio: annotations passed over because their sound is not there.
    """

    linked: int
    present: int
    empty: int
    missing_audio: int


def stage_recordings(
    source: str | os.PathLike[str], destination: str | os.PathLike[str], day: str, syllable: str
) -> Staged:
    """Link the recordings of a laboratory's day and syllable into one folder.

    Taken are ``source/segs/{day}/{syllable}/{stem}.txt`` with ``source/{day}/double_denoised/{stem}_cleaned.wav``;
    they become symbolic links ``{stem}.txt`` and ``{stem}.wav`` in `destination`, which is made. Done again, it only
    adds what is new. Nothing that is there already is ever replaced.

    Args:
        source: the laboratory's folder.
        destination: where the links go.
        day: the name of the day's folders.
        syllable: the name of the syllable's folder.

    Returns:
        How many pairs were linked or passed over.

    Raises:
        UsageError: no such folder, names that are no plain names, or something else is where a link belongs.
    """
    source, destination = Path(source), Path(destination)
    for name, value in (("day", day), ("syllable", syllable)):
        if value in ("", ".", "..") or any(sign in value for sign in "/\\\0"):
            raise UsageError(f"{name} must be the name of a folder; got {value!r}.")
    texts, sounds = source / "segs" / day / syllable, source / day / "double_denoised"
    for folder in (texts, sounds):
        if not folder.is_dir():
            raise UsageError(f"{folder} is not there. Expected the annotations in {texts}, the sounds in {sounds}.")
    links: list[tuple[Path, Path]] = []
    empty = missing = 0
    for text in sorted(texts.glob("*.txt")):
        sound = sounds / f"{text.stem}_cleaned.wav"
        if text.name.startswith(".") or not text.is_file():
            continue
        if not sound.is_file():
            missing += 1
        elif not text.read_bytes().strip():
            empty += 1
        else:
            links += [(destination / text.name, text), (destination / f"{text.stem}.wav", sound)]
    # All are looked at before any is made: either the whole day fits in, or nothing changes.
    absent = [(link, target) for link, target in links if not _is_link_to(link, target)]
    with disk_errors(destination):
        destination.mkdir(parents=True, exist_ok=True)
        for link, target in absent:
            link.symlink_to(target.resolve())
    stems = {link.stem for link, _ in absent}
    return Staged(len(stems), len(links) // 2 - len(stems), empty, missing)


def _is_link_to(link: Path, target: Path) -> bool:
    if not os.path.lexists(link):
        return False
    if link.is_symlink() and link.resolve() == target.resolve():
        return True
    raise UsageError(f"{link} is there already, and is no link to {target}. Stage into another folder, or remove it.")
