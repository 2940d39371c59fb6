"""How rollouts are run: memory, vmap, precision, compilation of the kernel, and what happens without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rollout_reference import EXPONENTS, FORMS

from hardgrad.core import UsageError
from hardgrad.oscillators import Saturation, rollout, rollout_form
from hardgrad.oscillators._compiled import _library
from hardgrad.oscillators._rollout._kernel_source import kernel_source

ALL = ["scan", *FORMS]


def energy(form: str, **options: Any) -> Any:
    def loss(c: Any, x0: Any, v0: Any) -> Any:
        x, v = rollout(EXPONENTS, c, x0, v0, form=form, **options)
        return jnp.sum(jnp.square(x)) + jnp.sum(v)

    return loss


def draw(*lead: int, frames: int = 9, dtype: Any = np.float32) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    shapes = (*lead, frames, len(EXPONENTS)), lead, lead
    return tuple(jnp.asarray(rng.normal(size=shape) * 0.1, dtype) for shape in shapes)


def scratch(form: str, samples: int, hop: int = 1, **options: Any) -> int:
    """Bytes a compiled gradient needs beside its arguments and results."""
    frames = (samples - 1) // hop + 1
    shapes = [(4, frames, 6), (4,), (4,)]
    gradient = jax.jit(jax.grad(energy(form, hop=hop, **options), argnums=(0, 1, 2)))
    compiled = gradient.lower(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)).compile()
    return int(compiled.memory_analysis().temp_size_in_bytes)


def test_memory_of_the_adjoint_is_bounded_by_segments() -> None:
    small, large = (scratch("adjoint", 64 * n + 1, segment=64) for n in (4, 16))
    whole = scratch("adjoint", 64 * 16 + 1)
    states = 4 * 4 * 64 * (16 - 4)  # bytes of the states of one kind that the larger one has more
    # x, v and their cotangents, in two orders of axes; nothing of the size of the coefficients
    assert large - small < 10 * states
    assert large < whole / 3


def test_memory_of_the_reference_is_bounded_by_segments() -> None:
    options = {"hop": 16, "saturation": Saturation("none")}
    small, large = (scratch("scan", 64 * n + 1, segment=64, **options) for n in (4, 16))
    assert large < 3 * small
    assert large < scratch("scan", 64 * 16 + 1, **options) / 4


@pytest.mark.parametrize("form", ALL)
@pytest.mark.usefixtures("x64")
def test_vmapped_seeds_are_one_batch(form: str) -> None:
    arrays = draw(4, 3, dtype=np.float64)
    gradient = jax.value_and_grad(energy(form), argnums=(0, 1, 2))
    together, alone = jax.jit(jax.vmap(gradient))(*arrays), jax.jit(gradient)
    in_turn = [alone(*(a[seed] for a in arrays)) for seed in range(4)]
    for ours, theirs in zip(jax.tree.leaves(together), zip(*map(jax.tree.leaves, in_turn), strict=True), strict=True):
        np.testing.assert_allclose(ours, np.stack(theirs), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_vmap_adds_no_loop(form: str) -> None:
    def program(function: Any, *lead: int) -> Any:
        text = jax.jit(jax.grad(function)).lower(*draw(*lead)).as_text()
        return [text.count(word) for word in ("stablehlo.while", "stablehlo.custom_call @hardgrad")], text

    counts, _ = program(energy(form), 12)
    vmapped, text = program(lambda *a: jnp.sum(jax.vmap(energy(form))(*a)), 4, 3)
    assert vmapped == counts
    assert max(counts) > 0
    assert "12x9x6xf32" in text


@pytest.mark.parametrize("form", FORMS)
def test_vmap_over_the_initial_state_alone(form: str) -> None:
    c, x0, v0 = draw(3)
    gradient = jax.grad(energy(form), argnums=1)
    found = jax.jit(jax.vmap(gradient, in_axes=(None, 0, None)))(c, jnp.stack([x0, 2 * x0]), v0)
    np.testing.assert_allclose(found[1], jax.jit(gradient)(c, 2 * x0, v0), rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"hop": 2, "substeps": 2, "interpolation": "linear"}])
@pytest.mark.parametrize("form", ALL)
@pytest.mark.usefixtures("x64")
def test_float32_stays_float32(form: str, options: dict[str, Any]) -> None:
    gradient = jax.value_and_grad(energy(form, **options), argnums=(0, 1, 2))
    assert {leaf.dtype for leaf in jax.tree.leaves(jax.eval_shape(gradient, *draw(2)))} == {jnp.dtype("float32")}
    assert "f64[" not in str(jax.make_jaxpr(gradient)(*draw(2)))


@pytest.mark.optimised  # rounding of C beside that of XLA as users have it
@pytest.mark.parametrize("form", FORMS)
def test_float32_is_as_near_as_float32_can_be(form: str) -> None:
    arrays = draw(5, frames=200)
    run = jax.jit(lambda form, *arrays: rollout(EXPONENTS, *arrays, form=form), static_argnums=0)
    for ours, theirs in zip(run(form, *arrays), run("scan", *arrays), strict=True):
        assert ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


def test_repeats_to_the_bit() -> None:
    arrays = draw(5, frames=50)
    for form in ALL:
        run = jax.jit(jax.grad(energy(form)))
        np.testing.assert_array_equal(run(*arrays), run(*arrays), err_msg=form)


def test_auto_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    named = rollout_form(EXPONENTS)
    assert named in FORMS
    text = jax.jit(lambda *a: rollout(EXPONENTS, *a)).lower(*draw(2)).as_text()
    assert ("@hardgrad_rollout" in text) == (named == "kernel")
    monkeypatch.setenv("HARDGRAD_NO_KERNEL", "1")
    assert rollout_form(EXPONENTS) == "adjoint"
    assert "@hardgrad_rollout" not in jax.jit(lambda *a: rollout(EXPONENTS, *a)).lower(*draw(2)).as_text()
    with pytest.raises(UsageError, match="HARDGRAD_NO_KERNEL is set"):
        rollout(EXPONENTS, *draw(2), form="kernel")


def test_the_kernel_is_for_float32_and_float64() -> None:
    assert rollout_form(EXPONENTS, jnp.bfloat16) == "adjoint"
    arrays = draw(2, dtype=jnp.bfloat16)
    with pytest.raises(UsageError, match="not bfloat16"):
        rollout(EXPONENTS, *arrays, form="kernel")
    assert rollout(EXPONENTS, *arrays)[0].dtype == jnp.bfloat16


def test_the_source_has_what_the_field_has() -> None:
    source = kernel_source(((2, 0),), "none", "float32")
    assert "#define TERMS 1\n" in source
    assert "/* FIELD */" not in source
    assert kernel_source(((2, 0),), "none", "float64") != source


PROGRAM = """
import jax.numpy as jnp
from hardgrad.core import UsageError
from hardgrad.oscillators import rollout, rollout_form
exponents = ((1, 0), (0, 1), (2, 3))
print(rollout_form(exponents))
arrays = jnp.full((2, 9, 3), -0.1), jnp.ones(2) / 4, jnp.zeros(2)
print(rollout(exponents, *arrays)[0].tolist())
try:
    rollout(exponents, *arrays, form="kernel")
