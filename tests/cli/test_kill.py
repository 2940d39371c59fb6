"""`kill -9` of the real process, then `resume`: the bits of a run that was never touched."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

TOOL = pathlib.Path(__file__).parents[2] / "tools" / "kill_and_resume.py"


@pytest.mark.optimised
@pytest.mark.slow
def test_three_moments():
    """While it starts, in the middle with checkpoints behind it, and as it winds up."""
    done = subprocess.run([sys.executable, str(TOOL), "3", "--seed", "3"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 identical" in done.stdout
    middle = done.stdout.splitlines()[2]
    assert "epoch" in middle
    assert "checkpoint 0" not in middle
