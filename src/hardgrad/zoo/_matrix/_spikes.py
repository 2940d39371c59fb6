"""Spiking columns: classification with a surrogate gradient, and control with spikes that have no derivative at all.

The networks, data and losses are those of `classification-rsnn` and `control-lif-es`, smaller.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from numpy.typing import NDArray

from ...core import Controls
from ...spiking import CrossEntropy, Network, SpikingObjective, convert, latency
from .. import classification_rsnn, control_lif_es
from ._problem import Problem, Source

HIDDEN = 6
ROWS, HELD_OUT = 1024, 512
HORIZON = 20
_TRAINS = classification_rsnn.Config(samples=ROWS, held_out=HELD_OUT, members=1, hidden=HIDDEN)
_STARTS = control_lif_es.Config(generations=16, batch_size=32, held_out=512)
_ENTROPY = CrossEntropy(smoothing=0.0)
_CHANNELS, _CLASSES = classification_rsnn.CHANNELS, classification_rsnn.CLASSES


def trains(part: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Spike trains ``[1024, 16, 8]`` and labels ``[1024]``."""
    inputs, labels = classification_rsnn.trains(_TRAINS, part)
    return inputs[:, 0], labels[:, 0]


def error_rate(model: Any, rows: Any) -> Array:
    """Share of wrong answers, by the sum over time."""
    inputs, labels = rows
    return _wrong(jnp.sum(model(jnp.asarray(inputs)), axis=1), labels)


def _wrong(scores: Array, labels: Any) -> Array:
    return jnp.mean((jnp.argmax(scores, axis=-1) != jnp.asarray(labels)).astype(scores.dtype))


class OfRates(eqx.Module):
    """Cross-entropy of a network that sees a train's spikes a step, without time."""

    def __call__(self, model: Any, batch: Any, controls: Controls, key: Key[Array, ""]) -> Any:
        """Loss and no metrics."""
        inputs, labels = batch
        logits = jax.vmap(model)(jnp.mean(inputs, axis=1))
        return _ENTROPY(logits[:, None], labels), {}


def _converted_error(model: Network, rows: Any) -> Array:
    """Of a converted network that is given the trains themselves, and as many further steps as it has layers."""
    inputs, labels = rows
    padded = jnp.pad(jnp.asarray(inputs), ((0, 0), (0, latency(model)), (0, 0)))
    return error_rate(model, (padded, labels))


def classification() -> Problem:
    """Which two of eight channels are busy."""
    parts = [trains(part) for part in range(3)]
    judged = classification_rsnn.Accuracies(parts[2][0][:, None], parts[2][1][:, None])
    rates = parts[0][0].mean(axis=1)
    return Problem(
        name="spiking",
        title="spiking",
        about=f"{HIDDEN} recurrent LIF units tell which two of eight channels are busy, surrogate ArcTan",
        unit="error rate",
        build=lambda key: classification_rsnn.network(_TRAINS, key),
        objective=SpikingObjective(_ENTROPY),
        score=error_rate,
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        batch_size=32,
        trivial=1.0 - 1.0 / _CLASSES,
        trivial_is="a guess",
        best=float(1.0 - judged.best[0]),
        source=Source(
            build=lambda key: eqx.nn.MLP(_CHANNELS, _CLASSES, HIDDEN, 1, key=key),
            objective=OfRates(),
            convert=lambda model: convert(model, rates),
            score=_converted_error,
        ),
    )


def control() -> Problem:
    """A point mass pushed home."""
    parts = [control_lif_es.starts(_STARTS, part) for part in range(3)]
    objective = control_lif_es.ControlObjective(HORIZON)
    begun = np.asarray(parts[2], np.float64)
    idle = begun[:, :1] + control_lif_es.DT * begun[:, 1:] * np.arange(1, HORIZON + 1)
    return Problem(
        name="control",
        title="control",
        about=f"{_STARTS.hidden} LIF units push a point mass home; spikes are hard, their derivative is 0",
        unit="cost Σx²",
        build=lambda key: control_lif_es.controller(_STARTS.hidden, key),
        objective=objective,
        score=lambda model, rows: objective(model, jnp.asarray(rows), {}, None)[0],
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        batch_size=32,
        trivial=float(np.mean(np.sum(idle**2, axis=1))),
        trivial_is="doing nothing",
    )
