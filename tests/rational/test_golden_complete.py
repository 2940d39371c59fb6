"""Every golden section is checked by some test, or left out for a stated reason."""

from __future__ import annotations

import re
from pathlib import Path

import rational_golden as golden


def test_every_section_is_checked_or_left_out() -> None:
    here = Path(__file__).parent
    text = "\n".join(path.read_text() for path in here.glob("test_*.py"))
    read = set(re.findall(r"""cases\(\s*["']([a-z_0-9]+)["']""", text))
    known = set(golden.sections())
    assert read <= known, f"no such sections: {sorted(read - known)}"
    assert not read & set(golden.LEFT_OUT), "checked, so not left out"
    assert set(golden.LEFT_OUT) <= known
    assert known - read - set(golden.LEFT_OUT) == set()
