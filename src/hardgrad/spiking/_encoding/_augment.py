"""Augmentation of spike trains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ...core import UsageError, whole_number


def shift_augment(inputs: Any, *, most: int = 10, axes: Sequence[int] = (-1,), key: Key[Array, ""]) -> Array:
    """Each sample shifted along some axes by a whole number of places of its own; what leaves one end enters the other.

    Args:
        inputs: ``[batch, ...]`` of any dtype; packed bits may be shifted along other axes than time.
        most: shifts are uniform over -most, ..., most.
        axes: of `inputs`; not the batch.
        key: of the draw.

    Raises:
        UsageError: an axis that is not there, or is the batch.

    Examples:
        >>> shifted = shift_augment(jnp.eye(4)[None], most=2, key=jax.random.key(0))
        >>> shifted.shape, float(shifted.sum())
        ((1, 4, 4), 4.0)
    """
    inputs, most = jnp.asarray(inputs), whole_number("most", most, least=0)
    places = [axis % inputs.ndim if -inputs.ndim <= axis < inputs.ndim else 0 for axis in axes]
    if 0 in places:
        raise UsageError(f"axes {tuple(axes)} must be among those of a sample: the inputs' shape is {inputs.shape}.")
    shifts = jax.random.randint(key, (inputs.shape[0], len(places)), -most, most + 1)
    roll: Any = lambda sample, shift: jnp.roll(sample, shift, [place - 1 for place in places])
    shifted: Array = jax.vmap(roll)(inputs, shifts)
    return shifted
