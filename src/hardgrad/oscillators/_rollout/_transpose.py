"""The transpose of a run of samples, given the samples themselves.

A sample depends on the one before through x and v alone, and all samples are known. So all stages of all samples can be
worked out side by side, and so can the slopes of the field there. What remains in order are the transposes of the
stages, a few products a sample, from the last to the first:

    ȧ₄ = h/6 q                            x̄₄ = ȧ₄ ∂a/∂x,  v̄₄ = ȧ₄ ∂a/∂v       at (x₄, v₄)
    ȧ₃ = h²/6 p + h/3 q + h v̄₄            x̄₃ = ȧ₃ ∂a/∂x,  v̄₃ = ȧ₃ ∂a/∂v + h x̄₄
    ȧ₂ = h²/6 p + h/3 q + h/2 v̄₃          x̄₂ = ȧ₂ ∂a/∂x,  v̄₂ = ȧ₂ ∂a/∂v + h/2 x̄₃
    ȧ₁ = h²/6 p + h/6 q + h/2 v̄₂          x̄₁ = ȧ₁ ∂a/∂x,  v̄₁ = ȧ₁ ∂a/∂v + h/2 x̄₂
    p ← p + x̄₁ + x̄₂ + x̄₃ + x̄₄,           q ← q + h p + v̄₁ + v̄₂ + v̄₃ + v̄₄

for the cotangents p of x and q of v. Then, side by side again, Σ_i ȧ_i x_i^p v_i^k goes to the coefficients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._saturation import KNEE, saturate_slope
from ._scheme import Scheme
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
    split = lambda a: jnp.pad(a, ((0, spare), (0, 0))).reshape(intervals, scheme.hop, 1, batch)
    begin = (split(states[0]), split(states[1]))

    def ends(start: Array | int, length: int) -> tuple[Array, Array]:
        left, right = (_cut(table, start + n, length)[:, None, None] for n in (0, 1))
        return left, right

    def stages_of_piece(start: Array | int, length: int) -> tuple[list[State], list[State]]:
        at = _cut(begin[0], start, length), _cut(begin[1], start, length)
        return _all_stages(scheme, *ends(start, length), at)

    def slopes_of_piece(start: Array | int, length: int) -> list[State]:
        at = jax.tree.map(lambda a: _cut(a, start, length), seen_bent)
        return _all_slopes(scheme, *ends(start, length), at)

    piece = max(1, _PIECE // scheme.hop)
    # Where coefficients are held the last frame has no interval of its own; a row of zeros stands for it.
    blank = 1 if scheme.held else 0
    seen, seen_bent = _in_pieces(stages_of_piece, intervals, piece, blank)
    by_state = _in_pieces(slopes_of_piece, intervals, piece)
    by_state = jax.tree.map(lambda a: a.reshape(-1, batch)[: steps * m], by_state)
    first, accelerations = _transposes(scheme, by_state, states, after, given, last)
    out = lambda a: jnp.pad(a, ((0, (spare + blank) * m), (0, 0))).reshape(-1, scheme.hop, m, batch)
    rows = ([out(a) for a in accelerations], seen, seen_bent)

    def shares_of_piece(start: Array | int, length: int) -> tuple[Array, Array | None]:
        return _shares(scheme, *jax.tree.map(lambda a: _cut(a, start, length), rows))

    left, right = _in_pieces(shares_of_piece, intervals + blank, piece)
    if right is None:
        return first, left
    none = jnp.zeros_like(left[:1])
    return first, jnp.concatenate([left, none]) + jnp.concatenate([none, right])


def _cut(a: Array, start: Array | int, length: int) -> Array:
    return jax.lax.dynamic_slice_in_dim(a, start, length)


def _numbers(scheme: Scheme, dtype: Any) -> tuple[Array, Array]:
    """Of samples after a frame and of steps of a sample, to go with ``[intervals, hop, substeps, batch]``."""
    return jnp.arange(scheme.hop, dtype=dtype)[:, None, None], jnp.arange(scheme.substeps, dtype=dtype)[:, None]


def _in_pieces(function: Callable[[Array | int, int], Any], count: int, piece: int, blank: int = 0) -> Any:
    """``function(start, length)`` of pieces of 0 … count - 1, put together along the leading axis, then rows of zeros."""
    whole, rest = divmod(count, piece)
    parts = []
    if whole:
        found = jax.lax.map(lambda n: function(n * piece, piece), jnp.arange(whole, dtype=jnp.int32))
        parts.append(jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found))
    if rest:
        parts.append(function(whole * piece, rest))
    if blank:
        parts.append(jax.tree.map(lambda a: jnp.zeros((blank, *a.shape[1:]), a.dtype), parts[0]))
    return jax.tree.map(lambda *a: jnp.concatenate(a), *parts)


def _all_stages(scheme: Scheme, left: Array, right: Array, begin: State) -> tuple[list[State], list[State]]:
    """The four stages of each step, ``[intervals, hop, substeps, batch]``, and what the non-linear terms see of them."""

    def work_out(scheme: Scheme) -> tuple[list[State], list[State]]:
        i, numbers = _numbers(scheme, left.dtype)
        if scheme.substeps == 1:
            found, _ = stages(scheme, tables_of(scheme, left, right, i, numbers[0]), begin)
        else:
            step = lambda state, j: runge_kutta(scheme, tables_of(scheme, left, right, i, j), state)
            _, found = jax.lax.scan(step, begin, numbers)
            found = jax.tree.map(lambda a: jnp.moveaxis(a[..., 0, :], 0, 2), found)
        return found, [bent(scheme, state) for state in found]

    bounds = scheme.saturation
    if bounds.kind != "knee":
        return work_out(scheme)
    # Mostly no stage is beyond a knee; where none is, bending them changes nothing.
    plain = work_out(scheme.unbounded)
    inside = jnp.asarray(True)
    for x, v in plain[0]:
        inside &= jnp.all(jnp.abs(x) <= KNEE * bounds.x_bound) & jnp.all(jnp.abs(v) <= KNEE * bounds.v_bound)
    found: tuple[list[State], list[State]] = jax.lax.cond(inside, lambda: plain, lambda: work_out(scheme))
    return found


def _all_slopes(scheme: Scheme, left: Array, right: Array, seen_bent: list[State]) -> list[State]:
    """∂a/∂x and ∂a/∂v at each stage."""
    first, middle, last = tables_of(scheme, left, right, *_numbers(scheme, left.dtype))
    bounds, found = scheme.saturation, []
    for table, (X, V) in zip((first, middle, middle, last), seen_bent, strict=True):
        by_x, by_v = slopes(scheme.exponents, table, X, V)
        if bounds.kind == "knee":
            of_x, of_v = saturate_slope("knee", X, bounds.x_bound), saturate_slope("knee", V, bounds.v_bound)
            by_x = of_x * by_x + (1 - of_x) * table.entry(1, 0)
            by_v = of_v * by_v + (1 - of_v) * table.entry(0, 1)
        found.append((by_x, by_v))
    return found


def _transposes(
    scheme: Scheme, by_state: list[State], states: State, after: State, given: State, last: State
) -> tuple[State, tuple[Array, ...]]:
    """The part that goes in order. Returns the first sample's cotangents, and the ȧ_i of each step."""
    h, m, bounds = 1.0 / scheme.substeps, scheme.substeps, scheme.saturation
    bounded = bounds.kind != "none"
    kept = []
    if bounded:  # by the bounds after each sample: the slopes of the last of its steps
        for u, end, bound in zip(states, after, (bounds.x_bound, bounds.v_bound), strict=True):
            slope = saturate_slope(bounds.kind, jnp.concatenate([u[1:], end[None]]), bound)
            inner = jnp.ones((u.shape[0], m - 1, u.shape[1]), u.dtype)
            kept.append(jnp.concatenate([inner, slope[:, None]], axis=1).reshape(-1, u.shape[1]))
    # and what is given goes to the state that the first of a sample's steps begins with
    added = [jnp.pad(g[:, None], ((0, 0), (0, m - 1), (0, 0))).reshape(-1, g.shape[1]) for g in given]

    def back(carry: State, entry: Any) -> tuple[State, tuple[Array, ...]]:
        (p, q), (by, kept, added) = carry, entry
        if bounded:
            p, q = kept[0] * p, kept[1] * q
        outer = h * h / 6.0 * p + h / 6.0 * q
        inner = outer + h / 6.0 * q
        a4 = h / 6.0 * q
        x4, v4 = a4 * by[3][0], a4 * by[3][1]
        a3 = inner + h * v4
        x3, v3 = a3 * by[2][0], a3 * by[2][1] + h * x4
        a2 = inner + 0.5 * h * v3
        x2, v2 = a2 * by[1][0], a2 * by[1][1] + 0.5 * h * x3
        a1 = outer + 0.5 * h * v2
        x1, v1 = a1 * by[0][0], a1 * by[0][1] + 0.5 * h * x2
        return (p + (x1 + x2 + x3 + x4) + added[0], q + h * p + (v1 + v2 + v3 + v4) + added[1]), (a1, a2, a3, a4)

    return jax.lax.scan(back, last, (by_state, kept, added), reverse=True)


def _shares(
    scheme: Scheme, given: list[Array], seen: list[State], seen_bent: list[State]
) -> tuple[Array, Array | None]:
    """What the frames at the left and the right of some intervals get, ``[intervals, terms, batch]``."""
    X, V = zip(*seen_bent, strict=True)

    def summed(given: list[Array]) -> Array:
        total = jnp.sum(monomials(scheme.exponents, given, X, V), axis=(1, 2))
        if scheme.saturation.kind != "knee":
            return total
        for n, linear in enumerate(((1, 0), (0, 1))):  # these terms also see what the bend took away
            if linear in scheme.exponents:
                parts = [a * (u[n] - w[n]) for a, u, w in zip(given, seen, seen_bent, strict=True)]
                more = jnp.sum(sum(parts[1:], parts[0]), axis=(1, 2))
                total = total.at[:, scheme.exponents.index(linear)].add(more)
        return total

    if scheme.held:
        return summed(given), None
    first, middle, last = places_of(scheme, *_numbers(scheme, given[0].dtype))
    places = (first, middle, middle, last)
    left = summed([a * (1 - place) for a, place in zip(given, places, strict=True)])
    return left, summed([a * place for a, place in zip(given, places, strict=True)])
