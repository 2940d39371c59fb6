"""Parts of recipes that the command line chooses by name."""

from __future__ import annotations

from typing import Any, Literal

from ..core import AbstractEstimator
from ..estimators import SPSA, AntitheticNES, Autodiff, CentralDifference, ForwardDifference

EstimatorName = Literal["central", "forward", "autodiff", "spsa", "nes"]
"""The estimators by the names the command line knows."""


def make_estimator(name: EstimatorName, *, eps: Any) -> AbstractEstimator:
    """An estimator by name.

    Args:
        name: which.
        eps: step of the differences and of SPSA, spread of the evolution strategy: a number or a `control`.
    """
    if name == "autodiff":
        return Autodiff()
    if name == "central":
        return CentralDifference(eps)
    if name == "forward":
        return ForwardDifference(eps)
    if name == "spsa":
        return SPSA(eps, directions=4)
    return AntitheticNES(eps, pairs=16)
