"""Selective state-space blocks: r ← r + Mixer(RMSNorm(r)).

    Mixer, with D = d_model, E·D inner channels, N = d_state, R = ⌈D/16⌉:
        (u, g) = W_in r                                    no bias
        u      = SiLU(causal depth-wise convolution of u)  width d_conv, with bias
        (δ, B, C) = W_x u,   Δ = softplus(W_Δ δ + b_Δ)     R, N and N numbers a moment
        y      = selective_scan(u, Δ, -exp(A_log), B, C, D_skip)
        W_out (y · SiLU(g))                                no bias

A block only looks back, so it is a recurrence over chunks of time: `advance` takes the state that the previous chunk
left. On a CPU with a C compiler it is one kernel (``_block.c``), compiled when first used, which costs a fifth of the
same in XLA's operations; those are there for every other machine and as its reference.

Inside, arrays are ``[channels, time, batch]``.

Sources: Gu & Dao 2023, arXiv:2312.00752; Zhang & Sennrich 2019, arXiv:1910.07467 (RMSNorm); the published system.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Key

from ...core import UsageError, whole_number
from ._block import Sizes, block_problem, run_block
from ._selective_scan import FORMS, resolved, scan_over_time

EPSILON = 1e-5  # of the norm


class BlockState(NamedTuple):
    """What a block remembers: the scan's state and the last inputs of its convolution."""

    scan: Float[Array, "*groups n channels batch"]
    tail: Float[Array, "*groups channels taps batch"]


class MambaBlock(eqx.Module):
    """One residual layer, r + Mixer(RMSNorm(r)).

    Attributes:
        gain: of the norm, ``[D]``.
        in_weight: W_in, ``[2·E·D, D]``: inner channels, then their gates.
        conv_weight: depth-wise taps, the oldest first, ``[E·D, d_conv]``.
        conv_bias: ``[E·D]``.
        selection_weight: W_x, ``[R + 2N, E·D]``.
        step_weight: W_Δ, ``[E·D, R]``.
        step_bias: b_Δ, ``[E·D]``.
        log_rate: A_log, ``[E·D, N]``.
        skip: D_skip, ``[E·D]``.
        out_weight: W_out, ``[D, E·D]``.

    Linear layers and the convolution start uniform in ±1/√fan-in, W_Δ in ±1/√R; A_log is ln(1…N), D_skip and the gain
    are 1; b_Δ gives steps Δ drawn log-uniformly from [1e-3, 1e-1].

    Args:
        d_model: D.
        d_state: N.
        expand: E.
        d_conv: width of the convolution.

    Raises:
        UsageError: a size is no whole number of at least 1.

    Examples:
        >>> from hardgrad.core import count_parameters
        >>> block = MambaBlock(2, key=jax.random.key(0))
        >>> block(jnp.zeros((5, 100, 2))).shape, count_parameters(block)
        ((5, 100, 2), 542)
    """

    gain: Float[Array, "*groups D"]
    in_weight: Float[Array, "*groups two_inner D"]
    conv_weight: Float[Array, "*groups inner taps"]
    conv_bias: Float[Array, "*groups inner"]
    selection_weight: Float[Array, "*groups selected inner"]
    step_weight: Float[Array, "*groups inner R"]
    step_bias: Float[Array, "*groups inner"]
    log_rate: Float[Array, "*groups inner n"]
    skip: Float[Array, "*groups inner"]
    out_weight: Float[Array, "*groups D inner"]

    def __init__(
        self,
        d_model: int = 2,
        *,
        d_state: int = 4,
        expand: int = 10,
        d_conv: int = 4,
        key: Key[Array, ""],
        dtype: Any = jnp.float32,
    ):
        d_model = whole_number("d_model", d_model, least=1)
        d_state = whole_number("d_state", d_state, least=1)
        inner = whole_number("expand", expand, least=1) * d_model
        d_conv = whole_number("d_conv", d_conv, least=1)
        rank = math.ceil(d_model / 16)
        keys = iter(jax.random.split(key, 7))

        def uniform(*shape: int, fan_in: int) -> Array:
            bound = fan_in**-0.5
            return jax.random.uniform(next(keys), shape, dtype, -bound, bound)

        self.gain = jnp.ones(d_model, dtype)
        self.in_weight = uniform(2 * inner, d_model, fan_in=d_model)
        self.conv_weight = uniform(inner, d_conv, fan_in=d_conv)
        self.conv_bias = uniform(inner, fan_in=d_conv)
        self.selection_weight = uniform(rank + 2 * d_state, inner, fan_in=inner)
        self.step_weight = uniform(inner, rank, fan_in=rank)
        self.out_weight = uniform(d_model, inner, fan_in=inner)
        log_step = jax.random.uniform(next(keys), (inner,), dtype, math.log(1e-3), math.log(1e-1))
        step = jnp.maximum(jnp.exp(log_step), 1e-4)
        self.step_bias = step + jnp.log(-jnp.expm1(-step))  # the inverse of softplus
        self.log_rate = jnp.tile(jnp.log(jnp.arange(1, d_state + 1, dtype=dtype)), (inner, 1))
        self.skip = jnp.ones(inner, dtype)

    def start(self, batch: int) -> BlockState:
        """The state before any input: zeros."""
        inner, n = self.log_rate.shape
        taps = self.conv_weight.shape[1] - 1
        dtype = self.gain.dtype
        return BlockState(jnp.zeros((n, inner, batch), dtype), jnp.zeros((inner, taps, batch), dtype))

    def advance(
        self, state: BlockState, r: Float[Array, "D time batch"], *, form: str = "auto"
    ) -> tuple[BlockState, Float[Array, "D time batch"]]:
        """The state after a chunk of inputs, and the chunk's outputs.

        Args:
            state: before the chunk.
            r: the chunk.
            form: ``"kernel"`` is the whole block in C, compiled when first used, on a CPU; others are those of
                `selective_scan`. ``"auto"`` takes the kernel where there is a compiler for it.

        Raises:
            UsageError: another form, or a kernel that is asked for and cannot be had.
        """
        form = self.resolved(form)
        if form == "kernel":
            return self._in_c(state, r)
        time, (inner, taps) = r.shape[1], self.conv_weight.shape
        n = self.log_rate.shape[1]
        rank = self.step_weight.shape[1]

        normed = r * lax.rsqrt(jnp.mean(r * r, axis=0) + EPSILON) * _column(self.gain)
        wide = jnp.einsum("oi,itb->otb", self.in_weight, normed)
        past = jnp.concatenate([state.tail, wide[:inner]], axis=1)
        u = _column(self.conv_bias)
        for tap in range(taps):
            u = u + _column(self.conv_weight[:, tap]) * past[:, tap : tap + time]
        u = jax.nn.silu(u)
        selected = jnp.einsum("oi,itb->otb", self.selection_weight, u)
        step = jnp.einsum("oi,itb->otb", self.step_weight, selected[:rank]) + _column(self.step_bias)
        y, scan = scan_over_time(
            jnp.swapaxes(u, 0, 1),
            jnp.swapaxes(jax.nn.softplus(step), 0, 1),
            jnp.swapaxes(selected[rank : rank + n], 0, 1),
            jnp.swapaxes(selected[rank + n :], 0, 1),
            -jnp.exp(self.log_rate),
            state.scan,
            form=form,
        )
        y = jnp.swapaxes(y, 0, 1) + _column(self.skip) * u
        out = jnp.einsum("oi,itb->otb", self.out_weight, y * jax.nn.silu(wide[inner:]))
        return BlockState(scan, past[:, time:]), r + out

    def __call__(self, r: Float[Array, "batch time D"]) -> Float[Array, "batch time D"]:
        """Outputs of a whole input, from a state of zeros."""
        _, out = self.advance(self.start(r.shape[0]), r.T)
        return out.T

    @property
    def sizes(self) -> Sizes:
        """Of a block, or of each of several whose arrays are stacked."""
        (inner, taps), (_, rank) = self.conv_weight.shape[-2:], self.step_weight.shape[-2:]
        return Sizes(self.gain.shape[-1], inner, self.log_rate.shape[-1], taps, rank)

    def resolved(self, form: str) -> str:
        """The form that ``"auto"`` stands for here.

        Raises:
            UsageError: another form, or a kernel that is asked for and cannot be had.
        """
        if form not in ("kernel", *FORMS):
            raise UsageError(f"form is one of kernel, {', '.join(FORMS)}; got {form!r}.")
        if form not in ("auto", "kernel"):
            return form
        problem = block_problem(self.sizes, self.gain.dtype)
        if form == "kernel" and problem:
            raise UsageError(f'form "kernel" cannot be used: {problem} Use form="chunked".')
        return resolved("auto") if problem else "kernel"

    def in_order(self) -> Float[Array, " params"]:
        """All parameters in the order of the kernel, rates A instead of A_log."""
        parts = [self.gain, self.in_weight, self.conv_weight, self.conv_bias, self.selection_weight]
        parts += [self.step_weight, self.step_bias, -jnp.exp(self.log_rate), self.skip, self.out_weight]
        return jnp.concatenate([part.reshape(-1) for part in parts])

    def _in_c(self, state: BlockState, r: Array) -> tuple[BlockState, Array]:
        batch, scanned = r.shape[-1], state.scan.size // r.shape[-1]
        joined = jnp.concatenate([state.scan.reshape(-1, batch), state.tail.reshape(-1, batch)])
        out, last = run_block(self.sizes, self.in_order(), r, joined)
        return BlockState(last[:scanned].reshape(state.scan.shape), last[scanned:].reshape(state.tail.shape)), out


