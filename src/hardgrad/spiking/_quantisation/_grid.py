"""The grid on which weights lie: small integers times a scale, symmetric about 0.

With b bits the integers are -m … m, m = 2^(b-1) - 1, and the scale of a channel is max|w| / m (Jacob et al. 2018,
"Quantization and training of neural networks for efficient integer-arithmetic-only inference", section 3, without a
zero point). Ternary weights are -1, 0, 1 with the scale mean|w| (Ma et al. 2024, "The era of 1-bit LLMs", equations
1 to 3).

Rounding has no useful derivative. The straight-through estimator puts 1 in its place (Bengio, Léonard, Courville 2013,
arXiv:1308.3432, section 4), so that the weights behind the grid are trained as if they were used; the scale counts as a
constant.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError, did_you_mean

Bits: TypeAlias = int | Literal["ternary"]
_PER = ("channel", "tensor")


@dataclasses.dataclass(frozen=True)
class WeightGrid:
    """Which integers a weight may be, and what shares a scale.

    Attributes:
        bits: 2 to 8, or ``"ternary"``.
        per: ``"channel"``, a scale for each output (the weight's first axis), or ``"tensor"``, one for all.

    Raises:
        UsageError: another number of bits, or another `per`.

    Examples:
        >>> integers, scale = WeightGrid(4, "tensor").integers(jnp.array([[0.7, -0.26, 0.0]]))
        >>> integers, scale
        (Array([[ 7., -3.,  0.]], dtype=float32), Array([[0.1]], dtype=float32))
    """

    bits: Any
    per: str = "channel"

    def __post_init__(self) -> None:
        whole = isinstance(self.bits, int) and not isinstance(self.bits, bool) and 2 <= self.bits <= 8
        if not whole and self.bits != "ternary":
            raise UsageError(f"bits must be a whole number from 2 to 8, or 'ternary'; got {self.bits!r}.")
        if self.per not in _PER:
            raise UsageError(f"per is 'channel' or 'tensor', not {self.per!r}. {did_you_mean(str(self.per), _PER)}")

    @property
    def largest(self) -> int:
        """m, the largest integer."""
        return 1 if self.bits == "ternary" else 2 ** (self.bits - 1) - 1

    @property
    def stored_bits(self) -> int:
        """Bits a weight takes packed: 2 for a ternary one."""
        return 2 if self.bits == "ternary" else int(self.bits)

    def scale(self, weight: Float[Array, " out *rest"]) -> Float[Array, "*ones"]:
        """The scale, of the weight's rank so that it broadcasts; 1 where every weight is 0."""
        axes = tuple(range(1 if self.per == "channel" else 0, weight.ndim))
        size = jnp.abs(weight)
        if self.bits == "ternary":
            scale = jnp.mean(size, axis=axes, keepdims=True)
        else:
            scale = jnp.max(size, axis=axes, keepdims=True) / self.largest
        # The smallest normal number: below it, dividing by the scale would overflow.
        limits: Any = jnp.finfo  # untyped
        return jnp.where(scale >= limits(weight.dtype).tiny, scale, 1.0)

    def integers(self, weight: Float[Array, " out *rest"]) -> tuple[Float[Array, " out *rest"], Float[Array, "*ones"]]:
        """The weight's integers and their scale, both in the weight's dtype.

        Forwards the integers are exact. Their derivative is that of ``weight / scale`` at a constant scale, so that
        ``scale · integers`` has the derivative of the weight itself.
        """
        scale = jax.lax.stop_gradient(self.scale(weight))
        ratio = weight / scale
        rounded = jnp.clip(jnp.round(jax.lax.stop_gradient(ratio)), -self.largest, self.largest)
        # ratio - ratio is exactly 0, which `ratio + (rounded - ratio)` would not be.
        return rounded + (ratio - jax.lax.stop_gradient(ratio)), scale
