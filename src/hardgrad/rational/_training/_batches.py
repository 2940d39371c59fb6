"""Training and validation data in all their forms, with labels lifted.

A batch is ``(x, y)``, ``(x, y, status)`` or ``(x, Targets)``. Arrays, and batches in a list, are lifted once, before
training; of a stream each batch as it comes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ...core import UsageError
from ...training import InMemory, Stream
from .._algebra._targets import Targets, lift_semantic_targets, lift_targets

_FORMS = "(x, y), (x, y, status) or (x, Targets)"


class HeldOut(NamedTuple):
    """A validation batch. Its type tells the objective that this is no training step.

    Attributes:
        inputs: as of a training batch.
        targets: likewise.
    """

    inputs: Any
    targets: Targets


@dataclasses.dataclass(frozen=True)
class Lifter:
    """Turns a batch into inputs and `Targets`.

    Attributes:
        dtype: the real dtype of the model's parameters, which inputs and labels get.
        arithmetic: the dtype the model computes in, whose range they must keep.
        check: refuses labels that the model or the loss can't take.
    """

    dtype: Any
    arithmetic: Any
    check: Callable[[Targets], None]

    def __call__(self, batch: Any) -> tuple[Any, Targets]:
        """Inputs and lifted labels, as NumPy arrays.

        Raises:
            UsageError: another form of batch, or a number beyond the dtype.
        """
        if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
            raise UsageError(f"a batch must be {_FORMS}, got {type(batch).__name__}.")
        inputs = jax.tree.map(lambda leaf: self._fitting(leaf, "the inputs"), batch[0])
        labels = batch[1]
        if not isinstance(labels, Targets):
            y = self._fitting(labels, "the labels")
            y = y if np.issubdtype(y.dtype, np.inexact) else y.astype(self.dtype)
            labels = lift_targets(y) if len(batch) == 2 else lift_semantic_targets(y, batch[2])
        elif len(batch) == 3:
            raise UsageError(f"labels that are lifted have their status already: a batch is {_FORMS}.")
        else:
            labels = jax.tree.map(lambda leaf: self._fitting(leaf, "the labels"), labels)
        self.check(labels)
        return inputs, labels

    def _fitting(self, leaf: Any, what: str) -> NDArray[Any]:
        """An array with its floats in the model's dtype."""
        array = np.asarray(leaf)
        if jnp.issubdtype(array.dtype, jnp.integer) or array.dtype == bool:
            return array
        if not jnp.issubdtype(array.dtype, jnp.inexact):
            raise UsageError(f"{what} must be an array of numbers, got {type(leaf).__name__} of {array.dtype}.")
        wanted = np.result_type(self.dtype, np.complex64) if np.iscomplexobj(array) else np.dtype(self.dtype)
        largest = float(jnp.finfo(self.arithmetic).max)  # type: ignore[no-untyped-call]
        wider = float(jnp.finfo(array.dtype).max) > largest  # type: ignore[no-untyped-call]
        if wider and (lost := np.isfinite(array) & (np.abs(array) > largest)).any():
            where = tuple(int(i) for i in np.argwhere(lost)[0])
            name = jnp.dtype(self.arithmetic).name
            raise UsageError(
                f"{what} hold {array[where]} at {where}, which {name} can't: the model computes in {name}. Scale them, "
                "label them as censored or infinite, or use a wider dtype (float64: "
                "jax.config.update('jax_enable_x64', True))."
            )
        return array.astype(wanted)


def is_batch(data: Any) -> bool:
    """Whether this is one batch of arrays, and not a list or tuple of batches."""
    return isinstance(data, tuple | list) and len(data) in (2, 3) and not isinstance(data[0], tuple | list)


