"""Feeding a trainer: arrays that fit in memory, and streams of batches.

A feed cuts an epoch into *blocks*: groups of steps that one dispatch to the device runs. Arrays in
memory stay on the device and a block carries the rows of each step; a stream's block carries the
batches themselves.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpy.typing import NDArray

from ..core import UsageError, leaf_names, named_leaves, whole_number
from ._data_checks import check_arrays, check_leaf, check_one_batch, takes_epoch

RowOrder = Callable[[int, int], NDArray[Any]]
"""``order(epoch, seed) -> rows``."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Steps that run in one dispatch.

    Attributes:
        steps: how many.
        rows: int array ``[steps, batch]`` of rows into the arrays in memory, or None.
        batches: a pytree of arrays ``[steps, batch, ...]``, or None.
    """

    steps: int
    rows: NDArray[Any] | None = None
    batches: PyTree = None


class InMemory:
    """Arrays that fit in memory, fed from the device.

    Args:
        arrays: a pytree of arrays. With a batch size, all share their leading axis.
        batch_size: rows a step; None gives all arrays whole to every step.
        shuffle: draw a new order of rows each epoch.
        keep_remainder: run a shorter last step for the rows that are left over; else they sit out
            this epoch.
        allow_non_finite: let NaN and infinities in the data pass.
        order: ``order(epoch, seed) -> rows`` in place of shuffling: as many row numbers as there are rows, any of
            them more than once or not at all. It is asked at the beginning of an epoch, when all callbacks have
            heard of the one before.
        what: what messages call it.

    Raises:
        UsageError: not arrays, of different lengths, not finite, or fewer rows than a batch; an order without a
            batch size.
    """

    def __init__(
        self,
        arrays: PyTree,
        *,
        batch_size: int | None = None,
        shuffle: bool = True,
        keep_remainder: bool = True,
        allow_non_finite: bool = False,
        order: RowOrder | None = None,
        what: str = "the data",
    ):
        if not jax.tree.leaves(arrays):
            raise UsageError(f"there is no array in {what}.")
        check_arrays(arrays, what=what, allow_non_finite=allow_non_finite)
        if order is not None and batch_size is None:
            raise UsageError("an order of rows needs a batch size: InMemory(..., batch_size=..., order=...).")
        self.shuffle, self.keep_remainder, self.order = shuffle, keep_remainder, order
        self.allow_non_finite = allow_non_finite
        self.arrays = jax.tree.map(jnp.asarray, arrays)
        self.rows: int | None = None
        self.batch_size: int | None = None
        if batch_size is not None:
            self.rows = _common_length(arrays)
            self.batch_size = whole_number("batch_size", batch_size, least=1)
            if self.batch_size > self.rows:
                raise UsageError(f"batch_size must be at most the {self.rows} rows there are, got {batch_size!r}.")

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        if self.rows is None or self.batch_size is None:
            return 1
        whole, left = divmod(self.rows, self.batch_size)
        return whole + (1 if left and self.keep_remainder else 0)

    def blocks(self, epoch: int, seed: int, limit: int | None) -> Iterator[Block]:
        """The blocks of one epoch, of at most `limit` steps each.

        Args:
            epoch: from 0; with `seed` it decides the order of rows.
            seed: the run's seed.
            limit: most steps in a block, or None.
        """
        if self.rows is None or self.batch_size is None:
            yield Block(1)
            return
        order = self._order(epoch, seed, self.rows)
        whole = self.rows // self.batch_size
        rows = order[: whole * self.batch_size].reshape(whole, self.batch_size).astype(np.int32)
        for start in range(0, whole, limit or whole):
            part = rows[start : start + (limit or whole)]
            yield Block(len(part), rows=part)
        left = order[whole * self.batch_size :].astype(np.int32)
        if len(left) and self.keep_remainder:
            yield Block(1, rows=left[None])

    def _order(self, epoch: int, seed: int, rows: int) -> NDArray[Any]:
        """The rows of an epoch, in order."""
        if self.order is None:
            return np.random.default_rng((seed, epoch)).permutation(rows) if self.shuffle else np.arange(rows)
        order = np.asarray(self.order(epoch, seed))
        fits = order.shape == (rows,) and np.issubdtype(order.dtype, np.integer)
        if not fits or order.min() < 0 or order.max() >= rows:
            raise UsageError(
                f"an order of rows must be {rows} whole numbers from 0 to {rows - 1}, "
                f"got an array of {order.dtype} of shape {order.shape}."
            )
        return order


class Stream:
    """Batches that come one after another: a generator, a torch ``DataLoader``, grain.

    Args:
        source: an iterable of batches (pytrees of arrays, torch tensors included), begun anew each
            epoch; or a function ``source(epoch) -> iterable``, which lets a resumed run find its
            place at once and see the same batches; or an iterator, read on from epoch to epoch
            (a resumed run then reads and drops what was already used).
        steps_per_epoch: how many batches make an epoch; None takes all. Needed for endless ones.
        batches_per_dispatch: how many batches go to the device together.

    Raises:
        UsageError: a number out of range.
    """

    def __init__(
        self,
        source: Iterable[Any] | Callable[[int], Iterable[Any]],
        *,
        steps_per_epoch: int | None = None,
        batches_per_dispatch: int = 8,
    ):
        if batches_per_dispatch < 1 or (steps_per_epoch is not None and steps_per_epoch < 1):
            raise UsageError(
                f"a stream needs at least one batch an epoch and a dispatch, got steps_per_epoch={steps_per_epoch}, "
                f"batches_per_dispatch={batches_per_dispatch}."
            )
        if not callable(source) and not isinstance(source, Iterable):
            raise UsageError(
                "data are arrays of rows, a stream of batches, or a function of the epoch that gives one; "
                f"got {type(source).__name__}. An objective that needs none is given a row to ignore: np.zeros((1, 1))."
            )
        if callable(source) and not takes_epoch(source):
            name = getattr(source, "__name__", type(source).__name__)
            raise UsageError(
                f"a stream's function takes the epoch, and {name} does not: Stream(lambda epoch: {name}())."
            )
        self.source, self.batches_per_dispatch = source, batches_per_dispatch
        self._steps = steps_per_epoch
        self._consumed = 0  # batches taken from a one-pass iterator

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps in an epoch, or None where the source does not say."""
        if self._steps is not None or callable(self.source) or not hasattr(self.source, "__len__"):
            return self._steps
        try:
            length: int = self.source.__len__()
        except (TypeError, NotImplementedError):  # a DataLoader over a data set without a length
            return None
        return length

    def skip_to(self, steps: int) -> None:
        """Put a one-pass iterator where a resumed run left it: `steps` batches in.

        Raises:
            UsageError: it is past that place.
        """
        if not isinstance(self.source, Iterator):
            return
        if steps == 0:  # a new run: it reads on from here
            self._consumed = 0
        if self._consumed > steps:
            raise UsageError(
                f"the iterator has already given {self._consumed} batches and the run stands at {steps}. "
                "Give it anew, or give Stream a function of the epoch that returns a new one."
            )
        for _ in itertools.islice(self.source, steps - self._consumed):
            self._consumed += 1

    def blocks(self, epoch: int, seed: int, limit: int | None) -> Iterator[Block]:
        """The blocks of one epoch: batches stacked while their shapes agree."""
        del seed
        source = self.source(epoch) if callable(self.source) else self.source
        group: list[Any] = []
        for batch in itertools.islice(iter(source), self._steps):
            self._consumed += 1
            arrays = jax.tree.map(_as_numbers, batch)
            if group and _shapes(group[0]) != _shapes(arrays):
                yield _stack(group)
                group = []
            group.append(arrays)
            if len(group) == min(self.batches_per_dispatch, limit or self.batches_per_dispatch):
                yield _stack(group)
                group = []
        if group:
            yield _stack(group)


