"""A planar arm of two links of length 1: its joint steps, and networks that foretell them.

    hand(θ) = (cos θ₁ + cos(θ₁+θ₂), sin θ₁ + sin(θ₁+θ₂)),   J = ∂hand/∂θ,   det J = sin θ₂
    exact step    Δθ = J⁻¹ d = adj(J) d / det J      poles where the arm is stretched or folded, θ₂ ∈ {0, π}
    damped step   Δθ = Jᵀ (J Jᵀ + λ² I)⁻¹ d          damped least squares: finite everywhere

As a tuple the exact step is (adj(J) d, det J). Both parts are smooth; where the second is 0 the step is ⊥, and the
first still has a direction.

Source of the damped step: Nakamura and Hanafusa, J. Dyn. Syst. Meas. Control 108 (1986); Wampler, IEEE Trans. Syst.
Man Cybern. 16 (1986).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy.typing import NDArray

from ..core import Controls
from ..rational import Projective, ProjectiveMLP

REACH = 0.1
"""Displacements lie in a square of this half-width; it is the unit of the models' steps and displacements."""
DAMPING = 0.01
"""λ of the damped step."""
NEAR = (1e-6, 1e-2)
"""How far from a pole samples near it lie, in radians. In float32 π is off by 9e-8, far less than that."""

_EPSILON = 1e-2
_SAFE = 1e-14  # under square roots

Head = Literal["tuple", "epsilon", "number"]
Model = Callable[[Any], Projective]


@dataclasses.dataclass(frozen=True)
class Steps:
    """Samples, in float64.

    Attributes:
        inputs: (θ₁, θ₂, dx, dy), ``[row, 4]``, angles within ±π.
        determinant: det J, exactly 0 at a pole, ``[row]``.
        numerator: adj(J) d, ``[row, 2]``.
        damped: the damped step, ``[row, 2]``.
    """

    inputs: NDArray[Any]
    determinant: NDArray[Any]
    numerator: NDArray[Any]
    damped: NDArray[Any]

    @property
    def exact(self) -> NDArray[Any]:
        """The exact step, not finite at a pole."""
        with np.errstate(divide="ignore", invalid="ignore"):
            step: NDArray[Any] = self.numerator / self.determinant[:, None]
        return step


def simulate(count: int, near_share: float, pole_share: float, rng: np.random.Generator) -> Steps:
    """Postures and displacements.

    Args:
        count: how many.
        near_share: share of them near a pole, evenly in the logarithm of the distance (`NEAR`).
        pole_share: share of them exactly on one.
        rng: draws them.
    """
    first, second = rng.uniform(-np.pi, np.pi, (2, count))
    displacement = rng.uniform(-REACH, REACH, (count, 2))
    kind, folded = rng.random(count), rng.random(count) < 0.5
    offset = rng.choice([-1.0, 1.0], count) * np.exp(rng.uniform(np.log(NEAR[0]), np.log(NEAR[1]), count))
    offset = np.where(kind < pole_share, 0.0, offset)
    beside = np.where(folded, np.where(offset > 0.0, np.pi, -np.pi) - offset, offset)
    close = kind < pole_share + near_share
    second = np.where(close, beside, second)
    inputs = np.column_stack([first, second, displacement])
    (a, b), (c, d) = jacobian(inputs).transpose(1, 2, 0)
    numerator = np.stack(
        [d * displacement[:, 0] - b * displacement[:, 1], a * displacement[:, 1] - c * displacement[:, 0]], axis=1
    )
    # sin(π - x) = sin x, without the digits that π - x loses.
    return Steps(inputs, np.sin(np.where(close, offset, second)), numerator, damped_step(inputs))


def jacobian(inputs: NDArray[Any]) -> NDArray[Any]:
    """J of each row's posture, ``[row, 2, 2]``."""
    first, both = inputs[:, 0], inputs[:, 0] + inputs[:, 1]
    x = [-np.sin(first) - np.sin(both), -np.sin(both)]
    y = [np.cos(first) + np.cos(both), np.cos(both)]
    return np.stack([np.stack(x, axis=1), np.stack(y, axis=1)], axis=1)


def damped_step(inputs: NDArray[Any]) -> NDArray[Any]:
    """The damped step of (θ₁, θ₂, dx, dy), ``[row, 2]``: the classical solver."""
    J = jacobian(np.asarray(inputs, np.float64))
    square = J @ J.swapaxes(1, 2) + DAMPING**2 * np.eye(2)
    step: NDArray[Any] = (J.swapaxes(1, 2) @ np.linalg.solve(square, inputs[:, 2:, None]))[..., 0]
    return step


