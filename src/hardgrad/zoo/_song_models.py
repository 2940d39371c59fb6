"""What the song recipes train: architectures by name."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax

from ..oscillators import (
    FrameEncoder,
    LimitCycleField,
    MambaEncoder,
    PolynomialField,
    Saturation,
    SongModel,
    SyrinxField,
    VocalTract,
    with_oscillator_prior,
    zero_heads,
)
from ._song_birds import Bird

Architecture = Literal["cycle", "published", "syrinx"]


def song_model(
    architecture: Architecture, bird: Bird, *, key: Any, width: int, order: int, tract: int, lowpass_ms: float
) -> SongModel:
    """A model for a bird's songs, fitted to their loudness.

    Args:
        architecture: ``"cycle"``: the limit-cycle field, driven by the frame encoder; ``"published"``: the polynomial
            field with the oscillator prior, driven by three Mamba stacks; ``"syrinx"``: the field of 2021, driven by
            the frame encoder.
        bird: whose songs.
        key: of the start.
        width: channels of the frame encoder.
        order: of the polynomial; highest total degree of the limit-cycle field.
        tract: taps of the vocal tract; 0 is none.
        lowpass_ms: of the drives.
    """
    sound, change = bird.peaks
    frames = eqx.filter_jit(partial(FrameEncoder, width=width, sample_rate=bird.sample_rate))
    common: dict[str, Any] = {
        "tract": VocalTract(tract) if tract else None,
        "lowpass": lowpass_ms * 1e-3,
        "sample_rate": bird.sample_rate,
        "saturation": Saturation("knee", x_bound=4.0 * sound, v_bound=4.0 * change),
    }
    if architecture == "published":
        published = PolynomialField(order=order, keep_const=True)
        mamba = MambaEncoder((1, 1, (order + 1) ** 2), key=key)
        return SongModel(with_oscillator_prior(mamba, published), published, **common)
    if architecture == "syrinx":
        syrinx = SyrinxField(rate=0.5, amplitude=sound)
        encoder = frames(syrinx.outputs, pitch=False, key=key)
        return SongModel(zero_heads(encoder), syrinx, **common)
    cycle = LimitCycleField(degree=order, amplitude=sound)
    return SongModel(frames(cycle.outputs, key=key), cycle, **common)


def seeded(seed: int, name: str) -> Any:
    """The key of an arm's start."""
    return jax.random.fold_in(jax.random.key(seed), sum(name.encode()))


def count(model: Any) -> int:
    """Trained numbers of a model."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
