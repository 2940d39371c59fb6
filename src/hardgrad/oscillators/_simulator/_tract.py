"""The second physical model: labia, trachea and throat.

The labia follow the normal form of Sitt et al. (PRE 81:031927, 2010), Sanz Perl et al. (PRE 84:051909, 2011) and
Arneodo et al. (Curr. Biol. 2021),

    ẍ = g² (α + β x + x² - x³) - g (x + x²) ẋ

with pressure α and tension β. It oscillates for β below the saddle-node on the invariant cycle, the slower the nearer
to it; the pitch of each β is measured once by integration. The pressure of the sound √gate·ẋ goes through

    the trachea    y = in · u - r · y(t - 2T),   out (1 - r) · y(t - T),       T = length / speed of sound
    the throat     i1' = i2
                   i2' = -i1/(Lg Ch) - Rh (1/Lb + 1/Lg) i2 + (1/(Lg Ch) - Rb Rh/(Lb Lg)) i3 + V'/Lg + Rh V/(Lg Lb)
                   i3' = -(Lg/Lb) i2 - (Rb/Lb) i3 + V/Lb,      out Rb i3

(V is the pressure that leaves the trachea; the papers differ in what drives the circuit, both inputs with V is our
choice) and a microphone that does not hear below 250 Hz. All three are linear and applied as transfer functions, exact
at any sample rate. The result is in no polynomial family: the honest test.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import numpy as np
from numpy.typing import NDArray
from scipy import fft, interpolate, ndimage, signal  # type: ignore[import-untyped]

from ._integrator import LANES, PIECE, integrate
from ._motif import Motif, gates, pitch_curve

_G = 24000.0  # s⁻¹
_VOICED, _SILENT = -0.15, 0.15  # α
_TREMOR, _TREMOR_WIDTH = 0.005, 0.0013  # of β: relative, and seconds
_STEPS_A_SECOND = 6 * 44100
_TABLE_RATE = 44100

_SPEED, _LENGTH, _INPUT, _REFLECTION = 35000.0, 4.0, 0.5, 0.1  # cm/s, cm
_CH_INV, _LB_INV, _LG_INV, _RB, _RH = 4.5e10, 1e-4, 1 / 82.0, 5e6, 6e5  # cgs
_MICROPHONE = 250.0  # Hz
_RINGING = 0.1  # s, by which everything has died away


def _acceleration(x: jax.Array, v: jax.Array, controls: jax.Array) -> jax.Array:
    alpha, beta = controls
    result: jax.Array = _G * (_G * (alpha + x * (beta + x * (1.0 - x))) - x * (1.0 + x) * v)
    return result


def sing_tract(
    motifs: Sequence[Motif], generators: Sequence[np.random.Generator], sample_rate: int, peak: float
) -> list[dict[str, NDArray[np.float64]]]:
    """The controls of songs, among them the sound without noise, each ``[time]``."""
    songs = []
    for motif, generator in zip(motifs, generators, strict=True):
        f0 = pitch_curve(motif, sample_rate)
        gate = gates(motif, sample_rate).max(axis=0)
        tremor = ndimage.gaussian_filter1d(generator.standard_normal(f0.size), _TREMOR_WIDTH * sample_rate)
        beta = tension(f0) * (1.0 + _TREMOR * tremor / tremor.std())
        alpha = _SILENT + (_VOICED - _SILENT) * gate
        songs.append({"f0": f0, "alpha": alpha, "beta": beta, "g": np.full_like(f0, _G), "gate": gate})
    states = integrate(
        _acceleration,
        [np.stack([song["alpha"], song["beta"]]) for song in songs],
        [_rest(float(song["beta"][0])) for song in songs],
        sample_rate=sample_rate,
        substeps=-(-_STEPS_A_SECOND // sample_rate),
    )
    for motif, song, (x, v) in zip(motifs, songs, states, strict=True):
        loudness = np.array([[syllable.loudness] for syllable in motif.syllables])
        heard = vocal_tract(np.max(loudness * np.sqrt(gates(motif, sample_rate)), axis=0) * v, sample_rate)
        song["x"] = x
        song["clean"] = peak * motif.loudness * heard / np.max(np.abs(heard))
    return songs


def vocal_tract(velocity: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """What is heard of the labia's velocity ``[time]``, which begins in silence."""
    time = velocity.size
    padded = fft.next_fast_len(time + round(_RINGING * sample_rate), real=True)
    spectrum = fft.rfft(velocity, padded) * transfer(fft.rfftfreq(padded, 1.0 / sample_rate))
    heard: NDArray[np.float64] = fft.irfft(spectrum, padded)[:time]
    return heard


