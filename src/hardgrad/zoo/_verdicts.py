"""Who won, from figures of several seeds."""

from __future__ import annotations

import numpy as np


def spread(values: list[float]) -> float:
    """Sample standard deviation; 0 for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def compare(ours: list[float], theirs: list[float], sign: float) -> str:
    """``"beats"``, ``"loses to"`` or ``"ties with"``; with one seed ``"can't be told from"``.

    Seeds share their data, so that differences are taken seed by seed. A tie is a mean difference within their
    standard deviation.

    Args:
        ours: a value each seed.
        theirs: likewise.
        sign: +1 where less is better, -1 where more is.
    """
    difference = sign * (np.asarray(ours) - np.asarray(theirs))
    mean, deviation = float(np.mean(difference)), spread(difference.tolist())
    if not np.isfinite(mean):
        return "can't be compared with"
    if len(ours) < 2:
        return "can't be told from"
    return "ties with" if abs(mean) <= deviation else "beats" if mean < 0 else "loses to"
