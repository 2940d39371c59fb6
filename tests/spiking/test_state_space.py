"""State-space layers: every form of the scan against a loop in NumPy, one step at a time against all at once."""

from __future__ import annotations

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

from hardgrad.core import UsageError
from hardgrad.spiking import LRU, S5, Network, S5Block, diagonal_scan
from hardgrad.spiking._state_space import _diagonal_scan, _s5

FORMS = ("sequential", "chunked", "associative")


def arrays(batch, time, d, n, m, seed=0):
    """Inputs, λ, B, C and a state, as `diagonal_scan` takes them."""
    random = np.random.default_rng(seed)
    size, angle = random.uniform(0.5, 1.0, n), random.uniform(-np.pi, np.pi, n)
    pole = np.stack([size * np.cos(angle), size * np.sin(angle)])
    normal = random.standard_normal
    return normal((batch, time, d)), pole, normal((2, n, d)), normal((2, m, n)), normal((batch, 2, n))


def reference(u, pole, into, out, state):
    """The definition, in complex numbers, a loop over time."""
    a, b, c = (part[0] + 1j * part[1] for part in (pole, into, out))
    x = state[:, 0] + 1j * state[:, 1]
    y = np.zeros((*u.shape[:2], len(c)))
    for t in range(u.shape[1]):
        x = a * x + u[:, t] @ b.T
        y[:, t] = (x @ c.T).real
    return y, np.stack([x.real, x.imag], axis=1)


@functools.partial(jax.jit, static_argnames="form")
def scan(u, pole, into, out, state, form):
    return diagonal_scan(u, pole, into, out, state=state, form=form)


