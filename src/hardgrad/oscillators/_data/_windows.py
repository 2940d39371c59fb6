"""Windows of held-out recordings that a model is judged on: whole syllables from silence, and stretches within."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from ...core import UsageError, finite_number, one_of, whole_number
from ._recordings import Recording

Which = Literal["first", "every"]


class ColdStart(NamedTuple):
    """A syllable, from the silence before it to its end.

    Attributes:
        name: of its recording.
        sound: float64 ``[time]``.
        onset_index: the sample of the onset in `sound`: so many samples are silence.
        sample_rate: samples a second.
        syllable: which of its recording, from 0.
    """

    name: str
    sound: Float[np.ndarray, " time"]
    onset_index: int
    sample_rate: int
    syllable: int = 0


class MidVocalisation(NamedTuple):
    """A stretch within a syllable.

    Attributes:
        name: of its recording.
        sound: float64 ``[time]``.
        sample_rate: samples a second.
        syllable: which of its recording, from 0.
    """

    name: str
    sound: Float[np.ndarray, " time"]
    sample_rate: int
    syllable: int = 0


def cold_start_windows(
    recordings: Sequence[Recording],
    *,
    count: int | None = None,
    pad: int = 2000,
    syllables: Which = "every",
    shortest_pad: int | None = None,
    guard: int = 0,
    equal_length: bool = False,
) -> list[ColdStart]:
    """Windows that begin in silence and end with their syllable: what a model must sing by itself.

    A window begins `pad` samples before its onset, or where the recording does or the syllable before has died away,
    and ends at its offset. Syllables with less silence than `shortest_pad` before them, or with another one inside, are
    passed over. First come the first syllables of all recordings, then the second ones, and so on, so that a `count`
    spreads over recordings.

    The published windows are ``syllables="first", shortest_pad=0, equal_length=True``.

    Args:
        recordings: held-out ones.
        count: at most so many; None for all.
        pad: samples of silence before the onset.
        syllables: only the first of each recording, or every one.
        shortest_pad: the least silence, in samples; None for half of `pad`.
        guard: samples after an offset in which the syllable may still be heard: no window begins in them.
        equal_length: cut all to the shortest, at their ends.

    Raises:
        UsageError: an argument out of range, or no window at all.
    """
    pad = whole_number("pad", pad, least=0)
    least = pad // 2 if shortest_pad is None else whole_number("shortest_pad", shortest_pad, least=0, most=pad)
    guard = whole_number("guard", guard, least=0)
    if count is not None:
        count = whole_number("count", count, least=1)
    one_of("syllables", syllables, Which)
    windows = []
    for recording in recordings:
        onsets, offsets = recording.edges()
        for index, (on, off) in enumerate(zip(onsets, offsets, strict=True)):
            if syllables == "first" and index > 0:
                break
            start = max([0, on - pad, *(before + guard for before in offsets[:index])])
            overlapped = any(other < off for other in onsets[index + 1 :])
            if on - start < least or off <= on or overlapped:
                continue
            windows.append(
                ColdStart(recording.name, recording.sound[start:off].copy(), on - start, recording.sample_rate, index)
            )
    if not windows:
        raise UsageError(
            f"none of {len(recordings)} recordings has a syllable that stands alone after {least} samples of silence. "
            "Give recordings with more silence before their syllables, or lower shortest_pad."
        )
    windows.sort(key=lambda window: window.syllable)  # keeps the order of recordings
    windows = windows[:count]
    if equal_length:
        shortest = min(window.sound.size for window in windows)
        windows = [window._replace(sound=window.sound[:shortest]) for window in windows]
    return windows


def mid_vocalisation_windows(
    recordings: Sequence[Recording], *, length: int, start_ms: float = 50.0, count: int | None = None
) -> list[MidVocalisation]:
    """Windows of one length that begin `start_ms` after an onset and lie within their syllable.

    They come in the order of `cold_start_windows`; shorter syllables are passed over.

    Args:
        recordings: held-out ones.
        length: samples.
        start_ms: after the onset, rounded to samples.
        count: at most so many; None for all.

    Raises:
        UsageError: an argument out of range, or no syllable is long enough.
    """
    length = whole_number("length", length, least=1)
    if count is not None:
        count = whole_number("count", count, least=1)
    finite_number("start_ms", start_ms, least=0.0)
    windows = []
    for recording in recordings:
        after = round(start_ms / 1000 * recording.sample_rate)
        for index, (on, off) in enumerate(zip(*recording.edges(), strict=True)):
            start = on + after
            if start + length <= off:
                sound = recording.sound[start : start + length]
                windows.append(MidVocalisation(recording.name, sound, recording.sample_rate, index))
    if not windows:
        raise UsageError(
            f"no syllable of {len(recordings)} recordings has {length} samples from {start_ms:g} ms after its onset. "
            "Take a shorter length, or start earlier."
        )
    windows.sort(key=lambda window: window.syllable)
    return windows[:count]
