"""Helpers on pytrees. A model's *parameters* are its inexact arrays; `None` leaves are absent."""

from __future__ import annotations

import math
import zlib
from collections import Counter
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PyTree

Params: TypeAlias = PyTree
"""A pytree whose leaves are inexact arrays (or None)."""


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray | np.generic)


class Running(eqx.Module):
    """Arrays of a model that are its state, not its parameters: running statistics, for one.

    They are never trained. An objective changes them by returning the changed model as its third result;
    see `Objective`. Under mixed precision they keep their dtype.

    Attributes:
        value: any pytree of arrays.

    Examples:
        >>> split_parameters({"mean": Running(jnp.zeros(2)), "weight": jnp.ones(2)})[0]
        {'mean': Running(value=None), 'weight': Array([1., 1.], dtype=float32)}
    """

    value: PyTree


def _is_running(x: Any) -> bool:
    return isinstance(x, Running)


def running_state(model: PyTree) -> PyTree:
    """The arrays inside `Running`, of the model's structure with None elsewhere; None if there are none."""
    marks = jax.tree.map(_is_running, model, is_leaf=_is_running)
    state = eqx.filter(eqx.filter(model, eqx.is_array), marks)
    return state if jax.tree.leaves(state) else None


def split_parameters(model: PyTree, trainable: PyTree | None = None) -> tuple[Params, PyTree]:
    """Split a model into what is trained and the rest; `equinox.combine` undoes it. `Running` is not trained.

    Args:
        model: any pytree.
        trainable: which inexact arrays to train, as an Equinox filter specification (a pytree
            prefix of booleans or of functions of a leaf). None trains all of them.

    Returns:
        ``(params, rest)``, of the model's structure with None where the other has the leaf.
    """
    trained = jax.tree.map(lambda x: eqx.is_inexact_array(x), model, is_leaf=_is_running)
    params, rest = eqx.partition(model, trained)
    if trainable is None:
        return params, rest
    params, frozen = eqx.partition(params, trainable)
    return params, eqx.combine(rest, frozen)


def count_parameters(params: Params) -> int:
    """Number of scalars in the inexact arrays of a pytree."""
    return sum(math.prod(x.shape) for x in jax.tree.leaves(eqx.filter(params, eqx.is_inexact_array)))


def leaf_names(tree: PyTree) -> list[str]:
    """A readable, unique name for each leaf, in flattening order, such as ``nodes.0.weight``.

    Names that would be the same, as those of ``{"a.b": 1, "a": {"b": 2}}``, are spelled with brackets;
    a pytree that is itself a leaf is called ``value``.
    """
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") or "value" for path in paths]
    shared = {name for name, count in Counter(names).items() if count > 1}
    return [jax.tree_util.keystr(p) if n in shared else n for p, n in zip(paths, names, strict=True)]


def named_leaves(tree: PyTree) -> dict[str, Any]:
    """The leaves of a pytree by name, in flattening order."""
    return dict(zip(leaf_names(tree), jax.tree.leaves(tree), strict=True))


def global_norm(tree: PyTree) -> Float[Array, ""]:
    """Euclidean norm over all leaves, squares added leaf after leaf in flattening order.

    Computed in the widest dtype of the leaves, at least float32, so that squares of float16 don't overflow.
    """
    dtype = float_dtype(tree)
    squares = [jnp.sum(jnp.square(jnp.abs(x).astype(dtype))) for x in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares[1:], squares[0])) if squares else jnp.zeros(())


def all_finite(tree: PyTree) -> Bool[Array, ""]:
    """Whether every entry of every inexact leaf is finite."""
    flags = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))]
    return jnp.all(jnp.stack(flags)) if flags else jnp.array(True)


def tree_select(condition: Bool[Array, ""], if_true: PyTree, if_false: PyTree) -> PyTree:
    """Leaf by leaf, one of two pytrees of the same structure. Leaves that aren't arrays: the first's."""

    def pick(a: Any, b: Any) -> Any:
        return jnp.where(condition, a, b) if _is_array(a) else a

    return jax.tree.map(pick, if_true, if_false)


def cast_floats(tree: PyTree, dtype: Any) -> PyTree:
    """Every floating-point array of a pytree in `dtype`; everything else untouched."""

    def cast(x: Any) -> Any:
        floating = _is_array(x) and jnp.issubdtype(x.dtype, jnp.floating)
        return x.astype(dtype) if floating else x

    return jax.tree.map(cast, tree)


def float_dtype(params: Params) -> Any:
    """The widest real dtype among the parameters, at least float32: that of losses and controls."""
    wide = any(
        _is_array(x) and x.dtype in (np.dtype("float64"), np.dtype("complex128")) for x in jax.tree.leaves(params)
    )
    return np.dtype("float64" if wide else "float32")


def named_key(key: Key[Array, ""], name: str) -> Key[Array, ""]:
    """A key of its own for each purpose: same key and name, same numbers."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))
