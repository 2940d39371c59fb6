"""A run of samples, from interval to interval of the coefficients' frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._scheme import Scheme
from ._step import State, sample

# Entry n of what an interval is looked up by -> tables at its left and its right.
Pick = Callable[[Any], tuple[Array, Array]]


def forwards(scheme: Scheme, lookup: Any, pick: Pick, state: State, steps: int) -> tuple[State, State]:
    """Samples after a state that lies on a frame.

    Args:
        scheme: the rollout.
        lookup: a pytree whose leading axis counts intervals between frames.
        pick: the two tables of an entry of it.
        state: x and v ``[batch]``.
        steps: how many samples, at most what `lookup` covers.

    Returns:
        The last state, and all of them ``[steps, batch]``.
    """

    def one(tables: tuple[Array, Array], state: State, i: Array) -> tuple[State, State]:
        state = sample(scheme, *tables, i, state)
        return state, state

    def interval(length: int) -> Callable[[State, Any], tuple[State, State]]:
        def run(state: State, entry: Any) -> tuple[State, State]:
            tables = pick(entry)
            numbers = jnp.arange(length, dtype=state[0].dtype)[:, None]
            return jax.lax.scan(lambda state, i: one(tables, state, i), state, numbers)

        return run

    whole, rest = divmod(steps, scheme.hop)
    first = jax.tree.map(lambda a: a[:whole], lookup)
    if scheme.hop == 1:
        return jax.lax.scan(lambda state, entry: one(pick(entry), state, jnp.zeros(1, state[0].dtype)), state, first)
    parts = []
    if whole:
        state, found = jax.lax.scan(interval(scheme.hop), state, first)
        parts.append(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found))
    if rest:
        state, found = interval(rest)(state, jax.tree.map(lambda a: a[whole], lookup))
        parts.append(found)
    return state, jax.tree.map(lambda *a: jnp.concatenate(a), *parts)
