"""`digits-lif`: its data, its four variants through the recipe's own door, and what they print."""

from __future__ import annotations

import dataclasses
import functools
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hardgrad as hg
from hardgrad import zoo
from hardgrad.core import Loss, MissingExtraError, UsageError
from hardgrad.spiking import latency
from hardgrad.training import EnsembleObjective, RunFolder, member
from hardgrad.zoo import _digits_data, digits_lif
from hardgrad.zoo._digits_conversion import converted
from hardgrad.zoo._digits_data import IMAGES, TEST, TRAIN, VALIDATION, moved
from hardgrad.zoo._digits_hybrid import EachMember, work
from hardgrad.zoo._spiking_traces import read_traces

VARIANTS = ("surrogate", "eprop", "conversion", "hybrid")


def tiny(variant="surrogate", **settings):
    return digits_lif.Config(**{**digits_lif.RECIPE.smoke, "variant": variant, **settings})


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """A smoke run of a variant, made once."""

    @functools.cache
    def run(variant):
        return zoo.launch("digits-lif", tiny(variant), run=tmp_path_factory.mktemp(variant) / "run")

    return run


# ---------------------------------------------------------------------------- data


@pytest.mark.parametrize("config", [digits_lif.Config(), tiny()])
def test_no_image_is_in_two_parts(config):
    digits = config.digits
    parts = [digits.rows(part) for part in (TRAIN, VALIDATION, TEST)]
    assert [len(rows) for rows in parts] == [config.train, config.validation, config.test]
    for i in range(config.members):
        every = np.concatenate([rows[:, i] for rows in parts])
        assert len(set(every.tolist())) == len(every) <= IMAGES
    assert not (parts[0][:, 0] == parts[0][:, 1]).all()
    alone = dataclasses.replace(config, seed=1, members=1).digits
    np.testing.assert_array_equal(alone.rows(TEST)[:, 0], digits.rows(TEST)[:, 1])


def test_moved_images():
    images = np.arange(3 * 64, dtype=np.float32).reshape(3, 64) + 1
    found = moved(images, np.array([[0, 0], [1, 0], [-1, 1]])).reshape(3, 8, 8)
    before = images.reshape(3, 8, 8)
    np.testing.assert_array_equal(found[0], before[0])
    np.testing.assert_array_equal(found[1][1:], before[1][:-1])
    np.testing.assert_array_equal(found[2][:-1, 1:], before[2][1:, :-1])
    assert (found[1][0] == 0).all()
    assert (found[2][-1] == 0).all()
    assert (found[2][:, 0] == 0).all()


