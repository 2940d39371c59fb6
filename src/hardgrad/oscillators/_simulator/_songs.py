"""Songs of simulated birds, with everything that is known of them."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from ...core import UsageError, one_of, whole_number
from ...training._storage import disk_errors, write_bytes, write_text
from .._data import Recording, write_wav
from .._data._checks import is_number
from ._motif import SOURCE_PITCHES, TRACT_PITCHES, draw_motif, rendition
from ._source import Exponents, sing_source, source_coefficients
from ._tract import sing_tract

Bird = Literal["source", "tract"]
Repertoire = Literal["motif", "random"]


@dataclasses.dataclass(frozen=True, eq=False)
class SimulatedSong:
    """A song, and what made it.

    Attributes:
        recording: what a microphone has: the sound with its noise, and the syllables.
        clean: the sound without noise, float64 ``[time]``.
        controls: the model's quantities at every sample, float64 ``[time]`` each. ``"f0"`` is the pitch in Hz,
            ``"gate"`` how far a syllable is switched on, in [0, 1]. Of the source ``"B"``, ``"C"``, ``"D"`` (s⁻¹,
            cm⁻² s⁻¹, cm s⁻²) and ``"scale"``, sound per cm; of the tract ``"alpha"``, ``"beta"``, ``"g"`` (s⁻¹) and
            ``"x"``, where the labia are.
        bird: the model.
        kinds: what each syllable is: ``"stack"``, ``"down"``, ``"up"``, ``"arch"`` or ``"high"``.
    """

    recording: Recording
    clean: Float[np.ndarray, " time"]
    controls: dict[str, Float[np.ndarray, " time"]]
    bird: Bird
    kinds: tuple[str, ...]


def simulate_songs(
    count: int,
    *,
    bird: Bird = "source",
    repertoire: Repertoire = "motif",
    seed: int = 0,
    first: int = 0,
    sample_rate: int = 44100,
    peak: float = 0.1,
    noise: float = 2e-4,
) -> list[SimulatedSong]:
    """Songs of a simulated bird: two to four syllables of 45 to 140 ms between silences.

    ``bird="source"`` sings with the labia alone (Mindlin et al. 2003), which a polynomial field of order 2 with its
    constant can reproduce: see `true_coefficients`. ``bird="tract"`` has a syrinx, a trachea and a throat (Sitt et al.
    2010, Arneodo et al. 2021); no field can.

    Song i of a bird depends on `seed`, i and the settings, but not on `count`; it is the same on every run.

    Args:
        count: how many songs, at least 1.
        bird: the model.
        repertoire: ``"motif"``: renditions of the bird's one motif, which vary by some per cent in pitch, timing and
            loudness, as those of a real bird do. ``"random"``: a new motif each time, which is harder to learn.
        seed: which bird.
        first: the number of the first song: a bird's songs 20 to 29 are ``first=20, count=10``.
        sample_rate: samples a second, 16 000 to 192 000.
        peak: amplitude of the loudest song, in (0, 1].
        noise: rms of the sensor's white noise.

    Returns:
        Songs named ``song_0000`` and so on.

    Raises:
        UsageError: an argument out of range.
    """
    count, first = whole_number("count", count, least=1), whole_number("first", first, least=0)
    seed = whole_number("seed", seed, least=0)
    sample_rate = whole_number("sample_rate", sample_rate, least=16_000, most=192_000)
    one_of("bird", bird, Bird)
    one_of("repertoire", repertoire, Repertoire)
    if not is_number(peak) or not 0 < peak <= 1:
        raise UsageError(f"peak must be above 0 and at most 1; got {peak!r}.")
    if not is_number(noise) or not 0 <= noise <= 1:
        raise UsageError(f"noise must be from 0 to 1; got {noise!r}.")
    pitches = SOURCE_PITCHES if bird == "source" else TRACT_PITCHES
    generators = [_generator(seed, 1, i) for i in range(first, first + count)]
    if repertoire == "motif":
        own = draw_motif(_generator(seed, 0), pitches, distinct=True)
        motifs = [rendition(own, generator) for generator in generators]
    else:
        motifs = [draw_motif(generator, pitches, distinct=False) for generator in generators]
    if bird == "source":
        songs = sing_source(motifs, sample_rate, peak)
    else:
        songs = sing_tract(motifs, generators, sample_rate, peak)
    result = []
    for number, (motif, generator, controls) in enumerate(zip(motifs, generators, songs, strict=True), start=first):
        clean = controls.pop("clean")
        sound = np.clip(clean + noise * generator.standard_normal(clean.size), -1.0, 1.0)
        recording = Recording(f"song_{number:04d}", sound, sample_rate, motif.edges())
        kinds = tuple(syllable.kind for syllable in motif.syllables)
        result.append(SimulatedSong(recording, clean, controls, bird, kinds))
    return result


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def true_coefficients(song: SimulatedSong, exponents: Exponents) -> Float[np.ndarray, "1 time terms"]:
    """The coefficients of x'' = Σ c_j x^p v^k, in samples, that made a song of the ``"source"`` bird.

    A rollout with them and linear interpolation reproduces ``song.clean`` to the integrator's error.

    Args:
        song: of ``bird="source"``.
        exponents: the field's (p, k); they include (1, 0), (0, 1), (2, 1) and (0, 0).

    Returns:
        float64 ``[1, time, terms]``, 0 for all other terms.

    Raises:
        UsageError: another bird, or a field that lacks one of those terms.
    """
    if song.bird != "source":
        raise UsageError(f"a song of bird '{song.bird}' has no true coefficients: no field makes its sound.")
    missing = [pair for pair in ((1, 0), (0, 1), (2, 1), (0, 0)) if pair not in exponents]
    if missing:
        raise UsageError(
            f"the field lacks the terms {missing} of the song: it takes an order of 2 or more, and keep_const=True."
        )
    return source_coefficients(song.controls, song.recording.sample_rate, exponents)


def write_songs(folder: str | os.PathLike[str], songs: Iterable[SimulatedSong]) -> None:
    """Write songs as a folder that `load_recordings` reads: sounds, annotations, and the controls beside them.

    A song becomes ``name.wav``, 16 bits, ``name.txt``, and ``name.npz`` with its controls and the clean sound. Files
    of these names are replaced.

    Args:
        folder: made if it is not there.
        songs: with names of their own.

    Raises:
        UsageError: the folder can't be written.
    """
    folder = Path(folder)
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for song in songs:
        name = song.recording.name
        write_wav(folder / f"{name}.wav", song.recording.sound, song.recording.sample_rate)
        lines = (f"{onset:.6f} {offset:.6f}\n" for onset, offset in song.recording.syllables)
        write_text(folder / f"{name}.txt", "".join(lines))
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, clean=song.clean, **song.controls)
        write_bytes(folder / f"{name}.npz", content.getvalue())