class Labels(NamedTuple):
    """What models are trained on, in units of `REACH`.

    Attributes:
        numerator: adj(J) d, ``[row, ..., 2]``.
        denominator: det J, ``[row, ...]``.
        damped: the damped step, ``[row, ..., 2]``.
    """

    numerator: Any
    denominator: Any
    damped: Any


def labels(steps: Steps) -> Labels:
    """The labels of samples, in float64."""
    return Labels(steps.numerator / REACH, steps.determinant, steps.damped / REACH)


class ArmModel(eqx.Module):
    """A perceptron from a posture to a matrix A and a number q, and the inverse Jacobian that is made of them.

    The angles enter as cosines and sines. The step is the inverse times the displacement, whatever the head:

        "tuple"     (A, q)
        "epsilon"   (A q, q² + ε²): A/q where |q| is far above ε, and never ⊥
        "number"    (A, 1): q is not used

    Attributes:
        network: from (cos θ₁, cos θ₂, sin θ₁, sin θ₂) to A, row by row, and q, which starts about 1.
        head: which of the three.
    """

    network: ProjectiveMLP
    head: Head = eqx.field(static=True)

    def __init__(self, head: Head, *, width: int, key: Key[Array, ""]):
        self.network = ProjectiveMLP(
            4, 4, hidden=(width, width), activation=jax.nn.silu, start=(0.0, 1.0), key=key, dtype=jnp.float32
        )
        self.head = head

    def inverse(self, x: Any) -> Projective:
        """J⁻¹ of inputs ``[row, 4]`` as a tuple: P ``[row, 4]`` and the Q they share, ``[row]``."""
        x = jnp.asarray(x)
        A, q = self.network(jnp.concatenate([jnp.cos(x[:, :2]), jnp.sin(x[:, :2])], axis=1))
        if self.head == "number":
            return Projective(A, jnp.ones_like(q))
        return Projective(A, q) if self.head == "tuple" else Projective(A * q[:, None], q**2 + _EPSILON**2)

    def __call__(self, x: Any) -> Projective:
        """The step as a tuple, in units of `REACH`: P ``[row, 2]`` and the Q they share, ``[row]``."""
        P, Q = self.inverse(x)
        return Projective(times(P, jnp.asarray(x)[:, 2:]) / REACH, Q)


def times(matrix: Any, vector: Any) -> Any:
    """Matrices ``[..., 4]``, row by row, times vectors ``[..., 2]``."""
    return (matrix.reshape(*matrix.shape[:-1], 2, 2) * vector[..., None, :]).sum(axis=-1)


class AngleObjective(eqx.Module):
    """The angle between (P, Q) and (adj(J) d, det J), both in three dimensions, weighted by the length of the latter.

    It is not squared, so that its slope does not fade near a fit, and is the same in every direction: right up to the
    opposite one.

    Attributes:
        oriented: whether (P, Q) and (-P, -Q), the same step, are told apart. If not, the angle is that of lines.
    """

    oriented: bool = eqx.field(static=True)

    def __call__(self, model: Model, batch: tuple[Any, Labels], controls: Controls, key: Any) -> Any:
        """Loss and no metrics."""
        x, known = batch
        P, Q = model(x)
        found = jnp.concatenate([P, Q[:, None]], axis=1)
        truth = jnp.concatenate([known.numerator, known.denominator[:, None]], axis=1)
        u, v = (vector / _norm(vector)[:, None] for vector in (found, truth))
        # tan(θ/2) = |u - v| / |u + v|, exact for small angles too (Kahan).
        apart, along = _norm(u - v), _norm(u + v)
        if not self.oriented:
            apart, along = jnp.minimum(apart, along), jnp.maximum(apart, along)
        return jnp.mean(_norm(truth) * 2.0 * jnp.arctan2(apart, along)), {}


class StepObjective(eqx.Module):
    """Mean of |step - damped step| / √(0.1 + |damped step|²), in units of `REACH`."""

    def __call__(self, model: Model, batch: tuple[Any, Labels], controls: Controls, key: Any) -> Any:
        """Loss and no metrics."""
        x, known = batch
        P, Q = model(x)
        size = jnp.sqrt(0.1 + jnp.sum(jnp.square(known.damped), axis=1))
        return jnp.mean(_norm(P / Q[:, None] - known.damped) / size), {}


def _norm(vector: Any) -> Float[Array, " row"]:
    return jnp.sqrt(jnp.sum(jnp.square(vector), axis=1) + _SAFE)
