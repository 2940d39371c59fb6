"""Figures on disk and in the page: a file name for each, and the picture itself inside the HTML."""

from __future__ import annotations

import base64
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..training._storage import disk_errors, write_bytes
from ._style import PIXELS_PER_INCH, png
from ._text import escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def slug(title: str, taken: set[str]) -> str:
    """A file name for a title, of small letters, digits and hyphens; added to those `taken`."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    base = re.sub("[^a-z0-9]+", "-", plain).strip("-")[:60].strip("-") or "figure"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    taken.add(name)
    return name


def publish(
    figures: Mapping[str, Figure], folder: Path, taken: set[str], *, turns: bool, titled: bool = True
) -> list[str]:
    """Write each figure as a PNG file and return each as a piece of HTML.

    Args:
        figures: by title.
        folder: where the files go.
        taken: the file names in use, to which theirs are added.
        turns: whether a dark page may swap light and dark in them. Not where colours carry a value.
        titled: whether the title stands above each.
    """
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    pieces = []
    for title, figure in figures.items():
        image = png(figure)
        write_bytes(folder / f"{slug(title, taken)}.png", image)
        heading = f"<h3>{escape(title)}</h3>\n" if titled else ""
        pieces.append(_piece(title, figure, image, heading, turns=turns))
    return pieces


def _piece(title: str, figure: Figure, image: bytes, heading: str, *, turns: bool) -> str:
    width, height = (round(float(side) * PIXELS_PER_INCH) for side in figure.get_size_inches())
    said = str(figure.get_label() or "")
    caption = f"<figcaption>{escape(said)}</figcaption>" if said else ""
    data = base64.b64encode(image).decode("ascii")
    return (
        f'<figure>{heading}<div class="sheet"><img class="{"turns" if turns else "stays"}" '
        f'width="{width}" height="{height}" alt="{escape(said or title)}"\n'
        f'src="data:image/png;base64,{data}"></div>\n'
        f"{caption}</figure>"
    )
