"""A small decision to ship: a perceptron's P/Q, strictly."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hardgrad.export import Exportable
from hardgrad.export._manifest import METADATA, SUMS, sums

TAU = 0.125


class Decision(NamedTuple):
    """What the shipped function returns; the last field is absent."""

    decoded: jax.Array
    bottom_mask: jax.Array
    provenance: jax.Array
    nothing: None = None


def decision(dtype="float32", seed=0):
    """A function of rows ``[batch, 2]``: P/Q of a perceptron, NaN where |Q| is below TAU or something is not finite."""
    random = np.random.default_rng(seed)
    first, second = (jnp.asarray(random.normal(size=size), dtype) for size in ((2, 8), (8, 2)))

    def decide(x):
        P, Q = jnp.moveaxis(jnp.tanh(x @ first) @ second, -1, 0)
        fault = ~(jnp.isfinite(P) & jnp.isfinite(Q))
        semantic = jnp.abs(Q) < TAU
        bottom = fault | semantic
        decoded = jnp.where(bottom, jnp.nan, P / jnp.where(bottom, 1.0, Q))
        return Decision(decoded, bottom, fault.astype(jnp.int32) + 2 * semantic.astype(jnp.int32))

    return decide


def rows(count=5, dtype="float32"):
    return np.random.default_rng(1).normal(size=(count, 2)).astype(dtype)


def edges(dtype="float32"):
    return np.array([[np.nan, 0], [np.inf, 1], [0, -np.inf], [0, 0], [1e30, -1e30], [1e-42, -0.0]], dtype)


def exportable(dtype="float32", **changes):
    given = {
        "function": decision(dtype),
        "inputs": {"x": rows(dtype=dtype)},
        "metadata": {"tau_infer": TAU, "mean": [0.5, float("nan")]},
        "edge_rows": {"x": edges(dtype)},
    }
    return Exportable(**(given | changes))


def sign_again(folder):
    """Make the checksums match what is there, as who forges a bundle would."""
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.name != SUMS}
    listed = json.loads((folder / METADATA).read_text())
    files = listed.get("files") if isinstance(listed, dict) else None
    names = [name for name in files if name in digests] if isinstance(files, dict) else []
    (folder / SUMS).write_text(sums({name: digests[name] for name in (METADATA, *names)}))
