"""The published encoder: selective state-space stacks that read a sound backwards, then forwards.

    r = [x, v] of [reversed, forward] along time  →  stack of blocks  →  second half  →  linear head

with one stack and one head for each group of outputs. Every output has seen the whole input.

Stacks are recurrences over chunks of time (`MambaStack.advance`): training and the extraction of drives from files of
any length run the same code. Source: the published system.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from ...core import UsageError, whole_number
from ._mamba import MambaStack
from ._selective_scan import SPAN


class MambaEncoder(eqx.Module):
    """Raw drives of a sound, from one stack and one linear head for each group of outputs.

    Not causal: the stacks read the time-reversed input first, then the input, and the outputs of the second half are
    kept. The stacks never see each other; they run side by side, their arrays stacked.

    Attributes:
        stacks: one `MambaStack` whose arrays have a leading axis of groups.
        heads: a linear layer from d_model to the outputs of each group.
        form: how blocks are computed, see `MambaBlock.advance`.

    Args:
        groups: how many outputs each stack gives; ``(1, 1, P*P)`` for a polynomial field of order P - 1,
            ``(1, 1, 1)`` for the syrinx.
        d_model: channels of the stacks, of which 2 are fed: x and v. More are 0 at first.
        n_layers: blocks of each stack. The defaults of all sizes are the published ones: 1626 parameters a stack, its
            head not counted.
        d_state: states of an inner channel.
        expand: inner channels a channel.
        d_conv: taps of the convolution.

    Raises:
        UsageError: a size is no whole number in range, or there are no groups.

    Examples:
        >>> encoder = MambaEncoder((1, 1, 16), key=jax.random.key(0))
        >>> encoder(jnp.zeros((4, 50)), jnp.zeros((4, 50))).shape
        (4, 50, 18)
    """

    stacks: MambaStack
    heads: tuple[eqx.nn.Linear, ...]
    form: str = eqx.field(static=True)

    def __init__(
        self,
        groups: tuple[int, ...],
        *,
        d_model: int = 2,
        n_layers: int = 3,
        d_state: int = 4,
        expand: int = 10,
        d_conv: int = 4,
        form: str = "auto",
        key: Key[Array, ""],
        dtype: Any = jnp.float32,
    ):
        if not groups:
            raise UsageError("groups names how many outputs each stack gives, such as (1, 1, 16); got none.")
        groups = tuple(whole_number("groups", size, least=1) for size in groups)
        d_model = whole_number("d_model", d_model, least=2)
        of_stacks, of_heads = jax.random.split(key)

        def stack(key: Any) -> MambaStack:
            return MambaStack(
                d_model, n_layers=n_layers, d_state=d_state, expand=expand, d_conv=d_conv, key=key, dtype=dtype
            )

        self.stacks = _drawn(jax.random.split(of_stacks, len(groups)), stack)
        keys = jax.random.split(of_heads, len(groups))
        self.heads = tuple(
            eqx.nn.Linear(d_model, size, dtype=dtype, key=key) for size, key in zip(groups, keys, strict=True)
        )
        self.form = form
        if form != "auto":
            self.stacks.blocks[0].resolved(form)

    @property
    def outputs(self) -> int:
        """Numbers a moment."""
        return sum(int(head.out_features) for head in self.heads)

    def __call__(
        self, x: Float[Array, "batch time"], v: Float[Array, "batch time"]
    ) -> Float[Array, "batch time outputs"]:
        """Raw drives of sounds `x` with velocities `v`, in the parameters' dtype."""
        forward = self._inputs(x, v)
        time = forward.shape[1]
        both = jnp.concatenate([forward[:, ::-1], forward], axis=1)
        start = self._start(x.shape[0])
        if self.stacks.blocks[0].resolved(self.form) == "chunked":
            out = self._in_chunks(start, both)
        else:
            _, out = self._advance(start, both)
        return self._heads(out[:, :, time:])

    def _in_chunks(self, state: Any, r: Array) -> Array:
        """Outputs ``[groups, D, time, batch]`` of which the second half of time is right.

        All layers take a chunk before the next, so that it stays in the cache and is computed again there for the
        gradient. Of the first half only the states are needed: the last layer's outputs are not even computed.
        """
        time = r.shape[1]
        chunks = -(-time // SPAN)
        first = time // 2 // SPAN  # the first chunk with outputs that are kept
        padded = jnp.pad(r, [(0, 0), (0, chunks * SPAN - time), (0, 0)])
        cut = jnp.moveaxis(padded.reshape(r.shape[0], chunks, SPAN, -1), 1, 0)

        @jax.checkpoint
        def advance(state: Any, r: Array) -> Any:
            return self._advance(state, r)

        state, _ = lax.scan(lambda state, r: (advance(state, r)[0], None), state, cut[:first])
        _, out = lax.scan(advance, state, cut[first:])
        out = out.transpose(1, 2, 0, 3, 4).reshape(*out.shape[1:3], -1, out.shape[-1])
        return jnp.pad(out, [(0, 0), (0, 0), (first * SPAN, 0), (0, 0)])[:, :, :time]

    def stream(
        self, x: Float[np.ndarray, "batch time"], v: Float[np.ndarray, "batch time"], chunk_size: int
    ) -> Iterator[Float[np.ndarray, "batch _ outputs"]]:
        """What the encoder gives for the whole input, piece by piece in bounded memory; see `encode_stream`."""
        time = x.shape[1]
        chunk_size = min(chunk_size, 1 << (2 * time - 1).bit_length())  # not much more than there is
        state = self._start(x.shape[0])

        def piece(begin: int) -> Any:
            # A chunk of [reversed, forward, zeros].
            at = np.arange(begin, begin + chunk_size)
            at, beyond = np.where(at < time, time - 1 - at, at - time), at >= 2 * time
            at = np.where(beyond, 0, at)
            return self._inputs(*(jnp.asarray(np.where(beyond, 0, part[:, at])) for part in (x, v)))

        for begin in range(0, 2 * time, chunk_size):
            if begin + chunk_size <= time:
                state = _advanced(self, state, piece(begin))
                continue
            state, raw = _encoded(self, state, piece(begin))
            yield np.asarray(raw)[:, max(time - begin, 0) : 2 * time - begin]

    def with_constant_outputs(self, values: Mapping[int, float]) -> MambaEncoder:
        """A copy whose outputs of these indices start constant: their row of the head 0, their bias the value.

        Raises:
            UsageError: there is no such output.
        """
        heads, begin = [], 0
        for head in self.heads:
            weight, bias = _affine(head)
            for row in range(len(bias)):
                if begin + row in values:
                    weight, bias = weight.at[row].set(0.0), bias.at[row].set(values[begin + row])
            heads.append(eqx.tree_at(lambda head: (head.weight, head.bias), head, (weight, bias)))
            begin += len(bias)
        for index in values:
            if not 0 <= index < begin:
                raise UsageError(f"the encoder has no output {index}; its {begin} outputs count from 0.")
        changed: MambaEncoder = eqx.tree_at(lambda encoder: encoder.heads, self, tuple(heads))
        return changed

    def _inputs(self, x: Array, v: Array) -> Array:
        """``[D, time, batch]``."""
        weight = self.heads[0].weight
        fed = jnp.stack([x.T, v.T]).astype(weight.dtype)
        return jnp.pad(fed, [(0, weight.shape[1] - 2), (0, 0), (0, 0)])

    def _start(self, batch: int) -> Any:
        return eqx.filter_vmap(lambda stack: stack.start(batch))(self.stacks)

    def _advance(self, state: Any, r: Array) -> Any:
        def one(stack: MambaStack, state: Any) -> Any:
            return stack.advance(state, r, form=self.form)

        return eqx.filter_vmap(one)(self.stacks, state)

    def _heads(self, out: Array) -> Array:
        """Raw drives ``[batch, time, outputs]`` of outputs ``[groups, D, time, batch]``."""
        affine = zip(map(_affine, self.heads), out, strict=True)
        parts = [jnp.einsum("od,dtb->bto", weight, r) + bias for (weight, bias), r in affine]
        return jnp.concatenate(parts, axis=-1)


def _drawn(keys: Array, stack: Callable[[Any], MambaStack]) -> MambaStack:
    """Stacks side by side, drawn one after the other: their draws are of few shapes, each compiled once."""
    found: MambaStack
    if isinstance(keys, jax.core.Tracer):
        found = eqx.filter_vmap(stack)(keys)
    else:
        found = jax.tree.map(lambda *arrays: jnp.stack(arrays), *map(stack, keys))
    return found


@eqx.filter_jit
def _advanced(encoder: MambaEncoder, state: Any, r: Array) -> Any:
    return encoder._advance(state, r)[0]


@eqx.filter_jit
def _encoded(encoder: MambaEncoder, state: Any, r: Array) -> Any:
    state, out = encoder._advance(state, r)
    return state, encoder._heads(out)


def _affine(head: eqx.nn.Linear) -> tuple[Array, Array]:
    assert head.bias is not None
    return head.weight, head.bias