def test_examples_are_spikes_at_the_rate_of_the_brightness():
    config = tiny("hybrid", train=64, draws=2, shifted=0.0)
    bits, labels = digits_lif.data(config)
    brightness, told = config.digits.pixels(TRAIN)
    assert bits.dtype == np.uint8
    assert bits.shape == (128, 4, 1, 64)  # two seeds in each of two arms
    np.testing.assert_array_equal(labels, np.tile(told, (2, 2)))
    np.testing.assert_array_equal(bits[:, :2], bits[:, 2:])
    rate = np.unpackbits(bits[:, 1], axis=1).mean(axis=1)
    assert set(rate[:64][brightness[:, 1] == 1.0]) == {1.0}
    assert set(rate[:64][brightness[:, 1] == 0.0]) == {0.0}
    np.testing.assert_allclose(rate.mean(), brightness[:, 1].mean(), atol=0.01)
    assert (rate[:64] != rate[64:]).any()
    shifted = config.digits.drawn(TRAIN, shifted=1.0)[0]
    assert 0.7 < np.mean((shifted != brightness).any(axis=2)) < 1.0  # one in nine stays


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    _digits_data.images.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install 'hardgrad\[data\]'"):
        zoo.launch("digits-lif", tiny(), run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"rate": 1.5}, "1.5"),
        ({"shifted": -0.1}, "-0.1"),
        ({"sigma": 0.0}, "sigma"),
        ({"smoothing": 1.0}, "smoothing must be at least 0 and below 1, got 1.0"),
        ({"train": 1500}, "test=360 are 2076 images; there are 1797"),
        ({"batch_size": 7000}, "7000 is more than the 6105"),
        ({"conversion_steps": (4, 0)}, r"\(4, 0\)"),
        ({"members": 0}, "members must be at least 1"),
        ({"fraction": -1.0}, "fraction must be at least 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, match):
    with pytest.raises(UsageError, match=match):
        digits_lif.Config(**settings)


# ---------------------------------------------------------------------------- runs


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_runs(variant, launched):
    done = launched(variant)
    assert done.result["variant"] == variant
    assert len(done.result["accuracy"]) == 2
    assert {"linear", "majority"} < set(done.result["accuracies"])
    assert min(done.result["accuracies"]["linear"]) > 0.8
    assert max(len(line) for line in done.lines) <= 80
    assert done.fit.best["metric"] == "val_accuracy"
    names = [trace.name for trace in read_traces(done.folder)]
    assert names == (["input", "hidden 1", "hidden 2"] if variant == "conversion" else ["input", "hidden"])


def test_two_arms_of_the_hybrid_are_told_apart(launched):
    done = launched("hybrid")
    last = done.fit.history[-1].metrics
    assert {"val_surrogate_accuracy", "val_hybrid_accuracy", "hybrid/cosine", "hybrid/blind"} <= set(last)
    assert last["hybrid/correction_fraction"] == pytest.approx(0.3, abs=1e-3)
    assert done.result["work"] == {"surrogate": 3, "hybrid": 6}
    # The surrogate's arm is the run of that variant, but for rounding.
    alone = launched("surrogate").fit.history[-1].metrics
    assert last["val_surrogate_accuracy"] == pytest.approx(alone["val_accuracy"], abs=0.05)
    text = " ".join(done.lines)
    assert "A step takes 6 evaluations to 3" in text


def test_the_conversion_ends_at_what_textbook_neurons_say(launched):
    done, config = launched("conversion"), tiny("conversion")
    moved_over = done.result["conversion"]
    assert moved_over["steps"] == (4, 8)
    assert done.result["accuracy"] == [row[-1] for row in moved_over["converted"]]
    (x, labels), train = config.digits.pixels(TEST), config.digits.pixels(TRAIN)[0]
    ensemble = done.fit.best_model
    for i, network in enumerate(converted(ensemble, train)):
        assert latency(network) == 2
        layers = [layer for layer in network.layers if hasattr(layer, "weight")]
        voltages = [np.full((len(x), layer.weight.shape[0]), 0.5, np.float32) for layer in layers[:-1]]
        total, spikes = np.zeros((len(x), 10)), 0
        for _ in range(8):
            sent = x[:, i]
            for layer, voltage in zip(layers, voltages, strict=False):
                voltage += sent @ np.asarray(layer.weight).T + np.asarray(layer.bias)
                sent = (voltage > 1.0).astype(np.float32)
                voltage -= sent
                spikes += sent.sum()
            total += sent @ np.asarray(layers[-1].weight).T + np.asarray(layers[-1].bias)
        assert np.mean(total.argmax(axis=1) == labels[:, i]) == pytest.approx(moved_over["converted"][i][-1], abs=0.02)
        # What the first layer sends while the second still waits for its last spikes comes on top.
        assert spikes / len(x) <= moved_over["spikes"][i][-1] * 1.001
        answers = jnp.argmax(jax.vmap(member(ensemble, i))(x[:, i]), axis=1)
        assert np.mean(labels[:, i] == answers) == pytest.approx(moved_over["source"][i])


def test_the_pictures(launched):
    over_time = "Accuracy of converted networks over time"
    for variant in ("surrogate", "conversion"):
        pictures = digits_lif.figures(RunFolder(launched(variant).folder.path))
        assert "Spikes of one sample" in pictures
        assert (over_time in pictures) == (variant == "conversion")
        assert ("Activity while training" in pictures) == (variant == "surrogate")


# ---------------------------------------------------------------------------- members by themselves


def test_each_member_is_estimated_as_if_it_were_alone():
    def squares(model, batch, controls, key):
        return jnp.mean((batch - model) ** 2), {"size": jnp.abs(model).sum()}

    params, batch = jax.random.normal(jax.random.key(1), (4, 3)), jax.random.normal(jax.random.key(2), (5, 4, 3))
    directions, key = hg.AntitheticNES(sigma=0.1, pairs=2), jax.random.key(3)
    each = EachMember({"plain": hg.Autodiff(), "drawn": directions})
    loss = Loss(EnsembleObjective(squares, own_data=True), None, batch, {}, key)
    found, _ = eqx.filter_jit(each.estimate)(loss, params, each.init(params), controls={}, key=key)

    @eqx.filter_jit
    def alone(estimator, i, own):
        return estimator.estimate(Loss(squares, None, batch[:, i], {}, own), params[i], (), controls={}, key=own)[0]

    keys = jax.random.split(key, 4)
    apart = [alone(hg.Autodiff() if i < 2 else directions, jnp.array(i), keys[i]) for i in range(4)]
    for i, one in enumerate(apart):
        np.testing.assert_allclose(4 * found.gradient[i], one.gradient, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.loss, np.mean([one.loss for one in apart]), rtol=1e-5)
    np.testing.assert_allclose(found.metrics["size"], np.mean([one.metrics["size"] for one in apart]), rtol=1e-5)
    slopes = [one.diagnostics["slope_spread"] for one in apart[2:]]
    np.testing.assert_allclose(found.diagnostics["drawn/slope_spread"], np.mean(slopes), rtol=1e-3)
    assert each.contract == directions.contract
    with pytest.raises(UsageError, match="4 members can't be 3 groups"):
        EachMember({name: hg.Autodiff() for name in "abc"}).init(params)
    with pytest.raises(UsageError, match="EnsembleObjective"):
        each.estimate(lambda p: (0.0, {}), params, each.init(params), controls={}, key=key)


def test_work_counts_a_backward_pass_as_two():
    assert work(digits_lif.Config(variant="hybrid", pairs=4)) == {"surrogate": 3, "hybrid": 12}
