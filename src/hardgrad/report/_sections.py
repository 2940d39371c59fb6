"""The sections of a report. Each is HTML, or empty where the run has nothing for it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..training import EpochRecord
from ._records import metric_names
from ._schedules import split_controls
from ._summary import Summary
from ._tables import Table, cell, epochs_table, grid, settings_table
from ._text import escape, format_number, shorten

_FEW_METRICS = 12  # more are folded away
_ELSEWHERE = ("schema", "version", "method", "data", "validation", "plan", "settings", "environment")


def key_figures(summary: Summary) -> str:
    """The numbers one looks for first, and what should not be overlooked."""
    tiles = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd{_bad(text)}>{escape(text)}</dd></div>" for name, text in summary.figures
    )
    parts = [f'<dl class="figures">\n{tiles}\n</dl>', _marked(summary.warnings), _metrics(summary)]
    return "\n".join(part for part in parts if part)


def conclusion(summary: Summary) -> str:
    """What the recipe says in a line, what it printed at its end, and what is to be known of that."""
    text = "\n".join(summary.lines).strip("\n")
    parts = [
        f'<p class="headline">{escape(summary.headline)}</p>' if summary.headline else "",
        f'<pre class="said" role="region" tabindex="0" aria-label="As printed">{escape(text)}</pre>' if text else "",
        _marked(summary.notes),
    ]
    return "\n".join(part for part in parts if part)


def _marked(sentences: Sequence[str]) -> str:
    """Sentences that catch the eye."""
    items = "".join(f"<li>{escape(text)}</li>" for text in sentences)
    return f'<ul class="warnings">{items}</ul>' if items else ""


def _bad(text: str) -> str:
    return ' class="bad"' if text in ("NaN", "∞", "−∞") else ""


def _metrics(summary: Summary) -> str:
    """Final metrics, and those of the best epoch beside them."""
    if not summary.records:
        return '<p class="note">No epoch has been finished.</p>'
    last = summary.records[-1]
    best_epoch = None if summary.best is None else summary.best["epoch"]
    best = next((record for record in summary.records if record.epoch == best_epoch), None)
    shown = [(f"last epoch ({last.epoch})", last.metrics)]
    if best is not None and best is not last:
        shown.append((f"best epoch ({best.epoch})", best.metrics))
    names = metric_names([last])
    paired = {f"val_{name}" for name in names} & set(names)
    columns, rows = ["metric"], []
    for heading, _ in shown:
        columns += [heading, "validation"] if paired else [heading]
    for name in names:
        if name in paired:
            continue
        row = [f'<th scope="row">{escape(shorten(name, 60))}</th>']
        for _, metrics in shown:
            row.append(cell(metrics.get(name)))
            if paired:
                row.append(cell(metrics[f"val_{name}"]) if f"val_{name}" in metrics else "<td></td>")
        rows.append(row)
    table = grid(columns, rows, "Metrics")
    if len(rows) <= _FEW_METRICS:
        return f"<h3>Metrics</h3>\n{table}"
    return f'<details class="metrics"><summary><h3>All {len(rows)} metrics</h3></summary>\n{table}\n</details>'


def curves(pieces: Sequence[str]) -> str:
    """Loss, terms and gradient."""
    return "\n".join(pieces) or '<p class="note">Nothing to draw yet: no epoch has been finished.</p>'


def schedules(pieces: Sequence[str], records: Sequence[EpochRecord]) -> str:
    """The controls that change as curves, the others in a line."""
    changing, constant = split_controls(records)
    parts = list(pieces)
    if constant:
        entries = "".join(
            f"<li><span>{escape(shorten(name, 60))}</span> {escape(shorten(format_number(value), 60))}</li>"
            for name, value in constant.items()
        )
        parts.append(f'<h3>The same at the end of every epoch</h3>\n<ul class="pairs">{entries}</ul>')
    if not changing and not constant:
        parts.append('<p class="note">This run has no schedules.</p>' if records else '<p class="note">None yet.</p>')
    return "\n".join(parts)


def pictures(pieces: Sequence[str], tables: Sequence[Table]) -> str:
    """What the application adds."""
    shown = [f"<h3>{escape(table.title)}</h3>\n{table.as_html()}" for table in tables]
    return "\n".join([*pieces, *shown])


def epochs(summary: Summary) -> str:
    """The table of epochs, folded away."""
    if not summary.records:
        return '<p class="note">None yet.</p>'
    table, note = epochs_table(summary.records, summary.best)
    said = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<details class="long"><summary>Show the table</summary>\n{said}\n{table}\n</details>'


def settings(config: Mapping[str, Any]) -> str:
    """The content of config.json, in readable order."""
    parts = []
    own = config.get("settings")
    if isinstance(own, Mapping) and own:
        parts.append(f"<h3>Recipe</h3>\n{settings_table(own, 'Recipe')}")
    rest = {key: value for key, value in config.items() if key not in _ELSEWHERE}
    if rest:
        parts.append(f"<h3>Training</h3>\n{settings_table(rest, 'Training')}")
    if config.get("method"):
        parts.append(f"<h3>Method</h3>\n<pre>{escape(config['method'])}</pre>")
    for title, key in (("Data", "data"), ("Validation data", "validation")):
        arrays = {str(one.get("name") or "-"): _array(one) for one in _mappings(config.get(key))}
        if arrays:
            parts.append(f"<h3>{title}</h3>\n{settings_table(arrays, title)}")
    for title, key in (("Plan", "plan"), ("Versions", "environment")):
        value = config.get(key)
        if isinstance(value, Mapping) and value:
            parts.append(f"<h3>{title}</h3>\n{settings_table(value, title)}")
    return "\n".join(parts)


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _array(one: Mapping[str, Any]) -> str:
    """What config.json says of an array, in a line."""
    text = f"{one.get('dtype')}{one.get('shape')}"
    if "mean" in one:
        text += f", mean {format_number(one['mean'])}, standard deviation {format_number(one.get('deviation'))}"
    return text


def again(path: Path, summary: Summary) -> str:
    """How to repeat the run, and to go on with it."""
    recipe = _recipe(summary.config)
    quoted = shlex.quote(str(path))
    if recipe is not None:
        config = shlex.quote(str(path / "config.json"))
        repeat = _shell(
            "The same run once more, into another folder:",
            f"hardgrad run {shlex.quote(recipe)} --config {config}",
        )
        go_on = _shell("Go on from the newest checkpoint, to the same bits:", f"hardgrad resume {quoted}")
    else:
        seed, total = json.dumps(summary.config.get("seed", 0)), json.dumps(summary.config.get("epochs", 1))
        rows = summary.config.get("batch_size")
        given = f", batch_size={json.dumps(rows)}" if rows is not None else ""
        given += ", validation=validation" if summary.config.get("validation") else ""
        call = f"trainer.fit(model, objective, data, epochs={total}{given}, seed={seed}, run={str(path)!r}"
        repeat = _shell("This run was started from Python. Once more, into another folder:", f"{_elsewhere(call)})")
        go_on = _shell("Go on from the newest checkpoint, to the same bits:", f"{call}, resume=True)")
    drawn = _shell("Write this report again:", f"hardgrad report {quoted}")
    return "\n".join([repeat, *([] if summary.over else [go_on]), drawn])


def _recipe(config: Mapping[str, Any]) -> str | None:
    """The recipe's name, where the run was one's."""
    own = config.get("settings")
    for place in (config, own if isinstance(own, Mapping) else {}):
        if isinstance(place.get("recipe"), str):
            return str(place["recipe"])
    return None


def _elsewhere(call: str) -> str:
    return call[: call.rindex("run=")] + 'run="runs/again"'


def _shell(what: str, command: str) -> str:
    return f"<p>{escape(what)}</p>\n<pre>{escape(command)}</pre>"
