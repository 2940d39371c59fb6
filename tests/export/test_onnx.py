"""ONNX models: what converts decides the same, what does not is refused, and what crashes crashes alone."""

from __future__ import annotations

import os
import signal
import stat

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from shipped import edges, exportable, rows

from hardgrad.core import BundleError, MissingExtraError, UsageError
from hardgrad.export import Exportable, _onnx, export_bundle, load_bundle
from hardgrad.export._onnx_worker import make

W = np.random.default_rng(1).normal(size=(4, 4))
ODD = [
    [np.nan, 0, 1, 2],
    [np.inf, 1, 1, -1],
    [-np.inf, 0.0, 2, np.nan],
    [0, -0.0, 0, 0],
    [1e30, -1e30, 0.5, -0.5],
    [np.inf, np.nan, -np.inf, 0],
    [1, 1, 2, 2],
    [1e-30, -1e-30, 1e-7, -1e-7],
]


def array(x, like):
    return jnp.asarray(x, like.dtype)


def cosine_of(x):
    return jnp.cos(jnp.where(jnp.abs(x) < 100, x, 0))


ENTRYWISE = {
    "exp": lambda x: jnp.exp(jnp.minimum(x, 80)),
    "expm1": lambda x: jnp.expm1(jnp.minimum(x, 80)),
    "log": jnp.log,
    "log1p": jnp.log1p,
    "sqrt": jnp.sqrt,
    "rsqrt": jax.lax.rsqrt,
    "cbrt": jnp.cbrt,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "sin": lambda x: jnp.sin(jnp.where(jnp.abs(x) < 100, x, jnp.nan)),
    "cos": cosine_of,
    "tan": lambda x: jnp.tan(jnp.clip(x, -1, 1)),
    "floor": jnp.floor,
    "ceil": jnp.ceil,
    "round": jnp.round,
    "sign": jnp.sign,
    "absolute": jnp.abs,
    "negative": jnp.negative,
    "cube": lambda x: x**3,
    "power": lambda x: jnp.abs(x) ** 2.5,
    "divide": lambda x: x / x[:, ::-1],
    "remainder": lambda x: jnp.mod(jnp.clip(x, -9, 9), 0.75),
    "floor_divide": lambda x: jnp.floor_divide(jnp.clip(x, -9, 9), 0.375),
    "trunc": jnp.trunc,
    "maximum": lambda x: jnp.maximum(x, x[:, ::-1]),
    "minimum": lambda x: jnp.minimum(x, 0.5),
    "clip": lambda x: jnp.clip(x, -1, 1),
    "nan_to_num": lambda x: jnp.nan_to_num(x, posinf=7, neginf=-7),
    "isfinite": jnp.isfinite,
    "isnan": jnp.isnan,
    "isinf": jnp.isinf,
    "less": lambda x: x < 0.5,
    "unequal": lambda x: x != x[:, ::-1],
    "logic": lambda x: (x > 0) ^ (x > 1) | ~(x < 2) & (x == x),
    "bools_in_order": lambda x: jnp.less(x > 0, x > 1),
    "whole": lambda x: jnp.where(jnp.abs(x) < 10, x, 0).astype(jnp.int32),
    "bits": lambda x: jnp.where(jnp.abs(x) < 10, x, 0).astype(jnp.int32) & 3,
    "whole_arithmetic": lambda x: jnp.where(jnp.abs(x) < 10, 4 * x, 0).astype(jnp.int32) // 3 % 2,
    "truth": lambda x: x.astype(bool).astype(x.dtype),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "erf": jax.scipy.special.erf,
    "softplus": jax.nn.softplus,
    "sinh": lambda x: jnp.sinh(jnp.clip(x, -20, 20)),
    "asinh": jnp.arcsinh,
    "log_add_exp": lambda x: jnp.logaddexp(x, x[:, ::-1]),
}
ARC = {  # ONNX Runtime has none in float64
    "arctan": jnp.arctan,
    "arctan2": lambda x: jnp.arctan2(x, jnp.where(jnp.isinf(x), 1, x)[:, ::-1]),
    "arcsin": jnp.arcsin,
    "arccos": jnp.arccos,
}
JOINING = {
    "sum": lambda x: jnp.sum(x, axis=1),
    "product": lambda x: jnp.prod(jnp.clip(x, -3, 3), axis=1),
    "largest": lambda x: jnp.max(x, axis=1),
    "least": lambda x: jnp.min(x, axis=1, keepdims=True),
    "some": lambda x: jnp.any(x > 1, axis=1),
    "every": lambda x: jnp.all(x > -1, axis=1),
    "none_joined": lambda x: jnp.any(x > 1, axis=()),
    "none_summed": lambda x: jnp.sum(x, axis=()),
    "largest_whole": lambda x: jnp.max(jnp.where(jnp.abs(x) < 10, x, 0).astype(jnp.int32), axis=1, initial=1),
    "argmax": lambda x: jnp.argmax(x, axis=1),
    "argmin": lambda x: jnp.argmin(x, axis=1),
    "softmax": jax.nn.softmax,
    "log_sum_exp": lambda x: jax.nn.logsumexp(x, axis=-1),
    "layer_norm": lambda x: (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-3),
    "norm": lambda x: jnp.linalg.norm(jnp.clip(x, -1e9, 1e9), axis=-1),
    "running_sum": lambda x: jnp.cumsum(x, axis=1),
    "running_sum_back": lambda x: jax.lax.cumsum(x, axis=1, reverse=True),
    "across_rows": lambda x: jnp.sum(jnp.isfinite(x), axis=0, dtype=jnp.int32)[None] + jnp.zeros_like(x, jnp.int32),
    "matmul": lambda x: x @ array(W, x),
    "matmul_transposed": lambda x: (array(W, x) @ x.T).T,
    "batched_product": lambda x: jnp.einsum("bi,bj->bij", x, x),
    "quadratic_form": lambda x: jnp.einsum("bi,ij,bj->b", jnp.clip(x, -9, 9), array(W, x), jnp.clip(x, -9, 9)),
    "stack_of_matrices": lambda x: jnp.einsum("bi,kij->bkj", x, array(np.stack([W, 2 * W]), x)),
    "polynomial": lambda x: jnp.polyval(array([1, 2, 3], x), jnp.clip(x, -9, 9)),
    "gradient": lambda x: jax.vmap(jax.grad(lambda r: jnp.tanh(array(W, r) @ r).sum()))(x),
}
MOVING = {
    "part": lambda x: x[:, 1:3],
    "one": lambda x: x[:, 2],
    "last": lambda x: x[:, -1],
    "every_other": lambda x: x[:, ::2],
    "reverse": lambda x: x[:, ::-1],
    "chosen": lambda x: x[:, jnp.array([2, 0, 3])],
    "table": lambda x: array(W, x)[jnp.argmax(x, axis=1)],
    "table_entry": lambda x: array(W[:, 0], x)[jnp.argmax(x, axis=1)],
    "one_hot": lambda x: jax.nn.one_hot(jnp.argmax(x, axis=1), 4, dtype=x.dtype),
    "concatenate": lambda x: jnp.concatenate([x, 2 * x], axis=1),
    "stack": lambda x: jnp.stack([x, x], axis=1),
    "fold": lambda x: x.reshape(-1, 2, 2),
    "unfold": lambda x: x.reshape(-1, 2, 2).transpose(0, 2, 1).reshape(-1, 4),
    "transpose": lambda x: x.T,
    "pad": lambda x: jnp.pad(x, ((0, 0), (1, 2)), constant_values=3),
    "roll": lambda x: jnp.roll(x, 1, axis=1),
    "tile": lambda x: jnp.tile(x, (1, 2)),
    "repeat": lambda x: jnp.repeat(x, 2, axis=1),
    "count": lambda x: jnp.zeros_like(x) + jnp.arange(4, dtype=x.dtype),
    "count_rows": lambda x: jnp.arange(x.shape[0], dtype=x.dtype),
    "how_many_rows": lambda x: jnp.zeros_like(x[:, 0], jnp.int32) + x.shape[0],
    "spread": lambda x: jnp.broadcast_to(x[:, :, None], (*x.shape, 2)),
    "constants": lambda x: (jnp.arange(4) // 3 + jnp.arange(4) % 3).astype(x.dtype) * x,
}
FLOW = {
    "scan": lambda x: jax.lax.scan(lambda c, t: (jnp.tanh(c + t), c), x[:, 0], x.T)[0],
    "scan_outputs": lambda x: jax.lax.scan(lambda c, t: (jnp.tanh(c + t), c), x[:, 0], x.T)[1].T,
    "fori": lambda x: jax.lax.fori_loop(0, 5, lambda i, c: c / 2 + x, x),
    "while": lambda x: jax.lax.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, cosine_of(c[1])), (0, x))[1],
    "never": lambda x: jax.lax.while_loop(lambda c: c[0] < 0, lambda c: (c[0] + 1, c[1] + 1), (0, x))[1],
    "cond": lambda x: jax.lax.cond(jnp.any(x > 1e20), lambda y: (y + 1, y), lambda y: (y - 1, 2 * y), x)[0],
    "switch": lambda x: jax.lax.switch(
        jnp.sum(jnp.isnan(x), dtype=jnp.int32), [lambda y: y + 1, lambda y: y - 1, lambda y: y * 2], x
    ),
    "row_by_row": lambda x: jax.vmap(lambda r: jax.lax.cond(r[0] > 0, jnp.sum, jnp.prod, jnp.clip(r, -3, 3)))(x),
    "checkpointed": lambda x: jax.checkpoint(jnp.tanh)(x),
}
GROUPS = {"entrywise": ENTRYWISE, "arc": ARC, "joining": JOINING, "moving": MOVING, "flow": FLOW}


