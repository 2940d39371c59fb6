"""A chain: each node is fed the state of the one before.

    s_{0,t} = node_0(x_t),   s_{i,t} = node_i(s_{i-1,t})

Source: the published hypercausal system. A node passes on its state, never its projected future.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from ..core import UsageError
from ._nodes import Node, Prediction, gather
from ._numbers import as_depth, check_branches


class Chain(eqx.Module):
    """Nodes in a row.

    Attributes:
        nodes: at least one.
        branches: K, how many futures each projects; at least 2.

    Raises:
        UsageError: no nodes, or branches below 2.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.hypercausal import Chain, Node, TanhCell
        >>> chain = Chain([Node(TanhCell(0.9, 0.03)), Node(TanhCell(1.05))], branches=5)
        >>> chain(jnp.zeros((48, 3)), depth=2).states[-1].shape
        (48, 3)
    """

    nodes: tuple[Node, ...]
    branches: int = eqx.field(static=True)

    def __init__(self, nodes: Sequence[Node], *, branches: int = 2):
        if not nodes:
            raise UsageError("a chain needs at least one node: Chain([Node(TanhCell(0.9, 0.0))]).")
        self.nodes = tuple(nodes)
        self.branches = check_branches(branches)

    def __call__(
        self,
        inputs: Float[Array | np.ndarray, "*batch time channel"],
        *,
        depth: Any = 1,
        branches: int | None = None,
    ) -> Prediction:
        """All nodes over all steps: each field of the `Prediction` is a tuple, node by node.

        Args:
            inputs: any number of sequences.
            depth: recursion depth of every node: an int, or an integer scalar array that may change at
                run time.
            branches: another K for this call; None takes the chain's.

        Raises:
            UsageError: the inputs don't fit the parameters, or branches or depth is out of range.
        """
        depth = as_depth(depth)
        branches = self.branches if branches is None else check_branches(branches)
        predictions: list[Prediction] = []
        state: Any = inputs
        for node in self.nodes:
            predictions.append(node(state, depth=depth, branches=branches))
            state = predictions[-1].states
        return gather(None, predictions)
