"""Training segments, mostly around the edges of syllables, where a song begins and ends.

A syllable is [on, off) in samples, a segment L samples long. Every syllable offers

    ONSET    the segment that begins `silence_prefix_ms` before `on`, if it reaches beyond `on`
    OFFSET   the segment that ends `silence_suffix_ms` after `off`, if it begins before `off`
    MID      segments one after the other from `on` + `edge_ms`, as many as end by `off` - `edge_ms`

as far as they lie within the recording. Of each category a share is drawn.
"""

from __future__ import annotations

import dataclasses
import enum
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int32
from numpy.typing import NDArray

from ...core import UsageError, finite_number, one_of, whole_number
from ._checks import is_number
from ._derivatives import MARGIN, Differences, inner_derivatives
from ._recordings import Recording, shared_sample_rate

_SMALLEST_BODY = 33  # samples of a syllable that its loudness is told from
_BLOCK = 256  # segments cut at a time


class Category(enum.IntEnum):
    """Where in a syllable a segment lies."""

    ONSET = 0
    OFFSET = 1
    MID = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """How `sample_segments` chooses. Names and defaults are the published ones where there are any.

    Attributes:
        context_seconds: length of a segment.
        edge_ms: how far a MID segment keeps from both edges of its syllable.
        silence_prefix_ms: what an ONSET segment has before the onset; less than the segment's length.
        silence_suffix_ms: what an OFFSET segment has after the offset; less than the segment's length.
        ratio: shares of ONSET, OFFSET and MID, at least 0; brought to sum 1.
        max_segments: how many are drawn; 0 or less takes every one there is, once.
        silence_ratio: an ONSET or OFFSET segment whose supposed silence is louder (rms) than this times its part of
            the syllable counts as MID, if that part has 33 samples or more. 1 or more switches the test off.
        derivatives: which: see `derivatives`.
        seed: of the draw and its order.

    Raises:
        UsageError: a number out of range; it names the field.
    """

    context_seconds: float = 0.05
    edge_ms: float = 10.0
    silence_prefix_ms: float = 25.0
    silence_suffix_ms: float = 25.0
    ratio: tuple[float, float, float] = (0.4, 0.4, 0.2)
    max_segments: int = 6000
    silence_ratio: float = 1.0
    derivatives: Differences = "central"
    seed: int = 0

    def __post_init__(self) -> None:
        lengths = ("context_seconds", "edge_ms", "silence_prefix_ms", "silence_suffix_ms", "silence_ratio")
        for name in lengths:
            above = 0.0 if name in ("context_seconds", "silence_ratio") else None
            finite_number(name, getattr(self, name), least=0.0, above=above)
        for name in ("silence_prefix_ms", "silence_suffix_ms"):
            if getattr(self, name) >= 1000 * self.context_seconds:
                raise UsageError(
                    f"{name} ({getattr(self, name):g} ms) must be less than context_seconds "
                    f"({self.context_seconds:g} s): the segment would hold nothing of its syllable."
                )
        if len(self.ratio) != 3 or not all(is_number(r) and r >= 0 for r in self.ratio) or sum(self.ratio) == 0:
            raise UsageError(f"ratio must be three shares (ONSET, OFFSET, MID), not all 0; got {self.ratio!r}.")
        try:
            operator.index(self.max_segments)
        except TypeError:
            raise UsageError(f"max_segments must be a whole number; got {self.max_segments!r}.") from None
        whole_number("seed", self.seed, least=0)
        one_of("derivatives", self.derivatives, Differences)

    def quotas(self) -> tuple[int, int, int]:
        """How many segments of each category are wanted; they sum to `max_segments` exactly.

        The first two are rounded (halves to even), the last takes the rest.

        Examples:
            >>> SamplerConfig(max_segments=64).quotas()
            (26, 26, 12)
        """
        total = sum(self.ratio)
        wanted = max(0, operator.index(self.max_segments))
        onset = round(wanted * self.ratio[0] / total)
        offset = min(round(wanted * self.ratio[1] / total), wanted - onset)
        if self.ratio[2] == 0:  # else a half lost to rounding would become a MID
            onset, offset = (onset, wanted - onset) if self.ratio[1] else (wanted, 0)
        return onset, offset, wanted - onset - offset