def shipped(functions, dtype, folder):
    """All functions of a group as the outputs of one bundle."""
    x = np.random.default_rng(0).normal(size=(33, 4)).astype(dtype)
    return export_bundle(
        Exportable(
            lambda x: {name: function(x) for name, function in functions.items()},
            {"x": x},
            edge_rows={"x": np.array(ODD, dtype)},
        ),
        folder,
    )


@pytest.mark.parametrize("group", GROUPS)
def test_what_converts_in_float32(tmp_path, group):
    bundle = shipped(GROUPS[group], "float32", tmp_path / "b")
    found = make(bundle.path, None)
    assert "refused" not in found, found
    assert (found["rows_compared"], found["onnxruntime"]) == (41, onnxruntime.__version__)
    # Other numbers of rows than those it was made with.
    session = onnxruntime.InferenceSession((bundle.path / "model.onnx").read_bytes())
    x = np.random.default_rng(5).normal(size=(3, 4)).astype(np.float32)
    results = dict(zip(GROUPS[group], session.run(list(GROUPS[group]), {"x": x}), strict=True))
    for name, wanted in bundle(x).items():
        np.testing.assert_allclose(results[name], wanted, rtol=2e-5, atol=2e-6, err_msg=name)


@pytest.mark.parametrize("group", ["entrywise", "joining"])
def test_what_converts_in_float64(x64, tmp_path, group):
    found = make(shipped(GROUPS[group], "float64", tmp_path / "b").path, None)
    assert "refused" not in found, found
    assert found["largest_relative_difference"] <= 1e-12


