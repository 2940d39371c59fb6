"""The rational and the angular head, and whether a model can answer ⊥."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rational_golden as golden

from hardgrad.core import UsageError
from hardgrad.rational import (
    AngularProjectiveHead,
    Projective,
    ProjectiveRationalMultiHead,
    RationalMLP,
    bottom_capability,
    check_bottom_capability,
)

KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "case", golden.cases("projective_head"), ids=lambda c: f"{c['q_anchor']}-{c['q_param']}-{c['q_min']}"
)
@pytest.mark.usefixtures("x64")
def test_rational_head_as_published(case: dict[str, Any]) -> None:
    numerator, denominator, z_num, z_den = (
        jnp.asarray(golden.array(case[name], "float64")) for name in ("num_weights", "den_weights", "z_num", "z_den")
    )
    settings = {name: case[name] for name in ("q_anchor", "q_param", "q_min")}
    head = ProjectiveRationalMultiHead(2, 3, 2, key=KEY, **settings)
    head = eqx.tree_at(lambda h: (h.numerator, h.denominator), head, (numerator, denominator))
    out = case["out"]
    for features in (z_den, z_den[:, 0]):  # published as [B, 1]
        P, Q = eqx.filter_jit(head)(z_num, features)
        np.testing.assert_allclose(P, golden.array(out["P"]), **golden.tolerance("float64"))
        # The published head repeats the one denominator for every output.
        repeated = np.broadcast_to(np.asarray(Q)[:, None], P.shape)
        np.testing.assert_allclose(repeated, golden.array(out["Q"]), **golden.tolerance("float64"))
    assert head.bottom_capability(1e-6) == out["bottom_capability_1e-6"]
    assert bottom_capability({"anything": [head, 1.0]}, 1e-6) == out["bottom_capability_1e-6"]


@pytest.mark.parametrize("case", golden.cases("angular_head"), ids=lambda c: str(c["theta_scale"]))
@pytest.mark.usefixtures("x64")
def test_angular_head_as_published(case: dict[str, Any]) -> None:
    weight, bias, features = (
        jnp.asarray(golden.array(case[name], "float64")) for name in ("weight", "bias", "features")
    )
    head = AngularProjectiveHead(2, 2, theta_scale=case["theta_scale"], key=KEY)
    head = eqx.tree_at(lambda h: (h.linear.weight, h.linear.bias), head, (weight, bias))
    P, Q = eqx.filter_jit(head)(features)
    near = golden.tolerance("float64")
    np.testing.assert_allclose(P, golden.array(case["out"]["P"]), **near)
    np.testing.assert_allclose(Q, golden.array(case["out"]["Q"]), **near)
    np.testing.assert_allclose(head.theta(features), golden.array(case["out"]["theta_raw"]), **near)


@pytest.mark.parametrize("basis", ["monomial", "chebyshev"])
def test_any_leading_axes(basis: str) -> None:
    head = ProjectiveRationalMultiHead(3, 2, 4, basis=basis, key=KEY)
    z_num = jax.random.normal(jax.random.key(1), (4, 5, 3))
    z_den = jax.random.normal(jax.random.key(2), (4, 5))
    whole, by_sample, columns = eqx.filter_jit(
        lambda head, z_num, z_den: (head(z_num, z_den), jax.vmap(jax.vmap(head))(z_num, z_den), head.basis(z_num, 2))
    )(head, z_num, z_den)
    assert isinstance(whole, Projective)
    P, Q = whole
    assert P.shape == (4, 5, 3)
    assert Q.shape == (4, 5)
    np.testing.assert_allclose(by_sample[0], P, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(by_sample[1], Q, rtol=1e-5)
    np.testing.assert_allclose(P, np.einsum("abok,ok->abo", np.asarray(columns), head.numerator), rtol=1e-4, atol=1e-6)


def test_all_outputs_train_the_one_denominator() -> None:
    head = ProjectiveRationalMultiHead(2, 1, 1, key=KEY)
    z = jnp.array([[0.5, -1.0], [2.0, 0.3]])

    def total(head: Any) -> Any:
        P, Q = head(z, jnp.array([0.2, -0.4]))
        return jnp.sum(P / Q[:, None])

    grads = eqx.filter_jit(eqx.filter_grad(total))(head)
    assert np.all(np.asarray(grads.numerator) != 0)
    assert np.all(np.asarray(grads.denominator) != 0)


def test_as_drawn() -> None:
    head = ProjectiveRationalMultiHead(50, 7, 399, key=KEY)
    assert 0.008 < float(jnp.std(head.numerator)) < 0.012
    assert 0.008 < float(jnp.std(head.denominator)) < 0.012


@pytest.mark.parametrize(
    ("settings", "tau", "reachable"),
    [
        ({}, 1e-6, True),
        ({"q_param": "softplus"}, 1.0, False),
        ({"q_param": "softplus"}, 1.1, True),
        ({"q_param": "softplus", "q_anchor": "none"}, 1e-6, True),
        ({"q_param": "softplus", "q_anchor": "none", "q_min": 1e-6}, 1e-6, False),  # |Q| = tau is accepted
        ({"q_param": "none", "q_anchor": "none", "q_min": 1.0}, 1e-6, True),  # no floor without softplus
    ],
)
def test_bottom_capability(settings: dict[str, Any], tau: float, reachable: bool) -> None:
    model = RationalMLP(2, 1, hidden=(4,), key=KEY, **settings)
    assert (bottom_capability(model, tau) == "reachable") == reachable
    if reachable:
        check_bottom_capability(model, tau)
    else:
        with pytest.raises(UsageError, match="can't answer ⊥"):
            check_bottom_capability([model], tau)


def test_the_floor_holds() -> None:
    head = ProjectiveRationalMultiHead(1, 1, 2, q_anchor="none", q_param="softplus", q_min=0.25, key=KEY)
    head = eqx.tree_at(lambda h: h.denominator, head, jnp.array([-1e3, 0.0, -5.0]))
    _, Q = head(jnp.zeros((3, 1)), jnp.array([0.0, 100.0, -1e10]))
    np.testing.assert_array_equal(Q, [0.25, 0.25, 0.25])


def test_a_model_without_heads_can_answer_bottom() -> None:
    assert bottom_capability(eqx.nn.Linear(2, 2, key=KEY), 1e-6) == "reachable"
    check_bottom_capability(lambda x: x, 1e-6)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: ProjectiveRationalMultiHead(0, 1, 1, key=KEY), "output_dim"),
        (lambda: ProjectiveRationalMultiHead(1, -1, 1, key=KEY), "numerator_degree"),
        (lambda: ProjectiveRationalMultiHead(1, 1, -1, key=KEY), "denominator_degree"),
        (lambda: ProjectiveRationalMultiHead(1, 1, 1, q_anchor="one", key=KEY), "Did you mean 'ones'"),
        (lambda: ProjectiveRationalMultiHead(1, 1, 1, q_param="soft", key=KEY), "q_param"),
        (lambda: ProjectiveRationalMultiHead(1, 1, 1, q_min=-1.0, key=KEY), "q_min"),
        (lambda: ProjectiveRationalMultiHead(2, 1, 1, key=KEY)(jnp.ones((5, 3)), jnp.ones(5)), "features"),
        (lambda: ProjectiveRationalMultiHead(2, 1, 1, key=KEY)(jnp.ones((5, 2)), jnp.ones(4)), "features"),
        (lambda: AngularProjectiveHead(0, key=KEY), "in_size"),
        (lambda: AngularProjectiveHead(2, theta_scale=float("inf"), key=KEY), "theta_scale"),
        (lambda: AngularProjectiveHead(2, key=KEY)(jnp.ones((5, 3))), r"\[\.\.\., 2\]"),
    ],
)
def test_wrong_inputs(build: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        build()
