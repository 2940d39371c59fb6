"""Encoders, in float64, against NumPy written from the formulas."""

from __future__ import annotations

import functools
import math
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from hardgrad.core import UsageError, count_parameters
from hardgrad.oscillators import (
    Encoder,
    MambaBlock,
    MambaEncoder,
    MambaStack,
    PolynomialField,
    SyrinxField,
    encode_stream,
    gaussian_lowpass,
    stream_drives,
    with_oscillator_prior,
    with_zero_force,
    zero_heads,
)
from hardgrad.oscillators._encoders._block import block_problem

BLOCK = MambaBlock(2, key=jax.random.key(0))
# The kernel is there where a C compiler is.
FORMS = ["chunked", "sequential", "associative"] + ["kernel"] * (not block_problem(BLOCK.sizes, jnp.float32))


def silu(x):
    return x / (1 + np.exp(-x))


def reference_block(block, r):
    """Sample by sample; `r` is ``[batch, time, D]``."""
    p = {name: np.asarray(getattr(block, name), np.float64) for name in block.__dataclass_fields__}
    inner, taps = p["conv_weight"].shape
    n, rank = p["log_rate"].shape[1], p["step_weight"].shape[1]
    out = np.empty_like(r)
    for i in range(r.shape[0]):
        h, past = np.zeros((inner, n)), np.zeros((taps, inner))
        for t in range(r.shape[1]):
            normed = r[i, t] / np.sqrt(np.mean(r[i, t] ** 2) + 1e-5) * p["gain"]
            wide = p["in_weight"] @ normed
            past = np.concatenate([past[1:], wide[None, :inner]])
            u = silu(np.sum(p["conv_weight"] * past.T, axis=1) + p["conv_bias"])
            selected = p["selection_weight"] @ u
            step = np.log1p(np.exp(p["step_weight"] @ selected[:rank] + p["step_bias"]))
            b, c = selected[rank : rank + n], selected[rank + n :]
            h = np.exp(-step[:, None] * np.exp(p["log_rate"])) * h + np.outer(step * u, b)
            y = h @ c + p["skip"] * u
            out[i, t] = r[i, t] + p["out_weight"] @ (y * silu(wide[inner:]))
    return out


def reference_encoder(encoder, x, v):
    z = np.stack([x, v], axis=-1)
    both = np.concatenate([z[:, ::-1], z], axis=1)
    both = np.pad(both, [(0, 0), (0, 0), (0, encoder.heads[0].in_features - 2)])
    parts = []
    for i, head in enumerate(encoder.heads):
        r = both
        for block in jax.tree.map(lambda leaf, i=i: leaf[i], encoder.stacks).blocks:
            r = reference_block(block, r)
        parts.append(r[:, x.shape[1] :] @ np.asarray(head.weight).T + np.asarray(head.bias))
    return np.concatenate(parts, axis=-1)


def scattered(module, seed=3):
    """Every parameter moved, so that none is at a value that hides a mistake."""
    random = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: leaf + 0.2 * random.standard_normal(leaf.shape).astype(leaf.dtype), module)


def sounds(batch, time, seed=1, dtype=np.float64):
    return 0.3 * np.random.default_rng(seed).standard_normal((2, batch, time)).astype(dtype)


def small(groups=(1, 4), *, dtype=None, seed=0, **sizes):
    sizes = {"n_layers": 2, "d_state": 3, "expand": 2, **sizes}
    return MambaEncoder(groups, **sizes, key=jax.random.key(seed), dtype=dtype or jnp.zeros(()).dtype)


@eqx.filter_jit
def encode(encoder, x, v):
    return encoder(x, v)


