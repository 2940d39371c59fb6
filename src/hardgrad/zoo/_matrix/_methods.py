"""The rows of the matrix: methods by name, what a step of each costs, and the settings each may choose from."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import optax

from ...core import AbstractEstimator, Order, control
from ...estimators import (
    SPSA,
    AntitheticNES,
    Autodiff,
    CentralDifference,
    Every,
    ForwardDifference,
    GuidedES,
    Hybrid,
)
from ...training import (
    CMAES,
    SNES,
    AbstractMethod,
    EvolutionMethod,
    GradientMethod,
    OpenES,
    SepCMAES,
    controlled,
)
from ._problem import Problem
from ._transfer import by_conversion, by_eprop, by_feedback_alignment, by_synthetic_gradients, quantised

PAIRS = 8
"""Antithetic pairs of every estimator that samples."""
POPULATION = 16
"""Members of every population: as many evaluations as the pairs'."""
TURN = 5
"""Steps from turn to turn of the samples in ``every``."""
_ADAM = controlled(optax.adam, control("learning_rate"))

_RATES = {"learning_rate": (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)}
_RATES_AND_STEPS = {"learning_rate": (0.01, 0.05, 0.2), "sigma": (0.003, 0.1)}
_RATES_AND_WIDTHS = {"learning_rate": (0.01, 0.05, 0.2), "sigma": (0.03, 0.2)}
_WIDTHS = {"sigma": (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A method.

    Attributes:
        name: on the command line.
        label: in tables.
        order: the information it uses.
        make: from settings, numbers that may be traced, to the method.
        grid: the settings to choose from, by name; six rows in every case.
        prepare: the problem as this method trains it.

    Raises:
        UsageError: from `prepare`: it cannot be set to this problem, and why.
    """

    name: str
    label: str
    order: Order
    make: Callable[[Mapping[str, Any]], AbstractMethod]
    grid: Mapping[str, tuple[float, ...]]
    prepare: Callable[[Problem], Problem] = lambda problem: problem

    @property
    def rows(self) -> list[dict[str, float]]:
        """The grid, row by row."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]

    def costs(self, parameters: int) -> tuple[int, ...]:
        """Evaluations of the steps after which costs repeat, for so many parameters."""
        return costs(self.make(self.rows[0]), parameters)


def _gradient(estimator: Callable[[], AbstractEstimator]) -> Callable[[Mapping[str, Any]], AbstractMethod]:
    """Adam on an estimator that reads its width as a control."""
    return lambda settings: GradientMethod(estimator(), _ADAM)


def _nes() -> AntitheticNES:
    return AntitheticNES(control("sigma"), pairs=PAIRS)


def _evolution(strategy: Callable[[Any], Any]) -> Callable[[Mapping[str, Any]], AbstractMethod]:
    return lambda settings: EvolutionMethod(strategy(settings["sigma"]))


ENTRIES = {
    entry.name: entry
    for entry in (
        Entry("autodiff", "Autodiff", Order.ONE, _gradient(Autodiff), _RATES),
        Entry(
            "central",
            "CentralDifference",
            Order.ZERO,
            _gradient(lambda: CentralDifference(control("sigma"))),
            _RATES_AND_STEPS,
        ),
        Entry(
            "forward",
            "ForwardDifference",
            Order.ZERO,
            _gradient(lambda: ForwardDifference(control("sigma"))),
            _RATES_AND_STEPS,
        ),
        Entry(
            "spsa", "SPSA", Order.ZERO, _gradient(lambda: SPSA(control("sigma"), directions=PAIRS)), _RATES_AND_WIDTHS
        ),
        Entry("nes", "AntitheticNES", Order.ZERO, _gradient(_nes), _RATES_AND_WIDTHS),
        Entry(
            "open-es",
            "OpenES",
            Order.ZERO,
            _evolution(lambda sigma: OpenES(POPULATION, control("sigma"), _ADAM)),
            _RATES_AND_WIDTHS,
        ),
        Entry("snes", "SNES", Order.ZERO, _evolution(lambda sigma: SNES(POPULATION, sigma)), _WIDTHS),
        Entry("sep-cma-es", "SepCMAES", Order.ZERO, _evolution(lambda sigma: SepCMAES(POPULATION, sigma)), _WIDTHS),
        Entry("cma-es", "CMAES", Order.ZERO, _evolution(lambda sigma: CMAES(POPULATION, sigma)), _WIDTHS),
        Entry("hybrid", "Hybrid", Order.MIXED, _gradient(lambda: Hybrid(Autodiff(), _nes())), _RATES_AND_WIDTHS),
        Entry(
            "every",
            f"Hybrid, Every({TURN})",
            Order.MIXED,
            _gradient(lambda: Hybrid(Autodiff(), Every(TURN, _nes()))),
            _RATES_AND_WIDTHS,
        ),
        Entry(
            "guided",
            "GuidedES",
            Order.MIXED,
            _gradient(lambda: GuidedES(Autodiff(), control("sigma"), pairs=PAIRS)),
            _RATES_AND_WIDTHS,
        ),
        Entry("e-prop", "EProp", Order.LOCAL, _gradient(Autodiff), _RATES, by_eprop),
        Entry("feedback", "FeedbackLinear", Order.LOCAL, _gradient(Autodiff), _RATES, by_feedback_alignment),
        Entry("synthetic", "SyntheticGradients", Order.LOCAL, _gradient(Autodiff), _RATES, by_synthetic_gradients),
        Entry("quantise", "quantise, 4 bits", Order.TRANSFER, _gradient(Autodiff), _RATES, quantised),
        Entry("convert", "convert a ReLU net", Order.TRANSFER, _gradient(Autodiff), _RATES, by_conversion),
    )
}
"""By name, in the order of the tables."""


def costs(method: AbstractMethod, parameters: int) -> tuple[int, ...]:
    """Evaluations of the steps after which costs repeat, by the contract; a backward pass counts as two.

    Args:
        method: any; the samples of its `Hybrid` may have turns.
        parameters: how many.
    """
    whole = method.contract.work(parameters)
    estimator = getattr(method, "estimator", None)
    turns = getattr(estimator, "zeroth", None)
    if not isinstance(turns, Every):
        return (whole,)
    saved = turns.contract.work(parameters)
    return (whole, *(whole - saved,) * (turns.n - 1))


def affordable(costs: tuple[int, ...], budget: int) -> tuple[int, int]:
    """How many steps a budget pays for, and the evaluations they make."""
    whole, left = divmod(budget, sum(costs))
    steps, spent = whole * len(costs), budget - left
    for cost in costs:
        if cost > left:
            break
        steps, spent, left = steps + 1, spent + cost, left - cost
    return steps, spent
