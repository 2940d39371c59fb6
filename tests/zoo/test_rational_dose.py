"""`rational-dose`: its curves, the exact answer to them, its figures, and what its closing lines make of them."""

from __future__ import annotations

import dataclasses
import json
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardgrad.core import UsageError
from hardgrad.rational import lift_targets
from hardgrad.training import member
from hardgrad.zoo import _dose, rational_dose
from hardgrad.zoo._dose import ABOVE, ARMS, BELOW, IN_RANGE
from hardgrad.zoo._dose_arms import EMPHASIS
from hardgrad.zoo._dose_report import table_lines, verdict_lines
from hardgrad.zoo._launch import launch
from hardgrad.zoo._verdicts import compare

SIMULATOR = {"noise": 0.05, "flat_share": 0.1, "plateau": "low"}
TINY = rational_dose.Config(**rational_dose.RECIPE.smoke)


@pytest.fixture(scope="module")
def curves():
    return _dose.simulate(20_000, np.random.default_rng(7), **SIMULATOR)


def test_curves_have_the_published_statistics(curves):
    concentration, response = curves.features[:, 0::2], curves.features[:, 1::2]
    assert (concentration == np.linspace(-9, -5, 10)).all()
    shares = np.bincount(curves.regime) / len(curves.regime)
    np.testing.assert_allclose(shares, [0.3, 0.3, 0.4], atol=0.012)
    assert abs(curves.flat.mean() - 0.1) < 0.01
    assert (curves.regime[curves.flat] == ABOVE).all()
    flat, above = response[curves.flat], response[(curves.regime == ABOVE) & ~curves.flat]
    assert abs(flat.mean()) < 2e-3
    assert abs(flat.std() - math.hypot(0.05, 0.02)) < 1e-3
    assert above[:, 0].mean() > 0.99  # far below IC50 nothing is inhibited
    assert (np.diff(response[curves.regime == IN_RANGE].mean(axis=0)) < 0).all()


def test_labels_are_exact(curves):
    low, high = _dose.REGIMES[IN_RANGE]
    assert (curves.label[curves.regime == BELOW] == -np.inf).all()
    assert (curves.label[curves.regime == ABOVE] == np.inf).all()
    known = curves.label[curves.regime == IN_RANGE]
    assert low <= known.min() < low + 0.01
    assert high - 0.01 < known.max() <= high
    targets = lift_targets(curves.label)
    np.testing.assert_array_equal(IN_RANGE + targets.orientation, curves.regime)


def test_half_is_inhibited_at_the_ic50():
    share = _dose.uninhibited(_dose.CONCENTRATIONS[[4]][:, None], np.array([[1.2]]))
    assert share[0, 4] == 0.5
    np.testing.assert_allclose(share[0, 5] / (1 - share[0, 5]), 10 ** (-1.2 * 4 / 9))


def test_the_same_seed_gives_the_same_curves():
    first, again = (_dose.simulate(50, np.random.default_rng(3), **SIMULATOR) for _ in range(2))
    np.testing.assert_array_equal(first.features, again.features)


def test_the_exact_answer_reaches_the_published_ceiling_and_no_more(curves):
    part = dataclasses.replace(
        curves, **{name: getattr(curves, name)[:3000] for name in ("features", "label", "regime", "flat")}
    )
    answered = _dose.exact_answer(part.features, **SIMULATOR)
    found = _dose.judge(part, *answered)
    assert 0.89 < found["macro_f1"] < 0.92  # three flat curves in four cannot be told from those below
    assert found["false_in_range"] == found["false_censored"] == 0.0
    assert 0.04 < found["finite_mae"] < 0.05
    others = ~part.flat
    assert (_dose.classes(*answered[:2])[others] == part.regime[others]).mean() > 0.999


def test_the_exact_answer_tells_flat_curves_on_the_high_plateau():
    part = _dose.simulate(2000, np.random.default_rng(1), noise=0.05, plateau="high")
    answered = _dose.exact_answer(part.features, noise=0.05, flat_share=0.1, plateau="high")
    assert (_dose.classes(*answered[:2]) == part.regime).mean() > 0.999


def test_the_exact_answer_gives_the_posterior_median():
    """Against a sum over a fine grid with the plateaus drawn, not integrated."""
    rng = np.random.default_rng(0)
    noise = 0.1
    part = _dose.simulate(400, rng, noise=noise)
    curve = part.features[np.flatnonzero(part.regime == IN_RANGE)[:1]]
    *_, median = _dose.exact_answer(curve, noise=noise, flat_share=0.1, plateau="low")
    count = 400_000
    ic50, slope = rng.uniform(*_dose.REGIMES[IN_RANGE], count), rng.uniform(*_dose.SLOPES, count)
    bottom, top = rng.normal(0, 0.02, count), rng.normal(1, 0.02, count)
    mean = bottom[:, None] + (top - bottom)[:, None] * _dose.uninhibited(ic50[:, None], slope[:, None])
    weight = np.exp(-0.5 * np.square((curve[:, 1::2] - mean) / noise).sum(axis=1))
    order = np.argsort(ic50)
    upper = np.cumsum(weight[order])
    drawn = ic50[order][np.searchsorted(upper, upper[-1] / 2)]
    assert abs(median[0] - drawn) < 0.01


