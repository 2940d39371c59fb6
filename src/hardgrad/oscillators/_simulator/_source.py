"""The first physical model: the labia alone (Mindlin, Gardner, Goller and Suthers, PRE 68:041908, 2003).

    ẍ = -ε x + (B - C x²) ẋ - D                         x in cm, t in s

ε is the tension's stiffness, here (2π f0)²; B what pressure gives less friction: below 0 silence, above 0 a limit cycle
of amplitude 2√(B/C); D a force of a muscle, here a kick of half a millisecond that starts a syllable. The sound is s·x.
In samples, with τ the sample period, it lies in the polynomial family exactly:

    ω = 2π f0 τ,   γ = -B τ,   w[2][1] = C τ / s²,   w[0][0] = s τ² D

Published: C = 2e8 cm⁻² s⁻¹, ε = 1.25e8 to 5.7e8 s⁻², B = -2e3 + 5.3e4 P s⁻¹. Pitches and the range of B are our own.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from ._integrator import integrate
from ._motif import Motif, gates, pitch_curve

_C = 2.0e8  # cm⁻² s⁻¹
_B_SILENT, _B_LOUDEST = -2.0e3, 6.0e3  # s⁻¹
_KICK = 2.0e-4  # cm: what D would displace at rest
_KICK_WIDTH, _KICK_LEAD = 0.5e-3, 2.0e-3  # s
_STEPS_A_SECOND = 4 * 44100

Exponents = tuple[tuple[int, int], ...]


def _acceleration(x: jax.Array, v: jax.Array, controls: jax.Array) -> jax.Array:
    stiffness, B, D = controls
    result: jax.Array = -stiffness * x + (B - _C * x * x) * v - D
    return result


def sing_source(motifs: Sequence[Motif], sample_rate: int, peak: float) -> list[dict[str, NDArray[np.float64]]]:
    """The controls of songs, among them the sound without noise, each ``[time]``."""
    songs = []
    for motif in motifs:
        f0 = pitch_curve(motif, sample_rate)
        opened = gates(motif, sample_rate)
        loudness = np.array([[motif.loudness * syllable.loudness] for syllable in motif.syllables])
        B = _B_SILENT + np.max((_B_LOUDEST * loudness**2 - _B_SILENT) * opened, axis=0)
        time = np.arange(f0.size) / sample_rate
        since = (time - motif.edges()[:, :1] + _KICK_LEAD) / _KICK_WIDTH
        D = _KICK * (2 * np.pi * f0) ** 2 * np.sum(np.exp(-0.5 * since**2), axis=0)
        scale = np.full_like(f0, peak / (2 * np.sqrt(_B_LOUDEST / _C)))
        songs.append({"f0": f0, "B": B, "C": np.full_like(f0, _C), "D": D, "scale": scale, "gate": opened.max(axis=0)})
    states = integrate(
        _acceleration,
        [np.stack([(2 * np.pi * song["f0"]) ** 2, song["B"], song["D"]]) for song in songs],
        [0.0] * len(songs),
        sample_rate=sample_rate,
        substeps=-(-_STEPS_A_SECOND // sample_rate),
    )
    for song, (x, _) in zip(songs, states, strict=True):
        song["clean"] = song["scale"] * x
    return songs


def source_coefficients(
    controls: dict[str, NDArray[np.float64]], sample_rate: int, exponents: Exponents
) -> Float[np.ndarray, "1 time terms"]:
    """The coefficients of x^p v^k, for each (p, k) of `exponents`."""
    tau = 1.0 / sample_rate
    scale = controls["scale"]
    terms = {
        (1, 0): -((2 * np.pi * controls["f0"] * tau) ** 2),
        (0, 1): controls["B"] * tau,
        (2, 1): -controls["C"] * tau / scale**2,
        (0, 0): -scale * tau**2 * controls["D"],
    }
    return np.stack([terms.get(exponent, np.zeros_like(scale)) for exponent in exponents], axis=-1)[None]
