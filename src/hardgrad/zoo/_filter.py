"""Second-order low-pass resonators: their gain, networks that foretell it, and where a gain has its peak.

    H(s) = ω₀² / (s² + (ω₀/Q) s + ω₀²),   s = iω,   |H| = 1 / √((1 - r²)² + (r/Q)²),   r = ω/ω₀
    peak: |H| = Q / √(1 - 1/(4Q²)) at r = √(1 - 1/(2Q²))

Frequencies and quality factors are natural logarithms throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy.typing import NDArray

from ..core import Controls
from ..rational import Projective, Targets
from ._baselines import Perceptron

NATURAL, BAND = (np.log(0.5), np.log(5.0)), (np.log(0.1), np.log(10.0))
"""Ranges of log ω₀ and of log ω."""
TRAINED_Q = (2.0, 30.0)
"""Quality factors that are trained on."""
HIGHEST_Q = 500.0
"""The largest one tested."""

_CENTRE = np.array([np.mean(NATURAL), np.mean(np.log(TRAINED_Q))])
_HALF = np.array([np.ptp(NATURAL), np.ptp(np.log(TRAINED_Q))]) / 2
_FLOOR = 1e-15  # of magnitudes: their square is still a normal number
_COARSE, _FINE, _ZOOMS = 512, 33, 3

Form = Literal["signed", "published", "positive"]


class Filters(NamedTuple):
    """Resonators, and the frequencies they are asked at.

    Attributes:
        parameters: log ω₀ and log Q, ``[filter, ..., 2]``.
        frequency: log ω, ``[filter, ..., point]``.
    """

    parameters: Any
    frequency: Any


def simulate(count: int, points: int, highest_q: float, rng: np.random.Generator) -> Filters:
    """Resonators drawn evenly on logarithmic scales, each with points of its own, in float64.

    Args:
        count: how many.
        points: of each.
        highest_q: Q lies between 2 and this.
        rng: draws them.
    """
    parameters = rng.uniform([NATURAL[0], np.log(TRAINED_Q[0])], [NATURAL[1], np.log(highest_q)], (count, len(_CENTRE)))
    return Filters(parameters, rng.uniform(*BAND, (count, points)))


def gain(filters: Filters) -> NDArray[Any]:
    """|H| of each filter at each of its points."""
    natural, quality = np.exp(np.moveaxis(np.asarray(filters.parameters)[..., None], -2, 0))
    r = np.exp(filters.frequency) / natural
    found: NDArray[Any] = 1.0 / np.hypot(1.0 - r**2, r / quality)
    return found


def true_peak(parameters: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Logarithms of height and frequency of the peak; Q is above 1/√2."""
    natural, quality = parameters[..., 0], np.exp(parameters[..., 1])
    height = np.log(quality) - 0.5 * np.log1p(-1.0 / (4.0 * quality**2))
    return height, natural + 0.5 * np.log1p(-1.0 / (2.0 * quality**2))


def _scaled(parameters: Any) -> Array:
    """Log ω₀ and log Q brought to ±1 over the trained range."""
    parameters = jnp.asarray(parameters)
    scaled: Array = (parameters - jnp.asarray(_CENTRE, parameters.dtype)) / jnp.asarray(_HALF, parameters.dtype)
    return scaled


class Gain(eqx.Module):
    """A perceptron of (log ω, log ω₀, log Q) for log |H|, read as the tuple (|H|, 1)."""

    network: Perceptron

    def __init__(self, width: int, *, key: Key[Array, ""]):
        self.network = Perceptron(3, width=width, depth=2, key=key, dtype=jnp.float32)

    def __call__(self, filters: Filters) -> Projective:
        """P and Q, both ``[filter, point]``."""
        frequency = jnp.asarray(filters.frequency)
        parameters = _scaled(filters.parameters)
        parameters = jnp.broadcast_to(parameters[:, None], (*frequency.shape, 2))
        rows = jnp.concatenate([frequency[..., None] / BAND[1], parameters], axis=-1).reshape(-1, 3)
        P = jnp.exp(self.network(rows).reshape(frequency.shape))
        return Projective(P, jnp.ones_like(P))


class PowerLaws(eqx.Module):
    """Logarithms that are linear in log ω₀ and log Q: ``[filter, 2]`` to ``[filter, outputs]``, all 0 at first."""

    weight: Float[Array, "*member inputs outputs"]
    bias: Float[Array, "*member outputs"]

    def __init__(self, outputs: int):
        self.weight, self.bias = jnp.zeros((2, outputs)), jnp.zeros(outputs)

    def __call__(self, x: Any) -> Array:
        """The logarithms."""
        return jnp.asarray(x @ self.weight + self.bias)


