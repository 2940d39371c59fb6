"""A residual block around a state-space layer, which alone is linear.

    u + dropout(GLU(GELU(mixer(LayerNorm(u))))),    GLU(z) = (W₁ z + b₁) ⊙ sigmoid(W₂ z + b₂)

Source: Smith, Warrington & Linderman 2023, arXiv:2208.04933 (there W₁ = I); the full gated
linear unit is S4's, Gu, Goel & Ré 2022, arXiv:2111.00396; Ba et al. 2016, arXiv:1607.06450 (LayerNorm).
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ...core import UsageError, whole_number
from ._s5 import S5

EPSILON = 1e-5  # of the norm


class S5Block(eqx.Module):
    """Norm, sequence layer, GELU, gated linear unit, residual; a sequence layer itself.

    Attributes:
        mixer: the sequence layer.
        gain: of the norm ``[d_model]``, 1 at first.
        shift: of the norm ``[d_model]``, 0 at first.
        gate_weight: W₁ above W₂, ``[2·d_model, d_model]``, normal with variance 1/d_model at first.
        gate_bias: b₁ and b₂ ``[2·d_model]``, 0 at first.
        dropout: of the branch; only where a key is given and not in inference mode.

    Args:
        d_model: channels of input and output.
        d_state: complex states of the S5.
        mixer: another sequence layer of d_model channels in the place of a new `S5`, such as an `LRU`.
        dropout: probability that an entry of the branch is left out, in [0, 1).
        key: of the draw.
        dtype: of the parameters.

    Raises:
        UsageError: a size is no whole number of at least 1, or dropout out of range.

    Examples:
        >>> block = S5Block(4, 8, key=jax.random.key(0))
        >>> block.sequence(jnp.ones((2, 5, 4))).shape
        (2, 5, 4)
    """

    mixer: Any
    gain: Float[Array, " d"]
    shift: Float[Array, " d"]
    gate_weight: Float[Array, "two_d d"]
    gate_bias: Float[Array, " two_d"]
    dropout: eqx.nn.Dropout

    def __init__(
        self,
        d_model: int,
        d_state: int = 64,
        *,
        mixer: Any = None,
        dropout: float = 0.0,
        key: Key[Array, ""],
        dtype: Any = jnp.float32,
    ):
        d_model = whole_number("d_model", d_model, least=1)
        if not 0 <= dropout < 1:
            raise UsageError(f"dropout is a probability below 1, got {dropout!r}.")
        for_mixer, for_gate = jax.random.split(key)
        self.mixer = S5(d_model, d_state, key=for_mixer, dtype=dtype) if mixer is None else mixer
        self.gain, self.shift = jnp.ones(d_model, dtype), jnp.zeros(d_model, dtype)
        self.gate_weight = jax.random.normal(for_gate, (2 * d_model, d_model), dtype) / math.sqrt(d_model)
        self.gate_bias = jnp.zeros(2 * d_model, dtype)
        self.dropout = eqx.nn.Dropout(dropout)

    def init_state(self, batch: int) -> Any:
        """The mixer's state before the first step."""
        return self.mixer.init_state(batch)

    def prepared(self) -> S5Block:
        """The block with its mixer worked out, for many steps."""
        if not hasattr(self.mixer, "prepared"):
            return self
        prepared: S5Block = eqx.tree_at(lambda block: block.mixer, self, self.mixer.prepared())
        return prepared

    def step(
        self, state: Any, x: Float[Array, "batch d"], *, key: Key[Array, ""] | None = None
    ) -> tuple[Any, Float[Array, "batch d"]]:
        """One time step: the new state and the output."""
        state, y = self.mixer.step(state, self._normed(x))
        return state, self._joined(x, y, key)

    def advance(
        self, state: Any, inputs: Float[Array, "batch time d"], *, key: Key[Array, ""] | None = None
    ) -> tuple[Any, Float[Array, "batch time d"]]:
        """Many time steps at once, from a state."""
        state, y = self.mixer.advance(state, self._normed(inputs))
        return state, self._joined(inputs, y, key)

    def sequence(
        self, inputs: Float[Array, "batch time d"], *, key: Key[Array, ""] | None = None
    ) -> Float[Array, "batch time d"]:
        """All time steps, from an empty state.

        Args:
            inputs: all steps.
            key: of the dropout; None leaves nothing out.
        """
        return self._joined(inputs, self.mixer.sequence(self._normed(inputs)), key)

    def _normed(self, x: Array) -> Array:
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
        return centred * jax.lax.rsqrt(variance + EPSILON) * self.gain + self.shift

    def _joined(self, x: Array, y: Array, key: Key[Array, ""] | None) -> Array:
        value, gate = jnp.split(jax.nn.gelu(y) @ self.gate_weight.T + self.gate_bias, 2, axis=-1)
        branch = value * jax.nn.sigmoid(gate)
        return x + (branch if key is None else self.dropout(branch, key=key))
