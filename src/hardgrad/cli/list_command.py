"""``hardgrad list``: the recipes there are."""

from __future__ import annotations

import dataclasses
import json
import sys

from rich.console import Console
from rich.table import Table

from ..zoo import entries


@dataclasses.dataclass(frozen=True)
class Options:
    """What to list."""

    application: str = "all"
    """one application's recipes, such as spiking"""
    json: bool = False
    """as JSON"""


def run(arguments: list[str]) -> int:
    """List the recipes; the table fits 80 columns."""
    options = Options()
    if arguments:
        from ._options import parse

        options = parse(
            Options,
            arguments,
            program="hardgrad list",
            description="List the recipes.\n\nExample: hardgrad list --application hypercausal",
        )
    known = sorted({entry.application for entry in entries()})
    if options.application not in ("all", *known):
        from ..core import UsageError

        raise UsageError(f"no recipe is for the application '{options.application}'. There are: {', '.join(known)}.")
    chosen = [e for e in entries() if options.application in ("all", e.application)]
    if options.json:
        hidden = {"module"}
        rows = [{k: v for k, v in dataclasses.asdict(e).items() if k not in hidden} for e in chosen]
        print(json.dumps(rows, indent=2))
        return 0
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("recipe", no_wrap=True)
    table.add_column("order", justify="center")
    table.add_column("architecture")
    table.add_column("what it shows")
    for entry in chosen:
        table.add_row(entry.name, entry.order, entry.architecture, entry.summary)
    Console(file=sys.stdout).print(table)
    print("\nRun one: hardgrad run NAME    its options: hardgrad run NAME --help")
    return 0
