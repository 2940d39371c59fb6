"""Operations that join entries: products of matrices, sums, extremes, running sums."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.extend.mlir.dialects import stablehlo
from numpy.typing import NDArray

from ._converter import Converter, Values, declared, numbers_of, translates, word_of
from ._graph import NoOnnxFormError, Value


@translates("dot_general")
def _dot(to: Converter, op: Any, inputs: Values) -> Value:
    numbers = stablehlo.DotDimensionNumbers(op.attributes["dot_dimension_numbers"])
    batch = list(numbers.lhs_batching_dimensions), list(numbers.rhs_batching_dimensions)
    summed = list(numbers.lhs_contracting_dimensions), list(numbers.rhs_contracting_dimensions)
    left, right = inputs
    if not batch[0] and len(summed[0]) == 1 and len(left.shape) == len(right.shape) == 2:
        if summed[0] == [0]:
            left = to.emit("Transpose", [left], left.dtype, left.shape[::-1], perm=[1, 0])
        if summed[1] == [1]:
            right = to.emit("Transpose", [right], right.dtype, right.shape[::-1], perm=[1, 0])
        return to.result(op, "MatMul", [left, right])
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    names: tuple[dict[int, str], dict[int, str]] = ({}, {})
    for a, b in (*zip(*batch, strict=True), *zip(*summed, strict=True)):
        names[0][a] = names[1][b] = next(letters)
    for side, value in zip(names, inputs, strict=True):
        for axis in range(len(value.shape)):
            side.setdefault(axis, next(letters))
    free = [names[i][axis] for i in (0, 1) for axis in range(len(inputs[i].shape)) if axis not in batch[i] + summed[i]]
    terms = ["".join(names[i][axis] for axis in range(len(inputs[i].shape))) for i in (0, 1)]
    output = "".join([*(names[0][axis] for axis in batch[0]), *free])
    return to.result(op, "Einsum", inputs, equation=f"{terms[0]},{terms[1]}->{output}")


_REDUCTIONS = {
    "stablehlo.add": ("ReduceSum", 0, "Add"),
    "stablehlo.multiply": ("ReduceProd", 1, "Mul"),
    "stablehlo.maximum": ("ReduceMax", None, "Max"),
    "stablehlo.minimum": ("ReduceMin", None, "Min"),
    "stablehlo.or": ("ReduceMax", False, "Or"),
    "stablehlo.and": ("ReduceMin", True, "And"),
}


@translates("reduce")
def _reduce(to: Converter, op: Any, inputs: Values) -> Value | Values:
    body = [inner.operation.name for inner in op.regions[0].blocks[0].operations]
    axes = numbers_of(op, "dimensions")
    if len(inputs) == 4:
        return _reduce_place(to, op, inputs, body, axes)
    if len(inputs) != 2 or len(body) != 2 or body[0] not in _REDUCTIONS:
        raise NoOnnxFormError(f"this kind of stablehlo.reduce ({', '.join(body[:-1])}) has no ONNX form here")
    kind, neutral, pair = _REDUCTIONS[body[0]]
    (x, start), (dtype, shape) = inputs, declared(op.results[0].type)
    if not axes:  # nothing is joined; to ONNX no axes are all of them
        found = x
    elif x.is_bool:
        whole = to.emit(kind, [to.cast(x, np.int32), to.integers(*axes)], np.int32, shape, keepdims=0)
        found = to.cast(whole, bool)
    else:
        found = to.result(op, kind, [x, to.integers(*axes)], keepdims=0)
    if axes and x.is_float and kind in ("ReduceMax", "ReduceMin"):  # a NaN among them is the result
        nan = to.emit("ReduceMax", [to.cast(_is_nan(to, x), np.int32), to.integers(*axes)], np.int32, shape, keepdims=0)
        found = to.emit("Where", [to.cast(nan, bool), to.constant(np.asarray(np.nan, dtype)), found], dtype, shape)
    if start.known is not None and (start.known == neutral or (neutral is None and _is_least(start.known, kind))):
        return found
    return to.result(op, pair, [found, start])


def _is_nan(to: Converter, x: Value) -> Value:
    return to.emit("IsNaN", [x], bool, x.shape)


def _is_least(value: NDArray[Any], kind: str) -> bool:
    if value.dtype.kind == "f":
        return bool(value == (-np.inf if kind == "ReduceMax" else np.inf))
    limits = np.iinfo(value.dtype)
    return bool(value == (limits.min if kind == "ReduceMax" else limits.max))


def _reduce_place(to: Converter, op: Any, inputs: Values, body: list[str], axes: list[int]) -> Values:
    """Where the largest or smallest is: the first of equals, and the first NaN before all else."""
    x = inputs[0]
    first = op.regions[0].blocks[0].operations[0].operation
    if first.name != "stablehlo.compare" or len(axes) != 1 or not x.is_float or body[-1] != "stablehlo.return":
        raise NoOnnxFormError("this kind of stablehlo.reduce of two arrays has no ONNX form here")
    direction = word_of(first, "comparison_direction")
    if direction not in ("GT", "LT"):
        raise NoOnnxFormError("this kind of stablehlo.reduce of two arrays has no ONNX form here")
    (dtype, shape), (index_dtype, _) = (declared(result.type) for result in op.results)
    largest = direction == "GT"
    place = to.emit("ArgMax" if largest else "ArgMin", [x], np.int64, shape, axis=axes[0], keepdims=0)
    nan = to.cast(_is_nan(to, x), np.int32)
    any_nan = to.cast(to.emit("ReduceMax", [nan, to.integers(*axes)], np.int32, shape, keepdims=0), bool)
    first_nan = to.emit("ArgMax", [nan], np.int64, shape, axis=axes[0], keepdims=0)
    place = to.emit("Where", [any_nan, first_nan, place], np.int64, shape)
    kind = "ReduceMax" if largest else "ReduceMin"
    value = to.emit(kind, [x, to.integers(*axes)], dtype, shape, keepdims=0)
    value = to.emit("Where", [any_nan, to.constant(np.asarray(np.nan, dtype)), value], dtype, shape)
    return [value, to.cast(place, index_dtype)]


@translates("reduce_window")
def _cumulative(to: Converter, op: Any, inputs: Values) -> Value:
    """Running sums: a window that ends at each entry and is as long as the axis."""
    x, start = inputs
    body = [inner.operation.name for inner in op.regions[0].blocks[0].operations]
    window = numbers_of(op, "window_dimensions")
    axes = [axis for axis, size in enumerate(window) if size > 1]
    padding = np.array(op.attributes["padding"]) if "padding" in op.attributes else np.zeros((len(window), 2), int)
    others = [n for name in ("window_strides", "base_dilations", "window_dilations") for n in numbers_of(op, name)]
    running = len(axes) == 1 and window[axes[0]] == x.shape[axes[0]] and body[0] == "stablehlo.add" and len(body) == 2
    if not running or any(n != 1 for n in others) or start.known is None or start.known != 0:
        raise NoOnnxFormError("stablehlo.reduce_window has no ONNX form here but for running sums")
    (axis,) = axes
    forward, backward = np.zeros_like(padding), np.zeros_like(padding)
    forward[axis], backward[axis] = (window[axis] - 1, 0), (0, window[axis] - 1)
    if not (np.array_equal(padding, forward) or np.array_equal(padding, backward)):
        raise NoOnnxFormError("stablehlo.reduce_window has no ONNX form here but for running sums")
    return to.result(op, "CumSum", [x, to.constant(np.int64(axis))], reverse=int(np.array_equal(padding, backward)))