class Segments(NamedTuple):
    """Training segments, ready for the device.

    Attributes:
        sound: x, float32 ``[segments, time]``.
        velocity: Δx per sample, likewise.
        acceleration: Δ²x per sample squared, likewise.
        category: `Category`, int32 ``[segments]``.
        edge: the sample of the onset (ONSET) or offset (OFFSET) within the segment, -1 for MID; int32 ``[segments]``.
    """

    sound: Float32[Any, "segments time"]
    velocity: Float32[Any, "segments time"]
    acceleration: Float32[Any, "segments time"]
    category: Int32[Any, " segments"]
    edge: Int32[Any, " segments"]

    def take(self, indices: NDArray[np.integer]) -> Segments:
        """Some of the segments, by index, such as a part of `stratified_split`."""
        return Segments(*(array[indices] for array in self))


class _Place(NamedTuple):
    """Where a segment is cut from."""

    recording: int
    start: int
    edge: int


def sample_segments(recordings: Sequence[Recording], config: SamplerConfig | None = None) -> Segments:
    """Draw training segments from recordings.

    Of each category as many are drawn as `SamplerConfig.quotas` says, in random order: none twice if there are enough,
    else each equally often, or once more. A category of which there are none adds nothing. All lengths are rounded to
    samples.

    Derivatives are those of the whole recording in float64: were each segment mirrored at its own ends, they would be
    wrong at its first and last four samples.

    Args:
        recordings: at least one, of one sample rate.
        config: how; None takes the defaults.

    Raises:
        UsageError: sample rates differ, or the recordings hold no segment at all.
    """
    config = SamplerConfig() if config is None else config
    rate = shared_sample_rate(recordings)
    pools = _pools(recordings, config, rate)
    if config.max_segments <= 0:
        chosen = [np.arange(len(pool)) for pool in pools]
        generator = np.random.default_rng(config.seed)
    else:
        generator = np.random.default_rng(config.seed)
        chosen = [_draw(len(pool), quota, generator) for pool, quota in zip(pools, config.quotas(), strict=True)]
    places = [(pool[i], c) for c, (pool, drawn) in enumerate(zip(pools, chosen, strict=True)) for i in drawn]
    if not places:
        raise UsageError(_nothing(recordings, config, rate, pools))
    places = [places[i] for i in generator.permutation(len(places))]
    return _cut(recordings, places, round(config.context_seconds * rate), config.derivatives)


def pool_counts(recordings: Sequence[Recording], config: SamplerConfig | None = None) -> dict[Category, int]:
    """How many segments of each category the recordings offer.

    Raises:
        UsageError: as `sample_segments`, but none at all is no error.
    """
    config = SamplerConfig() if config is None else config
    pools = _pools(recordings, config, shared_sample_rate(recordings))
    return {category: len(pool) for category, pool in zip(Category, pools, strict=True)}


