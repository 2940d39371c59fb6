"""Optax transformations that read controls, and clipping that reports what it did.

The trainer passes the step's controls to the optimiser as the extra argument ``controls``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ..core import Control, Metrics, float_dtype, global_norm, resolve


class ClipState(NamedTuple):
    """What the last clipping saw.

    Attributes:
        clipped_norm: the global norm after clipping, recomputed from the clipped values.
    """

    clipped_norm: Float[Array, ""]

    def diagnostics(self) -> Metrics:
        """Recorded with the step."""
        return {"clipped_norm": self.clipped_norm}


def clip_by_global_norm(max_norm: Any) -> optax.GradientTransformationExtraArgs:
    """Scale a gradient whose global norm n exceeds τ by τ / n; leave it alone otherwise.

    Unlike Optax's, τ may follow a schedule and the norm after clipping is recorded as ``clipped_norm``.

    Args:
        max_norm: τ ≥ 0, a number or a `control`.
    """

    def init(params: Any) -> ClipState:
        return ClipState(jnp.zeros((), float_dtype(params)))

    def update(updates: Any, state: ClipState, params: Any = None, **extra: Any) -> tuple[Any, ClipState]:
        del params
        norm = global_norm(updates)
        limit = jnp.asarray(resolve(max_norm, extra.get("controls", {})), norm.dtype)
        inside = norm <= limit
        scale = limit / jnp.where(inside, 1.0, norm)
        clipped = jax.tree.map(lambda g: jnp.where(inside, g, g * scale.astype(g.dtype)), updates)
        return clipped, ClipState(global_norm(clipped).astype(state.clipped_norm.dtype))

    return optax.GradientTransformationExtraArgs(init, update)


def controlled(
    factory: Callable[..., optax.GradientTransformation], *args: Any, **settings: Any
) -> optax.GradientTransformationExtraArgs:
    """An Optax optimiser whose numbers follow schedules.

    Args:
        factory: such as ``optax.adam``.
        *args: its positional settings; each may be a `control`.
        **settings: its named settings; each may be a `control`.

    Examples:
        >>> import hardgrad as hg
        >>> import optax
        >>> optimizer = hg.controlled(optax.adam, hg.control("learning_rate"), b1=0.8)
    """

    def build(fill: Callable[[Any], Any]) -> optax.GradientTransformationExtraArgs:
        positional = [fill(value) for value in args]
        named = {name: fill(value) for name, value in settings.items()}
        return optax.with_extra_args_support(factory(*positional, **named))

    def init(params: Any) -> Any:
        # A state's structure never depends on the number that a control will hold.
        return build(lambda value: 1.0 if isinstance(value, Control) else value).init(params)

    def update(updates: Any, state: Any, params: Any = None, **extra: Any) -> tuple[Any, Any]:
        controls = extra.get("controls", {})
        new_updates, new_state = build(lambda value: resolve(value, controls)).update(updates, state, params, **extra)
        return new_updates, new_state

    return optax.GradientTransformationExtraArgs(init, update)


def optimizer_diagnostics(state: Any) -> Metrics:
    """What the parts of an optimiser's state report about the last update."""

    def reports(node: Any) -> bool:
        return hasattr(node, "diagnostics")

    out: Metrics = {}
    for node in jax.tree.leaves(state, is_leaf=reports):
        if reports(node):
            out |= node.diagnostics()
    return out
