"""Pytrees on disk: arrays by name in a safetensors file, and a JSON manifest that vouches for it.

Nothing is ever half written: a folder is filled beside its place and renamed into it. Reading runs no
code, and refuses anything whose names, shapes, dtypes or checksum differ from what is expected, listing
every difference.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import PyTree
from numpy.typing import NDArray

from ..core import CheckpointError, DamagedCheckpointError, UsageError, dumps, named_leaves

SCHEMA, VERSION = "hardgrad.checkpoint", 1
_ARRAYS, _MANIFEST = "arrays.safetensors", "manifest.json"
_NATIVE = {
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
}
_REFUSED = {
    errno.EACCES,
    errno.EEXIST,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
_MANIFEST_LIMIT = 64 * 2**20


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or forbidden disk into a sentence that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = (
                f"the disk is full: could not write {path}. Free some space, then resume the run; "
                "nothing earlier is lost."
            )
        elif error.errno in _REFUSED:
            message = f"cannot write {path}: {error.strerror}. Choose another folder."
        else:
            raise
        raise UsageError(message) from error


def temporary(path: Path) -> Path:
    """Where a file or folder is prepared before it is renamed to `path`."""
    return path.with_name(f".{path.name}.tmp")


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file's content at once: readers see the old one or the new one.

    Raises:
        UsageError: the disk is full or may not be written.
    """
    beside = temporary(path)
    with disk_errors(path):
        try:
            with open(beside, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of text, in UTF-8."""
    write_bytes(path, text.encode())


def _to_numpy(leaf: Any) -> tuple[NDArray[Any], str]:
    """An array safetensors can hold, and the name of the dtype it stands for."""
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return np.asarray(jax.random.key_data(leaf)), str(leaf.dtype)
    array = np.asarray(leaf)
    if array.dtype.kind == "c":  # as pairs
        return np.stack([array.real, array.imag], axis=-1), array.dtype.name
    if array.dtype.name in _NATIVE:
        return np.ascontiguousarray(array).reshape(array.shape), array.dtype.name
    return np.ascontiguousarray(array).reshape(array.shape).view(f"uint{8 * array.dtype.itemsize}"), array.dtype.name


def _arrays(tree: PyTree) -> dict[str, Any]:
    """The leaves that are arrays or numbers by name; a model also has functions among its leaves."""
    return {name: leaf for name, leaf in named_leaves(tree).items() if eqx.is_array_like(leaf)}


def save_tree(
    folder: str | os.PathLike[str], tree: PyTree, meta: dict[str, Any], *, texts: dict[str, str] | None = None
) -> None:
    """Write a pytree of arrays, atomically, in place of whatever `folder` held.

    Args:
        folder: a folder of this one pytree's own.
        tree: a pytree. Its arrays and numbers are written; other leaves, such as functions, are left out.
        meta: anything JSON can hold, kept in the manifest.
        texts: further text files to put beside, by name.

    Raises:
        UsageError: the disk is full or may not be written.
    """
    folder, leaves = Path(folder), _arrays(tree)
    if "__metadata__" in leaves:
        raise UsageError("a leaf may not be named '__metadata__': safetensors keeps that name for itself.")
    stored = {name: _to_numpy(leaf) for name, leaf in leaves.items()}
    data = safetensors.numpy.save({name: array for name, (array, _) in stored.items()})
    manifest = {
        "schema": SCHEMA,
        "version": VERSION,
        "arrays": {name: {"shape": list(a.shape), "dtype": dtype} for name, (a, dtype) in stored.items()},
        "sha256": hashlib.sha256(data).hexdigest(),
        "meta": meta,
    }
    files = {_ARRAYS: data, _MANIFEST: dumps(manifest).encode()}
    files |= {name: text.encode() for name, text in (texts or {}).items()}
    beside = temporary(folder)
    with disk_errors(folder):
        try:
            shutil.rmtree(beside, ignore_errors=True)
            beside.mkdir(parents=True)
            for name, content in files.items():
                with open(beside / name, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            old = folder.with_name(f".{folder.name}.old")
            if folder.exists():  # else the old one may be all there is
                shutil.rmtree(old, ignore_errors=True)
                os.rename(folder, old)
            os.rename(beside, folder)
            shutil.rmtree(old, ignore_errors=True)
        except OSError:
            shutil.rmtree(beside, ignore_errors=True)
            raise


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a saved pytree.

    Raises:
        CheckpointError: missing, damaged, or of another kind or a later version.
    """
    path = folder / _MANIFEST
    try:
        if path.stat().st_size > _MANIFEST_LIMIT:
            raise CheckpointError(f"{path} is larger than any manifest of ours; it is not a checkpoint.")
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DamagedCheckpointError(f"{folder} holds no checkpoint: {_MANIFEST} is missing.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DamagedCheckpointError(f"{path} is damaged ({error}).") from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} is not a checkpoint of hardgrad.")
    if manifest.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has version {manifest.get('version')!r}; this hardgrad reads {VERSION}. "
            "Install the hardgrad that wrote it."
        )
    if not isinstance(manifest.get("arrays"), dict) or not isinstance(manifest.get("meta"), dict):
        raise DamagedCheckpointError(f"{path} is damaged: its list of arrays is missing.")
    return manifest


