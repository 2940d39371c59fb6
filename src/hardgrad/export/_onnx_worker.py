"""The process that makes a bundle's ONNX model: ``python -m hardgrad.export._onnx_worker FOLDER RTOL``.

Reads the program and the examples in FOLDER, writes model.onnx there, runs it on every example and edge row, and
answers on its output in one line: ``ANSWER {...}``, with the key ``refused`` where there is no such model.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.export
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from ._load import split_examples
from ._manifest import EXAMPLE, MODEL, ONNX, Manifest
from ._parity import RTOL, compare
from ._to_onnx import OPSET, NoOnnxFormError, to_onnx

_RUNTIME_ERRORS = (
    runtime.Fail,
    runtime.InvalidArgument,
    runtime.InvalidGraph,
    runtime.NotImplemented,
    runtime.RuntimeException,
)


def make(folder: Path, rtol: float | None) -> dict[str, Any]:
    """Convert, write, run, compare; what there is to say of it."""
    manifest = Manifest.read(folder)
    exported = jax.export.deserialize(bytearray(manifest.read_file(folder, MODEL)))
    try:
        model = to_onnx(exported, manifest.inputs, manifest.outputs).SerializeToString()
    except NoOnnxFormError as error:
        return {"refused": str(error)}
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        return {"refused": f"the model is not valid ONNX ({_first_line(error)})"}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    names = [spec.name for spec in manifest.outputs]
    rows, worst = 0, 0.0
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        sets = split_examples(folder, manifest.read_file(folder, EXAMPLE), manifest.inputs, manifest.outputs)
        for inputs, wanted in sets:
            found = dict(zip(names, session.run(names, inputs), strict=True))
            parity = compare(wanted, found, rtol=RTOL if rtol is None else rtol)
            rows, worst = rows + parity.rows, max(worst, parity.worst)
            if parity.problem is not None:
                return {"refused": f"ONNX Runtime does not decide as the bundle does: {parity.problem}"}
    except _RUNTIME_ERRORS as error:
        return {"refused": f"ONNX Runtime can't run it ({_first_line(error)})"}
    (folder / ONNX).write_bytes(model)
    return {
        "opset": OPSET,
        "onnxruntime": onnxruntime.__version__,
        "rows_compared": rows,
        "largest_relative_difference": worst,
    }


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


if __name__ == "__main__":
    answer = make(Path(sys.argv[1]), json.loads(sys.argv[2]))
    sys.stdout.write(f"ANSWER {json.dumps(answer)}\n")
