"""Networks over time: every form gives the same numbers, gradients included, and cuts and memory are as promised."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardgrad.core import UsageError
from hardgrad.spiking import (
    IF,
    LIF,
    S5,
    AdaptiveLIF,
    ArcTan,
    CurrentLIF,
    LeakyIntegrator,
    Network,
    RecurrentLIF,
    pack_bits,
    run,
)

compiled = eqx.filter_jit(run)  # eager, each operation would be a program of its own

KEYS = jax.random.split(jax.random.key(0), 8)
BATCH, TIME, WIDTH = 3, 10, 5


def mixed():
    """One of each kind of cell, and a function."""
    return Network(
        [
            eqx.nn.Linear(WIDTH, 6, key=KEYS[0]),
            LIF(6, key=KEYS[1], threshold=0.3, learn_threshold=True, surrogate=ArcTan()),
            eqx.nn.Linear(6, 6, use_bias=False, key=KEYS[2]),
            RecurrentLIF(6, key=KEYS[3], weight_scale=0.5, threshold=0.2, surrogate=ArcTan()),
            jnp.sin,
            AdaptiveLIF(6, key=KEYS[4], threshold=0.4, reset="zero"),
            CurrentLIF(6, key=KEYS[5]),
            eqx.nn.Linear(6, 2, key=KEYS[6]),
            LeakyIntegrator(2),
        ]
    )


def small():
    """Two layers and a readout."""
    return Network(
        [
            eqx.nn.Linear(WIDTH, 6, key=KEYS[0]),
            LIF(6, key=KEYS[1], threshold=0.3, surrogate=ArcTan()),
            eqx.nn.Linear(6, 2, key=KEYS[2]),
            LeakyIntegrator(2),
        ]
    )


def spikes(*shape, rate=0.5, seed=0):
    return jnp.asarray(np.random.default_rng(seed).random(shape) < rate, jnp.zeros(()).dtype)


def by_steps(network, inputs):
    """Step after step, a plain scan of the network's own step."""
    start = network.init_state(inputs.shape[0], inputs.dtype)
    state, outs = jax.lax.scan(lambda state, x: network.step(state, x), start, jnp.swapaxes(inputs, 0, 1))
    return jnp.swapaxes(outs, 0, 1), state


def assert_trees(found, expected, atol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol), found, expected)


def test_every_form_gives_the_outputs_and_gradients_of_steps_in_turn(x64):
    network, inputs = mixed(), spikes(BATCH, TIME, WIDTH)
    weights = jnp.array(np.random.default_rng(1).standard_normal((BATCH, TIME, 2)))
    params, static = eqx.partition(network, eqx.is_inexact_array)

    def gradient(outputs_of):
        loss = lambda params, inputs: jnp.sum(jnp.sin(outputs_of(eqx.combine(params, static), inputs)) * weights)
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, inputs)

    expected = gradient(lambda network, inputs: by_steps(network, inputs)[0])
    norms = [float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(expected[1])]
    assert min(norms) > 0
    for settings in (
        {"form": "scan"},
        {"form": "layers"},
        {"form": "scan", "segment": 4, "record": True, "count": True},
        {"form": "layers", "segment": 3},
    ):
        found = gradient(lambda network, inputs, settings=settings: run(network, inputs, **settings).outputs)
        assert_trees(found, expected)


@pytest.mark.parametrize(("form", "segment"), [("scan", 4), ("layers", None)])
def test_what_is_recorded_is_what_happened(x64, form, segment):
    network, inputs = mixed(), spikes(BATCH, TIME, WIDTH)
    found = compiled(network, inputs, record=True, count=True, form=form, segment=segment)
    _, state = eqx.filter_jit(by_steps)(network, inputs)
    assert_trees(found.state, state)
    lif, recurrent, adaptive, current, readout = found.spikes
    assert readout is None
    assert [v.shape for v in found.voltages] == [(BATCH, TIME, 6)] * 4 + [(BATCH, TIME, 2)]
    np.testing.assert_array_equal(lif, found.voltages[0] > network.layers[1].threshold)
    np.testing.assert_array_equal(recurrent, found.voltages[1] > 0.2)
    np.testing.assert_array_equal(current, found.voltages[3] > 1.0)
    np.testing.assert_array_equal(found.voltages[4], found.outputs)
    assert_trees(found.counts, tuple(s.sum(1) for s in (lif, recurrent, adaptive, current)), 0)
    plain = run(network, inputs)
    assert plain.spikes == plain.counts == ()


@pytest.mark.parametrize("form", ["scan", "layers"])
def test_a_run_in_two_parts_is_the_whole_run(x64, form):
    network, inputs = small(), spikes(BATCH, TIME, WIDTH)
    whole = compiled(network, inputs, form=form)
    first = compiled(network, inputs[:, :4], form=form)
    second = compiled(network, inputs[:, 4:], state=first.state, form=form)
    assert_trees(jnp.concatenate([first.outputs, second.outputs], axis=1), whole.outputs)
    assert_trees(second.state, whole.state)


