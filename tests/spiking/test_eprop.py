"""e-prop: equal to its definition by autodiff, to the paper's traces in NumPy, and of constant memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import hardgrad as hg
from hardgrad.core import UsageError
from hardgrad.spiking import (
    IF,
    LIF,
    AdaptiveLIF,
    CurrentLIF,
    DirectFeedback,
    EProp,
    FeedbackLinear,
    LeakyIntegrator,
    Network,
    RecurrentLIF,
    SuperSpike,
    pack_bits,
)

BATCH, TIME, INPUTS, UNITS, CLASSES = 3, 8, 4, 5, 3
KEYS = jax.random.split(jax.random.key(0), 8)


def spikes_in(time: int = TIME, batch: int = BATCH) -> Any:
    return (np.random.default_rng(1).random((batch, time, INPUTS)) < 0.6).astype(np.float64)


LABELS = np.array([0, 2, 1])
SEQUENCE = np.random.default_rng(2).normal(size=(BATCH, TIME, CLASSES))


def squared(outputs: Any, targets: Any) -> Any:
    return jnp.mean(jnp.sum(jnp.square(outputs - targets), axis=-1))


def cross_entropy(outputs: Any, labels: Any) -> Any:
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], axis=1))


SPIKE = SuperSpike(steepness=2.0)
SETTINGS: dict[str, Any] = {"surrogate": SPIKE, "learn_threshold": True, "threshold": 0.9}
CELLS: dict[str, Callable[[], Any]] = {
    "IF": lambda: IF(UNITS, **SETTINGS),
    "LIF": lambda: LIF(UNITS, key=KEYS[0], **SETTINGS),
    "LIF, zero": lambda: LIF(UNITS, key=KEYS[0], reset="zero", **SETTINGS),
    "RecurrentLIF": lambda: RecurrentLIF(UNITS, key=KEYS[0], weight_scale=0.8, **SETTINGS),
    "RecurrentLIF, detached": lambda: RecurrentLIF(UNITS, key=KEYS[0], weight_scale=0.8, detach_reset=True, **SETTINGS),
    "AdaptiveLIF": lambda: AdaptiveLIF(UNITS, key=KEYS[0], **SETTINGS),
    "CurrentLIF": lambda: CurrentLIF(UNITS, key=KEYS[0], **SETTINGS),
}


def network(cell: Any, *, synapse: Any = eqx.nn.Linear, leak: float | None = 0.8, bias: bool = True) -> Network:
    first = eqx.nn.Linear(INPUTS, UNITS, use_bias=bias, key=KEYS[1])
    first = eqx.tree_at(lambda layer: layer.weight, first, replace_fn=lambda w: 2.0 * w)
    readout = synapse(UNITS, CLASSES, key=KEYS[2])
    if leak == 0:
        return Network([first, cell, readout])
    return Network([first, cell, readout, LeakyIntegrator(CLASSES, decay=leak, key=KEYS[3])])


@jax.custom_jvp
def step_function(v: Any) -> Any:
    return (v > 0).astype(v.dtype)


step_function.defjvp(lambda v, dv: (step_function(v[0]), dv[0] / (1 + 2.0 * jnp.abs(v[0])) ** 2))


def by_definition(model: Network, inputs: Any, feedback: Any = None) -> Any:
    """The equations of each cell, written out; spikes sent to other units are detached. ``[batch, time, classes]``."""
    first, cell, readout, *leak = model.layers
    stop, name = jax.lax.stop_gradient, type(cell).__name__
    matrix = stop(readout.weight) if feedback is None else feedback
    decay = 1.0 if name == "IF" else cell.decay
    voltage = other = jnp.zeros((len(inputs), UNITS))
    y, outputs = jnp.zeros((len(inputs), CLASSES)), []
    for t in range(inputs.shape[1]):
        x = inputs[:, t] @ first.weight.T + (0 if first.bias is None else first.bias)
        height = cell.threshold + (other if name == "AdaptiveLIF" else 0)
        s = step_function(voltage - height)
        if name == "RecurrentLIF":
            x = x + stop(s) @ cell.weight.T
        back = stop(s) if cell.detach_reset else s
        if name == "CurrentLIF":
            other = cell.current_decay * other + x
            voltage = decay * (voltage - back * height) + other
        elif cell.reset == "zero":
            voltage = decay * voltage * (1 - back) + x
        else:
            voltage = decay * voltage + x - back * height
        if name == "AdaptiveLIF":
            other = cell.adaptation_decay * other + (1 - cell.adaptation_decay) * s
        # W learns from detached spikes; the spikes learn through `matrix`. Forwards the second part adds 0.
        current = stop(s) @ readout.weight.T + (s - stop(s)) @ matrix.T + readout.bias
        y = (leak[0].decay * y if leak else 0) + current
        outputs.append(y)
    return jnp.stack(outputs, axis=1)


def loss_by_definition(model: Network, inputs: Any, targets: Any, readout: str, feedback: Any = None) -> Any:
    outputs = by_definition(model, inputs, feedback)
    if readout == "sequence":
        return squared(outputs.reshape(-1, CLASSES), targets.reshape(-1, CLASSES))
    if readout == "steps":
        return jnp.mean(jnp.stack([cross_entropy(outputs[:, t], targets) for t in range(outputs.shape[1])]))
    read = {"sum": outputs.sum(1), "mean": outputs.mean(1), "last": outputs[:, -1]}[readout]
    return cross_entropy(read, targets)


@eqx.filter_jit
def gradient_by_definition(model: Network, inputs: Any, targets: Any, readout: str, feedback: Any = None) -> Any:
    return eqx.filter_value_and_grad(loss_by_definition)(model, inputs, targets, readout, feedback)


def eprop_gradient(model: Any, inputs: Any, targets: Any, **settings: Any) -> tuple[Any, Any]:
    objective = EProp(squared if settings.get("readout") == "sequence" else cross_entropy, **settings)

    @eqx.filter_jit
    def found(model: Any) -> Any:
        return eqx.filter_value_and_grad(
            lambda model: objective(model, (inputs, targets), {}, jax.random.key(0)), has_aux=True
        )(model)

    return found(model)


def assert_same(found: Any, expected: Any, tolerance: float = 1e-11) -> None:
    found_leaves, expected_leaves = (jax.tree.leaves_with_path(tree) for tree in (found, expected))
    assert [path for path, _ in found_leaves] == [path for path, _ in expected_leaves]
    for (path, one), (_, other) in zip(found_leaves, expected_leaves, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize("name", CELLS)
def test_it_is_its_definition(name: str, x64: None) -> None:
    """Every parameter, thresholds and decays included; the readout's decays are equal and get the mean."""
    model, inputs = network(CELLS[name]()), jnp.asarray(spikes_in())
    readout = "sum" if name in ("LIF, zero", "IF", "RecurrentLIF, detached") else "steps"
    (loss, metrics), found = eprop_gradient(model, inputs, LABELS, readout=readout)
    value, expected = gradient_by_definition(model, inputs, jnp.asarray(LABELS), readout)
    of_decay = expected.layers[-1].raw_decay
    expected = eqx.tree_at(lambda m: m.layers[-1].raw_decay, expected, jnp.full_like(of_decay, of_decay.mean()))
    np.testing.assert_allclose(loss, value, rtol=1e-13)
    assert_same(found, expected)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(found))
    assert metrics["readout_decay_spread"] == 0
    assert metrics["spike_rate"] > 0.05


