"""The rollout as a plain scan, differentiated by JAX, in both modes: the reference for the other methods."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._scheme import Scheme
from ._spans import forwards
from ._step import State
from ._terms import to_table


def scan_rollout(scheme: Scheme, coefficients: Array, x0: Array, v0: Array) -> tuple[Array, Array]:
    """x and v ``[batch, samples]``; with segments, only their first states are kept for the backward pass."""
    table = to_table(scheme.exponents, coefficients[:, : scheme.frames])
    state, parts = (x0, v0), [(x0[None], v0[None])]
    pairs = (table[:-1], table[1:])

    def run(state: State, pairs: tuple[Array, Array], steps: int) -> tuple[State, State]:
        return forwards(scheme, pairs, lambda pair: pair, state, steps)

    length = scheme.segment_steps
    whole, rest = divmod(scheme.steps, length)
    if whole == 1 and not rest:
        parts.append(run(state, pairs, length)[1])
    else:
        frames = length // scheme.hop
        split = jax.tree.map(lambda a: a[: whole * frames].reshape(whole, frames, *a.shape[1:]), pairs)
        # Inside a scan nothing is merged with the forward pass anyway.
        segment = jax.checkpoint(lambda state, pairs: run(state, pairs, length), prevent_cse=False)
        state, found = jax.lax.scan(segment, state, split)
        parts.append(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found))
        if rest:
            tail = jax.checkpoint(lambda state, pairs: run(state, pairs, rest))
            parts.append(tail(state, jax.tree.map(lambda a: a[whole * frames :], pairs))[1])
    x, v = jax.tree.map(lambda *a: jnp.concatenate(a).T, *parts)
    return x, v
