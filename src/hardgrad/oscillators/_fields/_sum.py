"""Sums of monomials, Σ_j c_j x^p_j v^k_j, with the exponents known when the program is compiled.

Powers are products, never `pow`, and 0⁰ = 1. A term that is not listed does not exist: no zero times NaN.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from ...core import UsageError

Exponents: TypeAlias = tuple[tuple[int, int], ...]
Floats = Float[Array | np.ndarray, "..."]


def check_exponents(exponents: Any) -> Exponents:
    """`exponents` as a tuple of pairs of Python integers.

    Raises:
        UsageError: no pair, something that is not a pair of whole numbers, a negative or a repeated one.
    """
    try:
        pairs = tuple((p.__index__(), k.__index__()) for p, k in exponents)
    except (TypeError, ValueError, AttributeError):
        wanted = "pairs of whole numbers (power of x, power of v), such as ((1, 0), (0, 1))"
        raise UsageError(f"exponents must be {wanted}; got {exponents!r}.") from None
    if not pairs:
        raise UsageError("exponents must name at least one term, such as ((1, 0),); got none.")
    for pair in pairs:
        if min(pair) < 0:
            raise UsageError(f"exponents must be 0 or more; got {pair}.")
    if len(set(pairs)) < len(pairs):
        twice = next(pair for pair in pairs if pairs.count(pair) > 1)
        raise UsageError(f"exponents must differ, one coefficient a term; {twice} is there {pairs.count(twice)} times.")
    return pairs


def powers(u: Array, highest: int) -> list[Array]:
    """``[1, u, u², …]`` up to a highest power, each a product of two before it."""
    found = [jnp.ones_like(u), u]
    for n in range(2, highest + 1):
        found.append(found[n // 2] * found[n - n // 2])
    return found[: highest + 1]


def runs(indices: list[int]) -> list[tuple[int, int]]:
    """Stretches of consecutive numbers, as (first, past the last)."""
    found: list[tuple[int, int]] = []
    for i in indices:
        if found and found[-1][1] == i:
            found[-1] = (found[-1][0], i + 1)
        else:
            found.append((i, i + 1))
    return found


def _monomials(exponents: Exponents, x: Array, v: Array, slope_of: str = "") -> Array:
    """x^p v^k of each term, or its slope with x or v, as the last axis."""
    highest = (max(p for p, _ in exponents), max(k for _, k in exponents))
    tables = []
    for name, u, n in (("x", x, highest[0]), ("v", v, highest[1])):
        table = powers(u, n)
        if name == slope_of:
            table = [jnp.zeros_like(u)] + [m * power for m, power in enumerate(table[:-1], 1)]
        tables.append(jnp.stack(table, axis=-1))
    grid = tables[0][..., :, None] * tables[1][..., None, :]
    flat = grid.reshape(*grid.shape[:-2], -1)
    pieces = [flat[..., a:b] for a, b in runs([p * (highest[1] + 1) + k for p, k in exponents])]
    return jnp.concatenate(pieces, axis=-1) if len(pieces) > 1 else pieces[0]


# The derivative is written down: that of the tables of powers, slice by slice, is many times the work.
@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _evaluate(exponents: Exponents, coefficients: Array, x: Array, v: Array) -> Array:
    return jnp.sum(coefficients * _monomials(exponents, x, v), axis=-1)


@partial(_evaluate.defjvp, symbolic_zeros=True)
def _evaluate_jvp(exponents: Exponents, primals: Any, tangents: Any) -> tuple[Array, Any]:
    coefficients, x, v = primals
    terms = _monomials(exponents, x, v)
    value = jnp.sum(coefficients * terms, axis=-1)
    change = jnp.zeros_like(value)
    by_coefficients, by_x, by_v = tangents
    if not isinstance(by_coefficients, SymbolicZero):
        change = change + jnp.sum(by_coefficients * terms, axis=-1)
    for name, tangent in (("x", by_x), ("v", by_v)):
        if not isinstance(tangent, SymbolicZero):
            change = change + jnp.sum(coefficients * _monomials(exponents, x, v, slope_of=name), axis=-1) * tangent
    return value, change


def evaluate(
    exponents: Exponents,
    coefficients: Floats,
    x: Floats,
    v: Floats,
) -> Array:
    """The acceleration Σ_j c_j x^p_j v^k_j of a field, moment by moment.

    Args:
        exponents: (p_j, k_j) of each term, whole numbers from 0.
        coefficients: c_j ``[..., terms]``.
        x: the sound ``[...]``; the result has the dtype that all three share. Leading axes broadcast.
        v: its change per sample ``[...]``.

    Raises:
        UsageError: exponents that repeat, are negative or not as many as the coefficients.

    Examples:
        >>> c = jnp.array([[-0.25, 2.0]])
        >>> evaluate(((1, 0), (2, 1)), c, jnp.array([2.0]), jnp.array([0.5]))  # -0.25·2 + 2·2²·0.5
        Array([3.5], dtype=float32)
    """
    exponents = check_exponents(exponents)
    check_terms(exponents, coefficients)
    return _evaluate(exponents, jnp.asarray(coefficients), jnp.asarray(x), jnp.asarray(v))


def check_terms(exponents: Exponents, coefficients: Any) -> None:
    """Raise `UsageError` unless the last axis has a coefficient for each term."""
    if coefficients.shape[-1] != len(exponents):
        raise UsageError(
            f"coefficients need one entry a term on their last axis: {len(exponents)} for these exponents, "
            f"got shape {coefficients.shape}."
        )
