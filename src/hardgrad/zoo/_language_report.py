"""What `language-s5` prints and draws of its figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._figures import BLUE, INK, SKY, VERMILLION, new_figure

Bits = Mapping[str, float]
"""Bits a character by part: ``"validation"`` and ``"test"``."""


def table_lines(ngrams: Mapping[str, Bits], others: Mapping[str, Bits]) -> list[str]:
    """A row a model, in at most 80 columns."""

    def row(name: str, bits: Bits) -> str:
        return f"{name:<28}{bits['validation']:>12.4f}{bits['test']:>12.4f}{2 ** bits['test']:>12.4f}"

    head = f"{'':<28}{'validation':>12}{'test':>12}{'perplexity':>12}"
    rows = [row(f"{order}-gram, Kneser-Ney", bits) for order, bits in ngrams.items()]
    return [head, *rows, *(row(name, bits) for name, bits in others.items())]


def verdict_lines(ours: NDArray[Any], theirs: NDArray[Any], sizes: NDArray[Any], order: int) -> list[str]:
    """Who won on the test, and how far documents agree about it.

    Args:
        ours: mean bits of each test document by the S5, ``[document]``.
        theirs: likewise by the n-gram.
        sizes: symbols of each.
        order: of the n-gram.
    """
    gain = float(np.average(theirs - ours, weights=sizes))
    count = len(sizes)
    # Of a mean weighted by size: documents are what is drawn, not characters.
    residual = sizes / sizes.sum() * (theirs - ours - gain)
    error = float(np.sqrt(np.sum(residual**2) * count / (count - 1))) if count > 1 else float("inf")
    verb = "ties with" if abs(gain) <= 2 * error else "beats" if gain > 0 else "loses to"
    by = "" if verb == "ties with" else f" by {abs(gain):.3f} ± {error:.3f} bits a character"
    better = int(np.sum(ours < theirs))
    return [f"S5 {verb} the {order}-gram{by}.", f"It is better on {better} of {count} test documents."]


def orders_figure(ngrams: Mapping[str, Bits], others: Mapping[str, Bits]) -> Any:
    """Bits on the test by order of the n-gram, and the other rows as lines."""
    figure = new_figure(7.5, 3.0)
    axis = figure.subplots()
    # The first two orders would flatten all others.
    shown = list(ngrams)[2:] or list(ngrams)
    axis.plot([int(n) for n in shown], [ngrams[n]["test"] for n in shown], "o-", color=INK, label="n-gram")
    for (name, bits), color in zip(others.items(), (BLUE, SKY, VERMILLION), strict=False):
        axis.axhline(bits["test"], color=color, lw=1.5, label=name)
    axis.set_xticks([int(n) for n in shown])
    axis.set_xlabel("order of the n-gram")
    axis.set_ylabel("bits a character")
    axis.set_ylim(bottom=0)
    axis.legend(ncols=4, frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def documents_figure(documents: Mapping[str, Any], order: int) -> Any:
    """A dot a test document: the S5's bits against the n-gram's."""
    figure = new_figure(4.0, 3.6)
    axis = figure.subplots()
    theirs, ours = np.asarray(documents["ngram"]), np.asarray(documents["s5"])
    ends = [min(theirs.min(), ours.min()), max(theirs.max(), ours.max())]
    axis.plot(ends, ends, color=INK, lw=0.8)
    axis.scatter(
        theirs, ours, s=4 + 400 * np.asarray(documents["sizes"]) / np.sum(documents["sizes"]), color=BLUE, alpha=0.6
    )
    axis.set_xlabel(f"{order}-gram, bits a character")
    axis.set_ylabel("S5, bits a character")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def position_figure(position: Mapping[str, Any], order: int) -> Any:
    """Bits by how much of the document has been read."""
    figure = new_figure(7.5, 2.8)
    axis = figure.subplots()
    for name, label, color in (("ngram", f"{order}-gram", INK), ("s5", "S5", BLUE)):
        axis.stairs(position[name], position["edges"], color=color, lw=1.5, label=label)
    axis.set_xscale("log", base=2)
    axis.set_xlabel("place in the document, characters")
    axis.set_ylabel("bits a character")
    axis.legend(ncols=2, frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axis.spines[["top", "right"]].set_visible(False)
    return figure
