"""From answers to a ranking of methods, with the reasons. Imports no JAX.

Each family gets three verdicts: for what there is to learn from, for the application and for the architecture. The
first counts three times. It falls a rank where a step is too dear for the budget or too noisy for the size of the
model, and to "untried" where the method it is about is made for another architecture. "No" anywhere means no.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..core import Order
from ._families import FAMILIES, Method, method
from ._guide import Basis, Cell, Row, Verdict
from ._guide_derivatives import DERIVATIVES

OTHER = Row("other", "Something else", "any other model: a JAX pytree, or a black box", {})
"""An answer on which the guide has no verdicts."""

_WEIGHT = 3
_CHEAPEST_FIRST = (Order.ONE, Order.LOCAL, Order.TRANSFER, Order.MIXED, Order.ZERO)
_FALLBACK = {Order.ZERO: "EvolutionMethod", Order.ONE: "Autodiff"}
# Rules of thumb, in parameters and steps.
_A_DOZEN, _FEW, _MANY, _LEAST_STEPS = 20, 50, 10_000, 100  # up to the first the matrix has CMA-ES ahead of SNES
_POPULATIONS = (32, 16, 8)  # at 500 evaluations of 12 or 30 parameters, 8 ended lower than 32 on three problems
_DENSE = ("AntitheticNES", "SPSA", "EvolutionMethod", "Hybrid", "GuidedES")


@dataclasses.dataclass(frozen=True)
class Question:
    """What a user has said.

    Attributes:
        application: a row of `APPLICATIONS`, or `OTHER`.
        architecture: a row of `ARCHITECTURES`, or `OTHER`.
        derivative: a row of `DERIVATIVES`.
        parameters: how many scalars are trained, or None.
        budget: evaluations of the objective that can be afforded in all, or None.
    """

    application: Row
    architecture: Row
    derivative: Row
    parameters: int | None = None
    budget: int | None = None


@dataclasses.dataclass(frozen=True)
class Advice:
    """One family, as it serves for a question.

    Attributes:
        order: which family.
        possible: whether no verdict is "no".
        method: which method of it; None where there is none to name.
        reasons: subject and cell: ``"derivative"``, ``"application"``, ``"architecture"``, those there are.
        recipe: the recipe nearest to the question, or None.
        shows: what that recipe has in common with it.
        notes: what else to know, in sentences.
        penalty: what it is ranked by, the less the better.
    """

    order: Order
    possible: bool
    method: Method | None
    reasons: tuple[tuple[str, Cell], ...]
    recipe: str | None
    shows: str
    notes: tuple[str, ...]
    penalty: int


def named(rows: Sequence[Row], name: str) -> Row:
    """The row of a name; "other" is `OTHER`.

    Raises:
        KeyError: there is none.
    """
    return {row.name: row for row in (*rows, OTHER)}[name]


def advise(question: Question) -> tuple[Advice, ...]:
    """Every family, the most advisable first, the impossible last."""
    found = [_advice(question, one.order) for one in FAMILIES]
    return tuple(
        sorted(
            found,
            key=lambda one: (
                not one.possible,
                one.penalty,
                one.reasons[0][1].verdict.rank,
                _CHEAPEST_FIRST.index(one.order),
            ),
        )
    )


def read_derivative(question: Question) -> tuple[Row, str]:
    """The row that applies, and a sentence where it is not the one that was named."""
    if question.derivative.name == "exact" and question.architecture.name == "lif":
        return named(DERIVATIVES, "surrogate"), "A spike has no exact derivative: 'exact' is read as 'surrogate'."
    return question.derivative, ""


def _advice(question: Question, order: Order) -> Advice:
    rows = (
        ("derivative", read_derivative(question)[0]),
        ("application", question.application),
        ("architecture", question.architecture),
    )
    cells = {subject: row.cells[order] for subject, row in rows if order in row.cells}
    if any(cell.verdict is Verdict.NO for cell in cells.values()):
        return Advice(order, False, None, tuple(cells.items()), None, "", (), 0)
    about = cells["derivative"].method
    if about is not None and not _fits(question, method(about)):
        cells["derivative"] = Cell(Verdict.UNTRIED, f"{about} is made for another architecture", Basis.REASONED)
    # Only at order 0 does a cell without a method leave the choice open.
    chosen, notes = _method(question, order, cells) if about or order is Order.ZERO else (None, [])
    verdict = cells["derivative"].verdict.rank
    if chosen is None:
        verdict = max(verdict, Verdict.UNTRIED.rank)
    elif doubts := _doubts(question, chosen):
        notes, verdict = [*notes, *doubts], verdict + 1
    elif steps := _steps(question, chosen):
        notes = [*notes, f"Your budget is {steps:,} steps of it."]
    recipe, shows = _recipe(cells)
    penalty = _WEIGHT * verdict + sum(cell.verdict.rank for subject, cell in cells.items() if subject != "derivative")
    return Advice(order, True, chosen, tuple(cells.items()), recipe, shows, tuple(notes), penalty)


def _method(question: Question, order: Order, cells: dict[str, Cell]) -> tuple[Method | None, list[str]]:
    """The first that a verdict names and that fits the architecture, made fit for the number of parameters.

    What there is to learn from names it best; at order 0, where that is not the first choice, the application does.
    """
    subjects = ["derivative", "architecture", "application"]
    if order is Order.ZERO and cells["derivative"].verdict is not Verdict.FIRST:
        subjects.reverse()
    names = [*(cells[subject].method for subject in subjects if subject in cells), _FALLBACK.get(order)]
    fitting = [one for one in (method(name) for name in names if name) if _fits(question, one)]
    if not fitting:
        return None, []
    chosen, n = fitting[0], question.parameters
    if chosen.name == "CentralDifference" and n is not None and n > _FEW:
        note = f"Differences would take {2 * n + 1:,} evaluations a step for {n:,} parameters."
        return method("EvolutionMethod"), [note]
    if chosen.name == "EvolutionMethod":
        if n is not None and n <= _A_DOZEN:
            chosen = dataclasses.replace(chosen, code=chosen.code.replace("SNES", "CMAES"))
        chosen = _affordable(question, chosen)
    return chosen, []


def _affordable(question: Question, chosen: Method) -> Method:
    """With so small a population that the budget affords some generations."""
    for size in _POPULATIONS:
        code = chosen.code.replace(f"population={chosen.samples}", f"population={size}")
        chosen = dataclasses.replace(chosen, code=code, samples=size)
        steps = _steps(question, chosen)
        if steps is None or steps >= _LEAST_STEPS:
            break
    return chosen


def _fits(question: Question, one: Method) -> bool:
    if question.architecture is OTHER and question.derivative.name in ("surrogate", "trained"):
        return True  # it spikes, or is to
    return not one.fits or question.architecture.name in one.fits


def _steps(question: Question, chosen: Method) -> int | None:
    """Steps that the budget affords, if it can be said."""
    if question.budget is None or chosen.cost is None:
        return None
    if chosen.cost.per_parameter and question.parameters is None:
        return None
    return question.budget // chosen.cost.work(question.parameters or 0, chosen.samples)


def _doubts(question: Question, chosen: Method) -> list[str]:
    """What speaks against a method at this size and budget."""
    doubts = []
    steps, n = _steps(question, chosen), question.parameters
    if steps is not None and steps < _LEAST_STEPS:
        doubts.append(f"Your budget is only {steps:,} steps of it.")
    if chosen.name in _DENSE and n is not None and n > _MANY:
        doubts.append(f"{chosen.samples:,} samples for {n:,} parameters are noisy: the variance grows as n/m.")
    return doubts


def _recipe(cells: dict[str, Cell]) -> tuple[str | None, str]:
    """The nearest recipe, and what makes it near."""
    application, architecture, derivative = (
        cells[subject].recipes if subject in cells else () for subject in ("application", "architecture", "derivative")
    )
    for recipe in (*application, *architecture, *derivative):
        if recipe in application and recipe in architecture:
            return recipe, "this application and architecture"
    near = {"application": application, "architecture": architecture, "kind of derivative": derivative}
    return next(((recipes[0], f"this {what}") for what, recipes in near.items() if recipes), (None, ""))
