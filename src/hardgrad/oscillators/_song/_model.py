"""A model of song: an encoder listens, a field sings, a vocal tract filters.

    sound → encoder → raw → field.drives → low-pass → field.coefficients → rollout → vocal tract → sound

The rollout sees the sound only through its drives, which are smooth over a millisecond, and through its first sample.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError
from .._encoders import gaussian_lowpass
from .._fields import AbstractField, evaluate
from .._rollout import Saturation, rollout
from ._tract import VocalTract


class SongModel(eqx.Module):
    """Encoder, field and vocal tract.

    Attributes:
        encoder: ``encoder(x, v)`` gives raw drives ``[batch, frames, outputs]``, from the first sample to the last or
            past it; an attribute ``hop`` says how many samples are between frames, 1 without it.
        field: the right-hand side.
        tract: the filter after it, or None.
        lowpass: standard deviation of the drives' Gaussian low-pass, seconds; 0 is none. 1 ms is published.
        sample_rate: samples a second.
        saturation: bounds of the state.
        substeps: Runge-Kutta steps a sample.
        interpolation: of the drives within a sample: ``"linear"`` or, as published, ``"hold"``.
        form: how the rollout is computed, see `rollout`.
        segment: samples after which a rollout without the kernel lays out its coefficients anew, see `rollout`.

    Raises:
        UsageError: the encoder does not give what the field takes.
    """

    encoder: Any
    field: AbstractField
    tract: VocalTract | None = None
    _: dataclasses.KW_ONLY
    lowpass: float = eqx.field(static=True, default=1e-3)
    sample_rate: int = eqx.field(static=True, default=44100)
    saturation: Saturation = eqx.field(static=True, default_factory=Saturation)
    substeps: int = eqx.field(static=True, default=1)
    interpolation: str = eqx.field(static=True, default="linear")
    form: str = eqx.field(static=True, default="auto")
    segment: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if self.encoder.outputs != self.field.outputs:
            raise UsageError(
                f"the encoder gives {self.encoder.outputs} numbers a frame, {type(self.field).__name__} takes "
                f"{self.field.outputs}: build the encoder with outputs={self.field.outputs}."
            )

    @property
    def hop(self) -> int:
        """Samples between frames of the drives."""
        return int(getattr(self.encoder, "hop", 1))

    def drives(self, x: Float[Array, "batch time"], v: Float[Array, "batch time"]) -> dict[str, Array]:
        """Smoothed drives by name, ``[batch, frames, ...]``."""
        return self.smooth(self.field.drives(self.encoder(x, v)))

    def smooth(self, drives: dict[str, Array]) -> dict[str, Array]:
        """The low-pass."""
        sigma = self.lowpass * self.sample_rate / self.hop
        return {name: gaussian_lowpass(drive, sigma, axis=1) for name, drive in drives.items()}

    def coefficients(self, raw: Float[Array, "batch frames outputs"]) -> Float[Array, "batch frames terms"]:
        """From the encoder's numbers to the field's coefficients."""
        return self.field.coefficients(self.smooth(self.field.drives(raw)))

    def at_samples(
        self, coefficients: Float[Array, "batch frames terms"], time: int
    ) -> Float[Array, "batch time terms"]:
        """Coefficients of every sample, as the rollout sees them; the last frame's hold beyond it."""
        if self.hop == 1:
            return coefficients
        at = jnp.arange(time)
        left = at // self.hop
        share = ((at % self.hop) / self.hop).astype(coefficients.dtype)[:, None]
        right = jnp.minimum(left + 1, coefficients.shape[1] - 1)
        return coefficients[:, left] * (1.0 - share) + coefficients[:, right] * share

    def acceleration(
        self,
        coefficients: Float[Array, "batch frames terms"],
        x: Float[Array, "batch time"],
        v: Float[Array, "batch time"],
    ) -> Float[Array, "batch time"]:
        """x'' at recorded states: teacher forced."""
        return evaluate(self.field.exponents, self.at_samples(coefficients, x.shape[1]), x, v)

    def rollout(
        self,
        coefficients: Float[Array, "batch frames terms"],
        x0: Float[Array, " batch"],
        v0: Float[Array, " batch"],
        samples: int,
    ) -> tuple[Float[Array, "batch samples"], Float[Array, "batch samples"]]:
        """The oscillator's x and v alone, from an initial state on."""
        return rollout(
            self.field.exponents,
            coefficients,
            x0,
            v0,
            saturation=self.saturation,
            substeps=self.substeps,
            interpolation=self.interpolation,
            hop=self.hop,
            samples=samples,
            segment=self.segment,
            form=self.form,
        )

    def radiate(self, x: Float[Array, "batch samples"]) -> Float[Array, "batch samples"]:
        """The sound that leaves the beak."""
        return x if self.tract is None else self.tract(x)

    def __call__(self, x: Float[Array, "batch time"], v: Float[Array, "batch time"]) -> Float[Array, "batch time"]:
        """The model's own song: drives from the whole sound, the state from its first sample, the rest alone."""
        return self.song(x, v)[0]

    def song(
        self, x: Float[Array, "batch time"], v: Float[Array, "batch time"]
    ) -> tuple[Float[Array, "batch time"], Float[Array, "batch time"]]:
        """What a call gives, and the oscillator's own x, before the vocal tract."""
        coefficients = self.coefficients(self.encoder(x, v))
        state, _ = self.rollout(coefficients, x[:, 0], v[:, 0], x.shape[1])
        return self.radiate(state), state
