"""The matrix as a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...core import require
from .._figures import INK, SOFT, new_figure
from .._measured import figure as in_figures
from ._table import shown

_FROM, _TO = 0.01, 1.0  # of the trivial score: the ends of the colours


def heat_map(content: Mapping[str, Any], *, seconds: bool = False) -> Any:
    """Methods down, applications across; the darker, the better.

    Args:
        content: of matrix.json.
        seconds: at equal seconds instead of equal evaluations.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    columns, methods = content["columns"], content["methods"]
    table = [shown(column, seconds=seconds) for column in columns.values()]
    height, width = len(methods), len(table)
    values = np.array([[column[method].median for column in table] for method in methods], np.float64)
    figure = new_figure(max(1.6 + 1.05 * width, 3.2), max(1.3 + 0.32 * height, 3.0))
    axis = figure.subplots()
    norm = require("matplotlib.colors", extra="plots").LogNorm(_FROM, _TO)
    ok = np.array([[column[method].status == "ok" for column in table] for method in methods])
    drawn = axis.imshow(np.ma.masked_where(~ok, np.clip(values, _FROM, _TO)), cmap="viridis", norm=norm, aspect="auto")
    for y, method in enumerate(methods):
        for x, column in enumerate(table):
            cell = column[method]
            if cell.status == "ok":
                text = f"{in_figures(cell.median)}\n±{in_figures(cell.spread)}{'!' if cell.lost else ''}"
                colour = "white" if norm(np.clip(cell.median, _FROM, _TO)) < 0.6 else INK
                weight = "bold" if cell.best else "normal"
                axis.text(x, y, text, ha="center", va="center", fontsize=6.5, color=colour, fontweight=weight)
            else:
                text = "diverges" if cell.status == "diverged" else "–"
                axis.text(x, y, text, ha="center", va="center", fontsize=6.5, color=SOFT)
    axis.set_xticks(range(width), [column["title"] for column in columns.values()], fontsize=8)
    axis.set_yticks(range(height), [entry["label"] for entry in methods.values()], fontsize=8)
    axis.tick_params(length=0, top=True, bottom=False, labeltop=True, labelbottom=False)
    axis.set_xticks(np.arange(width + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(height + 1) - 0.5, minor=True)
    axis.grid(which="minor", color="white", lw=1.5)
    axis.grid(which="major", visible=False)
    axis.tick_params(which="minor", length=0)
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(drawn, ax=axis, shrink=0.6, extend="both")
    bar.set_label("score, as a share of a trivial answer's", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    bar.outline.set_visible(False)
    equal = "seconds" if seconds else f"evaluations ({content['budget']:,})"
    figure.set_label(
        f"Held-out score at equal {equal}, as a share of a trivial answer's: median and half the interquartile range "
        f"over {len(content['seeds'])} seeds. In bold the best, and what can't be told from it; – cannot apply; "
        "! some seeds diverged."
    )
    return figure


def as_svg(figure: Any) -> bytes:
    """The picture as SVG, the same bytes for the same figures."""
    found = io.BytesIO()
    with require("matplotlib", extra="plots").rc_context({"svg.hashsalt": "hardgrad", "svg.fonttype": "none"}):
        figure.savefig(found, format="svg", metadata={"Date": None})
    return found.getvalue()
