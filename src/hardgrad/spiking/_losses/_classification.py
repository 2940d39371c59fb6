"""Cross-entropy of a readout, or of each time step; accuracy."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._checks import check_fraction, check_labels, smooth_one_hot
from ._readouts import check_readout, readout


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
    """Softmax cross-entropy of scores read out over time, mean over the batch.

    Logits are the `readout` of the traces; the target is (1 - ε)·onehot + ε/classes.

    Attributes:
        readout: ``"sum"``, ``"mean"``, ``"last"`` or ``"max"``, see `readout`. Sums grow with the number of steps, and
            with them the confidence that a loss near its floor asks for.
        smoothing: ε in [0, 1).

    Raises:
        UsageError: a value out of range.

    Examples:
        >>> loss = CrossEntropy(smoothing=0.0)
        >>> loss(jnp.zeros((5, 10, 4)), jnp.zeros(5, int))  # log 4
        Array(1.3862944, dtype=float32)
    """

    readout: str = "sum"
    smoothing: float = 0.3

    def __post_init__(self) -> None:
        check_readout(self.readout)
        check_fraction("smoothing", self.smoothing)

    def __call__(self, traces: Any, labels: Any) -> Float[Array, ""]:
        """The loss.

        Args:
            traces: ``[batch, time, classes]``.
            labels: ``[batch]``, integers.
        """
        check_labels(traces, labels)
        return jnp.mean(_cross_entropy(readout(traces, self.readout), labels, self.smoothing))


@dataclasses.dataclass(frozen=True)
class StepCrossEntropy:
    """Softmax cross-entropy of every time step's traces by themselves, mean over batch and time.

    Each step is asked for the class at once, so that a decision may be read early; with the delay of one step a spiking
    layer has, the first steps cannot know, and count all the same.

    Attributes:
        smoothing: ε in [0, 1), as in `CrossEntropy`.

    Raises:
        UsageError: a value out of range.
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_fraction("smoothing", self.smoothing)

    def __call__(self, traces: Any, labels: Any) -> Float[Array, ""]:
        """The loss of traces ``[batch, time, classes]`` and integer labels ``[batch]``."""
        check_labels(traces, labels)
        return jnp.mean(_cross_entropy(traces, labels[:, None], self.smoothing))


def _cross_entropy(logits: Any, labels: Any, smoothing: float) -> Any:
    target = smooth_one_hot(labels, logits.shape[-1], smoothing, logits.dtype)
    return -jnp.sum(target * jax.nn.log_softmax(logits), axis=-1)


def accuracy(traces: Any, labels: Any, kind: str = "sum") -> Float[Array, ""]:
    """Share of samples whose class has the highest score; of equal scores the first counts.

    Args:
        traces: ``[batch, time, classes]``.
        labels: ``[batch]``, integers.
        kind: the `readout`.

    Raises:
        UsageError: shapes that do not fit, or an unknown readout.
    """
    check_labels(traces, labels)
    hits = jnp.argmax(readout(traces, kind), axis=-1) == labels
    return jnp.mean(hits.astype(traces.dtype))
