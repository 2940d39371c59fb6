"""The multi-resolution spectral loss: how far a sound's magnitude spectra are from a target's.

For each resolution (n_fft, hop), with A the magnitudes of the generated sound, G those of the target, and means over
batch, frames and frequencies:

    parallel_wavegan   mean_b ‖G - A‖_F / (‖G‖_F + eps_sc)  +  mean |ln (G + eps) - ln (A + eps)|
    ddsp               mean |G - A|  +  alpha · mean |ln (G + eps) - ln (A + eps)|

and the mean over resolutions. A frame is n_fft samples under a periodic Hann window, centred on every hop-th sample of
the sound, which is reflected at its ends; magnitudes are one-sided and not normalised.

Sources: Yamamoto et al. 2020, arXiv:1910.11480 (Parallel WaveGAN), eqs. 4-6, for the first form, which the published
system uses; Engel et al. 2020, arXiv:2001.04643 (DDSP), section 4.2.1, for the second, there as sums.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.typing import NDArray

from ...core import UsageError, did_you_mean, finite_number, whole_number
from ._checks import Scalar, Values, rows
from ._slopes import absolute, root

SpectralForm = Literal["parallel_wavegan", "ddsp"]
"""Which formula compares magnitudes."""

Magnitudes = tuple[Float[Array, "batch frames frequencies"], ...]
"""One array of magnitudes a resolution."""

# Up to here a product with the matrix of cosines and sines is faster than an FFT on a CPU (1.2-1.5 times at 64 and 128,
# even at 256, slower above: 2 cores, batch 32, 2048 samples, forward and backward).
_MATRIX_UP_TO = 128

_LEAST_SAMPLES = 9  # what the smallest window, 16, needs to reflect


def stft_magnitude(x: Values, n_fft: int, hop: int) -> Float[Array, "batch frames frequencies"]:
    """Magnitudes of the short-time Fourier transform, with a gradient that is 0, not NaN, where they are 0.

    Args:
        x: sound ``[batch, time]``; time above ``n_fft // 2``, which is how far it is reflected.
        n_fft: samples in a window, at least 2.
        hop: samples between frames, at least 1.

    Returns:
        ``[batch, frames, n_fft // 2 + 1]`` in the dtype of `x`, at least float32; for an even `n_fft`
        ``1 + time // hop`` frames. The unit is that of x times samples: a sine of amplitude a has a peak of a·n_fft/4.

    Raises:
        UsageError: a shape or number out of range.

    Examples:
        >>> sine = jnp.sin(2 * jnp.pi * 8 / 64 * jnp.arange(256.0))[None]
        >>> magnitude = stft_magnitude(sine, 64, 16)
        >>> magnitude.shape, int(magnitude[0, 8].argmax()), round(float(magnitude[0, 8, 8]), 3)
        ((1, 17, 33), 8, 16.0)
    """
    (x,) = rows(x=x)
    n_fft, hop = whole_number("n_fft", n_fft, least=2), whole_number("hop", hop, least=1)
    if x.shape[1] <= n_fft // 2:
        raise UsageError(
            f"a sound of {x.shape[1]} samples is too short for n_fft={n_fft}: reflecting it takes {n_fft // 2 + 1}. "
            "Take a longer sound or a smaller n_fft."
        )
    frames = frames_of(x, n_fft, hop)
    if n_fft <= _MATRIX_UP_TO:
        cosines, sines = (jnp.asarray(matrix, x.dtype) for matrix in _fourier_matrices(n_fft))
        real, imaginary = (jnp.matmul(frames, matrix, precision="highest") for matrix in (cosines, sines))
    else:
        transform = jnp.fft.rfft(frames * jnp.asarray(_hann(n_fft), x.dtype))
        real, imaginary = jnp.real(transform), jnp.imag(transform)
    return root(jnp.square(real) + jnp.square(imaginary))


def frames_of(x: Array, n_fft: int, hop: int) -> Array:
    """``[batch, frames, n_fft]``: a frame is so many neighbouring blocks of `hop` samples, cut to length.

    Slices of a reshaped array, because a gather's backward pass is a scatter, which is slow.
    """
    x = jnp.pad(x, ((0, 0), (n_fft // 2, n_fft // 2)), mode="reflect")
    count = 1 + (x.shape[1] - n_fft) // hop
    blocks_each = -(-n_fft // hop)
    blocks = count + blocks_each - 1
    x = jnp.pad(x, ((0, 0), (0, max(0, blocks * hop - x.shape[1]))))[:, : blocks * hop]
    x = x.reshape(x.shape[0], blocks, hop)
    return jnp.concatenate([x[:, i : i + count] for i in range(blocks_each)], axis=-1)[..., :n_fft]


@functools.lru_cache(maxsize=32)
def _hann(n_fft: int) -> NDArray[np.float64]:
    return 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(n_fft) / n_fft)


@functools.lru_cache(maxsize=32)
def _fourier_matrices(n_fft: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines and sines of the one-sided transform ``[n_fft, frequencies]`` under the window."""
    turns = np.arange(n_fft)[:, None] * np.arange(n_fft // 2 + 1) % n_fft
    angle = 2.0 * np.pi * turns / n_fft
    return _hann(n_fft)[:, None] * np.cos(angle), -_hann(n_fft)[:, None] * np.sin(angle)


@dataclasses.dataclass(frozen=True)
class SpectralLoss:
    """The multi-resolution spectral loss of a generated sound against a target.

    A resolution whose window is longer than the sound is left out; if none is left, one stands in, with
    ``n_fft = max(16, samples // 2)`` and ``hop = max(1, n_fft // 4)``.

    Attributes:
        configs: pairs ``(n_fft, hop)``, 1 ≤ hop ≤ n_fft. DDSP's are n_fft 2048, 1024, …, 64 with hop n_fft/4.
        eps: added to magnitudes under a logarithm, above 0, in the unit of `stft_magnitude`.
        eps_sc: added to the target's norm in the first form, above 0. An exactly silent target divides by it alone.
        form: ``"parallel_wavegan"`` or ``"ddsp"``.
        alpha: weight of the logarithms in DDSP's form, at least 0; the other form does not read it.

    Raises:
        UsageError: a number or name out of range.

    Examples:
        >>> loss = SpectralLoss()
        >>> sound = jnp.sin(0.1 * jnp.arange(2048.0))[None]
        >>> float(loss(sound, sound)), round(float(loss(2 * sound, sound)), 2)
        (0.0, 1.28)
        >>> loss.resolutions(600)
        ((256, 64), (512, 128))
    """

    configs: tuple[tuple[int, int], ...] = ((256, 64), (512, 128), (1024, 256))
    _: dataclasses.KW_ONLY
    eps: float = 1e-3
    eps_sc: float = 1e-2
    form: SpectralForm = "parallel_wavegan"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not self.configs:
            raise UsageError("a spectral loss needs at least one pair (n_fft, hop), got none.")
        for config in self.configs:
            if len(config) != 2:
                raise UsageError(f"configs holds pairs (n_fft, hop), got {config!r}.")
            whole_number("hop", config[1], least=1, most=whole_number("n_fft", config[0], least=2))
        finite_number("eps", self.eps, above=0.0)
        finite_number("eps_sc", self.eps_sc, above=0.0)
        finite_number("alpha", self.alpha, least=0.0)
        if self.form not in get_args(SpectralForm):
            raise UsageError(f"form is not {self.form!r}. {did_you_mean(str(self.form), get_args(SpectralForm))}")

    def __call__(self, generated: Values, target: Values) -> Scalar:
        """The loss of sounds ``[batch, time]``. No gradient reaches the target.

        Raises:
            UsageError: shapes that differ, or sounds of fewer than 9 samples.
        """
        generated, target = rows(generated=generated, target=target)
        return self.compare(generated, self.magnitudes(target))

    def resolutions(self, samples: int) -> tuple[tuple[int, int], ...]:
        """The pairs ``(n_fft, hop)`` that are used for sounds of so many samples, at least 9."""
        whole_number("samples of a sound", samples, least=_LEAST_SAMPLES)
        fitting = tuple(config for config in self.configs if config[0] <= samples)
        n_fft = max(16, samples // 2)
        return fitting or ((n_fft, max(1, n_fft // 4)),)

    def magnitudes(self, target: Values) -> Magnitudes:
        """The target's magnitudes for `compare`, without gradient: computed once, used often."""
        (target,) = rows(target=target)
        target = jax.lax.stop_gradient(target)
        return tuple(stft_magnitude(target, n_fft, hop) for n_fft, hop in self.resolutions(target.shape[1]))

    def compare(self, generated: Values, magnitudes: Sequence[Any]) -> Scalar:
        """The loss of a sound ``[batch, time]`` against `magnitudes` of targets of the same shape.

        Raises:
            UsageError: the magnitudes are not those of such targets.
        """
        (generated,) = rows(generated=generated)
        ours = [stft_magnitude(generated, n_fft, hop) for n_fft, hop in self.resolutions(generated.shape[1])]
        shapes, given = [a.shape for a in ours], [jnp.shape(g) for g in magnitudes]
        if shapes != given:
            raise UsageError(
                f"magnitudes must have the shapes {shapes}, as of a target of the same shape; got {given}."
            )
        terms = [self._term(a, jnp.asarray(g).astype(a.dtype)) for a, g in zip(ours, magnitudes, strict=True)]
        return sum(terms[1:], terms[0]) / len(terms)

    def _term(self, generated: Array, target: Array) -> Array:
        logarithms = jnp.mean(absolute(jnp.log((target + self.eps) / (generated + self.eps))))
        difference = target - generated
        if self.form == "ddsp":
            return jnp.mean(absolute(difference)) + self.alpha * logarithms
        distance, norm = (root(jnp.sum(jnp.square(x), axis=(1, 2))) for x in (difference, target))
        return jnp.mean(distance / (norm + self.eps_sc)) + logarithms
