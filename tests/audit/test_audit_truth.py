"""Audits where the truth is known."""

from __future__ import annotations

import json
import math
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import hardgrad as hg
from hardgrad.audit import AuditCase, audit
from hardgrad.core import AbstractEstimator, Contract, Estimate, Order, UsageError, dumps

SMALL = {"directions": 64, "estimates": 8, "rows": 0}


class Bent(AbstractEstimator):
    """The true gradient turned and stretched by a matrix, with noise of a known size."""

    matrix: jax.Array
    noise: float = eqx.field(static=True, default=0.0)

    @property
    def contract(self):
        return Contract(Order.ONE, needs_key=self.noise > 0, fixed_evaluations=1, backward_passes=1)

    def init(self, params):
        return ()

    def estimate(self, loss_fn, params, state, *, controls, key):
        (loss, metrics), gradient = jax.value_and_grad(loss_fn, has_aux=True)(params)
        bent = self.matrix @ gradient + self.noise * jax.random.normal(key, params.shape, params.dtype)
        return Estimate(loss, bent, metrics, {}), state


def quadratic(model, batch, controls, key):
    matrix, at = batch
    return 0.5 * model @ matrix @ model - at @ model, {}


def bowl(size, seed=0):
    rng = np.random.default_rng(seed)
    half = rng.normal(size=(size, size)) / math.sqrt(size)
    return rng.normal(size=size), (half @ half.T + np.eye(size), rng.normal(size=size))


def holds(figure, truth, *, dust=1e-6):
    """Whether an interval has the truth in it."""
    return figure.low - dust <= truth <= figure.high + dust


def verdict(found, about):
    return next(one for one in found.verdicts if one.about == about)


def test_a_quadratic_averaged_over_a_ball_has_its_own_gradient(x64):
    model, batch = bowl(12)
    found = audit(jnp.asarray(model), quadratic, jax.tree.map(jnp.asarray, batch), **SMALL)
    for one in found.agreements:
        assert one.state == "judged"
        assert one.cosine.value == pytest.approx(1.0, abs=1e-9)
        assert one.norm_ratio.value == pytest.approx(1.0, abs=1e-9)
        assert one.bias.value < 1e-6
        assert one.linear.value == pytest.approx(1.0, abs=1e-9)
        assert one.slope.value == pytest.approx(np.linalg.norm(batch[0] @ model - batch[1]), rel=1e-9)
    assert verdict(found, "trust").level == "good"
    assert found.verdicts[0].text.startswith("Trust it:")
    assert found.batches.quiet  # one batch, and no random number


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_a_gradient_turned_and_stretched_by_known_amounts(noise):
    size, turn, stretch = 12, 1.1, 1.6
    model, batch = bowl(size)
    gradient = batch[0] @ model - batch[1]
    across = np.linalg.qr(np.stack([gradient, np.ones(size)], axis=1))[0][:, 1]
    unit = gradient / np.linalg.norm(gradient)
    # Takes the gradient to one of `stretch` its length, at the angle `turn`.
    matrix = stretch * np.outer(math.cos(turn) * unit + math.sin(turn) * across, unit)
    estimator = Bent(jnp.asarray(matrix, jnp.float32), noise)
    data = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), batch)
    model = jnp.asarray(model, jnp.float32)
    found = audit(model, quadratic, data, estimator=estimator, directions=256, estimates=32, radii=(0.01, 0.1), rows=0)
    bias = math.sqrt(1 + stretch**2 - 2 * stretch * math.cos(turn))
    for one in found.agreements:
        for figure, truth in ((one.cosine, math.cos(turn)), (one.norm_ratio, stretch), (one.bias, bias)):
            # Twice the interval: how often the interval itself holds the truth is simulated elsewhere.
            assert holds(figure, truth, dust=max(1e-3, (figure.high - figure.low) / 2))
        assert one.cosine.high - one.cosine.low < 0.6
    assert "points" in found.verdicts[0].text or "may be right" in found.verdicts[0].text
    if noise:
        truth = stretch * np.linalg.norm(gradient) / (noise * math.sqrt(size))
        assert holds(found.own.signal_to_noise, truth)
    else:
        assert found.own is None


