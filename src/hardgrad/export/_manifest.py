"""What a bundle says of itself, and how its files are read: nothing is believed before it is checked.

    metadata.json         schema, inputs and outputs, sizes and SHA-256 of the other files, the user's metadata
    model.stablehlo       the program, as `jax.export` serialises it
    example.safetensors   inputs and the outputs they must give
    model.onnx            the same program for ONNX runtimes, where it was asked for
    SHA256SUMS            all of the above, for ``sha256sum -c``

The SHA-256 of metadata.json vouches for everything else and so is the bundle's digest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from ..core import BundleError

SCHEMA, VERSION = "hardgrad.bundle", 1
METADATA, SUMS = "metadata.json", "SHA256SUMS"
MODEL, EXAMPLE, ONNX = "model.stablehlo", "example.safetensors", "model.onnx"
BATCH = "batch"
"""The name of the leading axis, whose size is free."""

DTYPES = (
    "bool",
    *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
    *("float16", "float32", "float64"),
)

# Bytes that are read at most; nothing of ours comes near.
_LIMITS = {METADATA: 16 * 2**20, SUMS: 2**16, MODEL: 2**31, EXAMPLE: 2**30, ONNX: 2**31}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """One input or output.

    Attributes:
        name: as it is given or returned.
        shape: its axes, ``"batch"`` for the one whose size is free.
        dtype: such as ``"float32"``.
    """

    name: str
    shape: tuple[int | str, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.name} [{', '.join(map(str, self.shape))}] {self.dtype}"

    def to_json(self) -> dict[str, Any]:
        """As it stands in metadata.json."""
        return {"name": self.name, "shape": list(self.shape), "dtype": self.dtype}

    def check(self, value: NDArray[Any]) -> None:
        """Raise `BundleError` unless an array is of this dtype and shape and has rows."""
        if value.dtype != np.dtype(self.dtype):
            way_out = f"Convert it: {self.name}.astype('{self.dtype}')." if value.dtype.kind in "biuf" else ""
            raise BundleError(f"input '{self.name}' must be {self.dtype}, got {value.dtype}. {way_out}".rstrip())
        wanted = f"[{', '.join(map(str, self.shape))}]"
        if value.ndim != len(self.shape) or any(
            w not in (g, BATCH) for w, g in zip(self.shape, value.shape, strict=True)
        ):
            raise BundleError(f"input '{self.name}' must have shape {wanted}, got {list(value.shape)}.")
        if value.shape[0] == 0:
            raise BundleError(f"input '{self.name}' is an empty batch: give at least one row, of shape {wanted}.")


def is_name(name: Any) -> TypeGuard[str]:
    """Whether inputs and outputs may be called so: an identifier of at most 64 ASCII letters."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def sha256(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sums(digests: Mapping[str, str]) -> str:
    """The text of SHA256SUMS, from the SHA-256 of each file."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))


def read_file(folder: Path, name: str) -> bytes:
    """A file of the bundle: a plain one, in the folder itself, of no more than its greatest size.

    Raises:
        BundleError: it is missing, a link, no plain file, or too large.
    """
    path = folder / name
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise BundleError(f"{folder} is not a whole bundle: {name} is missing. {_AGAIN}") from None
    except OSError as error:
        kind = "a link" if path.is_symlink() else error.strerror
        raise BundleError(f"{path} can't be read ({kind}); a bundle holds plain files only.") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise BundleError(f"{path} is no plain file, and a bundle holds nothing else.")
        if found.st_size > _LIMITS[name]:
            raise BundleError(f"{path} has {found.st_size} bytes, more than the {_LIMITS[name]} a bundle's may have.")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(found.st_size + 1)  # one more, to notice that it grows
    finally:
        os.close(descriptor)


_AGAIN = "Copy the bundle again, or export it again."


@dataclasses.dataclass(frozen=True)
class Manifest:
    """metadata.json, checked.

    Attributes:
        content: all of it.
        digest: the SHA-256 of its bytes.
        inputs: in the order of positional arguments.
        outputs: in the order in which they are returned.
        platforms: what the program was made for: ``"cpu"``, ``"cuda"``, ...
        files: bytes and SHA-256 of each other file.
    """

    content: dict[str, Any]
    digest: str
    inputs: tuple[ArraySpec, ...]
    outputs: tuple[ArraySpec, ...]
    platforms: tuple[str, ...]
    files: dict[str, tuple[int, str]]

    @classmethod
    def read(cls, folder: Path, *, expected_digest: str | None = None) -> Manifest:
        """The manifest of the bundle in `folder`.

        Raises:
            BundleError: missing, damaged, of another kind or version, or not the one expected.
        """
        if not folder.is_dir():
            raise BundleError(f"{folder} is not a bundle: there is no such folder. 'hardgrad export RUN' makes one.")
        data = read_file(folder, METADATA)
        digest = sha256(data)
        if expected_digest is not None and expected_digest.lower() != digest:
            raise BundleError(f"{folder} is not the bundle expected: its digest is {digest}, not {expected_digest}.")
        try:
            content = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"{folder / METADATA} is damaged: {_short(error)}. {_AGAIN}") from error
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise BundleError(f"{folder / METADATA} is not a bundle of hardgrad: its schema is not '{SCHEMA}'.")
        listed = read_file(folder, SUMS).decode("utf-8", "replace")
        if f"{digest}  {METADATA}\n" not in listed:
            raise BundleError(f"{folder / METADATA} is damaged: its SHA-256 is not the one in {SUMS}. {_AGAIN}")
        version = content.get("version")
        if type(version) is not int or version != VERSION:
            way_out = "Install a newer hardgrad." if type(version) is int and version > VERSION else _AGAIN
            raise BundleError(
                f"{folder} is a bundle of version {repr(version)[:40]}; this hardgrad reads {VERSION}. {way_out}"
            )
        files = _files(folder, content.get("files"))
        if listed != sums({METADATA: digest, **{name: sum_ for name, (_, sum_) in files.items()}}):
            raise BundleError(f"{folder / SUMS} is damaged: it is not the list of this bundle's files. {_AGAIN}")
        inputs, outputs = (_specs(folder, content.get(what), what) for what in ("inputs", "outputs"))
        return cls(content, digest, inputs, outputs, _platforms(folder, content.get("platforms")), files)

    def read_file(self, folder: Path, name: str) -> bytes:
        """A file that the manifest vouches for.

        Raises:
            BundleError: it is missing, or differs from what the manifest says.
        """
        data, (size, digest) = read_file(folder, name), self.files[name]
        if len(data) != size:
            raise BundleError(f"{folder / name} is damaged: {len(data)} bytes instead of {size}. {_AGAIN}")
        if sha256(data) != digest:
            raise BundleError(f"{folder / name} is damaged: its SHA-256 is not the one in {METADATA}. {_AGAIN}")
        return data


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]


def _damaged(folder: Path, what: str) -> BundleError:
    return BundleError(f"{folder / METADATA} is damaged: {what}. {_AGAIN}")


def _specs(folder: Path, value: Any, what: str) -> tuple[ArraySpec, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= 256:
        raise _damaged(folder, f"'{what}' must be a list of 1 to 256")
    specs = []
    for item in value:
        name, shape, dtype = (item.get(key) if isinstance(item, dict) else None for key in ("name", "shape", "dtype"))
        if not is_name(name) or not _is_shape(shape) or not isinstance(dtype, str) or dtype not in DTYPES:
            raise _damaged(folder, f"'{what}' holds an entry that is no name, shape and dtype")
        if what == "inputs" and shape[:1] != [BATCH]:
            raise _damaged(folder, f"the input '{name}' has no batch axis")
        specs.append(ArraySpec(name, tuple(shape), dtype))
    if len({spec.name for spec in specs}) < len(specs):
        raise _damaged(folder, f"'{what}' holds a name twice")
    return tuple(specs)


def _is_shape(value: Any) -> TypeGuard[list[int | str]]:
    if not isinstance(value, list) or len(value) > 32:
        return False
    return all((type(n) is int and 0 <= n < 2**31) or (isinstance(n, str) and 0 < len(n) <= 64) for n in value)


def _platforms(folder: Path, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(is_name(name) for name in value):
        raise _damaged(folder, "'platforms' must be a list of names")
    return tuple(value)


def _files(folder: Path, value: Any) -> dict[str, tuple[int, str]]:
    if not isinstance(value, dict) or not {MODEL, EXAMPLE} <= value.keys():
        raise _damaged(folder, f"'files' must name {MODEL} and {EXAMPLE}")
    files = {}
    for name, entry in value.items():
        if name not in (MODEL, EXAMPLE, ONNX):
            raise _damaged(folder, f"'files' names {name[:80]!r}, which is no file of a bundle")
        entry = entry if isinstance(entry, dict) else {}
        size, digest = entry.get("bytes"), entry.get("sha256")
        if type(size) is not int or size < 0 or not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
            raise _damaged(folder, f"'files' has no size and SHA-256 of {name}")
        files[name] = (size, digest)
    return files