# -------------------------------------------------------------------------------------- parity


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sizes", [(2, 4, 10, 4), (17, 2, 1, 3), (3, 1, 2, 1)])  # R = 1, 2 and 1; one tap
def test_a_block_is_its_formulas(x64, form, sizes):
    d_model, d_state, expand, d_conv = sizes
    block = MambaBlock(d_model, d_state=d_state, expand=expand, d_conv=d_conv, key=jax.random.key(1), dtype=jnp.float64)
    block = scattered(block)
    r = np.random.default_rng(0).standard_normal((3, 37, d_model))
    _, out = jax.jit(functools.partial(block.advance, form=form))(block.start(3), r.T)
    np.testing.assert_allclose(out.T, reference_block(block, r), rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_an_encoder_is_its_formulas(x64, form):
    encoder = scattered(small(form=form))
    x, v = sounds(2, 41)
    expected = reference_encoder(encoder, x, v)
    assert expected.shape == (2, 41, 5)
    np.testing.assert_allclose(encode(encoder, jnp.array(x), jnp.array(v)), expected, rtol=0, atol=1e-12)


def test_more_channels_are_fed_zeros(x64):
    encoder = scattered(small(d_model=3))
    x, v = sounds(1, 20)
    raw = encode(encoder, jnp.array(x), jnp.array(v))
    np.testing.assert_allclose(raw, reference_encoder(encoder, x, v), rtol=0, atol=1e-12)


def test_a_batch_of_more_sounds_than_a_vector_has_lanes(x64):
    encoder = scattered(small())
    x, v = sounds(19, 12)
    raw = encode(encoder, jnp.array(x), jnp.array(v))
    np.testing.assert_allclose(raw, reference_encoder(encoder, x, v), rtol=0, atol=1e-12)


def test_forms_agree_in_float32():
    x, v = sounds(2, 41, dtype=np.float32)
    raw = [encode(scattered(small((1, 2), n_layers=1, form=form)), x, v) for form in FORMS]
    for one in raw:
        assert one.dtype == jnp.float32
        np.testing.assert_allclose(one, raw[0], rtol=0, atol=2e-5)


def test_whole_stacks_and_blocks_can_be_called(x64):
    stack = scattered(MambaStack(2, n_layers=2, d_state=2, expand=2, key=jax.random.key(0), dtype=jnp.float64))
    r = np.random.default_rng(0).standard_normal((2, 9, 2))
    expected = reference_block(stack.blocks[1], reference_block(stack.blocks[0], r))
    np.testing.assert_allclose(eqx.filter_jit(stack)(r), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(stack.blocks[0](jnp.array(r)), reference_block(stack.blocks[0], r), rtol=0, atol=1e-12)


# -------------------------------------------------------------------------------------- gradients


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_a_block(x64, form):
    block = scattered(MambaBlock(2, d_state=2, expand=1, d_conv=3, key=jax.random.key(1), dtype=jnp.float64))
    random = np.random.default_rng(0)
    state = jax.tree.map(lambda leaf: jnp.array(random.standard_normal(leaf.shape)), block.start(2))

    @jax.jit
    def function(block, state, r):
        return jax.tree.map(jnp.sin, block.advance(state, r, form=form))

    r = jnp.array(random.standard_normal((2, 5, 2)))
    check_grads(function, (block, state, r), order=1, modes=["rev"])


def test_gradients_of_an_encoder(x64):
    encoder = scattered(small((1, 2), n_layers=1, d_state=2, expand=1))
    x, v = sounds(2, 4)

    @jax.jit
    def function(encoder, x, v):
        return jnp.sin(encoder(x, v))

    check_grads(function, (encoder, jnp.array(x), jnp.array(v)), order=1, modes=["rev"])


def test_forms_have_the_same_gradient(x64):
    x, v = map(jnp.array, sounds(2, 21))  # of a chunk and a part

    @eqx.filter_jit
    def gradient(encoder):
        return eqx.filter_grad(lambda encoder: jnp.sum(encoder(x, v) ** 3))(encoder)

    first, *others = (jax.tree.leaves(gradient(scattered(small((1, 2), n_layers=1, form=form)))) for form in FORMS)
    for other in others:
        for one, two in zip(first, other, strict=True):
            np.testing.assert_allclose(two, one, rtol=1e-10, atol=1e-10)


# -------------------------------------------------------------------------------------- start


def test_parameters_of_the_published_sizes():
    encoder = MambaEncoder((1, 1, 256), key=jax.random.key(0))
    assert count_parameters(encoder.stacks) == 3 * 1626
    assert [count_parameters(head) for head in encoder.heads] == [3, 3, 768]
    assert encoder.outputs == 258
    assert isinstance(encoder, Encoder)


def test_the_start_is_drawn_as_it_should_be():
    encoder = MambaEncoder((1,) * 40, key=jax.random.key(7))
    for block in encoder.stacks.blocks:
        drawn = {
            "in_weight": 2**-0.5,
            "conv_weight": 4**-0.5,
            "conv_bias": 4**-0.5,
            "selection_weight": 20**-0.5,
            "step_weight": 1.0,
            "out_weight": 20**-0.5,
        }
        for name, bound in drawn.items():
            values = np.asarray(getattr(block, name)).ravel()
            assert np.abs(values).max() <= bound
            error = bound / math.sqrt(3 * len(values))  # of the mean of so many uniform draws
            assert abs(values.mean()) < 5 * error
            assert values.std() == pytest.approx(bound / math.sqrt(3), rel=0.08)
        log_steps = np.log(np.log1p(np.exp(np.asarray(block.step_bias, np.float64)))).ravel()
        assert math.log(1e-3) - 1e-3 < log_steps.min() < log_steps.max() < math.log(1e-1) + 1e-3
        assert log_steps.mean() == pytest.approx(math.log(1e-2), abs=5 * math.log(100) / math.sqrt(12 * len(log_steps)))
        np.testing.assert_allclose(block.log_rate, np.broadcast_to(np.log([1, 2, 3, 4]), (40, 20, 4)), rtol=1e-6)
        assert bool(jnp.all(block.skip == 1) & jnp.all(block.gain == 1))
    assert not np.array_equal(encoder.stacks.blocks[0].in_weight[0], encoder.stacks.blocks[0].in_weight[1])
    heads = np.array([np.append(head.weight, head.bias) for head in encoder.heads])
    assert np.abs(heads).max() <= 2**-0.5


def test_seeds_differ_and_repeat():
    one, same, other = (jax.tree.leaves(small(seed=seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[1], other[1])


# -------------------------------------------------------------------------------------- behaviour


def test_the_last_sample_reaches_the_first_output():
    encoder = small()
    x, v = sounds(1, 40, dtype=np.float32)
    louder = x.copy()
    louder[:, -1] += 0.5
    change = np.abs(encode(encoder, louder, v) - encode(encoder, x, v))
    assert change[0, 0].max() > 0


def test_sounds_of_a_batch_do_not_mix():
    encoder = small()
    x, v = sounds(3, 40, dtype=np.float32)
    other = x.copy()
    other[1] += 1.0
    one, two = encode(encoder, x, v), encode(encoder, other, v)
    assert np.array_equal(one[::2], two[::2])
    assert not np.array_equal(one[1], two[1])


def test_inputs_are_left_alone():
    x, v = sounds(1, 10, dtype=np.float32)
    copies = x.copy(), v.copy()
    encode(small(), x, v)
    list(encode_stream(small(), x, v, chunk_size=4))
    assert np.array_equal(x, copies[0])
    assert np.array_equal(v, copies[1])


@pytest.mark.parametrize("form", FORMS)
def test_seeds_under_vmap(x64, form):
    encoders = [small((1, 2), n_layers=1, seed=seed, form=form) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *encoders)
    x, v = map(jnp.array, sounds(2, 21))

    @eqx.filter_jit
    def gradient(encoder):
        return eqx.filter_grad(lambda encoder: jnp.sum(encoder(x, v) ** 2))(encoder)

    together = eqx.filter_jit(eqx.filter_vmap(gradient))(stacked)
    for i, encoder in enumerate(encoders):
        alone = gradient(encoder)
        for one, all_ in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
            np.testing.assert_allclose(all_[i], one, rtol=1e-10, atol=1e-12)


def test_each_seed_with_sounds_of_its_own(x64):
    encoder = small()
    x, v = map(jnp.array, sounds(6, 12).reshape(2, 3, 2, 12))
    together = eqx.filter_jit(eqx.filter_vmap(encoder))(x, v)
    for i in range(3):
        np.testing.assert_allclose(together[i], encode(encoder, x[i], v[i]), rtol=0, atol=1e-13)


# -------------------------------------------------------------------------------------- streaming


@pytest.mark.parametrize("form", FORMS[::3])
@pytest.mark.parametrize("chunk", [1, 7, 16, 50, 100, 10_000])
def test_a_stream_is_the_whole(x64, chunk, form):
    encoder = scattered(small(form=form))
    x, v = sounds(2, 50)
    pieces = list(encode_stream(encoder, x, v, chunk_size=chunk))
    assert max(piece.shape[1] for piece in pieces) <= chunk
    whole = encode(encoder, jnp.array(x), jnp.array(v))
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, rtol=0, atol=1e-13)


@pytest.mark.parametrize("sigma", [0.0, 3.0, 40.0])
def test_streamed_drives_are_those_of_the_whole(x64, sigma):
    field = PolynomialField(order=3, keep_const=True)
    encoder = small((1, 1, 16))
    x, v = sounds(2, 50)
    pieces = list(stream_drives(encoder, field, x, v, sigma=sigma, chunk_size=16))
    for name, drive in field.drives(encode(encoder, jnp.array(x), jnp.array(v))).items():
        streamed = np.concatenate([piece[name] for piece in pieces], axis=1)
        np.testing.assert_allclose(streamed, gaussian_lowpass(drive, sigma, axis=1), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("shapes", "chunk", "message"),
    [
        (((2, 5), (2, 4)), 3, r"got shapes \(2, 5\) and \(2, 4\)"),
        (((2, 0), (2, 0)), 3, r"not empty; got shapes \(2, 0\)"),
        (((2, 5), (2, 5)), 0, "chunk_size must be a whole number, at least 1; got 0"),
    ],
)
def test_a_stream_names_mistakes(shapes, chunk, message):
    x, v = (np.zeros(shape, np.float32) for shape in shapes)
    with pytest.raises(UsageError, match=message):
        encode_stream(small(), x, v, chunk_size=chunk)


# -------------------------------------------------------------------------------------- priors


def raw_at(encoder, field):
    x, v = sounds(2, 6, dtype=np.float32)
    return field.drives(encode(encoder, x, v))


@pytest.mark.parametrize("keep_const", [False, True])
def test_the_oscillator_prior(keep_const):
    field = PolynomialField(order=4, keep_const=keep_const)
    before = small((1, 1, 25))
    drives = raw_at(with_oscillator_prior(before, field), field)
    kept = raw_at(before, field)
    w = np.array(drives["weights"])
    np.testing.assert_array_equal(drives["gamma"], np.float32(-0.01) * np.ones((2, 6)))
    np.testing.assert_array_equal(w[..., 2, 1], np.float32(0.02) * np.ones((2, 6)))
    np.testing.assert_array_equal(w[..., 3, 0], np.float32(0.01) * np.ones((2, 6)))
    if keep_const:
        np.testing.assert_array_equal(w[..., 0, 0], np.float32(0.001) * np.ones((2, 6)))
    touched = np.zeros((5, 5), bool)
    touched[2, 1] = touched[3, 0] = True
    touched[0, 0] = keep_const
    np.testing.assert_array_equal(w[..., ~touched], np.array(kept["weights"])[..., ~touched])
    np.testing.assert_array_equal(drives["omega"], kept["omega"])


def test_the_prior_needs_its_terms():
    with pytest.raises(UsageError, match="order 3 or more; the field has order 2"):
        with_oscillator_prior(small((1, 1, 9)), PolynomialField(order=2))
    with pytest.raises(UsageError, match="SyrinxField has not"):
        with_oscillator_prior(small((1, 1, 1)), SyrinxField())
    with pytest.raises(UsageError, match="the field reads 18 outputs, the encoder gives 5"):
        with_oscillator_prior(small(), PolynomialField(order=3))


def test_without_the_prior_the_force_starts_at_zero():
    encoder, field = small((1, 1, 16)), PolynomialField(order=3, keep_const=True)
    weights = raw_at(with_zero_force(encoder, field), field)["weights"]
    assert bool(jnp.all(weights[..., 0, 0] == 0) & jnp.all(weights[..., 0, 2] != 0))
    assert with_zero_force(encoder, PolynomialField(order=3)) is encoder


def test_zero_heads_are_zero_and_learn():
    encoder = zero_heads(small((1, 1, 1)))
    x, v = sounds(2, 6, dtype=np.float32)
    assert not np.any(encode(encoder, x, v))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda encoder: jnp.sum(encode(encoder, x, v))))(encoder)
    assert all(np.any(head.weight) and np.any(head.bias) for head in gradient.heads)


# -------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": ()}, r"such as \(1, 1, 16\); got none"),
        ({"groups": (1, 0)}, "groups must be a whole number, at least 1; got 0"),
        ({"d_model": 1}, "d_model must be a whole number, at least 2; got 1"),
        ({"n_layers": 0}, "n_layers must be a whole number"),
        ({"d_state": True}, "d_state must be a whole number"),
        ({"expand": 0}, "expand must be a whole number"),
        ({"d_conv": 0}, "d_conv must be a whole number"),
        ({"form": "fast"}, "form is one of kernel, auto, sequential, chunked, associative; got 'fast'"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(UsageError, match=message):
        small(**{"groups": (1, 1), **change})


def test_an_output_that_is_not_there():
    with pytest.raises(UsageError, match="no output 5; its 5 outputs count from 0"):
        small().with_constant_outputs({5: 0.0})


def test_without_a_compiler_the_scan_is_used(monkeypatch):
    monkeypatch.setenv("HARDGRAD_NO_KERNEL", "1")
    assert BLOCK.resolved("auto") == "chunked"
    with pytest.raises(UsageError, match="HARDGRAD_NO_KERNEL is set"):
        small(form="kernel")


def test_on_an_accelerator_the_prefix_is_used(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert BLOCK.resolved("auto") == "associative"
    with pytest.raises(UsageError, match="it runs on a CPU, and the default platform is gpu"):
        small(form="kernel")


def test_a_dtype_the_kernel_does_not_know():
    half = types.SimpleNamespace(sizes=BLOCK.sizes, gain=jnp.zeros(2, jnp.bfloat16))
    assert MambaBlock.resolved(half, "auto") == "chunked"
