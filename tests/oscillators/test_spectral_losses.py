"""Losses of rollouts, in float64, against loops over frames and samples in NumPy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.test_util import check_grads

from hardgrad.core import Progress, UsageError
from hardgrad.oscillators import (
    SpectralLoss,
    anchor_loss,
    anchor_variance,
    envelope,
    envelope_log_loss,
    envelope_loss,
    one_step_loss,
    penalty_values,
    stft_magnitude,
    weight_penalty,
)
from hardgrad.schedules import LinearRamp


def sounds(batch, time, seed=0, *, scale=0.1):
    random = np.random.default_rng(seed)
    return scale * random.standard_normal((2, batch, time))


# ----------------------------------------------------------------------------------------- spectra


def reference_stft(x, n_fft, hop):
    """Sums over samples, frame by frame."""
    half = n_fft // 2
    window = np.array([np.sin(np.pi * n / n_fft) ** 2 for n in range(n_fft)])
    rows = []
    for row in x:
        around = np.concatenate([row[1 : half + 1][::-1], row, row[-half - 1 : -1][::-1]])
        starts = range(0, len(around) - n_fft + 1, hop)
        phases = np.exp(-2j * np.pi * np.outer(np.arange(half + 1), np.arange(n_fft)) / n_fft)
        rows.append([np.abs(phases @ (window * around[s : s + n_fft])) for s in starts])
    return np.array(rows)


def reference_loss(generated, target, configs, form, eps=1e-3, eps_sc=1e-2, alpha=1.0):
    total = 0.0
    for n_fft, hop in configs:
        a, g = reference_stft(generated, n_fft, hop), reference_stft(target, n_fft, hop)
        logs = np.mean(np.abs(np.log(g + eps) - np.log(a + eps)))
        if form == "ddsp":
            total += np.mean(np.abs(g - a)) + alpha * logs
        else:
            per_row = [np.linalg.norm(gb - ab) / (np.linalg.norm(gb) + eps_sc) for gb, ab in zip(g, a, strict=True)]
            total += np.mean(per_row) + logs
    return total / len(configs)


@pytest.mark.parametrize(
    ("n_fft", "hop", "time"),
    [(64, 16, 200), (128, 32, 131), (256, 64, 300), (256, 100, 257), (75, 18, 150), (150, 37, 301), (16, 4, 9)],
)
def test_magnitudes_are_those_of_the_definition(x64, n_fft, hop, time):
    x = sounds(2, time)[0]
    ours = np.asarray(stft_magnitude(jnp.asarray(x), n_fft, hop))
    theirs = reference_stft(x, n_fft, hop)
    assert ours.shape == theirs.shape
    if n_fft % 2 == 0:
        assert ours.shape[1] == 1 + time // hop
    np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("form", ["parallel_wavegan", "ddsp"])
def test_the_loss_is_its_formula(x64, form):
    generated, target = sounds(3, 300)
    loss = SpectralLoss(configs=((64, 16), (256, 64), (512, 128)), form=form, alpha=0.3)
    wanted = reference_loss(generated, target, ((64, 16), (256, 64)), form, alpha=0.3)  # 512 does not fit
    assert float(jax.jit(loss)(generated, target)) == pytest.approx(wanted, rel=1e-12)
    once = jax.jit(loss.magnitudes)(target)
    assert float(jax.jit(loss.compare)(generated, once)) == pytest.approx(wanted, rel=1e-12)


def test_resolutions_that_do_not_fit_are_left_out():
    loss = SpectralLoss()
    assert loss.resolutions(2048) == loss.configs
    assert loss.resolutions(1024) == loss.configs
    assert loss.resolutions(1023) == loss.configs[:2]
    assert loss.resolutions(256) == ((256, 64),)
    assert loss.resolutions(255) == ((127, 31),)
    assert loss.resolutions(20) == ((16, 4),)
    with pytest.raises(UsageError, match="at least 9; got 8"):
        loss.resolutions(8)


def test_the_stand_in_resolution_of_a_short_sound_is_its_formula(x64):
    generated, target = sounds(2, 255)
    wanted = reference_loss(generated, target, ((127, 31),), "parallel_wavegan")
    assert float(jax.jit(SpectralLoss())(generated, target)) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("form", ["parallel_wavegan", "ddsp"])
def test_the_gradient_is_that_of_finite_differences(x64, form):
    generated, target = sounds(2, 160)
    loss = SpectralLoss(configs=((32, 8), (150, 30)), form=form)
    compiled = jax.jit(functools.partial(loss, target=jnp.asarray(target)))
    check_grads(compiled, (jnp.asarray(generated),), order=1, modes=["rev"])


def test_silence_and_a_perfect_fit_have_finite_gradients():
    loss = jax.jit(jax.value_and_grad(SpectralLoss(configs=((64, 16), (256, 64)))))
    _, sound = sounds(2, 300).astype(np.float32)
    silence = np.zeros_like(sound)
    for generated, target in ((silence, sound), (sound, silence), (silence, silence), (sound, sound)):
        value, gradient = loss(generated, target)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        if generated is silence:
            assert not np.asarray(gradient).any()
    half = silence.copy()
    half[:, 150:] = sound[:, 150:]
    assert np.isfinite(loss(half, sound)[1]).all()


@pytest.mark.parametrize("n_fft", [64, 256])
def test_what_is_not_finite_is_not_silent(n_fft):
    sound = np.ones((1, 300), np.float32)
    sound[0, 17] = np.nan
    assert np.isnan(jax.jit(SpectralLoss(configs=((n_fft, 16),)))(sound, np.ones_like(sound)))


def test_no_gradient_reaches_a_target():
    generated, target = (jnp.asarray(x, jnp.float32) for x in sounds(2, 300))
    assert not np.asarray(jax.jit(jax.grad(SpectralLoss(), argnums=1))(generated, target)).any()
    assert not np.asarray(jax.grad(envelope_loss, argnums=1)(jnp.abs(generated), jnp.abs(target))).any()
    assert not np.asarray(jax.grad(envelope_log_loss, argnums=1)(jnp.abs(generated), jnp.abs(target))).any()
    assert not np.asarray(jax.grad(anchor_loss, argnums=1)(generated, target)).any()
    assert not np.asarray(jax.grad(one_step_loss, argnums=1)(generated, target)).any()


def test_losses_are_at_least_float32_and_follow_the_first_argument():
    half = jax.ShapeDtypeStruct((2, 300), jnp.float16)
    single = jax.ShapeDtypeStruct((2, 300), jnp.float32)
    for loss in (SpectralLoss(), envelope_loss, anchor_loss, one_step_loss):
        assert jax.eval_shape(loss, half, single).dtype == jnp.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"configs": ()}, "at least one pair"),
        ({"configs": ((256,),)}, r"pairs \(n_fft, hop\)"),
        ({"configs": ((1, 1),)}, "n_fft must be a whole number, at least 2; got 1"),
        ({"configs": ((16, 17),)}, "hop must be a whole number, from 1 to 16; got 17"),
        ({"eps": 0.0}, "eps must be a finite number above 0"),
        ({"eps_sc": -1.0}, "eps_sc must be a finite number above 0"),
        ({"alpha": float("inf")}, "alpha must be a finite number, at least 0"),
        ({"form": "dsp"}, "form is not 'dsp'. Did you mean 'ddsp'"),
    ],
)
def test_a_wrong_spectral_loss_is_refused(arguments, message):
    loss = SpectralLoss()
    for name, value in arguments.items():  # past the type checks of this suite
        object.__setattr__(loss, name, value)
    with pytest.raises(UsageError, match=message):
        loss.__post_init__()


def test_shapes_that_do_not_fit_are_refused():
    loss = SpectralLoss()
    with pytest.raises(UsageError, match=r"one shape \[batch, time\].*generated \(2, 300\), target \(2, 299\)"):
        loss(np.ones((2, 300)), np.ones((2, 299)))
    with pytest.raises(UsageError, match=r"got generated \(300,\)"):
        loss(np.ones(300), np.ones(300))
    with pytest.raises(UsageError, match="too short for n_fft=64: reflecting it takes 33"):
        stft_magnitude(np.ones((1, 32)), 64, 16)
    with pytest.raises(UsageError, match="magnitudes must have the shapes"):
        loss.compare(np.ones((2, 300)), jax.jit(loss.magnitudes)(np.ones((3, 300))))


# ---------------------------------------------------------------------------------------- envelopes


def reference_lowpass(u, sigma):
    radius = max(1, min(round(3 * sigma), u.shape[1] - 1))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    out = np.zeros_like(u)
    for t in range(u.shape[1]):
        for offset in range(-radius, radius + 1):
            place = abs(t + offset)
            place = place if place < u.shape[1] else 2 * (u.shape[1] - 1) - place
            out[:, t] += kernel[offset + radius] * u[:, place]
    return out


def test_envelopes_and_their_losses_are_their_formulas(x64):
    generated, target = sounds(2, 60)
    ours = [envelope(jnp.asarray(x), 5.0) for x in (generated, target)]
    theirs = [reference_lowpass(np.abs(x), 5.0) for x in (generated, target)]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    a, x = theirs
    linear = np.mean([np.mean(np.abs(a[b] - x[b])) / (np.mean(x[b]) + 1e-6) for b in range(2)])
    logarithmic = np.mean(np.abs(np.log(a + 1e-4) - np.log(x + 1e-4)))
    assert float(envelope_loss(*ours)) == pytest.approx(linear, rel=1e-12)
    assert float(envelope_log_loss(*ours)) == pytest.approx(logarithmic, rel=1e-12)


@pytest.mark.parametrize(
    ("factor", "linear", "logarithmic"), [(1.0, "0", "0"), (28.0, "27", "3.31"), (1 / 1430, "0.999", "3.66")]
)
@pytest.mark.parametrize("size", [3.873e-3, 3.911e-3])
def test_the_published_table_of_loudness(x64, factor, linear, logarithmic, size):
    """All six printed figures, for a sound of constant magnitude."""
    sound = size * np.where(np.arange(600) % 3, 1.0, -1.0)[None]
    target, generated = envelope(sound, 88.2), envelope(factor * sound, 88.2)
    digits = max(len(linear) - 2, 0)
    assert f"{float(envelope_loss(generated, target)):.{digits}f}" == linear
    assert f"{float(envelope_log_loss(generated, target)):.{max(len(logarithmic) - 2, 0)}f}" == logarithmic


def test_envelopes_have_finite_gradients_in_silence_and_after_a_crash(x64):
    generated, target = sounds(2, 80)
    generated[:, :40] = 0.0

    @jax.jit
    def loss(u, wanted):
        a, x = envelope(u, 4.0), envelope(wanted, 4.0)
        return envelope_loss(a, x) + envelope_log_loss(a, x)

    generated, target = jnp.asarray(generated), jnp.asarray(target)
    assert np.isfinite(jax.grad(loss)(generated, target)).all()
    assert not np.asarray(jax.grad(loss)(jnp.zeros_like(target), target)).any()
    moved = jnp.asarray(sounds(2, 80)[0] + 0.5)  # away from 0, where |u| has a corner
    check_grads(lambda u: loss(u, target), (moved,), order=1, modes=["rev"])


def test_a_silence_after_something_loud_has_a_logarithm():
    sound = np.zeros((1, 2000), np.float32)
    sound[:, :300] = 1e6
    envelope_of = envelope(sound, 20.0)
    assert float(jnp.min(envelope_of)) >= 0.0
    assert np.isfinite(envelope_log_loss(envelope_of, jnp.zeros_like(envelope_of)))


def test_wrong_envelope_arguments_are_refused():
    with pytest.raises(UsageError, match="sigma must be a finite number, at least 0; got -1"):
        envelope(np.ones((1, 9)), -1.0)
    with pytest.raises(UsageError, match="epsilon must be a finite number above 0"):
        envelope_log_loss(np.ones((1, 9)), np.ones((1, 9)), 0.0)
    with pytest.raises(UsageError, match="one shape"):
        envelope_loss(np.ones((1, 9)), np.ones((2, 9)))


# ------------------------------------------------------------------------------ anchor and legacy


def test_the_anchor_is_its_formula_with_every_variance(x64):
    model, data = sounds(4, 50)
    error = sum((model[b, t] - data[b, t]) ** 2 for b in range(4) for t in range(50)) / 200
    own = sum((data[b, t] - data.mean()) ** 2 for b in range(4) for t in range(50)) / 199
    assert float(anchor_loss(model, data, 0.25)) == pytest.approx(error / 0.25, rel=1e-12)
    assert float(anchor_loss(model, data, jnp.asarray(1e-9))) == pytest.approx(error / 1e-6, rel=1e-12)
    assert float(anchor_loss(model, data)) == pytest.approx(error / own, rel=1e-12)
    assert float(anchor_loss(model, 1e-3 * data)) == pytest.approx(
        np.mean((model - 1e-3 * data) ** 2) / 1e-3, rel=1e-12
    )
    assert float(anchor_loss(model, data, 1e-9, floor=1e-12)) == pytest.approx(error / 1e-9, rel=1e-12)
    check_grads(
        jax.jit(lambda m: anchor_loss(m, jnp.asarray(data), 0.25)), (jnp.asarray(model),), order=1, modes=["rev"]
    )


def test_the_variance_of_a_training_set_weighs_batches_by_size():
    accelerations = sounds(7, 40)[0]
    torch_like = [np.var(accelerations[s], ddof=1) for s in (slice(0, 3), slice(3, 6), slice(6, 7))]
    assert anchor_variance(accelerations, 3) == pytest.approx(
        (3 * torch_like[0] + 3 * torch_like[1] + torch_like[2]) / 7
    )
    assert anchor_variance(np.zeros((3, 8)), 2) == 1e-6
    assert anchor_variance(np.zeros((3, 8), np.float32), 2, floor=1e-9) == 1e-9


def test_wrong_anchors_are_refused():
    with pytest.raises(UsageError, match="variance must be a finite number, at least 0; got nan"):
        anchor_loss(np.ones((1, 2)), np.ones((1, 2)), float("nan"))
    with pytest.raises(UsageError, match="example 1 is not"):
        anchor_variance(np.array([[0.0, 1.0], [np.inf, 1.0]]), 2)
    with pytest.raises(UsageError, match="batch_size must be a whole number, at least 1; got 0"):
        anchor_variance(np.ones((1, 2)), 0)
    with pytest.raises(UsageError, match="time at least 2"):
        anchor_variance(np.ones((3, 1)), 2)


def test_the_one_step_loss_and_its_penalty_are_their_formulas(x64):
    model, data = sounds(3, 20)
    assert float(one_step_loss(model, data)) == pytest.approx(((model - data) ** 2).sum() / 3, rel=1e-12)
    weights = np.random.default_rng(0).standard_normal((3, 5, 4, 4))
    total = 0.0
    for p in range(4):
        for k in range(4):
            total += 1.2 ** (p + k) * np.sum(weights[:, :, p, k] ** 2)
    assert float(weight_penalty(weights, 1.2)) == pytest.approx(total / 3, rel=1e-12)
    assert float(weight_penalty(weights, jnp.asarray(1.2))) == pytest.approx(total / 3, rel=1e-12)
    check_grads(jax.jit(lambda w: weight_penalty(w, 1.2)), (jnp.asarray(weights),), order=1, modes=["rev"])


@given(st.integers(1, 30), st.integers(2, 12))
def test_penalty_values_end_where_the_highest_degree_costs_ten_thousand(order, count):
    values = penalty_values(order, count)
    assert len(values) == count
    assert values[0] == 1.01
    assert values[-1] ** (2 * order) == pytest.approx(1e4)
    assert np.ptp(np.diff(values)) < 1e-12


def test_wrong_penalties_are_refused():
    with pytest.raises(UsageError, match=r"\[batch, time, P, P\], got \(3, 5, 4, 3\)"):
        weight_penalty(np.ones((3, 5, 4, 3)), 1.2)
    with pytest.raises(UsageError, match="base must be a finite number above 0"):
        weight_penalty(np.ones((3, 5, 4, 4)), 0.0)
    with pytest.raises(UsageError, match="order must be a whole number, at least 1"):
        penalty_values(0)


def test_weights_warm_up_by_a_ramp():
    """λ·epoch/warm-up while epoch < warm-up, λ after; no warm-up is λ at once."""
    weight = [LinearRamp(0, 2.0, 5)(Progress(epoch, 0, 50)) for epoch in range(8)]
    assert weight == [0.0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.0, 2.0]
    assert LinearRamp(0, 2.0, 0)(Progress(0, 0, 50)) == 2.0


def test_seeds_side_by_side_have_their_own_losses():
    generated, target = (jnp.asarray(x.reshape(2, 3, 100), jnp.float32) for x in sounds(6, 100))
    loss = SpectralLoss(configs=((64, 16), (96, 32)))
    together = jax.jit(jax.vmap(loss))(generated, target)
    alone = [jax.jit(loss)(a, b) for a, b in zip(generated, target, strict=True)]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-6)


def test_a_perfect_fit_pulls_nowhere(x64):
    """Also where value and target are the same to the bit, at the corner of every |x|."""
    sound = jnp.asarray(sounds(2, 300)[0])
    loud = jnp.abs(sound)
    for loss in (SpectralLoss(), SpectralLoss(form="ddsp")):
        perfect = loss.magnitudes(sound)
        value, gradient = jax.value_and_grad(loss.compare)(sound, perfect)
        assert value == 0.0
        assert not np.asarray(gradient).any()
    assert not np.asarray(jax.grad(envelope_loss)(loud, loud)).any()
    assert not np.asarray(jax.grad(envelope_log_loss)(loud, loud)).any()
