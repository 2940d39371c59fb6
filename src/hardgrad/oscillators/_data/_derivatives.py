"""The first and second derivative of a sound, per sample.

Central differences of order 8 over nine samples (c_-4 … c_4, for a step of one sample),

    Δx   (3, -32, 168, -672, 0, 672, -168, 32, -3) / 840
    Δ²x  (-9, 128, -1008, 8064, -14350, 8064, -1008, 128, -9) / 5040

or the smoother Savitzky-Golay filters of window 5 and order 3 (Savitzky and Golay, Anal. Chem. 36:1627, 1964),

    Δx   (1, -8, 0, 8, -1) / 12
    Δ²x  (2, -1, -2, -1, 2) / 7

Beyond an end of the sound its mirror image is taken, the last sample twice.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from ...core import UsageError, one_of

Differences = Literal["central", "savitzky-golay"]
"""Stencils of derivatives by name."""

MARGIN = 4  # samples either side that a derivative looks at
# Coefficients right of the centre, of the odd first derivative and of the even second, whose centre comes first.
_FIRST: dict[str, list[float]] = {
    "central": [672 / 840, -168 / 840, 32 / 840, -3 / 840],
    "savitzky-golay": [8 / 12, -1 / 12],
}
_SECOND: dict[str, list[float]] = {
    "central": [-14350 / 5040, 8064 / 5040, -1008 / 5040, 128 / 5040, -9 / 5040],
    "savitzky-golay": [-2 / 7, -1 / 7, 2 / 7],
}


def derivatives(
    sound: Float[np.ndarray, "*batch time"], *, method: Differences = "central"
) -> tuple[Float[np.ndarray, "*batch time"], Float[np.ndarray, "*batch time"]]:
    """Velocity Δx, per sample, and acceleration Δ²x, per sample squared, of a sound.

    Args:
        sound: ``[..., time]`` of at least 5 samples.
        method: ``"central"``, exact for polynomials up to degree 8 (Δx) and 9 (Δ²x), or ``"savitzky-golay"``, up to
            degrees 4 and 3, which lets less noise through. (At the ends, where the mirror image counts, neither is.)

    Returns:
        Velocity and acceleration, float64, of the sound's shape.

    Raises:
        UsageError: a shorter sound, or an unknown method.

    Examples:
        >>> velocity, acceleration = derivatives(np.arange(20.0) ** 2)
        >>> print(velocity[10], acceleration[10])
        20.0 2.0
    """
    one_of("method", method, Differences)
    if sound.ndim == 0 or sound.shape[-1] < 5:
        raise UsageError(f"a derivative takes a sound of at least 5 samples; got shape {sound.shape}.")
    margins = [(0, 0)] * (sound.ndim - 1) + [(MARGIN, MARGIN)]
    return inner_derivatives(np.pad(sound.astype(np.float64), margins, mode="symmetric"), method)


def inner_derivatives(padded: NDArray[np.float64], method: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both derivatives of ``[..., MARGIN + time + MARGIN]``, ``[..., time]``."""
    time = padded.shape[-1] - 2 * MARGIN

    def shifted(by: int) -> NDArray[np.float64]:
        return padded[..., MARGIN + by : MARGIN + by + time]

    velocity = np.zeros(shifted(0).shape)
    for k, c in enumerate(_FIRST[method], start=1):
        velocity += c * (shifted(k) - shifted(-k))
    centre, *sides = _SECOND[method]
    acceleration = centre * shifted(0)
    for k, c in enumerate(sides, start=1):
        acceleration += c * (shifted(k) + shifted(-k))
    return velocity, acceleration
