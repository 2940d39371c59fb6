"""Text for people, from files that nobody vouches for: cleaned, escaped, and numbers short enough to read."""

from __future__ import annotations

import html
import math
import re
from typing import Any

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def clean(text: object) -> str:
    """`text` without what can't be encoded or would turn the line around: each such sign becomes ``�``."""
    return _CONTROL.sub("\ufffd", str(text))


def escape(text: object) -> str:
    """`text` as HTML shows it: no sign of it is markup, in an element or in an attribute."""
    return html.escape(clean(text), quote=True)


def shorten(text: object, limit: int) -> str:
    """`text` on one line, cut to `limit` signs with a ``…`` at the end."""
    line = " ".join(clean(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def figure_text(text: object, limit: int = 40) -> str:
    """`text` for Matplotlib, which would read a formula between two dollar signs."""
    return shorten(text, limit).replace("$", r"\$")


def format_number(value: object, digits: int = 4) -> str:
    """A number in at most `digits` significant digits; whole numbers whole, in groups of three.

    Anything else as it is written.

    Examples:
        >>> from hardgrad.report._text import format_number
        >>> format_number(0.0123456), format_number(12.0), format_number(float("nan"))
        ('0.01235', '12', 'NaN')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if abs(value) >= 10**15:
        return f"{as_number(value):.{digits}g}".replace("-", "−")
    if float(value).is_integer():
        return f"{int(value):,}".replace(",", "\u202f").replace("-", "−")  # a narrow space that does not break
    return f"{value:.{digits}g}".replace("-", "−")


def format_seconds(seconds: float) -> str:
    """A time, in the two units that matter.

    Examples:
        >>> from hardgrad.report._text import format_seconds
        >>> format_seconds(0.1234), format_seconds(75.2), format_seconds(7325.0)
        ('0.12 s', '1 min 15 s', '2 h 2 min')
    """
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """``1 epoch``, ``2 epochs``."""
    return f"{format_number(number)} {singular if number == 1 else plural or singular + 's'}"


def as_number(value: Any) -> float | None:
    """`value` as a float if it is a number, else None. A bool is none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
