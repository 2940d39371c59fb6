"""Loading and running a bundle. Needs JAX, NumPy and safetensors, and nothing of what the model was made with."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.export
import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from ..core import BundleError
from ._manifest import EXAMPLE, MODEL, ONNX, ArraySpec, Manifest
from ._parity import RTOL, Parity, compare

# What reading a damaged FlatBuffer can come to; the checksum lets none through that was not forged.
_UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, struct.error, RuntimeError, AssertionError)


class Bundle:
    """A program from disk, verified, with all that is known of it. Made by `load_bundle` and `export_bundle`.

    It is compiled once for each size of batch it is given. It runs in the dtypes it was exported in, whatever
    JAX's ``jax_enable_x64`` is here, and on this process's default device if it was exported for its platform,
    else on the first device it was exported for.

    Attributes:
        path: the folder.
        digest: SHA-256 of its metadata.json, which vouches for every other file. Keep it apart from the bundle
            and give it to `load_bundle` to be sure of what you load.
        inputs: name, shape and dtype of each input, in the order of positional arguments.
        outputs: the same of each output.
        platforms: what it was exported for: ``"cpu"``, ``"cuda"``, ...
        device: what it runs on.
        metadata: what the exporter had to say: thresholds, normalisation, settings, ...
        manifest: all of metadata.json.
    """

    def __init__(self, path: Path, manifest: Manifest, exported: jax.export.Exported, example: bytes):
        self.path, self.digest, self.platforms = path, manifest.digest, manifest.platforms
        self.inputs: tuple[ArraySpec, ...] = manifest.inputs
        self.outputs: tuple[ArraySpec, ...] = manifest.outputs
        self.manifest: dict[str, Any] = manifest.content
        metadata = manifest.content.get("metadata")
        self.metadata: dict[str, Any] = metadata if isinstance(metadata, dict) else {}
        self._example = example
        self.device = device_for(manifest.platforms, path)
        self._call = jax.jit(exported.call)

    def __repr__(self) -> str:
        takes, gives = (", ".join(map(str, specs)) for specs in (self.inputs, self.outputs))
        return f"Bundle({str(self.path)!r}: {takes} -> {gives})"

    @property
    def onnx_path(self) -> Path | None:
        """The ONNX model, for other runtimes; None if the bundle has none."""
        return self.path / ONNX if ONNX in self.manifest["files"] else None

    def __call__(self, *inputs: Any, **named: Any) -> dict[str, NDArray[Any]]:
        """Run the program on a batch.

        Args:
            inputs: arrays of the dtypes and shapes in `inputs`, with any number of rows but none.
            named: the same by name.

        Returns:
            The outputs by name, as NumPy arrays.

        Raises:
            BundleError: an input missing, unknown, or of another dtype or shape.
        """
        with jax.enable_x64(True):  # float64 stays float64; float32 is not touched
            given: list[Any] = self._checked(inputs, named)
            if self.device != jax.devices()[0]:  # where jit puts them by itself, and faster
                given = jax.device_put(given, self.device)
            try:
                results = self._call(*given)
                return {spec.name: np.asarray(x) for spec, x in zip(self.outputs, results, strict=True)}
            except _UNREADABLE as error:
                raise BundleError(f"{self.path} can't be run: {_first_line(error)}") from error

    def _checked(self, inputs: tuple[Any, ...], named: Mapping[str, Any]) -> list[NDArray[Any]]:
        names = [spec.name for spec in self.inputs]
        if len(inputs) > len(names):
            raise BundleError(f"the bundle takes {len(names)} inputs ({', '.join(names)}), got {len(inputs)}.")
        values = dict(zip(names, inputs, strict=False))
        for name in named:
            if name not in names:
                raise BundleError(f"there is no input '{name}'. The bundle takes: {', '.join(names)}.")
            if name in values:
                raise BundleError(f"input '{name}' is given twice, by place and by name.")
        values |= named
        missing = [name for name in names if name not in values]
        if missing:
            raise BundleError(f"the input '{missing[0]}' is missing. The bundle takes: {', '.join(names)}.")
        arrays = [_as_array(spec.name, values[spec.name]) for spec in self.inputs]
        for spec, array in zip(self.inputs, arrays, strict=True):
            spec.check(array)
            if len(array) != len(arrays[0]):
                raise BundleError(
                    f"input '{spec.name}' has {len(array)} rows and '{names[0]}' {len(arrays[0])}: one batch, one size."
                )
        return arrays

    def self_test(self) -> Parity:
        """Run the examples and edge rows that came with the bundle and compare with what it gave when exported.

        On the machine that exported it, results are the same to the bit. Another may add in another order: masks
        must be identical all the same, and numbers to 1e-5 (float32) or 1e-12 (float64).

        Raises:
            BundleError: they differ by more.
        """
        found = []
        for inputs, outputs in self._examples():
            parity = compare(outputs, self(**inputs), rtol=RTOL)
            if parity.problem is not None:
                raise BundleError(f"{self.path} fails its self-test here: {parity.problem}.")
            found.append(parity)
        return Parity(sum(p.rows for p in found), all(p.bitwise for p in found), max(p.worst for p in found))

    def _examples(self) -> list[tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]]:
        """Inputs and outputs of each set of rows that came with the bundle."""
        return split_examples(self.path, self._example, self.inputs, self.outputs)


def split_examples(
    path: Path, data: bytes, inputs: tuple[ArraySpec, ...], outputs: tuple[ArraySpec, ...]
) -> list[tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]]:
    """Inputs and outputs of each set of rows in example.safetensors: ``example``, and ``edge`` where there is one.

    Raises:
        BundleError: an array is missing.
    """
    try:
        arrays = safetensors.numpy.load(data)
        return [
            (
                {spec.name: arrays[f"{rows}.input.{spec.name}"] for spec in inputs},
                {spec.name: arrays[f"{rows}.output.{spec.name}"] for spec in outputs},
            )
            for rows in ("example", "edge")
            if rows == "example" or any(name.startswith("edge.") for name in arrays)
        ]
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise BundleError(f"{path / EXAMPLE} is damaged: {_first_line(error)}.") from error


def load_bundle(folder: str | os.PathLike[str], *, expected_digest: str | None = None) -> Bundle:
    """The bundle in a folder, after every byte of it was checked against its checksums.

    The checksums find damage, not forgery: who can write the folder can write matching ones. Of a bundle from
    elsewhere, give the digest that its maker told you.

    Args:
        folder: what `export_bundle` or ``hardgrad export`` made.
        expected_digest: the `Bundle.digest` it must have.

    Raises:
        BundleError: a file missing, damaged, a link or too large; another schema or a later version; another
            digest; or made for devices that this machine lacks.
    """
    path = Path(folder)
    manifest = Manifest.read(path, expected_digest=expected_digest)
    files = {name: manifest.read_file(path, name) for name in manifest.files}
    version = manifest.content.get("calling_convention_version")
    newest = jax.export.maximum_supported_calling_convention_version
    if type(version) is not int or not jax.export.minimum_supported_calling_convention_version <= version <= newest:
        made_by, way_out = (
            manifest.content.get("jax"),
            "a newer" if type(version) is int and version > newest else "that",
        )
        raise BundleError(
            f"{path} was exported by JAX {made_by}, which JAX {jax.__version__} can't read. Install {way_out} JAX, "
            "or export it again."
        )
    try:
        exported = jax.export.deserialize(bytearray(files[MODEL]))
        agrees = (
            shapes(exported.in_avals) == [(spec.shape, spec.dtype) for spec in manifest.inputs]
            and shapes(exported.out_avals) == [(spec.shape, spec.dtype) for spec in manifest.outputs]
            and tuple(exported.platforms) == manifest.platforms
        )
    except _UNREADABLE as error:
        raise BundleError(f"{path / MODEL} can't be read by JAX {jax.__version__}: {_first_line(error)}.") from error
    if not agrees:
        raise BundleError(f"{path / MODEL} is not the program that metadata.json describes.")
    return Bundle(path, manifest, exported, files[EXAMPLE])


def shapes(avals: Sequence[Any]) -> list[tuple[tuple[int | str, ...], str]]:
    """Shape and dtype of each input or output of an exported program; a free axis by its name."""
    return [(tuple(n if isinstance(n, int) else str(n) for n in a.shape), np.dtype(a.dtype).name) for a in avals]


def device_for(platforms: tuple[str, ...], path: Path) -> jax.Device:
    """The default device if a program for these platforms runs on it, else the first that it runs on.

    Raises:
        BundleError: there is none.
    """
    names = {"gpu": ("cuda", "rocm")}
    here = jax.devices()[0]
    if any(name in platforms for name in (here.platform, *names.get(here.platform, ()))):
        return here
    for platform in platforms:
        with contextlib.suppress(RuntimeError):
            return jax.devices(platform)[0]
    raise BundleError(
        f"{path} is for {', '.join(platforms)}, and JAX has only {here.platform} here. Export it for this as well: "
        f"platforms={(*platforms, here.platform)!r}."
    )


def _as_array(name: str, value: Any) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError as error:
        raise BundleError(f"input '{name}' is no array: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
