"""Hypercausal columns: a chain of recursive cells, as JAX sees it and as a black box.

Six nodes of one weight and one bias each, three levels deep, so that what comes out has gone through eighteen tanh. The
targets are the states of such a chain with other numbers. Both columns have the same data, starts and score; the second
is `HostChain`, which computes the same in NumPy, behind a `BlackBox` that has no derivative.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ...hypercausal import (
    Chain,
    HostChain,
    HostObjective,
    HypercausalObjective,
    LinearProjector,
    Node,
    TanhCell,
)
from ._problem import Problem

NODES, DEPTH, BRANCHES = 6, 3, 3
SPAN = 0.2
ROWS, TIME = 256, 12
_WEIGHTS: dict[str, Any] = {"task_weight": 1.0, "consistency_weight": 0.01, "coherence_weight": 0.01}
_TAUGHT = [(1.3, 0.1), (-1.2, 0.2), (1.25, -0.1), (1.1, 0.15), (-1.3, 0.05), (1.2, -0.2)]


def host() -> HostChain:
    """Chain and objective in NumPy."""
    return HostChain(spans=(SPAN,) * NODES, branches=BRANCHES, **_WEIGHTS)


def draw(part: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sequences ``[256, 12, 1]``, each a sinusoid with an offset, and the states of the chain that is to be found."""
    rng = np.random.default_rng((1, part))
    rate, phase, offset = (rng.uniform(*bounds, (ROWS, 1)) for bounds in ((0.2, 0.8), (0.0, 2 * np.pi), (-0.5, 0.5)))
    inputs = (0.8 * np.sin(rate * np.arange(TIME) + phase) + offset)[..., None]
    return inputs.astype(np.float32), host().states(_TAUGHT, inputs, DEPTH).astype(np.float32)


def start(key: Any) -> list[tuple[Any, Any]]:
    """Weight and bias of each node: near ±1, of the sign that is to be found, and near 0."""
    first, second = jax.random.split(key)
    signs = jnp.asarray(np.sign([weight for weight, _ in _TAUGHT]), jnp.zeros(()).dtype)
    weights = signs * (1.0 + 0.1 * jax.random.normal(first, (NODES,)))
    biases = 0.1 * jax.random.normal(second, (NODES,))
    return [(weights[i], biases[i]) for i in range(NODES)]


def chain() -> Problem:
    """As JAX sees it."""
    objective = HypercausalObjective(**_WEIGHTS)

    def build(key: Any) -> Chain:
        nodes = [Node(TanhCell(weight, bias), LinearProjector(span=SPAN)) for weight, bias in start(key)]
        return Chain(nodes, branches=BRANCHES)

    return _problem("chain", "chain", "", build, objective)


def box() -> Problem:
    """In NumPy, behind a `BlackBox`."""
    return _problem(
        "box", "black box", ", in NumPy behind a BlackBox", lambda key: host().black_box(start(key)), HostObjective()
    )


def _problem(name: str, title: str, where: str, build: Callable[[Any], Any], objective: Any) -> Problem:
    parts = [draw(part) for part in range(3)]
    return Problem(
        name=name,
        title=title,
        about=f"a chain of {NODES} recursive nodes of depth {DEPTH} finds the numbers of another{where}",
        unit="mean squared error of the states",
        build=build,
        objective=objective,
        score=lambda model, rows: objective(model, rows, {"depth": DEPTH}, jax.random.key(0))[1]["task"],
        train=parts[0],
        validation=parts[1],
        test=parts[2],
        batch_size=8,
        trivial=float(np.var(parts[2][1])),
        trivial_is="the mean",
        controls={"depth": DEPTH},
    )
