"""Shapes of traces and labels."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from ...core import UsageError


def check_traces(traces: Any) -> None:
    """Refuse what is not ``[batch, time, classes]``."""
    if jnp.ndim(traces) != 3 or 0 in jnp.shape(traces):
        raise UsageError(f"traces are [batch, time, classes], none of them 0; got shape {jnp.shape(traces)}.")


def check_labels(traces: Any, labels: Any) -> None:
    """Refuse labels that are not one class a sample."""
    check_traces(traces)
    if jnp.shape(labels) != traces.shape[:1] or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise UsageError(
            f"labels are class numbers, integers [batch]; traces of shape {traces.shape} need {traces.shape[0]}, got "
            f"{labels.dtype} of shape {jnp.shape(labels)}."
        )


def smooth_one_hot(labels: Any, classes: int, smoothing: float, dtype: Any) -> Any:
    """(1 - ε)·onehot + ε/classes (Szegedy et al. 2016, section 7); NaN for labels out of range.

    A label is not known before the program runs. NaN makes the trainer stop and say that the loss is not finite, where
    a target of zeros would train on.
    """
    target = (1.0 - smoothing) * jax.nn.one_hot(labels, classes, dtype=dtype) + smoothing / classes
    known = (labels >= 0) & (labels < classes)
    return jnp.where(known[..., None], target, jnp.nan)


def check_fraction(name: str, value: Any) -> None:
    """Refuse what is not in [0, 1)."""
    if not (isinstance(value, int | float) and 0.0 <= value < 1.0):
        raise UsageError(f"{name} must be at least 0 and below 1, got {value!r}.")


def check_not_negative(name: str, value: Any) -> None:
    """Refuse what is negative or not finite."""
    if not (isinstance(value, int | float) and 0.0 <= value < math.inf):
        raise UsageError(f"{name} must be at least 0 and finite, got {value!r}.")
