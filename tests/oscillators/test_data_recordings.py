"""Folders of recordings: whatever is wrong with a file is said of that file, and the rest is used."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_data_wav import wav

from hardgrad.core import UsageError
from hardgrad.oscillators import (
    Recording,
    Recordings,
    SamplerConfig,
    load_recordings,
    read_annotations,
    sample_segments,
    stage_recordings,
    write_wav,
)

RATE = 8000


def put(folder: Path, name: str, *, seconds: float = 1.0, rate: int = RATE, text: str = "0.2 0.4\n0.5 0.7\n") -> None:
    """A good pair."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(len(name))
    write_wav(folder / f"{name}.wav", generator.uniform(-0.5, 0.5, round(seconds * rate)), rate)
    (folder / f"{name}.txt").write_text(text)


def messages(recordings: Recordings) -> dict[str, str]:
    return {problem.path.name: problem.message for problem in recordings.problems}


# ---------------------------------------------------------------------------- annotations


def annotation(tmp_path: Path, content: str | bytes, **more: int) -> np.ndarray:
    path = tmp_path / "a.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_annotations(path, **more)


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("", []),
        ("\n \n", []),
        ("0.1 0.2", [(0.1, 0.2)]),
        ("0.1\t0.2\tA 7\r\n  3e-1   .4 \n\n", [(0.1, 0.2), (0.3, 0.4)]),
        ("5 6\n1 2\n", [(1, 2), (5, 6)]),
        ("\ufeff0 1\n", [(0, 1)]),
    ],
)
def test_annotations_are_read(tmp_path: Path, content: str, rows: list[tuple[float, float]]) -> None:
    np.testing.assert_array_equal(annotation(tmp_path, content), np.array(rows).reshape(-1, 2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0.1 0.2\nonset offset\n", "line 2: 'onset' is not a number"),
        ("0.1\n", "line 1: one column, '0.1'"),
        ("0.1,0.2\n", "line 1: one column, '0.1,0.2'"),
        ("0.1 1_0", "line 1: '1_0' is not a number"),
        ("0.1 nan", "line 1: nan is not a time"),
        ("0.1 inf", "line 1: inf is not a time"),
        ("\n-0.1 0.2", "line 2: -0.1 is not a time"),
        ("0.2 0.2", "line 1: the syllable ends at 0.2 s, not after its onset at 0.2 s"),
        ("0.3 0.2", "line 1: the syllable ends at 0.2 s, not after"),
        (b"\xff\xfe0\x001\x00", "not a text file in UTF-8"),
    ],
)
def test_what_is_wrong_with_a_line_is_said(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        annotation(tmp_path, content)
    assert str(tmp_path / "a.txt") in str(caught.value)


def test_a_syllable_past_the_end_by_more_than_rounding(tmp_path: Path) -> None:
    assert len(annotation(tmp_path, "0.1 1.00005", samples=RATE, sample_rate=RATE)) == 1
    with pytest.raises(UsageError, match=r"line 2: the syllable ends at 1.01 s, after the sound does \(1 s\)"):
        annotation(tmp_path, "0.1 0.2\n0.3 1.01", samples=RATE, sample_rate=RATE)


@given(st.one_of(st.binary(max_size=60), st.text("0123456789.e-+_naif \t\n\r#,", max_size=60)))
def test_no_annotation_crashes(tmp_path_factory: pytest.TempPathFactory, content: str | bytes) -> None:
    try:
        rows = annotation(tmp_path_factory.getbasetemp(), content)
    except UsageError:
        return
    assert (rows[:, 0] < rows[:, 1]).all()
    assert (rows >= 0).all()
    assert np.isfinite(rows).all()


# ---------------------------------------------------------------------------- folders


def test_a_folder_in_which_everything_is_wrong_somewhere(tmp_path: Path) -> None:
    put(tmp_path, "good_b", text="0.5 0.7\n0.2 0.4\n")
    put(tmp_path, "good_a")
    put(tmp_path, "stereo")
    (tmp_path / "stereo.wav").write_bytes(wav(b"\0" * 16, channels=2))
    put(tmp_path, "alone")
    (tmp_path / "alone.txt").unlink()
    put(tmp_path, "silent")
    (tmp_path / "silent.wav").unlink()
    put(tmp_path, "fast", rate=2 * RATE)
    put(tmp_path, "past", text="0.2 0.4\n0.9 1.5\n")
    put(tmp_path, "nan")
    (tmp_path / "nan.wav").write_bytes(wav(np.array([0, np.nan], "<f4").tobytes(), kind=3, bits=32))
    put(tmp_path, "empty", text="")
    put(tmp_path, "text", text="hello world\n")
    put(tmp_path, "cut")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "good_a.wav").read_bytes()[:1000])
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    (tmp_path / "gone.txt").write_text("0.1 0.2")
    for ignored in ("good_a.npz", "notes.md", "._good_a.wav", ".hidden.txt"):
        (tmp_path / ignored).write_bytes(b"")

    recordings = load_recordings(tmp_path)
    assert [recording.name for recording in recordings] == ["good_a", "good_b"]
    assert recordings.sample_rate == RATE
    np.testing.assert_array_equal(recordings[1].syllables, [[0.2, 0.4], [0.5, 0.7]])
    wanted = {
        "alone.wav": f"has no partner: {tmp_path / 'alone.txt'} is missing",
        "cut.wav": "is cut short",
        "empty.txt": "has no syllables",
        "fast.wav": "a sample rate of 16000 Hz; most of the folder has 8000 Hz",
        "gone.wav": "cannot be read: No such file",
        "nan.wav": "sample 1 (0.000 s) is nan",
        "past.txt": "line 2: the syllable ends at 1.5 s, after the sound does (1 s)",
        "silent.txt": f"has no partner: {tmp_path / 'silent.wav'} is missing",
        "stereo.wav": "has 2 channels",
        "text.txt": "line 1: 'hello' is not a number",
    }
    found = messages(recordings)
    assert list(found) == sorted(wanted)
    for name, part in wanted.items():
        assert found[name].startswith(str(tmp_path / name))
        assert part in found[name]