@jax.custom_jvp
def step(x):
    """1 above 0; as a surrogate its derivative is 1."""
    return (x > 0).astype(x.dtype)


step.defjvp(lambda primals, tangents: (step(*primals), tangents[0]))


def test_a_step_averaged_over_a_ball_has_the_slope_of_the_closed_form():
    size, away, radius = 4, 0.3, 0.5
    normal = np.ones(size, np.float32) / 2.0
    model = jnp.full(size, 0.5)  # of norm 1, so that the radius is a distance
    crossed = lambda model, batch, controls, key: (step(jnp.sum(batch * model) - 1.0 + away), {})
    at = 1.0 - away

    def slope(radius):
        """n-ball marginal density at the plane, over the radius."""
        shape = scipy.special.gamma(size / 2 + 1) / (math.sqrt(math.pi) * scipy.special.gamma((size + 1) / 2))
        return shape * max(0.0, 1 - (away / radius) ** 2) ** ((size - 1) / 2) / radius

    assert at == pytest.approx(0.7)
    found = audit(model, crossed, jnp.asarray(normal), radii=(0.1, radius), directions=1024, rows=0)
    near, far = found.agreements
    assert near.state == "flat"  # the ball does not reach the step
    assert holds(far.slope, slope(radius))
    assert far.slope.high - far.slope.low < slope(radius)
    # The surrogate points the right way, with the length 1 of its derivative.
    assert holds(far.cosine, 1.0)
    assert holds(far.norm_ratio, 1.0 / slope(radius))
    assert far.linear.high < 0.9  # a step is no line


def turning(rate):
    """|x| after `horizon` turns of an oscillator that grows by `rate` a turn: d/d(rate) has the norm T rate^(T-1)."""

    def objective(model, batch, controls, key):
        turn = jnp.array([[math.cos(0.7), -math.sin(0.7)], [math.sin(0.7), math.cos(0.7)]])

        def move(x, _):
            return model * turn @ x, None

        x, _ = jax.lax.scan(move, batch, None, length=controls["horizon"])
        return jnp.sqrt(jnp.sum(x**2)), {}

    return AuditCase(jnp.array([rate]), objective, jnp.array([1.0, 0.0]), controls={"horizon": 4})


@pytest.mark.parametrize(("rate", "law"), [(1.0, "linear"), (1.3, "exponential")])
def test_a_linear_oscillator_s_gradient_grows_as_it_must(rate, law):
    case, values = turning(rate), [4, 8, 16, 32]
    found = audit(case.model, case.objective, case.data, controls=case.controls, growth=("horizon", values), **SMALL)
    assert found.growth.median == pytest.approx([t * rate ** (t - 1) for t in values], rel=1e-4)
    assert found.growth.law == law
    assert verdict(found, "growth").level == ("bad" if law == "exponential" else "good")
    if law == "exponential":
        assert "Horizon" in verdict(found, "growth").next
        assert found.verdicts[0].level != "good"


def test_rows_at_a_pole_carry_the_norm():
    def objective(model, batch, controls, key):
        return jnp.mean(1.0 / (batch * model[0]) ** 2), {}

    x = jnp.array([1e-3, *np.linspace(0.8, 1.2, 31)], jnp.float32)
    feed = hg.InMemory(x, batch_size=32, shuffle=False)
    found = audit(jnp.array([1.0]), objective, feed, directions=32, estimates=2)
    norms = np.sort(2.0 / np.asarray(x, float) ** 2)[::-1]
    assert found.rows.norms == pytest.approx(norms, rel=1e-4)
    assert found.rows.half == 1 / 32
    assert verdict(found, "rows").level == "warn"
    assert "clip_by_global_norm" in verdict(found, "rows").next


