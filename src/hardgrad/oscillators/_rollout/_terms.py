"""The acceleration of a field, its slopes and its transpose, on tables of coefficients ``[..., P, Q, batch]``.

    a = Σ W[p][k] x^p v^k,        transposed: ȧ ∂a/∂x, ȧ ∂a/∂v, ȧ x^p v^k

Row p holds the powers of v that go with x^p; batch is last, so that each operation runs along it. Terms are written
out one by one, which leaves nothing to look up in a loop; of a high order, which would take minutes to compile, row by
row.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from .._fields import Exponents
from .._fields._sum import powers, runs

# More terms than this are taken row by row.
WRITTEN_OUT = 64


class Table(NamedTuple):
    """Coefficients between two frames, worked out entry by entry where they are used.

    Attributes:
        left: ``[..., P, Q, batch]``, as `right`.
        right: None where the left frame is taken as it is.
        place: how far it is from left, 0, to right, 1; ``[..., 1]``.
    """

    left: Array
    right: Array | None = None
    place: Array | None = None

    def entry(self, p: int, k: int) -> Array:
        """``[..., batch]``."""
        left = self.left[..., p, k, :]
        if self.right is None or self.place is None:
            return left
        return left + self.place * (self.right[..., p, k, :] - left)

    def row(self, p: int) -> Array:
        """``[..., Q, batch]``."""
        left = self.left[..., p, :, :]
        if self.right is None or self.place is None:
            return left
        return left + self.place[..., None, :] * (self.right[..., p, :, :] - left)

    @property
    def shape(self) -> tuple[int, int]:
        """P and Q."""
        return self.left.shape[-3], self.left.shape[-2]


def table_shape(exponents: Exponents) -> tuple[int, int]:
    """P and Q: at least 2, so that the linear terms have a place."""
    return max(2, 1 + max(p for p, _ in exponents)), max(2, 1 + max(k for _, k in exponents))


def to_table(exponents: Exponents, coefficients: Array) -> Array:
    """``[batch, frames, terms]`` as ``[frames, P, Q, batch]``, with 0 where there is no term."""
    P, Q = table_shape(exponents)
    batch, frames, _ = coefficients.shape
    rows = jnp.transpose(coefficients, (1, 2, 0))
    places = {p * Q + k: j for j, (p, k) in enumerate(exponents)}
    order = [places.get(n, -1) for n in range(P * Q)]
    if order != list(range(P * Q)):
        nothing = jnp.zeros((frames, 1, batch), coefficients.dtype)
        parts = []
        for there, group in itertools.groupby(order, lambda j: j >= 0):
            found = list(group)
            parts += [rows[:, a:b] for a, b in runs(found)] if there else [nothing] * len(found)
        rows = jnp.concatenate(parts, axis=1)
    return rows.reshape(frames, P, Q, batch)


def from_rows(rows: Array) -> Array:
    """``[frames, terms, batch]`` as ``[batch, frames, terms]``."""
    return jnp.transpose(rows, (2, 0, 1))


def _horner(terms: dict[int, Array], u: Array) -> tuple[Array, Array]:
    """Σ c_n u^n over the powers that there are, and its derivative."""
    order = sorted(terms, reverse=True)
    table = powers(u, order[0])
    value, slope = terms[order[0]], None
    for above, n in zip(order, [*order[1:], 0], strict=True):
        gap = above - n
        if gap:
            rise = value if gap == 1 else gap * value * table[gap - 1]
            slope = rise if slope is None else slope * table[gap] + rise
            value = value * table[gap]
        if n != above and n in terms:
            value = value + terms[n]
    return value, jnp.zeros_like(value) if slope is None else slope


def acceleration(exponents: Exponents, table: Table, x: Array, v: Array) -> Array:
    """Σ W[p][k] x^p v^k of states ``[..., batch]``: Horner's scheme inside Horner's scheme."""
    if len(exponents) > WRITTEN_OUT:
        row, _ = _by_row(table, x)
        return _horner({k: row[..., k, :] for k in range(table.shape[1])}, v)[0]
    return _horner({p: _horner(row, v)[0] for p, row in _entries(exponents, table).items()}, x)[0]


def slopes(exponents: Exponents, table: Table, x: Array, v: Array) -> tuple[Array, Array]:
    """∂a/∂x and ∂a/∂v."""
    if len(exponents) > WRITTEN_OUT:
        row, by_x = _by_row(table, x)
        along = [_horner({k: of[..., k, :] for k in range(table.shape[1])}, v) for of in (by_x, row)]
        return along[0][0], along[1][1]
    both = {p: _horner(row, v) for p, row in _entries(exponents, table).items()}
    by_x = _horner({p: value for p, (value, _) in both.items()}, x)[1]
    return by_x, _horner({p: slope for p, (_, slope) in both.items()}, x)[0]


def _entries(exponents: Exponents, table: Table) -> dict[int, dict[int, Array]]:
    rows: dict[int, dict[int, Array]] = {}
    for p, k in exponents:
        rows.setdefault(p, {})[k] = table.entry(p, k)
    return rows


def _by_row(table: Table, x: Array) -> tuple[Array, Array]:
    """Σ_p W[p] x^p ``[..., Q, batch]``, and its derivative."""
    return _horner({p: table.row(p) for p in range(table.shape[0])}, x[..., None, :])


def monomials(exponents: Exponents, given: Sequence[Array], xs: Sequence[Array], vs: Sequence[Array]) -> Array:
    """Σ_i ȧ_i x_i^p v_i^k of each term, ``[..., terms, batch]``."""
    P, Q = table_shape(exponents)
    of_x = [[a * power for power in powers(x, P - 1)] for a, x in zip(given, xs, strict=True)]
    of_v = [powers(v, Q - 1) for v in vs]
    if len(exponents) > WRITTEN_OUT:
        both = zip(of_x, of_v, strict=True)
        parts = [jnp.stack(x, -2)[..., :, None, :] * jnp.stack(v, -2)[..., None, :, :] for x, v in both]
        grid = _total(parts)
        flat = grid.reshape(*grid.shape[:-3], P * Q, grid.shape[-1])
        pieces = [flat[..., a:b, :] for a, b in runs([p * Q + k for p, k in exponents])]
        return jnp.concatenate(pieces, axis=-2) if len(pieces) > 1 else pieces[0]
    return jnp.stack([_total([x[p] * v[k] for x, v in zip(of_x, of_v, strict=True)]) for p, k in exponents], axis=-2)


def _total(parts: Sequence[Array]) -> Array:
    return sum(parts[1:], parts[0])
