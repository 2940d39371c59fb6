"""Feedback alignment: the error travels back through matrices of its own instead of the weights' transposes.

With y = W x + b and a cotangent ȳ (Lillicrap, Cownden, Tweed, Akerman 2016, "Random synaptic feedback weights support
error backpropagation for deep learning", Nature Communications 7:13276):

    x̄ = Bᵀ ȳ   instead of   Wᵀ ȳ,        W̄ = ȳ xᵀ,  b̄ = ȳ   as ever,

with a fixed random B of W's shape. W comes to align with B, and x̄ with the true gradient. An *adaptive* B is given W's
own update, B̄ = ȳ xᵀ: with weight decay on both it tends to W (Kolen and Pollack 1994, "Backpropagation without weight
transport", ICNN; Akrout et al. 2019, "Deep learning without weight transport", NeurIPS; "adaptive e-prop" in Bellec et
al. 2020, Nature Communications 11:3625).

In *direct* feedback alignment each hidden layer l receives the error at the output itself (Nøkland 2016, "Direct
feedback alignment provides learning in deep neural networks", NeurIPS, section 3): z̄_l = B_lᵀ ȳ, and nothing from the
layer above.
"""

from __future__ import annotations

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt

from ...core import UsageError, named_key, whole_number


def random_feedback(key: Key[Array, ""], rows: int, columns: int, scale: float) -> UInt[Array, "rows columns"]:
    """A matrix of N(0, (scale/√columns)²), as the bits of its float32 numbers.

    As bits it is data of the model that no optimiser, weight decay, evolution strategy or count of parameters
    takes for a parameter, and checkpoints keep it.
    """
    matrix = jax.random.normal(key, (rows, columns), jnp.float32) * jnp.float32(scale / math.sqrt(columns))
    return jax.lax.bitcast_convert_type(matrix, jnp.uint32)


def from_bits(bits: Array, dtype: Any) -> Array:
    """The matrix that `random_feedback` drew."""
    return jax.lax.bitcast_convert_type(bits, jnp.float32).astype(dtype)


@jax.custom_vjp
def feed_back(y: Float[Array, "... out"], x: Float[Array, "... in"], feedback: Float[Array, "out in"]) -> Array:
    """y; backwards its cotangent ȳ reaches x as Bᵀ ȳ, y itself as ȳ, and B as ȳ xᵀ."""
    return y


def _feed_back_fwd(y: Array, x: Array, feedback: Array) -> tuple[Array, tuple[Array, Array]]:
    return y, (x, feedback)


def _feed_back_bwd(kept: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array, Array]:
    x, feedback = kept
    outer = jnp.einsum("...o,...i->oi", cotangent, x)
    return cotangent, cotangent @ feedback, outer


feed_back.defvjp(_feed_back_fwd, _feed_back_bwd)


def check_scale(scale: float) -> float:
    """`scale`, a positive number.

    Raises:
        UsageError: it is not one.
    """
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise UsageError(f"scale must be positive and finite, got {scale!r}.")
    return float(scale)


class FeedbackLinear(eqx.nn.Linear):
    """A linear layer whose input's gradient travels through a matrix of its own: feedback alignment.

    For one sample, like `equinox.nn.Linear`, which it replaces anywhere: in a `Network` it is mapped over the batch and
    used at every time step. As the readout of a network trained by `EProp` it sends the learning signals through
    random or, adaptive, through learned feedback weights.

    Attributes:
        weight: float ``[out, in]``.
        bias: float ``[out]``, or None.
        adaptive: float ``[out, in]``: feedback that learns; None if it is fixed.
        fixed: the bits of a fixed feedback matrix, uint32 ``[out, in]``; None if it learns.

    Raises:
        UsageError: sizes that are not whole numbers, or a scale that is not positive.

    Examples:
        >>> layer = FeedbackLinear(2, 3, key=jax.random.key(0))
        >>> cotangent = jnp.array([1.0, -1.0, 0.5])
        >>> _, pull = jax.vjp(layer, jnp.ones(2))
        >>> bool(jnp.allclose(pull(cotangent)[0], layer.feedback.T @ cotangent))
        True
    """

    adaptive: Float[Array, "out in"] | None
    fixed: UInt[Array, "out in"] | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        use_bias: bool = True,
        adaptive: bool = False,
        scale: float = 1.0,
        key: Key[Array, ""],
    ) -> None:
        """Weights as in `equinox.nn.Linear`; feedback from N(0, scale²/in).

        Args:
            in_features: size of the input.
            out_features: size of the output.
            use_bias: whether to add a bias.
            adaptive: the feedback matrix is a parameter whose gradient is that of the weight.
            scale: of the feedback's standard deviation; 1 keeps the norm of a back-travelling error about what Wᵀ
                makes of it, times √3.
            key: for weights and feedback.
        """
        inputs = whole_number("in_features", in_features, least=1)
        outputs = whole_number("out_features", out_features, least=1)
        super().__init__(inputs, outputs, use_bias, key=key)
        bits = random_feedback(named_key(key, "feedback"), outputs, inputs, check_scale(scale))
        self.adaptive = from_bits(bits, self.weight.dtype) if adaptive else None
        self.fixed = None if adaptive else bits

    @property
    def feedback(self) -> Float[Array, "out in"]:
        """The feedback matrix B, in the weight's dtype."""
        if self.adaptive is not None:
            return self.adaptive
        return from_bits(self.fixed, self.weight.dtype)  # type: ignore[arg-type]

    def __call__(self, x: Float[Array, " in"], *, key: Any = None) -> Float[Array, " out"]:
        """W x + b; backwards as the module says."""
        return feed_back(super().__call__(jax.lax.stop_gradient(x)), x, self.feedback)
