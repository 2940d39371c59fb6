"""Squared errors: of firing rates, and of the membrane at every step."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError
from ._checks import check_fraction, check_labels, smooth_one_hot


@dataclasses.dataclass(frozen=True)
class SpikeCountError:
    """Squared error of spike counts, per step: mean over batch and classes of (count/time - rate)².

    Both sides are rates, spikes a step in [0, 1]. The right class is asked for `rate`, the others for none; with
    smoothing ε the targets are ((1 - ε)·onehot + ε/classes)·rate.

    Attributes:
        rate: spikes a step asked of the right class, in (0, 1].
        smoothing: ε in [0, 1).

    Raises:
        UsageError: a value out of range.

    Examples:
        >>> spikes = jnp.zeros((1, 8, 2)).at[0, ::4, 1].set(1.0)  # class 1 spikes at every fourth step
        >>> SpikeCountError(rate=0.25)(spikes, jnp.array([1]))
        Array(0., dtype=float32)
    """

    rate: float = 0.25
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise UsageError(f"rate is spikes a step, above 0 and at most 1, got {self.rate!r}.")
        check_fraction("smoothing", self.smoothing)

    def __call__(self, traces: Any, labels: Any) -> Float[Array, ""]:
        """The loss of spikes ``[batch, time, classes]`` and integer labels ``[batch]``."""
        check_labels(traces, labels)
        target = self.rate * smooth_one_hot(labels, traces.shape[2], self.smoothing, traces.dtype)
        return jnp.mean(jnp.square(jnp.mean(traces, axis=1) - target))


@dataclasses.dataclass(frozen=True)
class MembraneError:
    """Squared error of the membrane at every step: mean over batch, time and classes of (V - target)².

    Attributes:
        right: target of the labelled class.
        wrong: target of the others.
    """

    right: float = 1.0
    wrong: float = 0.0

    def __call__(self, traces: Any, labels: Any) -> Float[Array, ""]:
        """The loss of membranes ``[batch, time, classes]`` and integer labels ``[batch]``."""
        check_labels(traces, labels)
        labelled = jax.nn.one_hot(labels, traces.shape[2], dtype=traces.dtype)
        target = self.wrong + (self.right - self.wrong) * labelled
        return jnp.mean(jnp.square(traces - target[:, None]))
