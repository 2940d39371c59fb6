"""What to do with what was rejected: say so, put a sentinel in its place, or ask a slower solver.

Host code in NumPy: it runs beside the model, where a decision is acted upon.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core import UsageError, finite_number
from ._scores import Mask, Values

Event = dict[str, Any]
EventHook = Callable[[Event], None]
Solver = Callable[[NDArray[Any]], Values]


class Accepted(NamedTuple):
    """Values, NaN where rejected, and the mask of what was accepted (in the masks' shape)."""

    decoded: NDArray[Any]
    accept: NDArray[np.bool_]


def reject_on_bottom(decoded: Values, bottom_mask: Mask) -> Accepted:
    """Reject ⊥.

    Args:
        decoded: values ``[B]`` or ``[B, K]``.
        bottom_mask: True where ⊥, of the same shape, or ``[B]`` for whole rows.

    Raises:
        UsageError: the shapes don't fit.

    Examples:
        >>> import numpy as np
        >>> reject_on_bottom(np.array([1.0, 2.0]), np.array([False, True]))
        Accepted(decoded=array([ 1., nan]), accept=array([ True, False]))
    """
    values, rejected = _pair(decoded, bottom_mask=bottom_mask)
    return Accepted(_replace(values, rejected, np.nan), ~rejected)


def reject_on_gap(decoded: Values, bottom_mask: Mask, gap_mask: Mask) -> Accepted:
    """Reject ⊥ and what lies in the gap between `tau_infer` and `tau_train`; as `reject_on_bottom` otherwise."""
    values, bottom = _pair(decoded, bottom_mask=bottom_mask)
    _, gap = _pair(decoded, gap_mask=gap_mask)
    if bottom.shape != gap.shape:
        raise UsageError(f"bottom_mask and gap_mask must have one shape; got {bottom.shape} and {gap.shape}.")
    return Accepted(_replace(values, bottom | gap, np.nan), ~(bottom | gap))


def safe_sentinel(decoded: Values, invalid_mask: Mask, *, sentinel: float) -> NDArray[Any]:
    """`decoded` with a finite number wherever the mask is True: for consumers that can't stand NaN.

    Keep the mask beside it: no reader can tell the sentinel from a value that happens to equal it.

    Args:
        decoded: values ``[B]`` or ``[B, K]``.
        invalid_mask: of the same shape, or ``[B]`` for whole rows.
        sentinel: a number that is finite in the dtype of `decoded`.

    Raises:
        UsageError: the shapes don't fit, or the sentinel is not finite.

    Examples:
        >>> import numpy as np
        >>> safe_sentinel(np.array([1.0, np.nan]), np.array([False, True]), sentinel=-7.5)
        array([ 1. , -7.5])
    """
    values, invalid = _pair(decoded, invalid_mask=invalid_mask)
    with np.errstate(over="ignore"):
        rounded = np.asarray(finite_number("sentinel", sentinel)).astype(values.dtype)
    if not np.isfinite(rounded):
        raise UsageError(f"sentinel={sentinel!r} is not finite in {values.dtype}.")
    return _replace(values, invalid, rounded)


def route_to_analytic_solver(
    decoded: Values,
    invalid_mask: Mask,
    *,
    inputs: Any,
    solver: Solver,
    fault_mask: Mask | None = None,
    semantic_bottom_mask: Mask | None = None,
    on_event: EventHook | None = None,
) -> NDArray[Any]:
    """Answer invalid rows by a solver, called once on all of them; a row is invalid if any of its entries is.

    With both provenance masks, rows that are ⊥ by meaning stay as they are: where there is no answer, a
    solver must not invent one. Without them every invalid row is routed.

    Args:
        decoded: values ``[B]`` or ``[B, K]``; not changed.
        invalid_mask: ⊥, or ⊥ and gap; ``[B]`` or of the shape of `decoded`.
        inputs: an array of B rows, what the solver is asked about.
        solver: ``solver(inputs[rows])`` returns finite values for them, shaped as ``decoded[rows]``.
        fault_mask: True where arithmetic failed.
        semantic_bottom_mask: True where ⊥ is the answer.
        on_event: is given one ``"fallback-routing"`` record whenever rows were routed: ``batch_size``,
            ``routed_count``, ``routed_rate``, the same two as ``count`` and ``rate``, and ``provenance_tag``:
            ``"fault"`` (all of them), ``"finite"`` (none), ``"mixed"``, or ``"unspecified"`` without masks.

    Returns:
        A copy of `decoded` with the routed rows answered.

    Raises:
        UsageError: shapes don't fit, one provenance mask comes without the other, or the solver returns
            the wrong shape, other than numbers, or a number that is not finite.

    Examples:
        >>> import numpy as np
        >>> decoded, invalid = np.array([0.5, np.nan]), np.array([False, True])
        >>> route_to_analytic_solver(decoded, invalid, inputs=np.array([2.0, 4.0]), solver=lambda x: 1.0 / x)
        array([0.5 , 0.25])
    """
    values = np.array(decoded)
    if (fault_mask is None) != (semantic_bottom_mask is None):
        raise UsageError("give both fault_mask and semantic_bottom_mask, or neither.")
    asked, routed = np.asarray(inputs), _rows(values, invalid_mask=invalid_mask)
    if asked.shape[:1] != values.shape[:1]:
        raise UsageError(f"inputs must have as many rows as decoded, {len(values)}; got shape {asked.shape}.")
    tag = "unspecified"
    if fault_mask is not None and semantic_bottom_mask is not None:
        routed &= ~_rows(values, semantic_bottom_mask=semantic_bottom_mask)
        faults = _rows(values, fault_mask=fault_mask)[routed]
        tag = "fault" if faults.all() else "mixed" if faults.any() else "finite"
    count = int(routed.sum())
    if count == 0:
        return values
    values[routed] = _solved(solver(asked[routed]), values[routed].shape, values.dtype, np.flatnonzero(routed))
    if on_event is not None:
        rate = count / len(values)
        on_event(
            {
                "event": "fallback-routing",
                "batch_size": len(values),
                "routed_count": count,
                "routed_rate": rate,
                "count": count,
                "rate": rate,
                "provenance_tag": tag,
            }
        )
    return values


def _pair(decoded: Values, **named: Mask) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Values and one mask as arrays, the mask of the values' leading shape."""
    ((name, given),) = named.items()
    values, mask = np.asarray(decoded), np.asarray(given)
    if mask.dtype != np.bool_ or mask.shape != values.shape[: mask.ndim]:
        raise UsageError(
            f"{name} must be boolean, of the shape {values.shape} of decoded or of its leading axes; "
            f"got {mask.dtype} of {mask.shape}."
        )
    return values, mask


def _rows(decoded: NDArray[Any], **named: Mask) -> NDArray[np.bool_]:
    """One mask, reduced to rows."""
    mask = _pair(decoded, **named)[1]
    if mask.ndim == 0:
        raise UsageError(f"{next(iter(named))} must have one entry a row.")
    return np.asarray(mask.reshape(len(mask), -1).any(axis=1))


def _replace(values: NDArray[Any], where: NDArray[np.bool_], value: Any) -> NDArray[Any]:
    expanded = where.reshape(where.shape + (1,) * (values.ndim - where.ndim))
    return np.where(expanded, np.asarray(value).astype(values.dtype), values)


def _solved(answer: Any, shape: tuple[int, ...], dtype: Any, rows: NDArray[np.intp]) -> NDArray[Any]:
    """A solver's answer, checked."""
    found = np.asarray(answer)
    if found.shape != shape or found.dtype.kind not in "fiuc" or (found.dtype.kind == "c" and dtype.kind != "c"):
        raise UsageError(f"the solver must return {dtype} of shape {shape}; got {found.dtype} of {found.shape}.")
    with np.errstate(over="ignore"):
        cast: NDArray[Any] = found.astype(dtype)
    bad = ~np.isfinite(cast).reshape(len(cast), -1).all(axis=1)
    if bad.any():
        raise UsageError(
            f"the solver's answer is not finite in {bad.sum()} of {len(cast)} rows, first for row {rows[bad][0]} "
            "of the batch. Let it raise, or answer every row it is given."
        )
    return cast