def test_two_folders_and_upper_case(tmp_path: Path) -> None:
    put(tmp_path / "sounds", "a")
    (tmp_path / "texts").mkdir()
    (tmp_path / "sounds" / "a.txt").rename(tmp_path / "texts" / "a.TXT")
    recordings = load_recordings(tmp_path, audio="sounds", annotations=tmp_path / "texts")
    assert [recording.name for recording in recordings] == ["a"]
    assert not recordings.problems


def test_two_files_of_one_name(tmp_path: Path) -> None:
    put(tmp_path, "a")
    (tmp_path / "a.TXT").write_text("0 1")
    if len(list(tmp_path.iterdir())) == 3:  # where case matters
        assert "has the name of a.TXT" in messages(load_recordings(tmp_path))["a.txt"]


def test_of_sample_rates_as_frequent_the_higher_is_taken(tmp_path: Path) -> None:
    for name, rate in (("a", 8000), ("b", 16000), ("c", 8000), ("d", 16000), ("e", 4000)):
        put(tmp_path, name, rate=rate)
    recordings = load_recordings(tmp_path)
    assert recordings.sample_rate == 16000
    assert list(messages(recordings)) == ["a.wav", "c.wav", "e.wav"]


def test_a_folder_with_nothing_to_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file or directory"):
        load_recordings(tmp_path / "none")
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(UsageError, match=r"holds no recordings. Expected pairs"):
        load_recordings(tmp_path)
    for number in range(13):
        (tmp_path / f"{number:02}.wav").write_bytes(b"")
    with pytest.raises(UsageError) as caught:
        load_recordings(tmp_path)
    lines = str(caught.value).splitlines()
    assert "no recording that can be used" in lines[0]
    assert len(lines) == 12
    assert str(tmp_path / "09.wav") in lines[10]
    assert lines[11].strip() == "and 3 more"


def test_ten_minutes_take_little_more_than_their_samples(tmp_path: Path) -> None:
    rate, seconds = 44100, 600
    head = wav(b"", rate=rate)
    size = 2 * rate * seconds
    with open(tmp_path / "long.wav", "wb") as file:
        file.write(head[:40] + size.to_bytes(4, "little"))
        file.truncate(44 + size)
        for at in (10, 300, 599):  # the rest is a hole
            file.seek(44 + 2 * at * rate)
            file.write(np.arange(-10000, 10000, dtype="<i2").tobytes())
    (tmp_path / "long.txt").write_text("10 10.4\n300 300.4\n599 599.4\n")
    tracemalloc.start()
    try:
        recordings = load_recordings(tmp_path)
        segments = sample_segments(recordings, SamplerConfig(max_segments=100))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert recordings[0].sound.size == rate * seconds
    assert segments.sound.shape == (100, 2205)
    assert peak < 1.25 * recordings[0].sound.nbytes