@pytest.mark.parametrize(
    ("readout", "mode"),
    [("sum", "online"), ("mean", "online"), ("last", "online"), ("steps", "online"), ("sequence", "online"),
     ("last", "reverse"), ("sequence", "reverse")],
)  # fmt: skip
def test_every_readout_with_decays_of_their_own(readout: str, mode: str, x64: None) -> None:
    model, inputs = network(CELLS["RecurrentLIF"](), leak=None), jnp.asarray(spikes_in())
    targets = SEQUENCE if readout == "sequence" else LABELS
    (loss, metrics), found = eprop_gradient(model, inputs, targets, readout=readout, mode=mode, readout_decays="each")
    value, expected = gradient_by_definition(model, inputs, jnp.asarray(targets), readout)
    np.testing.assert_allclose(loss, value, rtol=1e-13)
    assert_same(found, expected)
    assert metrics["readout_decay_spread"] > 0.1


def test_it_is_the_papers_traces(x64: None) -> None:
    """NumPy, Bellec et al. 2020 for LIF with a detached reset: e = ψ·z̄, filtered by κ."""
    model = network(CELLS["RecurrentLIF, detached"](), bias=False)
    inputs = spikes_in()
    _, found = eprop_gradient(model, jnp.asarray(inputs), SEQUENCE, readout="sequence")
    first, cell, readout, leak = model.layers
    w_in, w_rec, w_out, b_out = map(np.asarray, (first.weight, cell.weight, readout.weight, readout.bias))
    alpha, theta, kappa = np.asarray(cell.decay), np.asarray(cell.threshold), float(leak.decay[0])
    by_input, by_unit = np.zeros_like(w_in), np.zeros_like(w_rec)
    for sample in range(BATCH):
        v, y = np.zeros(UNITS), np.zeros(CLASSES)
        trace, filtered = np.zeros((UNITS, INPUTS + UNITS)), np.zeros((UNITS, INPUTS + UNITS))
        for t in range(TIME):
            z = (v > theta).astype(float)
            psi = 1 / (1 + 2.0 * np.abs(v - theta)) ** 2
            y = kappa * y + w_out @ z + b_out
            filtered = kappa * filtered + psi[:, None] * trace
            error = 2 * (y - SEQUENCE[sample, t]) / (BATCH * TIME)
            step = (w_out.T @ error)[:, None] * filtered
            by_input, by_unit = by_input + step[:, :INPUTS], by_unit + step[:, INPUTS:]
            trace = alpha[:, None] * trace + np.concatenate([inputs[sample, t], z])
            v = alpha * v + w_in @ inputs[sample, t] + w_rec @ z - theta * z
    np.testing.assert_allclose(found.layers[0].weight, by_input, rtol=1e-11)
    np.testing.assert_allclose(found.layers[1].weight, by_unit, rtol=1e-11)


