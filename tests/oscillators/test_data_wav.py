"""WAV files: every common width is read to the digit, and no file, however damaged, gets past its sentence."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.io import wavfile

from hardgrad.core import UsageError
from hardgrad.oscillators import read_wav, write_wav
from hardgrad.oscillators._data import _wav


def chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def wav(samples: bytes, *, kind: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16, **more: Any) -> bytes:
    """A WAV file; `before` is put in front of the samples, `extension` at the end of the format."""
    frame = more.get("frame", channels * ((bits + 7) // 8))
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * frame, frame, bits) + more.get("extension", b"")
    body = b"WAVE" + chunk(b"fmt ", form) + more.get("before", b"") + chunk(b"data", samples)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def extension(kind: int, bits: int) -> bytes:
    tail = bytes.fromhex("000000001000800000aa00389b71")
    return struct.pack("<HHIH", 22, bits, 4, kind) + tail


VALID = wav(np.arange(-20, 20, dtype="<i2").tobytes())


@pytest.mark.parametrize(
    ("dtype", "zero", "full"),
    [("u1", 128, 2**7), ("<i2", 0, 2**15), ("<i4", 0, 2**31), ("<f4", 0, 1), ("<f8", 0, 1)],
)
def test_every_width_agrees_with_scipy(tmp_path: Path, dtype: str, zero: int, full: int) -> None:
    generator = np.random.default_rng(0)
    values = generator.uniform(-1, 1, 1001) * (full - 1) + zero if full > 1 else generator.uniform(-1, 1, 1001)
    samples = values.astype(dtype)
    wavfile.write(tmp_path / "a.wav", 44100, samples)
    sound, rate = read_wav(tmp_path / "a.wav")
    assert rate == 44100
    assert sound.dtype == np.float64
    np.testing.assert_array_equal(sound, (samples.astype(np.float64) - zero) / full)


def test_24_bits(tmp_path: Path) -> None:
    values = np.array([0, 1, -1, 2**23 - 1, -(2**23), 123456, -654321], "<i4")
    samples = values.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    (tmp_path / "a.wav").write_bytes(wav(samples, bits=24))
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav")[0], values / 2.0**23)


@pytest.mark.parametrize(("kind", "bits", "dtype"), [(1, 16, "<i2"), (3, 32, "<f4")])
def test_the_extensible_header(tmp_path: Path, kind: int, bits: int, dtype: str) -> None:
    samples = np.array([1, 0, -1], dtype)
    (tmp_path / "a.wav").write_bytes(wav(samples.tobytes(), kind=0xFFFE, bits=bits, extension=extension(kind, bits)))
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav")[0], samples / (1.0 if kind == 3 else 32768.0))


def test_other_chunks_and_20_bits_in_24(tmp_path: Path) -> None:
    content = wav(b"\0\0\x40", bits=20, frame=3, before=chunk(b"LIST", b"odd") + chunk(b"bext", b"even"))
    (tmp_path / "a.wav").write_bytes(content)
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav")[0], [0.5])


def test_64_bit_sizes(tmp_path: Path) -> None:
    body = b"WAVE" + chunk(b"ds64", struct.pack("<QQQI", 0, 4, 2, 0)) + VALID[12:36]
    body += b"data" + struct.pack("<I", 0xFFFFFFFF) + np.array([0, 16384], "<i2").tobytes()
    (tmp_path / "a.wav").write_bytes(b"RF64" + struct.pack("<I", 0xFFFFFFFF) + body)
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav")[0], [0.0, 0.5])


def test_blocks_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").write_bytes(VALID)
    whole = read_wav(tmp_path / "a.wav")[0]
    monkeypatch.setattr(_wav, "_BLOCK", 7)
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav")[0], whole)
    write_wav(tmp_path / "b.wav", whole, 8000)
    assert (tmp_path / "b.wav").read_bytes() == VALID


FAULTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not a WAV file: it is empty"),
    "text": (b"not at all a sound file", "is not a WAV file"),
    "AIFF": (b"FORM" + VALID[4:], "is not a WAV file"),
    "cut in its samples": (VALID[:-10], "is cut short: its header promises 80 bytes of samples, it has 70"),
    "cut before its samples": (VALID[:36], "is cut short: it has no samples"),
    "cut in its format": (VALID[:20], "does not say its format|format is cut short"),
    "samples before the format": (VALID[:12] + VALID[36:] + VALID[12:36], "come before their format"),
    "an endless promise": (VALID[:40] + b"\xff\xff\xff\xff" + VALID[44:], "promises 4294967295 bytes"),
    "no samples": (wav(b""), "holds no samples"),
    "stereo": (wav(b"\0" * 8, channels=2), "has 2 channels"),
    "no channel": (wav(b"\0" * 8, channels=0, frame=2), "0 channels"),
    "no rate": (wav(b"\0" * 8, rate=0), "0 samples a second"),
    "µ-law": (wav(b"\0" * 8, kind=7, bits=8), "µ-law, format 7"),
    "unknown extension": (wav(b"\0" * 8, kind=0xFFFE, extension=b"\0" * 24), "no PCM or float"),
    "half a sample": (wav(b"\0" * 7), "7 bytes of samples are no whole number"),
    "40 bits": (wav(b"\0" * 10, bits=40), "of a width nobody uses"),
    "16-bit floats": (wav(b"\0" * 10, kind=3), "of a width nobody uses"),
    "12 bits in 24": (wav(b"\0" * 9, bits=12, frame=3), "of a width nobody uses"),
    "NaN": (wav(np.array([0, 0.1, np.nan, np.inf], "<f4").tobytes(), kind=3, bits=32), r"sample 2 \(0.000 s\) is nan"),
    "infinite": (wav(np.array([0, -np.inf], "<f8").tobytes(), kind=3, bits=64), "sample 1 .* is -inf"),
    "not in ±1": (wav(np.array([0, 3e4], "<f4").tobytes(), kind=3, bits=32), r"not in ±1: sample 1 .* is 30000"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, fault: str) -> None:
    content, message = FAULTS[fault]
    path = tmp_path / "song.wav"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_wav(path)
    assert str(path) in str(caught.value)


def test_no_file_a_folder_and_a_pipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_wav(tmp_path / "a.wav")
    with pytest.raises(UsageError, match="is not a file"):
        read_wav(tmp_path)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(UsageError, match="is not a file"):
        read_wav(tmp_path / "pipe.wav")


def test_a_sound_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wav, "MOST_SAMPLES", 39)
    (tmp_path / "a.wav").write_bytes(VALID)
    with pytest.raises(UsageError, match="holds 40 samples, more than 39"):
        read_wav(tmp_path / "a.wav")
    with pytest.raises(UsageError, match="40 samples"):
        write_wav(tmp_path / "b.wav", np.zeros(40), 8000)


def attempt(path: Path, content: bytes) -> None:
    """Read the bytes: a finite sound, or a sentence."""
    path.write_bytes(content)
    try:
        sound, rate = read_wav(path)
    except UsageError:
        return
    assert rate > 0
    assert 0 < sound.size <= len(content)
    assert np.isfinite(sound).all()


@given(st.binary(max_size=200))
def test_random_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    attempt(tmp_path_factory.getbasetemp() / "random.wav", content)
    attempt(tmp_path_factory.getbasetemp() / "random.wav", VALID[:12] + content)
    attempt(tmp_path_factory.getbasetemp() / "random.wav", VALID[:36] + content)


FLOATS = wav(np.array([0.5, -0.5, 0.25], "<f4").tobytes(), kind=3, bits=32)
EXTENSIBLE = wav(b"\1\2\3" * 4, kind=0xFFFE, bits=24, extension=extension(1, 24), before=chunk(b"ds64", b"\xff" * 24))


@given(
    st.sampled_from([VALID, FLOATS, EXTENSIBLE]),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 255)), max_size=4),
    st.integers(0, 200),
)
@example(FLOATS, [(44, 1), (45, 0), (46, 0xA0), (47, 0x7F)], 200)  # a signalling NaN
def test_flipped_bytes_and_cut_files(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, flips: list[tuple[int, int]], length: int
) -> None:
    damaged = bytearray(content)
    for position, value in flips:
        damaged[position % len(damaged)] = value
    attempt(tmp_path_factory.getbasetemp() / "flipped.wav", bytes(damaged[:length]))


# ---------------------------------------------------------------------------- writing


def test_what_is_written_is_read_and_scipy_agrees(tmp_path: Path) -> None:
    sound = np.random.default_rng(1).uniform(-1, 1, 500)
    sound[:3] = 1.0, -1.0, 0.0
    write_wav(tmp_path / "a.wav", sound, 22050)
    back, rate = read_wav(tmp_path / "a.wav")
    assert rate == 22050
    np.testing.assert_array_equal(back[:3], [32767 / 32768, -1.0, 0.0])
    assert np.abs(back[1:] - sound[1:]).max() <= 0.5 / 32768
    theirs, samples = wavfile.read(tmp_path / "a.wav")
    assert theirs == 22050
    np.testing.assert_array_equal(samples / 32768, back)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_float32_is_written_too(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", np.array([0.5, -0.25], np.float32), 8000)
    np.testing.assert_array_equal(read_wav(tmp_path / "a.wav")[0], [0.5, -0.25])


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        ([0.0, 1.5], "sample 1 is 1.5"),
        ([np.nan], "sample 0 is nan"),
        ([-np.inf], "sample 0 is -inf"),
        ([], "0 samples"),
    ],
)
def test_what_16_bits_cannot_hold(tmp_path: Path, sound: list[float], message: str) -> None:
    (tmp_path / "a.wav").write_bytes(VALID)
    with pytest.raises(UsageError, match=message):
        write_wav(tmp_path / "a.wav", np.array(sound), 8000)
    assert (tmp_path / "a.wav").read_bytes() == VALID  # what was there stays


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"):
        write_wav(tmp_path / "none" / "a.wav", np.zeros(3), 8000)
