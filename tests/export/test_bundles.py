"""Bundles: what is in them, what they give, and where they run."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from shipped import TAU, decision, edges, exportable, rows

import hardgrad.core
import hardgrad.export
from hardgrad.core import BundleError, UsageError
from hardgrad.export import Exportable, export_bundle, load_bundle

SOURCE = str(Path(hardgrad.export.__file__).parents[2])


def same(a, b):
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


# ---------------------------------------------------------------------------- what is in them


def test_a_bundle_gives_the_bits_of_the_jitted_function_for_any_number_of_rows(made):
    function = jax.jit(decision())
    for x in (rows(1), rows(7), rows(300), edges()):
        wanted, found = function(x)._asdict(), made(x)
        assert list(found) == ["decoded", "bottom_mask", "provenance"]
        assert all(type(value) is np.ndarray and same(value, np.asarray(wanted[n])) for n, value in found.items())
    assert made(edges())["provenance"].tolist() == [1, 0, 0, 2, 0, 2]
    assert 0 < made(rows(300))["bottom_mask"].sum() < 300


def test_what_is_written_and_what_is_said(made):
    assert {p.name for p in made.path.iterdir()} == {
        *("model.stablehlo", "metadata.json", "example.safetensors", "SHA256SUMS")
    }
    content = json.loads((made.path / "metadata.json").read_text())
    assert (content["schema"], content["version"], content["platforms"]) == ("hardgrad.bundle", 1, ["cpu"])
    assert content["inputs"] == [{"name": "x", "shape": ["batch", 2], "dtype": "float32"}]
    assert content["rows"] == {"example": 5, "edge": 6}
    assert content["x64"] is False
    assert content["jax"] == jax.__version__
    assert [str(spec) for spec in (*made.inputs, *made.outputs)] == [
        "x [batch, 2] float32",
        "decoded [batch] float32",
        "bottom_mask [batch] bool",
        "provenance [batch] int32",
    ]
    assert made.metadata == {"tau_infer": TAU, "mean": [0.5, "NaN"]}
    assert made.manifest == content
    assert made.onnx_path is None
    assert "x [batch, 2] float32 -> decoded" in repr(made)


def test_the_checksums_are_those_of_sha256sum(made):
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=made.path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{n}: OK" for n in ("example.safetensors", "metadata.json", "model.stablehlo")]
    listed = (made.path / "SHA256SUMS").read_text()
    assert f"{made.digest}  metadata.json\n" in listed
    assert load_bundle(made.path, expected_digest=made.digest.upper()).digest == made.digest


def test_its_own_test(made):
    parity = made.self_test()
    assert (parity.rows, parity.bitwise, parity.worst, parity.problem) == (11, True, 0.0, None)


@pytest.mark.parametrize("out_size", ["scalar", 1, 3])
def test_a_perceptron_whose_sums_are_taken_in_another_order(tmp_path, out_size):
    model = eqx.nn.MLP(4, out_size, 16, 2, key=jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)
    bundle = export_bundle(Exportable(lambda x: {"y": jax.vmap(model)(x)}, {"x": x}), tmp_path / "bundle")
    near = bundle.manifest["jitted"]
    assert near["rows_compared"] == 9
    assert near["largest_relative_difference"] < 1e-6
    assert near["bitwise"] == (near["largest_relative_difference"] == 0.0)
    np.testing.assert_allclose(bundle(x)["y"], jax.vmap(model)(x), rtol=1e-5, atol=1e-6)
    assert bundle.self_test().bitwise  # what came with it is what it gives


def test_a_program_that_is_another_is_not_shipped(tmp_path):
    x = np.linspace(-1.0, 1.0, 8, dtype=np.float32)[:, None]
    counts = Exportable(lambda x: {"y": x * (1.0 + 1e-3 * (x.shape[0] == 8))}, {"x": x})
    with pytest.raises(BundleError, match="does not do what the function does: 'y' differs in 8 of 8 entries"):
        export_bundle(counts, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_process_without_equinox_and_without_the_function_gives_the_same_bits(made, tmp_path):
    x = np.concatenate([rows(20), edges()])
    np.save(tmp_path / "x.npy", x)
    script = """if True:
        import sys
        import numpy as np
        from hardgrad.export import load_bundle
        bundle = load_bundle(sys.argv[1])
        found = bundle(np.load(sys.argv[2] + "/x.npy"))
        assert bundle.self_test().bitwise
        heavy = {"equinox", "optax", "hardgrad.training", "hardgrad.zoo", "onnx"} & set(sys.modules)
        assert not heavy, heavy
        np.savez(sys.argv[2] + "/found.npz", **found)
    """
    subprocess.run(
        [sys.executable, "-c", script, str(made.path), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": SOURCE},
        check=True,
        timeout=300,
    )
    found = np.load(tmp_path / "found.npz")
    assert all(same(value, found[name]) for name, value in made(x).items())


@pytest.mark.parametrize("package", [hardgrad.core, hardgrad.export], ids=lambda p: p.__name__)
def test_type_checkers_and_users_see_the_same_names(package):
    text = Path(package.__file__).read_text(encoding="utf-8")
    seen = dict(line.split(" import ") for line in text.splitlines() if line.startswith("    from ._"))
    block = {names.split(" as ")[0]: home.split("._")[1] for home, names in (
        line.strip().split(" import ") for line in text.splitlines() if line.startswith("    from ._")
    )}  # fmt: skip
    assert seen
    assert block == {name: module.removeprefix("_") for name, module in package._HOME.items()}
    assert dir(package) == sorted(package._HOME)
    assert all(getattr(package, name) is not None for name in package._HOME)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = package.nonsense


# ---------------------------------------------------------------------------- float64


def test_a_float64_bundle_runs_the_same_with_and_without_x64(x64, tmp_path):
    x = np.concatenate([rows(9, "float64"), edges("float64")])
    with pytest.raises(BundleError, match="must be float64, got float32"):
        export_bundle(exportable("float64"), tmp_path / "b")(x.astype(np.float32))
    bundle = load_bundle(tmp_path / "b")
    assert bundle.manifest["x64"] is True
    inside = bundle(x)
    wanted = jax.jit(decision("float64"))(x)
    jax.config.update("jax_enable_x64", False)
    outside = load_bundle(tmp_path / "b")
    found = outside(x)
    assert found["decoded"].dtype == np.float64
    assert outside.self_test().bitwise
    for name, value in found.items():
        assert same(value, inside[name])
        assert same(value, np.asarray(getattr(wanted, name)))


def test_a_float32_bundle_runs_the_same_with_x64(made, x64):
    before = made(rows(4))
    assert all(same(value, before[name]) for name, value in load_bundle(made.path)(rows(4)).items())


def test_float64_rows_without_x64_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"input 'x' is float64, and JAX works in 32 bits. Give float32, or"):
        export_bundle(exportable(inputs={"x": rows(dtype="float64")}), tmp_path / "b")


# ---------------------------------------------------------------------------- inputs


def two(x, n):
    return {"sum": x.sum(axis=1) + n.astype(x.dtype), "even": n % 2 == 0, "grid": x[:, :, None] * x[:, None, :]}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    inputs = {"x": rows(3), "n": np.arange(3, dtype=np.int32)}
    return export_bundle(Exportable(two, inputs), tmp_path_factory.mktemp("two") / "b")


def test_inputs_by_place_and_by_name(pair):
    x, n = rows(4), np.arange(4, dtype=np.int32)
    by_place = pair(x, n)
    assert list(by_place) == ["sum", "even", "grid"]
    assert by_place["grid"].shape == (4, 2, 2)
    for found in (pair(n=n, x=x), pair(x, n=n), pair(jnp.asarray(x), n.tolist() and n)):
        assert all(same(found[name], value) for name, value in by_place.items())
    assert "edge" not in pair.manifest["rows"]
    assert pair.self_test().rows == 3


@pytest.mark.parametrize(
    ("given", "named", "said"),
    [
        ((), {}, "the input 'x' is missing. The bundle takes: x, n."),
        ((rows(2),), {}, "the input 'n' is missing"),
        ((1, 2, 3), {}, "takes 2 inputs (x, n), got 3"),
        ((rows(2),), {"y": 1}, "there is no input 'y'. The bundle takes: x, n."),
        ((rows(2),), {"x": rows(2)}, "input 'x' is given twice"),
        (
            (rows(2).astype("float64"), np.arange(2, dtype=np.int32)),
            {},
            "must be float32, got float64. Convert it: x.",
        ),
        ((rows(2), np.arange(2.0)), {}, "input 'n' must be int32, got float64"),
        ((rows(2), np.array(["a", "b"])), {}, "input 'n' must be int32, got <U1."),
        (([[1.0, 2.0], [3.0]], np.arange(2, dtype=np.int32)), {}, "input 'x' is no array"),
        ((rows(2)[0], np.arange(2, dtype=np.int32)), {}, "must have shape [batch, 2], got [2]"),
        ((np.zeros((2, 3), np.float32), np.arange(2, dtype=np.int32)), {}, "must have shape [batch, 2], got [2, 3]"),
        ((np.float32(1), np.int32(1)), {}, "must have shape [batch, 2], got []"),
        ((rows(2)[:0], np.arange(0, dtype=np.int32)), {}, "input 'x' is an empty batch: give at least one row"),
        ((rows(2), np.arange(3, dtype=np.int32)), {}, "input 'n' has 3 rows and 'x' 2"),
    ],
)
def test_wrong_inputs_are_refused_in_a_sentence(pair, given, named, said):
    with pytest.raises(BundleError) as caught:
        pair(*given, **named)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# ---------------------------------------------------------------------------- what can be exported


@dataclasses.dataclass
class Found:
    a: jax.Array
    b: jax.Array


def test_outputs_are_those_asked_for_in_their_order(tmp_path):
    def function(x):
        return Found(a=x + 1, b=x.sum(axis=1) > 0)

    bundle = export_bundle(Exportable(function, {"x": rows(2)}, outputs=("b", "a")), tmp_path / "b")
    assert list(bundle(rows(3))) == ["b", "a"]


def test_a_bundle_for_several_platforms_runs_here(tmp_path):
    bundle = export_bundle(exportable(), tmp_path / "b", platforms=("cuda", "cpu"))
    assert bundle.platforms == ("cuda", "cpu")
    assert bundle.device.platform == "cpu"
    assert bundle.self_test().bitwise


def test_a_bundle_that_does_not_run_on_the_default_device(made):
    elsewhere = load_bundle(made.path)
    elsewhere.device = jax.devices()[1]
    assert all(same(value, made(rows(3))[name]) for name, value in elsewhere(rows(3)).items())
    with jax.default_device(jax.devices()[1]):
        assert load_bundle(made.path).self_test().bitwise


def test_a_platform_that_is_not_here(tmp_path):
    with pytest.raises(BundleError, match=r"is for tpu, and JAX has only cpu here\..* platforms=\('tpu', 'cpu'\)"):
        export_bundle(exportable(), tmp_path / "b", platforms=("tpu",))
    assert list(tmp_path.iterdir()) == []


def only_for_four(x):
    return {"y": x.reshape(4, -1)}


def branches_on_the_size(x):
    return {"y": x if x.shape[0] > 5 else x + 1}


def asks_the_host(x):
    return {"y": jax.pure_callback(lambda v: v, jax.ShapeDtypeStruct(x.shape, x.dtype), x)}


def prints(x):
    def inner(v):
        jax.debug.print("{}", v)
        return v

    return {"y": jax.lax.map(inner, x)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"function": only_for_four, "inputs": {"x": rows(4)}},
            "works for 4 rows, and can't be exported",
        ),
        ({"function": branches_on_the_size}, "works for 5 rows, and can't be exported for any number"),
        ({"function": asks_the_host}, "calls Python while it runs (pure_callback)"),
        ({"function": prints}, "calls Python while it runs (debug_"),
        ({"function": lambda x: x}, "must return a dict, NamedTuple or dataclass of arrays"),
        ({"function": lambda x: {"y": "no"}}, "result 'y' must be an array, got str"),
        ({"function": lambda x: {"y": jnp.fft.fft(x)}}, "output 'y' is complex64, which a bundle can't hold"),
        ({"function": lambda x: {"y": x.astype(jnp.bfloat16)}}, "output 'y' is bfloat16"),
        ({"function": lambda x: {"a b": x}}, "an output may not be called 'a b'"),
        ({"function": lambda x: {}}, "outputs must name some of"),
        ({"outputs": ("decode",)}, "the function returns no 'decode'. Did you mean 'decoded'?"),
        ({"outputs": ("decoded", "decoded")}, "each once"),
        ({"inputs": {}}, "inputs must hold at least one example row"),
        ({"inputs": {"a/b": rows()}}, "an input may not be called 'a/b'"),
        ({"inputs": {"x": np.float32(1)}}, "must be some rows [batch, ...], got shape []"),
        ({"inputs": {"x": rows()[:0]}}, "must be some rows [batch, ...], got shape [0, 2]"),
        ({"inputs": {"x": rows().astype(complex)}}, "input 'x' is complex128, which a bundle can't hold"),
        ({"edge_rows": {"y": rows()}}, "edge_rows must hold the same inputs as inputs (x), got y"),
        ({"edge_rows": {"x": rows()[:, :1]}}, "edge_rows must be rows like those of inputs"),
        ({"metadata": {"f": print}}, "metadata must be what JSON can hold"),
        ({"inputs": {"x": rows(2), "n": rows(3)}, "edge_rows": None}, "'n' has 3, not 2"),
    ],
)
def test_what_cannot_be_exported_is_refused_and_leaves_nothing(tmp_path, changes, said):
    with pytest.raises(UsageError) as caught:
        export_bundle(exportable(**({"edge_rows": None} | changes)), tmp_path / "b")
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("platforms", [(), ("gpu",), ("cpu", "cpu"), "nothing"])
def test_wrong_platforms(tmp_path, platforms):
    with pytest.raises(UsageError, match="platforms must be some of 'cpu', 'cuda', 'rocm', 'tpu'"):
        export_bundle(exportable(), tmp_path / "b", platforms=platforms)


def test_a_program_that_does_not_do_what_the_function_does_is_not_shipped(tmp_path, monkeypatch):
    from hardgrad.export import _bundle

    real = _bundle.load_bundle

    def load(path):
        bundle = real(path)
        call = bundle._call
        bundle._call = lambda *given: tuple(value + 1 if value.dtype == "float32" else value for value in call(*given))
        return bundle

    monkeypatch.setattr(_bundle, "load_bundle", load)
    with pytest.raises(BundleError, match="does not do what the function does: 'decoded' differs in"):
        export_bundle(exportable(), tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------- where it is written


def test_only_a_bundle_is_replaced_and_only_if_asked(folder, tmp_path):
    before = load_bundle(folder).digest
    with pytest.raises(UsageError, match=r"already holds a bundle. Give another folder, or --overwrite"):
        export_bundle(exportable(), folder)
    assert load_bundle(folder).digest == before
    replaced = export_bundle(exportable(metadata={"tau_infer": 1}), folder, overwrite=True)
    assert load_bundle(folder).metadata == replaced.metadata == {"tau_infer": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds something else \(notes.txt\), which stays untouched"):
        export_bundle(exportable(), folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"


def test_other_things_in_the_way(folder, tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("mine")
    for name, said in (("file", "is a file"), ("link", "is a link"), ("photos", "holds something else")):
        with pytest.raises(UsageError, match=said):
            export_bundle(exportable(), tmp_path / name, overwrite=True)
    with pytest.raises(UsageError, match="cannot write"):
        export_bundle(exportable(), tmp_path / "file" / "b")
    assert (tmp_path / "file").read_text() == (tmp_path / "photos" / "a.jpg").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    assert export_bundle(exportable(), tmp_path / "empty").self_test().bitwise
