"""What the tables of `oscillators.py` share: sizes, the clock, and PyTorch where it is installed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

import jax

try:
    import _torch_oscillators as peers
    import torch
except ImportError:
    peers = torch = None

FLOOR = "C floor, one thread"


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is measured; a quick run shows that the programs work, its figures mean nothing."""

    batch: int = 32
    horizons: tuple[int, ...] = (512, 1024, 2048)
    samples: int = 2205
    repeats: int = 7


QUICK = Sizes(16, (64, 128, 256), 600, 1)


def timed(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Milliseconds, the least of several runs after one that does not count, until the arrays are there; the result."""
    jax.block_until_ready(run())
    took, result = zip(*(once(run) for _ in range(repeats)), strict=True)
    return min(took), result[-1]


def once(run: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds of a single run, and the result."""
    begin = time.perf_counter()
    result = jax.block_until_ready(run())
    return 1e3 * (time.perf_counter() - begin), result


def best(run: Callable[[], Any], repeats: int) -> float:
    """Milliseconds, the least of several runs after one that does not count."""
    return timed(run, repeats)[0]
