"""One score a class from its trace over time."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError, did_you_mean
from ._checks import check_traces

READOUTS = ("sum", "mean", "last", "max")


def check_readout(kind: str) -> None:
    """Refuse an unknown readout."""
    if kind not in READOUTS:
        raise UsageError(f"readout is not {kind!r}. {did_you_mean(str(kind), READOUTS)}")


def readout(traces: Any, kind: str = "sum") -> Float[Array, "batch classes"]:
    """Scores of the classes.

    Args:
        traces: ``[batch, time, classes]``, spikes or membranes.
        kind: ``"sum"`` or ``"mean"`` over time, the ``"last"`` step, or the ``"max"`` over time.

    Raises:
        UsageError: traces of another rank, or an unknown readout.
    """
    check_traces(traces)
    check_readout(kind)
    if kind == "sum":
        return jnp.sum(traces, axis=1)
    if kind == "mean":
        return jnp.mean(traces, axis=1)
    return traces[:, -1] if kind == "last" else jnp.max(traces, axis=1)
