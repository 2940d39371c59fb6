"""Empty figures for the pictures of recipes."""

from __future__ import annotations

from typing import Any

from ..core import require

# Okabe and Ito's colours, which no common colour blindness confuses (https://jfly.uni-koeln.de/color/).
BLUE, VERMILLION, SKY, SOFT, INK = "#0072b2", "#d55e00", "#56b4e9", "#8a8f98", "#1b1e23"


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches, tied to no window.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    return require("matplotlib.figure", extra="plots").Figure(figsize=(width, height), layout="constrained")