@pytest.mark.parametrize("adaptive", [False, True])
def test_random_and_adaptive_feedback(adaptive: bool, x64: None) -> None:
    """B of a `FeedbackLinear` readout takes the place of the readout's transpose."""
    model = network(CELLS["AdaptiveLIF"](), synapse=lambda *s, key: FeedbackLinear(*s, adaptive=adaptive, key=key))
    inputs = jnp.asarray(spikes_in())
    _, found = eprop_gradient(model, inputs, LABELS, readout="mean", readout_decays="each")
    _, reverse = eprop_gradient(model, inputs, LABELS, readout="mean", mode="reverse")
    feedback = model.layers[2].feedback
    _, expected = gradient_by_definition(model, inputs, jnp.asarray(LABELS), "mean", jax.lax.stop_gradient(feedback))
    if adaptive:  # its gradient is the weight's
        expected = eqx.tree_at(lambda m: m.layers[2].adaptive, expected, expected.layers[2].weight)
    assert_same(found, expected)
    assert_same(reverse, expected)


def test_a_readout_that_does_not_integrate(x64: None) -> None:
    model, inputs = network(CELLS["LIF"](), leak=0, bias=False), jnp.asarray(spikes_in())
    _, found = eprop_gradient(model, inputs, LABELS, readout="steps", readout_decays="each")
    assert_same(found, gradient_by_definition(model, inputs, jnp.asarray(LABELS), "steps")[1])


def deep() -> DirectFeedback:
    linear = eqx.nn.Linear
    return DirectFeedback(
        [
            [linear(INPUTS, UNITS, key=KEYS[1]), CELLS["RecurrentLIF"]()],
            [linear(UNITS, 6, key=KEYS[4]), AdaptiveLIF(6, decay=0.9, adaptation_decay=0.8, threshold=0.3)],
        ],
        [linear(6, CLASSES, key=KEYS[2]), LeakyIntegrator(CLASSES, decay=0.7)],
        key=KEYS[5],
    )