def test_a_truncated_gradient_is_that_of_parts_with_the_state_cut_between(x64):
    network, inputs = small(), spikes(BATCH, TIME, WIDTH)
    params, static = eqx.partition(network, eqx.is_inexact_array)

    def in_parts(network):
        state, outputs = None, []
        for start in range(0, TIME, 4):
            part = run(network, inputs[:, start : start + 4], state=state)
            outputs.append(part.outputs)
            state = jax.lax.stop_gradient(part.state)
        return jnp.concatenate(outputs, axis=1)

    def gradient(outputs_of):
        return jax.jit(jax.value_and_grad(lambda p: jnp.sum(outputs_of(eqx.combine(p, static)) ** 2)))(params)

    expected = gradient(in_parts)
    for settings in ({"form": "scan"}, {"form": "layers"}, {"form": "scan", "segment": 3}):
        found = gradient(lambda network, settings=settings: run(network, inputs, truncate=4, **settings).outputs)
        assert_trees(found, expected, 1e-11)
    whole = gradient(lambda network: run(network, inputs).outputs)[1]
    assert not np.allclose(whole.layers[0].weight, expected[1].layers[0].weight)


def test_forward_mode_agrees_with_reverse_mode(x64):
    network, inputs = small(), spikes(BATCH, TIME, WIDTH)
    params, static = eqx.partition(network, eqx.is_inexact_array)
    loss = lambda params: jnp.sum(jnp.sin(run(eqx.combine(params, static), inputs).outputs))
    direction = jax.tree.map(jnp.cos, params)
    slope = jax.jit(lambda p, d: jax.jvp(loss, (p,), (d,))[1])(params, direction)
    pairs = zip(jax.tree.leaves(jax.jit(jax.grad(loss))(params)), jax.tree.leaves(direction), strict=True)
    np.testing.assert_allclose(slope, sum(jnp.vdot(a, b) for a, b in pairs), rtol=1e-12)


@pytest.mark.parametrize("settings", [{"segment": 3}, {"form": "layers"}])
def test_packed_inputs_run_as_the_spikes_they_hold(settings):
    network, inputs = small(), spikes(BATCH, TIME, WIDTH)
    bits = pack_bits(inputs)
    assert bits.shape == (BATCH, 2, WIDTH)
    found = compiled(network, bits, steps=TIME, **settings)
    expected = compiled(network, inputs)
    np.testing.assert_allclose(found.outputs, expected.outputs, rtol=0, atol=1e-6)
    found = compiled(network, inputs.astype(bool), **settings)
    np.testing.assert_allclose(found.outputs, expected.outputs, rtol=0, atol=1e-6)


def test_seeds_run_side_by_side(x64):
    make = lambda key: Network([eqx.nn.Linear(WIDTH, 4, key=key), LIF(4, key=key, threshold=0.3), LeakyIntegrator(4)])
    keys, inputs = jax.random.split(KEYS[0], 3), spikes(BATCH, TIME, WIDTH)
    together = jax.jit(jax.vmap(lambda key: run(make(key), inputs, segment=4).outputs))(keys)
    alone = jax.jit(lambda key: run(make(key), inputs).outputs)
    assert_trees(together, jnp.stack([alone(key) for key in keys]))


@pytest.mark.parametrize("form", ["scan", "layers"])
def test_convolutions_and_cells_with_their_shape(x64, form):
    network = Network(
        [eqx.nn.Conv2d(2, 3, 3, key=KEYS[0]), IF((3, 4, 4), threshold=0.2), eqx.nn.AvgPool2d(2, 2), jnp.ravel, IF(12)]
    )
    inputs = spikes(BATCH, TIME, 2, 6, 6)
    assert_trees(compiled(network, inputs, form=form).outputs, eqx.filter_jit(by_steps)(network, inputs)[0])


@pytest.mark.parametrize("shape", [(1, 1, WIDTH), (BATCH, 1, WIDTH)])
def test_one_sample_or_one_step_is_no_exception(shape):
    for form in ("scan", "layers"):
        found = compiled(small(), jnp.ones(shape), form=form, record=True, segment=5, truncate=2)
        assert found.outputs.shape == (*shape[:2], 2)
        assert found.spikes[0][:, 0].sum() == 0  # a spike takes a step to come


def test_integer_inputs_reach_a_layer_that_takes_them():
    network = Network([eqx.nn.Embedding(7, 4, key=KEYS[0]), LIF(4, key=KEYS[1])])
    tokens = jnp.arange(6).reshape(2, 3)
    for form in ("scan", "layers"):
        assert run(network, tokens, form=form).outputs.shape == (2, 3, 4)


def test_half_precision_runs_in_half_precision():
    network = jax.tree.map(lambda x: x.astype(jnp.bfloat16) if eqx.is_inexact_array(x) else x, small())
    found = compiled(network, spikes(BATCH, 300, WIDTH).astype(jnp.bfloat16), count=True)
    assert found.outputs.dtype == jnp.bfloat16
    assert found.counts[0].dtype == jnp.float32  # which bfloat16 could not count beyond 256


