"""Three-way decoding of censored quantities: below the range, in it, above it.

    not ⊥                   in range
    ⊥, semantic             by the sign of P: below if P < 0, else above (-0.0 too)
    ⊥, a fault              in range: nothing is known about its direction
    orientation signal o    decides every ⊥: below if o < 0, above if o > 0, in range if 0 or NaN
    direction logits        decide every ⊥ that is no fault: below or above, whichever is larger

A later line overrules those before it. Source: the published system, whose direction logits overrule faults as well
unless provenance masks are passed, against its own documentation; here they never do.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core import UsageError
from ._decode import Codes, InferenceConfig, strict_inference
from ._scores import Mask, Scores, Values, namespace


class CensoredClass(IntEnum):
    """Where a quantity lies. A ⊥ whose direction is unknown counts as `IN_RANGE`: look at the bottom mask too."""

    BELOW = 0
    IN_RANGE = 1
    ABOVE = 2


class CensoredResult(NamedTuple):
    """The decoded value (NaN where ⊥), the mask of ⊥, and the `CensoredClass` of each (int64; int32 in JAX)."""

    decoded: Values
    bottom_mask: Mask
    class_id: Codes


def decode_strict_censored_3way(
    P: Values,
    Q: Values,
    config: InferenceConfig | None = None,
    *,
    direction_logits: Float[Array | np.ndarray, "*batch 2"] | None = None,
    orientation_signal: Scores | None = None,
) -> CensoredResult:
    """Decode strictly, and say on which side of the range a ⊥ lies. NumPy or JAX, jit-able.

    Args:
        P: real numerators ``[B]`` or ``[B, 1]``, any shape.
        Q: denominators, of P's shape.
        config: thresholds and score; None takes the defaults.
        direction_logits: a direction head's scores for (below, above), ``[*P.shape, 2]``; ``[B, 2]`` does for P of
            ``[B, 1]``. Equal scores are below; a NaN among them says in range.
        orientation_signal: a number in P's shape whose sign is trusted for every ⊥, faults included.

    Raises:
        UsageError: P is complex, or a shape doesn't fit.

    Examples:
        >>> import numpy as np
        >>> P, Q = np.array([1.0, -2.0, 3.0, np.nan]), np.array([2.0, 0.0, 0.0, 1.0])
        >>> decoded, bottom, class_id = decode_strict_censored_3way(P, Q)
        >>> [CensoredClass(c).name for c in class_id]
        ['IN_RANGE', 'BELOW', 'ABOVE', 'IN_RANGE']
    """
    xp = namespace(P, Q)
    if P.shape != Q.shape or jnp.issubdtype(P.dtype, jnp.complexfloating):
        raise UsageError(
            f"3-way decoding needs real P and Q of one shape; got {P.dtype} of {P.shape} and {Q.dtype} of {Q.shape}."
        )
    result = strict_inference(P, Q, config)
    code = np.int64 if xp is np else np.int32
    below, in_range, above = (np.asarray(member, code) for member in CensoredClass)

    def by_sign(value: Any) -> Any:
        return xp.where(value > 0, above, xp.where(value < 0, below, in_range))

    semantic = result.bottom_mask & ~result.fault_mask
    class_id = xp.where(semantic, xp.where(P < 0, below, above), in_range)
    if orientation_signal is not None:
        signal = xp.asarray(orientation_signal)
        _check_shape("orientation_signal", signal.shape, P.shape)
        class_id = xp.where(result.bottom_mask, by_sign(signal), class_id)
    if direction_logits is not None:
        logits = xp.asarray(direction_logits)
        if logits.shape == (*P.shape[:-1], 2) and P.shape[-1:] == (1,):
            logits = logits[..., None, :]
        _check_shape("direction_logits", logits.shape, (*P.shape, 2))
        towards = xp.where(logits[..., 0] >= logits[..., 1], below, above)
        towards = xp.where(xp.isnan(logits).any(axis=-1), in_range, towards)
        class_id = xp.where(semantic, towards, class_id)
    return CensoredResult(result.decoded, result.bottom_mask, xp.asarray(class_id))


def _check_shape(name: str, given: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if given != wanted:
        raise UsageError(f"{name} must have shape {wanted}; got {given}.")
