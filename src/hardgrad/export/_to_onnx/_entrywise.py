"""Operations entry by entry. What ONNX lacks is put together so that it keeps its digits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._converter import TRANSLATORS, Converter, Values, declared, operands, translates, word_of
from ._graph import NoOnnxFormError, Value


def _entrywise(name: str, kind: str, whole: str | None = None, truth: str | None = None) -> None:
    """An operation that ONNX has under another name, for floats, whole numbers and truth values."""

    def translate(to: Converter, op: Any, inputs: Values) -> Value:
        found = kind if inputs[0].is_float else truth if inputs[0].is_bool else whole
        if found is None:
            raise NoOnnxFormError(f"stablehlo.{name} of {inputs[0].dtype} has no ONNX form here")
        return to.result(op, found, operands(inputs))

    TRANSLATORS[f"stablehlo.{name}"] = translate


for _name, _kind in {
    "exponential": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "sine": "Sin",
    "cosine": "Cos",
    "floor": "Floor",
    "ceil": "Ceil",
    "round_nearest_even": "Round",
    "power": "Pow",
}.items():
    _entrywise(_name, _kind)
for _name, _kind in {"abs": "Abs", "negate": "Neg", "sign": "Sign", "subtract": "Sub", "divide": "Div"}.items():
    _entrywise(_name, _kind, _kind)
_entrywise("add", "Add", "Add", "Or")
_entrywise("multiply", "Mul", "Mul", "And")
_entrywise("and", "And", "BitwiseAnd", "And")
_entrywise("or", "Or", "BitwiseOr", "Or")
_entrywise("xor", "Xor", "BitwiseXor", "Xor")
_entrywise("not", "Not", "BitwiseNot", "Not")


@translates("maximum", "minimum")
def _extreme(to: Converter, op: Any, inputs: Values) -> Value:
    largest = op.name.endswith("maximum")
    if inputs[0].is_bool:
        return to.result(op, "Or" if largest else "And", operands(inputs))
    return to.result(op, "Max" if largest else "Min", operands(inputs))


@translates("remainder")
def _remainder(to: Converter, op: Any, inputs: Values) -> Value:
    return to.result(op, "Mod", operands(inputs), fmod=1)


@translates("rsqrt")
def _rsqrt(to: Converter, op: Any, inputs: Values) -> Value:
    return to.result(op, "Reciprocal", [to.result(op, "Sqrt", inputs)])


@translates("cbrt")
def _cbrt(to: Converter, op: Any, inputs: Values) -> Value:
    third = to.constant(np.asarray(1 / 3, inputs[0].dtype))
    root = to.result(op, "Pow", [to.result(op, "Abs", inputs), third])
    return to.result(op, "Mul", [to.result(op, "Sign", inputs), root])


@translates("log_plus_one")
def _log1p(to: Converter, op: Any, inputs: Values) -> Value:
    """log(u) x / (u - 1) with u = 1 + x rounded, which takes the rounding of u back; x where u is 1 or ∞."""
    (x,) = inputs
    one, infinity = (to.constant(np.asarray(n, x.dtype)) for n in (1, np.inf))
    u = to.result(op, "Add", [x, one])
    exact = to.result(op, "Div", [to.result(op, "Mul", [to.result(op, "Log", [u]), x]), to.result(op, "Sub", [u, one])])
    ends = to.emit(
        "Or", [to.emit("Equal", [u, one], bool, x.shape), to.emit("Equal", [u, infinity], bool, x.shape)], bool, x.shape
    )
    return to.result(op, "Where", [ends, x, exact])


@translates("exponential_minus_one")
def _expm1(to: Converter, op: Any, inputs: Values) -> Value:
    """2 t / (1 - t) with t = tanh(x/2) near 0, where exp(x) - 1 cancels."""
    (x,) = inputs
    one, two, half = (to.constant(np.asarray(n, x.dtype)) for n in (1, 2, 0.5))
    t = to.result(op, "Tanh", [to.result(op, "Mul", [x, half])])
    near = to.result(op, "Div", [to.result(op, "Mul", [two, t]), to.result(op, "Sub", [one, t])])
    far = to.result(op, "Sub", [to.result(op, "Exp", [x]), one])
    small = to.emit("Less", [to.result(op, "Abs", [x]), half], bool, x.shape)
    return to.result(op, "Where", [small, near, far])


@translates("tan")
def _tan(to: Converter, op: Any, inputs: Values) -> Value:
    return to.result(op, "Div", [to.result(op, "Sin", inputs), to.result(op, "Cos", inputs)])


@translates("round_nearest_afz")
def _round_half_away(to: Converter, op: Any, inputs: Values) -> Value:
    (x,) = inputs
    size = to.result(op, "Abs", [x])
    whole = to.result(op, "Floor", [size])
    half = to.constant(np.asarray(0.5, x.dtype))
    up = to.cast(to.emit("GreaterOrEqual", [to.result(op, "Sub", [size, whole]), half], bool, x.shape), x.dtype)
    return to.result(op, "Mul", [to.result(op, "Sign", [x]), to.result(op, "Add", [whole, up])])


@translates("atan2")
def _atan2(to: Converter, op: Any, inputs: Values) -> Value:
    """atan(y/x), and half a turn more where x is negative; zeros have signs too, which 1/x tells."""
    y, x = inputs
    zero, pi, half_pi = (to.constant(np.asarray(n, x.dtype)) for n in (0, np.pi, np.pi / 2))

    def test(kind: str, *values: Value) -> Value:
        return to.emit(kind, values, bool, declared(op.results[0].type)[1])

    def choose(condition: Value, yes: Value, no: Value) -> Value:
        return to.result(op, "Where", [condition, yes, no])

    def negative(value: Value) -> Value:
        inverse = to.emit("Reciprocal", [value], value.dtype, value.shape)
        return test("Or", test("Less", value, zero), test("Less", inverse, zero))

    flat, upright, below = test("Equal", y, zero), test("Equal", x, zero), negative(y)
    quarter = choose(below, to.result(op, "Neg", [half_pi]), half_pi)
    angle = choose(flat, y, choose(upright, quarter, to.result(op, "Atan", [to.result(op, "Div", [y, x])])))
    behind = test("Or", test("Less", x, zero), test("And", flat, negative(x)))
    return choose(behind, to.result(op, "Add", [angle, choose(below, to.result(op, "Neg", [pi]), pi)]), angle)


@translates("is_finite")
def _is_finite(to: Converter, op: Any, inputs: Values) -> Value:
    infinity = to.constant(np.asarray(np.inf, inputs[0].dtype))
    return to.result(op, "Less", [to.emit("Abs", inputs, inputs[0].dtype, inputs[0].shape), infinity])


@translates("compare")
def _compare(to: Converter, op: Any, inputs: Values) -> Value:
    direction = word_of(op, "comparison_direction")
    if "compare_type" in op.attributes and word_of(op, "compare_type") == "TOTALORDER":
        raise NoOnnxFormError("a comparison in total order, as sorting needs it, has no ONNX form here")
    if direction not in ("EQ", "NE") and inputs[0].is_bool:
        inputs = [to.cast(value, np.int32) for value in inputs]
    kind = {"EQ": "Equal", "NE": "Equal", "LT": "Less", "LE": "LessOrEqual", "GT": "Greater", "GE": "GreaterOrEqual"}
    found = to.result(op, kind[direction], operands(inputs))
    return to.result(op, "Not", [found]) if direction == "NE" else found


@translates("select")
def _select(to: Converter, op: Any, inputs: Values) -> Value:
    return to.result(op, "Where", operands(inputs))


@translates("clamp")
def _clamp(to: Converter, op: Any, inputs: Values) -> Value:
    low, x, high = inputs
    return to.result(op, "Min", [to.result(op, "Max", [x, low]), high])


@translates("convert")
def _convert(to: Converter, op: Any, inputs: Values) -> Value:
    dtype, _ = declared(op.results[0].type)
    return to.cast(inputs[0], dtype)


@translates("optimization_barrier")
def _same(to: Converter, op: Any, inputs: Values) -> Values:
    return inputs


@translates("constant")
def _constant(to: Converter, op: Any, inputs: Values) -> Value:
    dtype, shape = declared(op.results[0].type)
    array: NDArray[Any] = np.array(op.attributes["value"])
    return to.constant(np.broadcast_to(array, [size or 0 for size in shape]).astype(dtype))
