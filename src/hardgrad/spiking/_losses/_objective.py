"""What a spiking network is trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ...core import Controls, Metrics, UsageError
from .._network import Network, run
from ._classification import CrossEntropy, accuracy

_SATURATED = 0.9


class SpikingObjective(eqx.Module):
    """A loss of a network's outputs, with penalties on its spikes. The batch is ``(inputs, labels)``.

    Inputs are ``[batch, time, ...]``, labels ``[batch]`` integers. Inputs of dtype uint8 are bits along time, as
    `pack_bits` makes them, and stay packed but for the step at hand; `steps` says how many there are.

    Metrics: ``accuracy``, and of a network with spiking cells ``firing_rate`` (spikes a unit and step),
    ``silent_units`` (share of units that spike in no sample of the batch), ``saturated_units`` (share of units that
    spike at more than nine of ten steps, on the batch's average) and, where there are penalties, ``penalty``.

    The model may also be any other function from ``[batch, time, ...]`` to traces; it then has no penalties.

    Attributes:
        loss: of traces ``[batch, time, classes]`` and labels, such as `CrossEntropy`.
        penalties: of spike counts, such as `SilencePenalty`; added to the loss.
        readout: by which the accuracy decides; None: the loss's own, or the sum over time.
        steps: time steps of packed inputs.
        segment: as for `run`.
        truncate: as for `run`.
        form: as for `run`.

    Raises:
        UsageError: packed inputs without `steps`, or shapes that do not fit.

    Examples:
        >>> from hardgrad.spiking import LIF, LeakyIntegrator
        >>> a, b = jax.random.split(jax.random.key(0))
        >>> net = Network([eqx.nn.Linear(3, 8, key=a), LIF(8, decay=0.9), eqx.nn.Linear(8, 2, key=b),
        ...                LeakyIntegrator(2)])
        >>> batch = jnp.ones((5, 10, 3)), jnp.zeros(5, int)
        >>> loss, metrics = SpikingObjective(CrossEntropy())(net, batch, {}, jax.random.key(1))
        >>> sorted(metrics)
        ['accuracy', 'firing_rate', 'saturated_units', 'silent_units']
    """

    loss: Callable[[Any, Any], Any] = eqx.field(static=True)
    penalties: tuple[Callable[[Any], Any], ...] = eqx.field(static=True)
    readout: str | None = eqx.field(static=True)
    steps: int | None = eqx.field(static=True)
    segment: int | None = eqx.field(static=True)
    truncate: int | None = eqx.field(static=True)
    form: str = eqx.field(static=True)

    def __init__(
        self,
        loss: Callable[[Any, Any], Any] = CrossEntropy(),  # noqa: B008  frozen
        *,
        penalties: tuple[Callable[[Any], Any], ...] = (),
        readout: str | None = None,
        steps: int | None = None,
        segment: int | None = None,
        truncate: int | None = None,
        form: str = "auto",
    ) -> None:
        self.loss = loss
        self.penalties = tuple(penalties)
        self.readout = readout
        self.steps = steps
        self.segment = segment
        self.truncate = truncate
        self.form = form

    def __call__(
        self, model: Any, batch: Any, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss with its penalties, and metrics."""
        inputs, labels = batch
        packed = inputs.dtype == jnp.uint8
        if packed and self.steps is None:
            raise UsageError(
                "inputs of dtype uint8 are taken for bits packed along time: say how many steps they hold, "
                "SpikingObjective(steps=...), or give floats."
            )
        if not isinstance(model, Network):
            return self._of_traces(model(inputs), labels)
        result = run(
            model,
            inputs,
            count=True,
            segment=self.segment,
            truncate=self.truncate,
            form=self.form,
            steps=self.steps if packed else None,
        )
        loss, metrics = self._of_traces(result.outputs, labels)
        if self.penalties:
            metrics["penalty"] = sum((p(result.counts) for p in self.penalties), jnp.zeros((), loss.dtype))
            loss = loss + metrics["penalty"]
        return loss, metrics | activity(result.counts, result.outputs.shape[1])

    def _of_traces(self, traces: Any, labels: Any) -> tuple[Any, Metrics]:
        kind = getattr(self.loss, "readout", "sum") if self.readout is None else self.readout
        return self.loss(traces, labels), {"accuracy": accuracy(traces, labels, kind)}


def activity(counts: tuple[Any, ...], steps: int) -> Metrics:
    """How busy spiking cells are; empty without one.

    Args:
        counts: spikes of each cell over time ``[batch, *units]``.
        steps: time steps.
    """
    if not counts:
        return {}
    rates = [jax.lax.stop_gradient(jnp.mean(count, axis=0) / steps).ravel() for count in counts]
    every = jnp.concatenate(rates)
    share: Any = lambda flags: jnp.mean(flags.astype(every.dtype))
    return {
        "firing_rate": jnp.mean(every),
        "silent_units": share(every == 0.0),
        "saturated_units": share(every > _SATURATED),
    }
