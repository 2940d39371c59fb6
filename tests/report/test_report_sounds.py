"""Players in the page: pairs side by side, files checked, sizes bounded."""

from __future__ import annotations

import base64
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardgrad.oscillators import write_wav
from hardgrad.report import _sounds, write_report
from hardgrad.report._sounds import players, wav_seconds
from hardgrad.training import RunFolder


def wav(samples: int = 100, *, kind: int = 1, channels: int = 1, extra: bytes = b"") -> bytes:
    """A WAV file by hand, 16 bits at 1000 Hz."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, kind, channels, 1000, 2000 * channels, 2 * channels, 16)
    body = b"WAVE" + form + extra + struct.pack("<4sI", b"data", 2 * samples) + bytes(2 * samples)
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    folder = tmp_path / "sounds"
    folder.mkdir()
    return folder


def players_of(html: str) -> list[tuple[str, bytes]]:
    """Label and content of each player."""
    found = re.findall(r'aria-label="([^"]*)"\s+src="data:audio/wav;base64,([^"]*)"', html)
    return [(label, base64.b64decode(data, validate=True)) for label, data in found]


def test_a_run_without_sounds_has_no_section(run: RunFolder) -> None:
    assert players(run.path) == ""
    (run.path / "sounds").mkdir()
    (run.path / "sounds" / "notes.txt").write_text("none")
    assert 'id="listen"' not in write_report(run, title="x").read_text()


def test_the_page_plays_what_the_run_wrote(run: RunFolder) -> None:
    folder = run.path / "sounds"
    folder.mkdir()
    for name in ("bird-1-target", "bird-1-sung"):
        write_wav(folder / f"{name}.wav", 0.5 * np.sin(np.arange(4410) / 10), 44100)
    page = write_report(run, title="x").read_text()
    assert '<section id="listen">' in page
    assert '<a href="#listen">Listen</a>' in page
    assert "media-src data:;" in page
    assert players_of(page) == [
        (f"bird 1 {kind}", (folder / f"bird-1-{kind}.wav").read_bytes()) for kind in ("target", "sung")
    ]
    assert page.count("0.10 s</figcaption>") == 2


def test_pairs_stand_side_by_side_and_numbers_count_as_numbers(sounds: Path) -> None:
    names = ["b-10-sung", "b-10-target", "b-9-target", "b-9-sung", "a-1-sung", "c", "a-b-2-target"]
    for number, name in enumerate(names, start=1):
        (sounds / f"{name}.wav").write_bytes(wav(number))
    html = players(sounds.parent)
    assert re.findall("<h3>(.*)</h3>", html) == ["a 1", "a-b 2", "b 9", "b 10", "c.wav"]
    labels = ["a 1 sung", "a-b 2 target", "b 9 target", "b 9 sung", "b 10 target", "b 10 sung", "c.wav"]
    assert [label for label, _ in players_of(html)] == labels
    assert html.count('<div class="players">') == 5
    assert "left out" not in html.lower()


def test_what_is_no_wav_is_left_out_and_named(sounds: Path) -> None:
    whole = wav()
    (sounds / "good.wav").write_bytes(whole)
    (sounds / "ends.wav").write_bytes(whole[:-1])
    (sounds / "empty.wav").write_bytes(b"")
    (sounds / "mp3.wav").write_bytes(wav(kind=0x55))
    (sounds / "page<b>.wav").write_bytes(b"<html>")
    html = players(sounds.parent)
    assert [label for label, _ in players_of(html)] == ["good.wav"]
    assert "no browser could play it: empty.wav, ends.wav, mp3.wav, page&lt;b&gt;.wav." in html


def test_links_pipes_and_hidden_files_are_not_looked_at(sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "private.wav").write_bytes(wav())
    (sounds / "link.wav").symlink_to(tmp_path / "private.wav")
    (sounds / ".hidden.wav").write_bytes(wav())
    (sounds / "folder.wav").mkdir()
    os.mkfifo(sounds / "pipe.wav")
    assert players(tmp_path) == ""
    (tmp_path / "other").mkdir()
    (tmp_path / "private.wav").rename(sounds / "seen.wav")
    (tmp_path / "other" / "sounds").symlink_to(sounds)
    assert players(tmp_path / "other") == ""
    assert len(players_of(players(tmp_path))) == 1


def test_too_much_sound_is_left_out_by_pairs_and_said(sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sounds, "MOST_BYTES", 3 * len(wav()) + 10)
    for name in ("a-1-target", "a-1-sung", "a-2-target", "a-2-sung", "b"):
        (sounds / f"{name}.wav").write_bytes(wav())
    html = players(sounds.parent)
    assert [label for label, _ in players_of(html)] == ["a 1 target", "a 1 sung", "b.wav"]
    assert "2 files of sounds/ are left out" in html
    monkeypatch.setattr(_sounds, "_MOST_FILES", 2)
    html = players(sounds.parent)
    assert [label for label, _ in players_of(html)] == ["a 1 target", "a 1 sung"]
    assert "3 files of sounds/ are left out" in html


def test_a_file_beyond_the_limit_is_not_read_whole(sounds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sounds, "MOST_BYTES", 100)
    (sounds / "long.wav").write_bytes(wav(10_000))
    assert "1 file of sounds/ is left out: a page holds" in players(sounds.parent)


def test_the_length_is_that_of_the_header() -> None:
    assert wav_seconds(wav(500)) == 0.5
    assert wav_seconds(wav(500, kind=3)) == 0.5
    assert wav_seconds(wav(500, channels=2)) == 0.25
    assert wav_seconds(wav(500, extra=b"LIST\x03\x00\x00\x00abc\x00")) == 0.5  # padded to an even size
    assert wav_seconds(wav(0)) is None
    assert wav_seconds(wav(9, channels=0)) is None


@given(st.integers(0, 200), st.binary(max_size=40))
def test_no_damage_is_more_than_no_sound(place: int, junk: bytes) -> None:
    content = wav(60)
    damaged = content[:place] + junk + content[place + len(junk) :]
    seconds = wav_seconds(damaged)
    assert seconds is None or 0 < seconds < len(damaged)