class MambaStack(eqx.Module):
    """Blocks in sequence.

    Args:
        d_model: channels of input and output.
        n_layers: number of blocks.
        sizes: of each block: `d_state`, `expand` and `d_conv` of `MambaBlock`.

    Raises:
        UsageError: a size is no whole number of at least 1.
    """

    blocks: tuple[MambaBlock, ...]

    def __init__(
        self, d_model: int = 2, *, n_layers: int = 3, key: Key[Array, ""], dtype: Any = jnp.float32, **sizes: int
    ):
        keys = jax.random.split(key, whole_number("n_layers", n_layers, least=1))
        self.blocks = tuple(MambaBlock(d_model, key=key, dtype=dtype, **sizes) for key in keys)

    def start(self, batch: int) -> tuple[BlockState, ...]:
        """The state before any input: zeros."""
        return tuple(block.start(batch) for block in self.blocks)

    def advance(
        self, state: tuple[BlockState, ...], r: Float[Array, "D time batch"], *, form: str = "auto"
    ) -> tuple[tuple[BlockState, ...], Float[Array, "D time batch"]]:
        """The state after a chunk of inputs, and the chunk's outputs."""
        after = []
        for block, before in zip(self.blocks, state, strict=True):
            one, r = block.advance(before, r, form=form)
            after.append(one)
        return tuple(after), r

    def __call__(self, r: Float[Array, "batch time D"]) -> Float[Array, "batch time D"]:
        """Outputs of a whole input, from a state of zeros."""
        _, out = self.advance(self.start(r.shape[0]), r.T)
        return out.T


def _column(weights: Array) -> Array:
    return weights[:, None, None]