def test_layers_hear_of_the_readouts_error_directly(x64: None) -> None:
    """Two layers: each as if the other were input, its signals through its own matrix."""
    model, inputs = deep(), jnp.asarray(spikes_in())
    _, found = eprop_gradient(model, inputs, LABELS, readout="steps", readout_decays="each")
    _, reverse = eprop_gradient(Network([model]), inputs, LABELS, readout="steps", mode="reverse")
    assert_same(found, reverse.layers[0])

    # The first layer alone, read out by its feedback matrix: the learning signals of the whole come in from outside.
    def errors(outputs: Any) -> Any:
        return jax.grad(lambda y: jnp.mean(jnp.stack([cross_entropy(y[:, t], LABELS) for t in range(TIME)])))(outputs)

    error = errors(model(inputs))
    (linear, cell), matrix = model.hidden[0].layers, model.feedback[0].astype(float)
    readout = eqx.nn.Linear(UNITS, CLASSES, key=KEYS[0])
    readout = eqx.tree_at(lambda r: (r.weight, r.bias), readout, (matrix, jnp.zeros(CLASSES)))
    alone = Network([linear, cell, readout, LeakyIntegrator(CLASSES, decay=0.7)])
    expected = eqx.filter_jit(eqx.filter_grad(lambda m: jnp.sum(by_definition(m, inputs) * error)))(alone)
    assert_same(found.hidden[0].layers[0], expected.layers[0])
    assert_same(found.hidden[0].layers[1], expected.layers[1])


def test_bits_and_floats_alike() -> None:
    model, inputs = network(LIF(UNITS, decay=0.8)), jnp.asarray(spikes_in().astype(np.float32))
    (loss, _), found = eprop_gradient(model, inputs, LABELS)
    (packed_loss, _), packed = eprop_gradient(model, pack_bits(inputs), LABELS, steps=TIME)
    np.testing.assert_allclose(loss, packed_loss, rtol=1e-6)
    assert_same(found, packed, 1e-5)


@pytest.mark.parametrize("readout", ["sum", "steps"])
def test_memory_does_not_grow_with_time(readout: str) -> None:
    """Scratch memory of the compiled gradient at 16 times the length: online the same, in reverse mode 8 times more."""

    def scratch(time: int, mode: Any) -> int:
        objective = EProp(readout=readout, mode=mode)  # type: ignore[arg-type]
        params, rest = eqx.partition(network(CELLS["RecurrentLIF"]()), eqx.is_inexact_array)

        def loss(params: Any, inputs: Any, labels: Any) -> Any:
            return objective(eqx.combine(params, rest), (inputs, labels), {}, jax.random.key(0))[0]

        shapes = jax.ShapeDtypeStruct((8, time, INPUTS), "float32"), jax.ShapeDtypeStruct((8,), "int32")
        return jax.jit(jax.grad(loss)).lower(params, *shapes).compile().memory_analysis().temp_size_in_bytes

    short, long = scratch(64, "online"), scratch(1024, "online")
    assert long - short <= (1024 - 64) * 8  # the step's share and number, far under the inputs' 128 bytes
    if readout == "sum":
        assert scratch(1024, "reverse") > 8 * scratch(64, "reverse")


