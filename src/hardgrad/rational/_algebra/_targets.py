"""Labels as projective tuples (Y_n, Y_d): what a model that emits (P, Q) is compared with.

    finite y          (y, 1)
    +inf, -inf        (1, 0), (-1, 0)     a pole, with the side it is seen from
    NaN               (1, 0)              ⊥ without a side

Source: the published target lifting. It keeps the two numbers only, so that +inf and NaN become one; here
`Targets.orientation` tells them apart, and the same record holds audited labels with a status.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Inexact, Int, Shaped
from numpy.typing import NDArray

from ...core import UsageError, did_you_mean

STATUSES = ("finite", "bottom", "censored_below", "censored_above", "domain_invalid", "missing", "fault")
"""The statuses of an audited label; a censored one is ⊥ with a known side."""

# One row a status: denominator, finite, bottom, orientation, kind.
_TABLE = {
    "finite": (1, True, False, 0, 0),
    "bottom": (0, False, True, 0, 2),
    "censored_below": (0, False, True, -1, 2),
    "censored_above": (0, False, True, 1, 2),
    "domain_invalid": (0, False, True, 0, 2),
    "missing": (1, False, False, 0, 0),
    "fault": (0, False, True, 0, 1),
}


class Targets(NamedTuple):
    """Lifted labels: six arrays of one shape, NumPy or JAX, and a pytree.

    Rows are taken with ``jax.tree.map(lambda field: field[rows], targets)``; ``targets[0]`` is the numerator,
    as of any tuple.

    Attributes:
        numerator: Y_n, in the dtype of the labels.
        denominator: Y_d, of the same dtype: 1 for numbers, 0 for ⊥.
        finite: the label is a number.
        bottom: the label is ⊥. A missing label is neither finite nor ⊥.
        orientation: int32, the side of a pole: -1, +1, or 0 for numbers, missing labels and ⊥ without a side.
        kind: int32, 0 for what is not ⊥, 1 for ⊥ by a fault of the measurement, 2 for ⊥ that is meant.
    """

    numerator: Inexact[Array | NDArray[Any], "*shape"]
    denominator: Inexact[Array | NDArray[Any], "*shape"]
    finite: Bool[Array | NDArray[Any], "*shape"]
    bottom: Bool[Array | NDArray[Any], "*shape"]
    orientation: Int[Array | NDArray[Any], "*shape"]
    kind: Int[Array | NDArray[Any], "*shape"]


def _labels(y: object) -> tuple[Any, Any]:
    """Labels as an array of floating-point numbers, and the namespace (NumPy or JAX) they live in."""
    if not isinstance(y, jax.Array | np.ndarray | np.generic):
        raise UsageError(f"labels must be a NumPy or JAX array, not {type(y).__name__}; wrap them in np.asarray.")
    xp: Any = jnp if isinstance(y, jax.Array) else np
    if jnp.issubdtype(y.dtype, np.integer):
        return y.astype(xp.result_type(float)), xp
    if not jnp.issubdtype(y.dtype, np.inexact):
        raise UsageError(f"labels must be numbers, not {y.dtype}; convert them, for instance with .astype(float).")
    return xp.asarray(y), xp


def lift_targets(y: Shaped[Array | NDArray[Any], ...]) -> Targets:
    """Labels with ±inf at poles and NaN at ⊥ without a side, as tuples.

    ±inf and NaN are taken as meant (kind 2); use `lift_semantic_targets` where some are faults or missing.
    A complex label that is not finite has no side.

    Args:
        y: numbers of any shape. NumPy gives NumPy and JAX gives JAX, in the same dtype; integers become
            floats of the default width. May be called under ``jit``.

    Raises:
        UsageError: not an array, or not of numbers.

    Examples:
        >>> Y_n, Y_d, *_, orientation, kind = lift_targets(np.array([2.5, np.inf, -np.inf, np.nan]))
        >>> Y_n, Y_d, orientation
        (array([ 2.5,  1. , -1. ,  1. ]), array([1., 0., 0., 0.]), array([ 0,  1, -1,  0], dtype=int32))
    """
    y, xp = _labels(y)
    finite = xp.isfinite(y)
    side = xp.zeros(y.shape) if xp.iscomplexobj(y) else xp.where(xp.isinf(y), xp.sign(y), xp.zeros_like(y))
    pole = xp.where(side < 0, -xp.ones_like(y), xp.ones_like(y))
    return Targets(
        numerator=xp.where(finite, y, pole),
        denominator=finite.astype(y.dtype),
        finite=finite,
        bottom=~finite,
        orientation=side.astype(np.int32),
        kind=xp.where(finite, np.int32(0), np.int32(2)),
    )


def lift_semantic_targets(y: Shaped[Array | NDArray[Any], ...], status: object) -> Targets:
    """Audited labels, each number with a status that says what it means, as tuples.

    | status | Y_n | Y_d | finite | bottom | orientation | kind |
    |---|---|---|---|---|---|---|
    | finite | y | 1 | yes | no | 0 | 0 |
    | bottom, domain_invalid | 1 | 0 | no | yes | 0 | 2 |
    | censored_below | -1 | 0 | no | yes | -1 | 2 |
    | censored_above | 1 | 0 | no | yes | +1 | 2 |
    | fault | 1 | 0 | no | yes | 0 | 1 |
    | missing | 0 | 1 | no | no | 0 | 0 |

    Args:
        y: numbers of any shape; those whose status is not ``"finite"`` are not looked at.
        status: strings of the same shape, an array or nested lists.

    Returns:
        NumPy arrays if `y` is one, else JAX arrays, numbers in the dtype of `y`.

    Raises:
        UsageError: shapes differ, a status is unknown, a number called finite is not; or `y` is traced: lift
            labels once, before training.
    """
    if isinstance(y, jax.core.Tracer):
        raise UsageError("labels with a status are lifted before training, not inside jit, vmap or grad.")
    y, xp = _labels(y)
    try:
        names = np.asarray(status)
    except ValueError as error:  # what NumPy says of ragged nestings
        raise UsageError("status must be strings in a rectangular nesting; its rows differ in length.") from error
    if names.shape != y.shape:
        raise UsageError(f"status must have the shape of the labels, {y.shape}; it has {names.shape}.")
    if names.dtype.kind != "U":
        names = names.astype(str)
    code = np.full(y.shape, -1, np.int8)
    for index, name in enumerate(STATUSES):
        code[names == name] = index
    if (code < 0).any():
        unknown = str(names[code < 0][0])
        raise UsageError(f"no status is called {unknown!r}. {did_you_mean(unknown, STATUSES)}")
    wrong = (code == 0) & ~np.isfinite(np.asarray(y))
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise UsageError(
            f"label {where} is {np.asarray(y)[where]} and its status 'finite'; give it a status that says why."
        )

    denominator, finite, bottom, orientation, kind = (
        np.asarray([_TABLE[name][column] for name in STATUSES])[code] for column in range(5)
    )
    # Where there is no number the numerator is the side, +1 without one, and 0 for what is missing.
    stand_in = np.where(bottom, np.where(orientation < 0, -1, 1), 0).astype(y.dtype)
    fields = (denominator.astype(y.dtype), finite, bottom, orientation.astype(np.int32), kind.astype(np.int32))
    return Targets(xp.where(xp.asarray(finite), y, xp.asarray(stand_in)), *(xp.asarray(field) for field in fields))