Feed = InMemory | Stream


def as_feed(data: Any, *, batch_size: int | None, what: str = "the data") -> Feed:
    """`data` as a feed: feeds pass, arrays are held in memory, other iterables are streams.

    Raises:
        UsageError: a batch size given for something that brings its own batches.
    """
    if isinstance(data, InMemory | Stream):
        if batch_size is not None:
            raise UsageError(f"give the batch size to {type(data).__name__}(...), not to fit as well.")
        return data
    leaves = {} if isinstance(data, Iterator) else named_leaves(data)
    if leaves and all(eqx.is_array_like(leaf) for leaf in leaves.values()):
        check_one_batch(data, what)
        return InMemory(data, batch_size=batch_size, what=what)
    for name, leaf in leaves.items():
        check_leaf(name, leaf, what)
    if batch_size is not None:
        raise UsageError("a stream brings its own batches: leave batch_size out.")
    return Stream(data)


def first_batches(feed: Feed, most: int, *, seed: int) -> tuple[PyTree, int, bool]:
    """The first batches of a run, of one shape ``[batches, ...]``; how many; whether they are made of rows.

    Args:
        feed: the data.
        most: how many at most.
        seed: the run's.

    Raises:
        UsageError: the data gave none.
    """
    if isinstance(feed, InMemory):
        numbers = [row for block in feed.blocks(0, seed, None) if block.rows is not None for row in block.rows]
        if not numbers:
            return jax.tree.map(lambda x: x[None], feed.arrays), 1, False
        alike = [row for row in numbers if len(row) == len(numbers[0])][:most]
        return jax.tree.map(lambda x: x[np.stack(alike)], feed.arrays), len(alike), True
    block = next(iter(feed.blocks(0, seed, most)), None)
    if block is None:
        raise UsageError("the data gave no batch to look at.")
    return jax.tree.map(jnp.asarray, block.batches), block.steps, True


def _common_length(arrays: PyTree) -> int:
    lengths = {name: np.shape(x)[:1] for name, x in zip(leaf_names(arrays), jax.tree.leaves(arrays), strict=True)}
    if () in lengths.values() or len(set(lengths.values())) != 1:
        found = ", ".join(f"'{k}': {v[0] if v else 'scalar'}" for k, v in lengths.items())
        raise UsageError(f"with a batch size, all arrays need the same leading length; found {found}.")
    return int(next(iter(lengths.values()))[0])


def _as_numbers(leaf: Any) -> NDArray[Any]:
    array = np.asarray(leaf)
    if array.dtype.kind in "OSUMm":
        raise UsageError(
            f"a stream's batches must be pytrees of arrays of numbers, but one holds {type(leaf).__name__}."
        )
    return array


def _shapes(batch: PyTree) -> Any:
    return jax.tree.structure(batch), [(x.shape, x.dtype) for x in jax.tree.leaves(batch)]


def _stack(group: list[Any]) -> Block:
    return Block(len(group), batches=jax.tree.map(lambda *xs: np.stack(xs), *group))
