"""How every figure of a report looks, and how one becomes a PNG."""

from __future__ import annotations

import contextlib
import io
import math
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..core import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which no common colour blindness confuses (https://jfly.uni-koeln.de/color/).
BLUE, VERMILLION, GREEN, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#56B4E9"
INK, SOFT, FAINT = "#1f2328", "#59636e", "#d9dee3"

PIXELS_PER_INCH = 100
"""A figure of 6.8 inches is 680 pixels wide on a page, and holds twice as many."""

_WIDTH, _MOST_PIXELS = 6.8, 4000
_STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with Matplotlib, so reports look the same everywhere
    "font.size": 10.5,
    "axes.titlesize": 11.0,
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "white",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 5),
    "axes.formatter.use_mathtext": True,
    "axes.formatter.useoffset": False,
    "figure.facecolor": "white",
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "legend.fontsize": 10.0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "text.color": INK,
    "text.usetex": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": 10.0,
    "ytick.labelsize": 10.0,
}


@contextlib.contextmanager
def house_style() -> Iterator[None]:
    """Our settings of Matplotlib, for as long as a figure is made; then the user's own again."""
    matplotlib = require("matplotlib", extra="plots")
    with matplotlib.rc_context(_STYLE):
        yield


def new_figure(height: float) -> Figure:
    """An empty figure of the report's width, unknown to pyplot, so that nothing must be closed."""
    figure: Figure = require("matplotlib.figure", extra="plots").Figure((_WIDTH, height), layout="constrained")
    require("matplotlib.backends.backend_agg", extra="plots").FigureCanvasAgg(figure)
    return figure


def small_multiples(panels: int, *, height: float = 2.0) -> tuple[Figure, list[Any]]:
    """A figure of `panels` axes: one over the whole width, or rows of two."""
    columns = min(panels, 2)
    rows = math.ceil(panels / columns)
    figure = new_figure(max(rows * height, 2.6) + 0.2)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    axes = list(grid.flat)
    for spare in axes[panels:]:
        spare.set_visible(False)
    # The lowest panel of a column tells the epochs, also where the row below it has no panel.
    for axis in axes[panels - columns : panels]:
        axis.tick_params(labelbottom=True)
    return figure, axes[:panels]


def png(figure: Figure) -> bytes:
    """A figure as it is, two pixels for each on the page; very large ones are kept to 4000 pixels."""
    size = max(float(side) for side in figure.get_size_inches())
    dpi = min(2 * PIXELS_PER_INCH, _MOST_PIXELS / size)
    file = io.BytesIO()
    with warnings.catch_warnings():
        # A name may have letters that the font lacks; a box in a picture is all that comes of it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()
