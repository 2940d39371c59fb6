"""Tables in Markdown, and pages that hold them between ``<!-- table: NAME -->`` and ``<!-- end -->``."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

_PLACE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """The lines of a table."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(text.replace('|', chr(92) + '|') for text in row)} |"


def filled(text: str, tables: Mapping[str, Callable[[], Iterable[str]]]) -> str:
    """A page with its tables made anew; everything between them stays.

    Raises:
        KeyError: the page asks for a table there is not.
    """
    return _PLACE.sub(lambda found: f"{found[1]}\n{chr(10).join(tables[found[2]]()).strip()}\n\n{found[3]}", text)
