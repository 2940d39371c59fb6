"""Order 0: finite differences along each parameter in turn.

Central:  g_j = (L(θ + ε e_j) - L(θ - ε e_j)) / (2 ε),  error O(ε²)
Forward:  g_j = (L(θ + ε e_j) - L(θ)) / ε,              error O(ε)

All probes are evaluated together, so that one compiled program serves any number of parameters.
Rounding adds about (machine epsilon · L) / ε: in float32 keep ε at 1e-3 or above. The step must also
move the parameter: one of size 1 in bfloat16 does not change for ε below 4e-3, and its gradient is then 0. An ε
below ten machine epsilons of the loss is warned about.
"""

from __future__ import annotations

import warnings
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ..core import (
    AbstractEstimator,
    Contract,
    Controls,
    Estimate,
    LossFunction,
    Order,
    Params,
    count_parameters,
    float_dtype,
)
from ._probes import check_chunk_size, check_positive, map_chunks, real_arrays, real_loss, scalar, unflatten


def _move_one(params: Params, index: Int[Array, ""], amount: Array) -> Params:
    """`params` with the scalar at flat position `index` moved by `amount`; index -1 moves none."""
    leaves, structure = jax.tree.flatten(params)
    moved, offset = [], 0
    for leaf in leaves:
        positions = (offset + jnp.arange(leaf.size)).reshape(leaf.shape)
        moved.append(jnp.where(positions == index, leaf + amount.astype(leaf.dtype), leaf))
        offset += leaf.size
    return jax.tree.unflatten(structure, moved)


def _evaluate_all(
    loss_fn: LossFunction,
    params: Params,
    signs: tuple[float, ...],
    eps: Float[Array, ""],
    chunk_size: int | None,
) -> tuple[Array, Any, Array]:
    """The loss at `params`, its metrics there, and the losses ``[sign, parameter]`` of all probes."""
    count = count_parameters(params)
    index = jnp.concatenate([jnp.array([-1]), *[jnp.arange(count) for _ in signs]])
    sign = jnp.concatenate([jnp.zeros(1), *[jnp.full(count, s) for s in signs]]).astype(eps.dtype)

    def evaluate(probe: tuple[Array, Array]) -> Any:
        position, direction = probe
        return loss_fn(_move_one(params, position, direction * eps))

    losses, metrics = map_chunks(evaluate, (index, sign), chunk_size)
    return losses[0], jax.tree.map(lambda m: m[0], metrics), losses[1:].reshape(len(signs), count)


def _divide(differences: Float[Array, " count"], step: Float[Array, ""]) -> Float[Array, " count"]:
    """Entry by entry: by a scalar, XLA multiplies with its reciprocal, which ends on another last bit."""
    return differences / jnp.full(differences.shape, step, differences.dtype)


def _warn_of_rounding(eps: Any, params: Params) -> None:
    """Say so if differences will be mostly rounding, which looks like training that does not get on."""
    dtype = float_dtype(params)
    least = 10.0 * float(np.finfo(dtype).eps)
    if isinstance(eps, int | float) and eps < least:
        warnings.warn(
            f"eps={eps!r} is lost in the rounding of {dtype.name}: the difference of two losses is then noise, or 0. "
            f"Take {least:.0e} at the very least, 100 times as much to be safe.",
            stacklevel=2,
        )


class CentralDifference(AbstractEstimator):
    """Central differences: 2 evaluations a parameter, and one at the point itself.

    Attributes:
        eps: the step ε > 0, a number or a `control`. 1e-3 balances truncation and rounding in float32.
        chunk_size: at most so many probes at a time; None evaluates all together.

    Raises:
        UsageError: eps is not positive, chunk_size not a positive int, or a parameter is not real.
    """

    eps: Any = 1e-3
    chunk_size: int | None = eqx.field(static=True, default=None)

    @property
    def contract(self) -> Contract:
        """Order 0: 2n + 1 evaluations for n parameters."""
        return Contract(
            Order.ZERO,
            needs_key=False,
            fixed_evaluations=1,
            evaluations_per_parameter=2,
            bias="O(eps^2), towards the loss averaged over +-eps",
        )

    def __check_init__(self) -> None:
        check_positive("eps", self.eps)
        check_chunk_size(self.chunk_size)

    def init(self, params: Params) -> Any:
        """No state."""
        _warn_of_rounding(self.eps, params)
        return ()

    def estimate(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Estimate, Any]:
        """2n + 1 evaluations for n parameters."""
        loss_fn, params = real_loss(loss_fn), real_arrays(params)
        eps = scalar(self.eps, controls, params)
        loss, metrics, (up, down) = _evaluate_all(loss_fn, params, (1.0, -1.0), eps, self.chunk_size)
        gradient = unflatten(_divide(up - down, 2 * eps), params)
        return Estimate(loss, gradient, metrics, {}), state


class ForwardDifference(AbstractEstimator):
    """Forward differences: 1 evaluation a parameter, and one at the point itself.

    Half the cost of `CentralDifference`; the error falls with ε instead of ε².

    Attributes:
        eps: the step ε > 0, a number or a `control`.
        chunk_size: at most so many probes at a time; None evaluates all together.

    Raises:
        UsageError: eps is not positive, chunk_size not a positive int, or a parameter is not real.
    """

    eps: Any = 1e-3
    chunk_size: int | None = eqx.field(static=True, default=None)

    @property
    def contract(self) -> Contract:
        """Order 0: n + 1 evaluations for n parameters."""
        return Contract(
            Order.ZERO,
            needs_key=False,
            fixed_evaluations=1,
            evaluations_per_parameter=1,
            bias="O(eps), half the second derivative times eps",
        )

    def __check_init__(self) -> None:
        check_positive("eps", self.eps)
        check_chunk_size(self.chunk_size)

    def init(self, params: Params) -> Any:
        """No state."""
        _warn_of_rounding(self.eps, params)
        return ()

    def estimate(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Estimate, Any]:
        """n + 1 evaluations for n parameters."""
        loss_fn, params = real_loss(loss_fn), real_arrays(params)
        eps = scalar(self.eps, controls, params)
        loss, metrics, (up,) = _evaluate_all(loss_fn, params, (1.0,), eps, self.chunk_size)
        return Estimate(loss, unflatten(_divide(up - loss, eps), params), metrics, {}), state
