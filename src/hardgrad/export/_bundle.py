"""Making a bundle: traced once for any number of rows, written beside its place, proven there, then renamed."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np
import safetensors.numpy

from ..core import BundleError, UsageError, dumps
from ..training._storage import disk_errors, temporary
from ._exportable import Exportable, Program, Rows, read_rows
from ._load import Bundle, device_for, load_bundle, shapes
from ._manifest import (
    DTYPES,
    EXAMPLE,
    METADATA,
    MODEL,
    ONNX,
    SCHEMA,
    SUMS,
    VERSION,
    ArraySpec,
    read_file,
    sha256,
    sums,
)
from ._onnx import check_installed, make_onnx
from ._parity import RTOL, compare

_PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def export_bundle(
    exportable: Exportable,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    platforms: Sequence[str] = ("cpu",),
    onnx: bool = False,
    onnx_rtol: float | None = None,
) -> Bundle:
    """Write a bundle.

    It appears whole or not at all: it is written beside its place, loaded from there, and compared with the jitted
    function on the example, on the edge rows and on a single row before it is renamed. Masks, whole numbers and what is
    NaN or infinite must be identical, other numbers but for rounding: 1e-5 relative in float32, 1e-12 in float64.
    ``Bundle.manifest["jitted"]`` says how near they are.

    Args:
        exportable: what to ship.
        folder: where; new, or with `overwrite` a bundle that is replaced.
        overwrite: replace the bundle that is there. Anything else stays untouched.
        platforms: what to compile for: ``"cpu"``, ``"cuda"``, ``"rocm"``, ``"tpu"``; one bundle may serve several.
        onnx: put an ONNX model beside, made and tried with ONNX Runtime in a process of its own. Masks and whole
            numbers must be identical on all rows, other numbers to `onnx_rtol`; else nothing is exported.
        onnx_rtol: relative difference allowed; None takes 1e-5 in float32 and 1e-12 in float64.

    Returns:
        The bundle, loaded.

    Raises:
        UsageError: an argument out of range, or a folder that may not be replaced or written.
        BundleError: the function can't be exported, or what was exported does not agree with it.
        MissingExtraError: `onnx`, and its packages are not installed.
    """
    path = Path(os.path.abspath(folder))
    if onnx:
        check_installed()
    _check_place(path, overwrite=overwrite)
    platforms = _check_platforms(platforms)
    metadata = _as_json(exportable.metadata)
    example, edge = read_rows(exportable)
    program = Program(exportable, example, device_for(platforms, path))
    exported = program.export(example, platforms)
    inputs = [ArraySpec(name, *of) for name, of in zip(example, shapes(exported.in_avals), strict=True)]
    outputs = [ArraySpec(name, *of) for name, of in zip(program.outputs, shapes(exported.out_avals), strict=True)]
    for spec in outputs:
        if spec.dtype not in DTYPES:
            known = ", ".join(DTYPES)
            raise BundleError(f"output '{spec.name}' is {spec.dtype}, which a bundle can't hold. There are: {known}.")
    sets = {"example": example, **({"edge": edge} if edge else {})}
    jitted = {name: program(rows) for name, rows in sets.items()}
    files = {MODEL: bytes(exported.serialize()), EXAMPLE: _as_safetensors(sets, jitted)}
    content = {
        "schema": SCHEMA,
        "version": VERSION,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardgrad": importlib.metadata.version("hardgrad"),
        "jax": jax.__version__,
        "calling_convention_version": exported.calling_convention_version,
        "platforms": list(exported.platforms),
        "x64": jax.dtypes.canonicalize_dtype(np.float64) == np.float64,
        "inputs": [spec.to_json() for spec in inputs],
        "outputs": [spec.to_json() for spec in outputs],
        "rows": {name: len(next(iter(rows.values()))) for name, rows in sets.items()},
        "metadata": metadata,
    }
    beside = temporary(path)
    try:
        _write(beside, files, content)
        bundle = load_bundle(beside)
        given = {name: bundle(**rows) for name, rows in sets.items()}
        first = _first_row(example)
        content["jitted"] = _compared(
            [*((jitted[name], given[name]) for name in sets), (program(first), bundle(**first))]
        )
        files[EXAMPLE] = _as_safetensors(sets, given)
        _write(beside, files, content)
        if onnx:
            content["onnx"] = make_onnx(beside, onnx_rtol)
            files[ONNX] = read_file(beside, ONNX)
            _write(beside, files, content)
        load_bundle(beside)
        _put_in_place(beside, path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return load_bundle(path)


def _first_row(rows: Rows) -> Rows:
    return {name: value[:1] for name, value in rows.items()}


def _check_platforms(platforms: Sequence[str]) -> tuple[str, ...]:
    given = (platforms,) if isinstance(platforms, str) else tuple(platforms)
    if not given or any(name not in _PLATFORMS for name in given) or len(set(given)) < len(given):
        raise UsageError(f"platforms must be some of {', '.join(map(repr, _PLATFORMS))}, each once; got {platforms!r}.")
    return given


def _as_json(metadata: Mapping[str, Any]) -> Any:
    try:
        return json.loads(dumps(dict(metadata)))
    except TypeError as error:
        raise UsageError(f"metadata must be what JSON can hold: {error}.") from error


def _as_safetensors(inputs: Mapping[str, Rows], outputs: Mapping[str, Rows]) -> bytes:
    arrays = {
        f"{rows}.{kind}.{name}": np.ascontiguousarray(value).reshape(value.shape)
        for rows in inputs
        for kind, values in (("input", inputs[rows]), ("output", outputs[rows]))
        for name, value in values.items()
    }
    return safetensors.numpy.save(arrays)


def _compared(pairs: Sequence[tuple[Rows, Rows]]) -> dict[str, Any]:
    """How near the bundle comes to the jitted function. What is made for any number of rows may add in another order.

    Raises:
        BundleError: not as near as rounding explains.
    """
    parities = [compare(wanted, found, rtol=RTOL) for wanted, found in pairs]
    for parity in parities:
        if parity.problem is not None:
            raise BundleError(f"the exported program does not do what the function does: {parity.problem}.")
    return {
        "rows_compared": sum(parity.rows for parity in parities),
        "bitwise": all(parity.bitwise for parity in parities),
        "largest_relative_difference": max(parity.worst for parity in parities),
    }


# ---------------------------------------------------------------------------- on disk


def _check_place(path: Path, *, overwrite: bool) -> None:
    """Raise `UsageError` unless `path` is free, or a bundle and nothing else that may be replaced."""
    if path.is_symlink():
        raise UsageError(f"{path} is a link, and a bundle is a folder of its own. Give the folder itself.")
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"{path} is a file. Give a folder that does not exist yet.")
    names = {p.name for p in path.iterdir()}
    if not names:
        return
    others = names - {METADATA, SUMS, MODEL, EXAMPLE, ONNX}
    if others or METADATA not in names:
        raise UsageError(
            f"{path} holds something else ({sorted(others or names)[0]}), which stays untouched. Give another folder."
        )
    if not overwrite:
        raise UsageError(f"{path} already holds a bundle. Give another folder, or --overwrite (overwrite=True).")


def _write(folder: Path, files: Mapping[str, bytes], content: Mapping[str, Any]) -> None:
    """Fill a folder anew."""
    described = {name: {"bytes": len(data), "sha256": sha256(data)} for name, data in files.items()}
    metadata = (dumps({**content, "files": described}, indent=2) + "\n").encode()
    listed = sums({METADATA: sha256(metadata), **{name: sha256(data) for name, data in files.items()}}).encode()
    with disk_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, data in {**files, METADATA: metadata, SUMS: listed}.items():
            with open(folder / name, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())


def _put_in_place(beside: Path, path: Path) -> None:
    """Rename, by way of a second name for what is replaced."""
    old = path.with_name(f".{path.name}.old")
    with disk_errors(path):
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(path, old)
        os.rename(beside, path)
        shutil.rmtree(old, ignore_errors=True)
