"""Recordings: sounds with their syllables, and the folders they are read from."""

from __future__ import annotations

import dataclasses
import operator
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, SupportsIndex, overload

import numpy as np
from jaxtyping import Float

from ...core import UsageError, whole_number
from ._annotations import read_annotations
from ._wav import read_wav

_SHOWN = 10


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """A sound and the syllables in it.

    Attributes:
        name: what it is called in messages; the file's name without its ending.
        sound: float64 ``[time]``, finite, in about ±1.
        sample_rate: samples a second.
        syllables: onsets and offsets in seconds, float64 ``[syllables, 2]``, by onset.

    Raises:
        UsageError: samples that are not finite, or syllables that are not inside the sound and in order.
    """

    name: str
    sound: Float[np.ndarray, " time"]
    sample_rate: int
    syllables: Float[np.ndarray, "syllables 2"]

    def __post_init__(self) -> None:
        whole_number("sample_rate", self.sample_rate, least=1)
        for name, array, wanted in (("sound", self.sound, 1), ("syllables", self.syllables, 2)):
            if array.ndim != wanted or array.dtype != np.float64:
                raise UsageError(f"the {name} of '{self.name}' must be float64; got {array.dtype} {array.shape}.")
        if self.sound.size == 0 or not np.isfinite(self.sound).all():
            raise UsageError(f"the sound of '{self.name}' is empty or has samples that are not finite.")
        onsets, offsets = self.syllables.T
        end = (self.sound.size + 0.5) / self.sample_rate
        if not ((onsets >= 0) & (onsets < offsets) & (offsets <= end)).all() or (np.diff(onsets) < 0).any():
            raise UsageError(
                f"the syllables of '{self.name}' must lie inside its {self.seconds:g} s, onset before offset, by onset."
            )

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.sound.size / self.sample_rate

    def edges(self) -> tuple[list[int], list[int]]:
        """Onsets and offsets in samples: seconds times the rate, rounded (halves to even)."""
        samples = np.rint(self.syllables * self.sample_rate).astype(np.int64)
        samples = np.minimum(samples, self.sound.size)
        return samples[:, 0].tolist(), samples[:, 1].tolist()


class Problem(NamedTuple):
    """A file that is not used, and why."""

    path: Path
    message: str


@dataclasses.dataclass(frozen=True, eq=False)
class Recordings(Sequence[Recording]):
    """What a folder offers: a sequence of recordings of one sample rate, by name, and what was left out.

    Attributes:
        recordings: those that can be used, at least one.
        problems: the files that can't, by path.
    """

    recordings: tuple[Recording, ...]
    problems: tuple[Problem, ...] = ()

    def __post_init__(self) -> None:
        if not self.recordings:
            raise UsageError("no recordings. Give at least one.")
        shared_sample_rate(self.recordings)

    @property
    def sample_rate(self) -> int:
        """Samples a second, of every recording."""
        return self.recordings[0].sample_rate

    def __len__(self) -> int:
        return len(self.recordings)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Recording: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Recording, ...]: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Recording | tuple[Recording, ...]:
        return self.recordings[index]

    def select(self, indices: Iterable[SupportsIndex]) -> Recordings:
        """Some of the recordings, by index, without the problems."""
        return Recordings(tuple(self.recordings[operator.index(i)] for i in indices))


def shared_sample_rate(recordings: Sequence[Recording]) -> int:
    """The one sample rate of some recordings.

    Raises:
        UsageError: there are none, or they differ.
    """
    rates = Counter(recording.sample_rate for recording in recordings)
    if len(rates) != 1:
        found = " and ".join(f"{rate} Hz ({count} of them)" for rate, count in sorted(rates.items()))
        raise UsageError(f"recordings must have one sample rate; got {found or 'no recordings'}.")
    return next(iter(rates))


def load_recordings(
    folder: str | os.PathLike[str],
    *,
    audio: str | os.PathLike[str] | None = None,
    annotations: str | os.PathLike[str] | None = None,
) -> Recordings:
    """Read a folder of sounds (``stem.wav``) and their annotations (``stem.txt``).

    A file that can't be used (a stereo sound, a missing partner, a sample that is NaN, an annotation that ends after
    its sound, one without syllables, …) is left out with its partner and listed in ``problems``. Where sample rates
    differ, the one most recordings have is used, the higher of two as frequent. Other files are ignored, hidden ones
    too.

    Args:
        folder: where both are.
        audio: another folder for the sounds, within `folder` unless absolute.
        annotations: another one for the annotations, likewise.

    Returns:
        The recordings, by name, and the problems, by path. Sounds are held as float64: 212 MB for ten minutes at
        44.1 kHz.

    Raises:
        UsageError: no such folder, or nothing in it can be used; it says what was found.
    """
    folder = Path(folder)
    sounds_folder = folder if audio is None else folder / audio
    texts_folder = folder if annotations is None else folder / annotations
    problems: list[Problem] = []
    sounds = _by_stem(sounds_folder, ".wav", problems)
    texts = _by_stem(texts_folder, ".txt", problems)
    if not sounds and not texts and not problems:
        raise UsageError(
            f"{folder} holds no recordings. Expected pairs of a sound, 'name.wav', and its annotation, 'name.txt', "
            "with a line 'onset offset' in seconds for each syllable."
        )
    found: list[tuple[Path, Recording]] = []
    for stem in sorted(sounds.keys() | texts.keys()):
        sound, text = sounds.get(stem), texts.get(stem)
        if sound is None or text is None:
            present, missing = (sound, texts_folder / f"{stem}.txt") if sound else (text, sounds_folder / f"{stem}.wav")
            assert present is not None
            problems.append(Problem(present, f"{present} has no partner: {missing} is missing."))
            continue
        path = sound
        try:
            samples, sample_rate = read_wav(path)
            path = text
            syllables = read_annotations(path, samples=samples.size, sample_rate=sample_rate)
            if len(syllables) == 0:
                raise UsageError(f"{text} has no syllables.")
        except UsageError as error:
            problems.append(Problem(path, str(error)))
        else:
            found.append((sound, Recording(stem, samples, sample_rate, syllables)))
    rates = Counter(recording.sample_rate for _, recording in found)
    rate = max(rates, key=lambda r: (rates[r], r), default=0)
    for sound, recording in found:
        if recording.sample_rate != rate:
            message = (
                f"{sound} has a sample rate of {recording.sample_rate} Hz; most of the folder has {rate} Hz. "
                f"Resample it: sox in.wav -r {rate} out.wav."
            )
            problems.append(Problem(sound, message))
    problems.sort()
    usable = tuple(recording for _, recording in found if recording.sample_rate == rate)
    if not usable:
        listed = "".join(f"\n  {problem.message}" for problem in problems[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise UsageError(f"{folder} holds no recording that can be used:{listed}{more}")
    return Recordings(usable, tuple(problems))


def _by_stem(folder: Path, ending: str, problems: list[Problem]) -> dict[str, Path]:
    """The files of a folder with an ending, in any case, by name without it."""
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise UsageError(f"cannot read the folder {folder}: {error.strerror}.") from error
    files: dict[str, Path] = {}
    for path in paths:
        if path.suffix.lower() != ending or path.name.startswith("."):
            continue
        if path.stem in files:
            problems.append(Problem(path, f"{path} has the name of {files[path.stem].name}; rename one of them."))
        else:
            files[path.stem] = path
    return files