REFUSED = {
    "stablehlo.sort": lambda x: jnp.sort(x, axis=1),
    "stablehlo.bitcast_convert": jnp.signbit,
    "the native routine 'lapack": lambda x: jnp.linalg.solve(array(W, x), x.T).T,
    "stablehlo.convolution": lambda x: jax.vmap(lambda r: jnp.convolve(r, jnp.ones(2, r.dtype)))(x),
    "arrays of complex<f32>": lambda x: jnp.abs(x.astype(jnp.complex64)),
    "stablehlo.reduce_window has no ONNX form here but for running sums": lambda x: jnp.cumprod(x, axis=1),
    "indexing of each row by its own index": lambda x: jnp.take_along_axis(x, jnp.argmax(x, 1)[:, None], 1),
    "this kind of indexing": lambda x: jnp.interp(x, jnp.arange(4.0), jnp.arange(4.0) ** 2),
    "indexing along the batch": lambda x: x[jnp.array([0, 0])],
    "decide as the bundle does: 'y' differs in 4 of": lambda x: jax.lax.top_k(x, 2)[0],  # a NaN is largest to JAX
    "decide as the bundle does: 'y' differs": lambda x: jnp.sum(
        x[:, :, None] - x[:, None], axis=(1, 2)
    ),  # pure rounding
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_does_not_convert_is_refused_by_name(tmp_path, said):
    bundle = shipped({"y": REFUSED[said]}, "float32", tmp_path / "b")
    assert said in make(bundle.path, None)["refused"]
    assert bundle.onnx_path is None
    assert not (bundle.path / "model.onnx").exists()


def test_what_the_runtime_lacks_is_refused(x64, tmp_path):
    bundle = shipped({"y": jnp.arctan}, "float64", tmp_path / "b")
    assert "ONNX Runtime can't run it" in make(bundle.path, None)["refused"]


def test_the_tolerance_is_the_users(tmp_path):
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    bundle = export_bundle(
        Exportable(lambda x: {"y": jnp.tanh(x @ array(W, x)) @ array(W, x)}, {"x": x}), tmp_path / "b"
    )
    worst = make(bundle.path, None)["largest_relative_difference"]
    assert 0 < worst < 1e-5
    assert "'y' differs in" in make(bundle.path, worst / 2)["refused"]
    assert "refused" not in make(bundle.path, worst * 1.01)
    for wrong in (-1.0, 1.0, float("nan")):
        with pytest.raises(UsageError, match="onnx_rtol must be at least 0 and below 1"):
            export_bundle(exportable(), tmp_path / "c", onnx=True, onnx_rtol=wrong)
    assert not (tmp_path / "c").exists()


# ---------------------------------------------------------------------------- in a process of its own


def test_a_bundle_with_onnx(tmp_path):
    bundle = export_bundle(exportable(), tmp_path / "b", onnx=True, platforms=("cpu", "cuda"))
    assert bundle.onnx_path == tmp_path / "b" / "model.onnx"
    assert bundle.manifest["onnx"]["rows_compared"] == 11
    assert bundle.manifest["onnx"]["largest_relative_difference"] < 1e-5
    assert "model.onnx" in (tmp_path / "b" / "SHA256SUMS").read_text()
    session = onnxruntime.InferenceSession(bundle.onnx_path.read_bytes())
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [("x", ["batch", 2], "tensor(float)")]
    assert [o.name for o in session.get_outputs()] == ["decoded", "bottom_mask", "provenance"]
    x = np.concatenate([rows(50), edges()])
    _, bottom, provenance = session.run(None, {"x": x})
    found = load_bundle(bundle.path)(x)
    assert np.array_equal(bottom, found["bottom_mask"])
    assert np.array_equal(provenance, found["provenance"])
    bundle.onnx_path.write_bytes(b"else")
    with pytest.raises(BundleError, match=r"model.onnx is damaged: 4 bytes instead of"):
        load_bundle(bundle.path)


def test_what_is_refused_leaves_nothing(tmp_path):
    function = Exportable(lambda x: {"y": jnp.sort(x, axis=1)}, {"x": rows()})
    with pytest.raises(BundleError, match=r"no ONNX model: stablehlo.sort has no ONNX form here. Nothing was exported"):
        export_bundle(function, tmp_path / "b", onnx=True)
    assert list(tmp_path.iterdir()) == []


def a_program(folder, text):
    """Something to run in place of Python."""
    path = folder / "program"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kill -SEGV $$", f"crashed (signal {int(signal.SIGSEGV)})"),
        ("echo 'ImportError: broken' >&2; exit 3", "crashed (exit code 3: ImportError: broken)"),
        ("echo nonsense", "crashed (exit code 0)"),
        ('echo \'ANSWER {"refused": "so"}\'', "no ONNX model: so."),
    ],
)
def test_a_crash_is_a_sentence(tmp_path, monkeypatch, text, said):
    monkeypatch.setattr(_onnx.sys, "executable", a_program(tmp_path, text))
    (tmp_path / "out").mkdir()
    with pytest.raises(BundleError) as caught:
        export_bundle(exportable(), tmp_path / "out" / "b", onnx=True)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert os.listdir(tmp_path / "out") == []


def test_a_process_that_hangs_or_does_not_start(made, tmp_path, monkeypatch):
    monkeypatch.setattr(_onnx.sys, "executable", a_program(tmp_path, "exec sleep 60"))
    with pytest.raises(BundleError, match=r"took more than 0.2 s and was given up"):
        _onnx.make_onnx(made.path, None, timeout=0.2)
    monkeypatch.setattr(_onnx.sys, "executable", str(tmp_path / "nothing"))
    with pytest.raises(BundleError, match="did not start"):
        _onnx.make_onnx(made.path, None)


def test_without_the_packages_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(_onnx.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hardgrad\[onnx\]'"):
        export_bundle(exportable(), tmp_path / "b", onnx=True)
