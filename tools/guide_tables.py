"""Writes the tables of docs/explanation/choosing.md from the data that `hardgrad choose` answers from.

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; everything else on the page is written by hand.

Usage: python tools/guide_tables.py [--check] [PAGE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from _tables import filled, table
from hardgrad.zoo import entries
from hardgrad.zoo._families import FAMILIES, Method, family, method
from hardgrad.zoo._guide import Basis, Cell, Row, Verdict
from hardgrad.zoo._guide_applications import APPLICATIONS
from hardgrad.zoo._guide_architectures import ARCHITECTURES
from hardgrad.zoo._guide_derivatives import DERIVATIVES
from hardgrad.zoo._measured import Measured, measured

PAGE = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "choosing.md"


def families() -> Iterator[str]:
    """The five families."""
    yield from table(
        ("order", "family", "sees", "idea", "when", "price"),
        ((one.order.value, one.title, one.sees, one.idea, one.when, one.price) for one in FAMILIES),
    )


def methods() -> Iterator[str]:
    """Every entry point, with its cost."""
    yield from table(
        ("order", "entry point", "what it is", "evaluations a step"),
        ((one.order.value, _linked(entry), entry.idea, entry.evaluations) for one in FAMILIES for entry in one.methods),
    )


def grid(rows: Sequence[Row]) -> Iterator[str]:
    """A matrix: a row a family, a column an answer."""
    yield from table(
        ("", *(row.title for row in rows)),
        ((one.title, *(_short(row.cells[one.order]) for row in rows)) for one in FAMILIES),
    )


def details(rows: Sequence[Row]) -> Iterator[str]:
    """The same with reasons: a table an answer."""
    for row in rows:
        yield f"### {row.title}\n"
        yield f"`{row.name}`: {row.about}.\n"
        figures = measured(row.matrix)
        in_matrix = [f"[in the matrix](matrix.md), {row.matrix}"] if figures else []
        yield from table(
            ("family", "verdict", "take", "why", "rests on", "shown by", *in_matrix),
            (
                (
                    family(order).title,
                    _verdict(cell.verdict),
                    _linked(method(cell.method)) if cell.method else "–",
                    cell.why,
                    cell.basis.value,
                    _recipes(cell),
                    *([_quoted(figures.get(order))] if figures else []),
                )
                for order, cell in row.cells.items()
            ),
        )
        yield ""


def bases() -> Iterator[str]:
    """What a verdict may rest on."""
    yield from table(("rests on", "which means"), ((basis.value, basis.meaning) for basis in Basis))


def recipes() -> Iterator[str]:
    """The recipes the tables name, with their commands."""
    named = {
        recipe
        for row in (*DERIVATIVES, *APPLICATIONS, *ARCHITECTURES)
        for cell in row.cells.values()
        for recipe in cell.recipes
    }
    yield from table(
        ("recipe", "method", "what it shows", "run it"),
        (
            (f'<a id="{entry.name}"></a>`{entry.name}`', entry.method, entry.summary, f"`hardgrad run {entry.name}`")
            for entry in entries()
            if entry.name in named
        ),
    )


TABLES: dict[str, Callable[[], Iterator[str]]] = {
    "families": families,
    "methods": methods,
    "derivatives": lambda: grid(DERIVATIVES),
    "derivatives-why": lambda: details(DERIVATIVES),
    "applications": lambda: grid(APPLICATIONS),
    "applications-why": lambda: details(APPLICATIONS),
    "architectures": lambda: grid(ARCHITECTURES),
    "architectures-why": lambda: details(ARCHITECTURES),
    "bases": bases,
    "recipes": recipes,
}


def _linked(entry: Method) -> str:
    return f"[`{entry.shown}`][{entry.package}.{entry.name}]"


def _verdict(verdict: Verdict) -> str:
    return f"**{verdict.value}**" if verdict is Verdict.FIRST else verdict.value


def _quoted(figure: Measured | None) -> str:
    return "–" if figure is None else f"**{figure}**" if figure.best else str(figure)


def _recipes(cell: Cell) -> str:
    return ", ".join(f"[`{recipe}`](#{recipe})" for recipe in cell.recipes) or "no recipe"


def _short(cell: Cell) -> str:
    recipe = f"[`{cell.recipes[0]}`](#{cell.recipes[0]})" if cell.recipes else "no recipe"
    return f"{_verdict(cell.verdict)}<br>{recipe}"


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or say whether it is up to date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("page", type=Path, nargs="?", default=PAGE)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if the page is out of date")
    options = parser.parse_args(arguments)
    text = options.page.read_text(encoding="utf-8")
    new = filled(text, TABLES)
    if options.check:
        if new != text:
            print(f"{options.page} is out of date: python tools/guide_tables.py", file=sys.stderr)
        return int(new != text)
    options.page.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