def transfer(frequency: NDArray[np.float64]) -> NDArray[np.complex128]:
    """The transfer function of trachea, throat and microphone at frequencies in Hz ``[n]``."""
    s = 2j * np.pi * frequency
    delay = np.exp(-s * _LENGTH / _SPEED)
    trachea = (1 - _REFLECTION) * _INPUT * delay / (1 + _REFLECTION * delay**2)
    zeros, poles, gain = signal.butter(4, 2 * np.pi * _MICROPHONE, "highpass", analog=True, output="zpk")
    microphone = signal.freqs_zpk(zeros, poles, gain, 2 * np.pi * frequency)[1]
    return np.asarray(trachea * throat(frequency) * microphone, np.complex128)


def throat(frequency: NDArray[np.float64]) -> NDArray[np.complex128]:
    """The transfer function of the throat alone, Rb i3 over V."""
    s = 2j * np.pi * frequency
    # i3 = i3_of_V - i3_of_i2 · i2 by the third equation; i2 follows from the second, times s.
    i3_of_V = _LB_INV / (s + _RB * _LB_INV)
    i3_of_i2 = i3_of_V / _LG_INV
    i2_of_i3 = _LG_INV * _CH_INV - _RB * _RH * _LB_INV * _LG_INV
    own = s**2 + _LG_INV * _CH_INV + s * (_RH * (_LB_INV + _LG_INV) + i2_of_i3 * i3_of_i2)
    i2 = s * (i2_of_i3 * i3_of_V + s * _LG_INV + _RH * _LG_INV * _LB_INV) / own
    return np.asarray(_RB * (i3_of_V - i3_of_i2 * i2), np.complex128)


def snilc_tension(alpha: float) -> float:
    """The β of the saddle-node on the invariant cycle: below it there is oscillation. For α < -1/27.

    There the equilibrium α + β x + x² - x³ = 0 is double: 2x³ - x² + α = 0 at its largest real root, which gives β.
    """
    x = _largest_real_root([2.0, -1.0, 0.0, alpha])
    return (-alpha - x * x + x**3) / x


def _largest_real_root(polynomial: list[float]) -> float:
    roots = np.roots(polynomial)
    return float(roots[np.abs(roots.imag) < 1e-9].real.max())


def _rest(beta: float) -> float:
    """Where the silent labia stand."""
    return _largest_real_root([-1.0, 1.0, beta, _SILENT])


def pitch_of(tensions: Sequence[float]) -> NDArray[np.float64]:
    """f0 in Hz of the voiced labia at each β, measured over some fifty milliseconds; 0 where they stand still."""
    controls = [np.broadcast_to([[_VOICED], [beta]], (2, PIECE)) for beta in tensions]
    substeps = -(-_STEPS_A_SECOND // _TABLE_RATE)
    states = integrate(_acceleration, controls, [1e-3] * len(controls), sample_rate=_TABLE_RATE, substeps=substeps)
    pitches = np.zeros(len(states))
    for index, (x, _) in enumerate(states):
        late = x[PIECE // 3 :] - np.mean(x[PIECE // 3 :])
        up = np.flatnonzero((late[:-1] < 0) & (late[1:] >= 0))
        if np.ptp(late) > 1e-3 and up.size > 2:
            crossings = up + late[up] / (late[up] - late[up + 1])
            pitches[index] = _TABLE_RATE * (up.size - 1) / (crossings[-1] - crossings[0])
    return pitches


@functools.cache
def _tensions() -> interpolate.PchipInterpolator:
    """The logarithm of how far β is below the saddle-node, over the logarithm of f0."""
    below = np.geomspace(2e-3, 1.5, LANES)
    pitches = pitch_of((snilc_tension(_VOICED) - below).tolist())
    return interpolate.PchipInterpolator(np.log(pitches), np.log(below))


def tension(f0: NDArray[np.float64]) -> NDArray[np.float64]:
    """The β that sings f0, in Hz, when voiced."""
    beta: NDArray[np.float64] = snilc_tension(_VOICED) - np.exp(_tensions()(np.log(f0)))
    return beta
