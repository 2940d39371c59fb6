"""What a guide is made of: verdicts on each family, for each answer a user may give. Imports no JAX."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

from ..core import Order


class Verdict(enum.Enum):
    """What to make of a family of methods somewhere, the better the earlier."""

    FIRST = "first choice"
    GOOD = "good"
    NICHE = "special cases"
    UNTRIED = "untried"
    POOR = "poor"
    NO = "no"

    @property
    def rank(self) -> int:
        """0 for the best."""
        return list(Verdict).index(self)


class Basis(enum.Enum):
    """What a verdict rests on."""

    RECIPE = "recipe"
    MATRIX = "matrix"
    PUBLISHED = "published"
    REASONED = "reasoned"

    @property
    def meaning(self) -> str:
        """In a sentence."""
        return _MEANING[self]


_MEANING = {
    Basis.RECIPE: "the recipe named beside it, or a test of that recipe, shows it",
    Basis.MATRIX: "measured by `hardgrad matrix`, on a small problem of this kind",
    Basis.PUBLISHED: "what the published system of spiking methods says of it; not measured again here",
    Basis.REASONED: "follows from how it works; nobody has measured it here",
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """A verdict on one family in one row.

    Attributes:
        verdict: what to make of it.
        why: in a few words.
        basis: what that rests on.
        method: which of the family's methods to take; None leaves it open.
        recipes: those that show it, the best example first.
    """

    verdict: Verdict
    why: str
    basis: Basis
    method: str | None = None
    recipes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Row:
    """One answer to one of the guide's questions.

    Attributes:
        name: what is typed.
        title: what is read.
        about: what it stands for, in a few words.
        cells: the verdict on each family.
        matrix: the matrix's column that is nearest to it, or None.
    """

    name: str
    title: str
    about: str
    cells: Mapping[Order, Cell]
    matrix: str | None = None


def row(
    name: str,
    title: str,
    about: str,
    *,
    zero: Cell,
    one: Cell,
    mixed: Cell,
    local: Cell,
    transfer: Cell,
    matrix: str | None = None,
) -> Row:
    """A row with a cell for every family."""
    cells = (zero, one, mixed, local, transfer)
    return Row(name, title, about, dict(zip(Order, cells, strict=True)), matrix)
