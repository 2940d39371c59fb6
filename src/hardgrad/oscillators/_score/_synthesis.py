"""From a rollout to a sound that is played, and the one-step R² of accelerations."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
from jaxtyping import Float

from ...core import UsageError, finite_number
from .._data import write_wav
from ._windows import SILENT, Sound

Accelerations = Float[np.ndarray, "..."]
"""``[segments, time]``."""


def deployed(generated: Sound, reference_rms: float) -> Sound:
    """The rollout at the loudness of a reference: times ``reference_rms`` over its own standard deviation.

    A rollout that is not finite, or silent (standard deviation below 1e-9), is returned as it is.

    Args:
        generated: ``[time]``, detrended or high-passed as the reference is.
        reference_rms: standard deviation to reach, above 0, in the unit of the sound. Published: that of the detrended
            recording.

    Returns:
        float64 ``[time]``.

    Raises:
        UsageError: a number out of range.

    Examples:
        >>> deployed(np.array([-1.0, 1.0]), 0.25)
        array([-0.25,  0.25])
    """
    reference_rms = finite_number("reference_rms", reference_rms, above=0.0)
    sound = np.array(generated, np.float64)
    if not np.isfinite(sound).all() or (loudness := float(np.std(sound))) < SILENT:
        return sound
    return sound * (reference_rms / loudness)


def peak_normalise(sound: Sound, peak: float = 0.95) -> Sound:
    """The sound scaled so that its largest magnitude is `peak`.

    Args:
        sound: ``[time]``, finite and not all 0.
        peak: above 0.

    Returns:
        float64 ``[time]``.

    Raises:
        UsageError: nothing to scale, or a number out of range.

    Examples:
        >>> peak_normalise(np.array([0.0, -0.2, 0.1]))
        array([ 0.   , -0.95 ,  0.475])
    """
    peak = finite_number("peak", peak, above=0.0)
    values = np.asarray(sound, np.float64)
    if not np.isfinite(values).all():
        raise UsageError(
            f"sample {int(np.argmin(np.isfinite(values)))} of the sound is not finite: it can't be scaled."
        )
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        raise UsageError("the sound is silent throughout: it has no peak to scale.")
    return values / largest * peak  # in this order a subnormal peak does not overflow


def write_generated(path: str | os.PathLike[str], sound: Sound, sample_rate: int, *, peak: float = 0.95) -> None:
    """Write a generated sound as 16-bit WAV, its largest magnitude at `peak`.

    Args:
        path: where; its folder exists.
        sound: ``[time]``, finite and not all 0.
        sample_rate: samples a second.
        peak: above 0, at most 1.

    Raises:
        UsageError: a sound that is not finite, or silent, a number out of range, or a place that can't be written.
    """
    write_wav(path, peak_normalise(sound, peak), sample_rate)


@dataclasses.dataclass(frozen=True)
class OneStepR2:
    """The share of the variance of accelerations that a model explains at recorded states.

    Attributes:
        mean: over segments.
        std: over segments, of the population.
        segments: of each, at most 1; NaN for one whose acceleration does not vary, which counts in neither figure.
    """

    mean: float
    std: float
    segments: tuple[float, ...]


def one_step_r2(true: Accelerations, model: Accelerations) -> OneStepR2:
    """R² = 1 - Σ (x''_model - x''_data)² / Σ (x''_data - mean)², for each segment.

    Args:
        true: x'' of the recording ``[segments, time]``, finite.
        model: x'' of the field at the recorded states. A segment in which it is not finite has R² -inf.

    Raises:
        UsageError: shapes that differ, a recording that is not finite, or one that does not vary in any segment.

    Examples:
        >>> one_step_r2(np.array([[0.0, 2.0], [1.0, 1.0]]), np.array([[0.0, 1.0], [1.0, 1.0]]))
        OneStepR2(mean=0.5, std=0.0, segments=(0.5, nan))
    """
    if np.shape(true) != np.shape(model) or np.ndim(true) != 2:
        raise UsageError(
            f"accelerations must have one shape [segments, time], got {np.shape(true)}, {np.shape(model)}."
        )
    data, ours = np.asarray(true, np.float64), np.asarray(model, np.float64)
    if not np.isfinite(data).all():
        raise UsageError("the recording's accelerations must be finite.")
    spread = np.sum((data - data.mean(axis=1, keepdims=True)) ** 2, axis=1)
    varies = spread > 0.0
    if not varies.any():
        raise UsageError("no segment's acceleration varies: R² has no meaning for silence. Score segments with sound.")
    with np.errstate(over="ignore", invalid="ignore"):
        error = np.nan_to_num(np.sum((ours - data) ** 2, axis=1), nan=np.inf)
    each = np.where(varies, 1.0 - error / np.where(varies, spread, 1.0), np.nan)
    counted = each[varies]
    std = float(np.std(counted)) if np.isfinite(counted).all() else float("nan")
    return OneStepR2(float(np.mean(counted)), std, tuple(each.tolist()))
