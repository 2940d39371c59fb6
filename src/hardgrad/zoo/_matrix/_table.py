"""The matrix as text, within 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .._measured import figure
from .._recipe import SMOKE_NOTE
from .._study_report import compared

WIDTH = 80
_LABEL, _CELL = 19, 15
_AT_ONCE = (WIDTH - _LABEL) // _CELL
_TOLD_APART = 0.05
_ENOUGH = 6  # seeds: with fewer, no p is below it


class Shown(NamedTuple):
    """What a table or a picture shows of a cell.

    Attributes:
        status: "ok", "diverged" or "cannot apply".
        reason: what there is to be said, or None.
        median: over seeds, as a share of the trivial score; NaN without one.
        spread: half of the interquartile range, likewise.
        best: whether no method of the column is better by more than chance.
        lost: seeds that diverged.
    """

    status: str
    reason: str | None
    median: float
    spread: float
    best: bool
    lost: int


def shown(column: Mapping[str, Any], *, seconds: bool) -> dict[str, Shown]:
    """The cells of a column by method.

    Args:
        column: one of matrix.json's.
        seconds: those at equal seconds instead of equal evaluations.
    """
    cells = {}
    for method, cell in column["cells"].items():
        cells[method] = cell.get("equal_seconds", cell) if seconds else cell
    scores = {
        method: np.asarray(cell["scores"], np.float64) / column["trivial"]
        for method, cell in cells.items()
        if cell["status"] == "ok"
    }
    leader = min(scores, key=lambda method: float(np.median(scores[method])), default=None)
    found = {}
    for method, cell in cells.items():
        if cell["status"] == "cannot apply":
            found[method] = Shown(cell["status"], cell["reason"], np.nan, np.nan, False, 0)
            continue
        values = np.asarray(cell["scores"], np.float64) / column["trivial"]
        low, high = np.percentile(np.where(np.isfinite(values), values, np.inf), [25, 75], method="nearest")
        best = leader is not None and cell["status"] == "ok" and _ties(values, scores[leader])
        found[method] = Shown(
            cell["status"], cell["reason"], float(np.median(values)), float(high - low) / 2, best, cell["diverged"]
        )
    return found


def _ties(ours: Any, theirs: Any) -> bool:
    """Whether two methods are one, or can't be told apart seed by seed though there are seeds enough to do so."""
    if len(ours) < _ENOUGH:
        return bool(np.array_equal(ours, theirs))
    return bool(compared(ours, theirs)[1] >= _TOLD_APART)


def lines(content: Mapping[str, Any]) -> list[str]:
    """The tables, what each column is, and the reasons of cells without a figure."""
    seeds, notes = content["seeds"], dict[str, int]()
    said = [
        f"{content['budget']:,} evaluations a run, a backward pass counted as two; {len(seeds)} seeds, "
        f"{content['date']}.",
        "Held-out score as a share of what a trivial answer scores: 1 has learned nothing, 0 is "
        "perfect. Median ± half the interquartile range over seeds. * the best, and what can't be told "
        f"from it (p ≥ {_TOLD_APART}, Wilcoxon, seed by seed, from six seeds on). ! some seeds diverged.",
    ]
    if content["smoke"]:
        said.append(SMOKE_NOTE)
    found = [row for text in said for row in _wrapped(text)]
    for seconds in (False, True):
        found += ["", "At equal seconds" if seconds else "At equal evaluations"]
        names = list(content["columns"])
        for start in range(0, len(names), _AT_ONCE):
            found += ["", *_block(content, names[start : start + _AT_ONCE], notes, seconds=seconds)]
    found.append("")
    for column in content["columns"].values():
        best = "" if column["best"] is None else f" The best possible is {column['best'] / column['trivial']:.3f}."
        found += _wrapped(
            f"{column['title']}: {column['about']}; {column['parameters']} parameters. Score: {column['unit']}; "
            f"{column['trivial_is']} scores {column['trivial']:.4g}.{best}",
            2,
        )
    if notes:
        found.append("")
    for reason, mark in notes.items():
        found += _wrapped(f"[{mark}] {reason}", 4)
    return found


def _block(content: Mapping[str, Any], names: Sequence[str], notes: dict[str, int], *, seconds: bool) -> Iterator[str]:
    """A table of a few columns."""
    columns = [content["columns"][name] for name in names]
    cells = [shown(column, seconds=seconds) for column in columns]
    yield f"{'':<{_LABEL}}" + "".join(f"{column['title']:>{_CELL - 1}} " for column in columns).rstrip()
    if seconds:
        clocks = ["-" if column["seconds"] is None else f"{column['seconds']:.3g} s" for column in columns]
        yield f"{'':<{_LABEL}}" + "".join(f"{clock:>{_CELL - 1}} " for clock in clocks).rstrip()
    for method, entry in content["methods"].items():
        row = "".join(f"{_text(cell[method], notes):<{_CELL}}" for cell in cells)
        yield f"{entry['label']:<{_LABEL}}{row}".rstrip()


def _text(cell: Shown, notes: dict[str, int]) -> str:
    """One cell: a figure, or a word with the number of its reason."""
    if cell.status != "ok":
        mark = notes.setdefault(_first_sentence(cell.reason or ""), len(notes) + 1)
        word = "diverges" if cell.status == "diverged" else "-"
        return f"{word} [{mark}]".rjust(_CELL - 1)
    mark_best, mark_lost = "*" if cell.best else "", "!" if cell.lost else ""
    return f"{figure(cell.median)}±{figure(cell.spread)}{mark_best}{mark_lost}".rjust(_CELL - 1)


def _first_sentence(text: str) -> str:
    """What is wrong; how to mend it is in matrix.json."""
    return text.partition(". ")[0].rstrip(".") + "."


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)
