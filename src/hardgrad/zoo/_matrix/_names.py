"""The rows of the matrix by the names the command line knows. Imports no JAX."""

from __future__ import annotations

from ...core import UsageError, did_you_mean

METHODS = (
    "autodiff",
    "central",
    "forward",
    "spsa",
    "nes",
    "open-es",
    "snes",
    "sep-cma-es",
    "cma-es",
    "hybrid",
    "every",
    "guided",
    "e-prop",
    "feedback",
    "synthetic",
    "quantise",
    "convert",
)
"""In the order of the tables."""
APPLICATIONS = ("regression", "chain", "box", "rational", "song", "spiking", "control")
"""The columns, in the order of the tables."""


def check_method(name: str) -> None:
    """Raise `UsageError` if no method has this name."""
    if name not in METHODS:
        raise UsageError(f"'{name}' is no method of the matrix. {did_you_mean(name, METHODS, most=99)}")


def check_application(name: str) -> None:
    """Raise `UsageError` if no application has this name."""
    if name not in APPLICATIONS:
        raise UsageError(f"'{name}' is no application of the matrix. {did_you_mean(name, APPLICATIONS, most=99)}")
