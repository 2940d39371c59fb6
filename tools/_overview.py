"""The picture on the first page: one panel an application, drawn from the gallery's runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hardgrad.oscillators import read_wav
from hardgrad.training import RunFolder
from hardgrad.zoo._figures import BLUE, INK, SKY, SOFT, VERMILLION, new_figure
from hardgrad.zoo._song_report import decibels
from hardgrad.zoo._spiking_traces import read_traces

NEEDED = ("hypercausal-sunspots", "rational-filter", "song-coldstart", "digits-lif")
"""The recipes whose runs it is drawn from."""


def overview(runs: Path) -> Any:
    """Four panels.

    Args:
        runs: the folder of the gallery's runs.
    """
    figure = new_figure(10.0, 5.2)
    panels = figure.subplots(2, 2).ravel()
    for axis, draw, name in zip(panels, (_futures, _resonance, _song, _digit), NEEDED, strict=True):
        draw(axis, RunFolder.open(runs / name))
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _futures(axis: Any, folder: RunFolder) -> None:
    shown = folder.read_json(folder.result_path)["predictions"]
    axis.fill_between(shown["year"], shown["low"], shown["high"], color=SKY, alpha=0.35, lw=0)
    axis.plot(shown["year"], shown["truth"], "o-", color=INK, ms=2, lw=0.8, label="sunspots")
    axis.plot(shown["year"], shown["hypercausal"], color=BLUE, lw=1.6, label="foretold, with its fan of futures")
    axis.set_ylim(top=240)
    axis.legend(frameon=False, fontsize="small", ncols=2, loc="upper right")
    axis.set_title("hypercausal: futures of a series", loc="left")
    axis.set_xlabel("year")


def _resonance(axis: Any, folder: RunFolder) -> None:
    curve = folder.read_json(folder.result_path)["curve"]
    axis.plot(curve["frequency"], curve["truth"], color=INK, lw=4, alpha=0.3, label="truth")
    axis.plot(curve["frequency"], curve["arms"]["powers"], color=BLUE, lw=1.6, label="rational model")
    axis.plot(curve["frequency"], curve["arms"]["perceptron"], color=VERMILLION, lw=1.4, ls="--", label="perceptron")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(0.5, 2.0)
    axis.set_ylim(0.3, 3 * curve["quality"])
    axis.set_xticks([0.5, 1.0, 2.0], ["0.5", "1", "2"])
    axis.minorticks_off()
    axis.legend(frameon=False, fontsize="small", loc="upper left")
    axis.set_title(f"rational: a resonance of Q = {curve['quality']:g}, trained up to 30", loc="left")
    axis.set_xlabel("frequency")


def _song(axis: Any, folder: RunFolder) -> None:
    path = sorted((folder.path / "sounds").glob("*-sung.wav"))[0]
    sound, rate = read_wav(path)
    level = decibels(sound)
    rows = int(8000 / rate * 2 * (level.shape[1] - 1)) + 1
    axis.imshow(
        level[:, :rows].T,
        origin="lower",
        aspect="auto",
        extent=(0.0, 1e3 * len(sound) / rate, 0.0, 8.0),
        vmin=level.max() - 70.0,
        cmap="magma",
    )
    axis.set_title("oscillators: a syllable, sung alone from silence", loc="left")
    axis.set_xlabel("ms")
    axis.set_ylabel("kHz")


def _digit(axis: Any, folder: RunFolder) -> None:
    traces = read_traces(folder)
    given, hidden = traces[0].spikes, next(trace.spikes for trace in traces[1:] if trace.binary)
    for spikes, base, color in ((given, hidden.shape[1] + 4, SOFT), (hidden, 0, BLUE)):
        step, unit = np.nonzero(np.asarray(spikes))
        axis.plot(step, unit + base, "|", color=color, ms=3, mew=1.2)
    axis.set_yticks([hidden.shape[1] / 2, hidden.shape[1] + 4 + given.shape[1] / 2], ["units", "pixels"])
    axis.set_title("spiking: a handwritten digit", loc="left")
    axis.set_xlabel("time step")
