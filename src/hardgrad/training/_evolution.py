"""Order 0 by evolution: sample, evaluate, move the distribution towards the better.

A strategy keeps its own state, a mean and a spread at least, and needs nothing of the objective but values. The members
of a population are evaluated together, in chunks that bound memory.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ..core import Contract, Controls, LossFunction, Order, Params, UsageError, float_dtype, tree_select
from ..estimators._probes import check_chunk_size, map_chunks, real_arrays, real_loss, unflatten
from ._method import AbstractMethod, Outcome
from ._strategies import AbstractStrategy


class EvolutionMethod(AbstractMethod):
    """An evolution strategy as a method: ask for a population, evaluate it, tell the losses.

    A member whose loss is not finite counts as the worst, whatever the sign; if all are, the distribution stays as it
    is. Loss and metrics are those of the parameters before the update, which costs one evaluation more than the
    population; where that loss is not finite the trainer skips the step, as with any method. Diagnostics:
    ``population_best``, ``population_mean`` and ``population_spread`` (a standard deviation) of the finite losses,
    ``failed`` (the share of the others), ``best_so_far`` and the population's ``sigma`` (a geometric mean).

    Attributes:
        strategy: such as ``CMAES(population=16)``.
        trained: what the model's parameters become: ``"mean"``, the distribution's, or ``"best"``, the best member yet.
            With batches that differ from step to step, losses of different steps don't compare: take the mean.
        chunk_size: at most so many members at a time; None evaluates all together.

    Raises:
        UsageError: an argument out of range, a parameter that is not real, or too many of them for the strategy.
        MissingExtraError: evosax is not installed.

    Examples:
        >>> import jax.numpy as jnp
        >>> import hardgrad as hg
        >>> def bumpy(model, batch, controls, key):
        ...     return jnp.sum(jnp.abs(jnp.round(4.0 * model) - batch)), {}
        >>> method = hg.EvolutionMethod(hg.CMAES(population=16, sigma=0.5), trained="best")
        >>> result = hg.Trainer(method).fit(jnp.zeros(3), bumpy, jnp.array([[3.0, -2.0, 5.0]]), epochs=40)
        >>> print(jnp.round(4.0 * result.model))
        [ 3. -2.  5.]
    """

    strategy: AbstractStrategy
    trained: str = eqx.field(static=True, default="mean")
    chunk_size: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        if not isinstance(self.strategy, AbstractStrategy):
            raise UsageError(f"strategy must be one, such as CMAES(population=16), got {self.strategy!r}.")
        if self.trained not in ("mean", "best"):
            raise UsageError(f"trained must be 'mean' or 'best', got {self.trained!r}.")
        check_chunk_size(self.chunk_size)

    @property
    def contract(self) -> Contract:
        """Order 0: the population and one more, whatever the number of parameters."""
        return Contract(
            Order.ZERO,
            needs_key=True,
            fixed_evaluations=self.strategy.population + 1,
            bias="no gradient: it follows the ranks of the losses of its samples",
        )

    def init(self, params: Params, *, key: Key[Array, ""]) -> Any:
        """The strategy's state, its mean at `params`."""
        params = real_arrays(params)
        mean = _flatten(params)
        algorithm, settings = self.strategy.build(mean.size)
        with jax.numpy_dtype_promotion("standard"):
            state = algorithm.init(key, mean, settings)
        return jax.tree.map(lambda x: _as(mean.dtype, x), state)

    def update(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Params, Any, Outcome]:
        """Ask, evaluate, tell."""
        params = real_arrays(params)
        dtype = float_dtype(params)
        algorithm, settings = self.strategy.build(_flatten(params).size)
        ask_key, tell_key = jax.random.split(key)
        loss, metrics = loss_fn(params)
        value = real_loss(loss_fn)
        with jax.numpy_dtype_promotion("standard"):
            members, asked = algorithm.ask(ask_key, self.strategy.prepare(state, controls), settings)
        losses = map_chunks(lambda x: value(unflatten(x, params))[0], members, self.chunk_size).astype(dtype)
        finite = jnp.isfinite(losses)
        with jax.numpy_dtype_promotion("standard"):
            told, _ = algorithm.tell(tell_key, members, jnp.where(finite, losses, jnp.inf), asked, settings)
        told = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), told, state)
        told = tree_select(jnp.any(finite), told, state)

        mean = unflatten(told.mean, params)
        best = tree_select(jnp.isfinite(told.best_fitness), unflatten(told.best_solution, params), params)
        count = jnp.sum(finite).astype(dtype)
        average = jnp.sum(jnp.where(finite, losses, 0.0)) / count
        diagnostics = {
            "population_best": jnp.min(jnp.where(finite, losses, jnp.inf)),
            "population_mean": average,
            "population_spread": jnp.sqrt(jnp.sum(jnp.where(finite, losses - average, 0.0) ** 2) / count),
            "failed": (losses.size - count) / losses.size,
            "best_so_far": told.best_fitness,
            "sigma": jnp.exp(jnp.mean(jnp.log(asked.std))),
        }
        return mean if self.trained == "mean" else best, told, Outcome(loss, None, metrics, diagnostics)


def _flatten(params: Params) -> Array:
    """All parameters end to end, in flattening order, in their widest dtype."""
    dtype = float_dtype(params)
    return jnp.concatenate([jnp.zeros(0, dtype), *[x.ravel().astype(dtype) for x in jax.tree.leaves(params)]])


def _as(dtype: Any, x: Any) -> Array:
    """Strong, and floats in one dtype: what a step returns must be what it was given."""
    x = jnp.asarray(x)
    return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.asarray(x, x.dtype)
