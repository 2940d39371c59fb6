"""Whether a model's parameters are what its maker takes them for."""

from __future__ import annotations

import warnings

import equinox as eqx
import jax
from jaxtyping import PyTree

from ..core import UsageError, named_leaves


def check_parameters(model: PyTree, params: PyTree, trainable: PyTree | None) -> None:
    """See that something is trained, and speak of numbers that look like parameters and are none.

    Args:
        model: as given.
        params: what of it is trained.
        trainable: as given.

    Raises:
        UsageError: nothing is trained; says what there is instead.
    """
    if not jax.tree.leaves(params):
        raise UsageError(f"the model has nothing to train: {_what_there_is(model, trainable)}")
    numbers = _plain_numbers(model) if trainable is None else []
    if numbers:
        one = len(numbers) == 1
        warnings.warn(
            f"the model's {', '.join(map(repr, numbers[:5]))} {'is a Python number' if one else 'are Python numbers'}, "
            f"which {'is' if one else 'are'} not trained. To train {'it' if one else 'them'}, use arrays: "
            "jnp.asarray(0.0). If it is meant so: fit(..., trainable=equinox.is_inexact_array).",
            stacklevel=3,
        )


def _what_there_is(model: PyTree, trainable: PyTree | None) -> str:
    if trainable is not None and jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)):
        return "`trainable` lets none of its arrays through."
    kinds = [f"'{name}' is {getattr(x, 'dtype', type(x).__name__)}" for name, x in named_leaves(model).items()]
    there = f"; {', '.join(kinds[:3])}{' ...' if len(kinds) > 3 else ''}" if kinds else ""
    return f"what is trained are arrays of floating-point numbers, such as jnp.zeros(3){there}."


def _plain_numbers(model: PyTree) -> list[str]:
    """Names of Python floats in dictionaries and lists; in modules they are settings."""
    plain = (jax.tree_util.DictKey, jax.tree_util.SequenceKey)
    return [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, leaf in jax.tree_util.tree_leaves_with_path(model)
        if path and type(leaf) is float and all(isinstance(key, plain) for key in path)
    ]
