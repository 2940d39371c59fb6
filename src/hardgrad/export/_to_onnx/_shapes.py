"""Operations that move entries: reshape, broadcast, slice, index, join."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.mlir.dialects import stablehlo

from ._converter import Converter, Values, declared, number_of, numbers_of, translates
from ._graph import NoOnnxFormError, Value


@translates("get_dimension_size")
def _dimension_size(to: Converter, op: Any, inputs: Values) -> Value:
    axis = number_of(op, "dimension")
    size = inputs[0].shape[axis]
    if size is not None:
        return to.constant(np.int32(size))
    found = to.emit("Shape", inputs, np.int64, (1,), start=axis, end=axis + 1)
    return to.cast(to.emit("Squeeze", [found], np.int64, ()), np.int32)


@translates("reshape", "dynamic_reshape")
def _reshape(to: Converter, op: Any, inputs: Values) -> Value:
    return to.reshaped(inputs[0], declared(op.results[0].type)[1], *inputs[1:])


@translates("broadcast_in_dim", "dynamic_broadcast_in_dim")
def _broadcast(to: Converter, op: Any, inputs: Values) -> Value:
    operand, axes = inputs[0], numbers_of(op, "broadcast_dimensions")
    dtype, shape = declared(op.results[0].type)
    sources = dict(zip(axes, operand.shape, strict=True))
    spread: list[int | None] = [sources.get(axis, 1) for axis in range(len(shape))]
    if list(axes) != sorted(axes):
        order = sorted(range(len(axes)), key=lambda i: axes[i])
        operand = to.emit("Transpose", [operand], dtype, [operand.shape[i] for i in order], perm=order)
    operand = to.reshaped(operand, spread) if operand.shape else operand
    if tuple(spread) == shape and (operand.shape == shape):
        return operand
    if all(size is not None or spread[axis] is None for axis, size in enumerate(shape)):
        target = to.integers(*(1 if size is None else size for size in shape))  # 1 keeps what is there
    else:
        target = to.as_shape(inputs[1])
    found = to.emit("Expand", [operand, target], dtype, shape)
    return Value(found.name, found.dtype, found.shape, small=operand.name)


@translates("transpose")
def _transpose(to: Converter, op: Any, inputs: Values) -> Value:
    return to.result(op, "Transpose", inputs, perm=numbers_of(op, "permutation"))


@translates("concatenate")
def _concatenate(to: Converter, op: Any, inputs: Values) -> Value:
    return to.result(op, "Concat", inputs, axis=number_of(op, "dimension"))


@translates("slice")
def _slice(to: Converter, op: Any, inputs: Values) -> Value:
    bounds = [to.integers(*numbers_of(op, name)) for name in ("start_indices", "limit_indices")]
    axes, steps = to.integers(*range(len(inputs[0].shape))), to.integers(*numbers_of(op, "strides"))
    return to.result(op, "Slice", [inputs[0], *bounds, axes, steps])


@translates("real_dynamic_slice")
def _real_dynamic_slice(to: Converter, op: Any, inputs: Values) -> Value:
    operand, start, limit, steps = inputs
    axes = to.integers(*range(len(operand.shape)))
    return to.result(op, "Slice", [operand, to.as_shape(start), to.as_shape(limit), axes, to.as_shape(steps)])


def _clamped_starts(to: Converter, operand: Value, starts: Values, sizes: Value) -> Value:
    """Where a slice of these sizes begins that is to lie inside the operand: an int64 vector."""
    rank = len(operand.shape)
    vector = [to.reshaped(to.as_shape(start), (1,)) for start in starts]
    asked = to.emit("Concat", vector, np.int64, (rank,), axis=0)
    last = to.emit("Sub", [to.emit("Shape", [operand], np.int64, (rank,)), sizes], np.int64, (rank,))
    zero = to.constant(np.int64(0))
    return to.emit("Min", [to.emit("Max", [asked, zero], np.int64, (rank,)), last], np.int64, (rank,))


@translates("dynamic_slice")
def _dynamic_slice(to: Converter, op: Any, inputs: Values) -> Value:
    operand, sizes = inputs[0], to.integers(*numbers_of(op, "slice_sizes"))
    rank = len(operand.shape)
    start = _clamped_starts(to, operand, inputs[1:], sizes)
    end = to.emit("Add", [start, sizes], np.int64, (rank,))
    return to.result(op, "Slice", [operand, start, end, to.integers(*range(rank))])


@translates("dynamic_update_slice")
def _dynamic_update_slice(to: Converter, op: Any, inputs: Values) -> Value:
    """What lies before, the update, and what lies after: along the one axis in which it is smaller."""
    operand, update, *starts = inputs
    axes = [i for i, (a, b) in enumerate(zip(operand.shape, update.shape, strict=True)) if a != b]
    if not axes:
        return update
    if len(axes) > 1:
        raise NoOnnxFormError("an update of a part that is smaller along two axes has no ONNX form here")
    (axis,), rank = axes, len(operand.shape)
    sizes = to.emit("Shape", [update], np.int64, (rank,))
    at = to.integers(axis)
    start = to.emit("Gather", [_clamped_starts(to, operand, starts, sizes), at], np.int64, (1,))
    end = to.emit("Add", [start, to.emit("Gather", [sizes, at], np.int64, (1,))], np.int64, (1,))
    rest = [*operand.shape[:axis], None, *operand.shape[axis + 1 :]]
    before = to.emit("Slice", [operand, to.integers(0), start, at], operand.dtype, rest)
    after = to.emit("Slice", [operand, end, to.integers(2**62), at], operand.dtype, rest)
    return to.result(op, "Concat", [before, update, after], axis=axis)


@translates("reverse")
def _reverse(to: Converter, op: Any, inputs: Values) -> Value:
    axes = numbers_of(op, "dimensions")
    bounds = (-1,) * len(axes), (-(2**62),) * len(axes), axes, (-1,) * len(axes)
    return to.result(op, "Slice", [inputs[0], *(to.integers(*numbers) for numbers in bounds)])


@translates("pad")
def _pad(to: Converter, op: Any, inputs: Values) -> Value:
    if any(numbers_of(op, "interior_padding")):
        raise NoOnnxFormError("padding between entries has no ONNX form here")
    widths = to.integers(*numbers_of(op, "edge_padding_low"), *numbers_of(op, "edge_padding_high"))
    return to.result(op, "Pad", [inputs[0], widths, inputs[1]])


@translates("iota", "dynamic_iota")
def _iota(to: Converter, op: Any, inputs: Values) -> Value:
    dtype, shape = declared(op.results[0].type)
    axis = number_of(op, "iota_dimension")
    length = shape[axis]
    along = [1 if i != axis else length for i in range(len(shape))]
    if length is None:
        (size,) = inputs
        count = to.emit("Gather", [to.as_shape(size), to.constant(np.int64(axis))], np.int64, ())
        zero, one = to.constant(np.int64(0)), to.constant(np.int64(1))
        steps = to.cast(to.emit("Range", [zero, count, one], np.int64, (None,)), dtype)
    else:
        steps = to.constant(np.arange(length, dtype=dtype))
    steps = to.reshaped(steps, along)
    if tuple(along) == shape:
        return steps
    target = to.as_shape(inputs[0]) if inputs else to.integers(*(size or 0 for size in shape))
    return to.emit("Expand", [steps, target], dtype, shape)


@translates("gather", "dynamic_gather")
def _gather(to: Converter, op: Any, inputs: Values) -> Value:
    """Indexing as it is written most: a fixed part ``x[:, 2]``, or chosen rows ``x[rows]`` along one axis."""
    operand, indices = inputs[:2]
    numbers = stablehlo.GatherDimensionNumbers(op.attributes["dimension_numbers"])
    collapsed, mapped = list(numbers.collapsed_slice_dims), list(numbers.start_index_map)
    dtype, shape = declared(op.results[0].type)
    if list(numbers.operand_batching_dims):
        raise NoOnnxFormError("indexing of each row by its own index has no ONNX form here")
    sizes = _slice_sizes(op, operand, inputs, list(numbers.offset_dims), collapsed, shape)
    if indices.known is not None and indices.known.ndim <= 1:
        starts = [0] * len(operand.shape)
        for axis, start in zip(mapped, np.ravel(indices.known), strict=True):
            size, part = operand.shape[axis], sizes[axis]
            if size is None or part is None:
                raise NoOnnxFormError("indexing along the batch has no ONNX form here")
            starts[axis] = int(np.clip(start, 0, size - part))
        axes = [axis for axis, part in enumerate(sizes) if part is not None]
        bounds = [starts[axis] for axis in axes], [starts[axis] + (sizes[axis] or 0) for axis in axes], axes
        part_shape = [operand.shape[axis] if part is None else part for axis, part in enumerate(sizes)]
        found = to.emit("Slice", [operand, *(to.integers(*b) for b in bounds)], dtype, part_shape)
        return to.emit("Squeeze", [found, to.integers(*collapsed)], dtype, shape) if collapsed else found
    whole = all(part is None or part == operand.shape[axis] for axis, part in enumerate(sizes) if axis not in mapped)
    places = len(indices.shape) - (1 if numbers.index_vector_dim < len(indices.shape) else 0)
    offsets = [axis for axis in range(len(shape)) if axis not in range(mapped[0], mapped[0] + places)] if mapped else []
    if len(mapped) != 1 or collapsed != mapped or not whole or list(numbers.offset_dims) != offsets:
        raise NoOnnxFormError("this kind of indexing (stablehlo.gather) has no ONNX form here")
    size = operand.shape[mapped[0]]
    if size is None:
        raise NoOnnxFormError("indexing along the batch has no ONNX form here")
    if numbers.index_vector_dim < len(indices.shape):
        indices = to.emit(
            "Squeeze", [indices, to.integers(numbers.index_vector_dim)], indices.dtype, indices.shape[:-1]
        )
    low, high = (to.constant(np.asarray(n, indices.dtype)) for n in (0, size - 1))
    indices = to.emit(
        "Min", [to.emit("Max", [indices, low], indices.dtype, indices.shape), high], indices.dtype, indices.shape
    )
    return to.emit("Gather", [operand, indices], dtype, shape, axis=mapped[0])


def _slice_sizes(
    op: Any, operand: Value, inputs: Values, offsets: list[int], collapsed: list[int], shape: Sequence[int | None]
) -> list[int | None]:
    """The part of each axis that is taken; None for all of a free one."""
    if "slice_sizes" in op.attributes:
        return list(numbers_of(op, "slice_sizes"))
    kept = iter([shape[axis] for axis in offsets])
    sizes = [1 if axis in collapsed else next(kept) for axis in range(len(operand.shape))]
    for size, whole in zip(sizes, operand.shape, strict=True):
        if size is None and whole is not None:
            raise NoOnnxFormError("a part of free size has no ONNX form here")
    return sizes
