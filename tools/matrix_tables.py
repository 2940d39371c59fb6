"""Writes all that quotes the matrix, from docs/explanation/matrix.json.

That is matrix.md beside it with its pictures, what `hardgrad choose` quotes, and choosing.md, which shows the same. A
table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; all else is written by hand. The figures come from a
run: ``hardgrad matrix --out DIR``, then ``python tools/matrix_tables.py --take DIR/matrix.json``.

Usage: python tools/matrix_tables.py [--check | --take FILE]
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import guide_tables
from _tables import filled, table
from hardgrad.core import dumps
from hardgrad.zoo._matrix import Setup, heat_map
from hardgrad.zoo._matrix._figure import as_svg
from hardgrad.zoo._matrix._names import APPLICATIONS, METHODS
from hardgrad.zoo._matrix._setup import numbers
from hardgrad.zoo._matrix._table import shown
from hardgrad.zoo._measured import PATH as QUOTED
from hardgrad.zoo._measured import figure

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "explanation"
PAGE, FIGURES = FOLDER / "matrix.md", FOLDER / "matrix.json"
PICTURES = {False: FOLDER / "matrix.svg", True: FOLDER / "matrix-seconds.svg"}


def scores(content: Mapping[str, Any], *, seconds: bool) -> Iterator[str]:
    """Methods down, applications across."""
    columns = list(content["columns"].values())
    cells = [shown(column, seconds=seconds) for column in columns]
    head = ["", *(column["title"] for column in columns)]
    rows = [] if not seconds else [["*seconds*", *(_clock(column["seconds"]) for column in columns)]]
    for method, entry in content["methods"].items():
        rows.append([f"{entry['label']} ({entry['order']})", *(_text(one[method]) for one in cells)])
    yield from table(head, rows)


def _clock(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.3g}"


def _text(cell: Any) -> str:
    if cell.status != "ok":
        return "diverges" if cell.status == "diverged" else "–"
    text = f"{figure(cell.median)} ± {figure(cell.spread)}"
    return f"{f'**{text}**' if cell.best else text}{' !' if cell.lost else ''}"


def columns(content: Mapping[str, Any]) -> Iterator[str]:
    """What each application is, and what its scores are shares of."""
    rows = [
        [
            column["title"],
            column["about"],
            str(column["parameters"]),
            column["unit"],
            f"{column['trivial_is']}: {column['trivial']:.4g}",
            "–" if column["best"] is None else f"{column['best']:.4g}",
        ]
        for column in content["columns"].values()
    ]
    yield from table(["", "problem", "parameters", "score", "trivial answer", "best possible"], rows)


def chosen(content: Mapping[str, Any]) -> Iterator[str]:
    """Settings and costs of every cell."""
    rows = []
    for column in content["columns"].values():
        for method, cell in column["cells"].items():
            if "steps" in cell:
                settings = ", ".join(f"{what.replace('_', ' ')} {value:g}" for what, value in cell["settings"].items())
                label = content["methods"][method]["label"]
                spent = f"{cell['steps']:,} × {sum(cell['costs']) / len(cell['costs']):g}"
                rows.append([column["title"], label, settings, spent, f"{1e3 * cell['seconds_a_step']:.3g}"])
    yield from table(["", "method", "settings chosen", "steps × evaluations", "milliseconds a step"], rows)


def reasons(content: Mapping[str, Any]) -> Iterator[str]:
    """Why a cell has no figure, or what else is to be said of it."""
    rows: dict[tuple[str, str], list[str]] = {}
    for column in content["columns"].values():
        for method, cell in column["cells"].items():
            for one in (cell, cell.get("equal_seconds", {})):
                if one.get("reason"):
                    key = content["methods"][method]["label"], one["reason"]
                    rows.setdefault(key, []).append(column["title"])
    yield from table(
        ["method", "applications", "what the code says"],
        [[label, ", ".join(dict.fromkeys(titles)), reason] for (label, reason), titles in rows.items()],
    )


def made(content: Mapping[str, Any]) -> Iterator[str]:
    """When, on what, and by which rules."""
    on = ", ".join(f"{name} {version}" for name, version in content["environment"].items())
    yield f"- run: {content['date']}, {content['budget']:,} evaluations, seeds {_span(content['seeds'])}"
    yield f"- settings chosen on: seeds {_span(content['tuning'])}"
    yield f"- on: {on}"
    for name, rule in content["rules"].items():
        yield f"- {name.replace('_', ' ')}: {rule}"


def _span(seeds: list[int]) -> str:
    whole = list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 and seeds == whole else ", ".join(map(str, seeds))


def command(content: Mapping[str, Any]) -> Iterator[str]:
    """What to type for the same run."""
    parts = ["hardgrad matrix"]
    for name, known, given in (
        ("applications", APPLICATIONS, content["columns"]),
        ("methods", METHODS, content["methods"]),
    ):
        if tuple(given) != known:
            parts.append(f"--{name} {','.join(given)}")
    if tuple(content["seeds"]) != Setup().seeds:
        parts.append(f"--seeds {_span(content['seeds']).replace(' to ', '-').replace(' ', '')}")
    if content["budget"] != Setup().budget:
        parts.append(f"--budget {content['budget']}")
    yield from ("```sh", " ".join(parts), "```")


def quoted(content: Mapping[str, Any]) -> dict[str, Any]:
    """What advice quotes: the best method of each family in every column, at equal evaluations."""
    found: dict[str, Any] = {"date": content["date"], "budget": content["budget"], "seeds": len(content["seeds"])}
    found["about"] = {
        name: f"{column['about']}, {column['parameters']} parameters" for name, column in content["columns"].items()
    }
    found["columns"] = {}
    for name, column in content["columns"].items():
        families = found["columns"][name] = dict[str, Any]()
        for method, cell in shown(column, seconds=False).items():
            entry = content["methods"][method]
            if cell.status == "ok" and cell.median < families.get(entry["order"], {"median": math.inf})["median"]:
                one = {"median": float(f"{cell.median:.4g}"), "spread": float(f"{cell.spread:.2g}"), "best": cell.best}
                families[entry["order"]] = {"label": entry["label"], **one}
    return found


TABLES: dict[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
    "command": command,
    "evaluations": lambda content: scores(content, seconds=False),
    "seconds": lambda content: scores(content, seconds=True),
    "columns": columns,
    "chosen": chosen,
    "reasons": reasons,
    "made": made,
}


def _compact(text: str) -> str:
    """JSON with each innermost list on one line."""
    return re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), text)


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or say whether it is up to date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if the page is out of date")
    parser.add_argument("--take", type=Path, help="take the figures of this matrix.json first")
    options = parser.parse_args(arguments)
    if options.take is not None:
        taken = json.loads(options.take.read_text(encoding="utf-8"))
        taken["environment"].pop("platform", None)  # whose machine it was says nothing
        FIGURES.write_text(_compact(dumps(taken, indent=1)) + "\n", encoding="utf-8")
    content = numbers(json.loads(FIGURES.read_text(encoding="utf-8")))
    text = PAGE.read_text(encoding="utf-8")
    new = filled(text, {name: functools.partial(make, content) for name, make in TABLES.items()})
    quotes = dumps(quoted(content), indent=1) + "\n"
    if options.check:
        stale = [path for path, wanted in ((PAGE, new), (QUOTED, quotes)) if path.read_text(encoding="utf-8") != wanted]
        for path in stale:
            print(f"{path} is out of date: python tools/matrix_tables.py", file=sys.stderr)
        return int(bool(stale))
    PAGE.write_text(new, encoding="utf-8")
    QUOTED.write_text(quotes, encoding="utf-8")
    for seconds, path in PICTURES.items():
        path.write_bytes(as_svg(heat_map(content, seconds=seconds)))
    return guide_tables.main([])


if __name__ == "__main__":
    sys.exit(main())
