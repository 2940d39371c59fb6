"""``hardgrad matrix``: every method on every application, at equal budgets."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ..core import UsageError
from ._options import parse, show_path, tell, unset

if TYPE_CHECKING:
    from ..zoo._matrix import Setup


@dataclasses.dataclass(frozen=True)
class Options:
    """What to compare. In a folder that holds a matrix, what is left out is as it was."""

    applications: Annotated[str | None, unset("NAMES")] = None
    """columns, such as chain,spiking; else all: regression, chain, box, rational, song, spiking, control"""
    methods: Annotated[str | None, unset("NAMES")] = None
    """rows, such as autodiff,nes; else all: autodiff, central, forward, spsa, nes, open-es, snes, sep-cma-es, cma-es,
    hybrid, every, guided, e-prop, feedback, synthetic, quantise, convert"""
    seeds: Annotated[str | None, unset("SEEDS")] = None
    """seeds to report, such as 0-11 or 0,3,5; else 0-11"""
    budget: Annotated[int | None, unset("INT")] = None
    """evaluations of each run; else 3000"""
    out: Annotated[Path | None, unset("PATH")] = None
    """folder, new or of a matrix to go on with; else the next free one under runs/"""
    smoke: bool = False
    """the smallest budget that still exercises everything"""
    quiet: bool = False
    """say nothing until the end"""


def run(arguments: list[str]) -> int:
    """Fill the matrix, print its tables, draw it."""
    options = parse(
        Options,
        arguments,
        program="hardgrad matrix",
        description="Train every method on every application, at equal evaluations and seconds.\n\n"
        "Stopped, it goes on: hardgrad resume DIR\n\n"
        "Example: hardgrad matrix --applications chain,box --methods nes,snes,cma-es",
    )
    from .search_command import read_seeds

    given: dict[str, Any] = {
        name: tuple(part.strip() for part in text.split(",") if part.strip())
        for name, text in (("applications", options.applications), ("methods", options.methods))
        if text is not None
    }
    if options.seeds is not None:
        given["seeds"] = tuple(read_seeds(options.seeds))
    if options.budget is not None:
        given["budget"] = options.budget
    from ..zoo._launch import reserve_run
    from ..zoo._matrix import SMOKE, MatrixFolder, Setup

    folder = None if options.out is None else MatrixFolder(options.out)
    if folder is not None and folder.is_matrix():
        start = folder.read_setup()
        if options.smoke and not start.smoke:
            raise UsageError(f"{options.out} holds a matrix that is no smoke run. Give another folder.")
    else:
        start = SMOKE if options.smoke else Setup()
    setup: Setup = dataclasses.replace(start, **given)
    return filled(setup, reserve_run("matrix") if options.out is None else options.out, quiet=options.quiet)


def filled(setup: Setup, path: Path, *, quiet: bool) -> int:
    """Train the cells that are missing; print and draw the whole."""
    from ..zoo._matrix import lines, run_matrix

    try:
        content = run_matrix(setup, path, say=None if quiet else tell)
    except KeyboardInterrupt:
        tell(f"\ninterrupted: finished cells are kept\ngo on: hardgrad resume {show_path(path)}")
        return 130
    print("\n".join(lines(content)))
    tell(f"\nmatrix: {show_path(_written(path, content))}")
    return 0


def _written(path: Path, content: dict[str, Any]) -> Path:
    """The page, with the pictures in it and beside it."""
    from ..report._images import publish
    from ..report._template import page
    from ..report._text import escape
    from ..training._storage import write_bytes, write_text
    from ..zoo._matrix import heat_map, lines
    from ..zoo._matrix._figure import as_svg

    pictures = {
        "At equal evaluations": heat_map(content),
        "At equal seconds": heat_map(content, seconds=True),
    }
    drawn = publish(pictures, path / "figures", set(), turns=False, titled=True)
    for title, picture in pictures.items():
        write_bytes(path / "figures" / f"{title.lower().replace(' ', '-')}.svg", as_svg(picture))
    rules = "".join(
        f"<li>{escape(name.replace('_', ' '))}: {escape(text)}</li>" for name, text in content["rules"].items()
    )
    sections = {
        "Pictures": "\n".join(drawn),
        "Tables": f"<pre>{escape(chr(10).join(lines(content)))}</pre>",
        "Rules": f"<ul>{rules}</ul>",
        "Go on": f"<p>Every figure is in matrix.json. The same again:</p>\n<pre>{escape(_command(content))}</pre>",
    }
    text = page(
        "matrix",
        "Every method on every application",
        sections,
        badge="warn" if content["smoke"] else "good",
        status="smoke" if content["smoke"] else "completed",
        reason=f"{content['budget']:,} evaluations a run, {len(content['seeds'])} seeds, {content['date']}.",
        footer=", ".join(f"{name} {version}" for name, version in content["environment"].items()),
    )
    write_text(path / "matrix.html", text)
    return path / "matrix.html"


def _command(content: dict[str, Any]) -> str:
    seeds = ",".join(map(str, content["seeds"]))
    return (
        f"hardgrad matrix --applications {','.join(content['columns'])} --methods {','.join(content['methods'])} "
        f"--seeds {seeds} --budget {content['budget']}"
    )
