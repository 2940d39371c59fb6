"""NIR: the simulator against loops and PyTorch, networks out and in, foreign graphs, hostile files."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import h5py
import jax
import jax.numpy as jnp
import nir
import numpy as np
import pytest

from hardgrad.core import MissingExtraError, UsageError
from hardgrad.spiking import (
    IF,
    LIF,
    S5,
    AdaptiveLIF,
    CurrentLIF,
    Flatten,
    LeakyIntegrator,
    Network,
    RecurrentLIF,
    Scale,
    SpikeThreshold,
    SumPool2d,
    convert,
    freeze,
    from_nir,
    integer_weights,
    nir_parity,
    quantise,
    read_nir,
    run,
    simulate_nir,
    to_nir,
    write_nir,
)
from hardgrad.spiking._nir._parity import _compare
from hardgrad.spiking._nir._simulate import NIRSimulation

KEYS = jax.random.split(jax.random.key(5), 8)
RNG = np.random.default_rng(8)


def dense(n_in: int, n_out: int, key: Any, *, gain: float = 3.0, bias: bool = True) -> eqx.nn.Linear:
    layer = eqx.nn.Linear(n_in, n_out, use_bias=bias, key=key)
    return eqx.tree_at(lambda m: m.weight, layer, layer.weight * gain)


def small() -> Network:
    return Network([dense(3, 5, KEYS[0]), LIF(5, key=KEYS[1]), dense(5, 2, KEYS[2]), LeakyIntegrator(2)])


def ends(n_in: Any, n_out: Any) -> dict[str, Any]:
    return {"in": nir.Input(np.atleast_1d(n_in)), "out": nir.Output(np.atleast_1d(n_out))}


def row(*nodes: Any, names: Any = None, n_in: Any = None, n_out: Any = None, **metadata: Any) -> Any:
    """A graph of nodes in a row, unchecked."""
    names = [f"n{i}" for i in range(len(nodes))] if names is None else names
    found = dict(zip(names, nodes, strict=True)) | ends(n_in, n_out)
    way = ["in", *names, "out"]
    return nir.NIRGraph(found, list(itertools.pairwise(way))[::-1], metadata=metadata, type_check=False)


def lif(n: int, *, seed: int = 0, v_reset: float = 0.0, v_leak: float = 0.0, metadata: Any = None) -> Any:
    """With parameters that differ from unit to unit, for a time step of 1e-3."""
    rng = np.random.default_rng(seed)
    return nir.LIF(
        tau=rng.uniform(3e-3, 2e-2, n),
        r=rng.uniform(2.0, 9.0, n),
        v_leak=v_leak * rng.uniform(0.5, 1.5, n),
        v_threshold=rng.uniform(0.5, 1.5, n),
        v_reset=v_reset * rng.uniform(0.5, 1.0, n),
        metadata=metadata or {},
    )


# ---------------------------------------------------------------------------- the simulator


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_neurons_follow_their_equations(reset: str) -> None:
    dt, x = 1e-3, RNG.normal(size=(1, 60, 1)) * 4
    shared = {"v_threshold": np.array([0.8]), "v_reset": np.array([-0.3] if reset == "zero" else [0.0])}
    tau, r, leak = np.array([5e-3]), np.array([1.7]), np.array([0.2])
    cuba = nir.CubaLIF(tau_mem=tau, tau_syn=np.array([4e-3]), r=r, v_leak=leak, w_in=np.array([2.5]), **shared)
    nodes = {
        "if": nir.IF(r=np.array([300.0]), **shared),
        "lif": nir.LIF(tau=tau, r=r, v_leak=leak, **shared),
        "cuba": cuba,
        "li": nir.LI(tau=tau, r=r, v_leak=leak),
    }
    for name, node in nodes.items():
        found = simulate_nir(row(node, names=[name], n_in=1, n_out=1), x, dt=dt, reset=reset)
        v, current, spikes, voltages = (0.0 if name == "li" else shared["v_reset"][0]), 0.0, [], []
        for i in x[0, :, 0]:
            fired = name != "li" and v > 0.8
            spikes.append(float(fired))
            voltages.append(v)
            floor, drop = (v, 0.8 * fired) if reset == "subtract" else (-0.3 if fired else v, 0.0)
            if name == "if":
                v = floor + dt * 300.0 * i - drop
            elif name == "cuba":
                current += dt / 4e-3 * (2.5 * i - current)
                v = floor - drop
                v += dt / 5e-3 * (0.2 - v + 1.7 * current)
            else:
                v = floor + dt / 5e-3 * (0.2 - floor + 1.7 * i) - drop
            if name == "li":
                voltages[-1] = v
        np.testing.assert_allclose(found.voltages[name][0, :, 0], voltages, rtol=1e-12, atol=1e-12)
        if name != "li":
            np.testing.assert_array_equal(found.spikes[name][0, :, 0], spikes)
            np.testing.assert_array_equal(found.outputs, found.spikes[name])
            assert 0 < sum(spikes) < 60


def test_simulators_that_integrate_first_see_the_same_spikes_a_step_earlier() -> None:
    node, x = lif(6, metadata={"reset": "subtract"}), RNG.normal(size=(2, 40, 6)) * 2
    ours = simulate_nir(row(node, names=["lif"], n_in=6, n_out=6), x, dt=1e-3).spikes["lif"]
    v, z, theirs = 0.0, 0.0, []
    for i in np.moveaxis(x, 1, 0):
        v = v + 1e-3 / node.tau * (node.r * i - v) - z * node.v_threshold
        z = (v > node.v_threshold).astype(float)
        theirs.append(z)
    np.testing.assert_array_equal(ours[:, 1:], np.stack(theirs, axis=1)[:, :-1])
    assert ours.any()


def convolved(x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    """XLA's convolution of ``[batch, channels, *space]``."""
    space = x.ndim - 2
    each = lambda value: (value,) * space if isinstance(value, int) else tuple(value)
    pads = padding.upper() if isinstance(padding, str) else [(p, p) for p in each(padding)]
    found = jax.lax.conv_general_dilated(
        jnp.asarray(x),
        jnp.asarray(weight),
        each(stride),
        pads,
        rhs_dilation=each(dilation),
        feature_group_count=groups,
        precision="highest",
    )
    return np.asarray(found) + bias.reshape(-1, *(1,) * space)


