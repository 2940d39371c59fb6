"""Apply one step again and again, to a depth that may change while a program runs.

    s_0 = state,   s_j = step(params, s_{j-1}),   j = 1 … max(1, depth)

A Python depth is part of the compiled program: short ones are unrolled, longer ones scanned. A traced
depth is the trip count of a loop, so one program serves every depth. JAX cannot reverse a loop whose
length it does not know; the gradient is therefore written out (`_reverse`): it walks the levels
backwards and finds the state of each level again from the input. That costs d²/2 further steps and, in
return, needs no memory that grows with the depth and no bound on it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from ._numbers import as_depth

_UNROLLED = 4  # up to here the unrolled program compiles no slower than a scan, and runs faster

Step = Callable[[Any, Any], Any]


def recurse(step: Step, params: PyTree, state: PyTree, depth: Any) -> PyTree:
    """The state after `depth` steps; at least one step is taken.

    Args:
        step: ``step(params, state) -> state``, of the state's structure, shapes and dtypes. Whatever
            is to be differentiated must reach it through `params` or `state`, not by closure.
        params: any pytree of floating-point arrays.
        state: any pytree of floating-point arrays.
        depth: how many steps: an int, or an integer scalar array (traced or not). Below 1 counts as 1.

    Returns:
        The last state. Reverse-mode derivatives are exact for both kinds of depth; forward mode is
        there for an int only.

    Raises:
        UsageError: depth is not an integer scalar.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.hypercausal import recurse
        >>> float(recurse(lambda p, s: p * s, jnp.float32(2.0), jnp.float32(1.0), 3))
        8.0
        >>> float(recurse(lambda p, s: p * s, jnp.float32(2.0), jnp.float32(1.0), jnp.int32(3)))
        8.0
    """
    depth = as_depth(depth)
    if not isinstance(depth, int):
        return _loop(step, params, state, depth)
    if depth > _UNROLLED:
        return jax.lax.scan(lambda s, _: (step(params, s), None), state, length=depth)[0]
    for _ in range(depth):
        state = step(params, state)
    return state


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _loop(step: Step, params: Any, state: Any, depth: Any) -> Any:
    return jax.lax.fori_loop(0, depth, lambda _, s: step(params, s), state)


def _forward(step: Step, params: Any, state: Any, depth: Any) -> Any:
    return _loop(step, params, state, depth), (params, state, depth)


def _reverse(step: Step, residuals: Any, cotangent: Any) -> Any:
    params, first, depth = residuals

    def one_level_down(done: Any, carry: Any) -> Any:
        grad_params, grad_state = carry
        before = jax.lax.fori_loop(0, depth - 1 - done, lambda _, s: step(params, s), first)
        _, pull = jax.vjp(step, params, before)
        more, grad_state = pull(grad_state)
        return jax.tree.map(jnp.add, grad_params, more), grad_state

    start = (jax.tree.map(jnp.zeros_like, params), cotangent)
    grad_params, grad_state = jax.lax.fori_loop(0, depth, one_level_down, start)
    return grad_params, grad_state, None


_loop.defvjp(_forward, _reverse)