def test_figures_of_a_case_counted_by_hand():
    regime = np.array([BELOW, BELOW, BELOW, IN_RANGE, IN_RANGE, ABOVE, ABOVE, ABOVE])
    label = np.array([-np.inf, -np.inf, -np.inf, -7.0, -6.0, np.inf, np.inf, np.inf])
    curves = _dose.Curves(np.zeros((8, 20)), label, regime, np.zeros(8, bool))
    accepted = np.array([False, False, True, True, False, False, False, False])
    upward = np.array([False, True, False, True, False, True, True, True])
    value = np.array([0.0, 0.0, 0.0, -7.25, 9.0, 0.0, 0.0, 0.0])
    found = _dose.judge(curves, accepted, upward, value)
    # Answers: below, above, in range | in range, below | above, above, above.
    assert found["macro_f1"] == pytest.approx((2 / 5 + 1 / 2 + 6 / 7) / 3)
    assert found["direction_f1"] == pytest.approx((4 / 5 + 6 / 7) / 2)
    assert (found["false_in_range"], found["false_censored"], found["finite_mae"]) == (1 / 6, 1 / 2, 0.25)
    assert (found["accept_rate"], found["bottom_rate"]) == (0.25, 0.75)


def test_no_answer_in_range_has_no_error():
    curves = _dose.simulate(20, np.random.default_rng(0), noise=0.05)
    found = _dose.judge(curves, np.zeros(20, bool), np.zeros(20, bool), np.zeros(20))
    assert math.isnan(found["finite_mae"])
    assert found["false_censored"] == 1.0


def test_the_angular_loss_is_the_error_near_a_label_and_has_no_dead_point():
    labels = jnp.array([0.6, -0.3, jnp.inf, -jnp.inf])
    targets = lift_targets(labels)

    def loss(P, Q):
        return rational_dose.angular_loss((P, Q), targets)

    at_label = loss(2.0 * targets.numerator, 2.0 * targets.denominator)
    assert float(at_label) == pytest.approx(0.0, abs=1e-9)
    P, Q = jnp.array([0.65, -0.35, 1.0, -1.0]), jnp.array([1.0, 1.0, 0.0, 0.0])
    bottom = 0.01 * (1 + 0.6**2 + 1 + 0.3**2)  # squared up to 0.02 of the angle
    assert float(loss(P, Q)) == pytest.approx(EMPHASIS * (2 * 0.05 - bottom) / 4, rel=0.05)
    wrong_way = jax.grad(loss)(jnp.array([0.6, -0.3, -1.0, 1.0]), jnp.array([1.0, 1.0, 0.0, 0.0]))
    in_Q = jax.grad(loss, 1)(jnp.array([0.6, -0.3, -1.0, 1.0]), jnp.array([1.0, 1.0, 1e-3, 1e-3]))
    assert bool(jnp.isfinite(wrong_way).all())
    np.testing.assert_allclose(in_Q[2:], [-0.25, -0.25], rtol=1e-3)  # out over Q > 0, at full slope


def table(**macro_f1):
    """Figures that differ in macro-F1 only."""
    rest = ("direction_f1", "false_in_range", "false_censored", "finite_mae", "accept_rate", "gap_rate")
    return {
        name: {"macro_f1": macro_f1.get(name, [0.8, 0.8]), **{key: [0.5, 0.5] for key in rest}}
        for name in (*ARMS, "exact")
    }


def test_verdicts_follow_the_figures():
    ours = lambda values: verdict_lines(table(projective=values))[0]
    assert "beats" in ours([0.9, 0.91])
    assert "loses to" in ours([0.7, 0.71])
    assert "no arm differs" in ours([0.7, 0.92])  # within the spread of the differences
    assert "loses to the best other, two stages" in verdict_lines(table(two_stage=[0.9, 0.91]))[0]
    assert all("no arm differs" in line for line in verdict_lines(table())[:5])
    lines = table_lines(table())
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("two stages") for line in lines) == 2


