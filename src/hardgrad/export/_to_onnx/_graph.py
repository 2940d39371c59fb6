"""An ONNX graph in the making: values with their types, nodes, and what is known before it runs."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.reference
from numpy.typing import NDArray

OPSET = 18
_IR_VERSION = 10  # what runtimes that know this opset can read


class NoOnnxFormError(Exception):
    """Part of a program that can't be said in ONNX, or not by this converter."""


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
    """What a node gives.

    Attributes:
        name: in the graph.
        dtype: of its entries.
        shape: None for an axis of free size.
        known: its entries, where they do not depend on the inputs.
        small: the name of an array that broadcasts to this one, where there is one: enough beside a full operand.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...]
    known: NDArray[Any] | None = None
    small: str | None = None

    @property
    def is_float(self) -> bool:
        """Whether entries are floating-point numbers."""
        return self.dtype.kind == "f"

    @property
    def is_bool(self) -> bool:
        """Whether entries are truth values."""
        return self.dtype.kind == "b"


class Builder:
    """Nodes in order, and the constants they use. Nodes of a loop's or a branch's body are kept apart."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._names = itertools.count()

    def fresh(self) -> str:
        """A name not in use."""
        return f"v{next(self._names)}"

    def constant(self, array: Any) -> Value:
        """A value known in advance."""
        array = np.asarray(array)
        name = self.fresh()
        self.constants[name] = onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
        return Value(name, array.dtype, array.shape, known=array)

    def integers(self, *numbers: int) -> Value:
        """A vector of int64, as shapes and axes are given."""
        return self.constant(np.array(numbers, np.int64))

    def emit(
        self, kind: str, inputs: Sequence[Value | str], dtype: Any, shape: Sequence[int | None], **attributes: Any
    ) -> Value:
        """A node of one output."""
        names = [value if isinstance(value, str) else value.name for value in inputs]
        value = Value(self.fresh(), np.dtype(dtype), tuple(shape))
        self.nodes.append(onnx.helper.make_node(kind, names, [value.name], **attributes))
        return value

    def cast(self, value: Value, dtype: Any) -> Value:
        """In another dtype."""
        if value.dtype == np.dtype(dtype):
            return value
        if value.known is not None:
            return self.constant(value.known.astype(dtype))
        return self.emit("Cast", [value], dtype, value.shape, to=_code(np.dtype(dtype)))

    @contextlib.contextmanager
    def body(self) -> Iterator[list[Any]]:
        """The nodes made meanwhile are a subgraph's."""
        outside, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = outside

    def fold(self, nodes: list[Any], results: Sequence[Value]) -> list[Value]:
        """The results of nodes that depend on constants only, as constants."""
        graph = onnx.helper.make_graph(
            nodes, "constants", [], [typed(value) for value in results], list(self.constants.values())
        )
        found = onnx.reference.ReferenceEvaluator(_model(graph)).run(None, {})
        return [
            self.constant(np.asarray(x).astype(value.dtype).reshape(np.shape(x)))
            for x, value in zip(found, results, strict=True)
        ]

    def model(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        """The whole, without what no output needs."""
        wanted = {output.name for output in outputs}
        kept = []
        for node in reversed(self.nodes):
            if wanted & set(node.output):
                kept.append(node)
                wanted |= _needs(node)
        constants = [tensor for name, tensor in self.constants.items() if name in wanted]
        return _model(onnx.helper.make_graph(kept[::-1], "bundle", inputs, outputs, constants))


def _needs(node: Any) -> set[str]:
    """The names a node reads, those its bodies read included."""
    names = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            for inner in attribute.g.node:
                names |= _needs(inner)
            names |= {output.name for output in attribute.g.output}
    return names


def _model(graph: Any) -> Any:
    opset = [onnx.helper.make_opsetid("", OPSET)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=_IR_VERSION, producer_name="hardgrad")


def _code(dtype: np.dtype[Any]) -> int:
    return int(onnx.helper.np_dtype_to_tensor_dtype(dtype))


def typed(value: Value, name: str | None = None, batch: str | None = None) -> Any:
    """A graph's declaration of an input or output; free axes are called `batch`."""
    shape = [batch if size is None else size for size in value.shape]
    return onnx.helper.make_tensor_value_info(name or value.name, _code(value.dtype), shape)
