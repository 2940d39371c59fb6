"""The page of an audit: its verdicts, pictures and figures in one HTML file."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from ..audit import Audit
from ..report._style import png
from ..report._template import page
from ..report._text import escape
from ..training._storage import write_text
from ..zoo._audit_figures import audit_figures

_WORDS = {"good": "trust it", "note": "with care", "warn": "little trust", "bad": "do not trust it"}


def write_page(found: Audit, path: Path) -> None:
    """Write it; it needs no other file and no network.

    Raises:
        UsageError: the file can't be written.
        MissingExtraError: Matplotlib is not installed.
    """
    answer, *others = found.verdicts
    sections = {"What it rests on": "\n".join(_verdict(one) for one in others)} if others else {}
    for title, figure in audit_figures(found).items():
        sections[title] = _picture(title, figure)
    sections["All figures"] = f"<pre>{escape(chr(10).join(found.lines()))}</pre>"
    text = page(
        "gradient",
        found.title,
        sections,
        badge=answer.level,
        status=_WORDS[answer.level] if not found.no_derivative else "no gradient",
        reason=answer.text,
        description=(f"<p>Next: {escape(answer.next)}</p>\n" if answer.next else "")
        + f"<p>{escape(found.estimator)}, order {escape(found.order)}, {found.parameters:,} parameters.</p>",
        footer=f"{found.evaluations:,} evaluations of the objective, {found.seconds:.1f} s.",
    )
    write_text(path, text)


def _verdict(one: Any) -> str:
    cure = f"<br>Next: {escape(one.next)}" if one.next else ""
    return f'<p><span class="badge {one.level}">{escape(one.about)}</span> {escape(one.text)}{cure}</p>'


def _picture(title: str, figure: Any) -> str:
    said = str(figure.get_label())
    data = base64.b64encode(png(figure)).decode("ascii")
    return (
        f'<figure><div class="sheet"><img class="turns" alt="{escape(title)}: {escape(said)}"\n'
        f'src="data:image/png;base64,{data}"></div>\n<figcaption>{escape(said)}</figcaption></figure>'
    )
