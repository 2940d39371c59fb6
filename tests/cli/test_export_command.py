"""``hardgrad export``: what it writes and says, and what it refuses."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

import hardgrad.export
from hardgrad.cli import main
from hardgrad.export import load_bundle
from hardgrad.zoo import find

SOURCE = str(pathlib.Path(hardgrad.export.__file__).parents[2])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run to export."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(["run", "hypercausal-depth", "--smoke", "--out", str(out), "--quiet"]) == 0
    return out


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch, finished):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    shutil.copytree(finished, "run")


def test_help(capsys):
    assert main(["export", "--help"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert max(len(line) for line in said.out.splitlines()) <= 80
    assert "Example: hardgrad export runs/hypercausal-depth-001 --onnx" in said.out


def test_a_run_becomes_a_bundle_and_its_lines_load_it(capsys):
    files = {p: p.read_bytes() for p in pathlib.Path("run").rglob("*") if p.is_file()}
    assert main(["export", "run"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert max(len(line) for line in lines) <= 80
    bundle = load_bundle("run/bundle")
    assert lines[0] == "bundle: run/bundle"
    assert lines[1].startswith("  parameters  best, of epoch 5, val_loss 0.026")
    assert "  takes       inputs [batch, 48, 3] float64" in lines
    assert "  checked     2 rows and 5 edge rows: the same bits as the jitted model" in lines
    assert f"digest: {bundle.digest}" in lines
    assert {p: p.read_bytes() for p in files} == files  # nothing else was touched

    assert bundle.metadata["run"]["recipe"] == "hypercausal-depth"
    assert bundle.metadata["run"]["config"]["epochs"] == 6
    result = json.loads(pathlib.Path("run/result.json").read_text())
    assert bundle.metadata["run"]["value"] == result["best"]["value"]

    # The last states that the run kept, to the rounding of compiled code.
    config = find("hypercausal-depth").load().config()
    inputs = find("hypercausal-depth").load().data(config)[0][None]
    depth = np.array([result["epochs"][-1]["depths"][0]], np.int32)
    states = bundle(inputs, depth)["states"][0]
    np.testing.assert_allclose(states, result["final_states"], rtol=0, atol=1e-14)

    # The printed lines, in a process that has neither the recipe nor Equinox.
    np.savez("given.npz", inputs=inputs, depth=depth)
    snippet = [line.strip() for line in lines[lines.index("in Python, without the recipe:") + 1 :]]
    script = ["import sys, numpy as np", "inputs, depth = np.load('given.npz').values()", *snippet]
    script += [
        "assert not {'equinox', 'optax', 'hardgrad.zoo'} & set(sys.modules)",
        "np.save('found.npy', outputs['states'])",
    ]
    subprocess.run(
        [sys.executable, "-c", "\n".join(script)], env={**os.environ, "PYTHONPATH": SOURCE}, check=True, timeout=300
    )
    assert np.array_equal(np.load("found.npy")[0], states)


def test_last_parameters_another_folder_onnx_and_again(capsys):
    given = ["export", "run", "--params", "final", "--out", "ship ped/b", "--onnx"]
    assert main(given) == 0
    out = capsys.readouterr().out
    assert out.startswith("bundle: 'ship ped/b'\n  parameters  final, of epoch 5\n")
    assert "  onnx        7 rows: masks identical, numbers to " in out
    bundle = load_bundle("ship ped/b")
    assert bundle.onnx_path is not None
    assert not pathlib.Path("run/bundle").exists()
    assert main(given) == 2
    assert "already holds a bundle. Give another folder, or --overwrite" in capsys.readouterr().err
    assert load_bundle("ship ped/b").digest == bundle.digest
    assert main(["export", "run", "--out", "ship ped/b", "--overwrite", "--platforms", "cpu", "cuda"]) == 0
    assert load_bundle("ship ped/b").platforms == ("cpu", "cuda")
    assert load_bundle("ship ped/b").onnx_path is None


def test_a_black_box_run_ships_as_the_same_chain(capsys):
    given = ["run", "hypercausal-depth", "--execution", "host", "--epochs", "2", "--out", "host", "--quiet"]
    assert main(given) == 0
    assert main(["export", "host"]) == 0
    result = json.loads(pathlib.Path("host/result.json").read_text())
    module = find("hypercausal-depth").load()
    inputs, depth = module.data(module.config())[0][None], np.array([result["epochs"][-1]["depths"][0]], np.int32)
    states = load_bundle("host/bundle")(inputs, depth)["states"][0]
    np.testing.assert_allclose(states, result["final_states"], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no folder nowhere. Runs are folders that"),
        ([], "See: hardgrad export --help."),
        (["run", "--parms", "best"], "there is no option --parms. Did you mean --params?"),
        (["run", "--onnx-rtol", "0.1"], "--onnx-rtol is about the ONNX model: give --onnx too."),
        (["run", "--onnx", "--onnx-rtol", "2"], "onnx_rtol must be at least 0 and below 1"),
        (["run", "--platforms", "cuda"], "is for cuda, and JAX has only cpu here"),
        (["run", "--out", "run"], "holds something else"),
        (["run", "--out", "run/config.json"], "is a file. Give a folder that does not exist yet."),
    ],
)
def test_mistakes(capsys, arguments, said):
    before = set(pathlib.Path().rglob("*"))
    assert main(["export", *arguments]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert len(told.err.strip().splitlines()) <= 2
    assert set(pathlib.Path().rglob("*")) == before


def test_a_recipe_with_nothing_to_export(capsys):
    assert main(["run", "hypercausal-graph", "--smoke", "--out", "graph", "--quiet"]) == 0
    capsys.readouterr()
    assert main(["export", "graph"]) == 2
    assert "the recipe 'hypercausal-graph' has nothing to export" in capsys.readouterr().err


def test_a_run_of_ones_own(capsys):
    config = json.loads(pathlib.Path("run/config.json").read_text())
    pathlib.Path("run/config.json").write_text(json.dumps({**config, "settings": {}}))
    assert main(["export", "run"]) == 2
    assert "was not started by a recipe" in capsys.readouterr().err


def test_damaged_parameters(capsys):
    with open("run/best/arrays.safetensors", "ab") as file:
        file.write(b"!")
    assert main(["export", "run"]) == 2
    assert "is damaged" in capsys.readouterr().err
    assert main(["export", "run", "--params", "final"]) == 0
