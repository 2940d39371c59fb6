"""Draws docs/explanation/surrogates.svg: the derivative of every surrogate at its default steepness.

Usage: python tools/surrogate_plot.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from hardgrad.spiking import ArcTan, Boxcar, SechSquared, StraightThrough, SuperSpike, Surrogate, Triangular

PAGE = Path(__file__).resolve().parents[1] / "docs" / "explanation" / "surrogates.svg"
SHOWN = (SuperSpike(), ArcTan(), SechSquared(), Triangular(), Boxcar(), StraightThrough())
WIDTH, HEIGHT, GAP, REACH, TOP = 230, 120, 24, 2.0, 1.15


def panel(surrogate: Surrogate, x0: int, y0: int) -> list[str]:
    """One curve with its axes, its upper left corner at (x0, y0)."""
    v = np.linspace(-REACH, REACH, 401, dtype=np.float32)
    g = np.asarray(surrogate.derivative(v))
    across = lambda value: x0 + (value + REACH) / (2 * REACH) * WIDTH
    up = lambda value: y0 + HEIGHT - value / TOP * HEIGHT
    points = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in zip(v.tolist(), g.tolist(), strict=True))
    said = ", ".join(f"{name}={value:g}" for name, value in vars(surrogate).items() if name != "scale")
    ticks = [
        f'<text x="{across(at):.0f}" y="{y0 + HEIGHT + 13}" text-anchor="middle" font-size="10">{at:g}</text>'
        for at in (-2, -1, 0, 1, 2)
    ]
    return [
        f'<text x="{x0}" y="{y0 - 6}" font-size="12">{type(surrogate).__name__}({said})</text>',
        f'<path d="M{x0},{up(0):.1f}h{WIDTH}M{across(0):.1f},{y0}v{HEIGHT}" stroke="#888" stroke-width="0.6"/>',
        f'<path d="M{x0},{up(1):.1f}h{WIDTH}" stroke="#888" stroke-width="0.6" stroke-dasharray="3 3"/>',
        f'<text x="{x0 - 4}" y="{up(1) + 4:.1f}" text-anchor="end" font-size="10">1</text>',
        f'<polyline points="{points}" fill="none" stroke="#2f7fc1" stroke-width="1.8"/>',
        *ticks,
    ]


def draw() -> str:
    """The picture: two rows of three panels."""
    body: list[str] = []
    for index, surrogate in enumerate(SHOWN):
        row, column = divmod(index, 3)
        body += panel(surrogate, 20 + column * (WIDTH + GAP), 24 + row * (HEIGHT + 52))
    width, height = 20 + 3 * (WIDTH + GAP), 24 + 2 * (HEIGHT + 52) - 10
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" font-family="sans-serif" fill="#888">',
            *body,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(draw(), encoding="utf-8")