def training_feed(
    data: Any, lift: Lifter, *, batch_size: int | None, shuffle: bool, order: Any = None
) -> InMemory | Stream:
    """The training data as a feed of ``(inputs, targets)``.

    Args:
        data: arrays (one batch of all rows), an `InMemory` or `Stream`, or any iterable of batches. Batches in a list
            are kept in memory if they have equal rows but for the last: an epoch then is one dispatch.
        lift: lifts the labels.
        batch_size: rows a step, for arrays.
        shuffle: whether their order changes each epoch.
        order: an order of rows of one's own.

    Raises:
        UsageError: a batch size or an order for data that bring their own batches; inputs that are not finite.
    """
    what = "the training data"
    if is_batch(data):
        arrays = lift(data)
        _check_inputs(arrays, what, allow_non_finite=False)
        return InMemory(arrays, batch_size=batch_size, shuffle=shuffle, order=order, what=what)
    if batch_size is not None:
        raise UsageError("batch_size cuts arrays, and this train_loader brings its own batches: leave it out.")
    if isinstance(data, InMemory):
        arrays = lift(data.arrays)
        return InMemory(
            arrays,
            batch_size=data.batch_size,
            shuffle=data.shuffle,
            keep_remainder=data.keep_remainder,
            allow_non_finite=data.allow_non_finite,
            order=order or data.order,
            what=what,
        )
    if order is not None:
        raise UsageError("a sampler draws rows of arrays, and this train_loader brings its own batches.")
    if isinstance(data, Stream):
        return lifted_stream(data, lift)
    if isinstance(data, list | tuple):
        batches = _several(data, lift, what)
        rows = [len(jax.tree.leaves(batch)[0]) for batch in batches]
        if len(set(rows[:-1])) <= 1 and rows[-1] <= rows[0]:
            arrays = _joined(batches)
            _check_inputs(arrays, what, allow_non_finite=False)
            return InMemory(arrays, batch_size=rows[0], shuffle=False, what=what)
        return Stream(batches)
    return lifted_stream(Stream(data), lift)


def validation_feed(data: Any, lift: Lifter, *, batch_size: int | None) -> InMemory | Stream:
    """The validation data as a feed of `HeldOut`: in memory, all but a `Stream`.

    Raises:
        UsageError: it is empty; inputs that are not finite.
    """
    what = "the validation data"
    if isinstance(data, Stream):
        return lifted_stream(data, lambda batch: HeldOut(*lift(batch)), what=what)
    tolerant = isinstance(data, InMemory) and data.allow_non_finite
    whole = data.arrays if isinstance(data, InMemory) else data
    arrays = HeldOut(*(lift(whole) if is_batch(whole) else _joined(_several(whole, lift, what))))
    _check_inputs(arrays, what, allow_non_finite=tolerant)
    rows = len(jax.tree.leaves(arrays)[0])
    size = None if batch_size is None else min(batch_size, rows)
    return InMemory(arrays, batch_size=size, allow_non_finite=tolerant, what=what)


def _check_inputs(arrays: tuple[Any, Targets], what: str, *, allow_non_finite: bool) -> None:
    """Refuse inputs without rows or with numbers that are not finite, by a message in the caller's words."""
    for leaf in jax.tree.leaves(arrays[0]):
        if leaf.ndim == 0 or leaf.size == 0:
            raise UsageError(f"{what} have no rows: their inputs are of shape {leaf.shape}.")
        if allow_non_finite or leaf.dtype.kind not in "fc":
            continue
        bad = ~np.isfinite(leaf.reshape(len(leaf), -1)).all(axis=1)
        if bad.any():
            raise UsageError(
                f"{what}: row {int(np.argmax(bad))} of the inputs is not finite, {int(bad.sum())} of {len(bad)} in "
                "all. Drop those rows, or give InMemory(..., allow_non_finite=True): their batches are then left out."
            )


def _several(batches: Any, lift: Lifter, what: str) -> list[tuple[Any, Targets]]:
    if not isinstance(batches, Iterable):
        raise UsageError(f"{what} must be arrays or an iterable of batches, got {type(batches).__name__}.")
    found = [lift(batch) for batch in batches]
    if not found:
        raise UsageError(f"{what} hold no batch.")
    return found


def _joined(batches: list[tuple[Any, Targets]]) -> Any:
    try:
        return jax.tree.map(lambda *leaves: np.concatenate(leaves), *batches)
    except ValueError as error:
        raise UsageError(f"the batches don't fit together: {error}.") from error


def lifted_stream(stream: Stream, lift: Callable[[Any], Any], *, what: str = "the training data") -> Stream:
    """A stream whose batches are lifted as they come."""
    source = stream.source
    lifted: Any
    if isinstance(source, Iterator):
        lifted = map(lift, source)
    elif callable(source):
        lifted = lambda epoch: _Lifted(source(epoch), lift, what)
    else:
        lifted = _Lifted(source, lift, what)
    steps = stream.steps_per_epoch or None  # an empty source is told of when it is read
    return Stream(lifted, steps_per_epoch=steps, batches_per_dispatch=stream.batches_per_dispatch)


class _Lifted:
    """An iterable of lifted batches; never empty."""

    def __init__(self, batches: Iterable[Any], lift: Callable[[Any], Any], what: str):
        self.batches, self.lift, self.what = batches, lift, what

    def __iter__(self) -> Iterator[Any]:
        empty = True
        for batch in self.batches:
            empty = False
            yield self.lift(batch)
        if empty:
            raise UsageError(f"{self.what} hold no batch.")
