"""Turns: an estimator that works at every n-th step only.

Where evaluations are dear, or a block of parameters needs few updates, the estimator rests in between.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Key

from ..core import AbstractEstimator, Contract, Controls, Estimate, LossFunction, Metrics, Params, whole_number
from ._combine import EVALUATIONS, check_estimator, evaluations_made


class Every(AbstractEstimator):
    """An estimator that works at the first of every n steps; at the others its gradient is 0.

    As a part of `Hybrid` or `Blocks` it costs no evaluation off its turn; on its own it costs the one that the loss is
    reported from. Its diagnostics are 0 off turn, and ``turn`` is 1 on turn, else 0: where an epoch's record has means
    over steps, a diagnostic divided by ``turn`` is its mean over the turns. Under `jax.vmap` both are computed, and one
    thrown away.

    Attributes:
        n: steps from turn to turn; 1 is always.
        estimator: the estimator.

    Raises:
        UsageError: n is not a positive int.

    Examples:
        >>> import jax
        >>> import hardgrad as hg
        >>> loss = lambda p: (p**2, {})
        >>> estimator = hg.Every(2, hg.Autodiff())
        >>> state = estimator.init(3.0)
        >>> for _ in range(3):
        ...     estimate, state = estimator.estimate(loss, 3.0, state, controls={}, key=jax.random.key(0))
        ...     print(estimate.gradient)
        6.0
        0.0
        6.0
    """

    n: int = eqx.field(static=True)
    estimator: AbstractEstimator

    def __init__(self, n: int, estimator: AbstractEstimator):
        self.n = whole_number("n", n, least=1)
        check_estimator("estimator", estimator)
        self.estimator = estimator

    @property
    def contract(self) -> Contract:
        """The estimator's, which is what a step on its turn costs; the diagnostic ``evaluations`` counts each."""
        return self.estimator.contract

    def init(self, params: Params) -> Any:
        """Steps since the last turn, and the estimator's state."""
        return jnp.zeros((), jnp.int32), self.estimator.init(params)

    def estimate(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Estimate, Any]:
        """What the estimator finds on its turn; off it the loss and a gradient of 0."""

        def act(inner: Any) -> Any:
            return self.estimator.estimate(loss_fn, params, inner, controls=controls, key=key)

        def rest(inner: Any) -> Any:
            loss, metrics = loss_fn(params)
            found, _ = jax.eval_shape(act_once, inner)
            return Estimate(loss, _zeros(found.gradient), metrics, _zeros(found.diagnostics)), inner

        act_once = jax.jit(act, inline=True)
        (estimate, inner), turn = take_turn(self.n, state, act_once, rest)
        made = evaluations_made(self.estimator, estimate.diagnostics, params)
        diagnostics = {
            **estimate.diagnostics,
            "turn": turn.astype(jnp.asarray(estimate.loss).dtype),
            EVALUATIONS: jnp.where(turn, jnp.asarray(made, jnp.int32), 1),
        }
        return estimate._replace(diagnostics=diagnostics), (self._next(state), inner)

    def _next(self, state: Any) -> Any:
        return (state[0] + 1) % self.n


def take_turn(n: int, state: Any, act: Callable[[Any], Any], rest: Callable[[Any], Any]) -> tuple[Any, Bool[Array, ""]]:
    """``act(inner)`` on the turn, ``rest(inner)`` off it, for a state ``(steps since the last turn, inner)``."""
    count, inner = state
    turn = count == 0
    if n == 1:
        return act(inner), turn
    return jax.lax.cond(turn, lambda i: _strong(act(i)), lambda i: _strong(rest(i)), inner), turn


def contribute(
    estimator: AbstractEstimator,
    loss_fn: LossFunction,
    params: Params,
    state: Any,
    *,
    controls: Controls,
    key: Key[Array, ""],
) -> tuple[Params, Metrics, Any, Any]:
    """What an estimator adds to one that has the loss already: gradient, diagnostics, evaluations made, next state.

    One that has turns makes no evaluation off them.
    """
    if not isinstance(estimator, Every):
        found, state = estimator.estimate(loss_fn, params, state, controls=controls, key=key)
        return found.gradient, found.diagnostics, evaluations_made(estimator, found.diagnostics, params), state

    @partial(jax.jit, inline=True)  # `rest` asks for its shape: traced once, not twice
    def act(inner: Any) -> Any:
        *found, inner = contribute(estimator.estimator, loss_fn, params, inner, controls=controls, key=key)
        return found, inner

    def rest(inner: Any) -> Any:
        return _zeros(jax.eval_shape(act, inner)[0]), inner

    ((gradient, diagnostics, made), inner), turn = take_turn(estimator.n, state, act, rest)
    diagnostics = {**diagnostics, "turn": turn.astype(jnp.float32)}
    return gradient, diagnostics, jnp.asarray(made, jnp.int32), (estimator._next(state), inner)


def _zeros(shapes: Any) -> Any:
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)


def _strong(tree: Any) -> Any:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), tree)