@pytest.mark.parametrize(
    ("stride", "padding", "dilation", "groups", "kernel"),
    [(1, "same", 1, 1, (3, 5)), ((2, 1), (1, 0), (1, 2), 2, (3, 3)), (1, "valid", 2, 4, (2, 3))],
)
def test_convolutions_are_xlas(x64: None, stride: Any, padding: Any, dilation: Any, groups: int, kernel: Any) -> None:
    x, weight, bias = RNG.normal(size=(2, 3, 4, 9, 8)), RNG.normal(size=(8, 4 // groups, *kernel)), RNG.normal(size=8)
    node = nir.Conv2d(None, weight, stride, padding, dilation, groups, bias)
    found = simulate_nir(row(node, n_in=(4, 9, 8), n_out=1), x, dt=1.0).outputs
    wanted = convolved(x.reshape(-1, 4, 9, 8), weight, bias, stride, padding, dilation, groups)
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-12, atol=1e-12)
    x, weight = x[:, :, :, 0], weight[..., 0]
    one = lambda value: value if isinstance(value, int | str) else value[0]
    settings = (one(stride), one(padding), one(dilation), groups)
    found = simulate_nir(row(nir.Conv1d(None, weight, *settings, bias), n_in=(4, 8), n_out=1), x, dt=1.0).outputs
    wanted = convolved(x.reshape(-1, 4, 8), weight, bias, *settings)
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=1e-12, atol=1e-12)


