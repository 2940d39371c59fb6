"""NIR files: HDF5, written beside their place and renamed, read as data from a stranger.

Of HDF5 only what NIR needs is read: groups, and arrays of numbers and texts stored in the file itself. Links to other
files, arrays stored elsewhere, arrays larger than allowed, groups within groups without end, and compressions that
would load a plug-in are refused before anything is read from them. The HDF5 library itself, which parses the file, is
written in C; files of people you do not trust are best opened where they can do no harm.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from ...core import UsageError, require

_KNOWN = frozenset(
    {"Affine", "AvgPool2d", "Conv1d", "Conv2d", "CubaLI", "CubaLIF", "Delay", "Flatten", "I", "IF", "Input", "LI"}
    | {"LIF", "Linear", "NIRGraph", "Output", "Scale", "SumPool2d", "Threshold"}
)
_DEEPEST = 16
_FILTERS = (1, 2, 3, 4, 32000)  # deflate, shuffle, Fletcher's checksum, szip, lzf: all built in


def write_nir(path: str | os.PathLike[str], graph: Any) -> Path:
    """Write a NIR graph to a file, whole or not at all.

    Args:
        path: of the file; written over if it is there.
        graph: a `nir.NIRGraph`.

    Returns:
        The path.

    Raises:
        UsageError: no folder there.
        MissingExtraError: the package nir is missing.
    """
    nir = require("nir", extra="nir")
    path = Path(path)
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent} to write {path.name} into.")
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        nir.write(beside, graph)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return path


def read_nir(path: str | os.PathLike[str], *, max_bytes: int = 2**30) -> Any:
    """Read a NIR graph from a file.

    Args:
        path: of the file.
        max_bytes: of all arrays together, unpacked.

    Returns:
        A `nir.NIRGraph`; `from_nir` makes a network of it.

    Raises:
        UsageError: no such file, not a NIR file, or one with something in it that no NIR file needs.
        MissingExtraError: the package nir is missing.
    """
    nir, h5py = require("nir", extra="nir"), require("h5py", extra="nir")
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file {path}.")
    try:
        with h5py.File(path, "r") as file:
            reader = _Reader(h5py, path, max_bytes)
            if "node" not in file:
                raise UsageError(f"{path} is an HDF5 file, but no NIR graph: it has no group 'node'.")
            found = reader.read(file, "node", 0)
        return _built(nir, path, "the graph", found)
    except UsageError:
        raise
    except (KeyError, OSError, RuntimeError, TypeError, ValueError) as error:  # h5py's, of damaged files
        raise UsageError(f"{path} cannot be read as HDF5: {error}") from error


class _Reader:
    """A group as nested dicts, within limits."""

    def __init__(self, h5py: Any, path: Path, max_bytes: int) -> None:
        self.h5py, self.path, self.left = h5py, path, max_bytes

    def read(self, group: Any, name: str, depth: int) -> Any:
        where = f"{self.path}: '{group.name.rstrip('/')}/{name}'"
        if depth > _DEEPEST:
            raise UsageError(f"{where} lies deeper than {_DEEPEST} groups; no NIR graph does.")
        if not isinstance(group.get(name, getlink=True), self.h5py.HardLink):
            raise UsageError(f"{where} is a link to elsewhere, which a NIR file has no use for.")
        item = group[name]
        if isinstance(item, self.h5py.Group):
            return {key: self.read(item, key, depth + 1) for key in item}
        if not isinstance(item, self.h5py.Dataset):
            raise UsageError(f"{where} is neither a group nor an array.")
        self._check(where, item)
        value = item[()]
        if isinstance(value, bytes):
            return value.decode("utf-8", errors="replace")
        return value

    def _check(self, where: str, item: Any) -> None:
        plan = item.id.get_create_plist()
        filters = [plan.get_filter(index)[0] for index in range(plan.get_nfilters())]
        if item.is_virtual or item.external:
            raise UsageError(f"{where} is stored in another file, which a NIR file has no use for.")
        if any(code not in _FILTERS for code in filters):
            raise UsageError(f"{where} is compressed by a plug-in (filter {filters}), which is not loaded.")
        text = self.h5py.check_string_dtype(item.dtype) is not None
        if not text and item.dtype.kind not in "fiub":
            raise UsageError(f"{where} holds {item.dtype}, neither numbers nor text.")
        self.left -= int(item.size or 0) * max(item.dtype.itemsize, 16 if text else 1)
        if self.left < 0:
            raise UsageError(f"{where} is too large: the file's arrays exceed max_bytes. Raise it if that is meant.")


def _built(nir: Any, path: Path, name: str, found: Any) -> Any:
    """A node of what was read; graphs are not type-checked, which fails for kernels that are not square."""
    kind = found.get("type") if isinstance(found, dict) else None
    if kind not in _KNOWN:
        raise UsageError(f"{path}: {name} is of type {kind!r}, which NIR does not have.")
    fields = {key: value for key, value in found.items() if key != "type"}
    try:
        if kind != "NIRGraph":
            return nir.dict2NIRNode({"type": kind, **fields})
        nodes = {key: _built(nir, path, f"node '{key}'", node) for key, node in fields.pop("nodes").items()}
        edges = [tuple(_text(end) for end in edge) for edge in np.asarray(fields.pop("edges")).reshape(-1, 2)]
        return nir.NIRGraph(nodes, edges, type_check=False, **fields)
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path}: {name} ({kind}) is damaged or not as NIR has it: {error!r}.") from error


def _text(value: Any) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)
