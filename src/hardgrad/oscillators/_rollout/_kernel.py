"""The rollout as a C kernel, forwards and backwards, called through JAX's foreign-function interface.

Compiled for one field, one kind of bounds and one dtype when it is first asked for; bounds, hop and sub-steps are
arguments. It takes and gives arrays as they are, batch first, so that nothing is laid out anew around it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from .._compiled import Calls, calls_of, place_problem
from .._fields import Exponents
from ._differentiable import Forward, differentiable
from ._kernel_source import kernel_source
from ._saturation import KNEE, REST
from ._scheme import Scheme


def kernel_problem(exponents: Exponents, kind: str, dtype: Any) -> str:
    """Why the kernel cannot be used here, as a sentence; nothing if it can. Compiles it."""
    return place_problem(dtype) or _calls(exponents, kind, np.dtype(dtype).name).problem


@lru_cache(maxsize=64)
def _calls(exponents: Exponents, kind: str, dtype: str) -> Calls:
    return calls_of("rollout", kernel_source(exponents, kind, dtype))


@lru_cache(maxsize=64)
def kernel_rollout(scheme: Scheme, dtype: Any) -> Forward:
    """A function of coefficients ``[batch, frames, terms]``, x0 and v0, with its own gradient.

    `kernel_problem` must have found none.
    """
    calls = _calls(scheme.exponents, scheme.saturation.kind, np.dtype(dtype).name)
    bounds = scheme.saturation
    knee, rest = (KNEE, REST) if bounds.kind == "knee" else (0.0, 1.0)
    settings = {
        "hop": np.int64(scheme.hop),
        "substeps": np.int64(scheme.substeps),
        "linear": np.int64(scheme.linear),
        "bound_x": np.float64(bounds.x_bound),
        "bound_v": np.float64(bounds.v_bound),
        "knee": np.float64(knee),
        "rest": np.float64(rest),
    }

    def shaped(*shapes: tuple[int, ...]) -> list[Any]:
        return [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]  # type: ignore[no-untyped-call]

    def forward(coefficients: Array, x0: Array, v0: Array) -> tuple[Array, Array]:
        states = (coefficients.shape[0], scheme.samples)
        x, v = jax.ffi.ffi_call(calls.forward, shaped(states, states))(coefficients, x0, v0, **settings)
        return x, v

    def backward(coefficients: Array, x: Array, v: Array, by_x: Array, by_v: Array) -> tuple[Array, Array, Array]:
        shapes = shaped(coefficients.shape, x.shape[:1], x.shape[:1])
        found = jax.ffi.ffi_call(calls.backward, shapes)(coefficients, x, v, by_x, by_v, **settings)
        return found[0], found[1], found[2]

    return differentiable(forward, backward)