def test_pools_flattening_scales_and_thresholds_are_what_they_say() -> None:
    x = RNG.normal(size=(2, 3, 4, 6, 5))
    sizes = {"kernel_size": np.array([3, 2]), "stride": np.array([2, 2]), "padding": np.array([1, 1])}
    apply = lambda node: simulate_nir(row(node, n_in=(4, 6, 5), n_out=1), x, dt=1.0).outputs
    padded = np.pad(x.reshape(-1, 4, 6, 5), ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, columns = range(0, padded.shape[2] - 2, 2), range(0, padded.shape[3] - 1, 2)
    wanted = np.stack([[padded[:, :, i : i + 3, j : j + 2].mean((2, 3)) for j in columns] for i in rows])
    wanted = np.moveaxis(wanted, (0, 1), (2, 3))
    np.testing.assert_allclose(apply(nir.AvgPool2d(**sizes)).reshape(wanted.shape), wanted, atol=1e-14)
    np.testing.assert_allclose(apply(nir.SumPool2d(**sizes)).reshape(wanted.shape), 6 * wanted, atol=1e-13)
    np.testing.assert_array_equal(apply(nir.Flatten({"input": np.array([4, 6, 5])}, 1, 2)), x.reshape(2, 3, 4, 30))
    factor = RNG.normal(size=(4, 6, 5))
    np.testing.assert_array_equal(apply(nir.Scale(factor)), x * factor)
    np.testing.assert_array_equal(apply(nir.Threshold(factor)), x > factor)


def test_branches_and_loops_are_simulated() -> None:
    """Two ways from the input that are added up, and a loop through two neurons."""
    nodes = ends(3, 3) | {"a": nir.Linear(2 * np.eye(3)), "n": lif(3), "m": lif(3, seed=1), "w": nir.Linear(np.eye(3))}
    edges = [("in", "a"), ("a", "n"), ("in", "n"), ("n", "m"), ("m", "w"), ("w", "n"), ("m", "out")]
    x = RNG.normal(size=(2, 20, 3)) + 1
    found = simulate_nir(nir.NIRGraph(nodes, edges, type_check=False), x, dt=1e-3)
    open_loop = simulate_nir(row(lif(3), names=["n"], n_in=3, n_out=3), 3 * x[:, :, :], dt=1e-3)
    fed = 3 * x + found.spikes["m"]
    closed = simulate_nir(row(lif(3), names=["n"], n_in=3, n_out=3), fed, dt=1e-3)
    np.testing.assert_array_equal(found.spikes["n"], closed.spikes["n"])
    assert np.any(closed.spikes["n"] != open_loop.spikes["n"])
    nodes = ends(3, 3) | {"a": nir.Linear(np.eye(3)), "li": nir.LI(*[np.ones(3)] * 3)}
    endless = nir.NIRGraph(nodes, [("in", "a"), ("a", "li"), ("li", "a"), ("li", "out")], type_check=False)
    with pytest.raises(UsageError, match=r"nodes \['a', 'li', 'out'\] form a loop without a spiking neuron"):
        simulate_nir(endless, x, dt=0.1)


# ---------------------------------------------------------------------------- networks out, and in again


def test_time_constants_give_a_gain_of_one_under_nirs_equation() -> None:
    graph = to_nir(small(), (3,), dt=1e-3, check=False)
    node, decay = graph.nodes["1_lif"], np.asarray(small().layers[1].decay, float)
    np.testing.assert_allclose(node.tau, 1e-3 / (1 - decay), rtol=1e-6)
    np.testing.assert_allclose(node.r * 1e-3 / node.tau, 1.0, rtol=1e-6)
    assert graph.metadata == {"dt": 1e-3}
    assert node.metadata == {"reset": "subtract"}


def with_thresholds(cell: LIF) -> LIF:
    return eqx.tree_at(lambda c: c.raw_threshold, cell, jnp.linspace(0.0, 1.0, 6))


CELLS = {
    "IF": lambda reset: IF(6, threshold=0.7, reset=reset),
    "LIF": lambda reset: with_thresholds(LIF(6, learn_threshold=True, reset=reset, key=KEYS[1])),
    "RecurrentLIF": lambda reset: RecurrentLIF(6, weight_scale=1.0, reset=reset, key=KEYS[2]),
    "CurrentLIF": lambda reset: CurrentLIF(6, reset=reset, threshold=1.3, key=KEYS[3]),
    "LeakyIntegrator": lambda reset: LeakyIntegrator(6, decay=None, key=KEYS[4]),
}


@pytest.mark.parametrize(("name", "reset"), [(n, r) for n in CELLS for r in ("subtract", "zero")][:-1])
def test_every_cell_goes_out_and_comes_back(x64: None, tmp_path: Path, name: str, reset: str) -> None:
    network = Network([dense(4, 6, KEYS[0]), CELLS[name](reset), SpikeThreshold(0.5)])
    network = jax.tree.map(lambda leaf: leaf.astype(float) if eqx.is_inexact_array(leaf) else leaf, network)
    graph = to_nir(network, (4,), dt=2e-3, check=False)
    again = from_nir(read_nir(write_nir(tmp_path / "net.nir", graph)))
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in network.layers]
    assert getattr(again.layers[1], "reset", None) == getattr(network.layers[1], "reset", None)
    for ours, theirs in zip(jax.tree.leaves(again), jax.tree.leaves(network), strict=True):
        np.testing.assert_allclose(ours, np.broadcast_to(theirs, ours.shape), rtol=1e-11, atol=1e-13)
    parity = nir_parity(again, graph)
    assert parity.agrees
    assert parity.max_error < 1e-12
    assert parity.silent == ()
    assert parity.spikes > 10 or name == "LeakyIntegrator"


