"""Autonomy scores: the published one against its formulas, the stricter one against what an ear would say."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from hardgrad.core import UsageError
from hardgrad.oscillators import autonomy, autonomy_report, detrend, strict_autonomy, strict_autonomy_report
from hardgrad.oscillators._score._sound import high_pass, mel_spectrogram, pitch

RATE = 44_100
LEAD = 2000


def song(
    start=600.0,
    end=900.0,
    *,
    seconds=0.1,
    late=0.0,
    harmonics=(1.0, 0.3, 0.1),
    factor=1.0,
    noise=2e-4,
    seed=0,
    lead=LEAD,
):
    """Silence, then a sweep with harmonics, in sensor noise."""
    time = (np.arange(lead + round(seconds * RATE)) - lead) / RATE - late
    inside = np.clip(time, 0.0, None)
    phase = 2.0 * np.pi * factor * (start * inside + 0.5 * (end - start) / seconds * inside**2)
    gate = np.clip(inside / 0.006, 0.0, 1.0) * np.clip((seconds - inside) / 0.010, 0.0, 1.0)
    tone = sum(size * np.sin((i + 1) * phase) for i, size in enumerate(harmonics))
    return 0.1 * gate * tone + noise * np.random.default_rng(seed).standard_normal(len(time))


# --------------------------------------------------------------------------------- as published


def biquads(sections, sound):
    """Second-order sections, sample by sample, from the state a constant input of sound[0] would have left."""
    for b0, b1, b2, _, a1, a2 in sections:
        gain = (b0 + b1 + b2) / (1.0 + a1 + a2)
        # Transposed direct form II with a constant input: y = gain·x, the states follow.
        s2 = b2 * sound[0] - a2 * gain * sound[0]
        s1 = b1 * sound[0] - a1 * gain * sound[0] + s2
        out = np.empty_like(sound)
        for i, x in enumerate(sound):
            y = b0 * x + s1
            s1 = b1 * x - a1 * y + s2
            s2 = b2 * x - a2 * y
            out[i] = y
        sound = out
    return sound


def reference_detrend(sound):
    sections = scipy.signal.butter(5, 100 / (0.5 * len(sound)), output="sos")
    pad = 3 * (2 * len(sections) + 1 - 1)  # SciPy's default, for a filter of odd order with one real zero and pole
    around = np.concatenate([2 * sound[0] - sound[pad:0:-1], sound, 2 * sound[-1] - sound[-2 : -pad - 2 : -1]])
    smooth = biquads(sections, biquads(sections, around)[::-1])[::-1]
    return sound - smooth[pad:-pad]


def reference_welch(sound):
    size = min(1024, len(sound))
    window = np.array([np.sin(np.pi * n / size) ** 2 for n in range(size)])
    periodograms = []
    for start in range(0, len(sound) - size + 1, size - size // 2):
        part = sound[start : start + size]
        power = np.abs(np.fft.rfft(window * (part - part.mean()))) ** 2 / (RATE * np.sum(window**2))
        power[1 : -1 if size % 2 == 0 else None] *= 2.0
        periodograms.append(power)
    return np.arange(size // 2 + 1) * RATE / size, np.mean(periodograms, axis=0)


def reference_autonomy(target, generated, rescale):
    x, a = reference_detrend(target), reference_detrend(generated)
    signed = np.log((a.std() + 1e-12) / (x.std() + 1e-12))
    if rescale:
        a = a * x.std() / a.std()
    frequency, p_x = reference_welch(x)
    _, p_a = reference_welch(a)
    low = frequency <= 8000.0
    correlation = np.corrcoef(np.log(p_x[low] + 1e-20), np.log(p_a[low] + 1e-20))[0, 1]
    amplitude = abs(np.log((a.std() + 1e-12) / (x.std() + 1e-12)))
    p_x[0] = p_a[0] = 0.0
    detune = abs(np.log((frequency[p_a.argmax()] + 1e-9) / (frequency[p_x.argmax()] + 1e-9)))
    return correlation - amplitude - detune, correlation, amplitude, detune, signed


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("samples", [700, 3000])
def test_the_published_score_is_its_formula(samples, rescale):
    target, generated = song()[-samples:], 1.7 * song(2700, 3100, seed=1)[-samples:]
    ours = autonomy(target, generated, RATE, rescale=rescale)
    wanted = reference_autonomy(target, generated, rescale)
    found = (ours.score, ours.spec_corr, ours.amp_pen, ours.pitch_pen, ours.signed_amp)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert ours.bounded
    assert (ours.amp_pen < 1e-9) == rescale


def test_the_published_detrending_is_a_filter_without_phase():
    sound = song()[-900:]
    np.testing.assert_allclose(detrend(sound), reference_detrend(sound), rtol=0, atol=1e-12)
    with pytest.raises(UsageError, match="over 200 samples, got 200"):
        detrend(sound[:200])
    assert np.isfinite(detrend(sound[:201])).all()


def test_the_published_score_of_itself_is_1_and_backwards_too():
    target = song()
    assert autonomy(target, target, RATE).score == pytest.approx(1.0, abs=1e-12)
    assert autonomy(target, target[::-1], RATE).spec_corr > 0.99  # its known deafness to time
    assert autonomy(target, np.append(target, 0.3), RATE) == autonomy(target, target, RATE)  # cut to one length


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 0.1, 1e-12, 1e200])
def test_a_divergent_rollout_has_the_sentinel_and_no_penalties(value):
    target = song()
    generated = np.full_like(target, value)
    if value == 1e200:
        generated *= np.random.default_rng(0).standard_normal(len(target))  # finite, its square is not
    score = autonomy(target, generated, RATE)
    assert score.score == -5.0
    assert not score.bounded
    assert all(math.isnan(x) for x in (score.spec_corr, score.amp_pen, score.pitch_pen, score.signed_amp))


def test_the_published_report_averages_scores_over_all_and_terms_over_bounded_windows():
    target = song()
    rollouts = [2.0 * target, np.full_like(target, np.nan), 0.25 * target]
    report = autonomy_report([(target, a) for a in rollouts], RATE, cold_start=True)
    assert report.score == pytest.approx((1 - np.log(2) - 5 + 1 - np.log(4)) / 3)
    breakdown = report.breakdown()
    assert breakdown["spec_corr"] == pytest.approx(1.0)
    assert breakdown["amp_pen"] == pytest.approx((np.log(2) + np.log(4)) / 2)
    assert breakdown["pitch_pen"] == 0.0
    assert breakdown["bounded_frac"] == pytest.approx(2 / 3)
    assert (breakdown["cold_start"], breakdown["rescale"]) == (True, False)
    assert breakdown["signed_amp_mean"] == pytest.approx((np.log(2) - np.log(4)) / 2)
    np.testing.assert_allclose(breakdown["signed_amp_per_voc"], [np.log(2), np.nan, -np.log(4)])
    rescaled = autonomy_report([(target, a) for a in rollouts], RATE, rescale=True)
    assert rescaled.amp_pen == pytest.approx(0.0, abs=1e-9)
    assert rescaled.signed_amp == report.signed_amp  # as it came


@pytest.mark.parametrize("report_of", [autonomy_report, strict_autonomy_report])
def test_a_report_without_a_bounded_window_has_no_means(report_of):
    target = song()
    report = report_of([(target, 0.0 * target)] * 2, RATE)
    assert (report.score, report.bounded_fraction) == (-5.0, 0.0)
    assert math.isnan(report.spec_corr)
    assert math.isnan(report.amp_pen)


@pytest.mark.parametrize("report_of", [autonomy_report, strict_autonomy_report])
def test_what_cannot_be_scored_is_refused_and_named(report_of):
    target = song()
    broken = target.copy()
    broken[7] = np.nan
    with pytest.raises(UsageError, match="at least one window"):
        report_of([], RATE)
    for bad, message in ((target[:100], "too short|over 200"), (0 * target, "target is silent"), (broken, "sample 7")):
        with pytest.raises(UsageError, match=rf"window 1: .*({message})"):
            report_of([(target, target), (bad, target)], RATE)
    with pytest.raises(UsageError, match=r"generated must be one sound \[time\], got the shape \(0,\)"):
        report_of([(target, target[:0])], RATE)


# ------------------------------------------------------------------------------------- stricter

TARGETS = {
    "sweep": song(),
    "stack": song(620, 620),
    "high": song(2600, 1800, harmonics=(1.0, 0.05)),
    "fast": song(500, 1100, seconds=0.045),
    "strong second harmonic": song(430, 430, harmonics=(0.5, 1.0, 0.3)),
}
KINDS = {
    "sweep": {},
    "stack": {"start": 620, "end": 620},
    "high": {"start": 2600, "end": 1800, "harmonics": (1.0, 0.05)},
    "fast": {"start": 500, "end": 1100, "seconds": 0.045},
    "strong second harmonic": {"start": 430, "end": 430, "harmonics": (0.5, 1.0, 0.3)},
}


def rms_noise(target, seed=5):
    noise = np.random.default_rng(seed).standard_normal(len(target))
    return noise * target.std() / noise.std()


@pytest.mark.parametrize("kind", TARGETS)
def test_the_strict_score_of_itself_is_1_whatever_the_noise(kind):
    target = TARGETS[kind]
    score = strict_autonomy(target, target, RATE)
    assert score.score == pytest.approx(1.0, abs=1e-12)
    assert (score.amp_pen, score.envelope_pen, score.pitch_pen, score.voiced) == (0.0, 0.0, 0.0, 1.0)
    assert strict_autonomy(target, song(**KINDS[kind], noise=0.0), RATE).score > 0.99
    assert strict_autonomy(target, song(**KINDS[kind], seed=9), RATE).score > 0.99


@pytest.mark.parametrize("kind", TARGETS)
def test_worse_rollouts_score_less(kind):
    """Groups from the best to the worst; not all neighbours have an order that any ear would agree on."""
    target = TARGETS[kind]
    half = len(target) - round(0.5 * KINDS[kind].get("seconds", 0.1) * RATE)
    silent_half = target * (np.arange(len(target)) < half)
    clicks = np.zeros(len(target))
    clicks[::400] = 0.1
    gated = rms_noise(target) * (np.arange(len(target)) > LEAD)
    groups = [
        {"itself": target},
        {"1 ms late": song(**KINDS[kind], late=0.001), "10 % louder": 1.1 * target},
        {"twice as loud": 2.0 * target, "half as loud": 0.5 * target},
        {
            "a fifth high": song(**KINDS[kind], factor=1.5),
            "dies half way": silent_half,
            "an octave high": song(**KINDS[kind], factor=2.0),
        },
        {"noise in its envelope": gated * target.std() / gated.std(), "nine times as loud": 9.0 * target},
        {"noise": rms_noise(target)},
        {"clicks": clicks, "too quiet to hear": 1e-4 * target},
        {"silence": 0.0 * target, "a constant": 0.0 * target + 0.1, "run away": 20.0 * target},
    ]
    scores = [{name: strict_autonomy(target, a, RATE).score for name, a in group.items()} for group in groups]
    for better, worse in [(0, 1), (1, 2), (2, 3), (2, 4), (3, 5), (5, 6), (4, 6), (6, 7)]:
        assert min(scores[better].values()) > max(scores[worse].values()) + 0.01, (scores[better], scores[worse])
    assert set(scores[7].values()) == {-5.0}
    assert max(scores[3].values()) < 0.35
    assert max(scores[5].values()) < -1.0


@pytest.mark.parametrize("kind", TARGETS)
def test_time_is_heard(kind):
    target = TARGETS[kind]
    shifted = [strict_autonomy(target, song(**KINDS[kind], late=late), RATE).score for late in (0, 1e-3, 5e-3, 2e-2)]
    assert shifted == sorted(shifted, reverse=True)
    assert shifted[1] > 0.93
    assert shifted[3] < 0.7
    backwards = strict_autonomy(target, target[::-1], RATE)
    assert backwards.score < 0.0 < 0.9 < autonomy(target, target[::-1], RATE).spec_corr
    assert backwards.envelope_pen > 0.4


def test_loudness_is_a_logarithm_and_is_not_counted_twice():
    target = TARGETS["sweep"]
    for factor in (0.2, 0.5, 2.0, 8.0):
        score = strict_autonomy(target, factor * target, RATE)
        assert score.signed_amp == pytest.approx(np.log(factor))
        assert score.amp_pen == pytest.approx(abs(np.log(factor)))
        assert score.envelope_pen < 1e-12
        assert score.pitch_pen < 1e-12
        assert strict_autonomy(target, factor * target, RATE, rescale=True).score == pytest.approx(1.0)
        # The unit of both sounds does not matter.
        assert strict_autonomy(3.0 * target, factor * 3.0 * target, RATE).score == pytest.approx(score.score)


def test_a_wrong_pitch_costs_its_logarithm():
    for kind, target in TARGETS.items():
        for factor in (1.02, 1.5, 2.0):
            score = strict_autonomy(target, song(**KINDS[kind], factor=factor), RATE)
            assert score.pitch_pen == pytest.approx(np.log(factor), abs=0.005)
    noise = strict_autonomy(target, rms_noise(target), RATE)
    assert noise.pitch_pen == pytest.approx(np.log(4.0))
    assert noise.voiced < 0.05


def test_a_target_without_pitch_asks_for_none():
    target = rms_noise(TARGETS["sweep"])
    score = strict_autonomy(target, rms_noise(target, seed=6), RATE)
    assert score.pitch_pen == 0.0
    assert math.isnan(score.voiced)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda x: np.where(np.arange(len(x)) == 5000, np.nan, x), "not finite"),
        (lambda x: np.where(np.arange(len(x)) == 5000, -np.inf, x), "not finite"),
        (lambda x: np.full_like(x, 0.3), "silent"),
        (lambda x: np.zeros_like(x), "silent"),
        (lambda x: np.where(np.arange(len(x)) == 5000, 10.0 * np.abs(x).max(), x), "too large"),
        (lambda x: np.clip(20.0 * x, -0.5, 0.5), "at the bound"),
    ],
)
def test_the_bounded_test_can_fail(change, reason):
    target = TARGETS["sweep"]
    score = strict_autonomy(target, change(target), RATE, bound=0.5)
    assert (score.score, score.bounded, score.reason) == (-5.0, False, reason)
    assert math.isnan(score.spec_corr)


def test_a_touch_of_the_bound_is_no_harm():
    target = TARGETS["sweep"]
    assert strict_autonomy(target, target, RATE, bound=np.abs(target).max() * 1.2).bounded
    pinned = np.clip(20.0 * target, -0.5, 0.5)
    assert strict_autonomy(target, pinned, RATE).bounded  # without a bound nobody can tell
    with pytest.raises(UsageError, match="bound must be a finite number above 0"):
        strict_autonomy(target, target, RATE, bound=0.0)


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.floats(-9.0, 6.0), st.floats(-3.0, 3.0))
def test_what_is_bounded_scores_above_what_is_not(seed, exponent, slope):
    """For any finite sound; and the floor has no ties: a penalty more is a score less."""
    target = song(seconds=0.03, lead=600)
    random = np.random.default_rng(seed)
    spectrum = np.fft.rfft(random.standard_normal(len(target)))
    spectrum[1:] *= np.arange(1, len(spectrum)) ** slope
    generated = np.fft.irfft(spectrum, len(target))
    generated *= 10.0**exponent / np.abs(generated).max()
    score = strict_autonomy(target, generated, RATE)
    if score.bounded:
        assert -5.0 < score.score <= 1.0
        total = score.amp_pen + score.envelope_pen + score.pitch_pen
        if total <= 3.0:
            assert score.score == pytest.approx(score.spec_corr - total)
    else:
        assert score.score == -5.0
        assert score.reason in ("too large", "silent")
    rescaled = strict_autonomy(target, generated, RATE, rescale=True)
    assert rescaled.amp_pen == 0.0 or not rescaled.bounded


def test_quieter_and_quieter_is_worse_and_worse():
    target = TARGETS["sweep"]
    scores = [strict_autonomy(target, 10.0**-e * target, RATE).score for e in (0, 1, 2, 3, 4, 5, 6)]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)
    assert scores[-1] > -5.0


@pytest.mark.parametrize("rate", [16_000, 22_050, 44_100, 96_000])
def test_short_windows_at_any_rate(rate):
    time = np.arange(round(0.020 * rate)) / rate
    target = 0.1 * np.sin(2 * np.pi * 900 * time) + 2e-4 * np.random.default_rng(0).standard_normal(len(time))
    assert strict_autonomy(target, target, rate).score == pytest.approx(1.0)
    assert strict_autonomy(target, rms_noise(target), rate).score < -0.5
    higher = strict_autonomy(target, 0.1 * np.sin(2 * np.pi * 1350 * time), rate)
    assert higher.pitch_pen == pytest.approx(np.log(1.5), abs=0.01)
    with pytest.raises(UsageError, match=r"one frame is \d+ \(12 ms"):
        strict_autonomy(target[: round(0.011 * rate)], target, rate)
    with pytest.raises(UsageError, match="at least 2000"):
        strict_autonomy(target, target, 1000)


def test_the_strict_report_averages():
    target = TARGETS["sweep"]
    report = strict_autonomy_report([(target, 2.0 * target), (target, np.full_like(target, np.nan))], RATE)
    (first, second) = report.windows
    assert report.score == pytest.approx((first.score - 5.0) / 2)
    assert report.bounded_fraction == 0.5
    assert second.reason == "not finite"
    assert report.breakdown() == {
        "spec_corr": first.spec_corr,
        "amp_pen": first.amp_pen,
        "envelope_pen": first.envelope_pen,
        "pitch_pen": first.pitch_pen,
        "signed_amp": first.signed_amp,
        "bounded_fraction": 0.5,
        "rescale": False,
    }


# ------------------------------------------------------------------------------- what is heard


def test_the_high_pass_does_not_depend_on_length():
    time = np.arange(RATE // 5) / RATE
    for frequency, gain in ((60.0, 0.0), (120.0, 0.003), (250.0, 0.5), (500.0, 1.0), (3000.0, 1.0)):
        for samples in (len(time), len(time) // 2):
            filtered = high_pass(np.sin(2 * np.pi * frequency * time[:samples]), RATE)
            middle = filtered[samples // 4 : -samples // 4]
            assert np.sqrt(2.0) * middle.std() == pytest.approx(gain, abs=0.02)


def test_mel_bands_are_triangles_of_power():
    """One frame, summed by hand."""
    sound = song()
    spectrogram = mel_spectrogram(sound, RATE)
    assert spectrogram.shape == (1 + len(sound) // 132, 40)
    length, frame = 529, 30
    part = sound[frame * 132 - length // 2 :][:length]
    part = part * np.array([np.sin(np.pi * n / length) ** 2 for n in range(length)])
    n_fft = 2250  # 20 Hz and the next length that is fast
    power = np.abs([np.sum(part * np.exp(-2j * np.pi * k * np.arange(length) / n_fft)) for k in range(1126)]) ** 2
    mel = np.linspace(2595 * np.log10(1 + 250 / 700), 2595 * np.log10(1 + 8000 / 700), 42)
    corner = 700 * (10 ** (mel / 2595) - 1)
    for band in (0, 7, 39):
        total = 0.0
        for k, p in enumerate(power):
            f = k * RATE / n_fft
            if corner[band] <= f <= corner[band + 1]:
                total += p * (f - corner[band]) / (corner[band + 1] - corner[band])
            elif corner[band + 1] < f < corner[band + 2]:
                total += p * (corner[band + 2] - f) / (corner[band + 2] - corner[band + 1])
        assert spectrogram[frame, band] == pytest.approx(total, rel=1e-9)


@given(st.floats(300.0, 6000.0), st.integers(0, 1000))
def test_pitch_is_right_to_a_hundredth(frequency, seed):
    time = np.arange(RATE // 20) / RATE
    random = np.random.default_rng(seed)
    phases = random.uniform(0.0, 2.0 * np.pi, 3)
    # A second harmonic twice as strong as the fundamental does not make an octave.
    sizes = [1.0, random.uniform(0.0, 2.0), random.uniform(0.0, 0.5)] if frequency < 2000 else [1.0]
    sound = sum(a * np.sin(2 * np.pi * (i + 1) * frequency * time + phases[i]) for i, a in enumerate(sizes))
    found = pitch(sound + 1e-3 * random.standard_normal(len(time)), RATE).frequency
    assert np.median(np.abs(np.log(found / frequency))) < 0.01
    assert np.max(np.abs(np.log(found / frequency))) < 0.02


def test_noise_and_silence_have_no_pitch():
    noise = np.random.default_rng(1).standard_normal(RATE // 2)
    assert np.mean(np.isfinite(pitch(noise, RATE).frequency)) < 0.01
    assert np.isnan(pitch(np.zeros(RATE // 20), RATE).frequency).all()


def test_a_fast_sweep_is_followed():
    target = song(500, 1100, seconds=0.045, noise=0.0, lead=0)
    found = pitch(target, RATE)
    centres = (np.arange(len(found.frequency)) * 132 + 264) / RATE
    wanted = 500 + 600 * centres / 0.045
    assert np.max(np.abs(np.log(found.frequency / wanted))[1:-1]) < 0.03