@pytest.mark.parametrize("form", [*FORMS, "auto"])
@pytest.mark.parametrize(("batch", "time"), [(2, 70), (3, 1), (1, 33)])  # spans and what is left over
def test_every_form_is_the_recurrence(x64, form, batch, time):
    given = arrays(batch, time, 3, 4, 5)
    y, last = scan(*given, form=form)
    expected = reference(*given)
    np.testing.assert_allclose(y, expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(last, expected[1], rtol=0, atol=1e-12)


def test_spans_are_shorter_for_large_batches(x64):
    given = arrays(50, 20, 2, 3, 2)  # spans of 8 steps
    y, last = scan(*given, form="chunked")
    expected = reference(*given)
    np.testing.assert_allclose(y, expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(last, expected[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_against_differences(x64, monkeypatch, form):
    monkeypatch.setattr(_diagonal_scan, "_LONGEST", 3)
    monkeypatch.setattr(_diagonal_scan, "_SHORTEST", 3)  # so that seven steps are two spans and one step
    function = jax.jit(
        lambda *given: [jnp.sin(part) for part in diagonal_scan(*given[:-1], state=given[-1], form=form)]
    )
    check_grads(function, tuple(map(jnp.asarray, arrays(2, 7, 2, 3, 2))), order=1, modes=["rev"])
    if form != "chunked":
        check_grads(function, tuple(map(jnp.asarray, arrays(2, 7, 2, 3, 2))), order=1, modes=["fwd"])


def test_forms_have_the_same_gradient_and_may_be_mapped(x64):
    many = [arrays(2, 40, 2, 3, 2, seed) for seed in (1, 2)]
    stacked = tuple(jnp.stack(parts) for parts in zip(*many, strict=True))

    @functools.partial(jax.jit, static_argnames="form")
    def gradient(given, form):
        def loss(given):
            y, last = diagonal_scan(*given[:-1], state=given[-1], form=form)
            return jnp.sum(jnp.sin(y)) + jnp.sum(last**2)

        return jax.vmap(jax.grad(loss))(given)

    first, *others = (gradient(stacked, form) for form in FORMS)
    for other in others:
        for one, two in zip(first, other, strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("cut", [1, 32, 40])
def test_a_signal_may_be_cut(x64, cut):
    given = map(jnp.asarray, arrays(2, 45, 2, 3, 2))
    u, *weights, state = given
    whole, last = diagonal_scan(u, *weights, state=state)
    first, between = diagonal_scan(u[:, :cut], *weights, state=state)
    second, end = diagonal_scan(u[:, cut:], *weights, state=between)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, rtol=0, atol=1e-12)
    np.testing.assert_allclose(end, last, rtol=0, atol=1e-12)


def test_zero_order_hold_is_the_matrix_exponential(x64):
    """exp of [[A, B], [0, 0]]Δ holds exp(AΔ) and the integral that B̄ is."""
    layer = S5(2, 3, key=jax.random.key(0), dtype=jnp.float64)
    found = layer.prepared()
    rate = -np.log1p(np.exp(np.asarray(layer.raw_decay))) + 1j * np.asarray(layer.frequency)
    re, im = np.asarray(layer.input_weight)
    b = re + 1j * im
    for n in range(3):
        generator = np.zeros((3, 3), complex)
        generator[0, 0], generator[0, 1:] = rate[n], b[n]
        held = scipy.linalg.expm(generator * float(jnp.exp(layer.log_step[n])))[0]
        pole, into = np.asarray(found.pole[:, n]), np.asarray(found.into[:, n])
        np.testing.assert_allclose(pole[0] + 1j * pole[1], held[0], rtol=1e-12)
        np.testing.assert_allclose(into[0] + 1j * into[1], held[1:], rtol=1e-12)


@pytest.mark.parametrize("z", [-1e-7 + 0j, -1e-4 + 3e-4j, -0.5 + 2j, -3.0 - 1e-8j, -1e-30 + 0j, 0j])
def test_holding_is_exact_down_to_zero(z):
    """In float32, against the series and the quotient in float64."""
    _, (re, im) = _s5._held(jnp.float32(z.real), jnp.float32(z.imag))
    exact = sum(z**k / math.factorial(k + 1) for k in range(9)) if abs(z) < 1e-2 else (np.exp(z) - 1) / z
    np.testing.assert_allclose(complex(re, im), exact, rtol=3e-7)
    slopes = jax.grad(lambda a, b: sum(_s5._held(a, b)[1]), argnums=(0, 1))(jnp.float32(z.real), jnp.float32(z.imag))
    assert all(map(math.isfinite, slopes))


def test_legs_poles_are_those_of_the_hippo_matrix():
    """LegS plus its rank-one part is normal: -½ and imaginary pairs."""
    n = 8
    i, j = np.indices((n, n))
    legs = -np.where(i > j, np.sqrt((2 * i + 1.0) * (2 * j + 1)), np.where(i == j, i + 1.0, 0.0))
    p = np.sqrt(np.arange(n) + 0.5)
    eigenvalues = np.linalg.eigvals(legs + np.outer(p, p))
    upper = np.sort(eigenvalues[eigenvalues.imag > 0].imag)
    decay, frequency = _s5.initial_poles("legs", n // 2)
    np.testing.assert_allclose(eigenvalues.real, -0.5, atol=1e-9)
    np.testing.assert_allclose(frequency, upper, atol=1e-9)
    np.testing.assert_allclose(decay, 0.5)


def test_starts():
    layer = S5(3, 400, key=jax.random.key(1))
    np.testing.assert_allclose(jax.nn.softplus(layer.raw_decay), 0.5, rtol=1e-6)
    np.testing.assert_allclose(layer.frequency, np.pi * np.arange(400), rtol=1e-6)
    assert math.log(1e-3) <= float(layer.log_step.min())
    assert float(layer.log_step.max()) <= math.log(1e-1)
    assert abs(float(layer.input_weight.std()) - 1 / math.sqrt(6)) < 0.03
    lru = LRU(3, 2000, r_min=0.5, r_max=0.9, max_phase=1.0, key=jax.random.key(1))
    pole = np.asarray(lru.prepared().pole)
    squared = pole[0] ** 2 + pole[1] ** 2
    assert squared.min() >= 0.25 - 1e-5
    assert squared.max() <= 0.81 + 1e-5
    assert abs(squared.mean() - 0.53) < 0.01  # uniform in area
    angle = np.angle(pole[0] + 1j * pole[1])
    assert angle.min() >= 0
    assert angle.max() <= 1.0
    np.testing.assert_allclose(jnp.exp(lru.log_gain) ** 2, 1 - squared, rtol=1e-4)


@pytest.mark.parametrize("kind", [S5, LRU])
def test_no_parameters_make_a_recurrence_grow(kind):
    """Nor a NaN, forwards or backwards."""
    params, rest = eqx.partition(kind(2, 9, key=jax.random.key(0)), eqx.is_inexact_array)

    @jax.jit
    def poles_and_slopes(params):
        pole = lambda params: eqx.combine(params, rest).prepared().pole
        return pole(params), jax.grad(lambda params: jnp.sum(pole(params)))(params)

    random = np.random.default_rng(0)
    for size in (1e-3, 1.0, 10.0):  # further out, exp overflows
        drawn = jax.tree.map(lambda x, size=size: jnp.asarray(size * random.standard_normal(x.shape), x.dtype), params)
        pole, slopes = poles_and_slopes(drawn)
        assert float(jnp.sum(pole**2, axis=0).max()) <= 1.0 + 1e-6
        assert all(bool(jnp.isfinite(slope).all()) for slope in jax.tree.leaves(slopes))


def made(kind, dtype):
    key = jax.random.key(0)
    return {
        "s5": lambda: S5(3, 4, key=key, dtype=dtype),
        "s5 without skip": lambda: S5(3, 4, skip=False, poles="legs", step_max=1.0, key=key, dtype=dtype),
        "lru": lambda: LRU(3, 4, key=key, dtype=dtype),
        "block": lambda: S5Block(3, 4, dropout=0.5, key=key, dtype=dtype),
        "block of lru": lambda: S5Block(3, mixer=LRU(3, 4, key=key, dtype=dtype), key=key, dtype=dtype),
    }[kind]()


@pytest.mark.parametrize("kind", ["s5", "s5 without skip", "lru", "block", "block of lru"])
def test_steps_are_the_sequence(x64, kind):
    layer = made(kind, jnp.float64)
    inputs = jnp.asarray(np.random.default_rng(0).standard_normal((2, 19, 3)))

    @jax.jit
    def one_by_one(inputs):
        ready = layer.prepared()
        last, out = jax.lax.scan(lambda state, x: ready.step(state, x), ready.init_state(2), jnp.swapaxes(inputs, 0, 1))
        return last, jnp.swapaxes(out, 0, 1)

    state, out = one_by_one(inputs)
    assert out.dtype == jnp.float64
    np.testing.assert_allclose(out, layer.sequence(inputs), rtol=0, atol=1e-12)
    middle, first = layer.advance(layer.init_state(2), inputs[:, :11])
    after, second = layer.advance(middle, inputs[:, 11:])
    np.testing.assert_allclose(jnp.concatenate([first, second], axis=1), out, rtol=0, atol=1e-12)
    np.testing.assert_allclose(after, state, rtol=0, atol=1e-12)
    again, _ = layer.step(layer.init_state(2), inputs[:, 0])
    np.testing.assert_allclose(again, layer.advance(layer.init_state(2), inputs[:, :1])[0], rtol=0, atol=1e-12)


def test_a_block_by_hand(x64):
    block = S5Block(3, 4, key=jax.random.key(0), dtype=jnp.float64)
    block = eqx.tree_at(lambda b: (b.gain, b.shift), block, (jnp.array([2.0, 1.0, 0.5]), jnp.array([0.1, 0.0, -0.1])))
    u = np.random.default_rng(1).standard_normal((2, 5, 3))
    mean, variance = u.mean(-1, keepdims=True), u.var(-1, keepdims=True)
    normed = (u - mean) / np.sqrt(variance + 1e-5) * np.asarray(block.gain) + np.asarray(block.shift)
    y = np.asarray(block.mixer.sequence(jnp.asarray(normed)))
    y = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
    z = y @ np.asarray(block.gate_weight).T
    expected = u + z[..., :3] / (1 + np.exp(-z[..., 3:]))
    np.testing.assert_allclose(block.sequence(jnp.asarray(u)), expected, rtol=0, atol=1e-12)


def test_dropout_needs_a_key_and_training():
    block = S5Block(3, 4, dropout=0.5, key=jax.random.key(0))
    inputs = jnp.asarray(np.random.default_rng(0).standard_normal((4, 6, 3)), jnp.float32)
    sequence = eqx.filter_jit(lambda block, key: block.sequence(inputs, key=key))
    plain = sequence(block, None)
    dropped = sequence(block, jax.random.key(1))
    branch = np.asarray(dropped - inputs)
    share = np.mean(branch == 0)
    assert 0.2 < share < 0.8
    np.testing.assert_allclose(branch[branch != 0], 2 * np.asarray(plain - inputs)[branch != 0], rtol=1e-5, atol=1e-6)
    evaluated = sequence(eqx.nn.inference_mode(block), jax.random.key(1))
    np.testing.assert_array_equal(evaluated, plain)


def test_in_a_network(x64):
    keys = jax.random.split(jax.random.key(0), 2)
    block = S5Block(3, 4, key=keys[0], dtype=jnp.float64)
    linear = eqx.nn.Linear(3, 2, key=keys[1], dtype=jnp.float64)
    network = Network([block, linear])
    inputs = jnp.asarray(np.random.default_rng(0).standard_normal((2, 6, 3)))
    expected = block.sequence(inputs) @ linear.weight.T + linear.bias
    np.testing.assert_allclose(network(inputs), expected, rtol=0, atol=1e-12)
    state, first = network.step(network.init_state(2), inputs[:, 0])
    np.testing.assert_allclose(first, expected[:, 0], rtol=0, atol=1e-12)
    assert len(state) == 2


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda key: S5(0, key=key), "d_model must be a whole number"),
        (lambda key: S5(2, 0, key=key), "d_state must be a whole number"),
        (lambda key: S5(2, step_min=0.2, key=key), "0 < step_min <= step_max"),
        (lambda key: S5(2, poles="leg", key=key), "poles are linear or legs"),
        (lambda key: S5(2, form="paralel", key=key), "form is one of"),
        (lambda key: LRU(2, r_min=1.0, key=key), "0 <= r_min < r_max <= 1"),
        (lambda key: LRU(2, max_phase=0.0, key=key), "max_phase lies between"),
        (lambda key: S5Block(2, dropout=1.0, key=key), "dropout is a probability"),
        (lambda key: S5(2, 3, key=key).sequence(jnp.ones((1, 4, 3))), "takes 2 features"),
        (lambda key: S5(2, 3, key=key).step(jnp.zeros((1, 2, 3)), jnp.ones((1, 3))), "takes 2 features"),
        (lambda key: S5(2, 3, key=key).sequence(jnp.ones((1, 0, 2))), "at least one sample and one step"),
        (lambda key: S5(2, 3, key=key).init_state(0), "batch must be a whole number"),
    ],
)
def test_what_is_refused(build, said):
    with pytest.raises(UsageError, match=said):
        build(jax.random.key(0))
