"""What a cell is: parameters, a state, and one time step as a pure function.

Order of a step, in every spiking cell: the spike is read from the membrane as the last step left it, then the membrane
leaks, takes its input and is reset. An input is therefore seen in the spike of the next step.

A step is in two parts, so that a scan works out once what does not change from step to step: `Cell.constants` (decays,
thresholds, recurrent weights) and `Cell.advance`.
"""

from __future__ import annotations

import abc
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError, did_you_mean, whole_number
from .._surrogates import SuperSpike, Surrogate
from ._parameters import raw_threshold, shape_of_units, threshold_of

Reset = Literal["subtract", "zero"]
RESETS = ("subtract", "zero")
Floats = Float[Array, "batch *units"]


class VoltageState(NamedTuple):
    """State of a cell that has a membrane only.

    Attributes:
        voltage: V ``[batch, *units]``.
    """

    voltage: Any


class Cell(eqx.Module):
    """Base of all cells: ``cell(state, x) -> (state, out)``, one time step of a whole batch.

    Attributes:
        units: shape of one sample's units.
    """

    units: eqx.AbstractVar[tuple[int, ...]]

    @abc.abstractmethod
    def constants(self) -> Any:
        """What depends on parameters alone, as `advance` uses it."""

    @abc.abstractmethod
    def advance(self, constants: Any, state: Any, x: Any) -> tuple[Any, Any]:
        """One step, with `constants` worked out before."""

    @abc.abstractmethod
    def init_state(self, batch: int, dtype: Any = None) -> Any:
        """The state before the first step: zeros ``[batch, *units]``.

        Args:
            batch: samples.
            dtype: of the state; None: that of the cell's parameters, or JAX's default.
        """

    def __call__(self, state: Any, x: Floats) -> tuple[Any, Floats]:
        """One time step.

        Args:
            state: as `init_state` or the step before returned it.
            x: input ``[batch, *units]``.

        Returns:
            The new state, and what the cell sends on ``[batch, *units]``.

        Raises:
            UsageError: an input that is not of the cell's units.
        """
        self.check(x)
        return self.advance(self.constants(), state, x)

    def check(self, x: Any) -> None:
        """Refuse an input that would be broadcast."""
        if x.shape[1:] != self.units:
            raise UsageError(
                f"{type(self).__name__} has units {self.units} and takes [batch, {', '.join(map(str, self.units))}]; "
                f"got an input of shape {x.shape}."
            )

    def _zeros(self, batch: int, dtype: Any) -> Array:
        size = whole_number("batch", batch, least=1)
        return jnp.zeros((size, *self.units), self._dtype() if dtype is None else dtype)

    def _dtype(self) -> Any:
        parameters = jax.tree.leaves(eqx.filter(self, eqx.is_inexact_array))
        return parameters[0].dtype if parameters else None


class SpikingCell(Cell):
    """Base of cells that spike: threshold, surrogate and reset.

    Attributes:
        units: shape of one sample's units.
        raw_threshold: inverse softplus of the threshold per unit, or None where it is not learned.
        start_threshold: the threshold given.
        surrogate: the spike function.
        reset: ``"subtract"`` takes the threshold off the membrane of a unit that spiked, ``"zero"`` empties it.
        detach_reset: whether gradients ignore that the reset depends on the spike.
    """

    raw_threshold: Float[Array, "*units"] | None
    units: tuple[int, ...] = eqx.field(static=True)
    start_threshold: float = eqx.field(static=True)
    surrogate: Surrogate = eqx.field(static=True)
    reset: str = eqx.field(static=True)
    detach_reset: bool = eqx.field(static=True)

    def __init__(
        self,
        units: int | tuple[int, ...],
        *,
        threshold: float,
        learn_threshold: bool,
        surrogate: Surrogate,
        reset: str,
        detach_reset: bool,
    ) -> None:
        if reset not in RESETS:
            raise UsageError(f"reset is 'subtract' or 'zero', not {reset!r}. {did_you_mean(str(reset), RESETS)}")
        self.units = shape_of_units(units)
        self.raw_threshold = raw_threshold(threshold, learn_threshold, self.units)
        self.start_threshold = float(threshold)
        self.surrogate = surrogate
        self.reset = reset
        self.detach_reset = detach_reset

    @property
    def threshold(self) -> Any:
        """θ > 0: a number, or per unit ``[*units]`` where it is learned."""
        return threshold_of(self.raw_threshold, self.start_threshold)

    def _after_reset(self, voltage: Array, spikes: Array, height: Any) -> Array:
        """The membrane of units that spiked taken back, the others' as it was."""
        if self.detach_reset:
            spikes = jax.lax.stop_gradient(spikes)
        return voltage - spikes * height if self.reset == "subtract" else voltage * (1.0 - spikes)


SUPERSPIKE = SuperSpike()
