"""Cells with a membrane alone. V: membrane, x: input, θ: threshold, S: spike function, β: decay, W: recurrent weights.

    s = S(V - θ)
    IF                V ← V + x - s·θ
    LIF               V ← β·V + x - s·θ
    RecurrentLIF      V ← β·V + x + W s - s·θ
    LeakyIntegrator   V ← β·V + x,  sends V

The amount subtracted is not leaked. Reset to zero: (1 - s)·V stands in the place of V and nothing is subtracted.
This is the discrete leaky integrate-and-fire neuron of Neftci, Mostafa, Zenke 2019, "Surrogate gradient learning in
spiking neural networks", without synaptic current.
"""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Float, Key

from ...core import UsageError
from .._surrogates import Surrogate
from ._base import SUPERSPIKE, Cell, Floats, SpikingCell, VoltageState
from ._parameters import decay_of, raw_decay, shape_of_units


class IF(SpikingCell):
    """Integrate and fire: no leak, no parameters unless the threshold is learned.

    Examples:
        >>> import jax.numpy as jnp
        >>> cell = IF(1)
        >>> state, spikes = cell.init_state(1), []
        >>> for _ in range(5):
        ...     state, spike = cell(state, jnp.full((1, 1), 0.75))
        ...     spikes.append(int(spike[0, 0]))
        >>> spikes
        [0, 0, 1, 1, 0]
    """

    def __init__(
        self,
        units: int | tuple[int, ...],
        *,
        threshold: float = 1.0,
        learn_threshold: bool = False,
        surrogate: Surrogate = SUPERSPIKE,
        reset: str = "subtract",
        detach_reset: bool = False,
    ) -> None:
        """Make the cell.

        Args:
            units: how many, or a shape of any rank, such as (height, width, channels).
            threshold: θ at first.
            learn_threshold: whether θ is a parameter, one a unit.
            surrogate: the spike function.
            reset: ``"subtract"`` or ``"zero"``.
            detach_reset: whether gradients ignore that the reset depends on the spike.

        Raises:
            UsageError: a value out of range.
        """
        super().__init__(
            units,
            threshold=threshold,
            learn_threshold=learn_threshold,
            surrogate=surrogate,
            reset=reset,
            detach_reset=detach_reset,
        )

    def init_state(self, batch: int, dtype: Any = None) -> VoltageState:
        """An empty membrane."""
        return VoltageState(self._zeros(batch, dtype))

    def constants(self) -> Any:
        """θ."""
        return self.threshold

    def advance(self, constants: Any, state: VoltageState, x: Floats) -> tuple[VoltageState, Floats]:
        """One step."""
        threshold, voltage = constants, state.voltage
        spikes = self.surrogate(voltage - threshold)
        return VoltageState(self._after_reset(voltage, spikes, threshold) + x), spikes


class LIF(SpikingCell):
    """Leaky integrate and fire.

    Attributes:
        raw_decay: logit of β per unit.

    Examples:
        >>> import jax.numpy as jnp
        >>> cell = LIF((2, 3), decay=0.9)
        >>> state, spikes = cell(cell.init_state(batch=4), jnp.ones((4, 2, 3)))
        >>> state.voltage.shape, float(spikes.sum())
        ((4, 2, 3), 0.0)
        >>> cell.decay[0]
        Array([0.9, 0.9, 0.9], dtype=float32)
    """

    raw_decay: Float[Array, "*units"]

    def __init__(
        self,
        units: int | tuple[int, ...],
        *,
        decay: float | None = None,
        threshold: float = 1.0,
        learn_threshold: bool = False,
        surrogate: Surrogate = SUPERSPIKE,
        reset: str = "subtract",
        detach_reset: bool = False,
        key: Key[Array, ""] | None = None,
    ) -> None:
        """Make the cell.

        Args:
            units: how many, or a shape of any rank.
            decay: every unit's β at first, in (0, 1); None draws them around 0.5.
            threshold: θ at first.
            learn_threshold: whether θ is a parameter, one a unit.
            surrogate: the spike function.
            reset: ``"subtract"`` or ``"zero"``.
            detach_reset: whether gradients ignore that the reset depends on the spike.
            key: for decays to draw.

        Raises:
            UsageError: a value out of range, or decays to draw without a key.
        """
        super().__init__(
            units,
            threshold=threshold,
            learn_threshold=learn_threshold,
            surrogate=surrogate,
            reset=reset,
            detach_reset=detach_reset,
        )
        self.raw_decay = raw_decay("decay", decay, self.units, key)

    @property
    def decay(self) -> Float[Array, "*units"]:
        """β in (0, 1), per unit."""
        return decay_of(self.raw_decay)

    def init_state(self, batch: int, dtype: Any = None) -> VoltageState:
        """An empty membrane."""
        return VoltageState(self._zeros(batch, dtype))

    def constants(self) -> Any:
        """β and θ."""
        return self.decay, self.threshold

    def advance(self, constants: Any, state: VoltageState, x: Floats) -> tuple[VoltageState, Floats]:
        """One step."""
        (decay, threshold), voltage = constants, state.voltage
        spikes = self.surrogate(voltage - threshold)
        return VoltageState(self._leak(decay, threshold, voltage, spikes) + x), spikes

    def _leak(self, decay: Array, threshold: Any, voltage: Array, spikes: Array) -> Array:
        """β·V - s·θ, or β·(1 - s)·V."""
        if self.reset == "zero":
            return decay * self._after_reset(voltage, spikes, threshold)
        return self._after_reset(decay * voltage, spikes, threshold)


