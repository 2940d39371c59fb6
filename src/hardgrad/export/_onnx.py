"""An ONNX model of a bundle's program: made and tried in a process of its own.

ONNX Runtime and the ONNX package are native code that is handed a new graph: what goes wrong in them ends that
process, not this one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..core import BundleError, MissingExtraError, UsageError

_TIMEOUT = 600.0  # seconds
_PACKAGES = ("onnx", "onnxruntime")


def check_installed() -> None:
    """Raise `MissingExtraError` unless the packages are there; they are not imported."""
    for name in _PACKAGES:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                f"ONNX needs '{name}', which is not installed. Install it with: pip install 'hardgrad[onnx]'"
            )


def make_onnx(folder: Path, rtol: float | None, *, timeout: float = _TIMEOUT) -> dict[str, Any]:
    """Write model.onnx into a bundle's folder, from the program and the examples in it.

    Args:
        folder: a whole bundle without the ONNX model.
        rtol: relative difference allowed in numbers; None takes the usual for each dtype.
        timeout: seconds after which it is given up.

    Returns:
        What the bundle is to say of it: opset, runtime's version, rows compared and largest relative difference.

    Raises:
        BundleError: the program has no ONNX form, or gives other results; the process crashed or took too long.
        UsageError: the tolerance is no number of at least 0.
    """
    if rtol is not None and not 0 <= rtol < 1:
        raise UsageError(f"onnx_rtol must be at least 0 and below 1, got {rtol!r}.")
    source = str(Path(__file__).parents[2])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "hardgrad.export._onnx_worker", str(folder), json.dumps(rtol)]
    try:
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        raise BundleError(f"making the ONNX model took more than {timeout:g} s and was given up. {_WITHOUT}") from None
    except OSError as error:
        raise BundleError(f"the process that makes the ONNX model did not start ({error}). {_WITHOUT}") from error
    try:
        answer = json.loads(done.stdout.decode("utf-8", "replace").rpartition("ANSWER ")[2])
    except ValueError:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        last = f": {said[-1][:200]}" if said else ""
        raise BundleError(f"the process that makes the ONNX model crashed ({ended}{last}). {_WITHOUT}") from None
    if "refused" in answer:
        raise BundleError(f"no ONNX model: {answer['refused']}. {_WITHOUT}")
    return dict(answer)


_WITHOUT = "Nothing was exported; without onnx it can be."
