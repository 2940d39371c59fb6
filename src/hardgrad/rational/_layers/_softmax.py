"""Softmax over logits that may be ⊥.

A row without ⊥ is an ordinary softmax. A *singular* row, one with some ⊥, is decided instead: 1 at its largest logit
that is not ⊥ (the first, if several are), 0 elsewhere, and no gradient. A row with nothing but ⊥ is itself ⊥.

Source: the published SCM softmax, which gives a row of nothing but ⊥ all confidence in class 0.
"""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ...core import UsageError
from .._policies import GradientPolicy, with_policy


class SoftmaxResult(NamedTuple):
    """What `scm_softmax` found.

    Attributes:
        probabilities: ``[..., class]``: each row adds to 1, or is 0 where it is ⊥.
        singular_rows: ``[...]``: some logit of the row is ⊥.
        bottom_rows: ``[...]``: every logit of the row is ⊥, and so is its answer.
    """

    probabilities: Float[Array, "*rows class"]
    singular_rows: Bool[Array, "*rows"]
    bottom_rows: Bool[Array, "*rows"]


def scm_softmax(
    logits: Float[Array | np.ndarray, "*rows class"],
    mask: Bool[Array | np.ndarray, "*rows class"] | None = None,
    *,
    policy: GradientPolicy | None = None,
) -> SoftmaxResult:
    """Softmax over the last axis; see the module for rows with ⊥.

    The gradient policy (default of ``"scm_softmax"``: CLAMP, as published) acts on the gradient that arrives, with
    singular rows as its ⊥. None passes at singular rows.

    Args:
        logits: at least one class; NaN and ±∞ are ⊥. The result has their dtype.
        mask: which logits are ⊥ besides, of their shape.
        policy: the gradient policy, or None for that of the context.

    Raises:
        UsageError: no classes, logits that are not real floats, or a mask of another shape.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.rational import scm_softmax
        >>> result = scm_softmax(jnp.array([[0.0, 0.0], [1.0, jnp.nan], [jnp.nan, jnp.nan]]))
        >>> result.probabilities
        Array([[0.5, 0.5],
               [1. , 0. ],
               [0. , 0. ]], dtype=float32)
        >>> result.singular_rows, result.bottom_rows
        (Array([False,  True,  True], dtype=bool), Array([False, False,  True], dtype=bool))
    """
    logits = jnp.asarray(logits)
    if logits.ndim < 1 or logits.shape[-1] == 0 or not jnp.issubdtype(logits.dtype, jnp.floating):
        raise UsageError(f"logits must be real floats [..., class]; got {logits.dtype} {logits.shape}.")
    if mask is not None and np.shape(mask) != logits.shape:
        raise UsageError(f"the mask must have the shape of the logits, {logits.shape}; got {np.shape(mask)}.")
    bottom = ~jnp.isfinite(logits) if mask is None else ~jnp.isfinite(logits) | jnp.asarray(mask)
    singular, whole = bottom.any(-1, keepdims=True), bottom.all(-1, keepdims=True)
    ordinary = jax.nn.softmax(jnp.where(singular, 0, logits), axis=-1)
    largest = jnp.argmax(jnp.where(bottom, -jnp.inf, logits), axis=-1)
    decided = jax.nn.one_hot(largest, logits.shape[-1], dtype=logits.dtype)
    probabilities = jnp.where(singular, jnp.where(whole, 0, decided), ordinary)
    everywhere = jnp.broadcast_to(singular, logits.shape)
    probabilities = with_policy(probabilities, everywhere, policy, layer="scm_softmax")
    return SoftmaxResult(probabilities, singular[..., 0], whole[..., 0])


class SCMSoftmax(eqx.Module):
    """`scm_softmax` as a layer.

    Attributes:
        policy: the layer's own gradient policy, or None.
    """

    policy: GradientPolicy | None = eqx.field(static=True, default=None)

    def __call__(
        self,
        logits: Float[Array | np.ndarray, "*rows class"],
        mask: Bool[Array | np.ndarray, "*rows class"] | None = None,
    ) -> SoftmaxResult:
        """Probabilities, singular rows and ⊥ rows."""
        return scm_softmax(logits, mask, policy=self.policy)
