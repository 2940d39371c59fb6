"""Optional packages: imported where they are needed, and missed in a sentence."""

from __future__ import annotations

import importlib
from typing import Any

from ._errors import MissingExtraError


def require(module: str, *, extra: str) -> Any:
    """Import an optional module.

    Args:
        module: its import name.
        extra: the extra of hardgrad that installs it.

    Raises:
        MissingExtraError: it is not installed; the message gives the exact install line.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(
            f"this needs '{module}', which is not installed. Install it with: pip install 'hardgrad[{extra}]'"
        ) from error
