"""What `rational-filter` prints and draws of its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ._figures import BLUE, INK, SKY, SOFT, VERMILLION, new_figure
from ._verdicts import compare, spread

ARMS = ("perceptron", "signed", "published", "positive", "powers", "implicit")
"""The arms, in the order in which they are listed."""
Table = Mapping[str, Mapping[str, Mapping[str, list[float]]]]
"""Arm, part (``"inside"`` or ``"beyond"`` the trained range), figure: a value each seed."""

_PARTS = ("inside", "beyond")
_STYLES = {
    "perceptron": {"color": SOFT, "ls": "--"},
    "signed": {"color": VERMILLION, "ls": "-"},
    "published": {"color": SKY, "ls": "-"},
    "positive": {"color": BLUE, "ls": ":"},
    "powers": {"color": BLUE, "ls": "-"},
}


def table_lines(table: Table) -> list[str]:
    """Mean ± standard deviation over seeds, in at most 80 columns."""
    percent = lambda values: f"{100 * np.mean(values):.1f} ± {100 * spread(values):.1f}"
    small = lambda values: f"{np.mean(values):.1e} ± {spread(values):.0e}"

    def block(columns: list[tuple[str, str, Callable[[Any], str]]]) -> list[str]:
        head = f"{'':<12}" + "".join(f"{title:^34}" for title, _, _ in columns)
        below = f"{'':<12}" + f"{'Q ≤ 30':>15}{'Q > 30':>17}  " * len(columns)
        rows = [
            f"{name:<12}"
            + "".join(f"{show(found['inside'][key]):>15}{show(found['beyond'][key]):>17}  " for _, key, show in columns)
            for name, found in table.items()
        ]
        return [line.rstrip() for line in (head, below, *rows)]

    return [
        *block([("peaks kept, ≥ 0.9 of the height, %", "kept", percent), ("within 10 % of it, %", "within", percent)]),
        "",
        *block([("false peaks, %", "false_peaks", percent), ("mean square of log error", "log_error", small)]),
    ]


def verdict_lines(table: Table) -> list[str]:
    """Who won, and what each piece of structure is worth, from the figures."""
    lines = []
    for key, title in (("kept", "Peaks kept"), ("within", "Within 10 %")):
        for part in _PARTS:
            ours, theirs = table["powers"][part][key], table["signed"][part][key]
            higher, lower = np.greater(ours, theirs).sum(), np.less(ours, theirs).sum()
            word = compare(ours, theirs, -1.0)
            lines.append(
                f"{title}, {part}: powers {word} signed ({higher} of {len(ours)} seeds higher, {lower} lower)."
            )
    for part in _PARTS:
        for name in ARMS[:-2]:
            word = compare(table["powers"][part]["within"], table[name][part]["within"], -1.0)
            if name != "signed" and word != "beats":
                lines.append(f"Within 10 %, {part}: powers {word} {name}.")
    for part in _PARTS:
        others = [name for name in ARMS if name not in ("powers", "implicit")]
        words = {
            name: compare(table["powers"][part]["false_peaks"], table[name][part]["false_peaks"], 1.0)
            for name in others
        }
        beaten = [name for name in others if words[name] == "beats"]
        lines.append(f"False peaks, {part}: powers beats {', '.join(beaten) if beaten else 'no other'}.")
    lines.append("Within 10 %, inside and beyond, as structure is added to signed:")
    shares = {
        name: [f"{100 * np.mean(table[name][part]['within']):.0f} %" for part in _PARTS]
        for name in ("signed", "positive", "powers")
    }
    lines.append("  " + ";  ".join(f"{name} {inside}, {beyond}" for name, (inside, beyond) in shares.items()))
    word = compare(table["powers"]["beyond"]["within"], table["implicit"]["beyond"]["within"], -1.0)
    lines.append(f"The loss: beyond, powers {word} implicit.")
    return lines


def headline(table: Table) -> str:
    """Peaks beyond the trained range, beside the perceptron's."""
    ours, theirs = (np.mean(table[name]["beyond"]["within"]) for name in ("powers", "perceptron"))
    return f"{ours:.1%} of the peaks beyond the trained Q within 10 %; a perceptron {theirs:.1%}"


def curve_figure(curve: Mapping[str, Any]) -> Any:
    """The gain about a resonance, foretold and true."""
    figure = new_figure(7.5, 3.4)
    axis = figure.subplots()
    axis.plot(curve["frequency"], curve["truth"], color=INK, lw=3.0, alpha=0.35, label="truth")
    for name, style in _STYLES.items():
        axis.plot(curve["frequency"], curve["arms"][name], lw=1.4, label=name, **style)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlim(0.3, 3.0)
    axis.set_ylim(0.05, 5 * curve["quality"])
    axis.set_xlabel("frequency")
    axis.set_ylabel("gain")
    axis.legend(frameon=False, fontsize="small")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def heights_figure(heights: Mapping[str, Any]) -> Any:
    """Peak foretold over true peak, against Q, and the trained range."""
    figure = new_figure(7.5, 3.2)
    axis = figure.subplots()
    axis.axvspan(heights["quality"][0], 30.0, color=SOFT, alpha=0.15, lw=0)
    axis.axhspan(0.9, 1.1, color=SKY, alpha=0.2, lw=0)
    for name, style in _STYLES.items():
        axis.plot(heights["quality"], heights["arms"][name], lw=1.4, label=name, **style)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(0.03, 30.0)
    axis.set_xlabel("Q (shaded: trained)")
    axis.set_ylabel("foretold / true height")
    axis.legend(frameon=False, fontsize="small", ncols=2)
    axis.spines[["top", "right"]].set_visible(False)
    return figure