def _scratch(time, **settings):
    """Bytes that a gradient takes beside arguments and results."""
    network = Network([eqx.nn.Linear(4, 32, key=KEYS[0]), LIF(32, key=KEYS[1]), LeakyIntegrator(32)])
    inputs = pack_bits(jnp.zeros((8, time, 4)))

    def loss(network, inputs):
        return jnp.sum(run(network, inputs, steps=time, count=True, **settings).counts[0])

    compiled = jax.jit(jax.grad(loss)).lower(network, inputs).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_segments_take_memory_of_the_root_of_time():
    assert _scratch(4096, segment=64) < 1.3 * 2 * _scratch(1024, segment=32)
    assert _scratch(4096, segment=64) < 0.1 * _scratch(4096)


class Running(eqx.Module):
    """A sequence layer of the least kind: sums over time."""

    def init_state(self, batch):
        return jnp.zeros((batch, WIDTH))

    def step(self, state, x):
        return state + x, state + x

    def sequence(self, inputs):
        return jnp.cumsum(inputs, axis=1)


def test_sequence_layers_run_in_parallel_or_step_by_step():
    inputs = spikes(BATCH, TIME, WIDTH)
    network = Network([S5(WIDTH, 4, key=KEYS[0]), eqx.nn.Linear(WIDTH, WIDTH, key=KEYS[1]), jax.nn.gelu])
    parallel, stepwise = compiled(network, inputs), compiled(network, inputs, form="scan")
    assert_trees(parallel.outputs, stepwise.outputs, 1e-5)
    assert_trees(parallel.state, stepwise.state, 1e-5)
    part = compiled(network, inputs[:, :5], segment=2)
    rest = compiled(network, inputs[:, 5:], state=part.state, form="layers")
    assert_trees(rest.outputs, parallel.outputs[:, 5:], 1e-5)


def test_a_sequence_layer_without_a_state_to_start_from_goes_step_by_step_when_it_must():
    inputs = spikes(BATCH, TIME, WIDTH)
    network = Network([Running(), eqx.nn.Linear(WIDTH, 2, key=KEYS[0])])
    parallel = run(network, inputs)
    assert parallel.state is None
    stepwise = run(network, inputs, segment=4)
    assert_trees(parallel.outputs, stepwise.outputs, 1e-5)
    assert_trees(stepwise.state[0], inputs.sum(1), 0)
    for settings in ({"truncate": 2}, {"segment": 2}, {"state": stepwise.state}):
        with pytest.raises(UsageError, match=r"a sequence layer \(Running\) does all steps at once"):
            run(network, inputs, form="layers", **settings)


class Halves(eqx.Module):
    """A stateless layer that makes something of its parameters before the scan."""

    weight: jax.Array

    def prepared(self):
        return lambda x: self.weight / 2 * x

    def __call__(self, x):
        raise AssertionError("not prepared")


def test_a_stateless_layer_may_prepare_itself():
    for form in ("scan", "layers"):
        out = run(Network([Halves(jnp.array(3.0)), IF(WIDTH)]), jnp.ones((1, 2, WIDTH)), form=form).outputs
        assert out.tolist() == [[[0.0] * WIDTH, [1.0] * WIDTH]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Network([]), "at least one layer"),
        (lambda: Network([3]), "layer 0 is 3: a layer is"),
        (lambda: Network([eqx.nn.BatchNorm(3, "batch", mode="batch")]), "layer 0, BatchNorm, keeps its state"),
        (lambda: run(small(), jnp.ones((2, 4, 3))), "layer 0, Linear, takes 5 features a sample"),
        (lambda: run(small(), jnp.ones((2, 4))), "no axis of features"),
        (lambda: run(Network([IF(3)]), jnp.ones((2, 4, 5))), r"IF has units \(3,\) and takes \[batch, 3\]"),
        (lambda: run(Network([IF(3)]), jnp.ones(3)), r"inputs are \[batch, time, ...\]"),
        (lambda: run(Network([IF(3)]), jnp.ones((2, 0, 3))), r"got shape \(2, 0, 3\)"),
        (lambda: run(small(), jnp.ones((2, 4, 5)), form="layer"), "Did you mean 'layers'"),
        (lambda: run(small(), jnp.ones((2, 4, 5)), segment=0), "segment must be a whole number, at least 1; got 0"),
        (lambda: run(small(), jnp.ones((2, 4, 5)), truncate=-1), "truncate must be a whole number"),
        (lambda: run(small(), jnp.ones((2, 4, 5)), steps=32), "packed bits are uint8"),
        (lambda: run(small(), jnp.zeros((2, 4, 5), jnp.uint8), steps=33), "33 steps take 5 bytes along time; got 4"),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_wrong(call, message):
    with pytest.raises(UsageError, match=message):
        call()
