"""WAV files of one channel: read in every common width, written as 16-bit PCM.

The reader is our own because the file is not to be trusted: every size its header states is held against the size of
the file before anything is allocated, and each way a file can be wrong has its sentence.

The container: RIFF (or RF64/BW64, the same with 64-bit sizes), a row of chunks, each a name of four bytes, a size and
that many bytes, padded to an even number. `fmt ` says what the samples are, `data` holds them.
"""

from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from ...core import UsageError, whole_number
from ...training._storage import write_bytes

MOST_SAMPLES = 2**28  # 1 h 41 min at 44.1 kHz; 2 GiB as float64
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
# What follows the format's number in the 16-byte identifier of an extensible header.
_GUID_TAIL = bytes.fromhex("000000001000800000aa00389b71")
_OTHER_FORMATS = {2: "Microsoft ADPCM", 6: "A-law", 7: "µ-law", 0x11: "IMA ADPCM", 0x55: "MP3"}
_LOUDEST = 100.0
_BLOCK = 2**20


class _Format(NamedTuple):
    kind: int
    channels: int
    sample_rate: int
    width: int  # bytes a sample


class _Unreadable(Exception):
    """Why a file can't be read, without its name."""


def read_wav(path: str | os.PathLike[str]) -> tuple[Float[np.ndarray, " time"], int]:
    """The sound of a WAV file of one channel, as numbers in about ±1, and its sample rate.

    Integers are divided by the full scale of their width (8 bits: unsigned, around 128; 16 bits: 32 768; likewise 24
    and 32). Floats of 32 and 64 bits are taken as they are.

    Args:
        path: a file of 1 to 2^28 samples.

    Returns:
        The sound, float64 ``[time]``, and the samples a second.

    Raises:
        UsageError: no such file; not a WAV; cut short; compressed; more than one channel; empty or too long; a sample
            that is not finite, or no sound (over 100 in magnitude).
    """
    path = Path(path)
    try:
        information = path.stat()
        if not stat.S_ISREG(information.st_mode):  # opening a pipe would wait for ever
            raise _Unreadable("is not a file.")
        with open(path, "rb") as file:
            return _read(file, information.st_size)
    except _Unreadable as error:
        raise UsageError(f"{path} {error}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error


def _read(file: BinaryIO, file_size: int) -> tuple[NDArray[np.float64], int]:
    form, data_size = _find_data(file, file_size)
    if form.channels != 1:
        raise _Unreadable(
            f"has {form.channels} channels; a recording has 1. Keep one of them, or mix them down: "
            "sox in.wav out.wav remix 1 (or remix -)."
        )
    samples, rest = divmod(data_size, form.width)
    if rest:
        raise _Unreadable(f"is damaged: {data_size} bytes of samples are no whole number of {form.width}-byte samples.")
    if not 1 <= samples <= MOST_SAMPLES:
        raise _Unreadable(
            "holds no samples."
            if samples == 0
            else f"holds {samples} samples, more than {MOST_SAMPLES}. Cut it into shorter files."
        )
    sound = np.empty(samples)
    for start in range(0, samples, _BLOCK):  # a long file is never in memory twice
        block = sound[start : start + _BLOCK]
        raw = file.read(block.size * form.width)
        if len(raw) < block.size * form.width:  # the file shrank since it was measured
            raise _Unreadable("is cut short.")
        block[:] = _to_float(raw, form)
        if form.kind == _FLOAT:
            _check_floats(block, start, form.sample_rate)
    return sound, form.sample_rate


def _find_data(file: BinaryIO, file_size: int) -> tuple[_Format, int]:
    """The format, and the bytes of samples; the file then stands at the first."""
    head = file.read(12)
    if len(head) < 12 or head[:4] not in (b"RIFF", b"RF64", b"BW64") or head[8:] != b"WAVE":
        raise _Unreadable("is not a WAV file" + (": it is empty." if file_size == 0 else "."))
    form: _Format | None = None
    long_size: int | None = None
    position = 12
    while position + 8 <= file_size:
        file.seek(position)
        name, size = struct.unpack("<4sI", file.read(8))
        position += 8
        if name == b"ds64" and size >= 16 and position + 16 <= file_size:
            (long_size,) = struct.unpack("<8xQ", file.read(16))
        elif name == b"fmt ":
            form = _read_format(file.read(min(size, 40)))
        elif name == b"data":
            if form is None:
                raise _Unreadable("is damaged: its samples come before their format.")
            if size == 0xFFFFFFFF and long_size is not None:
                size = long_size
            if position + size > file_size:
                raise _Unreadable(
                    f"is cut short: its header promises {size} bytes of samples, it has {file_size - position}."
                )
            return form, size
        position += size + size % 2
    raise _Unreadable("is cut short: it has no samples." if form else "is damaged: it does not say its format.")


def _read_format(head: bytes) -> _Format:
    if len(head) < 16:
        raise _Unreadable("is damaged: its format is cut short.")
    kind, channels, sample_rate, _, frame, bits = struct.unpack("<HHIIHH", head[:16])
    if kind == _EXTENSIBLE and len(head) >= 40 and head[26:40] == _GUID_TAIL:
        (kind,) = struct.unpack("<H", head[24:26])
    if kind not in (_PCM, _FLOAT):
        name = f"{_OTHER_FORMATS[kind]}, format" if kind in _OTHER_FORMATS else "format"
        raise _Unreadable(f"holds no PCM or float samples ({name} {kind}). Convert it: sox in.wav -b 16 out.wav.")
    if channels == 0 or sample_rate == 0:
        raise _Unreadable(f"is damaged: {channels} channels, {sample_rate} samples a second.")
    width, rest = divmod(frame, channels)
    if rest or width not in ((4, 8) if kind == _FLOAT else (1, 2, 3, 4)) or not width * 8 - 8 < bits <= width * 8:
        what = "float" if kind == _FLOAT else "integer"
        raise _Unreadable(
            f"is damaged, or of a width nobody uses: {what} samples of {bits} bits, frames of {frame} bytes, "
            f"{channels} channel{'s' if channels > 1 else ''}."
        )
    return _Format(kind, channels, sample_rate, width)


def _to_float(raw: bytes, form: _Format) -> NDArray[np.float64]:
    if form.kind == _FLOAT:
        with np.errstate(invalid="ignore"):  # a signalling NaN; it is found and named
            return np.frombuffer(raw, np.dtype(f"<f{form.width}")).astype(np.float64)
    if form.width == 1:
        return (np.frombuffer(raw, np.uint8).astype(np.float64) - 128.0) / 128.0
    if form.width == 3:  # as the upper bytes of 32-bit integers
        wide = np.zeros((len(raw) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0].astype(np.float64) / 2.0**31
    return np.frombuffer(raw, np.dtype(f"<i{form.width}")).astype(np.float64) / 2.0 ** (8 * form.width - 1)


def _check_floats(block: NDArray[np.float64], start: int, sample_rate: int) -> None:
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(block) <= _LOUDEST)
    if not wrong.any():
        return
    first = int(np.argmax(wrong))
    value, index = block[first], start + first
    where = f"sample {index} ({index / sample_rate:.3f} s) is {value:g}"
    if np.isfinite(value):
        raise _Unreadable(f"is not in ±1: {where}. Divide its samples by their full scale.")
    raise _Unreadable(f"has a sample that is not a finite number: {where}. Repair or remove it.")


def write_wav(path: str | os.PathLike[str], sound: Float[np.ndarray, " time"], sample_rate: int) -> None:
    """Write a sound as 16-bit PCM, one channel: each sample is the nearest multiple of 1/32 768.

    The file is written beside its place and renamed into it, so nobody meets half of one.

    Args:
        path: where; its folder exists.
        sound: ``[time]``, at least one sample, in [-1, 1]; 1 itself becomes 32 767/32 768.
        sample_rate: samples a second.

    Raises:
        UsageError: samples that are not finite or beyond ±1, an empty sound, or a place that can't be written.
    """
    path = Path(path)
    sample_rate = whole_number("sample_rate", sample_rate, least=1, most=2**31 - 1)
    sound = np.asarray(sound)
    if not 1 <= sound.size <= MOST_SAMPLES:
        raise UsageError(f"cannot write {path}: a sound of {sound.size} samples; expected 1 to {MOST_SAMPLES}.")
    samples = np.empty(sound.size, "<i2")
    for start in range(0, sound.size, _BLOCK):
        block = sound[start : start + _BLOCK].astype(np.float64)
        with np.errstate(invalid="ignore"):
            beyond = ~(np.abs(block) <= 1.0)
        if beyond.any():
            first = int(np.argmax(beyond))
            raise UsageError(
                f"cannot write {path}: sample {start + first} is {block[first]:g}, and 16 bits hold -1 to 1. "
                "Scale the sound first."
            )
        samples[start : start + _BLOCK] = np.minimum(np.rint(block * 32768.0), 32767.0)
    header = struct.pack("<4sI4s", b"RIFF", 36 + samples.nbytes, b"WAVE")
    header += struct.pack("<4sIHHIIHH", b"fmt ", 16, _PCM, 1, sample_rate, 2 * sample_rate, 2, 16)
    header += struct.pack("<4sI", b"data", samples.nbytes)
    write_bytes(path, header + samples.tobytes())
