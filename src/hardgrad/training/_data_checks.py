"""What can't be trained on, refused before any work is done, with what to give instead."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from ..core import UsageError, leaf_names


def check_arrays(data: PyTree, *, what: str, allow_non_finite: bool) -> None:
    """Refuse data no step could use, before any work is done.

    Raises:
        UsageError: a leaf is not an array, or holds NaN or infinity where that is not allowed.
    """
    for name, leaf in zip(leaf_names(data), jax.tree.leaves(data), strict=True):
        if not eqx.is_array_like(leaf):
            raise UsageError(f"{what} must be a pytree of arrays, but '{name}' is a {type(leaf).__name__}.")
        if not hasattr(leaf, "shape"):
            raise UsageError(
                f"{what} must be a pytree of arrays, but '{name}' is the number {leaf!r}: a list counts as a pytree. "
                "Make it an array: numpy.asarray(...)."
            )
        values = np.asarray(leaf)
        if values.dtype.kind in "OSUMm":
            raise UsageError(f"{what} must hold numbers, but '{name}' is an array of {values.dtype}.")
        if values.size == 0:
            raise UsageError(f"{what}: '{name}' is empty, of shape {values.shape}.")
        if allow_non_finite or not np.issubdtype(values.dtype, np.inexact):
            continue
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            where = tuple(int(i) for i in bad[0])
            raise UsageError(
                f"{what}: '{name or 'the array'}' holds {values[where]} at {where}, {len(bad)} non-finite of "
                f"{values.size}. Clean the data, or say InMemory(..., allow_non_finite=True) if the objective "
                "expects it."
            )


def check_one_batch(data: Any, what: str) -> None:
    """Refuse a list of batches, which as a pytree of arrays would be a single one."""
    if not isinstance(data, list) or len(data) < 2 or not all(isinstance(one, tuple | list | dict) for one in data):
        return
    if not all(hasattr(leaf, "shape") for leaf in jax.tree.leaves(data)):
        return
    if len({jax.tree.structure(one) for one in data}) == 1:
        raise UsageError(
            f"{what} are a list of {len(data)} {type(data[0]).__name__}s of arrays. If each is a batch: "
            "Stream(batches). If all together are the arrays of every step: InMemory(...), or a tuple."
        )


def check_leaf(name: str, leaf: Any, what: str) -> None:
    """Refuse what is neither array nor stream, where that is sure."""
    if isinstance(leaf, str | bytes):
        raise UsageError(
            f"{what} must be numbers, but '{name}' is the text {leaf!r}. Number the classes: "
            "numpy.unique(labels, return_inverse=True)[1]."
        )
    if dataclasses.is_dataclass(leaf) and not isinstance(leaf, Iterable) and not callable(leaf):
        raise UsageError(
            f"{what} must be a pytree of arrays, but JAX can't see into the dataclass {type(leaf).__name__}. Register "
            f"it: jax.tree_util.register_dataclass({type(leaf).__name__}), or derive it from equinox.Module."
        )


def takes_epoch(source: Callable[..., Any]) -> bool:
    """Whether a function of a stream can be called with the epoch."""
    try:
        inspect.signature(source).bind(0)
    except TypeError:
        return False
    except ValueError:  # built in, without a signature
        return True
    return True
