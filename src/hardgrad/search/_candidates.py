"""What is searched over: candidates, each a seed and some settings, and the score that ranks them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from ..core import UsageError, whole_number
from ..training.callbacks import Mode


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One of those that a search compares.

    Attributes:
        number: from 0; its run is ``candidates/NUMBER``.
        seed: of its run.
        epochs: of its whole run.
        settings: what it has other than the rest, by name; anything JSON can hold.
    """

    number: int
    seed: int
    epochs: int
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """In a few words."""
        parts = [f"seed {self.seed}", *(f"{name}={value}" for name, value in self.settings.items())]
        return ", ".join(parts)


def candidates(
    seeds: Sequence[int], *, epochs: int, grid: Mapping[str, Sequence[Any]] | None = None
) -> list[Candidate]:
    """Every combination of the grid's values, with every seed.

    Args:
        seeds: at least one, each once.
        epochs: of each run, at least 1.
        grid: the values of each setting; the last one varies fastest, but for the seed.

    Raises:
        UsageError: no seeds or no values, one given twice, a number out of range.

    Examples:
        >>> from hardgrad.search import candidates
        >>> [one.label for one in candidates([0, 1], epochs=5, grid={"width": [8, 16]})]
        ['seed 0, width=8', 'seed 1, width=8', 'seed 0, width=16', 'seed 1, width=16']
    """
    epochs = whole_number("epochs", epochs, least=1)
    numbers = [whole_number("a seed", seed, least=0, most=2**32 - 1) for seed in seeds]
    for name, values in {"the seeds": numbers, **(grid or {})}.items():
        if not values:
            raise UsageError(f"there is no value of {name} to try.")
        twice = [value for i, value in enumerate(values) if value in values[:i]]
        if twice:
            raise UsageError(f"{name} holds {twice[0]!r} twice.")
    names, columns = list(grid or {}), list((grid or {}).values())
    pairs = itertools.product(itertools.product(*columns), numbers)
    return [
        Candidate(number, seed, epochs, dict(zip(names, values, strict=True)))
        for number, (values, seed) in enumerate(pairs)
    ]


@dataclasses.dataclass(frozen=True)
class Goal:
    """What candidates are ranked by.

    Attributes:
        metric: the score: each run's best value of it, as its `Best` callback keeps it.
        mode: ``"min"`` or ``"max"``.
        ties: metrics with their directions that decide between equal scores, taken at the epoch of the best.
    """

    metric: str
    mode: Mode
    ties: tuple[tuple[str, Mode], ...] = ()

    def __post_init__(self) -> None:
        for mode in (self.mode, *(mode for _, mode in self.ties)):
            if mode not in ("min", "max"):
                raise UsageError(f"the direction of a score is 'min' or 'max', got {mode!r}.")


def check_fraction(value: float) -> float:
    """Raise `UsageError` if a part of the epochs is none: 0 stands for no culling."""
    if not 0 <= value < 1:
        raise UsageError(f"the fraction after which to cull lies between 0 and 1, got {value!r}.")
    return float(value)


def cull_epoch(fraction: float, epochs: int) -> int:
    """After how many of its epochs a run is judged.

    Raises:
        UsageError: after all of them, which would spare nothing.
    """
    epoch = max(1, round(fraction * epochs))
    if epoch >= epochs:
        raise UsageError(
            f"culling after {fraction:g} of {epochs} epochs is culling at the end, which spares nothing. "
            "Take a smaller fraction or more epochs."
        )
    return epoch
