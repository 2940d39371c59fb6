"""What `rational-arm` prints and draws of its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ._figures import BLUE, INK, SKY, SOFT, VERMILLION, new_figure
from ._verdicts import compare, spread

ARMS = {
    "projective": "projective",
    "blind": "sign-blind",
    "epsilon": "rational+ε",
    "perceptron": "perceptron",
    "damped": "damped",
    "exact": "exact",
}
"""The arms and the two solvers, and what they are called where people read."""
LEARNED = tuple(ARMS)[:4]
BUCKETS = (0.0, 1e-5, 1e-4, 1e-3, 1e-2, np.inf)
"""Upper ends of the buckets of \\|det J\\|; the first holds the poles."""
_TITLES = ("0", "≤ 1e-5", "≤ 1e-4", "≤ 1e-3", "≤ 1e-2", "> 1e-2")

Table = Mapping[str, Mapping[str, Any]]
"""Arm, figure: a value each seed, or a list of them, one a bucket."""


def column(table: Table, name: str, key: str, bucket: int) -> list[float]:
    """A figure of one bucket, a value each seed."""
    return [values[bucket] for values in table[name][key]]


def table_lines(table: Table) -> list[str]:
    """Mean ± standard deviation over seeds, in at most 80 columns."""

    def fraction(values: list[float]) -> str:
        return f"{np.mean(values):.3f} ± {spread(values):.3f}"

    def narrow(values: list[float]) -> str:
        return f"{np.mean(values):.3f}±{spread(values):.3f}"

    def share(values: list[float]) -> str:
        return f"{100 * np.mean(values):.1f}±{100 * spread(values):.1f}"

    def percent(values: list[float]) -> str:
        return f"{100 * np.mean(values):.2f}±{100 * spread(values):.2f}"

    def block(
        title: str, key: str, names: tuple[str, ...], show: Callable[[list[float]], str], first: int, width: int
    ) -> list[str]:
        head = f"{'|det J|':<11}" + "".join(f"{title:>{width}}" for title in _TITLES[first:])
        rows = [
            f"{ARMS[name]:<11}"
            + "".join(f"{show(column(table, name, key, i)):>{width}}" for i in range(first, len(BUCKETS)))
            for name in names
        ]
        return [title, head, *rows, ""]

    lines = block("relative error against the exact step, median", "exact_error", tuple(ARMS)[:-1], narrow, 1, 13)
    lines += block("refused at the calibrated threshold, percent", "refused", LEARNED, share, 0, 11)
    title = "relative error against the damped step, refusals damped, median, percent"
    lines += block(title, "served_error", LEARNED, percent, 0, 11)
    lines += [
        "published metrics of the steps as foretold; squared residual: refusals damped.",
        "Sign flips depend on the displacement too: compare with those of the exact step.",
        f"{'':<11}{'pole distance':>16}{'sign flips':>16}{'slope error':>16}{'squared residual':>19}",
    ]
    for name, label in ARMS.items():
        found = table[name]
        columns = [fraction(found[key]) for key in ("pole_localisation_error", "sign_consistency", "slope_error")]
        residual = found["served_residual"]
        lines.append(
            f"{label:<11}"
            + "".join(f"{text:>16}" for text in columns)
            + f"{np.mean(residual):>10.4f} ± {spread(residual):.4f}"
        )
    return lines


def verdict_lines(table: Table) -> list[str]:
    """Who won where, from the figures."""
    rivals = ("epsilon", "perceptron", "damped")
    lines = []
    for i, title in list(enumerate(_TITLES))[1:]:
        error = {name: column(table, name, "exact_error", i) for name in ("projective", *rivals)}
        rival = min(rivals, key=lambda name: _nan_last(error[name]))
        if all(_nan_last(values) > 0.5 for values in error.values()):
            lines.append(f"|det J| {title}: nobody comes within half the exact step.")
        else:
            word = compare(error["projective"], error[rival], 1.0)
            lines.append(f"|det J| {title}: against the exact step, projective {word} {ARMS[rival]}.")
    word = compare(column(table, "projective", "exact_error", 4), column(table, "blind", "exact_error", 4), 1.0)
    lines.append(f"|det J| {_TITLES[4]}: with the sign of det J, projective {word} sign-blind.")
    poles = {name: column(table, name, "refused", 0) for name in LEARNED}
    other = max(LEARNED[2:], key=lambda name: np.mean(poles[name]))
    lines.append(
        f"Poles refused: projective {100 * np.mean(poles['projective']):.1f} %, in the worst seed "
        f"{100 * min(poles['projective']):.1f} %; {ARMS[other]} {100 * np.mean(poles[other]):.1f} %."
    )
    error = {name: column(table, name, "served_error", 5) for name in LEARNED}
    other = min(LEARNED[2:], key=lambda name: _nan_last(error[name]))
    word = compare(error["projective"], error[other], 1.0)
    lines.append(f"|det J| {_TITLES[5]}: against the damped step, projective {word} {ARMS[other]}.")
    residual = {name: table[name]["served_residual"] for name in (*LEARNED, "damped")}
    best = min(residual, key=lambda name: _nan_last(residual[name]))
    lines.append(
        f"By squared residual {ARMS[best]} is best ({np.mean(residual[best]):.4f}; projective "
        f"{np.mean(residual['projective']):.4f})."
    )
    return lines


def headline(table: Table) -> str:
    """Poles refused, and what a step is off by near them and away from them, beside the classical solver."""
    refused = float(np.mean(column(table, "projective", "refused", 0)))
    near, away = (
        "{:.3f} (damped {:.3f})".format(*(float(np.mean(column(table, arm, "exact_error", i))) for arm in _RIVALS))
        for i in (-2, -1)
    )
    return f"{refused:.1%} of the singular postures refused; error {near} near them, {away} elsewhere"


_RIVALS = ("projective", "damped")


def _nan_last(values: list[float]) -> float:
    mean = float(np.mean(values))
    return mean if np.isfinite(mean) else np.inf


def profile_figure(result: Mapping[str, Any]) -> Any:
    """Two panels over |det J|: relative error against the exact step, and the share refused."""
    figure = new_figure(9.0, 3.6)
    panels = figure.subplots(1, 2)
    edges = np.asarray(result["profile"], float)
    centres = np.sqrt(edges[1:] * edges[:-1])
    colors = dict(zip((*LEARNED, "damped"), (BLUE, SKY, VERMILLION, SOFT, INK), strict=True))
    for axis, key, names in ((panels[0], "profile", (*LEARNED, "damped")), (panels[1], "refused_profile", LEARNED)):
        for name in names:
            values = np.array([[float(x) for x in seed] for seed in result["arms"][name][key]])
            axis.fill_between(centres, values.min(axis=0), values.max(axis=0), color=colors[name], alpha=0.25, lw=0)
            style = "--" if name == "damped" else "-"
            axis.plot(centres, np.median(values, axis=0), style, color=colors[name], lw=1.5, label=ARMS[name])
        axis.set_xscale("log")
        axis.set_xlabel("|det J|")
        axis.spines[["top", "right"]].set_visible(False)
    panels[0].set_yscale("log")
    panels[0].set_ylabel("relative error against the exact step")
    panels[1].set_ylabel("share refused")
    panels[0].legend(frameon=False, fontsize="small", loc="lower left")
    return figure
