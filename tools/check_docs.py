"""Fails when a public name of hardgrad has no docstring or stands on no page of the API reference.

A package is public if no part of its name begins with an underscore. Its public names are those its
``__init__.py`` re-exports as ``from ._file import Name as Name``, at once or, under TYPE_CHECKING, when they
are asked for. What is checked:

* every public package and name has a docstring;
* so has every public method and property of a public class;
* with ``--site``: the inventory of the built documentation (``objects.inv``, what MkDocs rendered, not
  what the pages ask for) holds every public name.

Usage: python tools/check_docs.py [--source src/hardgrad] [--site site]
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import griffe
from mkdocstrings import Inventory


def public_packages(source: Path) -> Iterator[tuple[str, Path]]:
    """Dotted name and ``__init__.py`` of each public package below and including `source`."""
    for init in sorted(source.rglob("__init__.py")):
        parts = (source.name, *init.parent.relative_to(source).parts)
        if not any(part.startswith("_") for part in parts):
            yield ".".join(parts), init


def reexported(init: Path) -> list[str]:
    """The names an ``__init__.py`` re-exports, in order, those it imports later on demand included.

    A name of another public package is left out: it is documented there.
    """
    body = ast.parse(init.read_text(encoding="utf-8")).body
    for node in list(body):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            body += node.body
    return [
        alias.name
        for node in body
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module is not None
        if node.module.startswith("_") or not init.parent.joinpath(*node.module.split("."), "__init__.py").exists()
        for alias in node.names
        if alias.name == alias.asname
    ]


def public_names(source: Path) -> list[str]:
    """Every public name with its package: ``hardgrad.estimators.Autodiff``."""
    return [f"{package}.{name}" for package, init in public_packages(source) for name in reexported(init)]


def undocumented(source: Path) -> list[str]:
    """Public packages, names, methods and properties below `source` that have no docstring."""
    root = griffe.load(source.name, search_paths=[source.parent], resolve_aliases=True, resolve_external=False)
    missing = []
    for package, init in public_packages(source):
        module = root[package.partition(".")[2]] if "." in package else root
        if not module.has_docstring:
            missing.append(package)
        for name in reexported(init):
            found = module[name]
            if isinstance(found, griffe.Alias):
                try:
                    found = found.final_target
                except griffe.AliasResolutionError:
                    missing.append(f"{package}.{name}, which is imported from a place that does not have it")
                    continue
            if not found.has_docstring:
                missing.append(f"{package}.{name}")
            if isinstance(found, griffe.Class):
                missing += [f"{package}.{name}.{member}" for member in _bare_members(found)]
    return missing


def _bare_members(cls: griffe.Class) -> Iterator[str]:
    for name, member in cls.members.items():
        callable_ = isinstance(member, griffe.Function) or "property" in member.labels
        if callable_ and not name.startswith("_") and not member.has_docstring:
            yield name


def rendered(site: Path) -> set[str]:
    """Every name that stands on a page of the built site."""
    with (site / "objects.inv").open("rb") as file:
        return set(Inventory.parse_sphinx(file))


def not_rendered(names: Iterable[str], on_site: set[str]) -> list[str]:
    """Those of `names` that stand on no page."""
    return [name for name in names if name not in on_site]


def main(arguments: list[str] | None = None) -> int:
    """Print what is missing; 0 if nothing is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--source", type=Path, default=Path("src/hardgrad"), help="the package's folder")
    parser.add_argument("--site", type=Path, help="the built documentation; without it only docstrings")
    options = parser.parse_args(arguments)
    names = public_names(options.source)
    problems = [f"no docstring: {name}" for name in undocumented(options.source)]
    if options.site is not None:
        problems += [f"on no page of docs/api: {name}" for name in not_rendered(names, rendered(options.site))]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"documentation: all {len(names)} public names are documented")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
