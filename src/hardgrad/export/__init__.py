"""Shipping a model: the decision as a program on disk, with its numbers, its checksums and its own test.

Loading and running need neither the recipe nor Equinox: each name is imported when it is first used.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

# Name -> its file. A test keeps the block below equal to this table.
_HOME = {
    "export_bundle": "_bundle",
    "Exportable": "_exportable",
    "Bundle": "_load",
    "load_bundle": "_load",
    "ArraySpec": "_manifest",
    "Parity": "_parity",
}

if TYPE_CHECKING:
    from ._bundle import export_bundle as export_bundle
    from ._exportable import Exportable as Exportable
    from ._load import Bundle as Bundle
    from ._load import load_bundle as load_bundle
    from ._manifest import ArraySpec as ArraySpec
    from ._parity import Parity as Parity
else:  # hidden from type checkers, which would otherwise accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'", name=name, obj=sys.modules[__name__])
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(_HOME)
