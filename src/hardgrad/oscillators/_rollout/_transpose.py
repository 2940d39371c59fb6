"""The transpose of a run of samples, given the samples themselves.

A sample depends on the one before through x and v alone, and all samples are known. So all stages of all samples can be
worked out side by side, and the slopes of the field there, and with them the transpose of each step,

    ȧ₄ = h/6 q                            x̄₄ = ȧ₄ ∂a/∂x,  v̄₄ = ȧ₄ ∂a/∂v              at (x₄, v₄)
    ȧ₃ = h²/6 p + h/3 q + h v̄₄            x̄₃ = ȧ₃ ∂a/∂x,  v̄₃ = ȧ₃ ∂a/∂v + h x̄₄      at (x₃, v₃)
    ȧ₂ = h²/6 p + h/3 q + h/2 v̄₃          x̄₂ = ȧ₂ ∂a/∂x,  v̄₂ = ȧ₂ ∂a/∂v + h/2 x̄₃    at (x₂, v₂)
    ȧ₁ = h²/6 p + h/6 q + h/2 v̄₂          x̄₁ = ȧ₁ ∂a/∂x,  v̄₁ = ȧ₁ ∂a/∂v + h/2 x̄₂    at (x₁, v₁)
    p ← p + x̄₁ + x̄₂ + x̄₃ + x̄₄,           q ← q + h p + v̄₁ + v̄₂ + v̄₃ + v̄₄

for the cotangents p of x and q of v: a matrix of 2 by 2. What remains in order, from the last step to the first, are
products with these matrices. Then, side by side again, Σ_i ȧ_i x_i^p v_i^k goes to the coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._saturation import KNEE, saturate_slope
from ._scheme import Scheme
from ._spans import Frames, scan_ahead
from ._step import State, bent, places_of, runge_kutta, stages, tables_of
from ._terms import monomials, slopes

# So many samples at a time fit a cache. It also keeps the compiler from working out a stage anew for each of its uses.
_PIECE = 64


def backwards(
    scheme: Scheme, table: Array, states: State, after: State, given: State, last: State
) -> tuple[State, Array]:
    """From cotangents of samples to those of the first one and of the coefficients.

    Args:
        scheme: the rollout.
        table: coefficients of the frames that the samples reach ``[frames, P, Q, batch]``.
        states: x and v ``[steps, batch]`` from which each sample was made, the first of them on a frame.
        after: the last sample.
        given: cotangents of `states`, for what else they are used for.
        last: cotangents of the last sample.

    Returns:
        Cotangents of the first sample, and of the coefficients, ``[frames, terms, batch]``.
    """
    steps, batch = states[0].shape
    intervals, m = table.shape[0] - 1, scheme.substeps
    spare = intervals * scheme.hop - steps
    x, v = (jnp.pad(u, ((0, spare), (0, 0))).reshape(intervals, scheme.hop, 1, batch) for u in states)

    def frames(start: Array | int, length: int) -> Frames:
        return tuple(_cut(table, start + side, length)[:, None, None] for side in scheme.sides)

    piece = max(1, _PIECE // scheme.hop)
    # Where coefficients are held the last frame has no interval of its own; a row of zeros stands for it.
    blank = 1 if scheme.held else 0
    with_states = lambda start, length: (frames(start, length), _cut((x, v), start, length))
    seen, unseen = _in_pieces(partial(_all_stages, scheme), with_states, intervals, piece, blank)
    with_stages = lambda start, length: (frames(start, length), _cut(seen, start, length))
    by_state = _in_pieces(partial(_all_slopes, scheme), with_stages, intervals, piece)
    by_state = jax.tree.map(lambda a: a.reshape(-1, batch)[: steps * m], by_state)

    first, accelerations = _in_order(scheme, by_state, states, after, given, last)
    padded = [jnp.pad(a, ((0, (spare + blank) * m), (0, 0))) for a in accelerations]
    rows = ([a.reshape(-1, scheme.hop, m, batch) for a in padded], seen, unseen)
    shares = _in_pieces(partial(_shares, scheme), partial(_cut, rows), intervals + blank, piece)
    if len(shares) == 1:
        return first, shares[0]
    none = jnp.zeros_like(shares[0][:1])
    return first, jnp.concatenate([shares[0], none]) + jnp.concatenate([none, shares[1]])


def _cut(rows: Any, start: Array | int, length: int) -> Any:
    return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, length), rows)


def _in_pieces(
    function: Callable[..., Any], cut: Callable[[Array | int, int], Any], count: int, piece: int, blank: int = 0
) -> Any:
    """``function(*cut(start, length))`` of pieces of 0 … count - 1, along the leading axis, then rows of zeros."""
    whole, rest = divmod(count, piece)
    parts = []
    if whole:
        pick = lambda n: cut(n * piece, piece)
        _, found = scan_ahead(lambda _, entry: (None, function(*entry)), None, pick, whole)
        parts.append(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found))
    if rest:
        parts.append(function(*cut(whole * piece, rest)))
    if blank:
        parts.append(jax.tree.map(lambda a: jnp.zeros((blank, *a.shape[1:]), a.dtype), parts[0]))
    return jax.tree.map(lambda *a: jnp.concatenate(a), *parts)


def _numbers(scheme: Scheme, dtype: Any) -> tuple[Array, Array]:
    """Of samples after a frame and of steps of a sample, to go with ``[intervals, hop, substeps, batch]``."""
    return jnp.arange(scheme.hop, dtype=dtype)[:, None, None], jnp.arange(scheme.substeps, dtype=dtype)[:, None]


def _all_stages(scheme: Scheme, frames: Frames, begin: State) -> tuple[list[State], list[State]]:
    """The four stages of each step, ``[intervals, hop, substeps, batch]``, as the non-linear terms see them.

    And, where that is not the same, what they do not see.
    """

    def work_out(scheme: Scheme) -> list[State]:
        i, numbers = _numbers(scheme, begin[0].dtype)
        if scheme.substeps == 1:
            return stages(scheme, tables_of(scheme, frames[0], frames[-1], i, numbers[0]), begin)[0]
        step = lambda state, j: runge_kutta(scheme, tables_of(scheme, frames[0], frames[-1], i, j), state)
        _, found = jax.lax.scan(step, begin, numbers)
        in_place: list[State] = jax.tree.map(lambda a: jnp.moveaxis(a[..., 0, :], 0, 2), found)
        return in_place

    def bend() -> tuple[list[State], list[State]]:
        found = work_out(scheme)
        seen = [bent(scheme, state) for state in found]
        return seen, [(x - X, v - V) for (x, v), (X, V) in zip(found, seen, strict=True)]

    bounds = scheme.saturation
    if bounds.kind != "knee":
        return work_out(scheme), []
    # Mostly no stage is beyond a knee; where none is, bending them changes nothing.
    plain = work_out(scheme.unbounded)
    inside = jnp.asarray(True)
    for x, v in plain:
        inside &= jnp.all(jnp.abs(x) <= KNEE * bounds.x_bound) & jnp.all(jnp.abs(v) <= KNEE * bounds.v_bound)
    none = jax.tree.map(jnp.zeros_like, plain)
    found: tuple[list[State], list[State]] = jax.lax.cond(inside, lambda: (plain, none), bend)
    return found


def _all_slopes(scheme: Scheme, frames: Frames, seen: list[State]) -> list[State]:
    """∂a/∂x and ∂a/∂v at each stage."""
    first, middle, last = tables_of(scheme, frames[0], frames[-1], *_numbers(scheme, frames[0].dtype))
    bounds, found = scheme.saturation, []
    for table, (X, V) in zip((first, middle, middle, last), seen, strict=True):
        by_x, by_v = slopes(scheme.exponents, table, X, V)
        if bounds.kind == "knee":
            of_x, of_v = saturate_slope("knee", X, bounds.x_bound), saturate_slope("knee", V, bounds.v_bound)
            by_x = of_x * by_x + (1 - of_x) * table.entry(1, 0)
            by_v = of_v * by_v + (1 - of_v) * table.entry(0, 1)
        found.append((by_x, by_v))
    return found


def _in_order(
    scheme: Scheme, by_state: list[State], states: State, after: State, given: State, last: State
) -> tuple[State, tuple[Array, ...]]:
    """The first sample's cotangents, and the ȧ_i of each step."""
    h, m, bounds = 1.0 / scheme.substeps, scheme.substeps, scheme.saturation
    one, none = jnp.ones((), last[0].dtype), jnp.zeros((), last[0].dtype)
    kept = [one, one]
    if bounds.kind != "none":  # by the bounds after each sample: their slopes go to the last of its steps
        for n, bound in enumerate((bounds.x_bound, bounds.v_bound)):
            slope = saturate_slope(bounds.kind, jnp.concatenate([states[n][1:], after[n][None]]), bound)
            inner = jnp.ones((slope.shape[0], m - 1, slope.shape[1]), slope.dtype)
            kept[n] = jnp.concatenate([inner, slope[:, None]], axis=1).reshape(-1, slope.shape[1])
    # and what is given goes to the state that the first of a sample's steps begins with
    added = [jnp.pad(g[:, None], ((0, 0), (0, m - 1), (0, 0))).reshape(-1, g.shape[1]) for g in given]
    of_p, of_q = _transposed_step(h, by_state, kept[0], none)[0], _transposed_step(h, by_state, none, kept[1])[0]

    def back(carry: State, entry: Any) -> tuple[State, State]:
        (p, q), (of_p, of_q, added) = carry, entry
        return (of_p[0] * p + of_q[0] * q + added[0], of_p[1] * p + of_q[1] * q + added[1]), carry

    first, (p, q) = jax.lax.scan(back, last, (of_p, of_q, added), reverse=True)
    return first, _transposed_step(h, by_state, kept[0] * p, kept[1] * q)[1]


