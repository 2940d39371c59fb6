"""The door: what is asked is checked, and made ready to be measured."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ..core import (
    Loss,
    Objective,
    UsageError,
    count_parameters,
    float_dtype,
    named_key,
    running_state,
    split_parameters,
    whole_number,
)
from ..estimators import Autodiff
from ..estimators._combine import check_estimator
from ..estimators._probes import check_chunk_size, real_arrays
from ..training._data import as_feed, first_batches
from ._result import Audit
from ._work import FRAMES, Work

RADII = (1e-3, 1e-2, 1e-1, 0.5)
"""Radii of the balls, relative to the norm of the parameters."""
_BATCHES = 16


def audit(
    model: PyTree,
    objective: Objective,
    data: Any,
    *,
    batch_size: int | None = None,
    estimator: Any = None,
    controls: Mapping[str, Any] | None = None,
    growth: tuple[str, Sequence[int]] | None = None,
    trainable: PyTree | None = None,
    radii: Sequence[float] = RADII,
    directions: int = 256,
    estimates: int = 32,
    rows: int = 32,
    evaluations: int = 20_000,
    chunk_size: int = 4,
    seed: int = 0,
    title: str = "a model",
    notes: Sequence[str] = (),
) -> Audit:
    """May this gradient be trusted?

    Args:
        model: any pytree; its inexact arrays are the parameters.
        objective: ``objective(model, batch, controls, key) -> (loss, metrics)``.
        data: as `Trainer.fit` takes it. Batches of the first epoch are used; all that is compared with the loss itself
            is measured on the first.
        batch_size: rows a step, for arrays.
        estimator: the gradient in use; None is `Autodiff`. Its first step is what is audited.
        controls: the step's controls. A Python int is static: a program is compiled for each value.
        growth: the name of a control, and values of it at which the gradient's norm is measured; None or
            no values: not measured.
        trainable: which inexact arrays are trained: an Equinox filter specification.
        radii: of the balls that the loss is averaged over, relative to the norm of the parameters, above 0.
        directions: at each radius. Fewer are taken where `evaluations` does not pay for them.
        estimates: repeated estimates, of an estimator that draws random numbers.
        rows: rows of the first batch that are taken alone, where a batch is made of rows (`batch_size`). 0: none.
        evaluations: of the objective at most, a backward pass counted as two.
        chunk_size: directions or estimates evaluated together.
        seed: decides everything random.
        title: what it is, for people.
        notes: sentences that belong on the page.

    Raises:
        UsageError: an argument out of range, too few evaluations for a single estimate, or an objective that can't be
            evaluated at many parameters at once.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.audit import audit
        >>> def objective(model, batch, controls, key):
        ...     return jnp.sum((model - batch) ** 2), {}
        >>> found = audit(jnp.arange(4.0), objective, jnp.array([1.0, 1.0, 1.0, 4.0]))
        >>> print(found.verdicts[0].text.split(":")[0])
        Trust it
    """
    began = time.perf_counter()
    radii = _checked_radii(radii)
    for name, value, least in (
        ("directions", directions, FRAMES),
        ("estimates", estimates, 2),
        ("rows", rows, 0),
        ("evaluations", evaluations, 1),
        ("chunk_size", chunk_size, 1),
    ):
        whole_number(name, value, least=least)
    seed = whole_number("seed", seed, least=0, most=2**32 - 1)
    estimator = Autodiff() if estimator is None else estimator
    check_estimator("estimator", estimator)
    check_chunk_size(chunk_size)
    params, rest = split_parameters(model, trainable)
    params = real_arrays(params)
    if not count_parameters(params):
        raise UsageError(
            "the model has nothing to audit: no inexact array in it, or none that `trainable` lets through."
        )
    batches, count, of_rows = first_batches(as_feed(data, batch_size=batch_size), _BATCHES, seed=seed)
    loss = Loss(
        _hashable(objective),
        rest,
        jax.tree.map(lambda x: x[0], batches),
        _controls(controls or {}, float_dtype(params)),
        named_key(jax.random.key(seed), "objective"),
        running=running_state(rest),
    )
    work = Work(estimator, loss, params, batches, count, chunk_size, seed, list(notes))
    try:
        return work.run(
            radii=radii,
            directions=directions,
            estimates=estimates,
            rows=rows if of_rows else 0,
            growth=_checked_growth(growth),
            budget=evaluations,
            title=title,
            began=began,
        )
    except NotImplementedError as error:
        if "vmap" not in str(error):
            raise
        raise UsageError(
            "an audit evaluates the objective at many parameters at once, and this one can't be: "
            f"{str(error).partition('.')[0]}. Call what runs outside JAX through hardgrad.BlackBox, or give its "
            'callback vmap_method="sequential".'
        ) from error


def _checked_radii(radii: Sequence[float]) -> tuple[float, ...]:
    found = tuple(sorted(float(r) for r in radii))
    if len(found) < 2 or not all(math.isfinite(r) and r > 0 for r in found) or len(set(found)) < len(found):
        raise UsageError(f"radii must be two or more different numbers above 0, got {tuple(radii)!r}.")
    return found


def _checked_growth(asked: tuple[str, Sequence[int]] | None) -> tuple[str, tuple[int, ...]] | None:
    if asked is None or not asked[1]:
        return None
    name, values = asked
    found = tuple(sorted({whole_number(f"a value of '{name}'", value, least=1) for value in values}))
    if len(found) < 2:
        raise UsageError(f"growth needs two different values of '{name}' or more, got {tuple(values)!r}.")
    return name, found


def _controls(given: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """Numbers as arrays, so that another value is not another program; Python ints as they are."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, int) and not isinstance(value, bool):
            found[name] = value
        else:
            found[name] = jnp.asarray(value, dtype if isinstance(value, float) else None)
    return found


class _Named:
    """A function that can't be hashed, told apart by identity."""

    def __init__(self, function: Any):
        self.function = function

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


def _hashable(objective: Any) -> Any:
    def whole(leaf: Any) -> Any:
        if eqx.is_array(leaf):
            return leaf
        try:
            hash(leaf)
        except TypeError:
            return _Named(leaf)
        return leaf

    return jax.tree.map(whole, objective)
