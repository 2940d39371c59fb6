"""What is made of a finished song run: scores of held-out syllables, beside what the simulator itself would score."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ..oscillators import (
    AutonomyReport,
    ColdStart,
    OnsetQuality,
    Saturation,
    SongScores,
    StrictReport,
    Sung,
    derivatives,
    read_wav,
    rollout,
    true_coefficients,
)
from ..training import FitResult, RunFolder
from ._figures import new_figure
from ._recipe import Conclusion
from ._song_birds import Bird

_TRUE = ((0, 0), (0, 1), (1, 0), (2, 1))  # the terms of the source bird's equation
_LOUD = 0.5  # mean envelope before an onset, over the syllable's own, from which on there was no silence
CEILINGS = {"source": "true drives", "tract": "no noise"}
"""What a simulated bird's own controls, or its sound before the microphone's noise, would score."""
_THEIR_NAMES = {"source": "its own equation", "tract": "the song without noise"}  # in a sentence


@dataclasses.dataclass(frozen=True)
class Judged:
    """Both scores and the onsets of some sounds."""

    published: AutonomyReport
    strict: StrictReport
    onsets: list[OnsetQuality]

    @classmethod
    def of(cls, tested: Sequence[ColdStart], sung: Sung) -> Judged:
        """Judge what was sung for each cold start."""
        scores = SongScores(tested)
        return cls(*scores.reports(sung), scores.onsets(sung))

    def as_json(self) -> dict[str, Any]:
        """Everything, by name."""
        return {
            "autonomy": self.published.score,
            **self.published.breakdown(),
            "strict_autonomy": self.strict.score,
            "strict": self.strict.breakdown(),
            "onset_latency_ms": [1e3 * onset.latency for onset in self.onsets],
            "click_ratio": [onset.click_ratio for onset in self.onsets],
            "ignited": [onset.ignited for onset in self.onsets],
            "lead_in": [onset.lead_in for onset in self.onsets],
        }


def conclude(
    birds: Mapping[str, Bird],
    tested: Mapping[str, list[ColdStart]],
    held_out: Mapping[str, list[ColdStart]],
    result: FitResult,
) -> Conclusion:
    """Score the best model on the test songs.

    Args:
        birds: by name.
        tested: cold starts of the test songs.
        held_out: cold starts of the validation songs.
        result: the finished run.
    """
    models = result.model if result.best_model is None else result.best_model
    found: dict[str, dict[str, Any]] = {}
    lines = [*_heading(result, tested)]
    for name, bird in birds.items():
        windows = tested[name]
        ours = Judged.of(windows, SongScores(windows).sung(models[name]))
        found[name] = ours.as_json() | {"syllables": len(windows), "validation": len(held_out[name])}
        lines.append(_row(name, ours))
        if bird.truth:
            best = Judged.of(windows, Sung(ceiling(bird, windows)))
            found[name]["ceiling"] = best.as_json()
            lines.append(_row(f" {CEILINGS[name]}", best))
    lines += ["", *_onset_lines(found), *_bounded_lines(result)]
    return Conclusion({"birds": found}, tuple(lines), f"autonomy {', '.join(map(_autonomy, found, found.values()))}")


def _autonomy(name: str, found: Mapping[str, Any]) -> str:
    best = f"; {_THEIR_NAMES[name]} scores {found['ceiling']['autonomy']:.2f}" if "ceiling" in found else ""
    return f"{found['autonomy']:.2f} ({name}{best})"


def ceiling(bird: Bird, windows: Sequence[ColdStart]) -> list[NDArray[np.float64]]:
    """What the simulator makes of each window: from its true drives, or where no field has those, without noise."""
    songs = {song.recording.name: song for song in bird.truth}
    starts = [int(songs[w.name].recording.edges()[0][w.syllable]) - w.onset_index for w in windows]
    if bird.name != "source":
        return [songs[w.name].clean[start : start + len(w.sound)] for w, start in zip(windows, starts, strict=True)]
    longest = -(-max(len(w.sound) for w in windows) // 1024) * 1024
    rows, states = [], []
    for window, start in zip(windows, starts, strict=True):
        row = true_coefficients(songs[window.name], _TRUE)[0, start : start + len(window.sound)]
        rows.append(np.pad(row, ((0, longest - len(row)), (0, 0)), mode="edge"))
        states.append((window.sound[0], derivatives(window.sound)[0][0]))
    coefficients, (x0, v0) = jnp.asarray(np.stack(rows), jnp.float32), jnp.asarray(np.array(states).T, jnp.float32)
    sung, _ = rollout(_TRUE, coefficients, x0, v0, saturation=Saturation("none"), interpolation="linear")
    return [np.asarray(one[: len(w.sound)], np.float64) for one, w in zip(sung, windows, strict=True)]


def _heading(result: FitResult, tested: Mapping[str, list[ColdStart]]) -> Iterator[str]:
    best = "" if result.best is None else f"; best epoch {result.best['epoch']}, from 0"
    counts = ", ".join(f"{len(windows)} of {name}" for name, windows in tested.items())
    yield f"held-out syllables sung alone from silence: {counts}{best}"
    yield ""
    yield f"{'':<14}{'published score':>31}{'stricter score':>33}"
    columns = f"{'score':>7}{'corr':>8}{'loudness':>9}{'pitch':>7}"
    yield f"{'':<14}{columns}  {columns}"


def _row(name: str, judged: Judged) -> str:
    row = f"{name:<14}"
    for report in (judged.published, judged.strict):
        row += f"{report.score:>7.3f}{report.spec_corr:>8.3f}{report.amp_pen:>9.3f}{report.pitch_pen:>7.3f}  "
    return row.rstrip()


def _onset_lines(found: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    for name, one in found.items():
        latency, loud = np.array(one["onset_latency_ms"]), np.array(one["lead_in"]) >= _LOUD  # NaN is not
        began = np.array(one["ignited"]) & ~loud
        if began.any():
            late, click = np.median(latency[began]), np.median(np.array(one["click_ratio"])[began])
            when = f"{abs(late):.1f} ms {'late' if late >= 0 else 'early'}"
            yield f"{name}: {began.sum()} of {len(began)} onsets sung, in the median {when}; click ratio {click:.2f}"
        else:
            yield f"{name}: no onset sung"
        if loud.any():
            yield f"{name}: {loud.sum()} of {len(loud)} not silent before the onset, so that it is none"


def _bounded_lines(result: FitResult) -> Iterator[str]:
    """When the validation songs first stayed bounded, and whether they still do."""
    name = "val_strict_bounded_frac"
    seen = [r for r in result.history if name in r.metrics]
    if not seen:
        return
    good = next((r.epoch + 1 for r in seen if r.metrics[name] >= 0.9), None)
    first = f"after {good} of {result.epochs} epochs" if good is not None else "never"
    last = seen[-1].metrics[name]
    yield f"bounded on 90 % of validation syllables: {first}; at the end {last:.0%}"


def figures(folder: RunFolder) -> Mapping[str, Any]:
    """Waveform and spectrogram of each written syllable, target above what was sung."""
    found = {}
    for target in sorted((folder.path / "sounds").glob("*-target.wav")):
        sung = target.with_name(target.name.replace("-target", "-sung"))
        if sung.is_file():
            name, number = target.stem.split("-")[:2]
            found[f"{name}, held-out syllable {number}"] = spectrograms(target, sung)
    return found


def spectrograms(target: Path, sung: Path) -> Any:
    """A target above what was sung: waveforms on one scale, spectrograms up to 8 kHz on one range of 70 dB."""
    figure = new_figure(9.0, 4.2)
    panels = figure.subplots(2, 2, sharex=True, width_ratios=(1, 2))
    sounds = [read_wav(path) for path in (target, sung)]
    loudest = max(float(np.max(np.abs(sound))) for sound, _ in sounds)
    levels = [decibels(sound) for sound, _ in sounds]
    top = max(float(level.max()) for level in levels)
    for (wave, image), (sound, rate), level, label in zip(
        panels, sounds, levels, ("target", "sung alone"), strict=True
    ):
        seconds = len(sound) / rate
        wave.plot(np.arange(len(sound)) / rate * 1e3, sound, lw=0.4, color="#0072b2")
        wave.set_ylim(-1.05 * loudest, 1.05 * loudest)
        wave.set_ylabel(label)
        rows = int(8000 / rate * _WINDOW) + 1
        image.imshow(
            level[:, :rows].T,
            origin="lower",
            aspect="auto",
            extent=(0.0, seconds * 1e3, 0.0, 8.0),
            vmin=top - 70.0,
            vmax=top,
            cmap="magma",
        )
        image.set_ylabel("kHz")
    for axis in panels[1]:
        axis.set_xlabel("ms")
    return figure


_WINDOW, _HOP = 512, 64


def decibels(sound: NDArray[np.float64]) -> NDArray[np.float64]:
    """The spectrogram of a sound ``[time]``, ``[frame, frequency]`` from 0 Hz to half the sample rate."""
    padded = np.pad(sound, _WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    magnitudes = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW)))
    return np.asarray(20.0 * np.log10(magnitudes + 1e-6))
