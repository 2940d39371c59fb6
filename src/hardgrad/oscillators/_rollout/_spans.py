"""Loops over time: runs of samples, from interval to interval of the coefficients' frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._scheme import Scheme
from ._step import State, sample

# Tables of the frames at the left and the right of an interval; the left one alone where coefficients are held.
Frames = tuple[Array, ...]


def scan_ahead(body: Callable[[Any, Any], Any], carry: Any, pick: Callable[[Any], Any], count: int) -> Any:
    """`jax.lax.scan` over ``pick(0)``, ``pick(1)`` …, each of them picked one turn before it is used.

    Picked in its own turn, a slice becomes part of each operation that uses it, and on a CPU such an operation is
    worked out number by number, not a register at a time.
    """

    def turn(state: tuple[Any, Any], n: Array) -> tuple[tuple[Any, Any], Any]:
        carry, entry = state
        carry, found = body(carry, entry)
        return (carry, pick(jnp.minimum(n + 1, count - 1))), found

    (carry, _), found = jax.lax.scan(turn, (carry, pick(0)), jnp.arange(count, dtype=jnp.int32))
    return carry, found


def forwards(
    scheme: Scheme,
    over: Callable[[Callable[[State, Frames], Any], State, int], Any],
    at: Callable[[int], Frames],
    state: State,
    steps: int,
) -> tuple[State, State]:
    """Samples after a state that lies on a frame.

    Args:
        scheme: the rollout.
        over: ``over(body, state, count)`` scans ``body(state, frames)`` over the first intervals.
        at: the frames of an interval.
        state: x and v ``[batch]``.
        steps: how many samples.

    Returns:
        The last state, and all of them ``[steps, batch]``.
    """

    def one(frames: Frames, state: State, i: Array) -> tuple[State, State]:
        state = sample(scheme, frames[0], frames[-1], i, state)
        return state, state

    def interval(length: int) -> Callable[[State, Frames], Any]:
        numbers = jnp.arange(length, dtype=state[0].dtype)[:, None]
        if scheme.hop == 1:
            return lambda state, frames: one(frames, state, numbers[0])
        return lambda state, frames: jax.lax.scan(lambda state, i: one(frames, state, i), state, numbers)

    whole, rest = divmod(steps, scheme.hop)
    parts = []
    if whole:
        state, found = over(interval(scheme.hop), state, whole)
        parts.append(found if scheme.hop == 1 else jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found))
    if rest:
        state, found = interval(rest)(state, at(whole))
        parts.append(found)
    return state, jax.tree.map(lambda *a: jnp.concatenate(a), *parts)
