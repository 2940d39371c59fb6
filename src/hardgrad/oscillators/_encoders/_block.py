"""A block as a C kernel, forwards and backwards, called through JAX's foreign-function interface.

Compiled for one set of sizes and one dtype when it is first asked for. It takes a whole input at once: the state it
keeps every few samples is all that is stored for the gradient, the rest is computed again in the cache. Groups, and
seeds under `jax.vmap`, are rows of one call, shared among the threads of XLA.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._compiled import Calls, calls_of, merging, place_problem

VECTOR = 64  # bytes
_CACHE = 1 << 19  # bytes that a span's samples may take
_SHAPE: Any = jax.ShapeDtypeStruct


class Sizes(NamedTuple):
    """What a kernel is compiled for."""

    d_model: int
    inner: int
    d_state: int
    taps: int
    rank: int

    @property
    def state(self) -> int:
        """Numbers a sound that a block remembers."""
        return self.inner * (self.d_state + self.taps - 1)

    @property
    def span(self) -> int:
        """Samples between kept states, so many that what they leave for the gradient fits the cache."""
        sample = VECTOR * (10 + 3 * self.d_model + self.inner * (9 + 2 * self.d_state))
        return int(min(max(_CACHE // sample, 4), 32))


def block_problem(sizes: Sizes, dtype: Any) -> str:
    """Why the kernel cannot be used here, as a sentence; nothing if it can. Compiles it."""
    return place_problem(dtype) or _calls(sizes, np.dtype(dtype).name).problem


_REAL = {"float32": ("float", "int32_t"), "float64": ("double", "int64_t")}


def block_source(sizes: Sizes, dtype: str) -> str:
    """The C program."""
    real, integer = _REAL[dtype]
    names = {"REAL": real, "INTEGER": integer, "D": sizes.d_model, "INNER": sizes.inner, "N": sizes.d_state}
    names |= {"TAPS": sizes.taps, "RANK": sizes.rank, "SPAN": sizes.span}
    front = "".join(f"#define {name} {value}\n" for name, value in names.items())
    return front + Path(__file__).with_name("_block.c").read_text(encoding="utf-8")


@lru_cache(maxsize=64)
def _calls(sizes: Sizes, dtype: str) -> Calls:
    return calls_of("block", block_source(sizes, dtype))


@lru_cache(maxsize=64)
def kernel_block(sizes: Sizes, dtype: str) -> Any:
    """A function of rows of params ``[rows, PARAMS]``, inputs ``[rows, time, D, batch]`` and states
    ``[rows, STATE, batch]``, to outputs and states; with its own gradient. `block_problem` must have found none.
    """
    calls = _calls(sizes, dtype)
    lanes = VECTOR // np.dtype(dtype).itemsize

    def like(array: Array) -> Any:
        return _SHAPE(array.shape, array.dtype)

    @merging
    def plain(params: Array, r: Array, state: Array) -> Any:
        return tuple(jax.ffi.ffi_call(calls.forward, (like(r), like(state)))(params, r, state))

    @merging
    def keeping(params: Array, r: Array, state: Array) -> Any:
        rows, time, _, batch = r.shape
        spans, tiles = -(-time // sizes.span), -(-batch // lanes)
        kept = _SHAPE((rows, tiles, spans, sizes.state * lanes), r.dtype)
        return tuple(jax.ffi.ffi_call(calls.forward, (like(r), like(state), kept))(params, r, state))

    @merging
    def backward(params: Array, r: Array, kept: Array, out_bar: Array, last_bar: Array) -> Any:
        of_tiles = _SHAPE((params.shape[0], kept.shape[1], params.shape[1]), params.dtype)
        call = jax.ffi.ffi_call(calls.backward, (of_tiles, like(r), like(last_bar)))
        params_bar, r_bar, state_bar = call(params, r, kept, out_bar, last_bar)
        return jnp.sum(params_bar, axis=1), r_bar, state_bar

    @jax.custom_vjp
    def block(params: Array, r: Array, state: Array) -> Any:
        return plain(params, r, state)

    def first(params: Array, r: Array, state: Array) -> Any:
        out, last, kept = keeping(params, r, state)
        return (out, last), (params, r, kept)

    def second(residuals: Any, cotangents: Any) -> Any:
        return backward(*residuals, *cotangents)

    block.defvjp(first, second)
    return block


def run_block(
    sizes: Sizes,
    params: Float[Array, " params"],
    r: Float[Array, "D time batch"],
    state: Float[Array, "state batch"],
) -> tuple[Float[Array, "D time batch"], Float[Array, "state batch"]]:
    """Outputs and the state after them."""
    block = kernel_block(sizes, r.dtype.name)
    out, last = block(params[None], jnp.swapaxes(r, 0, 1)[None], state[None])
    return jnp.swapaxes(out[0], 0, 1), last[0]