def images() -> Network:
    conv = eqx.nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=((1, 1), (0, 0)), groups=2, key=KEYS[0])
    same = eqx.nn.Conv2d(4, 2, (2, 3), padding="SAME", use_bias=False, key=KEYS[1])
    return Network(
        [
            conv,
            LIF((4, 6, 4), decay=0.8, threshold=0.5),
            SumPool2d(2),
            same,
            IF((2, 3, 2), threshold=0.5),
            eqx.nn.AvgPool2d(2, 1, padding=1),
            Scale(jnp.full((2, 1, 1), 3.0)),
            eqx.nn.Identity(),
            eqx.nn.Lambda(jnp.ravel),
            dense(24, 5, KEYS[2]),
            RecurrentLIF(5, decay=0.7, weight_scale=0.5, key=KEYS[3]),
        ]
    )


def test_convolutions_pools_and_recurrent_layers_go_out_and_come_back(tmp_path: Path) -> None:
    graph = to_nir(images(), (2, 6, 8), dt=1e-4)
    names = "input 0_conv2d 1_lif 2_sumpool2d 3_conv2d 4_if 5_avgpool2d 6_scale 8_flatten 9_affine 10_recurrent output"
    assert list(graph.nodes) == names.split()
    again = from_nir(read_nir(write_nir(tmp_path / "net.nir", graph)))
    x = jnp.asarray(3 * RNG.normal(size=(2, 12, 2, 6, 8)), jnp.float32)
    go = eqx.filter_jit(lambda network: network(x))
    out = go(again)
    np.testing.assert_array_equal(out, go(images()))
    assert 0 < out.mean() < 1


def test_one_dimensional_convolutions_go_out_and_come_back() -> None:
    conv = eqx.nn.Conv1d(2, 3, 4, stride=2, padding=1, dilation=2, key=KEYS[0])
    network = Network([conv, LIF((3, 3), decay=0.5, threshold=0.2)])
    graph = to_nir(network, (2, 9), check=False)
    assert nir_parity(from_nir(graph), graph).agrees


def test_quantised_layers_go_out_frozen() -> None:
    network = quantise(Network([dense(4, 6, KEYS[0]), RecurrentLIF(6, weight_scale=1.0, key=KEYS[1])]), 4)
    graph = to_nir(network, (4,), check=False)
    weights = integer_weights(network)
    for name, node in {
        "layers.0": graph.nodes["0_affine"],
        "layers.1": graph.nodes["1_recurrent"].nodes["weights"],
    }.items():
        np.testing.assert_array_equal(node.weight, weights[name].values * weights[name].scale)
        np.testing.assert_array_equal(np.round(node.weight / node.metadata["scale"]), weights[name].values)
        assert node.metadata["bits"] == "4"
    assert nir_parity(freeze(network), graph).agrees


