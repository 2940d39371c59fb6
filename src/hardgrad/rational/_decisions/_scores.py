"""The rejection scores: numbers that are low near ⊥.

    denominator  |Q|                        as published; depends on the scale of (P, Q)
    projective   |Q| / √(|Q|² + ‖P‖²)       does not

Formed and compared in the real dtype that belongs to Q's. JAX on a CPU takes a subnormal number for 0, NumPy does
not. So that both decide alike, a threshold that is subnormal in float32, float64 or bfloat16 is refused, and the
projective score takes subnormal parts for 0 in both. Compiled programs may form it a few units in the last place
differently (they divide and sum in another way); |Q| of a real Q is the same to the bit everywhere.
"""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact
from numpy.typing import NDArray

from ...core import UsageError, one_of

Score = Literal["denominator", "projective"]
Values = Inexact[Array | np.ndarray, "..."]
Scores = Float[Array | np.ndarray, "..."]
Mask = Bool[Array | np.ndarray, "..."]


def rejection_score(P: Values, Q: Values, score: Score = "projective") -> Scores:
    """The number that strict decoding compares with `tau_infer`: the lower, the nearer to ⊥.

    ``"denominator"`` is |Q|. Any common factor of P and Q changes it, though not P/Q, so that a threshold on
    it means something only for one trained model, and only as long as nothing rescales its output.

    ``"projective"`` is |Q|/√(|Q|² + ‖P‖²), with ‖P‖ over the outputs that share Q: the cosine of the angle
    between (P, Q) and the axis of finite numbers, in [0, 1], the same for (P, Q) and (cP, cQ). Be clear about
    what that buys: for a single output, *every* score that ignores the scale is a function of |P/Q| alone. This one is
    1/√(1 + |P/Q|²), and rejecting it below tau is rejecting |decoded| > √(1/tau² - 1). It cannot
    tell a pole from a large finite value; only the scale could, if training gave it a meaning.

    Neither under- nor overflows on the way. Of the real dtype that belongs to Q's, in the shape of Q, or of P
    where Q is broadcast against it. NaN where P or Q is not finite (``"denominator"`` looks at Q only);
    0 for (0, 0).

    Args:
        P: numerators ``[B]`` or ``[B, K]``.
        Q: denominators, of P's shape or ``[B]``, of P's dtype.
        score: ``"denominator"`` or ``"projective"``.

    Raises:
        UsageError: shapes or dtypes don't fit, or an unknown score.

    Examples:
        >>> import numpy as np
        >>> P, Q = np.array([3.0, 3e300]), np.array([4.0, 4e300])
        >>> rejection_score(P, Q)
        array([0.8, 0.8])
    """
    one_of("score", score, Score)
    xp, P, Q, outputs = projective_output(P, Q)
    with np.errstate(all="ignore"):
        found: Array | NDArray[Any] = xp.asarray(score_of(xp, P, Q, outputs, score))
    return found


def namespace(*arrays: Any) -> Any:
    """`jax.numpy` if any of them is a JAX array, else `numpy`."""
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np


def real_dtype(dtype: Any) -> Any:
    """The dtype of the absolute value: float32 for complex64, else the dtype itself."""
    return np.zeros((), dtype).real.dtype


def least_magnitude(dtype: Any) -> float:
    """The smallest number of a real dtype that every backend tells from 0."""
    limits = jnp.finfo(dtype)  # type: ignore[no-untyped-call]
    # XLA widens float16 to compute with it, so that its subnormal numbers survive.
    return float(limits.smallest_subnormal if np.dtype(dtype) == np.float16 else limits.tiny)


def shrink(xp: Any, magnitude: Any) -> Any:
    """1/16 where a magnitude is so large that its reciprocal is subnormal, else 1.

    A compiled division multiplies by the reciprocal, which XLA on a CPU takes for 0 there, so that even x/x is 0. To
    multiply numerator and denominator by this first costs no digit of a normal quotient.
    """
    limit = float(jnp.finfo(magnitude.dtype).max) / 16  # type: ignore[no-untyped-call]
    return xp.where(magnitude > np.asarray(limit, magnitude.dtype), *np.asarray([1 / 16, 1.0], magnitude.dtype))


def check_tau(tau: float, dtype: Any, name: str = "tau_infer") -> NDArray[Any]:
    """`tau` rounded to a real dtype.

    Raises:
        UsageError: there it is 0, subnormal (other than in float16) or infinite.
    """
    with np.errstate(over="ignore", under="ignore"):
        rounded = np.asarray(tau, dtype)
    least = least_magnitude(dtype)
    if not np.isfinite(rounded):
        raise UsageError(f"{name}={tau:g} is infinite in {np.dtype(dtype)}: nothing could ever be accepted.")
    if float(rounded) < least:
        raise UsageError(
            f"{name}={tau:g} is too small for {np.dtype(dtype)}, whose least threshold is {least:.3g}. "
            f"Use a larger {name}, or decode in float64."
        )
    return rounded


def projective_output(P: Any, Q: Any) -> tuple[Any, Any, Any, tuple[int, ...]]:
    """Their array namespace, P and Q as its arrays, and the axes of P that share one denominator."""
    xp = namespace(P, Q)
    P, Q = xp.asarray(P), xp.asarray(Q)
    if P.dtype != Q.dtype or not jnp.issubdtype(P.dtype, jnp.inexact):
        raise UsageError(
            f"P and Q must have one floating-point or complex dtype; got {P.dtype} and {Q.dtype}. Convert them."
        )
    shared = Q.ndim < P.ndim and P.shape[: Q.ndim] == Q.shape
    if not shared and (Q.ndim != P.ndim or any(q not in (1, p) for p, q in zip(P.shape, Q.shape, strict=True))):
        raise UsageError(
            f"Q must have P's shape {P.shape} or, for outputs that share a denominator, {P.shape[:-1]}; got {Q.shape}."
        )
    return xp, P, Q, tuple(range(Q.ndim, P.ndim))


def score_of(xp: Any, P: Any, Q: Any, outputs: tuple[int, ...], score: Score) -> Any:
    if score == "denominator":
        return xp.abs(Q)
    least = np.asarray(least_magnitude(real_dtype(Q.dtype)), real_dtype(Q.dtype))
    one, zero = np.ones((), least.dtype), np.zeros((), least.dtype)

    def components(array: Any) -> list[Any]:
        parts = [array.real, array.imag] if jnp.issubdtype(array.dtype, jnp.complexfloating) else [array]
        return [xp.where(xp.abs(part) < least, zero, xp.abs(part)) for part in parts]

    of_P, of_Q = components(P), components(Q)
    largest = of_Q[0]
    for part in of_Q[1:] + [xp.max(part, axis=outputs, initial=0) if outputs else part for part in of_P]:
        largest = xp.maximum(largest, part)
    # Divided by the largest, squares cannot overflow, and what underflows is nothing beside 1.
    factor = shrink(xp, largest)
    scale = xp.where(largest == 0, one, largest * factor)
    q = [part * factor / scale for part in of_Q]
    p = [part * xp.expand_dims(factor, outputs) / xp.expand_dims(scale, outputs) for part in of_P]
    magnitude = q[0] if len(q) == 1 else xp.hypot(*q)
    total = magnitude * magnitude
    for part in p:
        total = total + xp.sum(part * part, axis=outputs) if outputs else total + part * part
    return xp.where(largest == 0, zero, magnitude / xp.sqrt(xp.where(largest == 0, one, total)))
