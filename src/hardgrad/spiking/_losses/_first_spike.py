"""The time of the first spike, as a differentiable function of spikes, and a loss that makes the right class first.

A unit is alive at step t while it has not spiked up to t. Its first spike comes after as many steps as it is alive:

    first = Σ_t Π_{u ≤ t} (1 - s_u)

which is exact for zeros and ones: the index of the first spike, or the number of steps for a unit that stays silent.
It is linear in each s_u, and has a gradient at every s_u up to the first spike: before it, u - first; at the first
itself, minus the wait for the second; after it, none. A silent unit's is u - time: a spike anywhere would come sooner.
(Of probabilities s_u it is the mean waiting time, the sum of a discrete survival function: Kalbfleisch and Prentice
2002, "The statistical analysis of failure time data", chapter 1.)

Cross-entropy of negative times: Mostafa 2018, "Supervised learning based on temporal coding in spiking neural
networks", IEEE TNNLS 29(7).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError
from ._checks import check_labels, check_traces


def first_spike_times(spikes: Any) -> Float[Array, "batch classes"]:
    """Steps before the first spike; the number of steps for a silent unit.

    Args:
        spikes: ``[batch, time, classes]``, zeros and ones.

    Raises:
        UsageError: spikes of another rank.

    Examples:
        >>> spikes = jnp.array([[[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]]])
        >>> first_spike_times(spikes)
        Array([[2., 4.]], dtype=float32)
    """
    check_traces(spikes)
    return jnp.sum(jnp.cumprod(1.0 - spikes, axis=1), axis=1)


@dataclasses.dataclass(frozen=True)
class FirstSpikeLoss:
    """Softmax cross-entropy of -first/temperature, mean over the batch: the right class is to spike before the others.

    Attributes:
        temperature: steps; a lead of so many steps makes a class e times as likely.

    Raises:
        UsageError: a temperature that is not positive and finite.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.temperature < math.inf:
            raise UsageError(f"temperature must be positive and finite, got {self.temperature!r}.")

    def __call__(self, traces: Any, labels: Any) -> Float[Array, ""]:
        """The loss of spikes ``[batch, time, classes]`` and integer labels ``[batch]``."""
        check_labels(traces, labels)
        log_likely = jax.nn.log_softmax(-first_spike_times(traces) / self.temperature)
        labelled = jax.nn.one_hot(labels, traces.shape[2], dtype=traces.dtype)
        return -jnp.mean(jnp.sum(labelled * log_likely, axis=1))
