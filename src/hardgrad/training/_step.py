"""One step, pure: update or hold, never with a number that is not finite.

A step whose loss, gradient, gradient's norm or new parameters are not finite leaves parameters and method
state as they were; it is reported as it is, and counted, but has no part in the means of its epoch. (A norm can
overflow while the gradient does not; an optimiser's second moments then overflow as well, and it would stand
still for ever.) A frozen step (control ``freeze``) evaluates the loss and updates nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from ..core import (
    Loss,
    Params,
    UsageError,
    all_finite,
    global_norm,
    named_key,
    running_state,
    split_parameters,
    take_running,
    tree_select,
)
from ._method import AbstractMethod, Outcome

FREEZE = "freeze"
"""The control that, when true, holds the parameters for a step."""

Recorder = Callable[[Params, Outcome], dict[str, Array]]
"""``record(params after the step, outcome) -> arrays`` to keep for every step."""

_LARGEST_SCALE = 2.0**15  # start and ceiling: 2^16 is not a float16
_SCALE_GROWTH_EVERY = 2000  # steps; longer than any warm-up


class TrainState(NamedTuple):
    """All that one step hands to the next.

    Attributes:
        params: the trained parameters.
        method: the method's state.
        streak: non-finite steps in a row, so far.
        loss_scale: the scale of float16 gradients; None in other precisions.
        since_growth: finite steps since the scale last changed; None with it.
        running: the model's running state, of the model's structure; None for a model without.
    """

    params: Params
    method: Any
    streak: Int[Array, ""]
    loss_scale: Float[Array, ""] | None
    since_growth: Int[Array, ""] | None
    running: PyTree = None

    @property
    def learned(self) -> PyTree:
        """All of the model that training has changed: parameters and running state."""
        return self.params if self.running is None else eqx.combine(self.params, self.running)

    def with_learned(self, learned: PyTree) -> TrainState:
        """This state with other parameters and running state."""
        running = None if self.running is None else running_state(learned)
        return self._replace(params=split_parameters(learned)[0], running=running)


class StepOutput(NamedTuple):
    """What one step reports.

    Attributes:
        scalars: loss and metrics by name.
        diagnostics: what the method says about the update, by name; NaN in a frozen step.
        finite: whether loss, gradient and new parameters were finite.
        frozen: whether the step was held by the ``freeze`` control.
        streak: non-finite steps in a row, this one included.
        arrays: what the recorder asked for.
    """

    scalars: dict[str, Array]
    diagnostics: dict[str, Array]
    finite: Bool[Array, ""]
    frozen: Bool[Array, ""]
    streak: Int[Array, ""]
    arrays: dict[str, Array]


def initial_state(
    method: AbstractMethod, params: Params, seed: Any, running: PyTree = None, *, scaled: bool
) -> TrainState:
    """The state before the first step; `scaled` says whether gradients are float16's."""
    key = named_key(jax.random.key(seed), "init")
    # A dtype given by name makes it strong: a weak one would compile again after the first block.
    strong = lambda x: jnp.asarray(x, x.dtype) if isinstance(x, jax.Array) else x
    return TrainState(
        params=jax.tree.map(strong, params),
        method=jax.tree.map(strong, method.init(params, key=key)),
        streak=jnp.zeros((), jnp.int32),
        loss_scale=jnp.array(_LARGEST_SCALE, jnp.float32) if scaled else None,
        since_growth=jnp.zeros((), jnp.int32) if scaled else None,
        running=jax.tree.map(strong, running),
    )


def _adapt_scale(scale: Any, since_growth: Any, finite: Bool[Array, ""]) -> tuple[Any, Any]:
    """Halve after an overflow, double after a long quiet (Micikevicius et al. 2018, section 3.2)."""
    if scale is None:
        return None, None
    quiet = jnp.where(finite, since_growth + 1, 0)
    grow = quiet >= _SCALE_GROWTH_EVERY
    up = jnp.where(grow, jnp.minimum(scale * 2.0, _LARGEST_SCALE), scale)
    return jnp.where(finite, up, jnp.maximum(scale / 2.0, 1.0)), jnp.where(grow, 0, quiet)


def train_step(
    method: AbstractMethod,
    loss: Loss,
    state: TrainState,
    *,
    key: Key[Array, ""],
    record: Recorder | None = None,
) -> tuple[TrainState, StepOutput]:
    """One step of a method on a bound loss.

    Args:
        method: the method.
        loss: the objective bound to batch, controls and key. Its scale is set here.
        state: the state so far.
        key: the key the method may draw from.
        record: arrays to report for this step.
    """
    if state.loss_scale is not None:
        loss = dataclasses.replace(loss, scale=state.loss_scale)
    if state.running is not None:
        loss = dataclasses.replace(loss, running=state.running)

    @partial(jax.jit, inline=True)  # `hold` asks for the shape of what it returns: traced once, not twice
    def update(state: TrainState) -> tuple[Any, Any, Outcome]:
        return method.update(loss, state.params, state.method, controls=loss.controls, key=key)

    def hold(state: TrainState) -> tuple[Any, Any, Outcome]:
        value, metrics = loss(state.params)
        shape = jax.eval_shape(update, state)[2]
        gradient, diagnostics = jax.tree.map(_not_computed, (shape.gradient, shape.diagnostics))
        return state.params, state.method, Outcome(value, gradient, metrics, diagnostics)

    if FREEZE in loss.controls:
        frozen = jnp.asarray(loss.controls[FREEZE], bool)
        params, method_state, outcome = jax.lax.cond(frozen, hold, update, state)
        gradient_finite = frozen | jnp.isfinite(global_norm(outcome.gradient))
    else:
        frozen = jnp.array(False)
        params, method_state, outcome = update(state)
        gradient_finite = jnp.isfinite(global_norm(outcome.gradient))

    metrics, running = take_running(outcome.metrics, state.running)
    outcome = outcome._replace(metrics=metrics)
    finite = jnp.isfinite(outcome.loss) & gradient_finite & all_finite((params, running))
    params, method_state = tree_select(finite, (params, method_state), (state.params, state.method))
    running = tree_select(finite & ~frozen, running, state.running)
    streak = jnp.where(finite, 0, state.streak + 1)
    loss_scale, since_growth = _adapt_scale(state.loss_scale, state.since_growth, finite)
    arrays = {} if record is None else record(params, outcome)
    scalars = _by_name(outcome.loss, outcome.metrics, taken=("loss", "skipped", *outcome.diagnostics))
    output = StepOutput(scalars, dict(outcome.diagnostics), finite, frozen, streak, arrays)
    return TrainState(params, method_state, streak, loss_scale, since_growth, running), output


def _not_computed(x: jax.ShapeDtypeStruct) -> Array:
    return jnp.full(x.shape, jnp.nan if jnp.issubdtype(x.dtype, jnp.inexact) else 0, x.dtype)


def evaluate(loss: Loss, params: Params) -> dict[str, Array]:
    """Loss and metrics at `params` by name, with nothing updated."""
    return _by_name(*loss(params))


def _by_name(value: Array, metrics: dict[str, Array], *, taken: Iterable[str] = ("loss",)) -> dict[str, Array]:
    """Loss and metrics in one dict.

    Raises:
        UsageError: a metric has a name that is taken.
    """
    for name in metrics:
        if name in taken or name.startswith("val_"):
            raise UsageError(f"an objective's metric may not be called '{name}': the trainer records its own.")
    return {"loss": value, **metrics}
