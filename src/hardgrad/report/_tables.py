"""Tables of a report, as HTML."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..core import number
from ..training import EpochRecord
from ._records import metric_names
from ._schedules import split_controls
from ._text import as_number, clean, count, escape, format_number, shorten

MOST_ROWS = 200
"""Rows of the table of epochs at most."""

_MOST_COLUMNS, _LONGEST = 40, 400


@dataclasses.dataclass(frozen=True)
class Table:
    """A table an application adds to its report.

    Attributes:
        title: what stands above it.
        columns: the columns' names.
        rows: a value a column; numbers are shown in four digits, anything else as text.
        note: a sentence below it.

    Examples:
        >>> from hardgrad.report import Table
        >>> table = Table("Error by horizon", ["horizon", "mae"], [[1, 0.021], [8, 0.174]])
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""

    def as_html(self) -> str:
        """The table without its title."""
        note = f'<p class="note">{escape(self.note)}</p>' if self.note else ""
        return grid(self.columns, ([cell(value) for value in row] for row in self.rows), self.title) + note


def cell(value: Any) -> str:
    """One cell: numbers aligned, and marked where they are not finite."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return '<td class="number">–</td>'
    found = as_number(value)
    if found is None:
        return f"<td>{escape(format_number(value))}</td>"
    kind = "number" if np.isfinite(found) else "number bad"
    return f'<td class="{kind}">{escape(format_number(value))}</td>'


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]], name: str) -> str:
    """A table that scrolls sideways where the page is too narrow for it. Cells are HTML already."""
    rows = list(rows)
    numeric = [any(found) for found in zip(*[['class="number' in one for one in row] for row in rows], strict=False)]
    head = "".join(
        f'<th scope="col"{" class=number" if right else ""}>{escape(column)}</th>'
        for column, right in itertools.zip_longest(columns, numeric[: len(columns)], fillvalue=False)
    )
    body = "\n".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(name)}"><table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def epochs_table(records: Sequence[EpochRecord], best: Mapping[str, Any] | None) -> tuple[str, str]:
    """The table of epochs and a sentence on what it leaves out, which may be empty.

    Its first, last and best epoch are always in it.
    """
    names = metric_names(records)
    changing, _ = split_controls(records)
    metrics, controls = names[:_MOST_COLUMNS], changing[: max(0, _MOST_COLUMNS - len(names))]
    frozen = any(record.frozen for record in records)
    columns = ["epoch", "steps", *metrics, *controls, *(["frozen"] if frozen else [])]

    best_epoch = None if best is None else best.get("epoch")
    chosen = thinned(records, best_epoch)
    rows = []
    for record in chosen:
        star = ' <span class="star" title="best epoch">★</span>' if record.epoch == best_epoch else ""
        row = [f'<th scope="row">{escape(format_number(record.epoch))}{star}</th>', cell(record.steps)]
        row += [cell(record.metrics.get(name)) for name in metrics]
        row += [cell(record.controls.get(name)) for name in controls]
        row += [f"<td>{'frozen' if record.frozen else ''}</td>"] if frozen else []
        rows.append(row)
    notes = []
    if len(chosen) < len(records):
        notes.append(f"{len(chosen)} of {format_number(len(records))} epochs, evenly spread.")
    left = len(names) - len(metrics) + len(changing) - len(controls)
    if left:
        notes.append(f"{count(left, 'column')} left out.")
    if notes:
        notes.append("All stand in telemetry.jsonl.")
    return grid([shorten(column, 24) for column in columns], rows, "Epochs"), " ".join(notes)


def thinned(records: Sequence[EpochRecord], best_epoch: Any) -> list[EpochRecord]:
    """At most `MOST_ROWS` records, evenly spread: the first, the last and the best among them."""
    if len(records) <= MOST_ROWS:
        return list(records)
    rows = set(np.linspace(0, len(records) - 1, MOST_ROWS - 1).astype(int).tolist())
    rows |= {i for i, record in enumerate(records) if record.epoch == best_epoch} if best_epoch is not None else set()
    return [records[i] for i in sorted(rows)][:MOST_ROWS]


def settings_table(settings: Mapping[str, Any], name: str) -> str:
    """Settings by name, those inside others under dotted names."""
    rows = [[f'<th scope="row">{escape(key)}</th>', _setting(value)] for key, value in _flat(settings, "")]
    return grid(["setting", "value"], rows, name)


def _flat(settings: Mapping[str, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _setting(value: Any) -> str:
    """A setting in full precision, cut only where it is very long."""
    value = number(value)
    text = value if isinstance(value, str) else "none" if value is None else json.dumps(value, ensure_ascii=False)
    text = {"true": "yes", "false": "no"}.get(text, text) if isinstance(value, bool) else text
    text = clean(text)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}… ({len(text)} signs; the whole is in config.json)"
    return f"<td><code>{escape(text)}</code></td>"
