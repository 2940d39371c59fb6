"""From StableHLO, which is what a bundle's program is, to ONNX.

Each operation has a function here that says it in ONNX; what has none is refused by name. Nothing here vouches for
the numbers: the result is run and compared before it is kept.

Sources: the StableHLO specification; the ONNX operator schemas, opset 18.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.export
import numpy as np
import onnx
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import chlo, sdy, stablehlo

from .._manifest import BATCH, ArraySpec
from . import _control as _control
from . import _entrywise as _entrywise
from . import _shapes as _shapes
from . import _sums as _sums
from ._converter import Converter, Values, declared
from ._graph import OPSET as OPSET
from ._graph import NoOnnxFormError as NoOnnxFormError
from ._graph import Value, typed


def to_onnx(exported: jax.export.Exported, inputs: Sequence[ArraySpec], outputs: Sequence[ArraySpec]) -> Any:
    """The ONNX model of an exported program, with the bundle's names.

    Raises:
        NoOnnxFormError: an operation that can't be said in ONNX, by name.
    """
    context = ir.Context()
    for dialect in (stablehlo, chlo, sdy):
        dialect.register_dialect(context)
    module = stablehlo.deserialize_portable_artifact(context, exported.mlir_module_serialized)
    functions = {ir.StringAttr(f.attributes["sym_name"]).value: f.operation for f in module.body.operations}
    converter = Converter(functions)
    main = functions["main"].regions[0].blocks[0]
    arguments = [declared(argument.type) for argument in main.arguments]
    given: Values = []
    if len(arguments) > len(inputs):  # the platform the program runs on, as its place in the list of them
        given.append(
            converter.constant(np.int32(exported.platforms.index("cpu") if "cpu" in exported.platforms else 0))
        )
    given += [Value(spec.name, *of) for spec, of in zip(inputs, arguments[len(given) :], strict=True)]
    results = converter.block(main, dict(zip(main.arguments, given, strict=True)))
    for spec, value in zip(outputs, results, strict=True):
        converter.nodes.append(onnx.helper.make_node("Identity", [value.name], [spec.name]))
    model = converter.model(
        [typed(value, batch=BATCH) for value in given[-len(inputs) :]],
        [typed(value, spec.name, BATCH) for spec, value in zip(outputs, results, strict=True)],
    )
    onnx.checker.check_model(model, full_check=True)
    return model