def test_comparison_is_by_seed():
    assert compare([0.1, 0.5, 0.9], [0.2, 0.6, 1.0], 1.0) == "beats"  # by 0.1 on every seed
    assert compare([0.1, 0.5, 0.9], [0.2, 0.6, 1.0], -1.0) == "loses to"
    assert compare([0.1, 0.5], [0.1, 0.5], 1.0) == "ties with"
    assert compare([0.3], [0.2], 1.0) == "can't be told from"
    assert compare([math.nan], [0.2], 1.0) == "can't be compared with"


def test_a_score_that_separates_nothing_gets_no_threshold():
    regime = np.tile([BELOW, IN_RANGE, ABOVE], 50)
    tau_infer, tau_train, refusal = rational_dose.thresholds(TINY, np.ones(150, np.float32), regime)
    assert (tau_infer, tau_train) == (0.0, 0.0)
    assert refusal
    score = np.where(regime == IN_RANGE, np.linspace(0.8, 0.9, 150), 0.1).astype(np.float32)
    tau_infer, tau_train, refusal = rational_dose.thresholds(TINY, score, regime)
    assert 0.1 < tau_infer < 0.8
    assert tau_infer <= tau_train
    assert not refusal


def test_members_have_their_own_curves_and_start():
    x, targets = rational_dose.data(TINY)
    assert x.shape == (TINY.samples, TINY.members, 20)
    assert targets.numerator.shape == (TINY.samples, TINY.members)
    assert not np.array_equal(x[:, 0], x[:, 1])
    np.testing.assert_allclose(x[..., 1::2].mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(x[..., 1::2].std(axis=0), 1.0, atol=1e-5)
    np.testing.assert_allclose(x[..., 0::2], 0.0, atol=1e-9)
    alone = rational_dose.build(dataclasses.replace(TINY, seed=TINY.seed + 1, members=1))
    for name, ensemble in rational_dose.build(TINY).items():
        first, second = (eqx.filter(one, eqx.is_array) for one in (member(alone[name], 0), member(ensemble, 1)))
        assert eqx.tree_equal(first, second)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"noise": 0.0}, "noise must be above 0"),
        ({"flat_share": 1.0}, "flat_share lies between"),
        ({"batch_size": 30_000}, "more than the 20000 samples"),
        ({"members": 0}, "members must be at least 1"),
    ],
)
def test_wrong_settings_are_named(settings, said):
    with pytest.raises(UsageError, match=said):
        rational_dose.Config(**settings)


@pytest.fixture(scope="module")
def smallest(tmp_path_factory):
    """A run, its config and its trained model."""
    out = tmp_path_factory.mktemp("dose") / "run"
    done = launch("rational-dose", TINY, run=out)
    return done, done.fit.model


def test_a_shipped_decision_is_the_one_that_was_judged(smallest):
    done, model = smallest
    ship = rational_dose.exportable(done.folder, TINY, model)
    test = rational_dose.samples(TINY, rational_dose.TEST)
    scale = rational_dose.Scale.of(rational_dose.samples(TINY, rational_dose.TRAIN))
    judged = rational_dose.answer(model["projective"], scale(test))
    accepted = judged.score[0] >= done.result["arms"]["projective"]["tau_infer"][0]
    shipped = {name: np.asarray(value) for name, value in ship.function(test[0].features.astype(np.float32)).items()}
    doubtful = np.abs(judged.score[0] - ship.metadata["tau_infer"]) < 1e-5  # other roundings may decide otherwise
    expected = np.where(accepted, IN_RANGE, np.where(judged.upward[0], ABOVE, BELOW))
    np.testing.assert_array_equal(shipped["class_id"][~doubtful], expected[~doubtful])
    np.testing.assert_array_equal(np.isnan(shipped["log10_ic50"]), shipped["bottom_mask"])
    known = accepted & ~doubtful
    np.testing.assert_allclose(shipped["log10_ic50"][known], judged.value[0][known], rtol=1e-4)
    edge = {name: np.asarray(value) for name, value in ship.function(ship.edge_rows["features"]).items()}
    assert edge["bottom_mask"][:3].all()
    assert edge["fault_mask"][0]


def test_what_a_run_keeps(smallest):
    done, _ = smallest
    assert "By macro-F1" in "".join(done.lines)
    result = json.loads(done.folder.result_path.read_text())
    assert result["seeds"] == TINY.seeds
    for name in (*ARMS, "exact"):
        found = result["arms"][name]
        assert all(len(values) == TINY.members for values in found.values())
        assert np.sum(result["confusion"][name]) == TINY.members * TINY.test
        np.testing.assert_allclose(np.add(found["accept_rate"], found["bottom_rate"]), 1.0)
    assert result["arms"]["two_stage"]["macro_f1"][0] > 0.8
    assert sum(map(sum, result["angles"]["counts"].values())) == TINY.test
    pictures = rational_dose.figures(done.folder)
    assert len(pictures) == 3
    assert max(map(len, done.lines)) <= 80
