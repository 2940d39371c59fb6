"""Networks of unit complex numbers, and the same networks sending spikes.

Values are phasors ``[..., features, 2]``, pairs (real, imaginary); weights are complex, kept as pairs of real arrays,
so that optimisers and estimators see real parameters.

    PhasorLinear       z W + b
    PhasorActivation   z / √(|z|² + ε²)
    PhasorReadout      Re(z W)
    PhasorMLP          exp(iπx), then linear and activation as often as it is deep, then the readout

Source: Frady & Sommer 2019, PNAS 116(36); the published system.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ...core import UsageError, whole_number
from ._codes import phase_of, phase_to_spikes, real_to_phasor, spikes_to_phasor


class PhasorLinear(eqx.Module):
    """z W + b over the features.

    Attributes:
        weight: W ``[2, in, out]``, normal with variance 1/(2·in) in each part at first.
        bias: b ``[out, 2]``, 0 at first, or None.

    Args:
        in_features: of input.
        out_features: of output.
        bias: whether there is a b.
        key: of the draw.
        dtype: of the parameters.

    Raises:
        UsageError: a size is no whole number of at least 1; an input that is no phasor of so many features.

    Examples:
        >>> layer = PhasorLinear(3, 5, key=jax.random.key(0))
        >>> layer(real_to_phasor(jnp.zeros((4, 3)))).shape
        (4, 5, 2)
    """

    weight: Float[Array, "2 into out"]
    bias: Float[Array, "out 2"] | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        key: Key[Array, ""],
        dtype: Any = jnp.float32,
    ):
        in_features = whole_number("in_features", in_features, least=1)
        out_features = whole_number("out_features", out_features, least=1)
        deviation = 1 / math.sqrt(2 * in_features)
        self.weight = deviation * jax.random.normal(key, (2, in_features, out_features), dtype)
        self.bias = jnp.zeros((out_features, 2), dtype) if bias else None

    def __call__(self, z: Float[Array, " ..."]) -> Float[Array, "*batch out 2"]:
        """Phasors ``[..., in, 2]`` to complex numbers ``[..., out, 2]``."""
        if z.ndim < 2 or z.shape[-2:] != (self.weight.shape[1], 2):
            raise UsageError(
                f"PhasorLinear takes phasors [..., {self.weight.shape[1]}, 2], real and imaginary part last; got shape "
                f"{z.shape}. Real numbers become phasors through real_to_phasor."
            )
        (a, b), (x, y) = self.weight, (z[..., 0], z[..., 1])
        out = jnp.stack([x @ a - y @ b, x @ b + y @ a], axis=-1)
        return out if self.bias is None else out + self.bias


class PhasorActivation(eqx.Module):
    """To length 1, the phase kept: z / √(|z|² + ε²). Smooth, gradients included, and 0 at 0.

    Attributes:
        epsilon: ε, above 0: lengths well below it are not raised to 1.

    Raises:
        UsageError: ε is not positive and finite.
    """

    epsilon: float = eqx.field(static=True, default=1e-6)

    def __check_init__(self) -> None:
        if not 0 < self.epsilon < math.inf:
            raise UsageError(f"epsilon must be positive and finite, got {self.epsilon!r}.")

    def __call__(self, z: Float[Array, "*shape 2"]) -> Float[Array, "*shape 2"]:
        """Complex numbers to phasors."""
        return z * jax.lax.rsqrt(jnp.sum(jnp.square(z), axis=-1, keepdims=True) + self.epsilon**2)


class PhasorReadout(eqx.Module):
    """Re(z W): phasors to real numbers.

    Attributes:
        linear: W, without bias.

    Args:
        in_features: of input.
        out_features: of output.
        key: of the draw.
        dtype: of the parameters.
    """

    linear: PhasorLinear

    def __init__(self, in_features: int, out_features: int, *, key: Key[Array, ""], dtype: Any = jnp.float32):
        self.linear = PhasorLinear(in_features, out_features, bias=False, key=key, dtype=dtype)

    def __call__(self, z: Float[Array, " ..."]) -> Float[Array, "*batch out"]:
        """Phasors ``[..., in, 2]`` to numbers ``[..., out]``."""
        return self.linear(z)[..., 0]


class PhasorMLP(eqx.Module):
    """A perceptron of phasors, from real numbers to real numbers.

    Attributes:
        layers: the hidden layers, complex and linear.
        activation: after each of them.
        readout: the last.
        scale: radians of an input of 1.

    Args:
        in_size: numbers in.
        out_size: numbers out.
        hidden: phasors of each hidden layer; at least one layer.
        scale: radians of an input of 1; inputs from -1 to 1 then go once around.
        key: of the draw.
        dtype: of the parameters.

    Raises:
        UsageError: a size is no whole number of at least 1, or there is no hidden layer.

    Examples:
        >>> model = PhasorMLP(3, 2, hidden=(8,), key=jax.random.key(0))
        >>> model(jnp.zeros((4, 3))).shape
        (4, 2)
    """

    layers: tuple[PhasorLinear, ...]
    activation: PhasorActivation
    readout: PhasorReadout
    scale: float = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        hidden: Sequence[int] = (64, 64),
        scale: float = math.pi,
        key: Key[Array, ""],
        dtype: Any = jnp.float32,
    ):
        if not hidden:
            raise UsageError("hidden is empty: a phasor network has at least one hidden layer, such as hidden=(64,).")
        *keys, last = jax.random.split(key, len(hidden) + 1)
        sizes = [whole_number("in_size", in_size, least=1), *hidden]
        self.layers = tuple(
            PhasorLinear(into, out, key=key, dtype=dtype)
            for into, out, key in zip(sizes[:-1], sizes[1:], keys, strict=True)
        )
        self.activation = PhasorActivation()
        self.readout = PhasorReadout(sizes[-1], out_size, key=last, dtype=dtype)
        self.scale = scale

    def __call__(self, x: Float[Array, "*batch into"]) -> Float[Array, "*batch out"]:
        """Real numbers to real numbers."""
        z = real_to_phasor(x, scale=self.scale)
        for layer in self.layers:
            z = self.activation(layer(z))
        return self.readout(z)


class SpikingPhasor(eqx.Module):
    """A phasor layer between spikes: a period is decoded, taken through the layer, and encoded again.

    Its output comes a period later than its input, as a phase is only known when the period is over. A unit that was
    silent adds nothing to any sum; one whose sum is 0 stays silent. Encoding rounds to a bin, so no gradient passes:
    train the phasor network and convert it.

    Attributes:
        linear: the layer.
        steps: T, of a period.

    Raises:
        UsageError: steps is no whole number of at least 1; an input of another period or width.

    Examples:
        >>> layer = SpikingPhasor(PhasorLinear(3, 5, key=jax.random.key(0)), 16)
        >>> spikes = phase_to_spikes(jnp.zeros((4, 3)), 16)
        >>> layer(spikes).shape, float(layer(spikes).sum())
        ((4, 16, 5), 20.0)
    """

    linear: PhasorLinear
    steps: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        whole_number("steps", self.steps, least=1)

    def __call__(self, spikes: Float[Array, "batch time into"]) -> Float[Array, "batch time out"]:
        """Spikes of one period to spikes of the next."""
        if spikes.shape[1] != self.steps:
            raise UsageError(
                f"a period has {self.steps} steps; got spikes of shape {spikes.shape}, [batch, time, units]."
            )
        z = self.linear(spikes_to_phasor(spikes))
        return phase_to_spikes(phase_of(z), self.steps, silent=jnp.all(z == 0, axis=-1))
