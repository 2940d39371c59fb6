"""The pair of calls that a C program gives to JAX: a function and its gradient."""

from __future__ import annotations

import os
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

import jax
import numpy as np

from ._library import CannotCompile, load_library

OFF = "HARDGRAD_NO_KERNEL"
_COMPILING = Lock()
_CAPSULE: Any = jax.ffi.pycapsule


class Calls(NamedTuple):
    """Names for `jax.ffi.ffi_call`; or why there are none, as a sentence."""

    forward: str = ""
    backward: str = ""
    problem: str = ""


def place_problem(dtype: Any) -> str:
    """Why no kernel is used here, as a sentence; nothing if one may be."""
    if os.environ.get(OFF, "") not in ("", "0"):
        return f"{OFF} is set."
    if jax.default_backend() != "cpu":
        return f"it runs on a CPU, and the default platform is {jax.default_backend()}."
    name = np.dtype(dtype).name
    return "" if name in ("float32", "float64") else f"it is for float32 and float64, not {name}."


def calls_of(name: str, source: str) -> Calls:
    """Compile a program once, and register its functions ``{name}_forward`` and ``{name}_backward``."""
    with _COMPILING:
        return _calls_of(name, source)


@lru_cache(maxsize=128)
def _calls_of(name: str, source: str) -> Calls:
    try:
        digest, library = load_library(source, jax.ffi.include_dir())
    except CannotCompile as problem:
        return Calls(problem=str(problem))
    targets = {}
    for which in ("forward", "backward"):
        targets[which] = f"hardgrad_{name}_{which}_{digest}"
        capsule = _CAPSULE(getattr(library, f"{name}_{which}"))
        jax.ffi.register_ffi_target(targets[which], capsule, platform="cpu")
    return Calls(**targets)