def test_what_a_recording_must_be() -> None:
    sound, syllables = np.zeros(100), np.array([[1.0, 2.0], [3.0, 4.0]])
    recording = Recording("a", sound, 10, syllables)
    assert recording.seconds == 10.0
    assert recording.edges() == ([10, 30], [20, 40])
    for wrong in (np.array([[1.0, 1.0]]), np.array([[-1.0, 1.0]]), np.array([[1.0, 11.0]]), syllables[::-1].copy()):
        with pytest.raises(UsageError, match="syllables of 'a' must lie inside its 10 s"):
            Recording("a", sound, 10, wrong)
    for bad in (np.array([0.0, np.nan]), np.empty(0)):
        with pytest.raises(UsageError, match="empty or has samples that are not finite"):
            Recording("a", bad, 10, np.empty((0, 2)))
    with pytest.raises(UsageError, match="must be float64; got float32"):
        Recording("a", np.zeros(3, np.float32), 10, np.empty((0, 2)))
    with pytest.raises(UsageError, match=r"one sample rate; got 10 Hz .* and 20 Hz"):
        Recordings((recording, Recording("b", sound, 20, np.empty((0, 2)))))
    with pytest.raises(UsageError, match="no recordings"):
        Recordings(())
    several = Recordings(tuple(Recording(name, sound, 10, syllables) for name in "abc"))
    assert [r.name for r in several.select(np.array([2, 0]))] == ["c", "a"]
    assert [r.name for r in several[1:]] == ["b", "c"]


# ---------------------------------------------------------------------------- staging


def laboratory(folder: Path) -> Path:
    for name in ("one", "two"):
        put(folder / "day1" / "double_denoised", name)
    texts = folder / "segs" / "day1" / "A"
    texts.mkdir(parents=True)
    for name, text in (("one", "0.2 0.4\n"), ("two", "0.1 0.3"), ("three", "0 1"), ("four", "")):
        (texts / f"{name}.txt").write_text(text)
    for name in ("one", "two", "four"):
        sounds = folder / "day1" / "double_denoised"
        write_wav(sounds / f"{name}_cleaned.wav", np.zeros(RATE), RATE)
    return folder


def test_a_laboratory_is_staged_once_and_again(tmp_path: Path) -> None:
    source, flat = laboratory(tmp_path / "lab"), tmp_path / "deep" / "flat"
    assert stage_recordings(source, flat, "day1", "A") == (2, 0, 1, 1)
    assert [recording.name for recording in load_recordings(flat)] == ["one", "two"]
    assert stage_recordings(source, flat, "day1", "A") == (0, 2, 1, 1)
    (source / "segs" / "day1" / "A" / "four.txt").write_text("0.5 0.6")
    assert stage_recordings(source, flat, "day1", "A") == (1, 2, 0, 1)
    assert sorted(p.name for p in flat.iterdir()) == sorted(
        f"{n}.{e}" for n in ("one", "two", "four") for e in ("txt", "wav")
    )


def test_staging_replaces_nothing(tmp_path: Path) -> None:
    source, flat = laboratory(tmp_path / "lab"), tmp_path / "flat"
    flat.mkdir()
    (flat / "two.wav").write_text("mine")
    with pytest.raises(UsageError, match=r"two.wav is there already"):
        stage_recordings(source, flat, "day1", "A")
    assert [path.name for path in flat.iterdir()] == ["two.wav"]
    assert (flat / "two.wav").read_text() == "mine"


@pytest.mark.parametrize("name", ["..", "a/b", "", "/etc"])
def test_staging_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="day must be the name of a folder"):
        stage_recordings(tmp_path, tmp_path / "flat", name, "A")
    with pytest.raises(UsageError, match="syllable must be the name of a folder"):
        stage_recordings(tmp_path, tmp_path / "flat", "day1", name)


def test_a_day_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"segs/day2/A is not there"):
        stage_recordings(laboratory(tmp_path / "lab"), tmp_path / "flat", "day2", "A")
