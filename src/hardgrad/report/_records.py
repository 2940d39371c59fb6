"""The records of a run as numbers over epochs: read, sorted into kinds, and thinned for drawing."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..training import EpochRecord
from ._text import as_number

MOST_POINTS = 1000
"""Points a line is drawn with at most: more than a screen has columns for it."""

_DRAWABLE = 1e150  # beyond, an axis can't be laid out in double precision
_OF_THE_UPDATE = ("gradient", "grad_", "_norm", "clipped", "update_", "loss_scale")


@dataclasses.dataclass(frozen=True)
class Series:
    """One number over epochs.

    Attributes:
        x: the epochs.
        y: the values as recorded; NaN where there is none.
        present: where there is one.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    present: NDArray[np.bool_]

    @property
    def drawable(self) -> NDArray[np.float64]:
        """The values an axis can show; NaN elsewhere, which leaves a gap."""
        with np.errstate(invalid="ignore"):
            drawable: NDArray[np.float64] = np.where(np.abs(self.y) < _DRAWABLE, self.y, np.nan)
        return drawable

    @property
    def lost(self) -> NDArray[np.float64]:
        """The epochs whose value is recorded and can't be shown: NaN, infinite, or beyond 1e150."""
        epochs: NDArray[np.float64] = self.x[self.present & np.isnan(self.drawable)]
        return epochs

    @property
    def measured(self) -> Series:
        """The epochs that have a value, finite or not: what was measured now and then is joined across the rest."""
        return Series(self.x[self.present], self.y[self.present], self.present[self.present])


def series(records: Sequence[EpochRecord], value: Callable[[EpochRecord], Any]) -> Series:
    """The series of whatever `value` finds in each record; what is no number is absent."""
    found = [as_number(value(record)) for record in records]
    return Series(
        np.array([record.epoch for record in records], np.float64),
        np.array([math.nan if number is None else number for number in found], np.float64),
        np.array([number is not None for number in found], bool),
    )


def metric(records: Sequence[EpochRecord], name: str) -> Series:
    """The series of one metric."""
    return series(records, lambda record: record.metrics.get(name))


def metric_names(records: Sequence[EpochRecord]) -> list[str]:
    """Every metric that any record has: loss first, each followed by its ``val_`` counterpart."""
    seen = dict.fromkeys(itertools.chain.from_iterable(record.metrics for record in records))
    first = [name for name in ("loss", "val_loss") if name in seen]
    paired = itertools.chain.from_iterable((name, f"val_{name}") for name in seen)
    return [name for name in dict.fromkeys([*first, *paired]) if name in seen]


def split_metrics(records: Sequence[EpochRecord]) -> tuple[list[str], list[str]]:
    """The objective's own terms, and what the method says about its updates.

    A record does not tell them apart, so: a metric with a validation counterpart is a term; where
    there is validation, one without is a diagnostic; so is one absent from a frozen epoch; and
    without either sign, the name decides.

    Returns:
        Names of terms without their ``val_`` counterparts, and names of diagnostics.
    """
    names = [name for name in metric_names(records) if name not in ("loss", "val_loss", "skipped")]
    known = set(names)
    validated = any("val_loss" in record.metrics for record in records)
    held = [record.metrics for record in records if record.frozen]
    terms: list[str] = []
    diagnostics: list[str] = []
    for name in names:
        if name.startswith("val_") and name.removeprefix("val_") in known:
            continue
        if f"val_{name}" in known or name.startswith("val_"):
            of_the_update = False
        elif validated:
            of_the_update = True
        elif held:
            of_the_update = any(name not in metrics for metrics in held)
        else:
            of_the_update = any(part in name for part in _OF_THE_UPDATE)
        (diagnostics if of_the_update else terms).append(name)
    return terms, diagnostics


def lowest_loss(records: Sequence[EpochRecord]) -> dict[str, Any] | None:
    """The best epoch where no callback watched for one: the lowest ``val_loss``, else ``loss``."""
    name = "val_loss" if any("val_loss" in record.metrics for record in records) else "loss"
    finite = [r for r in records if math.isfinite(r.metrics.get(name, math.nan))]
    if not finite:
        return None
    best = min(finite, key=lambda record: record.metrics[name])
    return {"epoch": best.epoch, "metric": name, "value": best.metrics[name]}


def thin(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A line of at most about `MOST_POINTS` points that looks the same.

    Each stretch keeps its first, lowest and highest value, and one gap if it has any, so that no spike
    and no hole is lost.
    """
    if len(x) <= MOST_POINTS:
        return x, y
    kept: set[int] = {len(x) - 1}
    edges = np.linspace(0, len(x), MOST_POINTS // 4 + 1).astype(int)
    for start, stop in itertools.pairwise(edges.tolist()):
        part = y[start:stop]
        kept.add(start)
        holes = np.isnan(part)
        if holes.any():
            kept.add(start + int(np.argmax(holes)))
        if not holes.all():
            kept |= {start + int(np.nanargmin(part)), start + int(np.nanargmax(part))}
    chosen = np.array(sorted(kept))
    return x[chosen], y[chosen]


def runs_of(flags: Sequence[bool], x: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Where a flag is up: ``(start, width)`` of each stretch, half an epoch to either side."""
    spans = []
    for up, stretch in itertools.groupby(zip(flags, x.tolist(), strict=True), key=lambda pair: pair[0]):
        if up:
            epochs = [epoch for _, epoch in stretch]
            spans.append((epochs[0] - 0.5, epochs[-1] - epochs[0] + 1.0))
    return spans
