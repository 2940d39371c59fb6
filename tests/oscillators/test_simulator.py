"""Simulated birds: the sound is what its equations say, by an integration of the test's own, and always the same."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from hardgrad.core import UsageError
from hardgrad.oscillators import (
    SamplerConfig,
    SimulatedSong,
    cold_start_windows,
    derivatives,
    load_recordings,
    pool_counts,
    simulate_songs,
    true_coefficients,
    write_songs,
)
from hardgrad.oscillators._simulator import _tract
from hardgrad.oscillators._simulator._integrator import LANES

TERMS = ((1, 0), (0, 1), (2, 1), (0, 0))
BIRDS = ("source", "tract")


@pytest.fixture(scope="module", params=BIRDS)
def songs(request: Any) -> list[SimulatedSong]:
    """Three songs of a bird, without noise."""
    return simulate_songs(3, bird=request.param, seed=5, noise=0.0)


@pytest.fixture(scope="module")
def source_song() -> SimulatedSong:
    return simulate_songs(1, noise=0.0)[0]


def runge_kutta(coefficients: np.ndarray, x: float, v: float, *, steps: int, hold: bool) -> np.ndarray:
    """x'' = c0 x + c1 v + c2 x² v + c3 from sample to sample, in plain Python floats."""

    def force(x: float, v: float, c: list[float]) -> float:
        return c[0] * x + c[1] * v + c[2] * x * x * v + c[3]

    h, xs = 1.0 / steps, [x]
    for left, right in itertools.pairwise(coefficients.tolist()):
        for j in range(steps):
            c1, c2, c3 = (
                left if hold else [a + (b - a) * at / steps for a, b in zip(left, right, strict=True)]
                for at in (j, j + 0.5, j + 1)
            )
            a1 = force(x, v, c1)
            v2 = v + h / 2 * a1
            a2 = force(x + h / 2 * v, v2, c2)
            v3 = v + h / 2 * a2
            a3 = force(x + h / 2 * v2, v3, c2)
            v4 = v + h * a3
            a4 = force(x + h * v3, v4, c3)
            x, v = x + h / 6 * (v + 2 * v2 + 2 * v3 + v4), v + h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
        xs.append(x)
    return np.array(xs)


# ---------------------------------------------------------------------------- both birds


def test_a_song_depends_on_its_seed_and_number_only() -> None:
    for bird in BIRDS:
        many = simulate_songs(LANES + 1, bird=bird, seed=2, repertoire="random")  # two groups, of different lengths
        for number in (0, LANES):
            (alone,) = simulate_songs(1, bird=bird, seed=2, repertoire="random", first=number)
            there = many[number]
            assert alone.recording.name == there.recording.name == f"song_{number:04d}"
            assert alone.kinds == there.kinds
            np.testing.assert_array_equal(alone.recording.sound, there.recording.sound)
            np.testing.assert_array_equal(alone.recording.syllables, there.recording.syllables)
            for name, control in alone.controls.items():
                np.testing.assert_array_equal(control, there.controls[name])
        assert not np.array_equal(many[0].clean[:20000], many[1].clean[:20000])


def test_float32_stays_the_default() -> None:
    simulate_songs(1)
    assert jnp.zeros(1).dtype == jnp.float32


def test_a_bird_sings_renditions_of_one_motif() -> None:
    birds = [simulate_songs(12, seed=seed) for seed in (0, 1)]
    for songs in birds:
        assert len({song.kinds for song in songs}) == 1
        assert len(set(songs[0].kinds)) == len(songs[0].kinds)
        durations = np.array([np.diff(song.recording.syllables, axis=1)[:, 0] for song in songs])
        pitches = np.array(
            [[song.controls["f0"][round(on * 44100) + 600] for on in song.recording.syllables[:, 0]] for song in songs]
        )
        loudness = np.array([[np.abs(song.clean).max()] for song in songs])
        for quantity, least, most in ((durations, 0.01, 0.06), (pitches, 0.005, 0.03), (loudness, 0.01, 0.1)):
            deviation = quantity.std(axis=0) / quantity.mean(axis=0)
            assert (least < deviation).all()
            assert (deviation < most).all()
    assert birds[0][0].kinds != birds[1][0].kinds
    assert len({song.kinds for song in simulate_songs(6, repertoire="random")}) > 3


def test_the_parts_of_a_song(songs: list[SimulatedSong]) -> None:
    for song in songs:
        recording, gate = song.recording, song.controls["gate"]
        assert 2 <= len(recording.syllables) == len(song.kinds) <= 4
        assert recording.sound.size == round((recording.syllables[-1, 1] + 0.15) * 44100)
        assert recording.syllables[0, 0] == 0.15
        assert all(control.shape == recording.sound.shape for control in song.controls.values())
        assert all(np.isfinite(control).all() for control in song.controls.values())
        np.testing.assert_array_equal(recording.sound, song.clean)
        assert 0.07 < np.abs(song.clean).max() < 0.11
        voiced = song.clean[gate == 1].std()
        assert (0.025 if song.bird == "tract" else 0.05) < voiced < (0.045 if song.bird == "tract" else 0.08)
        # Silence until 20 ms after an offset is the sound dying away.
        assert np.abs(song.clean[: round(0.14 * 44100)]).max() < 1e-3 * voiced
        assert np.abs(song.clean[-round(0.1 * 44100) :]).max() < 1e-3 * voiced


def test_annotations_say_where_the_sound_is(songs: list[SimulatedSong]) -> None:
    for song in songs:
        envelope = np.sqrt(np.convolve(song.clean**2, np.ones(88) / 88, "same"))
        for on, off in np.round(song.recording.syllables * 44100).astype(int):
            around = envelope[on - 1000 : off + 1000]
            loud = np.flatnonzero(around > 0.1 * around.max()) + on - 1000
            assert abs(loud[0] - on) < 0.008 * 44100
            assert abs(loud[-1] - off) < 0.01 * 44100


def test_sensor_noise() -> None:
    (song,) = simulate_songs(1, noise=1e-3)
    noise = song.recording.sound - song.clean
    assert noise.std() == pytest.approx(1e-3, rel=0.02)
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.02
    quiet = simulate_songs(1, noise=0.0)[0]
    np.testing.assert_array_equal(quiet.clean, song.clean)


@pytest.mark.parametrize("rate", [22050, 48000])
def test_another_sample_rate_is_the_same_song(songs: list[SimulatedSong], rate: int) -> None:
    (other,) = simulate_songs(1, bird=songs[0].bird, seed=5, noise=0.0, sample_rate=rate)
    np.testing.assert_array_equal(other.recording.syllables, songs[0].recording.syllables)
    assert other.recording.sound.size == pytest.approx(songs[0].recording.sound.size * rate / 44100, abs=1)
    np.testing.assert_allclose(np.sort(other.controls["f0"])[[0, -1]], np.sort(songs[0].controls["f0"])[[0, -1]], 1e-3)
    assert other.clean.std() == pytest.approx(songs[0].clean.std(), rel=0.02)


def test_songs_are_written_and_read(tmp_path: Path, songs: list[SimulatedSong]) -> None:
    folder = tmp_path / "bird" / "songs"
    write_songs(folder, songs)
    write_songs(folder, songs)
    recordings = load_recordings(folder)
    assert not recordings.problems
    assert len(list(folder.iterdir())) == 3 * len(songs)
    for read, song in zip(recordings, songs, strict=True):
        assert read.name == song.recording.name
        assert np.abs(read.sound - song.recording.sound).max() <= 0.5 / 32768
        np.testing.assert_allclose(read.syllables, song.recording.syllables, atol=5e-7, rtol=0)
        with np.load(folder / f"{read.name}.npz", allow_pickle=False) as stored:
            assert set(stored) == {*song.controls, "clean"}
            np.testing.assert_array_equal(stored["f0"], song.controls["f0"])
            np.testing.assert_array_equal(stored["clean"], song.clean)
    syllables = sum(len(song.kinds) for song in songs)
    # Every syllable has the published silences around it, and is long enough to begin a window.
    assert list(pool_counts(recordings, SamplerConfig()).values())[:2] == [syllables, syllables]
    assert len(cold_start_windows(recordings)) == syllables
    with pytest.raises(UsageError, match="cannot write"):
        write_songs(Path(__file__), songs)


@pytest.mark.parametrize(
    "wrong",
    [{"count": 0}, {"seed": -1}, {"sample_rate": 8000}, {"peak": 0.0}, {"peak": 1.1}, {"noise": -1.0}, {"first": -1}],
)
def test_settings_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        simulate_songs(**{"count": 1, **wrong})


# ---------------------------------------------------------------------------- the source


def test_the_true_coefficients_sing_the_song(source_song: SimulatedSong) -> None:
    coefficients = true_coefficients(source_song, TERMS)
    assert coefficients.shape == (1, source_song.clean.size, 4)
    sung = runge_kutta(coefficients[0], 0.0, 0.0, steps=4, hold=False)
    assert np.abs(sung - source_song.clean).max() < 1e-9


@pytest.mark.parametrize(("steps", "hold", "error"), [(16, False, 1e-4), (1, False, 0.01), (1, True, 0.07)])
def test_from_recorded_silence_the_error_is_the_integrators(
    source_song: SimulatedSong, steps: int, hold: bool, error: float
) -> None:
    """2000 samples before the first onset to its offset; with drives held, 4 to 7 %."""
    on, off = np.round(source_song.recording.syllables[0] * 44100).astype(int)
    at = slice(on - 2000, off)
    target = source_song.clean[at]
    velocity = derivatives(source_song.clean)[0][at]
    sung = runge_kutta(true_coefficients(source_song, TERMS)[0, at], target[0], velocity[0], steps=steps, hold=hold)
    assert np.linalg.norm(sung - target) < error * np.linalg.norm(target)


def test_the_true_coefficients_are_those_of_the_formulas(source_song: SimulatedSong) -> None:
    controls = source_song.controls
    exponents = tuple(itertools.product(range(3), range(3)))
    coefficients = true_coefficients(source_song, exponents)[0]
    tau, scale = 1 / 44100, controls["scale"]
    wanted = {
        (1, 0): -((2 * np.pi * controls["f0"] * tau) ** 2),
        (0, 1): controls["B"] * tau,
        (2, 1): -2e8 * tau / scale**2,
        (0, 0): -scale * tau**2 * controls["D"],
    }
    for index, exponent in enumerate(exponents):
        np.testing.assert_allclose(coefficients[:, index], wanted.get(exponent, 0.0), rtol=1e-14)
    # The figures that the model is known for: scale and range of the drives.
    omega, gamma = np.sqrt(-coefficients[:, 3]), -coefficients[:, 1]
    assert 0.06 < omega.min() < omega.max() < 0.38
    assert gamma.min() > -6000 * tau
    assert gamma.max() == pytest.approx(2000 * tau)
    assert -coefficients[0, 7] == pytest.approx(54.4, abs=0.1)
    assert 1e-6 < -coefficients[:, 0].min() < 2.5e-4


def test_fields_that_cannot_sing_it(source_song: SimulatedSong) -> None:
    with pytest.raises(UsageError, match=r"lacks the terms \[\(0, 0\)\].*keep_const=True"):
        true_coefficients(source_song, TERMS[:3])
    with pytest.raises(UsageError, match="bird 'tract' has no true coefficients"):
        true_coefficients(simulate_songs(1, bird="tract")[0], TERMS)


# ---------------------------------------------------------------------------- the tract


def test_tension_sets_the_pitch() -> None:
    tensions = [-0.0023, -0.0061, -0.0128, -0.0245, -0.0607, -0.145, -0.257, -0.601, -1.0]
    measured = [425, 571, 763, 1012, 1498, 2115, 2601, 3513, 4250]
    np.testing.assert_allclose(_tract.pitch_of(tensions), measured, rtol=0.005)
    pitches = np.geomspace(450, 4000, 30)
    np.testing.assert_allclose(_tract.pitch_of(_tract.tension(pitches).tolist()), pitches, rtol=1e-4)


def test_the_saddle_node() -> None:
    critical = _tract.snilc_tension(-0.15)
    assert critical == pytest.approx(0.0028, abs=5e-5)
    # There two equilibria meet, and beyond it nothing moves.
    roots = np.roots([-1.0, 1.0, critical, -0.15])
    assert min(abs(a - b) for a, b in itertools.combinations(roots, 2)) < 1e-6
    assert _tract.pitch_of([critical + 1e-3])[0] == 0.0
    assert 0 < _tract.pitch_of([critical - 1e-3])[0] < 425


def test_the_labia_follow_the_pitch_curve() -> None:
    for song in simulate_songs(3, bird="tract", repertoire="random"):
        for on, off in np.round(song.recording.syllables * 44100).astype(int):
            x = song.controls["x"][on + 400 : off - 600]
            crossings = np.flatnonzero((x[:-1] < 0.33) & (x[1:] >= 0.33))
            cycles = song.controls["f0"][on + 400 + crossings[0] : on + 400 + crossings[-1]].sum() / 44100
            assert crossings.size - 1 == pytest.approx(cycles, abs=0.25)


def circuit() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The throat as a system of first order: its matrix, and its inputs V and V'."""
    c, b, g, rb, rh = 4.5e10, 1e-4, 1 / 82.0, 5e6, 6e5
    system = [[0, 1, 0], [-g * c, -rh * (b + g), g * c - rb * rh * b * g], [0, -b / g, -rb * b]]
    return np.array(system), np.array([0, rh * g * b, b]), np.array([0, g, 0])