def test_a_converted_network_goes_out_if_it_was_converted_for_it() -> None:
    model = eqx.nn.MLP(4, 2, 8, 1, activation=jax.nn.relu, key=KEYS[0])
    x = jax.random.uniform(KEYS[1], (20, 4))
    with pytest.raises(UsageError, match=r"layer 1, ConvertedIF, starts at 0.5 times .* start=0.0, wait=False"):
        to_nir(convert(model, x), (4,))
    graph = to_nir(convert(model, x, start=0.0, wait=False), (4,))
    assert [type(layer) for layer in from_nir(graph).layers] == [eqx.nn.Linear, IF, eqx.nn.Linear]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (AdaptiveLIF(3, key=KEYS[0]), "layer 1, AdaptiveLIF, has no counterpart in NIR"),
        (S5(3, 4, key=KEYS[0]), "layer 1, S5, has no counterpart in NIR"),
        (eqx.nn.Lambda(jax.nn.relu), "layer 1, Lambda, has no counterpart in NIR"),
        (eqx.nn.LayerNorm(3), "layer 1, LayerNorm, has no counterpart in NIR"),
        (eqx.nn.Linear(3, "scalar", key=KEYS[0]), "layer 1, Linear, has a scalar input or output"),
        (LIF(4, decay=0.5), r"layer 1, LIF, has units \(4,\), and gets samples of shape \(3,\)"),
        (eqx.nn.Linear(4, 3, key=KEYS[0]), r"layer 1, Linear, does not take samples of shape \(3,\)"),
        (eqx.tree_at(lambda c: c.raw_decay, LIF(3, decay=0.5), jnp.full(3, 90.0)), "decay of 1 to rounding"),
    ],
)
def test_what_nir_cannot_express_is_named(layer: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        to_nir(Network([dense(3, 3, KEYS[0]), layer]), (3,))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (eqx.nn.Conv2d(1, 1, 3, padding=((0, 1), (0, 0)), key=KEYS[0]), "pads one side more than the other"),
        (eqx.nn.Conv2d(1, 1, 3, padding=1, padding_mode="REFLECT", key=KEYS[0]), "pads by 'REFLECT'"),
        (eqx.nn.Conv2d(1, 1, 3, stride=2, padding="SAME", key=KEYS[0]), "for strides of 1 only"),
        (eqx.nn.AvgPool2d(2, 2, use_ceil=True), "rounds sizes up"),
        (eqx.nn.MaxPool2d(2), "MaxPool2d, has no counterpart"),
    ],
)
def test_what_nir_cannot_express_of_images_is_named(layer: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        to_nir(Network([layer]), (1, 7, 7))


@pytest.mark.parametrize("dt", [0.0, -1.0, float("nan"), float("inf")])
def test_a_time_step_is_positive(dt: float) -> None:
    with pytest.raises(UsageError, match="dt must be a positive number"):
        to_nir(small(), (3,), dt=dt)


# ---------------------------------------------------------------------------- parity


@pytest.mark.parametrize("which", ["r", "tau", "v_leak", "v_threshold"])
def test_a_parameter_that_is_wrong_is_found(which: str) -> None:
    graph = to_nir(small(), (3,), check=False)
    value = getattr(graph.nodes["1_lif"], which)
    setattr(graph.nodes["1_lif"], which, value * 1.01 + 0.001)
    parity = nir_parity(small(), graph)
    assert not parity.agrees
    assert parity.worst == "1_lif"


def test_a_reset_that_is_wrong_is_found() -> None:
    graph = to_nir(small(), (3,), check=False)
    graph.nodes["1_lif"].metadata = {}
    assert not nir_parity(small(), graph).agrees
    assert nir_parity(small(), graph, reset="subtract").agrees


def test_a_graph_that_does_not_match_is_not_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from hardgrad.spiking._nir import _export

    monkeypatch.setitem(
        _export._MAKERS, LeakyIntegrator, lambda nir, name, cell, shape, dt: nir.LI(*[3 * np.ones(shape)] * 3)
    )
    with pytest.raises(UsageError, match=r"does not do what the network does: they differ by .* in 3_li"):
        to_nir(small(), (3,))
    assert "3_li" in to_nir(small(), (3,), check=False).nodes


def test_a_spike_at_a_tie_ends_a_sample_and_no_more() -> None:
    """Sample 0 ties in step 2, sample 1 goes on; a membrane that differs is no tie."""

    class Ours:
        spikes = (np.zeros((2, 4, 1)),)
        voltages = (np.full((2, 4, 1), 1.0),)
        outputs = np.zeros((2, 4, 1))

    spikes, voltages = np.zeros((2, 4, 1)), np.full((2, 4, 1), 1.0)
    spikes[0, 2], voltages[0, 2], voltages[0, 3] = 1.0, 1.0 + 1e-12, 7.0
    outputs = np.zeros((2, 4, 1))
    outputs[0, 2:] = 5.0
    tie = _compare(["n"], Ours, NIRSimulation(outputs, {"n": spikes}, {"n": voltages}), 1e-9)
    assert (tie.agrees, tie.ties, tie.silent) == (True, 1, ("n",))
    voltages[0, 2] = 1.1
    assert not _compare(["n"], Ours, NIRSimulation(outputs, {"n": spikes}, {"n": voltages}), 1e-9).agrees
    voltages[0, 2], outputs[1, 3] = 1.0, 1.0
    wrong = _compare(["n"], Ours, NIRSimulation(outputs, {"n": spikes}, {"n": voltages}), 1e-9)
    assert (wrong.agrees, wrong.worst) == (False, "output")


# ---------------------------------------------------------------------------- graphs from elsewhere


@pytest.mark.parametrize(("reset", "v_reset"), [("zero", -0.4), ("subtract", 0.0)])
def test_every_parameter_of_a_foreign_graph_counts(x64: None, reset: str, v_reset: float) -> None:
    weight, bias = RNG.normal(size=(6, 4)), RNG.normal(size=6)
    nodes = (
        nir.Affine(weight, bias),
        lif(6, v_reset=v_reset, v_leak=0.3),
        nir.Linear(RNG.normal(size=(5, 6))),
        nir.LI(np.full(5, 7e-3), np.full(5, 0.4), np.full(5, -0.2)),
        nir.Threshold(np.full(5, -0.1)),
        nir.Linear(RNG.normal(size=(3, 5))),
        nir.IF(np.full(3, 700.0), np.array([0.5, 0.9, 1.3]), np.full(3, v_reset)),
        nir.CubaLIF(*[np.full(3, t) for t in (4e-3, 6e-3, 9.0, v_reset, 0.4, v_reset)], w_in=np.full(3, 4.0)),
    )
    names = ["fc1", "hidden", "fc2", "membrane", "step", "fc3", "count", "last"]
    graph = row(*nodes, names=names, n_in=4, n_out=3)
    network = from_nir(graph, dt=1e-3, reset=reset)
    parity = nir_parity(network, graph, dt=1e-3, reset=reset, steps=60)
    assert parity.agrees
    assert parity.max_error < 1e-12
    assert parity.silent == ()


RECURRENT = RNG.normal(size=(4, 4))


def recurrent_graphs() -> dict[str, Any]:
    inner = {"lif": lif(4), "w": nir.Linear(RECURRENT)}
    loop = [("w", "lif"), ("lif", "w")]
    ways = [("x", "lif"), ("lif", "y")]
    sub = nir.NIRGraph({"x": nir.Input(np.array([4])), "y": nir.Output(np.array([4]))} | inner, loop + ways)
    affine = {"lif": lif(4), "w": nir.Affine(RECURRENT, np.full(4, 0.3))}
    plain = nir.Linear(np.eye(4) * 2)
    within = [("lif", "out"), ("fc", "lif"), ("in", "fc")]
    return {
        "in a subgraph": nir.NIRGraph(
            ends(4, 4) | {"fc": plain, "rnn": sub}, [("rnn", "out"), ("in", "fc"), ("fc", "rnn")]
        ),
        "flat": nir.NIRGraph(ends(4, 4) | inner | {"fc": plain}, loop + within, type_check=False),
        "with a bias": nir.NIRGraph(ends(4, 4) | affine | {"fc": plain}, loop + within, type_check=False),
        "to itself": nir.NIRGraph(
            ends(4, 4) | {"lif": lif(4), "fc": plain}, [("lif", "lif"), *within], type_check=False
        ),
    }


@pytest.mark.parametrize("name", ["in a subgraph", "flat", "with a bias", "to itself"])
def test_recurrent_neurons_are_understood(x64: None, name: str) -> None:
    graph = recurrent_graphs()[name]
    network = from_nir(graph, dt=1e-3)
    assert [type(layer) for layer in network.layers] == [eqx.nn.Linear, RecurrentLIF]
    parity = nir_parity(network, graph, dt=1e-3)
    assert parity.agrees
    assert parity.spikes > 20


def test_one_number_stands_for_all_units() -> None:
    numbers = [np.array(number) for number in (9e-3, 4.0, 0.0, 0.8)]
    alone, spread = (row(nir.LIF(*p), n_in=3, n_out=3) for p in (numbers, [np.full(3, n.item()) for n in numbers]))
    for ours, theirs in zip(*(jax.tree.leaves(from_nir(graph, dt=1e-3)) for graph in (alone, spread)), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_gain_without_weights_before_it_becomes_a_scale() -> None:
    graph = row(lif(3), n_in=3, n_out=3)
    network = from_nir(graph, dt=1e-3)
    assert [type(layer) for layer in network.layers] == [Scale, LIF]
    assert nir_parity(network, graph, dt=1e-3).agrees


@pytest.mark.parametrize("start", [0, 1])
def test_flattening_that_counts_a_batch_axis_is_understood(start: int) -> None:
    flat = nir.Flatten({"input": np.array([2, 2, 3])}, start_dim=start)
    graph = row(flat, nir.Linear(np.ones((2, 12))), n_in=(2, 2, 3), n_out=2)
    assert isinstance(from_nir(graph, dt=1.0).layers[0], Flatten)


def changed(node: Any, **fields: Any) -> Any:
    for name, value in fields.items():
        setattr(node, name, value)
    return node


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (nir.Delay(np.ones(3)), r"node 'n0' \(Delay\) has no counterpart here"),
        (nir.CubaLI(*[np.ones(3)] * 4), r"node 'n0' \(CubaLI\) has no counterpart here"),
        (nir.I(np.ones(3)), r"node 'n0' \(I\) has no counterpart here"),
        (
            changed(lif(3), tau=np.array([1.0, 1.0, 1e-4])),
            r"tau of node 'n0' \(LIF\) must be longer than the time step",
        ),
        (changed(lif(3), tau=np.array([1.0, np.nan, 1.0])), "tau of node 'n0' .* must be finite numbers"),
        (changed(lif(3), r=np.ones(2)), r"r of node 'n0' \(LIF\) has shape \(2,\), its input \(3,\)"),
        (changed(lif(3), v_threshold=np.zeros(3)), "v_threshold of node 'n0' .* must lie above v_reset"),
        (lif(3, v_leak=1.0), "no dense node before it"),
        (lif(3, metadata={"reset": "half"}), "reset of node 'n0' .* not 'half'"),
        (nir.Linear(np.ones((2, 4))), r"gets samples of shape \(3,\)"),
        (nir.SumPool2d(*[np.array([2, 2])] * 3), r"does not take samples of shape \(3,\)"),
        (nir.CubaLIF(*[np.ones(3)] * 5), "v_leak of node 'n0' .* must be where its membrane is reset to"),
    ],
)
def test_nodes_that_cannot_be_taken_are_named(node: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_nir(row(node, n_in=3, n_out=3), dt=1e-3)


def graph_of(edges: list[tuple[str, str]], **nodes: Any) -> Any:
    return nir.NIRGraph(ends(2, 2) | nodes, edges, type_check=False)


def test_branches_loops_and_loose_ends_are_named() -> None:
    fc, other = nir.Linear(np.eye(2)), nir.Linear(np.eye(2))
    refused = {
        r"node 'in' \(Input\) is read by 'a', 'b'": graph_of(
            [("in", "a"), ("in", "b"), ("a", "out"), ("b", "out")], a=fc, b=other
        ),
        r"node 'b' \(Linear\) adds up 'a', 'c'": graph_of(
            [("in", "a"), ("a", "b"), ("c", "b"), ("b", "out")], a=fc, b=other, c=lif(2)
        ),
        r"node 'a' \(Linear\) is read by nothing": graph_of([("in", "a")], a=fc),
        r"node 'b' \(Linear\) is on no way": graph_of([("in", "a"), ("a", "out")], a=fc, b=other),
        "the edge 'in' → 'a' is given twice": graph_of([("in", "a"), ("in", "a"), ("a", "out")], a=fc),
        "names a node 'aa' that is not there. Did you mean 'a'": graph_of([("in", "aa"), ("a", "out")], a=fc),
        r"2 nodes of type Input: \['in', 'x'\]": graph_of(
            [("in", "a"), ("a", "out")], a=fc, x=nir.Input(np.array([2]))
        ),
        "has no nodes between": graph_of([("in", "out")]),
    }
    for message, graph in refused.items():
        with pytest.raises(UsageError, match=message):
            from_nir(graph, dt=1e-3)
    cuba = nir.CubaLIF(*[np.ones(2)] * 3, np.zeros(2), np.ones(2))
    with pytest.raises(UsageError, match="of recurrent neurons there is LIF only"):
        from_nir(graph_of([("in", "n"), ("n", "w"), ("w", "n"), ("n", "out")], n=cuba, w=fc), dt=1e-3)
    with pytest.raises(UsageError, match="does not say its time step"):
        from_nir(row(lif(2), n_in=2, n_out=2))
    with pytest.raises(UsageError, match="Did you mean 'subtract'"):
        from_nir(row(lif(2), n_in=2, n_out=2), dt=1e-3, reset="substract")


# ---------------------------------------------------------------------------- files


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_nir(tmp_path / "net.nir", to_nir(small(), (3,), check=False))
    before = path.read_bytes()

    class Broken:
        def to_dict(self) -> dict[str, Any]:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        write_nir(path, Broken())
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["net.nir"]
    with pytest.raises(UsageError, match="there is no folder"):
        write_nir(tmp_path / "nowhere" / "net.nir", None)


def damage(path: Path, change: Any) -> Path:
    write_nir(path, to_nir(small(), (3,), check=False))
    with h5py.File(path, "a") as file:
        change(file)
    return path


def replaced(file: Any, name: str, **kwargs: Any) -> None:
    del file[name]
    file.create_dataset(name, **kwargs)


def linked(file: Any, link: Any) -> None:
    name = "node/nodes/1_lif/tau"
    del file[name]
    file[name] = link


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout(shape=(5,), dtype="f4")
    layout[:] = h5py.VirtualSource("other.h5", "secret", shape=(5,))
    del file["node/nodes/1_lif/tau"]
    file.create_virtual_dataset("node/nodes/1_lif/tau", layout)


def cyclic(file: Any) -> None:
    file["node/nodes/again"] = file["node"]


TAU = "node/nodes/1_lif/tau"
HOSTILE = {
    "external link": (lambda f: linked(f, h5py.ExternalLink("other.h5", "/secret")), "'.*tau' is a link to elsewhere"),
    "soft link": (lambda f: linked(f, h5py.SoftLink("/node/edges")), "'.*tau' is a link to elsewhere"),
    "virtual": (virtual, "'.*tau' is stored in another file"),
    "external storage": (
        lambda f: replaced(f, TAU, shape=(5,), dtype="f4", external=[("other.bin", 0, 20)]),
        "'.*tau' is stored in another file",
    ),
    "cycle": (cyclic, "lies deeper than 16 groups"),
    "bomb": (lambda f: replaced(f, TAU, shape=(10**11,), dtype="f4", chunks=(10**6,)), "'.*tau' is too large"),
    "references": (lambda f: replaced(f, TAU, shape=(5,), dtype=h5py.ref_dtype), "neither numbers nor text"),
    "unknown type": (lambda f: replaced(f, "node/nodes/1_lif/type", data="System"), "node '1_lif' is of type 'System'"),
    "missing field": (lambda f: f.__delitem__(TAU), r"node '1_lif' \(LIF\) is damaged"),
    "unknown field": (lambda f: f.create_dataset("node/nodes/1_lif/extra", data=1), r"node '1_lif' \(LIF\) is damaged"),
    "missing edges": (lambda f: f.__delitem__("node/edges"), r"the graph \(NIRGraph\) is damaged"),
    "no graph": (lambda f: f.__delitem__("node"), "no NIR graph: it has no group 'node'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path: Path, name: str) -> None:
    change, message = HOSTILE[name]
    with pytest.raises(UsageError, match=message):
        read_nir(damage(tmp_path / "net.nir", change))


def test_a_file_with_flipped_bytes_is_read_or_refused(tmp_path: Path) -> None:
    path = write_nir(tmp_path / "net.nir", to_nir(small(), (3,), check=False))
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(80):
        damaged = bytearray(whole)
        for place in rng.integers(len(whole), size=5):
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            assert isinstance(read_nir(path), nir.NIRGraph)
        except UsageError:
            refused += 1
    assert 0 < refused < 80


def test_what_is_no_nir_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read_nir(tmp_path / "none.nir")
    path = write_nir(tmp_path / "net.nir", to_nir(small(), (3,), check=False))
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UsageError, match="cannot be read as HDF5"):
        read_nir(path)
    path.write_bytes(b"not HDF5 at all")
    with pytest.raises(UsageError, match="cannot be read as HDF5"):
        read_nir(path)


def test_a_graph_read_is_the_graph_written(tmp_path: Path) -> None:
    graph = to_nir(images(), (2, 6, 8), dt=1e-4, check=False)
    again = read_nir(write_nir(tmp_path / "net.nir", graph))
    assert sorted(again.nodes) == sorted(graph.nodes)
    assert sorted(again.edges) == sorted(graph.edges)
    for name, node in graph.nodes.items():
        other = again.nodes[name]
        assert type(other) is type(node)
        if hasattr(node, "weight"):
            np.testing.assert_array_equal(other.weight, node.weight)
    assert again.metadata["dt"] == 1e-4


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "nir", None)
    for call in (lambda: to_nir(small(), (3,)), lambda: write_nir(tmp_path / "x", None), lambda: read_nir(tmp_path)):
        with pytest.raises(MissingExtraError, match=r"pip install 'hardgrad\[nir\]'"):
            call()


def test_an_imported_network_runs_and_learns() -> None:
    graph = row(nir.Linear(RNG.normal(size=(6, 4))), lif(6), nir.Linear(RNG.normal(size=(2, 6))), n_in=4, n_out=2)
    network = from_nir(graph, dt=1e-3)
    x = jnp.asarray(RNG.normal(size=(2, 15, 4)), jnp.float32)
    params, rest = eqx.partition(network, eqx.is_inexact_array)
    found = jax.jit(jax.grad(lambda p: jnp.sum(run(eqx.combine(p, rest), x).outputs ** 2)))(params)
    assert all(bool(jnp.any(leaf != 0)) for leaf in jax.tree.leaves(found))
