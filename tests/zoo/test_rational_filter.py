"""`rational-filter`: its filters, where their peaks are, its arms, its figures and its verdicts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hardgrad as hg
from hardgrad.export import export_bundle
from hardgrad.rational import Projective, lift_targets
from hardgrad.training import member
from hardgrad.zoo import _filter, launch
from hardgrad.zoo import rational_filter as recipe
from hardgrad.zoo._filter import Filters
from hardgrad.zoo._filter_report import ARMS, table_lines, verdict_lines

TINY = recipe.Config(**recipe.RECIPE.smoke)


def one(natural: float, quality: float, frequency: Any) -> Filters:
    return Filters(np.log([[natural, quality]]), np.log(np.atleast_2d(frequency)))


def exact(filters: Filters) -> Projective:
    """The true gain as a tuple (|B|, |A|)."""
    natural, quality = (jnp.exp(filters.parameters[:, i, None]) for i in range(2))
    omega = jnp.exp(filters.frequency)
    below = jnp.hypot(natural**2 - omega**2, natural / quality * omega)
    return Projective(jnp.broadcast_to(natural**2, below.shape), below)


def test_the_gain_is_that_of_the_transfer_function() -> None:
    omega = np.array([0.1, 0.9, 2.0, 7.0])
    s, natural, quality = 1j * omega, 2.0, 12.5
    expected = np.abs(natural**2 / (s**2 + natural / quality * s + natural**2))
    np.testing.assert_allclose(_filter.gain(one(natural, quality, omega))[0], expected, rtol=1e-12)
    assert _filter.gain(one(natural, quality, natural))[0, 0] == pytest.approx(quality)


@pytest.mark.parametrize("quality", [2.0, 30.0, 500.0])
def test_the_true_peak_is_the_largest_gain(quality: float) -> None:
    height, where = _filter.true_peak(np.log([[3.0, quality]]))
    omega = np.exp(where + np.linspace(-1e-3, 1e-3, 20_001))
    found = _filter.gain(one(3.0, quality, omega))[0]
    assert np.log(found.max()) == pytest.approx(height[0], abs=1e-9)
    assert omega[found.argmax()] == pytest.approx(np.exp(where[0]), rel=2e-7)


def test_filters_are_drawn_from_the_published_ranges() -> None:
    filters = _filter.simulate(4000, 3, 30.0, np.random.default_rng(0))
    natural, quality = np.exp(filters.parameters).T
    assert 0.5 <= natural.min() < 0.51
    assert 4.9 < natural.max() <= 5.0
    assert 2.0 <= quality.min() < 2.02
    assert 29.5 < quality.max() <= 30.0
    assert abs(np.median(quality) / np.sqrt(60.0) - 1) < 0.05  # even in the logarithm
    np.testing.assert_allclose(np.exp(filters.frequency).min(), 0.1, rtol=1e-3)
    np.testing.assert_allclose(np.exp(filters.frequency).max(), 10.0, rtol=1e-3)


@pytest.mark.usefixtures("x64")
def test_the_search_finds_the_narrowest_peak() -> None:
    parameters = np.log([[0.5, 500.0], [2.3456, 500.0], [4.9, 2.0]])
    height, where = _filter.highest_point(exact, jnp.asarray(parameters))
    true_height, true_where = _filter.true_peak(parameters)
    np.testing.assert_allclose(height, true_height, atol=1e-5)
    np.testing.assert_allclose(where, true_where, atol=5e-5)


def test_forms_of_the_coefficients() -> None:
    frequency = np.log(np.array([[0.5, 2.0]], np.float32))
    filters = Filters(np.zeros((1, 2), np.float32), frequency)
    s = 1j * np.exp(frequency[0])

    def outputs(form: Any, *z: float) -> Projective:
        return _filter.Transfer(lambda x: jnp.asarray([z], jnp.float32), form)(filters)

    P, Q = outputs("signed", 0.5, -0.2, 0.3, 0.0, 0.1, 0.2)
    np.testing.assert_allclose(Q[0], np.abs(1.5 - 0.2 * s + 0.3 * s**2), rtol=1e-6)
    np.testing.assert_allclose(P[0], np.abs(1.0 + 0.1 * s + 0.2 * s**2), rtol=1e-6)
    P, Q = outputs("positive", 0.0, -1.0, 0.5, 1.0, -9.0, -9.0)
    np.testing.assert_allclose(Q[0], np.abs(1.0 + np.exp(-1) * s + np.exp(0.5) * s**2), rtol=1e-6)
    np.testing.assert_allclose(P[0], np.abs(np.e + np.exp(-9) * (s + s**2)), rtol=1e-6)
    P, Q = outputs("published", 0.0, 0.0, 0.0)
    np.testing.assert_allclose(P[0], 1.0)
    np.testing.assert_allclose(Q[0], np.log(2) * np.abs(1 + s + s**2), rtol=1e-6)


def test_power_laws_contain_the_filter() -> None:
    """With the exponents that theory gives, ``powers`` is the true gain at any Q: its win is by construction."""
    laws = _filter.PowerLaws(6)
    centre, half = _filter._CENTRE, _filter._HALF
    exponents = np.array([[2.0, 1.0, 0.0, 2.0, 0.0, 0.0], [0.0, -1.0, 0.0, 0.0, 0.0, 0.0]])
    start = np.array([0.0, 0.0, 0.0, 0.0, -60.0, -60.0])
    weight, bias = exponents * half[:, None], centre @ exponents + start
    known = (jnp.asarray(weight, jnp.float32), jnp.asarray(bias, jnp.float32))
    laws = eqx.tree_at(lambda laws: (laws.weight, laws.bias), laws, known)
    filters = one(3.0, 400.0, [0.2, 2.9, 3.0, 8.0])
    found = _filter.log_gain(_filter.Transfer(laws, "positive"), Filters(*(a.astype(np.float32) for a in filters)))
    np.testing.assert_allclose(found, np.log(_filter.gain(filters)), atol=1e-3)


def test_the_loss_is_the_mean_square_of_the_log_ratio_in_any_gauge() -> None:
    P, Q = jnp.array([[2.0, 3.0]]), jnp.array([[1.0, 2.0]])
    targets = lift_targets(jnp.array([[1.0, 3.0]]))
    expected = (np.log(2.0) ** 2 + np.log(0.5) ** 2) / 2
    assert float(_filter.log_ratio_loss((P, Q), targets)) == pytest.approx(expected)
    assert float(_filter.log_ratio_loss((1e-3 * P, 1e-3 * Q), targets)) == pytest.approx(expected, rel=1e-5)


def test_figures_of_a_case_counted_by_hand() -> None:
    parameters = np.log([[1.0, 10.0]] * 5)
    true_height, true_where = _filter.true_peak(parameters)
    ratio = np.array([1.0, 0.95, 1.5, 0.5, 1.05])
    shift = np.array([0.0, 0.05, 0.0, 0.2, -0.3])
    found = recipe.judge(true_height + np.log(ratio), true_where + shift, np.full((5, 4), 0.1), parameters)
    assert found["kept"] == pytest.approx(0.8)  # 1.5 counts, as published
    assert found["within"] == pytest.approx(0.6)  # and here it does not
    assert found["false_peaks"] == pytest.approx(0.4)
    assert found["shift"] == pytest.approx(0.5)  # in widths of the resonance
    assert found["log_error"] == pytest.approx(0.01)
    broken = recipe.judge(*(np.full(5, np.nan) for _ in range(2)), np.zeros((5, 4)), parameters)
    assert (broken["kept"], broken["within"], broken["false_peaks"]) == (0.0, 0.0, 1.0)


def table(**within: list[float]) -> dict[str, Any]:
    """Figures that differ in one share, inside and beyond."""
    rest = {"kept": [0.5, 0.5], "false_peaks": [0.0, 0.0], "shift": [1.0, 1.0], "log_error": [1e-3, 1e-3]}
    return {
        name: {part: {**rest, "within": within.get(name, [0.5, 0.5])} for part in ("inside", "beyond")} for name in ARMS
    }


def test_verdicts_follow_the_figures() -> None:
    lines = verdict_lines(table(powers=[0.9, 1.0], signed=[0.1, 0.2]))
    assert "Peaks kept, inside: powers ties with signed (0 of 2 seeds higher, 0 lower)." in lines
    assert "Within 10 %, beyond: powers beats signed (2 of 2 seeds higher, 0 lower)." in lines
    assert "  signed 15 %, 15 %;  positive 50 %, 50 %;  powers 95 %, 95 %" in lines
    lost = verdict_lines(table(powers=[0.1, 0.2]))
    assert "Within 10 %, beyond: powers loses to published." in lost
    assert lost[-1] == "The loss: beyond, powers loses to implicit."
    wide = table(powers=[1.0, 1.0], signed=[0.0, 1.0])
    assert max(len(line) for line in (*table_lines(wide), *lines, *lost)) <= 80


def test_members_have_filters_of_their_own() -> None:
    filters, gains = recipe.samples(TINY, recipe.TRAIN)
    assert filters.parameters.shape == (TINY.filters, TINY.members, 2)
    assert gains.shape == filters.frequency.shape == (TINY.filters, TINY.members, TINY.points)
    alone, _ = recipe.samples(dataclasses.replace(TINY, seed=1, members=1), recipe.TRAIN)
    np.testing.assert_array_equal(alone.parameters[:, 0], filters.parameters[:, 1])
    assert np.exp(filters.parameters[..., 1]).max() <= 30.01
    assert np.exp(recipe.samples(TINY, recipe.TEST)[0].parameters[..., 1]).max() > 100


def test_settings_out_of_range() -> None:
    with pytest.raises(hg.UsageError, match="points must be at least 1"):
        recipe.Config(points=0)


def test_a_short_run_trains_every_arm_and_ships_one(tmp_path: Path) -> None:
    done = launch("rational-filter", TINY, run=tmp_path / "run")
    first, last = done.fit.history[0].metrics, done.fit.history[-1].metrics
    for name in ARMS:
        assert last[f"{name}_loss"] < first[f"{name}_loss"]
        for part in ("inside", "beyond"):
            assert len(done.result["arms"][name][part]["kept"]) == TINY.members
    assert all(len(line) <= 80 for line in done.lines)
    assert len(recipe.RECIPE.figures(done.folder)) == 2

    ship = recipe.exportable(done.folder, TINY, done.fit.model)
    export_bundle(ship, tmp_path / "bundle")  # checks the bundle against the function, edge rows among them
    rows = np.asarray(ship.inputs["logarithms"])
    found = jax.jit(ship.function)(rows)
    natural = rows * np.float32(np.log(10.0))
    expected = _filter.log_gain(member(done.fit.model["powers"], 0), Filters(natural[:, 1:], natural[:, :1]))
    np.testing.assert_allclose(found["gain"], np.exp(expected[:, 0]), rtol=1e-4)
    assert not np.asarray(found["bottom_mask"]).any()
