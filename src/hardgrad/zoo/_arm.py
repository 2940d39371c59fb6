"""A planar arm of two links, both of length 1, and models of its joint steps.

    hand(θ) = (cos θ₁ + cos(θ₁+θ₂), sin θ₁ + sin(θ₁+θ₂)),   J = ∂hand/∂θ,   det J = sin θ₂
    exact step    Δθ = J⁻¹ d = adj(J) d / det J             a pole where the arm is stretched or folded: θ₂ ∈ {0, π}
    damped step   Δθ = Jᵀ (J Jᵀ + λ² I)⁻¹ d                 damped least squares: finite everywhere

As a tuple the exact step is (adj(J) d, det J): both parts are smooth, and det J = 0 is ⊥ with a direction.

Source of the damped step: Nakamura and Hanafusa, J. Dyn. Syst. Meas. Control 108 (1986); Wampler, IEEE Trans. SMC 16
(1986).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

REACH = 0.1
"""Displacements lie in a square of this half-width, which is the unit of the models' steps and displacements."""
DAMPING = 0.01
"""λ of the damped step."""
NEAREST, NEAR = 1e-6, 1e-2
"""How far from a pole samples near it lie, in radians."""

_EPSILON = 1e-2
_SAFE = 1e-14  # under square roots

Head = Literal["tuple", "epsilon", "number"]


@dataclasses.dataclass(frozen=True)
class Steps:
    """Samples in float64.

    Attributes:
        inputs: (θ₁, θ₂, dx, dy), ``[row, 4]``.
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
            return self.numerator / self.determinant[:, None]


def simulate(count: int, near_share: float, pole_share: float, rng: np.random.Generator) -> Steps:
    """Postures and displacements.

    Args:
        count: how many.
        near_share: share of them within 0.01 of a pole, evenly in the logarithm of the distance down to 1e-6.
        pole_share: share exactly on one.
        rng: draws them.
    """
    first, second = rng.uniform(-np.pi, np.pi, (2, count))
    displacement = rng.uniform(-REACH, REACH, (count, 2))
    kind, folded = rng.random(count), rng.random(count) < 0.5
    offset = rng.choice([-1.0, 1.0], count) * np.exp(rng.uniform(np.log(NEAREST), np.log(NEAR), count))
    offset = np.where(kind < pole_share, 0.0, offset)
    # Beside π, so that angles stay within ±π: π - x above, x - π below.
    beside = np.where(folded, np.where(offset > 0, np.pi - offset, -np.pi - offset), offset)
    close = kind < pole_share + near_share
    second = np.where(close, beside, second)
    determinant = np.where(close, offset_sine(offset), np.sin(second))
    jacobian = jacobian_of(first, second)
    (a, b), (c, d) = jacobian.transpose(1, 2, 0)
    dx, dy = displacement.T
    numerator = np.stack([d * dx - b * dy, a * dy - c * dx], axis=1)
    inputs = np.column_stack([first, second, displacement])
    return Steps(inputs, determinant, numerator, damped_step(inputs))
