"""An optimiser for each block of parameters, which rests when the block's estimator does.

A gradient of 0 is not the absence of one: Adam would let its moments decay and coast on by its momentum. Off a block's
turn, the optimiser made here neither moves the block nor its own memory of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ..core import Params, UsageError
from ..estimators import Blocks
from ..estimators._every import take_turn


def by_block(
    blocks: Blocks, optimizer: optax.GradientTransformation | Mapping[Any, optax.GradientTransformation]
) -> optax.GradientTransformationExtraArgs:
    """An optimiser that goes with `blocks`: a state for each block, updated on the block's turns only.

    Its turns are those of `blocks` as long as both are called step by step, as `GradientMethod` does; what counts steps
    in its own way, such as `optax.MultiSteps`, goes around a block's optimiser, not around this.

    Args:
        blocks: the estimator.
        optimizer: one for all blocks, or one for each, under the same keys as the estimators.

    Raises:
        UsageError: the keys are not those of the blocks.

    Examples:
        >>> import hardgrad as hg
        >>> import optax
        >>> blocks = hg.Blocks({"delay": hg.Every(5, hg.AntitheticNES(sigma=0.5)), ...: hg.Autodiff()})
        >>> method = hg.GradientMethod(blocks, hg.by_block(blocks, {"delay": optax.sgd(0.1), ...: optax.adam(1e-2)}))
    """
    inner = [optax.with_extra_args_support(one) for one in _one_each(blocks, optimizer)]

    def init(params: Params) -> Any:
        parts = blocks.split(params)
        return tuple((jnp.zeros((), jnp.int32), one.init(part)) for one, part in zip(inner, parts, strict=True))

    def update(updates: Params, state: Any, params: Params = None, **extra: Any) -> tuple[Params, Any]:
        pieces = blocks.split(updates)
        parts = [None] * len(pieces) if params is None else blocks.split(params)
        moved, states = [], []
        for i, (one, n) in enumerate(zip(inner, blocks.every, strict=True)):
            others = eqx.combine(*parts[:i], *parts[i + 1 :]) if params is not None and len(parts) > 1 else None

            @partial(jax.jit, inline=True)  # its shape is asked for: traced once, not twice
            def act(memory: Any, one: Any = one, i: int = i, others: Any = others) -> Any:
                return one.update(pieces[i], memory, parts[i], **_of_block(extra, blocks, i, others))

            def rest(memory: Any, act: Any = act) -> Any:
                shapes = jax.eval_shape(act, memory)[0]
                return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes), memory

            (own, memory), _ = take_turn(n, state[i], act, rest)
            moved.append(own)
            states.append(((state[i][0] + 1) % n, memory))
        return eqx.combine(*moved), tuple(states)

    return optax.GradientTransformationExtraArgs(init, update)


def _one_each(
    blocks: Blocks, optimizer: optax.GradientTransformation | Mapping[Any, optax.GradientTransformation]
) -> list[optax.GradientTransformation]:
    if not isinstance(optimizer, Mapping):
        return [optimizer] * len(blocks.names)
    given = {"rest" if key is ... else "+".join((key,) if isinstance(key, str) else key): key for key in optimizer}
    if set(given) != set(blocks.names):
        raise UsageError(
            f"the optimisers are for the blocks {sorted(given)}, the estimators for {sorted(blocks.names)}. "
            "Give one for each, under the same key, or a single one for all."
        )
    return [optimizer[given[name]] for name in blocks.names]


def _of_block(extra: dict[str, Any], blocks: Blocks, index: int, others: Params) -> dict[str, Any]:
    """The extra arguments of an optimiser as they are for one block."""
    own = dict(extra)
    if own.get("grad") is not None:
        own["grad"] = blocks.split(own["grad"])[index]
    if own.get("value_fn") is not None and others is not None:
        whole = own["value_fn"]
        # Optax hands on by name what the function names.
        own["value_fn"] = lambda part, controls=None: whole(eqx.combine(part, others), controls=controls)
    return own