except UsageError as error:
    print(error)
"""


def start(cache: Path, **environment: str) -> subprocess.Popen[str]:
    variables = {**os.environ, "XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu", **environment}
    variables["PYTHONPATH"] = str(Path(__file__).parents[2] / "src")
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_processes_that_compile_at_once_and_one_that_cannot(tmp_path: Path) -> None:
    together = [start(tmp_path), start(tmp_path)]
    without = start(tmp_path / "none", PATH="", CC="")
    (first, first_errors), (second, _), (lonely, lonely_errors) = (
        p.communicate(timeout=300) for p in (*together, without)
    )
    assert first == second
    assert first_errors == lonely_errors == ""  # silent
    if "kernel" in FORMS:
        assert first.startswith("kernel\n")
        (library,) = (tmp_path / "hardgrad" / "kernels").iterdir()  # one, and nothing left beside it
        assert library.suffix == ".so"
    form, values, error = lonely.splitlines()
    assert form == "adjoint"
    assert "no C compiler was found" in error
    np.testing.assert_allclose(json.loads(values), json.loads(first.splitlines()[1]), rtol=1e-5)


def test_a_folder_others_can_write_to_is_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "kernels"
    assert _library._private(folder)
    folder.chmod(0o777)
    assert not _library._private(folder)
    assert not _library._private(Path("/proc/nowhere"))


def test_a_compiler_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_library, "compiler", lambda: (sys.executable,))
    with pytest.raises(_library.CannotCompile, match="failed"):
        _library._compile("int x;", (), str(tmp_path), tmp_path / "made.so")
    assert list(tmp_path.iterdir()) == []
