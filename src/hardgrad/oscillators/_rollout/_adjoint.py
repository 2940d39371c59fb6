"""The rollout as a scan with a staged adjoint.

The forward pass keeps the state of each sample, which is its result anyway. The backward pass works out the four stages
of a sample again and applies their transposes in order. With segments, coefficients are laid out for the loop, and
their cotangents back, a segment at a time, so that no second copy of them is ever in memory.
"""

from __future__ import annotations

from functools import lru_cache

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._differentiable import Forward, differentiable
from ._scheme import Scheme
from ._spans import Frames, forwards, scan_ahead
from ._step import State
from ._terms import from_rows, to_table
from ._transpose import backwards


@lru_cache(maxsize=64)
def adjoint_rollout(scheme: Scheme) -> Forward:
    """A function of coefficients ``[batch, frames, terms]``, x0 and v0, with its own gradient."""
    return differentiable(lambda *given: _forward(scheme, *given), lambda *given: _backward(scheme, *given))


def _table(scheme: Scheme, coefficients: Array, frame: Array | int, steps: int) -> Array:
    """Coefficients from a frame on, as far as some samples need them."""
    frames = -(-steps // scheme.hop) + 1
    part = jax.lax.dynamic_slice_in_dim(coefficients, frame, frames, axis=1)
    return to_table(scheme.exponents, part)


def _forward(scheme: Scheme, coefficients: Array, x0: Array, v0: Array) -> tuple[Array, Array]:
    def run(state: State, frame: Array | int, steps: int) -> tuple[State, State]:
        table = _table(scheme, coefficients, frame, steps)

        def at(n: Array | int) -> Frames:
            return tuple(jax.lax.dynamic_index_in_dim(table, n + side, keepdims=False) for side in scheme.sides)

        over = lambda body, state, count: scan_ahead(body, state, at, count)
        return forwards(scheme, over, at, state, steps)

    state, parts = (x0, v0), [(x0[None], v0[None])]
    length = scheme.segment_steps
    whole, rest = divmod(scheme.steps, length)
    frames = length // scheme.hop
    if whole == 1:
        state, found = run(state, 0, length)
        parts.append(found)
    else:
        segments = jnp.arange(whole, dtype=jnp.int32)
        state, found = jax.lax.scan(lambda state, n: run(state, n * frames, length), state, segments)
        parts.append(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found))
    if rest:
        parts.append(run(state, whole * frames, rest)[1])
    x, v = jax.tree.map(lambda *a: jnp.concatenate(a).T, *parts)
    return x, v


def _backward(
    scheme: Scheme, coefficients: Array, x: Array, v: Array, by_x: Array, by_v: Array
) -> tuple[Array, Array, Array]:
    arrays = (x.T, v.T, by_x.T, by_v.T)

    def run(last: State, frame: Array | int, first: Array | int, steps: int) -> tuple[State, Array]:
        """A span from its first sample on, given the cotangents of its last one."""
        table = _table(scheme, coefficients, frame, steps)
        rows = [jax.lax.dynamic_slice_in_dim(a, first, steps) for a in arrays]
        after = (arrays[0][first + steps], arrays[1][first + steps])
        last, by_rows = backwards(scheme, table, (rows[0], rows[1]), after, (rows[2], rows[3]), last)
        return last, from_rows(by_rows)

    def add(total: Array, part: Array, frame: Array | int) -> Array:
        there = jax.lax.dynamic_slice_in_dim(total, frame, part.shape[1], axis=1)
        return jax.lax.dynamic_update_slice_in_dim(total, there + part, frame, axis=1)

    last: State = (arrays[2][-1], arrays[3][-1])
    length = scheme.segment_steps
    whole, rest = divmod(scheme.steps, length)
    frames = length // scheme.hop
    if whole == 1 and not rest:
        last, part = run(last, 0, 0, length)
        spare = coefficients.shape[1] - part.shape[1]
        return jnp.pad(part, ((0, 0), (0, spare), (0, 0))) if spare else part, *last
    by_coefficients = jnp.zeros_like(coefficients)
    if rest:
        last, part = run(last, whole * frames, whole * length, rest)
        by_coefficients = add(by_coefficients, part, whole * frames)

    def segment(carry: tuple[State, Array], n: Array) -> tuple[tuple[State, Array], None]:
        last, total = carry
        last, part = run(last, n * frames, n * length, length)
        return (last, add(total, part, n * frames)), None

    segments = jnp.arange(whole, dtype=jnp.int32)
    (last, by_coefficients), _ = jax.lax.scan(segment, (last, by_coefficients), segments, reverse=True)
    return by_coefficients, *last