def load_tree(folder: str | os.PathLike[str], like: PyTree) -> PyTree:
    """The pytree saved in `folder`, of the structure of `like`.

    Args:
        folder: what `save_tree` wrote.
        like: a pytree of the structure, shapes and dtypes expected. Leaves that are no arrays, such as functions, and
            Python numbers that were not saved, are kept as they are.

    Raises:
        CheckpointError: anything missing, unexpected, of another shape or dtype, or damaged.
    """
    return load_part(Path(folder), like, lambda name: True)


def load_part(folder: Path, like: PyTree, belongs: Callable[[str], bool]) -> PyTree:
    """`load_tree` of a part of what was saved: the arrays whose name `belongs`."""
    # A kill between the two renames of a replacement leaves the old one under its other name.
    if not folder.exists() and folder.with_name(f".{folder.name}.old").exists():
        folder = folder.with_name(f".{folder.name}.old")
    manifest = read_manifest(folder)
    found = {name: entry for name, entry in manifest["arrays"].items() if belongs(name)}
    asked = {name: leaf for name, leaf in _arrays(like).items() if name in found or not _is_plain(leaf)}
    wanted = {name: _to_numpy(leaf) for name, leaf in asked.items()}
    _compare(folder, found, wanted)
    path = folder / _ARRAYS
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DamagedCheckpointError(f"{folder} is damaged: {_ARRAYS} is missing.") from None
    if hashlib.sha256(data).hexdigest() != manifest.get("sha256"):
        raise DamagedCheckpointError(f"{path} is damaged: {len(data)} bytes that do not match the manifest's checksum.")
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise DamagedCheckpointError(f"{path} is damaged ({error}).") from error
    for name, (array, _) in wanted.items():
        if name not in arrays or arrays[name].shape != array.shape or arrays[name].dtype != array.dtype:
            raise DamagedCheckpointError(f"{path} is damaged: '{name}' differs from what the manifest says of it.")
    leaves = [_from_numpy(arrays[name], leaf) if name in asked else leaf for name, leaf in named_leaves(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _is_plain(leaf: Any) -> bool:
    """Whether it is a Python number: a setting of a model, perhaps, that is not saved with its parameters."""
    return isinstance(leaf, bool | int | float | complex) and not isinstance(leaf, np.generic)


def _from_numpy(array: NDArray[Any], like: Any) -> Any:
    if isinstance(like, jax.Array) and jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(like))
    wanted = np.asarray(like)
    return jnp.asarray(array.view(wanted.dtype).reshape(wanted.shape) if array.dtype != wanted.dtype else array)


def _compare(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise with every difference between the manifest's arrays and those expected."""
    problems = [f"missing '{name}'" for name in wanted if name not in found]
    problems += [f"unexpected '{name}'" for name in found if name not in wanted]
    for name, (array, dtype) in wanted.items():
        if name not in found:
            continue
        entry = found[name] if isinstance(found[name], dict) else {}
        shape, stored = entry.get("shape"), entry.get("dtype")
        if shape != list(array.shape):
            problems.append(f"'{name}' has shape {shape}, expected {list(array.shape)}")
        if stored != dtype:
            problems.append(f"'{name}' has dtype {stored}, expected {dtype}")
    if problems:
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        message = f"the checkpoint {folder} does not fit this model and method: {shown}."
        if wanted and all(f"params.{name}" in found for name in wanted):
            message += " It is a run's whole state: hg.training.trained_model(run, model) takes the model from it."
        raise CheckpointError(message)
