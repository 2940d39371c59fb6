"""The column of oscillators: from pitch and loudness at a frame rate to the drives of a limit cycle that sings alone.

A rollout begins in near silence, 1e-3 of noise against a loudest sample of 0.1, and all it gets are its drives, a frame
every 32 samples. The targets are glides with two harmonics and a rise and fall, and no phase is compared.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from numpy.typing import NDArray

from ...core import Controls
from ...oscillators import LimitCycleField, Saturation, SpectralLoss, rollout, stft_magnitude
from ._problem import Problem

SAMPLES, HOP = 256, 32
WIDTH, ROWS = 6, 48
PEAK, COLD = 0.1, 1e-3
CENTRE = 0.3  # radians a sample
_LOSS = SpectralLoss(configs=((64, 16),))
_JUDGED = (64, 16)


class Glides(NamedTuple):
    """What is to be sung.

    Attributes:
        frames: pitch, an octave up a unit of 1, and loudness from 0 to 1, ``[rows, frames, 2]``.
        noise: the first sample and its change ``[rows, 2]``.
        sound: the target ``[rows, samples]``.
        magnitudes: its spectra, as the loss compares them.
    """

    frames: Any
    noise: Any
    sound: Any
    magnitudes: Any


def draw(part: int) -> Glides:
    """Glides of 256 samples within half an octave of the centre, silent before their onset and after their end."""
    rng = np.random.default_rng((2, part))
    time = np.arange(SAMPLES + 1)
    first, last = rng.uniform(-0.5, 0.5, (2, ROWS, 1))
    onset, end = rng.uniform(16, 64, (ROWS, 1)), rng.uniform(176, 240, (ROWS, 1))
    pitch = first + (last - first) * time / SAMPLES
    loud = _step((time - onset) / 24.0) * _step((end - time) / 24.0)
    phase = np.cumsum(CENTRE * 2.0**pitch, axis=1) + rng.uniform(0, 2 * np.pi, (ROWS, 1))
    sound = (PEAK * loud * (np.sin(phase) + 0.3 * np.sin(2 * phase)) / 1.2)[:, :SAMPLES].astype(np.float32)
    frames = np.stack([pitch, loud], axis=-1)[:, ::HOP].astype(np.float32)
    noise = (COLD * rng.standard_normal((ROWS, 2)) * [1.0, CENTRE]).astype(np.float32)
    magnitudes = tuple(np.asarray(one) for one in jax.jit(_LOSS.magnitudes)(sound))
    return Glides(frames, noise, sound, magnitudes)


def _step(x: NDArray[Any]) -> NDArray[Any]:
    clipped = np.clip(x, 0.0, 1.0)
    return np.asarray(clipped * clipped * (3.0 - 2.0 * clipped))


class Singer(eqx.Module):
    """A perceptron on frames, and the field it drives.

    Attributes:
        network: from pitch and loudness to the field's numbers.
        field: the oscillator.
    """

    network: eqx.nn.MLP
    field: LimitCycleField = eqx.field(static=True)

    def __init__(self, key: Key[Array, ""]):
        self.field = LimitCycleField(amplitude=PEAK)
        network = eqx.nn.MLP(2, self.field.outputs, WIDTH, 1, jnp.tanh, key=key)
        centre = jnp.zeros(self.field.outputs).at[0].set(jnp.log(CENTRE))
        at = lambda network: network.layers[-1].bias
        self.network = eqx.tree_at(at, network, replace_fn=lambda bias: 0.1 * bias + centre)

    def __call__(self, glides: Glides) -> Float[Array, "rows samples"]:
        """The sound, from noise on."""
        raw = jax.vmap(jax.vmap(self.network))(jnp.asarray(glides.frames))
        coefficients = self.field.coefficients(self.field.drives(raw))
        noise = jnp.asarray(glides.noise)
        x, _ = rollout(
            self.field.exponents,
            coefficients,
            noise[:, 0],
            noise[:, 1],
            saturation=Saturation("knee", x_bound=4.0 * PEAK, v_bound=4.0 * PEAK),
            interpolation="linear",
            hop=HOP,
            samples=SAMPLES,
        )
        return x


class SungSpectra(eqx.Module):
    """The spectral loss of what is sung alone."""

    def __call__(self, model: Singer, batch: Glides, controls: Controls, key: Key[Array, ""]) -> Any:
        """Loss and no metrics."""
        return _LOSS.compare(model(batch), batch.magnitudes), {}


def spectral_error(model: Singer, glides: Glides) -> Array:
    """Mean over sounds of ‖target - sung‖ / ‖target‖, of magnitude spectra: 1 for silence."""
    sung, target = (stft_magnitude(jnp.asarray(sound), *_JUDGED) for sound in (model(glides), glides.sound))
    distance, norm = (jnp.sqrt(jnp.sum(jnp.square(x), axis=(1, 2))) for x in (target - sung, target))
    return jnp.mean(distance / norm)


def songs() -> Problem:
    """The problem."""
    parts = [draw(part) for part in range(3)]
    return Problem(
        name="song",
        title="oscillator",
        about=f"a limit cycle driven by a perceptron of {WIDTH} units sings {SAMPLES} samples alone from near silence",
        unit="relative error of the spectra",
        build=Singer,
        objective=SungSpectra(),
        score=spectral_error,
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        batch_size=4,
        trivial=1.0,
        trivial_is="silence",
    )
