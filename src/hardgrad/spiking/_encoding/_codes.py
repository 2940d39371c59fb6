"""Codes: from numbers to spikes, floats of exactly 0 and 1 in the numbers' dtype."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ...core import UsageError, whole_number


def rate_code(values: Any, steps: int, *, most: float = 0.75, key: Key[Array, ""]) -> Float[Array, "batch time *rest"]:
    """Each value as the rate of independent spikes: Bernoulli(most·value) at every step.

    Args:
        values: ``[batch, ...]`` in [0, 1]; smaller ones never spike, larger ones count as 1.
        steps: time steps to make.
        most: probability of a spike at value 1, in (0, 1].
        key: of the draw.

    Raises:
        UsageError: numbers that are no floats, or an argument out of range.

    Examples:
        >>> rate_code(jnp.array([[0.0, 1.0]]), 4, most=1.0, key=jax.random.key(0))[0]
        Array([[0., 1.],
               [0., 1.],
               [0., 1.],
               [0., 1.]], dtype=float32)
    """
    values, steps = _floats(values), whole_number("steps", steps, least=1)
    if not 0.0 < most <= 1.0:
        raise UsageError(f"most is a probability above 0, got {most!r}.")
    shape = values.shape[0], steps, *values.shape[1:]
    drawn = jax.random.uniform(key, shape, values.dtype)
    return (drawn < most * jnp.clip(values, 0.0, 1.0)[:, None]).astype(values.dtype)


def latency_code(values: Any, steps: int, *, threshold: float = 0.01) -> Float[Array, "batch time *rest"]:
    """Each value as the time of one spike: the larger, the sooner, at step round((1 - value)·(steps - 1)).

    Args:
        values: ``[batch, ...]`` in [0, 1]; those outside count as the nearer end.
        steps: time steps to make.
        threshold: values up to here stay silent.

    Raises:
        UsageError: numbers that are no floats, or an argument out of range.

    Examples:
        >>> latency_code(jnp.array([[1.0, 0.5, 0.0]]), 3)[0]
        Array([[1., 0., 0.],
               [0., 1., 0.],
               [0., 0., 0.]], dtype=float32)
    """
    values, steps = jnp.clip(_floats(values), 0.0, 1.0), whole_number("steps", steps, least=1)
    when = jnp.round((1.0 - values) * (steps - 1)).astype(jnp.int32)
    times = jnp.arange(steps, dtype=jnp.int32).reshape(-1, *[1] * (values.ndim - 1))
    return jnp.where(values[:, None] > threshold, when[:, None] == times, False).astype(values.dtype)


def delta_code(signal: Any, threshold: float) -> Float[Array, "batch time *rest 2"]:
    """Changes of a signal as events, up and down apart.

    A level follows the signal, from its first value on, by at most one event a step: where the signal is at least
    `threshold` above it an up event is sent and the level rises by `threshold`; down likewise. So
    ``signal[:, :1] + threshold·cumsum(up - down)`` stays within one threshold of a signal that changes by less than
    that in a step, slow drifts included (Miskowicz 2006, "Send-on-delta concept", Sensors 6(1); the pixel of an event
    camera: Lichtsteiner, Posch, Delbruck 2008, IEEE JSSC 43(2)).

    Args:
        signal: ``[batch, time, ...]``.
        threshold: change for which one event is sent, positive.

    Returns:
        Events ``[batch, time, ..., 2]``: up, down.

    Raises:
        UsageError: a signal without time, or a threshold that is not positive.

    Examples:
        >>> events = delta_code(jnp.array([[0.0, 0.6, 1.0, 0.2]]), 0.5)
        >>> events[0, :, 0], events[0, :, 1]
        (Array([0., 1., 1., 0.], dtype=float32), Array([0., 0., 0., 1.], dtype=float32))
    """
    signal = _floats(signal)
    if signal.ndim < 2 or signal.shape[1] == 0:
        raise UsageError(f"a signal is [batch, time, ...] with at least one step, got shape {signal.shape}.")
    if not 0.0 < threshold < math.inf:
        raise UsageError(f"threshold must be positive and finite, got {threshold!r}.")

    def step(level: Any, x: Any) -> tuple[Any, Any]:
        up, down = (x - level >= threshold).astype(x.dtype), (level - x >= threshold).astype(x.dtype)
        return level + threshold * (up - down), jnp.stack([up, down], axis=-1)

    over_time = jnp.swapaxes(signal, 0, 1)
    return jnp.swapaxes(jax.lax.scan(step, over_time[0], over_time)[1], 0, 1)


def angle_code(values: Any, neurons: int, low: float, high: float) -> Float[Array, "*values neurons"]:
    """Each value as the one active neuron of a population, whose ranges divide [low, high] equally.

    Neuron i is active from low + i·(high - low)/neurons on, up to the next one's start. Values outside belong to the
    first and the last.

    Args:
        values: of any shape.
        neurons: size of the population.
        low: least value.
        high: greatest value, above `low`.

    Raises:
        UsageError: numbers that are no floats, or an argument out of range.

    Examples:
        >>> angle_code(jnp.array([0.1, 0.5, 1.0]), 2, 0.0, 1.0)
        Array([[1., 0.],
               [0., 1.],
               [0., 1.]], dtype=float32)
    """
    values, neurons = _floats(values), whole_number("neurons", neurons, least=1)
    if not (low < high and math.isfinite(high - low)):
        raise UsageError(f"low must be below high, both finite; got {low!r} and {high!r}.")
    place = jnp.floor((values - low) / (high - low) * neurons)
    return jax.nn.one_hot(jnp.clip(place, 0, neurons - 1).astype(jnp.int32), neurons, dtype=values.dtype)


def _floats(values: Any) -> Any:
    array = jnp.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise UsageError(f"numbers to encode must be floats, got {array.dtype}. Scale them first: values / 255.0.")
    return array