def _transposed_step(h: float, by_state: list[State], p: Array, q: Array) -> tuple[State, tuple[Array, ...]]:
    """Cotangents (p, q) of the state after a step to those of the state before it, and the ȧ_i."""
    outer, inner = h * h / 6.0 * p + h / 6.0 * q, h * h / 6.0 * p + h / 3.0 * q
    a4 = h / 6.0 * q
    x4, v4 = a4 * by_state[3][0], a4 * by_state[3][1]
    a3 = inner + h * v4
    x3, v3 = a3 * by_state[2][0], a3 * by_state[2][1] + h * x4
    a2 = inner + 0.5 * h * v3
    x2, v2 = a2 * by_state[1][0], a2 * by_state[1][1] + 0.5 * h * x3
    a1 = outer + 0.5 * h * v2
    x1, v1 = a1 * by_state[0][0], a1 * by_state[0][1] + 0.5 * h * x2
    return (p + (x1 + x2 + x3 + x4), q + h * p + (v1 + v2 + v3 + v4)), (a1, a2, a3, a4)


def _shares(scheme: Scheme, given: list[Array], seen: list[State], unseen: list[State]) -> Frames:
    """What the frames at the left and the right of some intervals get, ``[intervals, terms, batch]``."""

    def summed(given: list[Array]) -> Array:
        total = jnp.sum(monomials(scheme.exponents, given, *zip(*seen, strict=True)), axis=(1, 2))
        for n, linear in enumerate(((1, 0), (0, 1))):
            if unseen and linear in scheme.exponents:
                parts = [a * state[n] for a, state in zip(given, unseen, strict=True)]
                more = jnp.sum(sum(parts[1:], parts[0]), axis=(1, 2))
                total = total.at[:, scheme.exponents.index(linear)].add(more)
        return total

    if scheme.held:
        return (summed(given),)
    first, middle, last = places_of(scheme, *_numbers(scheme, given[0].dtype))
    places = (first, middle, middle, last)
    left = summed([a * (1 - place) for a, place in zip(given, places, strict=True)])
    return left, summed([a * place for a, place in zip(given, places, strict=True)])
