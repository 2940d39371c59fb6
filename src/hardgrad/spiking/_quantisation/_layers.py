"""Layers whose weights are integers times a scale, in training and deployed.

The integers are multiplied first and scaled after: y = scale·(Q x) + bias. Sums of small integers are exact in
floating point, in any order, as long as they stay below 2^24 (float32), so with spikes as input a layer gives the bits
of integer hardware: what was trained is what is deployed.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int8

from .._neurons import LIF, RecurrentLIF, VoltageState
from ._grid import WeightGrid


class QuantisedLayer(eqx.Module):
    """A layer in training: its weights are rounded to the grid each time they are used.

    Attributes:
        layer: an `equinox.nn.Linear` or `equinox.nn.Conv`, with the weights that are trained.
        grid: where they are rounded to.
    """

    layer: Any
    grid: WeightGrid = eqx.field(static=True)

    def integers(self) -> tuple[Array, Array]:
        """The integers, as floating-point numbers, and their scale; differentiable straight through."""
        return self.grid.integers(self.layer.weight)

    def prepared(self) -> IntegerLayer:
        """The layer with its weights rounded, for a scan to use at every step."""
        integers, scale = self.integers()
        return IntegerLayer(eqx.tree_at(lambda layer: layer.weight, self.layer, integers), scale, self.grid)

    def __call__(self, x: Float[Array, "*shape"], *, key: Any = None) -> Float[Array, "*out"]:
        """One sample: scale·(Q x) + bias."""
        return self.prepared()(x)


class IntegerLayer(eqx.Module):
    """A layer as deployed: int8 weights that are trained no more, and their scale.

    Attributes:
        layer: the layer with integers for weights.
        scale: of the weight's rank.
        grid: where the integers come from.
    """

    layer: Any
    scale: Float[Array, "*shape"]
    grid: WeightGrid = eqx.field(static=True)

    def integers(self) -> tuple[Array, Array]:
        """The integers, as floating-point numbers, and their scale."""
        return self.layer.weight.astype(self.scale.dtype), self.scale

    def prepared(self) -> IntegerLayer:
        """The layer with its integers as floating-point numbers, for a scan to use at every step."""
        integers, scale = self.integers()
        return IntegerLayer(eqx.tree_at(lambda layer: layer.weight, self.layer, integers), scale, self.grid)

    def __call__(self, x: Float[Array, "*shape"], *, key: Any = None) -> Float[Array, "*out"]:
        """One sample: scale·(Q x) + bias."""
        integers, bias = self.integers()[0], self.layer.bias
        if bias is None:
            bare = eqx.tree_at(lambda layer: layer.weight, self.layer, integers)
        else:
            parts = (integers, jnp.zeros_like(bias))
            bare = eqx.tree_at(lambda layer: (layer.weight, layer.bias), self.layer, parts)
        out: Array = bare(x)
        # One scale, or one for each of the outputs, which come first; the scale of a scalar output is alone.
        along = (-1,) + (1,) * (out.ndim - 1) if out.ndim else ()
        out = self.scale.reshape(along) * out
        return out if bias is None else out + bias.reshape(along)


class _ScaledRecurrentLIF(LIF):
    """A `RecurrentLIF` whose recurrent weights are integers times a scale."""

    grid: eqx.AbstractVar[WeightGrid]

    @abc.abstractmethod
    def integers(self) -> tuple[Array, Array]:
        """The integers, as floating-point numbers, and their scale."""

    def constants(self) -> Any:
        """β, θ, the integers and their scale."""
        integers, scale = self.integers()
        return self.decay, self.threshold, integers, scale

    def advance(self, constants: Any, state: VoltageState, x: Float[Array, "batch n"]) -> tuple[VoltageState, Any]:
        """One step: V ← β·V + x + scale·(Q s) - s·θ."""
        (decay, threshold, integers, scale), voltage = constants, state.voltage
        spikes = self.surrogate(voltage - threshold)
        recurrent = (spikes @ integers.T) * scale.ravel()
        return VoltageState(self._leak(decay, threshold, voltage, spikes) + x + recurrent), spikes


def _take_over(new: Any, cell: LIF) -> None:
    """Give a cell that is being made the fields of another one."""
    for field in dataclasses.fields(LIF):
        setattr(new, field.name, getattr(cell, field.name))


class QuantisedRecurrentLIF(_ScaledRecurrentLIF):
    """A `RecurrentLIF` in training: its recurrent weights are rounded to the grid each time they are used.

    Attributes:
        weight: the recurrent weights that are trained ``[units, units]``.
        grid: where they are rounded to.
    """

    weight: Float[Array, "n n"]
    grid: WeightGrid = eqx.field(static=True)

    def __init__(self, cell: RecurrentLIF, grid: WeightGrid) -> None:
        """Make one of a cell.

        Args:
            cell: as it is.
            grid: for its recurrent weights.
        """
        _take_over(self, cell)
        self.weight, self.grid = cell.weight, grid

    def integers(self) -> tuple[Array, Array]:
        """The integers, as floating-point numbers, and their scale; differentiable straight through."""
        return self.grid.integers(self.weight)


class IntegerRecurrentLIF(_ScaledRecurrentLIF):
    """A `RecurrentLIF` as deployed: int8 recurrent weights that are trained no more, and their scale.

    Attributes:
        weight: ``[units, units]``.
        scale: of rank two.
        grid: where the integers come from.
    """

    weight: Int8[Array, "n n"]
    scale: Float[Array, "_ _"]
    grid: WeightGrid = eqx.field(static=True)

    def __init__(self, cell: QuantisedRecurrentLIF) -> None:
        """Freeze a cell.

        Args:
            cell: as trained.
        """
        _take_over(self, cell)
        integers, self.scale = cell.integers()
        self.weight, self.grid = integers.astype(jnp.int8), cell.grid

    def integers(self) -> tuple[Array, Array]:
        """The integers, as floating-point numbers, and their scale."""
        return self.weight.astype(self.scale.dtype), self.scale
