"""The recipe rational-pole: its data, its figures and its verdicts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hardgrad as hg
from hardgrad.rational import calibrate
from hardgrad.zoo import find, launch
from hardgrad.zoo import rational_pole as recipe


def test_poles_lie_exactly_where_they_are_labelled() -> None:
    x, y = recipe.samples(recipe.Config(samples=2000, members=2), recipe.TRAIN)
    assert x.shape == (2000, 2, 2)
    assert y.dtype == np.float32
    pole = np.isposinf(y)
    np.testing.assert_array_equal(pole, x[..., 0] == x[..., 1])
    assert 0.03 < pole.mean() < 0.07
    np.testing.assert_allclose(y[~pole], 1.0 / (x[..., 0] - x[..., 1])[~pole], rtol=1e-5)


def test_members_and_parts_have_samples_of_their_own() -> None:
    alone = recipe.samples(recipe.Config(samples=300, members=1, seed=1), recipe.TEST)[0]
    second = recipe.samples(recipe.Config(samples=300, members=2), recipe.TEST)[0][:, 1:]
    np.testing.assert_array_equal(alone, second)
    assert not np.array_equal(alone, recipe.samples(recipe.Config(samples=300, members=1, seed=1), recipe.CALIBRATE)[0])


@pytest.mark.parametrize("name", ["rational-pole", "rational-arm", "rational-dose", "rational-filter", "digits-lif"])
def test_no_two_seeds_share_a_member(name: str) -> None:
    config = find(name).load().config
    seeds = [one for seed in range(4) for one in config(seed=seed, members=3).seeds]
    assert sorted(seeds) == list(range(12))


def test_a_perfect_answer_has_perfect_figures() -> None:
    x, y = recipe.samples(recipe.Config(samples=4000, members=1, float64=True), recipe.TEST)
    P, Q = np.ones(4000), x[:, 0, 0] - x[:, 0, 1]
    score = np.abs(Q) / np.hypot(P, Q)
    with np.errstate(divide="ignore"):
        perfect = recipe.Answer((P / Q)[None], score[None], (P > 0)[None])
    calibration = calibrate(score, np.isinf(y[:, 0]), false_rejection_rate=0.01)
    figures = recipe.judge(perfect, 0, y[:, 0], calibration)
    assert figures["relative_error"] < 1e-12
    assert figures["poles_rejected"] == 1.0
    assert figures["wrong_side"] == 0.0
    assert 0.005 < figures["false_rejection"] <= 0.01
    turned = dataclasses.replace(perfect, upward=~perfect.upward)
    assert recipe.judge(turned, 0, y[:, 0], calibration)["wrong_side"] == 1.0


@pytest.mark.parametrize(("rival", "word"), [(0.05, "beats"), (0.0105, "ties with"), (0.001, "loses to")])
def test_the_verdict_follows_the_figures(rival: float, word: str) -> None:
    def arm(error: float) -> dict[str, Any]:
        return {"relative_error": [error, error + 0.001], "poles_rejected": [0.5, 0.5]}

    figures = {name: arm(0.01 if name == "projective" else 1.0) for name in recipe.ARMS}
    figures["perceptron"] = {**arm(rival), "relative_error": [rival + 0.001, rival]}
    first, second = recipe._verdict(figures)
    assert f"projective {word} the best other, perceptron" in first
    assert "ties with" in second


def test_a_short_run_trains_every_arm(tmp_path: Path) -> None:
    config = dataclasses.replace(recipe.Config(), **recipe.RECIPE.smoke)
    done = launch("rational-pole", config, run=tmp_path / "run")
    assert set(done.result["arms"]) == set(recipe.ARMS)
    first, last = done.fit.history[0].metrics, done.fit.history[-1].metrics
    for name in recipe.ARMS:
        assert last[f"{name}_loss"] < first[f"{name}_loss"]
        assert all(np.isfinite(done.result["arms"][name]["relative_error"]))
    assert all(len(line) <= 80 for line in done.lines)
    assert "Held-out samples" in next(iter(recipe.RECIPE.figures(done.folder)))


def test_settings_out_of_range() -> None:
    with pytest.raises(hg.UsageError, match="more than the 64 samples"):
        recipe.Config(samples=64)
    with pytest.raises(hg.UsageError, match="pole_share"):
        recipe.Config(pole_share=1.5)