class RecurrentLIF(LIF):
    """Leaky integrate and fire, every unit driven by all units' spikes too.

    Attributes:
        weight: W ``[units, units]``, from the second to the first.
    """

    weight: Float[Array, "n n"]

    def __init__(
        self,
        units: int | tuple[int, ...],
        *,
        decay: float | None = None,
        threshold: float = 1.0,
        learn_threshold: bool = False,
        surrogate: Surrogate = SUPERSPIKE,
        reset: str = "subtract",
        detach_reset: bool = False,
        weight_scale: float = 0.01,
        key: Key[Array, ""] | None = None,
    ) -> None:
        """Make the cell.

        Args:
            units: how many; a shape of rank one.
            decay: every unit's β at first, in (0, 1); None draws them around 0.5.
            threshold: θ at first.
            learn_threshold: whether θ is a parameter, one a unit.
            surrogate: the spike function.
            reset: ``"subtract"`` or ``"zero"``.
            detach_reset: whether gradients ignore that the reset depends on the spike; W s is never detached.
            weight_scale: W is weight_scale·N, N a standard normal cut at ±2; small, so that the recurrence starts off.
            key: for weights, and decays to draw.

        Raises:
            UsageError: a value out of range, or no key.
        """
        if key is None:
            raise UsageError("RecurrentLIF draws its weights and needs a key: RecurrentLIF(64, key=jax.random.key(0)).")
        of_weight, of_decay = jax.random.split(key)
        super().__init__(
            units,
            decay=decay,
            threshold=threshold,
            learn_threshold=learn_threshold,
            surrogate=surrogate,
            reset=reset,
            detach_reset=detach_reset,
            key=of_decay,
        )
        if len(self.units) != 1:
            raise UsageError(f"RecurrentLIF connects a row of units with itself: give a number, got {self.units}.")
        self.weight = weight_scale * jax.random.truncated_normal(of_weight, -2.0, 2.0, self.units * 2)

    def constants(self) -> Any:
        """β, θ and W."""
        return self.decay, self.threshold, self.weight

    def advance(self, constants: Any, state: VoltageState, x: Floats) -> tuple[VoltageState, Floats]:
        """One step."""
        (decay, threshold, weight), voltage = constants, state.voltage
        spikes = self.surrogate(voltage - threshold)
        return VoltageState(self._leak(decay, threshold, voltage, spikes) + x + spikes @ weight.T), spikes


class LeakyIntegrator(Cell):
    """A readout: the membrane leaks, integrates and is sent on; it never spikes.

    Attributes:
        raw_decay: logit of β per unit.
    """

    raw_decay: Float[Array, "*units"]
    units: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self, units: int | tuple[int, ...], *, decay: float | None = 0.8, key: Key[Array, ""] | None = None
    ) -> None:
        """Make the cell.

        Args:
            units: how many, or a shape of any rank.
            decay: every unit's β at first, in (0, 1); None draws them around 0.5.
            key: for decays to draw.

        Raises:
            UsageError: a value out of range, or decays to draw without a key.
        """
        self.units = shape_of_units(units)
        self.raw_decay = raw_decay("decay", decay, self.units, key)

    @property
    def decay(self) -> Float[Array, "*units"]:
        """β in (0, 1), per unit."""
        return decay_of(self.raw_decay)

    def init_state(self, batch: int, dtype: Any = None) -> VoltageState:
        """An empty membrane."""
        return VoltageState(self._zeros(batch, dtype))

    def constants(self) -> Any:
        """β."""
        return self.decay

    def advance(self, constants: Any, state: VoltageState, x: Floats) -> tuple[VoltageState, Floats]:
        """One step."""
        voltage = constants * state.voltage + x
        return VoltageState(voltage), voltage
