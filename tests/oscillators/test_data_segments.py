"""Derivatives, training segments, splits and windows: against brute force, closed forms and the published counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import savgol_coeffs

from hardgrad.core import UsageError, one_of
from hardgrad.oscillators import (
    Category,
    Differences,
    Recording,
    SamplerConfig,
    cold_start_windows,
    derivatives,
    mid_vocalisation_windows,
    pool_counts,
    sample_segments,
    split_files,
    stratified_split,
)

RATE = 1000  # a sample is a millisecond


def ramp(size: int, syllables: list[tuple[int, int]], name: str = "a", start: int = 0) -> Recording:
    """A recording whose samples say where they are (exactly, in float32 too); syllables in samples."""
    sound = (start + np.arange(size)) * 2.0**-20
    return Recording(name, sound, RATE, np.array(syllables, np.float64).reshape(-1, 2) / RATE)


def position(samples: Any) -> np.ndarray:
    return np.asarray(np.round(np.asarray(samples, np.float64) * 2**20), np.int64)


# ---------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize(("method", "margin", "degrees"), [("central", 4, (8, 9)), ("savitzky-golay", 2, (4, 3))])
def test_derivatives_are_exact_for_polynomials(method: Any, margin: int, degrees: tuple[int, int]) -> None:
    t = np.arange(-8.0, 9.0)
    inner = slice(margin, -margin)
    for degree in range(max(degrees) + 1):
        polynomial = np.polynomial.Polynomial(np.eye(max(degrees) + 1)[degree])
        for order, highest in zip((1, 2), degrees, strict=True):
            if degree <= highest:
                found = derivatives(polynomial(t), method=method)[order - 1]
                wanted = polynomial.deriv(order)(t)
                np.testing.assert_allclose(found[inner], wanted[inner], atol=1e-13 * 8.0**degree, rtol=0)


def test_the_error_falls_with_the_eighth_power_of_the_step() -> None:
    errors = []
    for step in (0.2, 0.1):
        t = np.arange(-4, 5) * step
        velocity, acceleration = (d[4] for d in derivatives(np.sin(t + 0.3)))
        errors.append((abs(velocity / step - np.cos(0.3)), abs(acceleration / step**2 + np.sin(0.3))))
    for large, small in zip(*errors, strict=True):
        assert np.log2(large / small) == pytest.approx(8.0, abs=0.1)


def test_the_coefficients_are_those_of_scipy_and_the_published() -> None:
    impulse = np.zeros(21)
    impulse[10] = 1.0
    velocity, acceleration = derivatives(impulse)
    np.testing.assert_allclose(velocity[6:15] * 840, [-3, 32, -168, 672, 0, -672, 168, -32, 3], atol=1e-12)
    np.testing.assert_allclose(
        acceleration[6:15] * 5040, [-9, 128, -1008, 8064, -14350, 8064, -1008, 128, -9], atol=1e-11
    )
    velocity, acceleration = derivatives(impulse, method="savitzky-golay")
    np.testing.assert_allclose(velocity[8:13], savgol_coeffs(5, 3, deriv=1, use="conv"), atol=1e-15)
    np.testing.assert_allclose(acceleration[8:13], savgol_coeffs(5, 3, deriv=2, use="conv"), atol=1e-15)


def test_the_ends_are_mirrored_with_their_last_sample_twice() -> None:
    sound = np.random.default_rng(0).normal(size=(2, 5))
    mirrored = np.concatenate([sound[:, ::-1], sound, sound[:, ::-1]], axis=1)
    for short, long in zip(derivatives(sound), derivatives(mirrored), strict=True):
        np.testing.assert_array_equal(short, long[:, 5:10])
    constant = derivatives(np.full(7, 0.3, np.float32))
    np.testing.assert_allclose(constant, 0.0, atol=1e-15)
    assert constant[0].dtype == np.float64


def test_a_sound_too_short_and_a_method_unknown() -> None:
    with pytest.raises(UsageError, match="at least 5 samples"):
        derivatives(np.zeros(4))
    with pytest.raises(UsageError, match=r"method is not 'centre'\. .*'central'"):
        one_of("method", "centre", Differences)


# ---------------------------------------------------------------------------- the sampler


def brute_force(recording: Recording, length: int, edge: int, prefix: int, suffix: int) -> list[list[int]]:
    """The starts of each category, by looking at every place there is."""
    found: list[list[int]] = [[], [], []]
    for on, off in np.round(recording.syllables * RATE).astype(int):
        for start in range(recording.sound.size - length + 1):
            end = start + length
            if start + prefix == on and end > on:
                found[0].append(start)
            if end - suffix == off and start < off:
                found[1].append(start)
            if start >= on + edge and (start - on - edge) % length == 0 and end <= off - edge:
                found[2].append(start)
    return found


@given(
    st.integers(60, 250),
    st.lists(st.tuples(st.integers(0, 240), st.integers(1, 120)), min_size=1, max_size=4),
    st.integers(5, 60),
    st.integers(0, 12),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_segments_are_those_of_brute_force(
    size: int, syllables: list[tuple[int, int]], length: int, edge: int, prefix: int, suffix: int
) -> None:
    prefix, suffix = min(prefix, length - 1), min(suffix, length - 1)
    edges = sorted((on, min(on + duration, size)) for on, duration in syllables if on < size)
    recording = ramp(size, edges)
    config = SamplerConfig(
        context_seconds=length / RATE,
        edge_ms=float(edge),
        silence_prefix_ms=float(prefix),
        silence_suffix_ms=float(suffix),
        max_segments=0,
    )
    wanted = brute_force(recording, length, edge, prefix, suffix)
    assert list(pool_counts([recording], config).values()) == [len(starts) for starts in wanted]
    if not any(wanted):
        with pytest.raises(UsageError, match="hold no segment"):
            sample_segments([recording], config)
        return
    segments = sample_segments([recording], config)
    starts = position(segments.sound[:, 0])
    for category in Category:
        assert sorted(starts[segments.category == category]) == sorted(wanted[category])
    whole = derivatives(recording.sound)
    onsets, offsets = (set(side) for side in zip(*edges, strict=True))
    for row, start in enumerate(starts):
        at = slice(start, start + length)
        np.testing.assert_array_equal(segments.sound[row], recording.sound[at].astype(np.float32))
        np.testing.assert_array_equal(segments.velocity[row], whole[0][at].astype(np.float32))
        np.testing.assert_array_equal(segments.acceleration[row], whole[1][at].astype(np.float32))
        where = start + segments.edge[row]
        if segments.category[row] == Category.MID:
            assert segments.edge[row] == -1
        else:
            assert where in (onsets if segments.category[row] == Category.ONSET else offsets)


@pytest.mark.parametrize(
    ("wanted", "ratio", "counts"),
    [
        (64, (0.4, 0.4, 0.2), (26, 26, 12)),
        (300, (0.4, 0.4, 0.2), (120, 120, 60)),
        (300, (2.0, 2.0, 1.0), (120, 120, 60)),
        (3, (0.5, 0.5, 0.0), (2, 1, 0)),
        (5, (0.5, 0.5, 0.0), (2, 3, 0)),
        (7, (1.0, 0.0, 0.0), (7, 0, 0)),
        (7, (0.0, 1.0, 0.0), (0, 7, 0)),
        (1, (0.5, 0.5, 1.0), (0, 0, 1)),
        (0, (0.4, 0.4, 0.2), (0, 0, 0)),
    ],
)
def test_quotas(wanted: int, ratio: tuple[float, float, float], counts: tuple[int, int, int]) -> None:
    assert SamplerConfig(max_segments=wanted, ratio=ratio).quotas() == counts


@given(st.integers(0, 1000), st.tuples(*[st.floats(0, 10)] * 3).filter(lambda ratio: sum(ratio) > 0.1))
def test_quotas_sum_to_what_is_wanted(wanted: int, ratio: tuple[float, float, float]) -> None:
    quotas = SamplerConfig(max_segments=wanted, ratio=ratio).quotas()
    assert sum(quotas) == wanted
    for quota, share in zip(quotas, ratio, strict=True):
        assert 0 <= quota <= np.ceil(wanted * share / sum(ratio)) + 1
        assert share > 0 or quota == 0


# 40 syllables a recording, each offers one ONSET and one OFFSET and three MID.
MANY = [
    ramp(16000, [(200 + 380 * i, 400 + 380 * i) for i in range(40)], name, at) for name, at in (("a", 0), ("b", 2**19))
]
FULL = {Category.ONSET: 80, Category.OFFSET: 80, Category.MID: 240}


def test_nothing_is_drawn_twice_while_there_is_enough() -> None:
    assert pool_counts(MANY) == FULL
    segments = sample_segments(MANY, SamplerConfig(max_segments=200))
    starts = position(segments.sound[:, 0])
    assert np.bincount(segments.category).tolist() == [80, 80, 40]
    assert len(np.unique(starts)) == 200
    assert (np.diff(segments.category) != 0).sum() > 50  # mixed
    assert [array.dtype for array in segments] == [np.float32] * 3 + [np.int32] * 2
    assert (starts >= 2**19).sum() > 60  # of both recordings


def test_what_is_short_is_drawn_equally_often() -> None:
    segments = sample_segments(MANY, SamplerConfig(max_segments=500))
    onsets = position(segments.sound[segments.category == Category.ONSET, 0])
    times = np.unique(onsets, return_counts=True)[1]
    assert times.size == 80
    assert times.sum() == 200
    assert set(times) == {2, 3}
    assert (segments.category == Category.MID).sum() == 100


def test_a_category_of_which_there_is_none_adds_nothing() -> None:
    short = [ramp(400, [(150, 200)])]
    segments = sample_segments(short, SamplerConfig(max_segments=10))
    assert np.bincount(segments.category, minlength=3).tolist() == [4, 4, 0]


def test_the_draw_depends_on_the_seed_and_on_nothing_else() -> None:
    first, again, other = (sample_segments(MANY, SamplerConfig(max_segments=50, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.sound, again.sound)
    assert not np.array_equal(first.sound, other.sound)
    taken = first.take(np.array([3, 1]))
    np.testing.assert_array_equal(taken.sound, first.sound[[3, 1]])
    np.testing.assert_array_equal(taken.edge, first.edge[[3, 1]])


def test_segments_whose_silence_is_loud_count_as_mid() -> None:
    sound = np.random.default_rng(0).normal(size=600)
    quiet = sound.copy()
    quiet[:200] *= 0.01  # before the syllable; after it, it stays loud
    config = SamplerConfig(max_segments=0, silence_ratio=0.5, context_seconds=0.1, silence_suffix_ms=50.0)
    syllable = np.array([[0.2, 0.4]])
    for samples, counts in ((quiet, [1, 0, 2]), (sound, [0, 0, 3])):
        segments = sample_segments([Recording("a", samples, RATE, syllable)], config)
        assert np.bincount(segments.category, minlength=3).tolist() == counts
        assert (segments.edge[segments.category == Category.MID] == -1).all()
    # 32 samples of a syllable are too few to tell.
    assert pool_counts([Recording("a", sound, RATE, np.array([[0.2, 0.232]]))], config)[Category.ONSET] == 1
    assert pool_counts([Recording("a", sound, RATE, np.array([[0.2, 0.233]]))], config)[Category.ONSET] == 0


def test_where_there_is_nothing_it_says_what_there_is() -> None:
    with pytest.raises(UsageError) as caught:
        sample_segments([ramp(100, [(10, 40), (60, 90)])], SamplerConfig(context_seconds=0.2))
    message = str(caught.value)
    assert "segment of 200 ms (200 samples) with 25 ms before" in message
    assert "2 syllables of 30 to 30 ms in recordings of 0.1 to 0.1 s" in message
    assert "0 ONSET, 0 OFFSET, 0 MID" in message
    with pytest.raises(UsageError, match="no syllables"):
        sample_segments([ramp(100, [])])
    with pytest.raises(UsageError, match="one sample rate"):
        sample_segments([])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("context_seconds", 0.0),
        ("context_seconds", float("nan")),
        ("edge_ms", -1.0),
        ("silence_prefix_ms", 50.0),
        ("silence_suffix_ms", 60.0),
        ("ratio", (0.0, 0.0, 0.0)),
        ("ratio", (0.5, -0.1, 0.6)),
        ("silence_ratio", 0.0),
        ("seed", -1),
    ],
)
def test_settings_out_of_range_are_named(field: str, value: Any) -> None:
    with pytest.raises(UsageError, match=field):
        SamplerConfig(**{field: value})


# ---------------------------------------------------------------------------- splits


def check_partition(split: tuple[np.ndarray, ...], count: int) -> None:
    np.testing.assert_array_equal(np.sort(np.concatenate(split)), np.arange(count))


def test_files_are_split_as_published() -> None:
    split = split_files(624)
    assert [part.size for part in split] == [500, 62, 62]
    check_partition(split, 624)
    order = np.arange(624)
    np.random.default_rng(1234).shuffle(order)
    np.testing.assert_array_equal(split.test, order[:62])
    np.testing.assert_array_equal(split.validation, order[62:124])
    np.testing.assert_array_equal(split.train, order[124:])


def test_recordings_are_split_by_name() -> None:
    names = ["d", "b", "a", "c", "e"]
    recordings = [ramp(10, [], name) for name in names]
    by_name, by_count = split_files(recordings, seed=3), split_files(5, seed=3)
    for mine, theirs in zip(by_name, by_count, strict=True):
        assert [names[i] for i in mine] == ["abcde"[i] for i in theirs]


@given(st.integers(1, 60), st.floats(0, 0.5), st.floats(0, 0.49))
def test_no_file_is_lost_or_in_two_parts(count: int, test: float, validation: float) -> None:
    try:
        split = split_files(count, test=test, validation=validation)
    except UsageError:
        assert max(1, round(test * count)) + max(1, round(validation * count)) >= count
        return
    check_partition(split, count)
    assert split.train.size > 0
    assert (split.test.size > 0) == (test > 0)
    assert (split.validation.size > 0) == (validation > 0)


def test_shares_that_leave_nothing() -> None:
    with pytest.raises(UsageError, match="2 recordings cannot be split"):
        split_files(2)
    for shares in ({"test": 0.5, "validation": 0.5}, {"test": -0.1}, {"validation": float("nan")}):
        with pytest.raises(UsageError, match="must be shares"):
            split_files(10, **shares)
        with pytest.raises(UsageError, match="must be shares"):
            stratified_split(np.zeros(10, np.int32), **shares)


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [((120, 120, 60), (240, 30, 30)), ((1, 0, 0), (1, 0, 0)), ((2, 1, 3), (4, 2, 0)), ((10, 0, 0), (8, 1, 1))],
)
def test_segments_are_split_within_categories(counts: tuple[int, ...], sizes: tuple[int, ...]) -> None:
    category = np.random.default_rng(0).permutation(np.repeat(np.arange(3), counts))
    split = stratified_split(category)
    check_partition(split, sum(counts))
    assert tuple(part.size for part in split) == sizes
    if min(counts) > 10:
        for part, share in zip(split, (0.8, 0.1, 0.1), strict=True):
            assert np.bincount(category[part]).tolist() == [round(share * n) for n in counts]
    no_validation = stratified_split(category, test=0.2, validation=0.0)
    assert no_validation.validation.size == 0
    assert no_validation.train.size == split.train.size


# ---------------------------------------------------------------------------- windows


def spans(windows: Any) -> list[tuple[str, int, int, int]]:
    """Name, first sample, length, onset in the recording."""
    return [
        (w.name, int(position(w.sound[0])), w.sound.size, int(position(w.sound[0])) + w.onset_index) for w in windows
    ]


SONGS = [
    ramp(1000, [(300, 400), (430, 500), (650, 700)], "a"),
    ramp(1000, [(50, 150), (500, 600), (590, 700)], "b"),
    ramp(1000, [(200, 320), (600, 640)], "c"),
]


def test_cold_starts_begin_in_silence_and_end_with_their_syllable() -> None:
    windows = cold_start_windows(SONGS, pad=200)
    assert spans(windows) == [
        ("a", 100, 300, 300),
        ("c", 0, 320, 200),
        ("c", 400, 240, 600),
        ("a", 500, 200, 650),  # begins where the second syllable ends
    ]  # the first of b has 50 samples of silence, its second has the third inside, the second of a has 30
    assert [window.syllable for window in windows] == [0, 0, 1, 2]
    assert spans(cold_start_windows(SONGS, pad=200, count=2)) == spans(windows)[:2]
    assert spans(cold_start_windows(SONGS, pad=200, shortest_pad=30))[3] == ("a", 400, 100, 430)
    guarded = cold_start_windows(SONGS, pad=200, guard=20)
    assert spans(guarded) == [*spans(windows)[:3], ("a", 520, 180, 650)]  # past the second syllable's decay
    assert len(cold_start_windows(SONGS, pad=200, guard=60)) == 3  # 90 samples of silence are too few


def test_the_published_cold_starts() -> None:
    windows = cold_start_windows(SONGS, pad=200, syllables="first", shortest_pad=0, equal_length=True)
    assert spans(windows) == [("a", 100, 150, 300), ("b", 0, 150, 50), ("c", 0, 150, 200)]


def test_a_cold_start_that_is_nowhere() -> None:
    with pytest.raises(UsageError, match="none of 3 recordings has a syllable that stands alone after 1000 samples"):
        cold_start_windows(SONGS)
    with pytest.raises(UsageError, match="shortest_pad"):
        cold_start_windows(SONGS, pad=100, shortest_pad=101)
    with pytest.raises(UsageError, match="count"):
        cold_start_windows(SONGS, count=0)


def test_windows_within_syllables() -> None:
    windows = mid_vocalisation_windows(SONGS, length=60, start_ms=40.0)
    found = [(w.name, int(position(w.sound[0])), w.sound.size, w.syllable) for w in windows]
    assert found == [("a", 340, 60, 0), ("b", 90, 60, 0), ("c", 240, 60, 0), ("b", 540, 60, 1), ("b", 630, 60, 2)]
    with pytest.raises(UsageError, match="no syllable of 3 recordings has 200 samples from 50 ms"):
        mid_vocalisation_windows(SONGS, length=200)
