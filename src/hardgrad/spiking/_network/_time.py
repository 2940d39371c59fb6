"""Scans over time: steps that keep their state alone, gradients that are cut, segments that are run again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

Step: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]
"""``step(state, x) -> (state, out)``."""
Stretch: TypeAlias = Callable[[Any, Any, Any], tuple[Any, Any]]
"""``stretch(state, inputs [time, ...], times [time]) -> (state, outputs [time, ...])``."""


def over_steps(step: Step, state: Any, inputs: Any, times: Any, truncate: int | None) -> tuple[Any, Any]:
    """A scan whose backward pass keeps states and inputs, and works out a step's insides again.

    Since a spike depends on the state alone, that takes no matrix product a second time: half the memory of plain
    autodiff, and less time. A transpose written by hand was no faster, and would have no forward mode.

    Args:
        step: one step.
        state: before the first.
        inputs: ``[time, ...]``.
        times: number of each step.
        truncate: cut the gradient before steps whose number it divides.
    """

    def body(state: Any, item: Any) -> tuple[Any, Any]:
        x, time = item
        return step(state if truncate is None else _cut(state, time % truncate == 0), x)

    # Inside a scan nothing is merged with the forward pass anyway.
    return jax.lax.scan(jax.checkpoint(body, prevent_cse=False), state, (inputs, times))


def _cut(state: Any, here: Any) -> Any:
    return jax.tree.map(lambda s: jnp.where(here, jax.lax.stop_gradient(s), s), state)


def over_segments(stretch: Stretch, state: Any, inputs: Any, segment: int | None) -> tuple[Any, Any]:
    """All of time, by segments of so many steps, of which the backward pass keeps the first states."""
    length = inputs.shape[0]
    times = jnp.arange(length)
    if segment is None or segment >= length:
        return stretch(state, inputs, times)
    count, rest = divmod(length, segment)
    split: Any = lambda a: a[: length - rest].reshape(count, segment, *a.shape[1:])
    whole = jax.checkpoint(lambda state, item: stretch(state, *item), prevent_cse=False)
    state, found = jax.lax.scan(whole, state, (split(inputs), split(times)))
    found = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found)
    if rest:
        state, last = jax.checkpoint(stretch)(state, inputs[-rest:], times[-rest:])
        found = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), found, last)
    return state, found
