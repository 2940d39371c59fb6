"""The small spiking recipes: their plant and their data, and what they stand beside."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardgrad import zoo
from hardgrad.core import UsageError
from hardgrad.training import RunFolder
from hardgrad.zoo import classification_rsnn as rsnn
from hardgrad.zoo import control_lif_es as control
from hardgrad.zoo._spiking_traces import read_traces


def test_the_cost_of_an_episode_is_that_of_a_loop():
    config = control.Config(horizon=7, held_out=5)
    model, start = control.build(config), control.starts(config, control.TEST)
    cost, metrics = eqx.filter_jit(control.ControlObjective(7))(model, start, {}, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))) == 42

    first, _, last, _ = model.layers
    decay, leak = np.asarray(model.layers[1].decay), np.asarray(model.layers[3].decay)
    total, rest = 0.0, 0.0
    for x, v in np.asarray(start, float):
        voltage, force = np.zeros(8), np.zeros(1)
        for _ in range(7):
            spikes = (voltage > 1.0).astype(float)
            voltage = decay * voltage + first.weight @ np.array([x, v]) + first.bias - spikes
            force = leak * force + last.weight @ spikes + last.bias
            v = v + 0.1 * force[0]
            x = x + 0.1 * v
            total += x * x / 5
        rest += abs(x) / 5
    np.testing.assert_allclose(cost, total, rtol=1e-4)
    np.testing.assert_allclose(metrics["rest"], rest, rtol=1e-4)


def test_the_best_linear_controller_beats_doing_nothing_by_far():
    config = control.Config(held_out=64)
    gains = control.best_linear(config, largest=20.0)
    start = jnp.asarray(control.starts(config, control.TEST))
    seen, force = control.episode(control.linear_controller(gains, 20.0), (), start, 20)
    assert np.abs(force).max() <= 20.0
    assert float(np.mean(np.sum(np.square(seen[..., 0]), axis=0))) < 0.03 * 16.0


def test_the_spikes_shown_are_those_of_the_episode():
    config = control.Config(held_out=8, hidden=8, seed=1)
    model = eqx.tree_at(lambda model: model.layers[0].weight, control.build(config), replace_fn=lambda w: 4 * w)
    inputs, spikes = control.traces(config, model)
    assert inputs.spikes.shape == (20, 2)
    assert spikes.spikes.shape == spikes.voltages.shape == (20, 8)
    np.testing.assert_array_equal(inputs.spikes[0], control.starts(config, control.TEST)[0])

    first, cell, last, _ = model.layers
    decay, leak = np.asarray(cell.decay), np.asarray(model.layers[3].decay)
    (x, v), voltage, force, sent = inputs.spikes[0].astype(float), np.zeros(8), np.zeros(1), []
    for _ in range(20):
        sent.append((voltage > 1.0).astype(float))
        voltage = decay * voltage + first.weight @ np.array([x, v]) + first.bias - sent[-1]
        force = leak * force + last.weight @ sent[-1] + last.bias
        v = v + 0.1 * force[0]
        x = x + 0.1 * v
    assert 0 < np.sum(sent) < 20 * 8
    np.testing.assert_array_equal(spikes.spikes, sent)


@pytest.mark.parametrize("strategy", ["snes", "cma_es"])
def test_every_strategy_runs(strategy, tmp_path):
    config = control.Config(**{**control.RECIPE.smoke, "strategy": strategy})
    done = zoo.launch("control-lif-es", config, run=tmp_path / "run")
    assert done.result["cost"]["linear"] < done.result["cost"]["nothing"]
    assert list(control.figures(RunFolder(tmp_path / "run")))[:3] == [
        "Held-out starts",
        "Spikes of one sample",
        "Membranes of a few units",
    ]


def test_counting_is_the_best_answer_of_all():
    """By Bayes' rule, tried out: equal priors, independent Bernoulli spikes."""
    config = rsnn.Config(held_out=500, members=2)
    inputs, labels = rsnn.trains(config, rsnn.TEST)
    busy = np.arange(8) // 2 == np.arange(4)[:, None]
    rate = np.where(busy, config.active, config.idle)
    likelihood = np.einsum("smtc,kc->smk", inputs, np.log(rate)) + np.einsum(
        "smtc,kc->smk", 1 - inputs, np.log(1 - rate)
    )
    best = np.mean(likelihood.argmax(axis=-1) == labels, axis=0)
    # Ties in the count are ties in likelihood, broken by rounding alone.
    np.testing.assert_allclose(rsnn.Accuracies(inputs, labels).best, best, atol=0.02)
    assert (best > 0.95).all()


def test_trains_of_different_parts_and_members_differ():
    config = rsnn.Config(samples=64, held_out=64, members=2, batch_size=8)
    parts = [rsnn.trains(config, part)[0] for part in (rsnn.TRAIN, rsnn.VALIDATION, rsnn.TEST)]
    assert not (parts[0] == parts[1]).all()
    assert not (parts[1] == parts[2]).all()
    assert not (parts[0][:, 0] == parts[0][:, 1]).all()


def test_a_run_keeps_traces_for_its_pictures(tmp_path):
    done = zoo.launch("classification-rsnn", rsnn.Config(**rsnn.RECIPE.smoke), run=tmp_path / "run")
    assert len(done.result["accuracy"]) == 2
    assert [trace.name for trace in read_traces(RunFolder(tmp_path / "run"))] == ["input", "cell 0"]
    assert max(len(line) for line in done.lines) <= 80


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"active": 0.05}, "active=0.05"),
        ({"idle": 1.5}, "idle"),
        ({"batch_size": 10_000}, "10000"),
        ({"smoothing": 1.0}, "smoothing"),
    ],
)
def test_settings_of_the_classifier_out_of_range_are_named(settings, match):
    with pytest.raises(UsageError, match=match):
        rsnn.Config(**settings)
