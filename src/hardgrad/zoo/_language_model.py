"""A model of the next character: a short look back, S5 blocks for all that is further, and what uses it.

    x = E[c_t] + GLU(W (e[c_t], e[c_{t-1}], ..., e[c_{t-k+1}]))     the last k characters, k = reach
    x = S5Block(x), a few times
    logits = E · norm(x) + b                                       E is used twice

A diagonal recurrence keeps the past as slow averages and cannot tell the last characters apart at once; the short
convolution in front can, as it does in later state-space models (Gu & Dao 2023, arXiv:2312.00752). Sharing E: Press &
Wolf 2017, arXiv:1608.05859.

The model is no `Network`, as its dropout needs keys and its state is handed from window to window.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int, Key, UInt8
from numpy.typing import NDArray

from ..core import UsageError, whole_number
from ..spiking import S5, S5Block
from ._language_text import BOUNDARY

_NEAR = 32  # numbers for each character of the short look back
_PIECE = 1024  # characters read at once
_STEPS = (0.01, 1.0)
# Of an S5 at first: memories of 2 to 200 characters. Slower ones never settle within a window of training, and a longer
# text would take them where they have never been.
Symbols = Int[Array, "batch time"] | UInt8[Array, "batch time"]


class CharacterModel(eqx.Module):
    """Symbols ``[batch, time]`` to logits of the next ones ``[batch, time, symbols]``.

    Attributes:
        embedding: E ``[symbols, width]``.
        near: e ``[symbols, 32]``.
        near_weight: W ``[reach · 32, 2 · width]``, the oldest character first.
        blocks: the S5 blocks.
        gain: of the last norm ``[width]``.
        bias: b ``[symbols]``.
        dropout: of the first block's input and of the last norm.

    Args:
        symbols: how many there are.
        width: channels.
        states: complex states of each block.
        layers: S5 blocks.
        reach: characters of the short look back, the present one included.
        dropout: probability that an entry is left out, in blocks and around them.
        key: of the draw.
    """

    embedding: Float[Array, "symbols width"]
    near: Float[Array, "symbols near"]
    near_weight: Float[Array, "reach_near two_width"]
    blocks: tuple[S5Block, ...]
    gain: Float[Array, " width"]
    bias: Float[Array, " symbols"]
    dropout: eqx.nn.Dropout

    def __init__(
        self,
        symbols: int,
        *,
        width: int,
        states: int,
        layers: int,
        reach: int,
        dropout: float,
        key: Key[Array, ""],
    ):
        for_far, for_near, for_weight, *for_blocks = jax.random.split(key, 3 + layers)
        self.embedding = jax.random.normal(for_far, (symbols, width)) / math.sqrt(width)
        self.near = jax.random.normal(for_near, (symbols, _NEAR))
        fan_in = reach * _NEAR
        self.near_weight = jax.random.normal(for_weight, (fan_in, 2 * width)) / math.sqrt(fan_in)
        self.blocks = tuple(_block(width, states, dropout, key) for key in for_blocks)
        self.gain, self.bias = jnp.ones(width), jnp.zeros(symbols)
        self.dropout = eqx.nn.Dropout(dropout)

    def init_state(self, batch: int) -> Any:
        """The state at the beginning of a text: `BOUNDARY` lies before it."""
        reach = self.near_weight.shape[0] // _NEAR
        past = jnp.full((batch, reach - 1), BOUNDARY, jnp.int32)
        return past, tuple(block.init_state(batch) for block in self.blocks)

    def advance(
        self, state: Any, symbols: Symbols, *, key: Key[Array, ""] | None = None
    ) -> tuple[Any, Float[Array, "batch time symbols"]]:
        """Many characters at once: the state after them, and the logits of what follows each.

        Args:
            state: as `init_state` or a call before returned it.
            symbols: the characters.
            key: of the dropout; None leaves nothing out.
        """
        past, before = state
        keys = [None] * (2 + len(self.blocks)) if key is None else list(jax.random.split(key, 2 + len(self.blocks)))
        time, reach = symbols.shape[1], past.shape[1] + 1
        seen = jnp.concatenate([past, symbols.astype(jnp.int32)], axis=1)
        near = self.near[seen]
        window = jnp.concatenate([near[:, i : i + time] for i in range(reach)], axis=-1)
        value, gate = jnp.split(window @ self.near_weight, 2, axis=-1)
        width = self.embedding.shape[1]
        x = math.sqrt(width) * self.embedding[seen[:, reach - 1 :]] + value * jax.nn.sigmoid(gate)
        x = self._thinned(x, keys[0])
        after = []
        for block, one, sub in zip(self.blocks, before, keys[2:], strict=True):
            one, x = block.advance(one, x, key=sub)
            after.append(one)
        x = x * lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + 1e-5) * self.gain
        x = self._thinned(x, keys[1])
        return (seen[:, time:], tuple(after)), x @ self.embedding.T + self.bias

    def _thinned(self, x: Array, key: Key[Array, ""] | None) -> Array:
        return x if key is None else self.dropout(x, key=key)


def _block(width: int, states: int, dropout: float, key: Key[Array, ""]) -> S5Block:
    for_mixer, for_gate = jax.random.split(key)
    mixer = S5(width, states, step_min=_STEPS[0], step_max=_STEPS[1], key=for_mixer)
    return S5Block(width, mixer=mixer, dropout=dropout, key=for_gate)


class NextCharacter(eqx.Module):
    """Mean cross-entropy of the next character, in nats, as an objective on rows of symbols.

    Of each row a window is used, anywhere in it, so that an epoch sees other windows than the one before.

    Attributes:
        window: characters told in a window; rows are longer.
    """

    window: int = eqx.field(static=True)

    def __call__(self, model: CharacterModel, batch: Symbols, controls: Any, key: Key[Array, ""]) -> Any:
        """The loss, and bits a character."""
        del controls
        rows, length = batch.shape
        if length <= self.window:
            raise UsageError(f"rows must be longer than the window of {self.window} characters, got {length}.")
        for_place, for_dropout = jax.random.split(key)
        place = jax.random.randint(for_place, (rows, 1), 0, length - self.window)
        windows = jnp.take_along_axis(batch, place + jnp.arange(self.window + 1), axis=1).astype(jnp.int32)
        _, logits = model.advance(model.init_state(rows), windows[:, :-1], key=for_dropout)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:]).mean()
        return loss, {"bits": loss / math.log(2)}


def read(model: CharacterModel, stream: NDArray[Any]) -> NDArray[np.float64]:
    """-log₂ p of each symbol of a stream but the first, ``[time - 1]``, the whole past being known.

    Args:
        model: the model.
        stream: symbols ``[time]``, read in pieces whose last states are handed on.
    """
    count = len(stream) - 1
    pieces = -(-count // _PIECE)
    padded = np.zeros(pieces * _PIECE + 1, np.int32)
    padded[: count + 1] = stream
    given, told = (jnp.asarray(part.reshape(pieces, 1, _PIECE)) for part in (padded[:-1], padded[1:]))
    found = _read(eqx.nn.inference_mode(model), given, told)
    return np.asarray(found, np.float64).reshape(-1)[:count] / math.log(2)


@eqx.filter_jit
def _read(model: CharacterModel, given: Any, told: Any) -> Any:
    def piece(state: Any, pair: Any) -> Any:
        state, logits = model.advance(state, pair[0])
        return state, optax.softmax_cross_entropy_with_integer_labels(logits, pair[1])

    return lax.scan(piece, model.init_state(1), (given, told))[1]


def write(
    model: CharacterModel, start: NDArray[Any], count: int, *, temperature: float, key: Key[Array, ""]
) -> NDArray[np.int32]:
    """Characters drawn one after another, each from what the model says after all before it.

    Args:
        model: the model.
        start: symbols ``[time]`` it reads first, at least one.
        count: how many to draw.
        temperature: 1 draws from the model's distribution, less from a sharper one; above 0.
        key: of the draws.
    """
    count = whole_number("count", count, least=1)
    if not (temperature > 0 and len(start)):
        raise UsageError(f"temperature must be above 0 and start not empty, got {temperature!r} and {len(start)}.")
    drawn = _write(eqx.nn.inference_mode(model), jnp.asarray(start, jnp.int32)[None], count, temperature, key)
    return np.asarray(drawn)


@eqx.filter_jit
def _write(model: CharacterModel, start: Any, count: int, temperature: float, key: Any) -> Any:
    def draw(carry: Any, key: Any) -> Any:
        state, logits = carry
        symbol = jax.random.categorical(key, logits / temperature)
        state, logits = model.advance(state, symbol[:, None])
        return (state, logits[:, -1]), symbol[0]

    state, logits = model.advance(model.init_state(1), start)
    return lax.scan(draw, (state, logits[:, -1]), jax.random.split(key, count))[1]