def test_parameters_the_gradient_does_not_see_though_the_loss_does():
    def objective(model, batch, controls, key):
        return jnp.sum((jnp.round(8 * model["delay"]) / 8 - batch) ** 2) + jnp.sum(model["gain"] ** 2), {}

    model = {"delay": jnp.linspace(0.1, 1.0, 5), "gain": jnp.ones(3)}
    found = audit(model, objective, jnp.full(5, 3.0), **SMALL)
    assert found.blind.share == 5 / 8
    assert found.blind.whole == ("delay",)
    assert found.blind.responds
    assert verdict(found, "blind").level == "warn"
    assert verdict(found, "blind").next.startswith('Blocks({"delay": AntitheticNES(')
    # What nothing depends on is no fault of the gradient.
    idle = audit(model, lambda m, b, c, k: (jnp.sum(m["gain"] ** 2), {}), jnp.ones(1), **SMALL)
    assert not idle.blind.responds
    assert verdict(idle, "blind").level == "note"


def test_no_gradient_at_all_where_the_loss_moves():
    found = audit(jnp.ones(6), lambda m, b, c, k: (jnp.sum(jnp.round(9 * m + b)), {}), jnp.full(6, 0.4), **SMALL)
    assert found.verdicts[0].level == "bad"
    assert "exactly 0 everywhere" in found.verdicts[0].text


def test_rounding_that_drowns_the_slope_is_said_and_not_judged():
    objective = lambda model, batch, controls, key: (jnp.sum(jnp.sin(model)) + batch, {})
    found = audit(jnp.ones(8), objective, jnp.array(1e5), radii=(1e-4, 1e-3, 0.5), **SMALL)
    assert [one.state for one in found.agreements] == ["flat", "rounding", "judged"]
    assert "rounding" in verdict(found, "scale").text
    sharp = audit(jnp.ones(8), objective, jnp.array(1.0), radii=(1e-3, 0.1), **SMALL)
    assert all(one.judged and one.rounding < 1e-3 for one in sharp.agreements)


def test_a_gradient_that_is_not_finite():
    objective = lambda model, batch, controls, key: (jnp.sum(jnp.sqrt(jnp.abs(model * batch))), {})
    found = audit(jnp.array([0.0, 1.0]), objective, jnp.ones(2), **SMALL)
    assert found.verdicts[0].about == "non-finite"
    assert found.non_finite == 0.5
    dumps(found.as_json())


def counted(calls):
    def predict(model, x):
        calls.append(1)
        return np.float32(np.sum((model - x) ** 2))

    return hg.BlackBox(predict, np.linspace(0.0, 1.0, 3, dtype=np.float32))


def test_a_black_box_has_no_derivative_and_what_to_use_is_said_by_size():
    objective = lambda model, batch, controls, key: (model(batch), {})
    found = audit(counted([]), objective, jnp.ones(3), **SMALL)
    assert found.no_derivative.startswith("the black box")
    assert found.verdicts[0].next.startswith("EvolutionMethod(CMAES(")
    assert "else CentralDifference(" in found.verdicts[0].next  # it is smooth
    slope = 2 * np.linalg.norm(np.linspace(0.0, 1.0, 3) - 1)
    assert found.agreements[-1].slope.value == pytest.approx(slope, rel=1e-3)
    assert max(map(len, found.lines())) <= 80
    large = hg.BlackBox(lambda m, x: np.float32(np.sum((m - x) ** 2)), np.ones(500, np.float32))
    found = audit(large, objective, jnp.zeros(500), directions=16, rows=0)
    assert found.verdicts[0].next.startswith("EvolutionMethod(OpenES(")
    assert "AntitheticNES" in found.verdicts[0].next


def test_a_callback_must_say_how_it_takes_many_parameters():
    def objective_by(method):
        def objective(model, batch, controls, key):
            host = lambda x: np.float32(np.sum(np.asarray(x) ** 2))
            return jax.pure_callback(host, jax.ShapeDtypeStruct((), jnp.float32), model, vmap_method=method), {}

        return objective

    with pytest.raises(UsageError, match=r"many parameters at once, and this one can't be: .*hardgrad\.BlackBox"):
        audit(jnp.ones(3), objective_by(None), jnp.ones(1), **SMALL)
    found = audit(jnp.ones(3), objective_by("sequential"), jnp.ones(1), **SMALL)
    assert "Pure callbacks do not support JVP" in found.no_derivative