def test_it_trains_with_the_library_trainer() -> None:
    """Which of two channels is louder, with part of the model frozen; and validation."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 128)
    rates = np.where(labels[:, None] == np.arange(2), 0.7, 0.2)
    inputs = (rng.random((128, 20, 2)) < rates[:, None]).astype(np.float32)
    a, b, c = jax.random.split(jax.random.key(0), 3)
    model = Network(
        [eqx.nn.Linear(2, 12, key=a), RecurrentLIF(12, decay=0.8, key=b), eqx.nn.Linear(12, 2, key=c),
         LeakyIntegrator(2, decay=0.8)]
    )  # fmt: skip
    trainable = eqx.tree_at(lambda m: m.layers[1].raw_decay, jax.tree.map(eqx.is_inexact_array, model), False)
    trainer = hg.Trainer(hg.GradientMethod(hg.Autodiff(), optax.adam(1e-2)))
    data = (inputs[:96], labels[:96]), (inputs[96:], labels[96:])
    result = trainer.fit(model, EProp(), data[0], epochs=12, batch_size=32, validation=data[1], trainable=trainable)
    assert result.history[-1].metrics["val_accuracy"] > 0.9
    np.testing.assert_array_equal(result.model.layers[1].raw_decay, model.layers[1].raw_decay)
    spread = result.history[-1].metrics["readout_decay_spread"]
    assert spread == 0  # equal decays stay equal
    assert result.model.layers[3].decay[0] != model.layers[3].decay[0]


def test_one_silent_step_and_several_models_at_once() -> None:
    """A batch of one, one step; and `vmap` over models gives each its own gradient."""
    objective = EProp(readout="steps")

    @eqx.filter_jit
    def slope(model: Any, *batch: Any) -> Any:
        return eqx.filter_grad(lambda m: objective(m, batch, {}, jax.random.key(0))[0])(model)

    model = network(LIF(UNITS, decay=0.8))
    silent = slope(model, jnp.zeros((1, 1, INPUTS)), jnp.array([0]))
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(silent))
    assert not jnp.any(silent.layers[0].weight)

    batch = jnp.asarray(spikes_in(), "float32"), jnp.asarray(LABELS, "int32")
    models = [model, eqx.tree_at(lambda m: m.layers[0].weight, model, replace_fn=lambda w: 1.5 * w)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0], *models)
    together = eqx.filter_jit(eqx.filter_vmap(lambda m: slope(m, *batch)))(stacked)
    for place, one in enumerate(models):
        assert_same(jax.tree.map(lambda x, place=place: x[place], together), slope(one, *batch), 1e-5)


INPUT, LABEL = np.zeros((2, 4, INPUTS), np.float32), np.array([0, 1])


@pytest.mark.parametrize(
    ("settings", "model", "batch", "message"),
    [
        ({"readout": "max"}, None, None, "no readout is called 'max'"),
        ({"mode": "forward"}, None, None, "mode is 'online' or 'reverse'"),
        ({"readout_decays": "all"}, None, None, "readout_decays is 'shared' or 'each'"),
        ({"steps": 0}, None, None, "steps must be a whole number"),
        ({}, lambda: network(LIF(4, decay=0.5)), (INPUT, LABEL), "a Linear of 5 outputs stands before a LIF of units"),
        ({}, lambda: LIF(4, decay=0.5), (INPUT, LABEL), "got a LIF"),
        ({}, lambda: Network([eqx.nn.Linear(4, 2, key=KEYS[0])]), (INPUT, LABEL), "DirectFeedback .* got a Linear"),
        ({}, lambda: Network(deep().hidden[0].layers * 2), (INPUT, LABEL), "2 spiking cells in a row"),
        ({}, lambda: network(LIF(5, decay=0.5)), (INPUT[..., :2], LABEL), r"\[batch, time, 4\], got shape \(2, 4, 2\)"),
        ({}, lambda: network(LIF(5, decay=0.5)), (INPUT.astype(np.uint8), LABEL), "floating-point, got uint8"),
        ({"steps": 9}, lambda: network(LIF(5, decay=0.5)), (INPUT.astype(np.uint8), LABEL), r"uint8 \[batch, 2, 4\]"),
        ({}, lambda: network(LIF(5, decay=0.5)), (INPUT, LABEL[:1]), r"start with axes \(2,\), got shape \(1,\)"),
        ({"readout": "sequence"}, lambda: network(LIF(5, decay=0.5)), (INPUT, LABEL), r"start with axes \(2, 4\)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(settings: Any, model: Any, batch: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        EProp(**settings)(model(), batch, {}, jax.random.key(0))
