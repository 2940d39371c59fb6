"""Calls, which are inlined; branches and loops, which become bodies."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from jax.extend.mlir import ir

from ._converter import Converter, Values, declared, translates
from ._graph import NoOnnxFormError, Value, typed


@translates("func.call")
def _call(to: Converter, op: Any, inputs: Values) -> Values:
    block = to.functions[ir.FlatSymbolRefAttr(op.attributes["callee"]).value].regions[0].blocks[0]
    return to.block(block, dict(zip(block.arguments, inputs, strict=True)))


@translates("composite")
def _composite(to: Converter, op: Any, inputs: Values) -> Value | Values:
    """A named operation that comes with its own definition in simpler ones, which is followed but for one."""
    if ir.StringAttr(op.attributes["name"]).value != "chlo.top_k":
        block = to.functions[ir.FlatSymbolRefAttr(op.attributes["decomposition"]).value].regions[0].blocks[0]
        return to.block(block, dict(zip(block.arguments, inputs, strict=True)))
    count = ir.IntegerAttr(ir.DictAttr(op.attributes["composite_attributes"])["k"]).value
    (dtype, shape), (index_dtype, _) = (declared(result.type) for result in op.results)
    values, places = Value(to.fresh(), dtype, shape), Value(to.fresh(), np.dtype(np.int64), shape)
    names = [inputs[0].name, to.integers(count).name]
    to.nodes.append(onnx.helper.make_node("TopK", names, [values.name, places.name], axis=-1, largest=1, sorted=1))
    return [values, to.cast(places, index_dtype)]


@translates("custom_call")
def _custom_call(to: Converter, op: Any, inputs: Values) -> Values:
    target = ir.StringAttr(op.attributes["call_target_name"]).value
    if target == "shape_assertion":
        return []
    if target == "Sharding":
        return inputs
    raise NoOnnxFormError(f"the native routine '{target}' has no ONNX form")


@translates("case", "if")
def _branches(to: Converter, op: Any, inputs: Values) -> Values:
    (choice,), regions = inputs, list(op.regions)
    if op.name == "stablehlo.if":
        regions = regions[::-1]  # the first is taken where the condition is true
        choice = to.cast(choice, np.int32)
    if choice.known is not None:
        place = int(choice.known)
        return to.inside(regions[place if 0 <= place < len(regions) else -1], [])
    kinds = [declared(result.type) for result in op.results]
    return _choose(to, choice, regions, kinds, 0)


def _choose(to: Converter, choice: Value, regions: list[Any], kinds: list[Any], place: int) -> Values:
    """The results of the region that the number `choice` says; the last is taken for any other number."""
    if place == len(regions) - 1:
        return to.inside(regions[place], [])
    here = to.emit("Equal", [choice, to.constant(np.int32(place))], bool, ())
    bodies = []
    for taken in (True, False):
        with to.body() as nodes:
            found = to.inside(regions[place], []) if taken else _choose(to, choice, regions, kinds, place + 1)
            results = [to.emit("Identity", [value], value.dtype, value.shape) for value in found]
        bodies.append(onnx.helper.make_graph(nodes, to.fresh(), [], [typed(value) for value in results]))
    values = [Value(to.fresh(), *kind) for kind in kinds]
    then, otherwise = bodies
    names = [value.name for value in values]
    to.nodes.append(onnx.helper.make_node("If", [here.name], names, then_branch=then, else_branch=otherwise))
    return values


@translates("while")
def _while(to: Converter, op: Any, inputs: Values) -> Values:
    condition, body = op.regions
    kinds = [(value.dtype, value.shape) for value in inputs]
    (go,) = to.inside(condition, inputs)
    with to.body() as nodes:
        carried = [Value(to.fresh(), *kind) for kind in kinds]
        results = to.inside(body, carried)
        (again,) = to.inside(condition, results)
        outputs = [to.emit("Identity", [value], value.dtype, value.shape) for value in (again, *results)]
    counter, before = Value(to.fresh(), np.dtype(np.int64), ()), Value(to.fresh(), np.dtype(bool), ())
    graph = onnx.helper.make_graph(
        nodes, to.fresh(), [typed(v) for v in (counter, before, *carried)], [typed(v) for v in outputs]
    )
    found = [Value(to.fresh(), *kind) for kind in kinds]
    names = ["", go.name, *(value.name for value in inputs)]
    to.nodes.append(onnx.helper.make_node("Loop", names, [value.name for value in found], body=graph))
    return found
