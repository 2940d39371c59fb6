"""What hardgrad offers by name: the suites that ask something of every class of a kind find the classes here."""

from __future__ import annotations

import functools
import importlib
import inspect
from typing import Any

import hardgrad

PACKAGES = ("hardgrad", *(f"hardgrad.{name}" for name in (*hardgrad._PACKAGES, "training.callbacks")))


@functools.cache
def public_names() -> dict[str, Any]:
    """Everything of hardgrad's own that a public package holds, under ``package.name``; each thing once."""
    found: dict[int, tuple[str, Any]] = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in dir(module):
            thing = getattr(module, name)
            ours = str(getattr(thing, "__module__", "")).startswith("hardgrad")
            if not name.startswith("_") and ours and not inspect.ismodule(thing):
                found.setdefault(id(thing), (f"{package.removeprefix('hardgrad.')}.{name}", thing))
    return dict(found.values())


def public_classes(kind: type) -> set[type]:
    """The public classes of a kind that can be made: a suite with a list of its own is to name them all."""
    classes = {thing for thing in public_names().values() if inspect.isclass(thing) and issubclass(thing, kind)}
    return {one for one in classes if not inspect.isabstract(one)} - {kind}
