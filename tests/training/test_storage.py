"""Pytrees on disk: what comes back, what is refused, and that nothing is ever half there."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import hardgrad.training
from hardgrad.core import CheckpointError, UsageError
from hardgrad.training import RunFolder, load_tree, save_tree

DTYPES = [
    *("float64", "float32", "float16", "int64", "int32", "int16", "int8"),
    *("uint64", "uint32", "uint16", "uint8", "bool", "complex64", "complex128"),
    *("bfloat16", "float8_e4m3fn", "float8_e5m2"),
]


def dtype_of(name):
    return np.dtype(getattr(ml_dtypes, name, None) or name)


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_comes_back_bit_for_bit(x64, tmp_path, name):
    dtype = dtype_of(name)
    random = np.random.default_rng(0)
    values = random.integers(0, 2, 6).astype(dtype) if name == "bool" else (5 * random.standard_normal(6)).astype(dtype)
    tree = {"matrix": values.reshape(2, 3), "scalar": values[0], "empty": values[:0], "on device": jnp.asarray(values)}
    save_tree(tmp_path / "t", tree, {})
    back = load_tree(tmp_path / "t", tree)
    for key, value in tree.items():
        assert back[key].dtype == dtype
        assert back[key].shape == value.shape
        assert np.asarray(back[key]).tobytes() == np.asarray(value).tobytes()
        assert not back[key].weak_type


def test_keys_numbers_absent_leaves_and_odd_layouts_come_back(tmp_path):
    fortran = np.asfortranarray(np.arange(6.0, dtype=np.float32).reshape(2, 3))
    tree = {
        "key": jax.random.key(3),
        "keys": jax.random.split(jax.random.key(4, impl="rbg"), 2),
        "absent": None,
        "nan": np.float32([np.nan, -np.inf, -0.0]),
        "fortran": fortran,
        "strided": np.arange(10, dtype=np.int32)[::3],
        "nested": [{"x": jnp.ones(())}, ()],
        "a.b": jnp.zeros(1),
        "a": {"b": jnp.ones(1)},
    }
    save_tree(tmp_path / "t", tree, {"note": [1, None, "é"]})
    back = load_tree(tmp_path / "t", tree)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    assert jax.random.uniform(back["key"]) == jax.random.uniform(tree["key"])
    assert jax.random.key_impl(back["keys"]) == jax.random.key_impl(tree["keys"])
    assert jax.random.uniform(back["keys"][1]) == jax.random.uniform(tree["keys"][1])
    for name in ("nan", "fortran", "strided", "a.b"):
        assert np.asarray(back[name]).tobytes() == np.ascontiguousarray(tree[name]).tobytes()
    assert float(back["a"]["b"][0]) == 1.0
    nothing = {"absent": None}
    save_tree(tmp_path / "empty", nothing, {})
    assert load_tree(tmp_path / "empty", nothing) == nothing


def test_loading_lists_every_difference(tmp_path):
    save_tree(tmp_path / "t", {"a": np.zeros(3, np.float32), "b": np.zeros(2, np.int32), "old": np.zeros(1)}, {})
    like = {"a": np.zeros((3, 1), np.float32), "b": np.zeros(2, np.float32), "new": np.zeros(1)}
    with pytest.raises(CheckpointError, match="does not fit this model and method") as caught:
        load_tree(tmp_path / "t", like)
    for part in (
        "missing 'new'",
        "unexpected 'old'",
        "'a' has shape [3], expected [3, 1]",
        "'b' has dtype int32, expected float32",
    ):
        assert part in str(caught.value)
    many = {f"x{i}": np.zeros(1) for i in range(50)}
    with pytest.raises(CheckpointError, match="and 33 more"):
        load_tree(tmp_path / "t", many)


def test_a_model_with_functions_comes_back_whole(tmp_path):
    model = {"net": eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0)), "rate": 0.5, "act": jnp.tanh, "name": "net"}
    other = {**model, "net": eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(1)), "act": jax.nn.relu}
    for kept in (model, eqx.filter(model, eqx.is_array)):  # with the number that is a setting, and without
        save_tree(str(tmp_path / "t"), kept, {})
        back = load_tree(str(tmp_path / "t"), other)
        assert np.array_equal(back["net"](jnp.ones(2)), model["net"](jnp.ones(2)))
        assert (float(back["rate"]), back["act"], back["name"]) == (0.5, jax.nn.relu, "net")


def damage_arrays(folder):
    data = (folder / "arrays.safetensors").read_bytes()
    (folder / "arrays.safetensors").write_bytes(data[:-5])


def flip_a_bit(folder):
    data = bytearray((folder / "arrays.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "arrays.safetensors").write_bytes(data)


def edit_manifest(**changes):
    def edit(folder):
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))

    return edit


def write_manifest(text):
    def write(folder):
        (folder / "manifest.json").write_bytes(text)

    return write


def make_manifest_huge(folder):
    with open(folder / "manifest.json", "r+b") as file:
        file.truncate(65 * 2**20)


DAMAGES = {
    "truncated arrays": (damage_arrays, "damaged.*checksum"),
    "empty arrays": (lambda f: (f / "arrays.safetensors").write_bytes(b""), "damaged.*checksum"),
    "no arrays": (lambda f: (f / "arrays.safetensors").unlink(), "arrays.safetensors is missing"),
    "one bit": (flip_a_bit, "damaged.*checksum"),
    "wrong checksum": (edit_manifest(sha256="0" * 64), "damaged.*checksum"),
    "no checksum": (edit_manifest(sha256=None), "damaged.*checksum"),
    "truncated manifest": (
        lambda f: (f / "manifest.json").write_bytes((f / "manifest.json").read_bytes()[:-9]),
        "damaged",
    ),
    "empty manifest": (write_manifest(b""), "damaged"),
    "binary manifest": (write_manifest(b"\xff\xfe\x00"), "damaged"),
    "deep manifest": (write_manifest(b"[" * 200_000), "damaged"),
    "long number": (write_manifest(b"1" * 5000), "damaged"),
    "list": (write_manifest(b"[]"), "not a checkpoint of hardgrad"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json is missing"),
    "folder for manifest": (
        lambda f: ((f / "manifest.json").unlink(), (f / "manifest.json").mkdir()),
        "damaged",
    ),
    "huge manifest": (make_manifest_huge, "larger than any manifest of ours"),
    "other schema": (edit_manifest(schema="other"), "not a checkpoint of hardgrad"),
    "other version": (edit_manifest(version=99), "version 99; this hardgrad reads 1. Install"),
    "no list of arrays": (edit_manifest(arrays=None), "list of arrays is missing"),
    "no meta": (edit_manifest(meta=7), "damaged"),
    "odd entries": (
        edit_manifest(arrays={"x": 3, "../../etc/passwd": {"shape": "?"}}),
        "unexpected '../../etc/passwd'",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_noticed(tmp_path, name):
    damage, said = DAMAGES[name]
    tree = {"x": np.arange(3.0)}
    save_tree(tmp_path / "t", tree, {})
    damage(tmp_path / "t")
    with pytest.raises(CheckpointError, match=said):
        load_tree(tmp_path / "t", tree)


def test_odd_names_stay_inside_the_file(tmp_path):
    tree = {"../up": np.zeros(1), "/abs": np.ones(1), "a b": np.full(1, 2.0), "": np.full(1, 3.0), "ü\n": np.ones(1)}
    save_tree(tmp_path / "t", tree, {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t"]
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == ["arrays.safetensors", "manifest.json"]
    back = load_tree(tmp_path / "t", tree)
    assert [float(back[k][0]) for k in tree] == [0.0, 1.0, 2.0, 3.0, 1.0]


def test_replacing_keeps_one_version_at_every_moment(tmp_path, monkeypatch):
    like = {"x": np.zeros(1)}
    folder = tmp_path / "best"
    save_tree(folder, {"x": np.full(1, 1.0)}, {})

    class Killed(BaseException):
        pass

    real = os.rename
    for kill_at in (1, 2):
        calls = []

        def rename(a, b, kill_at=kill_at, calls=calls):
            calls.append(1)
            if len(calls) == kill_at:
                raise Killed
            real(a, b)

        monkeypatch.setattr(os, "rename", rename)
        with pytest.raises(Killed):
            save_tree(folder, {"x": np.full(1, 2.0)}, {})
        monkeypatch.setattr(os, "rename", real)
        assert float(load_tree(folder, like)["x"][0]) == 1.0
    # The new one came no further than its temporary name; writing again heals everything.
    calls = []
    monkeypatch.setattr(os, "rename", lambda a, b: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        save_tree(folder, {"x": np.full(1, 2.0)}, {})
    monkeypatch.setattr(os, "rename", real)
    assert float(load_tree(folder, like)["x"][0]) == 1.0
    save_tree(folder, {"x": np.full(1, 3.0)}, {})
    assert float(load_tree(folder, like)["x"][0]) == 3.0
    save_tree(folder, {"x": np.full(1, 4.0)}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["best"]


@pytest.mark.parametrize(
    ("code", "said"),
    [(errno.ENOSPC, "the disk is full"), (errno.EDQUOT, "the disk is full"), (errno.EROFS, "Choose another folder")],
)
def test_a_disk_that_refuses(tmp_path, monkeypatch, code, said):
    save_tree(tmp_path / "t", {"x": np.ones(1)}, {})

    def refuse(fd):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(UsageError, match=said):
        save_tree(tmp_path / "t", {"x": np.zeros(1)}, {})
    folder = RunFolder(tmp_path)
    with pytest.raises(UsageError, match=said):
        folder.write_json(folder.result_path, {})
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t"]
    assert float(load_tree(tmp_path / "t", {"x": np.ones(1)})["x"][0]) == 1.0


def test_a_strange_failure_is_not_dressed_up(tmp_path, monkeypatch):
    def fail(fd):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        save_tree(tmp_path / "t", {"x": np.zeros(1)}, {})


def test_nothing_is_pickled():
    sources = pathlib.Path(hardgrad.training.__file__).parents[1].rglob("*.py")
    text = "\n".join(p.read_text(encoding="utf-8") for p in sources)
    assert not re.search(
        r"import (pickle|dill|cloudpickle|joblib|shelve)|allow_pickle=True|np\.(save|load)\(|eval\(\w*text", text
    )


def test_a_run_folder_is_new(tmp_path):
    assert RunFolder.create(tmp_path / "deep" / "new").path.is_dir()
    assert RunFolder.create(tmp_path / "deep" / "new").path.is_dir()  # still empty
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        RunFolder.create(tmp_path / "file")
    with pytest.raises(UsageError, match=r"cannot write.*Choose another folder"):
        RunFolder.create(tmp_path / "file" / "below")
    with pytest.raises(UsageError, match=r"cannot write.*Choose another folder"):
        RunFolder.create(tmp_path / ("long" * 100))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match=r"already holds files, which stay untouched. Give another folder") as caught:
        RunFolder.create(tmp_path / "mine")
    assert "esume" not in str(caught.value)  # there is nothing to resume
    with pytest.raises(UsageError, match=r"is not a run: it has no config.json"):
        RunFolder.open(tmp_path / "mine")
    # What a kill in the very first moment leaves does not block the name for ever.
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / ".config.json.tmp").write_text("{")
    RunFolder.create(tmp_path / "killed")


def test_telemetry_with_damage(tmp_path):
    folder = RunFolder(tmp_path)
    folder.telemetry_path.write_text('{"kind": "a"}\n{"kind": "b"}\n{"kind": "to')
    assert [r["kind"] for r in folder.telemetry()] == ["a", "b"]
    folder.telemetry_path.write_text('{"kind": "a"}\n{"kin\n{"kind": "c"}\n')
    with pytest.raises(UsageError, match="line 2 is damaged"):
        list(folder.telemetry())
