"""``hardgrad search RECIPE``: a recipe with many seeds and settings, the weak ones culled early."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import tyro

from ..core import UsageError
from ..search import Goal, SearchInterrupted, Standing
from ..zoo import Found, search
from ..zoo._search import EngineName
from ._options import show_path, tell, unset
from .run_command import recipe_options

_USAGE = """\
usage: hardgrad search RECIPE [options]

Run a recipe with many seeds and settings. All train a part of their way; the
best go on to the end, and the winner is scored once more from its parameters.

examples:
  hardgrad search control-lif-es --seeds 0-7 --cull-fraction 0.4 --keep 2
  hardgrad search rational-pole --grid learning-rate=1e-3,3e-3 --grid width=32
  hardgrad search rational-pole --smoke
  hardgrad resume runs/search-rational-pole-001

'hardgrad search RECIPE --help' lists a recipe's options,
'hardgrad list' the recipes."""

_SEEDS, _SMOKE_SEEDS, _KEEP = "0-3", "0-1", 2
_MOST_CANDIDATES = 10_000
_WIDTH = 80


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """The same for every recipe."""

    seeds: Annotated[str | None, unset("SEEDS")] = None
    """seeds to try, such as 0-7 or 0,3,5; else 0-3"""
    grid: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """a setting to try with each seed: learning-rate=1e-3,3e-3; any number of these"""
    cull_fraction: Annotated[float | None, unset("FLOAT")] = None
    """part of the epochs after which the weak are culled; else none are"""
    keep: Annotated[int | None, unset("INT")] = None
    """how many go on then; else 2"""
    engine: EngineName = "auto"
    """vmap: all in one program, if they are alike; processes: one each"""
    workers: Annotated[int | None, unset("INT")] = None
    """how many processes at a time; else one a core"""
    out: Annotated[Path | None, unset("PATH")] = None
    """folder for the search, new; else the next free one under runs/"""
    config: Annotated[Path | None, unset("PATH")] = None
    """JSON file with the recipe's settings; options given as well win"""
    smoke: bool = False
    """the smallest budget that still exercises everything"""
    quiet: bool = False
    """say nothing until the end"""


def run(arguments: list[str]) -> int:
    """Search a recipe; 0 when there is a winner, 1 when none finished with a finite score."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    name, options, config = recipe_options("search", SearchOptions(), arguments)
    if options.keep is not None and options.cull_fraction is None and not options.smoke:
        raise UsageError("--keep is about culling: give --cull-fraction too, such as --cull-fraction 0.4.")
    small = options.smoke and options.seeds is None and not options.grid
    seeds = read_seeds((_SMOKE_SEEDS if small else _SEEDS) if options.seeds is None else options.seeds)
    grid = read_grid(options.grid)
    fraction = (0.5 if small else 0.0) if options.cull_fraction is None else options.cull_fraction
    keep = (1 if small else _KEEP) if options.keep is None else options.keep
    count = len(seeds)
    for values in grid.values():
        count *= len(values)
    if count > _MOST_CANDIDATES:
        raise UsageError(f"these are {count} candidates; a search takes at most {_MOST_CANDIDATES}.")
    return told(
        lambda: search(
            name,
            config,
            seeds=seeds,
            grid=grid,
            cull_fraction=fraction,
            keep=keep,
            engine=options.engine,
            workers=options.workers,
            run=options.out,
            say=None if options.quiet else tell,
        )
    )


def told(find_it: Callable[[], Found]) -> int:
    """Search, and tell what was found, or how to go on after an interruption."""
    try:
        return finish_search(find_it())
    except SearchInterrupted as interrupt:
        path = show_path(interrupt.path)
        tell(f"\ninterrupted: what is saved is saved\nsearch: {path}\ngo on: hardgrad resume {path}")
        return 130


def read_seeds(text: str) -> list[int]:
    """Seeds as they are typed: ``0-7``, ``0,3,5``, ``0-3,8``.

    Raises:
        UsageError: it is something else, or a seed stands in it twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,10})(?:\s*-\s*(\d{1,10}))?\s*", part)
        if found is None:
            raise UsageError(f"seeds are numbers and ranges, such as 0-7 or 0,3,5; got '{text}'.")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise UsageError(f"the range of seeds '{part.strip()}' runs backwards. Write {last}-{first}.")
        if last - first >= _MOST_CANDIDATES:
            raise UsageError(f"the range of seeds '{part.strip()}' is too long: at most {_MOST_CANDIDATES}.")
        seeds += range(first, last + 1)
    twice = [seed for i, seed in enumerate(seeds) if seed in seeds[:i]]
    if twice:
        raise UsageError(f"the seed {twice[0]} stands twice in '{text}'.")
    return seeds


def read_grid(texts: tuple[str, ...]) -> dict[str, list[Any]]:
    """Settings and their values as they are typed: ``learning-rate=1e-3,3e-3``.

    Raises:
        UsageError: it is something else, or a setting stands in it twice. Whether the settings fit is seen later.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        if not name or not equals or not values.strip():
            raise UsageError(f"settings to try are written NAME=VALUE,VALUE, as in width=32,64; got '{text}'.")
        if name in grid:
            raise UsageError(f"the setting '{name}' is given twice. Give all its values at once: {name}=...,...")
        grid[name] = _values(values)
    return grid


def _values(text: str) -> list[Any]:
    """Values between commas: JSON where they are, else words."""
    try:
        values: list[Any] = json.loads(f"[{text}]")
    except ValueError:
        return [_value(part.strip()) for part in text.split(",")]
    return values


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def finish_search(found: Found) -> int:
    """Print the table of candidates, the winner, and how to go on."""
    result = found.result
    for line in table_lines(result.standings, result.goal):
        print(line)
    path = show_path(result.folder.path)
    winner = result.winner
    if winner is None or found.rescored is None:
        tell("\nno winner: no candidate finished with a finite score")
        tell(f"search: {path}\nreport: hardgrad report {path}")
        return 1
    number = winner.candidate.number
    print(f"\nwinner: candidate {number}: {winner.candidate.label}"[:_WIDTH])
    print(f"{result.goal.metric} {winner.score!r} in epoch {winner.best_epoch}")
    print(_cut(found.rescored.sentence()))
    tell(f"\nmanifest: {show_path(result.folder.winner_path)}")
    tell(f"run: {show_path(result.folder.run(number).path)}\nreport: hardgrad report {path}")
    return 0 if found.rescored.again is None or found.rescored.same else 1


def table_lines(standings: list[Standing], goal: Goal) -> Iterator[str]:
    """A line a candidate, the best first, of at most 80 letters."""
    yield f"{'candidate':>9}  {'status':<9}{'epochs':>9}{'score':>13}{'at':>6}{'time':>9}  settings"
    for one in standings:
        score = "-" if one.score is None else f"{one.score:.6g}"
        best = "-" if one.best_epoch is None else str(one.best_epoch)
        epochs = f"{one.epochs}/{one.candidate.epochs}"
        said = f"{one.candidate.label}" + (f": {one.message}" if one.message else "")
        yield _cut(
            f"{one.candidate.number:>9}  {one.state.value:<9}{epochs:>9}{score:>13}{best:>6}"
            f"{one.seconds:>7.1f} s  {said}"
        )
    yield f"score: the {'lowest' if goal.mode == 'min' else 'highest'} {goal.metric}; at: its epoch, counted from 0"


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
