"""How long a step takes."""

from __future__ import annotations

import time
from collections.abc import Callable


def seconds_a_step(train: Callable[[int], None], *, least: float = 0.1, repeats: int = 5) -> float:
    """Seconds of a step, by runs so long that what a call costs besides is a few hundredths of it at most.

    Args:
        train: trains for a number of steps and waits for the end.
        least: seconds that a run is to last.
        repeats: runs, of which the quickest counts.
    """

    def timed(steps: int) -> float:
        begun = time.perf_counter()
        train(steps)
        return time.perf_counter() - begun

    steps = 1
    timed(steps)
    while timed(steps) < least:
        steps *= 2
    return min(timed(steps) for _ in range(repeats)) / steps
