"""Strict decoding: from a tuple (P, Q) to a number or ⊥.

    fault     P, Q, a validity factor V or the quotient is not finite
    semantic  Q = 0,  s < tau_infer,  V = 0  or  |V| < tau_V
    ⊥         fault or semantic; decoded = NaN there, P/Q elsewhere
    gap       not ⊥ and tau_infer ≤ s < tau_train

The score s is |Q| as published, or |Q|/√(|Q|² + ‖P‖²), which no common factor of P and Q changes. A score that
meets a threshold exactly is not below it. Thresholds are rounded to the dtype of Q before anything is compared.

A `tau_infer` that is 0 or subnormal in that dtype is refused (subnormal ones are allowed in float16): see `_scores`.

Source: strict inference of the published system; its decisions on |Q| are kept to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from numpy.typing import NDArray

from ...core import UsageError, finite_number, one_of
from ._scores import Mask, Score, Values, check_tau, projective_output, real_dtype, score_of, shrink

Codes = Int[Array | np.ndarray, "..."]


@dataclass(frozen=True)
class InferenceConfig:
    """The thresholds of strict decoding. Hashable: a static argument of `jax.jit`.

    Attributes:
        tau_infer: a score below it is ⊥; finite, above 0. The default is the published one. It depends on the
            scale of Q, and a trained head seldom respects it: choose yours with `calibrate`.
        tau_train: an accepted score below it lies in the gap; at least `tau_infer`. None: there is no gap.
        score: ``"denominator"`` compares |Q|, as published; ``"projective"`` |Q|/√(|Q|² + ‖P‖²), in [0, 1].

    Raises:
        UsageError: a threshold out of range, or an unknown score.

    Examples:
        >>> InferenceConfig(tau_infer=1e-4, tau_train=1e-3)
        InferenceConfig(tau_infer=0.0001, tau_train=0.001, score='denominator')
    """

    tau_infer: float = 1e-6
    tau_train: float | None = None
    score: Score = "denominator"

    def __post_init__(self) -> None:
        one_of("score", self.score, Score)
        object.__setattr__(self, "tau_infer", finite_number("tau_infer", self.tau_infer, above=0.0))
        if self.tau_train is not None:
            least = self.tau_infer
            object.__setattr__(self, "tau_train", finite_number("tau_train", self.tau_train, least=least))
        largest = self.tau_infer if self.tau_train is None else self.tau_train
        if self.score == "projective" and largest > 1.0:
            raise UsageError(
                f"a projective score is at most 1, a threshold of {largest:g} rejects or flags everything."
            )

    def thresholds(self, dtype: Any) -> tuple[NDArray[Any], NDArray[Any] | None]:
        """(tau_infer, tau_train) rounded to the real dtype that belongs to `dtype`.

        Raises:
            UsageError: `tau_infer` is 0, subnormal or infinite there.
        """
        real = real_dtype(dtype)
        tau_infer = check_tau(self.tau_infer, real)
        with np.errstate(over="ignore"):
            return tau_infer, None if self.tau_train is None else np.asarray(self.tau_train, real)


class StrictResult(eqx.Module):
    """What strict decoding says. ``decoded, bottom, gap = result`` works as with the published result.

    Masks have the shape of Q, or of P where Q is broadcast against it. A pytree: it passes `jit` and `vmap`.

    Attributes:
        decoded: P/Q in P's shape and dtype, NaN where ⊥.
        bottom_mask: True where ⊥; with a shared denominator one for a whole sample.
        gap_mask: True where accepted, but below `tau_train`.
        fault_mask: True where something was not finite.
        semantic_bottom_mask: True where Q or a validity factor is 0 or below its threshold. With a Q of
            ``[B, 1]`` and the score ``"denominator"`` it keeps that shape, as published.
        bottom_provenance: 0 finite, 1 fault, 2 semantic, 3 both; int64 in NumPy, int32 in JAX.
    """

    decoded: Values
    bottom_mask: Mask
    gap_mask: Mask
    fault_mask: Mask
    semantic_bottom_mask: Mask
    bottom_provenance: Codes

    def __iter__(self) -> Iterator[Any]:
        return iter((self.decoded, self.bottom_mask, self.gap_mask))

    def as_dict(self) -> dict[str, Any]:
        """The six arrays by name, in the order of the fields."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def strict_inference(
    P: Values,
    Q: Values,
    config: InferenceConfig | None = None,
    *,
    validity_factors: Sequence[Values] | None = None,
    validity_taus: float | Sequence[float] = 1e-6,
) -> StrictResult:
    """Decode projective outputs: P/Q where it can be trusted, ⊥ elsewhere.

    NumPy in, NumPy out; JAX in, JAX out. Under `jax.jit` the config is static (close over it).

    Args:
        P: numerators ``[B]`` or ``[B, K]``, real or complex; any leading axes, none for one sample.
        Q: denominators, of P's dtype: of P's shape, or ``[B]`` for K outputs that share one. Then a fault in
            any output rejects the sample. ``[B, 1]`` is broadcast: outputs are judged one by one.
        config: thresholds and score; None takes the defaults.
        validity_factors: arrays of Q's shape that must be different from 0 as well, such as denominators of
            subexpressions that were cancelled.
        validity_taus: their thresholds, ≥ 0: one for all, or one for each. A factor of exactly 0 is ⊥ at any.

    Raises:
        UsageError: shapes or dtypes don't fit, P and Q are not floating-point, or a threshold is out of range
            or too small for the dtype.

    Examples:
        >>> import numpy as np
        >>> P, Q = np.array([1.0, 3.0, -2.0, 1.0]), np.array([2.0, 0.0, 5e-4, np.nan])
        >>> decoded, bottom, gap = result = strict_inference(P, Q, InferenceConfig(1e-6, tau_train=1e-3))
        >>> decoded
        array([ 5.e-01,       nan, -4.e+03,       nan])
        >>> bottom, gap
        (array([False,  True, False,  True]), array([False, False,  True, False]))
        >>> result.bottom_provenance
        array([0, 2, 0, 1])
    """
    config = config or InferenceConfig()
    xp, P, Q, outputs = projective_output(P, Q)
    tau_infer, tau_train = config.thresholds(Q.dtype)
    factors = _validity(xp, Q, validity_factors, validity_taus)
    with np.errstate(all="ignore"):
        score = score_of(xp, P, Q, outputs, config.score)
        fault = xp.any(~xp.isfinite(P), axis=outputs) | ~xp.isfinite(Q)
        semantic = (Q == 0) | (score < tau_infer)
        for factor, tau in factors:
            fault = fault | ~xp.isfinite(factor)
            semantic = semantic | (factor == 0) | (xp.abs(factor) < tau)
        # Harmless operands wherever the answer is known to be ⊥: no NaN reaches a gradient.
        doubtful = xp.expand_dims(fault | semantic, outputs)
        one, zero = np.ones((), P.dtype), np.zeros((), P.dtype)
        factor = shrink(xp, xp.abs(Q)).astype(P.dtype)
        numerator = xp.where(doubtful, zero, P * xp.expand_dims(factor, outputs))
        denominator = xp.where(doubtful, one, xp.expand_dims(Q * factor, outputs))
        # XLA may divide by multiplying with 1/Q, which overflows in float16.
        wide = np.promote_types(P.dtype, np.float32) if P.dtype == np.float16 else P.dtype
        quotient = (numerator.astype(wide) / denominator.astype(wide)).astype(P.dtype)
        fault = fault | xp.any(~xp.isfinite(quotient), axis=outputs)
        bottom = fault | semantic
        nan = np.asarray(np.nan, P.dtype)
        decoded = xp.where(xp.expand_dims(bottom, outputs), nan, quotient)
        gap = xp.zeros_like(bottom) if tau_train is None else (score >= tau_infer) & (score < tau_train) & ~bottom
    code = np.int64 if xp is np else np.int32
    provenance = fault.astype(code) + code(2) * semantic.astype(code)
    return StrictResult(*map(xp.asarray, (decoded, bottom, gap, fault, semantic, provenance)))


def _validity(xp: Any, Q: Any, factors: Sequence[Any] | None, taus: Any) -> list[tuple[Any, NDArray[Any]]]:
    """Each factor as an array with its threshold in its own dtype."""
    arrays = [xp.asarray(factor) for factor in factors or ()]
    each = list(taus) if isinstance(taus, Sequence) else [taus] * len(arrays)
    if len(each) != len(arrays):
        raise UsageError(f"{len(arrays)} validity factors need as many validity_taus, or one for all; got {len(each)}.")
    pairs = []
    for index, (array, tau) in enumerate(zip(arrays, each, strict=True)):
        if array.shape != Q.shape or not jnp.issubdtype(array.dtype, jnp.inexact):
            raise UsageError(
                f"validity factor {index} must be floating-point of Q's shape {Q.shape}; "
                f"got {array.dtype} of {array.shape}."
            )
        pairs.append(
            (array, np.asarray(finite_number(f"validity_taus[{index}]", tau, least=0.0), real_dtype(array.dtype)))
        )
    return pairs
