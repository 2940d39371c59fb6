"""Evolution strategies of evosax by name, with the settings of their papers.

Each is a description; `EvolutionMethod` runs it. They work on one flat vector of all parameters, sample a population
around a mean, and look only at the order of the losses, so that any monotone function of the loss trains alike. Ties
share: members of equal loss get the mean of the weights of their ranks. On the plateaus of a hard objective they are
the rule.
"""

from __future__ import annotations

import abc
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from ..core import Controls, UsageError, require, resolve, whole_number
from ..estimators._probes import check_positive

_MIB = 2**20
_MATRICES = 8  # D x D arrays alive together in one step of CMA-ES: old and new C and B, and what is made of them


class AbstractStrategy(eqx.Module):
    """An evolution strategy, described.

    Attributes:
        population: members evaluated in each step.
    """

    population: eqx.AbstractVar[int]

    @abc.abstractmethod
    def build(self, size: int) -> tuple[Any, Any]:
        """The distribution-based algorithm of evosax for a vector of `size` numbers, and its parameters.

        Raises:
            UsageError: it can't work at this size.
            MissingExtraError: evosax is not installed.
        """

    def prepare(self, state: Any, controls: Controls) -> Any:
        """The algorithm's state with what schedules set of it."""
        return state


def evosax_algorithm(name: str, population: int, size: int, **settings: Any) -> tuple[Any, Any]:
    """An algorithm of evosax for a flat vector, and its default parameters.

    Raises:
        MissingExtraError: evosax is not installed.
    """
    require("evosax.algorithms", extra="evolution")
    return _made(name, population, size, jnp.zeros(()).dtype.name, tuple(settings.items()))


@functools.lru_cache(maxsize=64)  # evosax tells algorithms apart by identity: each new one compiles anew
def _made(name: str, population: int, size: int, dtype: str, settings: tuple[tuple[str, Any], ...]) -> tuple[Any, Any]:
    kind = getattr(require("evosax.algorithms", extra="evolution"), name)
    with jax.ensure_compile_time_eval(), jax.numpy_dtype_promotion("standard"):
        algorithm = kind(population_size=population, solution=jnp.zeros(size, dtype), **dict(settings))
        return algorithm, algorithm.default_params


def shared_weights(population: Any, fitness: Any, state: Any, params: Any) -> Any:
    """Each member's recombination weight by its rank; equal members share the mean of theirs."""
    in_order, weights = jnp.sort(fitness), params.weights
    first = jnp.searchsorted(in_order, fitness, side="left")
    after = jnp.searchsorted(in_order, fitness, side="right")
    summed = jnp.concatenate([jnp.zeros(1, weights.dtype), jnp.cumsum(weights)])
    mean = (summed[after] - summed[first]) / (after - first).astype(weights.dtype)
    return jnp.where(after - first == 1, weights[first], mean)


def _check_start(name: str, sigma: Any) -> None:
    if not isinstance(sigma, int | float | jax.Array):
        check_positive("sigma", sigma)
        raise UsageError(
            f"{name} adapts its sigma: the number given is where it starts, and can't be a control; got {sigma!r}. "
            "OpenES takes a schedule."
        )
    check_positive("sigma", sigma)


class OpenES(AbstractStrategy):
    """OpenAI's evolution strategy: antithetic samples of one fixed width, ranks, and any optimiser.

    Salimans et al. 2017, arXiv:1703.03864, sections 2 and 2.1: centred ranks in [-1/2, 1/2] in the place of losses, and
    Adam on g = Σ rank_i z_i / (P σ).

    Attributes:
        population: members, an even number.
        sigma: the width σ > 0, a number or a `control`.
        optimizer: any Optax transformation, `hardgrad.training.controlled` ones included; Adam at 0.01 if None.

    Raises:
        UsageError: an odd population, or a number out of range.
    """

    population: int = eqx.field(static=True, default=64)
    sigma: Any = 0.1
    optimizer: optax.GradientTransformation | None = None

    def __check_init__(self) -> None:
        check_positive("sigma", self.sigma)
        whole_number("population", self.population, least=2)
        if self.population % 2:
            raise UsageError(
                f"OpenES samples in pairs of opposites, so that its population must be even, got {self.population}: "
                f"take {self.population - 1} or {self.population + 1}."
            )

    def build(self, size: int) -> tuple[Any, Any]:
        """Evosax's ``Open_ES``."""
        optimizer = _with_controls_in_state(_ADAM if self.optimizer is None else self.optimizer)
        return evosax_algorithm("Open_ES", self.population, size, optimizer=optimizer)

    def prepare(self, state: Any, controls: Controls) -> Any:
        """With the step's sigma, and controls for the optimiser."""
        sigma = jnp.asarray(resolve(self.sigma, controls), state.mean.dtype)
        return state.replace(std=sigma, opt_state=(state.opt_state[0], dict(controls)))


