"""The onset, generation to WAV, and the one-step R²."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hardgrad.core import UsageError
from hardgrad.oscillators import (
    deployed,
    one_step_r2,
    onset_quality,
    peak_normalise,
    read_wav,
    write_generated,
)

RATE = 44_100
ONSET = 2000
TIME = (np.arange(6400) - ONSET) / RATE


def song(late=0.0, *, attack=0.006, frequency=650.0, noise=2e-4):
    inside = np.clip(TIME - late, 0.0, None)
    tone = 0.1 * np.clip(inside / attack, 0.0, 1.0) * np.sin(2 * np.pi * frequency * inside)
    return tone + noise * np.random.default_rng(0).standard_normal(len(TIME))


# ------------------------------------------------------------------------------------------ onset


def test_a_clean_onset_does_not_click():
    for rollout in (song(), song(noise=0.0), 3.0 * song(noise=0.0), song(0.01, noise=0.0)):
        quality = onset_quality(song(), rollout, ONSET, RATE)
        assert quality.click_ratio < 1.1
        assert quality.ignited
        assert quality.lead_in < 0.02


@pytest.mark.parametrize("place", [ONSET - 150, ONSET, ONSET + 150])
def test_a_click_at_the_onset_is_seen(place):
    clicking = song(noise=0.0)
    clicking[place:] += 0.03 * np.exp(-np.arange(len(TIME) - place) / 100.0)
    assert onset_quality(song(), clicking, ONSET, RATE).click_ratio > 3.0


def test_a_hard_start_is_a_click_wherever_the_rollout_starts():
    for late in (0.0, 0.02):
        hard = np.where(late <= TIME, 0.1 * np.cos(2 * np.pi * 650 * TIME), 0.0)
        assert onset_quality(song(), hard, ONSET, RATE).click_ratio > 5.0


def test_the_click_ratio_is_its_definition():
    """Far from every end the high-pass leaves white noise alone but for a narrow band: compare with the raw figure."""
    random = np.random.default_rng(3)
    target, rollout = random.standard_normal((2, len(TIME)))
    near = 220
    edge = [np.abs(x[2:] - 2 * x[1:-1] + x[:-2]) / np.std(x[ONSET - near :]) for x in (target, rollout)]
    own = [slice(ONSET - near, ONSET + near)]  # noise is at half its plateau from the first samples on
    wanted = max(edge[1][s].max() for s in [*own, slice(0, near)]) / edge[0][ONSET - near :].max()
    assert onset_quality(target, rollout, ONSET, RATE).click_ratio == pytest.approx(wanted, rel=0.03)


@pytest.mark.parametrize("late", [-0.01, 0.0, 0.003, 0.025])
def test_latency_is_the_shift_and_knows_no_loudness(late):
    assert onset_quality(song(), 0.3 * song(late, noise=0.0), ONSET, RATE).latency == pytest.approx(late, abs=1e-4)


def test_rollouts_that_never_start_or_never_stop():
    silent = onset_quality(song(), 0.0 * song(), ONSET, RATE)
    assert (silent.click_ratio, silent.latency, silent.ignited) == (0.0, math.inf, False)
    assert math.isnan(silent.lead_in)
    assert not onset_quality(song(), 0.05 * song(), ONSET, RATE).ignited
    throughout = onset_quality(song(), 0.1 * np.sin(2 * np.pi * 650 * TIME), ONSET, RATE)
    assert throughout.lead_in == pytest.approx(1.0, abs=0.02)
    assert throughout.latency < -0.04
    broken = onset_quality(song(), np.full(len(TIME), np.nan), ONSET, RATE)
    assert (broken.click_ratio, broken.latency, broken.ignited) == (math.inf, math.inf, False)


def test_a_window_without_lead_in_has_none():
    target = song()[ONSET:]
    quality = onset_quality(target, target, 0, RATE)
    assert (quality.click_ratio <= 1.0, quality.latency) == (True, 0.0)
    assert math.isnan(quality.lead_in)


def test_wrong_onsets_are_refused():
    with pytest.raises(UsageError, match="onset must be a whole number, from 0 to 6399; got 6400"):
        onset_quality(song(), song(), 6400, RATE)
    with pytest.raises(UsageError, match="target is silent"):
        onset_quality(0.0 * song(), song(), ONSET, RATE)


# -------------------------------------------------------------------------------------- synthesis


def test_a_deployed_rollout_has_the_loudness_of_its_reference():
    rollout = song() + 0.01
    loud = deployed(rollout, 0.2)
    assert np.std(loud) == pytest.approx(0.2)
    np.testing.assert_allclose(loud, rollout * (0.2 / np.std(rollout)))
    for divergent in (np.array([1.0, np.nan]), np.array([np.inf, 1.0]), np.full(5, 0.3)):
        np.testing.assert_array_equal(deployed(divergent, 0.2), divergent)
    for reference in (0.0, -1.0, math.nan):
        with pytest.raises(UsageError, match="reference_rms must be a finite number above 0"):
            deployed(rollout, reference)


@pytest.mark.parametrize("scale", [1e-320, 1e-9, 1.0, 1e300])
def test_a_normalised_peak_is_the_peak(scale):
    sound = np.array([0.25, -1.0, 0.5]) * scale
    np.testing.assert_allclose(peak_normalise(sound), [0.95 / 4, -0.95, 0.475], rtol=1e-3)


def test_nothing_is_written_of_what_is_no_sound(tmp_path):
    for sound, message in ((np.zeros(5), "silent throughout"), (np.array([0.0, np.inf]), "sample 1 of the sound")):
        with pytest.raises(UsageError, match=message):
            write_generated(tmp_path / "song.wav", sound, RATE)
    with pytest.raises(UsageError, match="peak must be a finite number above 0"):
        write_generated(tmp_path / "song.wav", song(), RATE, peak=0.0)
    with pytest.raises(UsageError, match="16 bits hold"):
        write_generated(tmp_path / "song.wav", song(), RATE, peak=1.5)
    assert not list(tmp_path.iterdir())


def test_a_written_song_is_read_again(tmp_path):
    write_generated(tmp_path / "song.wav", 1e-3 * song(), RATE)
    sound, rate = read_wav(tmp_path / "song.wav")
    assert rate == RATE
    np.testing.assert_allclose(sound, peak_normalise(song()), atol=0.51 / 32768)


# ------------------------------------------------------------------------------------- one-step R²


def test_r2_is_its_formula_for_each_segment():
    random = np.random.default_rng(0)
    true = random.standard_normal((3, 40)) + 5.0
    model = true + 0.3 * random.standard_normal((3, 40))
    each = []
    for x, m in zip(true, model, strict=True):
        mean = sum(x) / 40
        each.append(1 - sum((a - b) ** 2 for a, b in zip(x, m, strict=True)) / sum((a - mean) ** 2 for a in x))
    result = one_step_r2(true, model)
    np.testing.assert_allclose(result.segments, each)
    assert result.mean == pytest.approx(np.mean(each))
    assert result.std == pytest.approx(np.std(each))
    assert one_step_r2(true, true).mean == 1.0


def test_silent_segments_do_not_count_and_broken_models_do():
    true = np.array([[0.0, 1.0], [2.0, 2.0], [0.0, 1.0]])
    result = one_step_r2(true, np.array([[0.0, 1.0], [0.0, 0.0], [np.nan, 1.0]]))
    assert (result.mean, result.segments[0], result.segments[2]) == (-math.inf, 1.0, -math.inf)
    assert math.isnan(result.segments[1])
    assert math.isnan(result.std)
    with pytest.raises(UsageError, match="no segment's acceleration varies"):
        one_step_r2(true[1:2], true[1:2])
    with pytest.raises(UsageError, match=r"one shape \[segments, time\], got \(3, 2\), \(2, 2\)"):
        one_step_r2(true, true[:2])
    with pytest.raises(UsageError, match="must be finite"):
        one_step_r2(true + np.nan, true)
