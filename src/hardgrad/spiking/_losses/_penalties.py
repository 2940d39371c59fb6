"""Penalties on how often cells spike: too rarely, or too often.

Both take spike counts, one entry a cell, ``[batch, *units]``: `Run.counts`, or recorded spikes summed over time.
Contributions of cells are added. Within a cell they are means, so that a weight means the same at every width and batch
size; ``published=True`` gives the sums of the published system in their place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError
from ._checks import check_not_negative


@dataclasses.dataclass(frozen=True)
class SilencePenalty:
    """Units that spike less than `least` times a sample, on the batch's average: mean of max(0, least - count)².

    The gradient reaches a silent unit through the surrogate alone, so one with tails revives it.

    Attributes:
        least: spikes a sample asked of each unit.
        weight: factor on the penalty.
        published: sum over units in the place of the mean.

    Raises:
        UsageError: a negative number.
    """

    least: float
    weight: float = 1.0
    _: dataclasses.KW_ONLY
    published: bool = False

    def __post_init__(self) -> None:
        check_not_negative("least", self.least)
        check_not_negative("weight", self.weight)

    def __call__(self, counts: Sequence[Any]) -> Float[Array, ""]:
        """The weighted penalty of counts ``[batch, *units]``, one entry a cell."""
        _check(counts)
        lacking = [jnp.square(jnp.maximum(0.0, self.least - jnp.mean(count, axis=0))) for count in counts]
        return _total(self.weight, lacking, self.published)


@dataclasses.dataclass(frozen=True)
class SparsityPenalty:
    """Samples in which a cell's units spike more than `most` times on average: mean of huber(max(0, average - most)).

    huber(a) = a²/2 up to 1, a - 1/2 above: a sample far too busy pulls no harder than one somewhat so.

    Attributes:
        most: spikes a sample allowed to a unit, on the average of its cell.
        weight: factor on the penalty.
        published: sum over samples in the place of the mean.

    Raises:
        UsageError: a negative number.
    """

    most: float
    weight: float = 1.0
    _: dataclasses.KW_ONLY
    published: bool = False

    def __post_init__(self) -> None:
        check_not_negative("most", self.most)
        check_not_negative("weight", self.weight)

    def __call__(self, counts: Sequence[Any]) -> Float[Array, ""]:
        """The weighted penalty of counts ``[batch, *units]``, one entry a cell."""
        _check(counts)
        averages = [jnp.mean(count.reshape(count.shape[0], -1), axis=1) for count in counts]
        excess = [_huber(jnp.maximum(0.0, average - self.most)) for average in averages]
        return _total(self.weight, excess, self.published)


def _huber(excess: Any) -> Any:
    """Of what is not negative."""
    return jnp.where(excess <= 1.0, 0.5 * jnp.square(excess), excess - 0.5)


def _total(weight: float, parts: list[Any], published: bool) -> Array:
    """Cells' contributions added up, each a mean or, as published, a sum."""
    reduce = jnp.sum if published else jnp.mean
    return weight * jnp.sum(jnp.stack([reduce(part) for part in parts]))


def _check(counts: Sequence[Any]) -> None:
    if len(counts) == 0:
        raise UsageError("a penalty on spikes needs the counts of at least one spiking cell; there are none.")