_ADAM = optax.adam(1e-2)


@functools.lru_cache(maxsize=64)
def _with_controls_in_state(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimiser for evosax, which hands on no further arguments: the controls come with the state."""
    inner = optax.with_extra_args_support(optimizer)

    def init(params: Any) -> Any:
        return inner.init(params), {}

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        memory, controls = state
        updates, memory = inner.update(updates, memory, params, controls=controls)
        return updates, (memory, {})

    return optax.GradientTransformation(init, update)


class SNES(AbstractStrategy):
    """Separable natural evolution strategy: a width of its own for each parameter.

    Wierstra et al. 2014, JMLR 15, algorithm 6 and table 1. Memory and time grow with the number of parameters.

    Attributes:
        population: members; the paper takes 4 + ⌊3 ln D⌋ for D parameters.
        sigma: where all widths start, above 0.

    Raises:
        UsageError: a number out of range.
    """

    population: int = eqx.field(static=True, default=32)
    sigma: Any = 0.1

    def __check_init__(self) -> None:
        _check_start("SNES", self.sigma)
        whole_number("population", self.population, least=4)

    def build(self, size: int) -> tuple[Any, Any]:
        """Evosax's ``SNES``."""
        algorithm, params = evosax_algorithm("SNES", self.population, size, fitness_shaping_fn=shared_weights)
        return algorithm, params.replace(std_init=self.sigma)


class CMAES(AbstractStrategy):
    """Covariance matrix adaptation, the whole matrix: for up to some hundred parameters.

    Hansen 2016, "The CMA evolution strategy: a tutorial", arXiv:1604.00772, with its default settings, negative weights
    included. A step factors a matrix of D × D.

    Attributes:
        population: members; the tutorial takes 4 + ⌊3 ln D⌋ for D parameters, and more for a rugged loss.
        sigma: where the width starts, above 0: about a third of the range in which the best is expected.
        memory_limit: bytes its matrices may take.

    Raises:
        UsageError: a number out of range; or, once parameters are known, more of them than the memory allows.
    """

    population: int = eqx.field(static=True, default=32)
    sigma: Any = 0.1
    memory_limit: int = eqx.field(static=True, default=64 * _MIB)

    def __check_init__(self) -> None:
        _check_start("CMAES", self.sigma)
        whole_number("population", self.population, least=4)
        whole_number("memory_limit", self.memory_limit, least=1)

    def build(self, size: int) -> tuple[Any, Any]:
        """Evosax's ``CMA_ES``."""
        needed = _MATRICES * size**2 * jnp.zeros(()).dtype.itemsize
        if needed > self.memory_limit:
            raise UsageError(
                f"CMAES keeps and factors matrices of {size:,} x {size:,} for {size:,} parameters: about {needed:,} "
                f"bytes a step, the limit is {self.memory_limit:,}. Take SepCMAES or SNES, which keep one number for "
                f"each parameter, or allow it: CMAES(..., memory_limit={needed})."
            )
        algorithm, params = evosax_algorithm("CMA_ES", self.population, size, fitness_shaping_fn=shared_weights)
        return algorithm, params.replace(std_init=self.sigma)


class SepCMAES(AbstractStrategy):
    """Covariance matrix adaptation of the diagonal only: for thousands of parameters.

    Ros and Hansen 2008, "A simple modification in CMA-ES achieving linear time and space complexity" (PPSN X): the
    learning rates of the matrix are those of CMA-ES times (D + 2) / 3, since D numbers are learned and not D².

    Attributes:
        population: members; the paper takes 4 + ⌊3 ln D⌋ for D parameters.
        sigma: where the width starts, above 0.

    Raises:
        UsageError: a number out of range.
    """

    population: int = eqx.field(static=True, default=32)
    sigma: Any = 0.1

    def __check_init__(self) -> None:
        _check_start("SepCMAES", self.sigma)
        whole_number("population", self.population, least=4)

    def build(self, size: int) -> tuple[Any, Any]:
        """Evosax's ``Sep_CMA_ES``, with the paper's learning rates."""
        algorithm, params = evosax_algorithm("Sep_CMA_ES", self.population, size, fitness_shaping_fn=shared_weights)
        with jax.ensure_compile_time_eval():
            c_1 = jnp.minimum(params.c_1 * ((size + 2) / 3), 1.0)
            c_mu = jnp.minimum(params.c_mu * ((size + 2) / 3), 1.0 - c_1)
        return algorithm, params.replace(std_init=self.sigma, c_1=c_1, c_mu=c_mu)