def _pools(recordings: Sequence[Recording], config: SamplerConfig, rate: int) -> tuple[list[_Place], ...]:
    """Every place a segment can be cut from, by category."""
    length = round(config.context_seconds * rate)
    edge, prefix, suffix = (
        round(ms / 1000 * rate) for ms in (config.edge_ms, config.silence_prefix_ms, config.silence_suffix_ms)
    )
    if length < 1:
        raise UsageError(f"context_seconds ({config.context_seconds:g}) is less than a sample at {rate} Hz.")
    onset_pool: list[_Place] = []
    offset_pool: list[_Place] = []
    mid_pool: list[_Place] = []
    for index, recording in enumerate(recordings):
        sound = recording.sound
        for on, off in zip(*recording.edges(), strict=True):
            start = on - prefix
            if start >= 0 and on < start + length <= sound.size:
                silence, body = sound[start:on], sound[on : min(off, start + length)]
                if _is_quiet(silence, body, config.silence_ratio):
                    onset_pool.append(_Place(index, start, prefix))
                else:
                    mid_pool.append(_Place(index, start, -1))
            start = off + suffix - length
            if 0 <= start < off and start + length <= sound.size:
                silence, body = sound[off : start + length], sound[max(on, start) : off]
                if _is_quiet(silence, body, config.silence_ratio):
                    offset_pool.append(_Place(index, start, off - start))
                else:
                    mid_pool.append(_Place(index, start, -1))
            for start in range(on + edge, off - edge - length + 1, length):
                if start + length <= sound.size:
                    mid_pool.append(_Place(index, start, -1))
    return onset_pool, offset_pool, mid_pool


def _is_quiet(silence: NDArray[np.float64], body: NDArray[np.float64], ratio: float) -> bool:
    if ratio >= 1 or body.size < _SMALLEST_BODY or silence.size == 0:
        return True
    return bool(np.mean(silence**2) <= ratio**2 * np.mean(body**2))


def _draw(available: int, wanted: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Indices, each drawn equally often, but for one time more."""
    if available == 0:
        return np.empty(0, np.int64)
    rounds, rest = divmod(wanted, available)
    extra = generator.choice(available, rest, replace=False)
    return np.concatenate([np.tile(np.arange(available), rounds), extra])


def _cut(
    recordings: Sequence[Recording], places: Sequence[tuple[_Place, int]], length: int, method: Differences
) -> Segments:
    count = len(places)
    sound, velocity, acceleration = (np.empty((count, length), np.float32) for _ in range(3))
    owners = np.array([place.recording for place, _ in places])
    starts = np.array([place.start for place, _ in places])
    reach = np.arange(-MARGIN, length + MARGIN)
    for index in np.unique(owners):
        samples = recordings[int(index)].sound
        rows = np.flatnonzero(owners == index)
        for block in np.split(rows, range(_BLOCK, rows.size, _BLOCK)):
            at = starts[block, None] + reach
            # Beyond its ends the recording is mirrored, the last sample twice.
            period = at % (2 * samples.size)
            cut = samples[np.minimum(period, 2 * samples.size - 1 - period)]
            v, a = inner_derivatives(cut, method)
            sound[block], velocity[block], acceleration[block] = cut[:, MARGIN : MARGIN + length], v, a
    category = np.array([category for _, category in places], np.int32)
    edge = np.array([place.edge for place, _ in places], np.int32)
    return Segments(sound, velocity, acceleration, category, edge)


def _nothing(recordings: Sequence[Recording], config: SamplerConfig, rate: int, pools: tuple[list[_Place], ...]) -> str:
    offered = ", ".join(f"{len(pool)} {category.name}" for category, pool in zip(Category, pools, strict=True))
    syllables = np.concatenate([recording.syllables for recording in recordings])
    found = "no syllables"
    if len(syllables):
        durations = np.diff(syllables, axis=1)
        found = (
            f"{len(syllables)} syllables of {1000 * durations.min():.0f} to {1000 * durations.max():.0f} ms in "
            f"recordings of {min(r.seconds for r in recordings):.3g} to {max(r.seconds for r in recordings):.3g} s"
        )
    length = round(config.context_seconds * rate)
    return (
        f"the recordings hold no segment of {1000 * config.context_seconds:g} ms ({length} samples) with "
        f"{config.silence_prefix_ms:g} ms before an onset or {config.silence_suffix_ms:g} ms after an offset: {found} "
        f"offer {offered}, of which ratio {config.ratio} takes none. Shorten context_seconds or the silences, or leave "
        "more sound around the syllables."
    )