def test_a_derivative_jax_refuses_is_no_derivative():
    def objective(model, batch, controls, key):
        return jax.lax.while_loop(lambda x: x < 10.0, lambda x: 2 * x, jnp.sum(model**2)), {}

    found = audit(jnp.ones(3), objective, jnp.ones(1), **SMALL)
    assert "Reverse-mode differentiation" in found.no_derivative
    assert found.verdicts[0].level == "bad"


def test_evaluations_are_those_that_are_made_and_bounded():
    calls = []
    objective = lambda model, batch, controls, key: (model(batch), {})
    box = counted(calls)
    data = jnp.linspace(2.0, 3.0, 8)  # of one value a batch: XLA calls a pure function once for what is the same
    estimator = hg.CentralDifference(1e-2)
    found = audit(box, objective, data, batch_size=1, estimator=estimator, evaluations=600)
    assert len(calls) == found.evaluations <= 600
    assert found.directions < 256
    with pytest.raises(UsageError, match=r"costs 7 evaluations: 100 are too few .* Allow 1364 \(evaluations="):
        audit(box, objective, data, batch_size=1, estimator=estimator, evaluations=100)


def test_the_result_is_json_and_its_page_fits_the_screen():
    model, batch = bowl(5)
    data = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32)[None].repeat(64, 0), batch)

    def objective(model, batch, controls, key):
        return jnp.mean(jax.vmap(lambda one: quadratic(model, one, {}, key)[0])(batch)), {"silent_units": 0.5}

    estimator = hg.SPSA(0.1, directions=2)
    given = {"batch_size": 16, "estimator": estimator, "directions": 64, "rows": 8, "controls": {"learning_rate": 0.02}}
    found = audit(jnp.asarray(model, jnp.float32), objective, data, **given)
    content = json.loads(dumps(found.as_json()))
    assert (content["schema"], content["parameters"], content["estimator"]) == ("hardgrad.audit", 5, "SPSA")
    assert content["agreements"][0]["cosine"]["value"] == found.agreements[0].cosine.value
    assert max(map(len, found.lines())) <= 80
    assert verdict(found, "activity").level == "note"
    (step,) = re.findall(r"about its rate:\s+here by 0.02, a radius of ([\d.]+)", "\n".join(found.lines()))
    assert float(step) == pytest.approx(0.02 * math.sqrt(5) / np.linalg.norm(model), rel=0.25)  # every number by 0.02
    again = audit(jnp.asarray(model, jnp.float32), objective, data, **given)
    assert {**again.as_json(), "seconds": 0} == {**found.as_json(), "seconds": 0}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"radii": (0.1,)}, "two or more different numbers above 0"),
        ({"radii": (0.1, -1.0)}, "two or more different numbers above 0"),
        ({"directions": 4}, "directions must be a whole number, at least 16"),
        ({"estimates": 1}, "estimates must be a whole number, at least 2"),
        ({"estimator": hg.Autodiff}, r"Autodiff\(\)"),
        ({"growth": ("horizon", [4])}, "two different values of 'horizon'"),
        ({"growth": ("horizon", [4, 0])}, "at least 1"),
        ({"trainable": False}, "nothing to audit"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_wrong_arguments_are_named(settings, said):
    with pytest.raises(UsageError, match=said):
        audit(jnp.ones(3), lambda m, b, c, k: (jnp.sum(m), {}), jnp.ones(1), **settings)


def test_an_objective_that_cannot_be_hashed_and_a_stream_of_batches():
    class Objective(dict):
        def __call__(self, model, batch, controls, key):
            return jnp.mean((batch @ model - self["shift"]) ** 2), {}

    whole = Objective(shift=1.0)
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(6, 3)).astype(np.float32) for _ in range(5)]
    found = audit(jnp.ones(3), whole.__call__, hg.Stream(batches), directions=32, rows=4)
    assert found.batches.estimates == 5
    assert found.rows is not None