def test_the_throat_is_its_circuit() -> None:
    system, by_pressure, by_change = circuit()
    frequency = np.linspace(0, 20000, 41)
    wanted = [
        5e6 * np.linalg.solve(s * np.eye(3) - system, by_pressure + s * by_change)[2] for s in 2j * np.pi * frequency
    ]
    np.testing.assert_allclose(_tract.throat(frequency), wanted, rtol=1e-8)
    near = np.linspace(2500, 5000, 2501)
    assert near[np.argmax(np.abs(_tract.throat(near)))] == pytest.approx(3700, abs=200)
    assert np.sqrt(4.5e10 / 82) / (2 * np.pi) == pytest.approx(3728, abs=1)


def test_the_tract_in_time_is_the_tract_in_frequency() -> None:
    """A pulse through delay line, circuit and filter, step by step, sixteen times as fine."""
    rate, fine = 44100, 16 * 44100
    time = np.arange(round(0.03 * fine)) / fine
    pulse = np.exp(-0.5 * ((time - 0.006) / 0.0002) ** 2) * np.sin(2 * np.pi * 2000 * time)
    once = round(4.0 / 35000.0 * fine)
    loop = np.zeros(2 * once + 1)
    loop[[0, -1]] = 1.0, 0.1
    trachea = 0.9 * np.concatenate([np.zeros(once), signal.lfilter([0.5], loop, pulse)[:-once]])
    system, by_pressure, by_change = circuit()
    inputs = np.stack([trachea, np.gradient(trachea, 1 / fine)], axis=1)
    throat = signal.lsim((system, np.stack([by_pressure, by_change], 1), [[0, 0, 5e6]], [[0, 0]]), inputs, time)[1]
    microphone = signal.butter(4, 2 * np.pi * 250.0, "highpass", analog=True)
    heard = signal.lsim(microphone, throat, time)[1]
    found = _tract.vocal_tract(pulse[::16], rate)
    assert np.linalg.norm(found - heard[::16]) < 0.02 * np.linalg.norm(heard[::16])


def test_the_timbre_is_a_birds() -> None:
    for song in simulate_songs(4, bird="tract", repertoire="random"):
        power = np.abs(np.fft.rfft(song.recording.sound)) ** 2
        frequency = np.fft.rfftfreq(song.recording.sound.size, 1 / 44100)
        assert 2000 < np.sum(power * frequency) / np.sum(power) < 2500
        silence = song.recording.sound[: round(0.14 * 44100)]
        assert silence.std() == pytest.approx(2e-4, rel=0.05)
