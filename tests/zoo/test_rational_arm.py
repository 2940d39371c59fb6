"""`rational-arm`: its kinematics, its losses, its figures and its verdicts."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hardgrad as hg
from hardgrad.export import export_bundle
from hardgrad.rational import Projective
from hardgrad.training import member
from hardgrad.zoo import _arm, launch
from hardgrad.zoo import rational_arm as recipe
from hardgrad.zoo._arm_report import BUCKETS, LEARNED, table_lines, verdict_lines

TINY = recipe.Config(**recipe.RECIPE.smoke)


@pytest.fixture(scope="module")
def steps() -> _arm.Steps:
    return _arm.simulate(4000, 0.25, 0.05, np.random.default_rng(3))


def hand(theta: np.ndarray) -> np.ndarray:
    """Forward kinematics by complex numbers."""
    tip = np.exp(1j * theta[:, 0]) + np.exp(1j * theta.sum(axis=1))
    return np.column_stack([tip.real, tip.imag])


def test_the_jacobian_is_the_derivative_of_the_hand(steps: _arm.Steps) -> None:
    theta, eps = steps.inputs[:50, :2], 1e-6
    for joint in range(2):
        change = eps * np.eye(2)[joint]
        numeric = (hand(theta + change) - hand(theta - change)) / (2 * eps)
        np.testing.assert_allclose(_arm.jacobian(steps.inputs[:50])[:, :, joint], numeric, atol=1e-8)


def test_the_exact_step_solves_the_linear_system(steps: _arm.Steps) -> None:
    regular = np.abs(steps.determinant) > 1e-3
    J = _arm.jacobian(steps.inputs)[regular]
    np.testing.assert_allclose(np.linalg.det(J), steps.determinant[regular], atol=1e-12)
    expected = np.linalg.solve(J, steps.inputs[regular, 2:, None])[..., 0]
    np.testing.assert_allclose(steps.exact[regular], expected, rtol=1e-8)


def test_the_damped_step_is_the_regularised_least_squares_one(steps: _arm.Steps) -> None:
    """By singular values: each is σ/(σ² + λ²) of the displacement along it."""
    U, sigma, V = np.linalg.svd(_arm.jacobian(steps.inputs))
    gains = sigma / (sigma**2 + 0.01**2)
    expected = np.einsum("rki,rk,rjk,rj->ri", V, gains, U, steps.inputs[:, 2:])
    np.testing.assert_allclose(steps.damped, expected, atol=1e-9)
    assert np.linalg.norm(steps.damped, axis=1).max() <= 50 * 0.1 * np.sqrt(2)


def test_samples_near_poles_and_on_them(steps: _arm.Steps) -> None:
    pole, folded = steps.determinant == 0, np.abs(steps.inputs[:, 1]) > 1
    assert 0.04 < pole.mean() < 0.06
    assert 0.4 < folded[pole].mean() < 0.6
    assert np.isin(steps.inputs[pole, 1], [0.0, -np.pi, np.pi]).all()
    near = (np.abs(steps.determinant) < 1e-2) & ~pole
    assert 0.22 < near.mean() < 0.28
    size = np.log10(np.abs(steps.determinant[near]))
    assert abs(np.median(size) + 4) < 0.15  # even in the logarithm from 1e-6 to 1e-2
    assert (np.abs(steps.inputs[:, :2]) <= np.pi).all()
    assert (np.abs(steps.inputs[:, 2:]) <= _arm.REACH).all()
    np.testing.assert_allclose(np.sin(steps.inputs[:, 1]), steps.determinant, atol=1e-15)
    assert not np.isfinite(steps.exact[pole]).any(axis=1).all()


class Known:
    """A model that knows the arm, in a gauge of its own; `turned` gives all tuples the other sign."""

    def __init__(self, turned: bool = False):
        self.sign = -1.0 if turned else 1.0

    def __call__(self, x: Any) -> Projective:
        (a, b), (c, d) = jnp.asarray(_arm.jacobian(np.asarray(x)), x.dtype).transpose(1, 2, 0)
        dx, dy = x[:, 2] / _arm.REACH, x[:, 3] / _arm.REACH
        P = jnp.stack([d * dx - b * dy, a * dy - c * dx], axis=1)
        return Projective(3.0 * self.sign * P, 3.0 * self.sign * (a * d - b * c))


def test_the_angle_is_zero_at_the_truth_and_tells_signs_apart_if_it_should(steps: _arm.Steps) -> None:
    known = _arm.Labels(*(jnp.asarray(part, jnp.float32) for part in _arm.labels(steps)))
    batch = jnp.asarray(steps.inputs, jnp.float32), known
    loss = {
        (oriented, turned): float(_arm.AngleObjective(oriented)(Known(turned), batch, {}, None)[0])
        for oriented in (True, False)
        for turned in (True, False)
    }
    length = np.sqrt((np.asarray(known.numerator) ** 2).sum(axis=1) + np.asarray(known.denominator) ** 2).mean()
    assert max(loss[True, False], loss[False, False], loss[False, True]) < 1e-4
    assert loss[True, True] == pytest.approx(np.pi * length, rel=1e-3)


def test_the_angle_has_no_dead_point() -> None:
    label = _arm.Labels(jnp.array([[1.0, 0.0]]), jnp.array([0.0]), jnp.zeros((1, 2)))

    def loss(angle: jax.Array) -> jax.Array:
        outputs = Projective(jnp.stack([jnp.cos(angle), 0.0 * angle])[None], jnp.sin(angle)[None])
        found: jax.Array = _arm.AngleObjective(True)(lambda x: outputs, (None, label), {}, None)[0]
        return found

    for angle in (0.01, 1.0, 3.1):
        assert float(jax.grad(loss)(jnp.float32(angle))) == pytest.approx(1.0, abs=1e-3)
    assert np.isfinite(jax.grad(loss)(jnp.float32(0.0)))
    assert np.isfinite(jax.grad(loss)(jnp.float32(np.pi)))


@pytest.mark.parametrize("head", ["tuple", "epsilon", "number"])
def test_a_step_is_the_inverse_times_the_displacement(head: _arm.Head) -> None:
    model = _arm.ArmModel(head, width=8, key=jax.random.key(0))
    x = jnp.asarray(_arm.simulate(6, 0.2, 0.1, np.random.default_rng(0)).inputs, jnp.float32)
    (P, Q), (matrix, shared) = model(x), model.inverse(x)
    A, q = model.network(jnp.concatenate([jnp.cos(x[:, :2]), jnp.sin(x[:, :2])], axis=1))
    np.testing.assert_array_equal(Q, shared)
    expected = np.einsum("rij,rj->ri", np.asarray(matrix).reshape(-1, 2, 2), x[:, 2:]) / _arm.REACH
    np.testing.assert_allclose(P, expected, rtol=1e-5, atol=1e-6)
    factor = {"tuple": 1 / q, "epsilon": q / (q**2 + 1e-4), "number": jnp.ones_like(q)}[head]
    np.testing.assert_allclose(matrix / shared[:, None], A * factor[:, None], rtol=1e-5)
    doubled = model(x.at[:, 2:].multiply(2.0))
    np.testing.assert_allclose(doubled.numerator, 2 * P, rtol=1e-5)


def test_buckets() -> None:
    determinant = np.array([0.0, 1e-5, -1e-5, 2e-5, 5e-3, -0.5, 1.0])
    assert recipe.by_bucket(np.arange(7.0), determinant, np.sum) == pytest.approx([0, 3, 3, np.nan, 4, 11], nan_ok=True)


def test_a_perfect_arm_has_perfect_figures(steps: _arm.Steps) -> None:
    pole = steps.determinant == 0
    found = recipe.judge(steps, np.where(pole[:, None], np.nan, steps.exact), pole)
    np.testing.assert_allclose(found["exact_error"][1:], 0.0)
    assert found["refused"] == [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    assert found["served_error"][0] == 0.0
    assert found["slope_error"] < 0.05
    asked = recipe.judge(steps, np.full_like(steps.damped, np.nan), np.ones(len(pole), bool))
    np.testing.assert_array_equal(asked["served_error"], 0.0)
    assert np.isnan(asked["residual_consistency"])
    damped = recipe.judge(steps, steps.damped, np.zeros(len(pole), bool))
    assert asked["served_residual"] == damped["residual_consistency"]


def test_the_threshold_gives_away_one_regular_posture_in_a_hundred() -> None:
    determinant = np.concatenate([np.zeros(100), np.linspace(0.02, 1.0, 1000)])
    tau = recipe.threshold(TINY, np.abs(determinant).astype(np.float32), determinant)
    assert np.mean(np.abs(determinant[100:]) < tau) == pytest.approx(0.01)
    assert recipe.threshold(TINY, np.ones(1100, np.float32), determinant) < 1e-20


def table(**exact: list[float]) -> dict[str, Any]:
    """Figures that differ in the error against the exact step, the same in every bucket."""
    rest = {key: [0.1, 0.1] for key in (*recipe.METRICS, "served_residual")}
    flat = {"served_error": [[0.5] * 6] * 2, "refused": [[0.5] * 6] * 2}
    names = (*LEARNED, "damped", "exact")
    return {name: {**rest, **flat, "exact_error": [[v] * 6 for v in exact.get(name, [0.4, 0.4])]} for name in names}


def test_verdicts_follow_the_figures() -> None:
    lines = verdict_lines(table(projective=[0.1, 0.11], damped=[0.2, 0.2]))
    assert "|det J| ≤ 1e-5: against the exact step, projective beats damped." in lines
    assert "|det J| ≤ 1e-2: with the sign of det J, projective beats sign-blind." in lines
    assert "|det J| > 1e-2: against the damped step, projective ties with rational+ε." in lines
    lost = verdict_lines(table(perceptron=[0.1, 0.11]))
    assert "|det J| ≤ 1e-3: against the exact step, projective loses to perceptron." in lost
    nobody = verdict_lines(table(**{name: [0.9, 1.0] for name in (*LEARNED, "damped")}))
    assert nobody[0] == "|det J| ≤ 1e-5: nobody comes within half the exact step."
    assert max(len(line) for line in (*table_lines(table()), *lines, *lost)) <= 80


def test_members_have_samples_of_their_own() -> None:
    x, known = recipe.data(TINY)
    assert x.shape == (TINY.samples, TINY.members, 4)
    assert known.numerator.shape == known.damped.shape == (TINY.samples, TINY.members, 2)
    alone, _ = recipe.data(dataclasses.replace(TINY, seed=1, members=1))
    np.testing.assert_array_equal(alone[:, 0], x[:, 1])
    assert not np.array_equal(x[:, 0], x[:, 1])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"near_share": 1.0}, "leave room for regular postures"),
        ({"false_rejection": 0.0}, "false_rejection lies between"),
        ({"batch_size": 30_000}, "more than the 20000 samples"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(hg.UsageError, match=said):
        recipe.Config(**settings)


def test_a_short_run_trains_every_arm_and_ships_one(tmp_path: Path) -> None:
    done = launch("rational-arm", TINY, run=tmp_path / "run")
    first, last = done.fit.history[0].metrics, done.fit.history[-1].metrics
    for name in LEARNED:
        assert last[f"{name}_loss"] < first[f"{name}_loss"]
        assert np.shape(done.result["arms"][name]["exact_error"]) == (TINY.members, len(BUCKETS))
    assert len(recipe.RECIPE.figures(done.folder)) == 1

    ship = recipe.exportable(done.folder, TINY, done.fit.model)
    export_bundle(ship, tmp_path / "bundle")  # checks the bundle against the function, edge rows among them
    assert ship.metadata["tau_infer"] == pytest.approx(done.result["arms"]["projective"]["tau_infer"][0], rel=1e-5)
    rows = np.asarray(ship.inputs["inputs"])
    found = {name: np.asarray(value) for name, value in jax.jit(ship.function)(rows).items()}
    P, Q = member(done.fit.model["projective"], 0)(rows)
    kept = ~found["bottom_mask"]
    np.testing.assert_allclose(found["step"][kept], _arm.REACH * (P / Q[:, None])[kept], rtol=1e-4, atol=1e-5)
    assert np.isnan(found["step"][~kept]).all()
    edge = {name: np.asarray(value) for name, value in jax.jit(ship.function)(ship.edge_rows["inputs"]).items()}
    assert edge["fault_mask"][3:5].all()
