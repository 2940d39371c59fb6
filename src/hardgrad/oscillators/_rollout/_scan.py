"""The rollout as a plain scan, differentiated by JAX, in both modes: the reference for the other forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._scheme import Scheme
from ._spans import Frames, forwards
from ._step import State
from ._terms import to_table


def scan_rollout(scheme: Scheme, coefficients: Array, x0: Array, v0: Array) -> tuple[Array, Array]:
    """x and v ``[batch, samples]``; with segments, only their first states are kept for the backward pass."""
    table = to_table(scheme.exponents, coefficients[:, : scheme.frames])
    state, parts = (x0, v0), [(x0[None], v0[None])]
    frames: Frames = tuple(table[side : scheme.frames - 1 + side] for side in scheme.sides)

    def run(state: State, frames: Frames, steps: int) -> tuple[State, State]:
        over = lambda body, state, count: jax.lax.scan(body, state, tuple(side[:count] for side in frames))
        return forwards(scheme, over, lambda n: tuple(side[n] for side in frames), state, steps)

    length = scheme.segment_steps
    whole, rest = divmod(scheme.steps, length)
    if whole == 1 and not rest:
        parts.append(run(state, frames, length)[1])
    else:
        n = length // scheme.hop
        split = tuple(side[: whole * n].reshape(whole, n, *side.shape[1:]) for side in frames)
        # Inside a scan nothing is merged with the forward pass anyway.
        segment = jax.checkpoint(lambda state, frames: run(state, frames, length), prevent_cse=False)
        state, found = jax.lax.scan(segment, state, split)
        parts.append(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found))
        if rest:
            tail = jax.checkpoint(lambda state, frames: run(state, frames, rest))
            parts.append(tail(state, tuple(side[whole * n :] for side in frames))[1])
    x, v = jax.tree.map(lambda *a: jnp.concatenate(a).T, *parts)
    return x, v
