"""Strict mode for the whole suite: two devices, no silent dtype promotion, the same examples every time."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

# Read when JAX starts, so set before it is imported: sharding is exercised on any machine.
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import jax
import pytest
from jax._src import pjit
from jax._src.interpreters import pxla

jax.config.update("jax_numpy_dtype_promotion", "strict")

hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("fixed")


def pytest_collection_finish() -> None:
    """What has been imported stays: the garbage collector need not look at it again."""
    gc.freeze()


def pytest_runtest_teardown() -> None:
    """Let go of the modules that were lowered: JAX keeps each, in a context of its own, and with a thousand of them
    alive the next takes five times as long. Compiled programs stay."""
    pxla._cached_lowering_to_hlo.cache_clear()
    pjit._pjit_lower.cache_clear()


_MAPS = Path("/proc/self/maps")
_MOST_MAPS = 35_000


@pytest.fixture(scope="module", autouse=True)
def _few_programs() -> Iterator[None]:
    """Let go of compiled programs in time: each maps memory, and Linux ends a process that maps 65,530 pieces."""
    yield
    if _MAPS.exists() and _MAPS.read_bytes().count(b"\n") > _MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def x64() -> Iterator[None]:
    """Double precision for one test."""
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)
