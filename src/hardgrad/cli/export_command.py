"""``hardgrad export RUN``: the trained model as a bundle that runs without the recipe's code."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ..core import UsageError
from ..export import Bundle, export_bundle
from ..training import RunFolder, trained_model
from ..zoo import find, recipe_of
from ..zoo._launch import float64
from ._options import parse, show_path, unset

_WIDTH = 80


@dataclasses.dataclass(frozen=True)
class Options:
    """Which run, and what to make of it."""

    run: Annotated[Path, tyro.conf.Positional]
    """the run's folder"""
    out: Annotated[Path | None, unset("PATH")] = None
    """folder for the bundle, new; else RUN/bundle"""
    params: Annotated[Literal["best", "final"] | None, unset("best|final")] = None
    """which parameters; else the best if the run kept any"""
    platforms: tuple[Literal["cpu", "cuda", "rocm", "tpu"], ...] = ("cpu",)
    """what the bundle is to run on"""
    onnx: bool = False
    """put an ONNX model beside; nothing is exported if it does not agree"""
    onnx_rtol: Annotated[float | None, unset("FLOAT")] = None
    """relative difference its numbers may have; else 1e-5, float64 1e-12"""
    overwrite: bool = False
    """replace the bundle that is there"""


def run(arguments: list[str]) -> int:
    """Write the bundle and say what is in it."""
    options = parse(
        Options,
        arguments,
        program="hardgrad export",
        description="Make a bundle of a run's model.\n\nExample: hardgrad export runs/hypercausal-depth-001 --onnx",
    )
    if options.onnx_rtol is not None and not options.onnx:
        raise UsageError("--onnx-rtol is about the ONNX model: give --onnx too.")
    folder = RunFolder.open(options.run)
    name, config = recipe_of(folder)
    recipe = find(name).load()
    if recipe.export is None:
        raise UsageError(
            f"the recipe '{name}' has nothing to export by itself. In Python: hg.training.trained_model loads it,\n"
            "hg.export.export_bundle ships a function of it, hardgrad.spiking.to_nir a spiking network."
        )
    with float64() if recipe.float64(config) else contextlib.nullcontext():
        experiment = recipe.experiment(config)
        model, parameters = trained_model(folder, experiment.model, which=options.params)
        exportable = recipe.export(folder, config, model)
        about = {"recipe": name, "config": dataclasses.asdict(config), "seed": experiment.seed, **parameters}
        bundle = export_bundle(
            dataclasses.replace(exportable, metadata={**exportable.metadata, "run": about}),
            options.out or folder.path / "bundle",
            overwrite=options.overwrite,
            platforms=options.platforms,
            onnx=options.onnx,
            onnx_rtol=options.onnx_rtol,
        )
    shown = Path(options.out or folder.path / "bundle")
    for line in _lines(bundle, shown, parameters):
        print(line)
    return 0


def _lines(bundle: Bundle, path: Path, parameters: Mapping[str, Any]) -> Iterator[str]:
    manifest = bundle.manifest
    yield f"bundle: {show_path(path)}"
    score = f", {parameters['metric']} {parameters['value']:.6g}" if "metric" in parameters else ""
    yield _row("parameters", f"{parameters['params']}, of epoch {parameters['epoch']}{score}")
    for title, specs in (("takes", bundle.inputs), ("gives", bundle.outputs)):
        for spec in specs:
            yield _row(title, str(spec))
            title = ""
    for key, value in _scalars({k: v for k, v in bundle.metadata.items() if k != "run"}):
        yield _row(key, json.dumps(value, ensure_ascii=False))
    rows = manifest["rows"]
    edge = f" and {rows['edge']} edge rows" if "edge" in rows else ""
    jitted = manifest["jitted"]
    near = f"numbers to {jitted['largest_relative_difference']:.1e}, masks identical, as"
    how = "the same bits as" if jitted["bitwise"] else near
    yield _row("checked", f"{rows['example']} rows{edge}: {how} the jitted model")
    if "onnx" in manifest:
        onnx = manifest["onnx"]
        worst = onnx["largest_relative_difference"]
        yield _row("onnx", f"{onnx['rows_compared']} rows: masks identical, numbers to {worst:.1e} relative")
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    yield _row("size", f"{size / 1024:.1f} KiB for {', '.join(bundle.platforms)}")
    yield f"digest: {bundle.digest}"
    yield "\nin Python, without the recipe:"
    yield "  from hardgrad.export import load_bundle"
    yield f"  bundle = load_bundle({str(path)!r})"
    yield f"  outputs = bundle({', '.join(spec.name for spec in bundle.inputs)})"


def _scalars(metadata: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What is a number or a word in the metadata, and in the objects in it: thresholds, scores, seeds."""
    for key, value in metadata.items():
        inner = {f"{key}.{name}": part for name, part in value.items()} if isinstance(value, dict) else {key: value}
        for name, part in inner.items():
            if isinstance(part, str | int | float) and not name.endswith((".schema", ".version")):
                yield name, part


def _row(title: str, text: str) -> str:
    line = f"  {title:<12}{text}" if len(title) < 12 else f"  {title} {text}"
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