class Transfer(eqx.Module):
    """|B(s)| / |A(s)| as a tuple: polynomials of degree 2 whose coefficients depend on ω₀ and Q.

    With z what the network says of a filter, three numbers for A and, but for ``"published"``, three for B:

        "signed"      coefficients (1 + z₀, z₁, z₂)
        "published"   B = 1, coefficients of A softplus(z)
        "positive"    coefficients exp(z): as accurate, relative to their size, however small they are; with all of
                      them above 0 neither A nor B has a root in the right half plane

    Attributes:
        network: from scaled (log ω₀, log Q), ``[filter, 2]``, to z ``[filter, 3 or 6]``.
        form: which of the three.
    """

    network: Callable[[Any], Any]
    form: Form = eqx.field(static=True)

    def __call__(self, filters: Filters) -> Projective:
        """P and Q, both ``[filter, point]``."""
        z = self.network(_scaled(filters.parameters))
        one = jnp.asarray([1.0, 0.0, 0.0], z.dtype)
        if self.form == "published":
            below, above = jax.nn.softplus(z), jnp.broadcast_to(one, z.shape)
        else:
            coefficients = jnp.exp(z) if self.form == "positive" else z + jnp.tile(one, 2)
            below, above = coefficients[:, :3], coefficients[:, 3:]
        return Projective(_magnitude(above, filters.frequency), _magnitude(below, filters.frequency))


def transfer(form: Form, *, width: int, key: Key[Array, ""]) -> Transfer:
    """A `Transfer` whose coefficients come of a perceptron."""
    return Transfer(
        Perceptron(2, 3 if form == "published" else 6, width=width, depth=2, key=key, dtype=jnp.float32), form
    )


def _magnitude(coefficients: Any, frequency: Any) -> Array:
    """|c₀ + c₁ s + c₂ s²|, ``[filter, point]``, of ``[filter, 3]``; a shade above 0 where that is 0."""
    c0, c1, c2 = (coefficients[:, i, None] for i in range(3))
    omega = jnp.exp(jnp.asarray(frequency))
    return jnp.sqrt(jnp.square(c0 - c2 * omega**2) + jnp.square(c1 * omega) + _FLOOR**2)


def log_gain(model: Callable[[Filters], Projective], filters: Filters) -> Array:
    """log P - log Q, ``[filter, point]``."""
    P, Q = model(filters)
    return jnp.log(P) - jnp.log(Q)


def log_ratio_loss(outputs: tuple[Any, Any], targets: Targets) -> Float[Array, ""]:
    """Mean of (log P/Q - log y)², which no common factor of P and Q changes. For P, Q and labels above 0."""
    P, Q = outputs
    return jnp.mean(jnp.square(jnp.log(P) - jnp.log(Q) - jnp.log(jnp.asarray(targets.numerator))))


class FitObjective(eqx.Module):
    """A loss of outputs (P, Q) and lifted gains."""

    loss: Callable[[tuple[Any, Any], Targets], Any] = eqx.field(static=True)

    def __call__(self, model: Any, batch: tuple[Filters, Targets], controls: Controls, key: Key[Array, ""]) -> Any:
        """Loss and no metrics."""
        filters, targets = batch
        return self.loss(model(filters), targets), {}


def highest_point(model: Callable[[Filters], Projective], parameters: Any) -> tuple[Array, Array]:
    """Logarithms of the largest gain in the band and of its frequency, ``[filter]``.

    A grid over the band, then three finer ones about the highest point so far: the last has steps of 2e-6, where
    the band of a filter with Q = 500 is 2e-3 wide.
    """
    coarse = jnp.linspace(*BAND, _COARSE, dtype=parameters.dtype)
    fine = jnp.linspace(-1.0, 1.0, _FINE, dtype=parameters.dtype)
    steps = (BAND[1] - BAND[0]) / (_COARSE - 1) * (2.0 / (_FINE - 1)) ** np.arange(_ZOOMS)

    def best(frequency: Array) -> tuple[Array, Array]:
        found = log_gain(model, Filters(parameters, frequency))
        return jnp.max(found, axis=1), jnp.take_along_axis(frequency, jnp.argmax(found, axis=1)[:, None], axis=1)

    def zoom(highest: tuple[Array, Array], step: Array) -> tuple[tuple[Array, Array], None]:
        return best(highest[1] + step * fine), None

    start = best(jnp.broadcast_to(coarse, (len(parameters), _COARSE)))
    (height, where), _ = jax.lax.scan(zoom, start, jnp.asarray(steps, parameters.dtype))
    return height, where[:, 0]
