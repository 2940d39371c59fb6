"""A network: layers in a row, with their states side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx

from ...core import UsageError
from ._forms import Settings, execute
from ._layers import advance, check_layer, constants, init_state


class Network(eqx.Module):
    """Layers in a row: cells, sequence layers, and Equinox layers or functions of one sample.

    Attributes:
        layers: in order.

    Raises:
        UsageError: no layers, or something that is none.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hardgrad.spiking import LIF, LeakyIntegrator
        >>> a, b = jax.random.split(jax.random.key(0))
        >>> net = Network([eqx.nn.Linear(3, 8, key=a), LIF(8, decay=0.9), eqx.nn.Linear(8, 2, key=b),
        ...                LeakyIntegrator(2)])
        >>> net(jnp.ones((5, 10, 3))).shape  # [batch, time, features]
        (5, 10, 2)
    """

    layers: tuple[Any, ...]

    def __init__(self, layers: Sequence[Any]) -> None:
        self.layers = tuple(layers)
        if not self.layers:
            raise UsageError("a Network needs at least one layer.")
        for index, layer in enumerate(self.layers):
            check_layer(index, layer)

    def init_state(self, batch: int, dtype: Any = None) -> tuple[Any, ...]:
        """The state before the first step, one entry a layer; None for layers without.

        Args:
            batch: samples.
            dtype: of cells' states; None: that of each cell's parameters.
        """
        return tuple(init_state(layer, batch, dtype) for layer in self.layers)

    def step(self, state: tuple[Any, ...], x: Any) -> tuple[tuple[Any, ...], Any]:
        """One time step of the whole batch.

        Args:
            state: as `init_state` or the step before returned it.
            x: ``[batch, ...]``.

        Returns:
            The new state, and the last layer's output.
        """
        after = []
        for index, (layer, before) in enumerate(zip(self.layers, state, strict=True)):
            new, x = advance(index, layer, constants(layer), before, x)
            after.append(new)
        return tuple(after), x

    def __call__(self, inputs: Any) -> Any:
        """All time steps from an empty state: ``run(network, inputs).outputs``."""
        return execute(self.layers, inputs, None, Settings())[0].outputs
