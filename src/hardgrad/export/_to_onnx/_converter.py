"""The walk through a StableHLO module: each operation is handed to the function that says it in ONNX.

Calls are inlined, and arithmetic on shapes is done in advance where it can be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.mlir import ir

from ._graph import Builder, NoOnnxFormError, Value

_DTYPES = {"i1": "bool", "f16": "float16", "f32": "float32", "f64": "float64"}
_DTYPES |= {
    f"{sign}{bits}": f"{kind}{bits}" for sign, kind in (("i", "int"), ("ui", "uint")) for bits in (8, 16, 32, 64)
}
_FOLDED = 2**16  # entries; weights are not to be computed with

Values = list[Value]
Scope = dict[Any, Value]
Translator = Callable[["Converter", Any, Values], "Value | Values"]
TRANSLATORS: dict[str, Translator] = {}


def declared(type_: Any) -> tuple[np.dtype[Any], tuple[int | None, ...]]:
    """Dtype and shape of a StableHLO type."""
    tensor = ir.RankedTensorType(type_)
    element = str(tensor.element_type)
    if element not in _DTYPES:
        raise NoOnnxFormError(f"arrays of {element} have no ONNX form here")
    sizes = (None if tensor.is_dynamic_dim(i) else tensor.get_dim_size(i) for i in range(tensor.rank))
    return np.dtype(_DTYPES[element]), tuple(sizes)


def numbers_of(op: Any, name: str) -> list[int]:
    """An attribute that is a list of whole numbers."""
    return [int(n) for n in op.attributes[name]] if name in op.attributes else []


def number_of(op: Any, name: str) -> int:
    return int(ir.IntegerAttr(op.attributes[name]).value)


def word_of(op: Any, name: str) -> str:
    """An attribute that is a word of StableHLO's own, such as a direction of comparison."""
    return str(op.attributes[name]).rstrip(">").split()[-1]


class Converter(Builder):
    """Walks through a module. `functions` are its functions by name."""

    def __init__(self, functions: dict[str, Any]):
        super().__init__()
        self.functions = functions
        self.scope: Scope = {}

    def block(self, block: Any, scope: Scope) -> Values:
        """Translate a block; returns what it returns."""
        outside, self.scope = self.scope, scope
        try:
            for op in block.operations:
                operation = op.operation
                inputs = [scope[operand] for operand in operation.operands]
                if operation.name in ("func.return", "stablehlo.return"):
                    return inputs
                for result, value in zip(operation.results, self.operation(operation, inputs), strict=True):
                    scope[result] = value
        finally:
            self.scope = outside
        raise NoOnnxFormError("a block of the program has no end")

    def operation(self, op: Any, inputs: Values) -> Values:
        """Translate one operation."""
        if op.name not in TRANSLATORS:
            raise NoOnnxFormError(f"{op.name} has no ONNX form here")
        kinds = [declared(result.type) for result in op.results]
        constant = bool(inputs) and all(value.known is not None for value in inputs)
        few = all(None not in shape and math.prod(size or 0 for size in shape) <= _FOLDED for _, shape in kinds)
        if not (constant and few and kinds and all(dtype.kind in "iub" for dtype, _ in kinds)):
            return _as_list(TRANSLATORS[op.name](self, op, inputs))
        with self.body() as nodes:
            results = _as_list(TRANSLATORS[op.name](self, op, inputs))
        if all(value.known is not None for value in results):
            return results
        return self.fold(nodes, results)

    def inside(self, region: Any, arguments: Values) -> Values:
        """Translate a region's block, which also sees what is around it."""
        block = region.blocks[0]
        return self.block(block, {**self.scope, **dict(zip(block.arguments, arguments, strict=True))})

    def result(self, op: Any, kind: str, inputs: Sequence[Value | str], index: int = 0, **attributes: Any) -> Value:
        """A node that gives the operation's result."""
        return self.emit(kind, inputs, *declared(op.results[index].type), **attributes)

    def as_shape(self, value: Value) -> Value:
        """A vector of sizes or positions as ONNX wants it."""
        return self.cast(value, np.int64)

    def reshaped(self, value: Value, shape: Sequence[int | None], sizes: Value | None = None) -> Value:
        """In another shape; `sizes` is needed where more than one axis is free."""
        if tuple(shape) == value.shape and None not in shape:
            return value
        if sum(size is None for size in shape) > 1:
            if sizes is None:
                raise NoOnnxFormError("a reshape with two free axes has no ONNX form here")
            target = self.as_shape(sizes)
        else:
            target = self.integers(*(-1 if size is None else size for size in shape))
        return self.emit("Reshape", [value, target], value.dtype, shape)


def _as_list(found: Value | Values) -> Values:
    return found if isinstance(found, list) else [found]


def translates(*names: str) -> Callable[[Translator], Translator]:
    def register(function: Translator) -> Translator:
        for name in names:
            TRANSLATORS[f"stablehlo.{name}" if "." not in name else name] = function
        return function

    return register


def operands(inputs: Values) -> list[Value | str]:
    """Operands that broadcast to the same result: small ones where a full one is beside."""
    full = any(value.small is None for value in inputs)
    return [value.small if full and value.small is not None else value for value in inputs]
