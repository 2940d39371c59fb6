"""A cell whose input passes through a synapse first.

    s = S(V - θ),   V ← V - s·θ,   I ← α·I + x,   V ← β·V + I

Here what is subtracted is leaked with the membrane. Reset to zero: V ← (1 - s)·V in the second place. The current-based
neuron of Neftci, Mostafa, Zenke 2019, "Surrogate gradient learning in spiking neural networks", equations 4 and 5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Key

from .._surrogates import Surrogate
from ._base import SUPERSPIKE, Floats
from ._integrate import LIF
from ._parameters import decay_of, raw_decay


class CurrentState(NamedTuple):
    """State of a `CurrentLIF`.

    Attributes:
        voltage: V ``[batch, *units]``.
        current: I ``[batch, *units]``.
    """

    voltage: Any
    current: Any


class CurrentLIF(LIF):
    """Current-based leaky integrate and fire: a synapse of decay α before a membrane of decay β.

    Attributes:
        raw_current_decay: logit of α per unit.
    """

    raw_current_decay: Float[Array, "*units"]

    def __init__(
        self,
        units: int | tuple[int, ...],
        *,
        decay: float | None = None,
        current_decay: float | None = None,
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
            current_decay: every unit's α at first, likewise.
            threshold: θ at first.
            learn_threshold: whether θ is a parameter, one a unit.
            surrogate: the spike function.
            reset: ``"subtract"`` or ``"zero"``.
            detach_reset: whether gradients ignore that the reset depends on the spike.
            key: for decays to draw.

        Raises:
            UsageError: a value out of range, or decays to draw without a key.
        """
        of_decay, of_current = (None, None) if key is None else jax.random.split(key)
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
        self.raw_current_decay = raw_decay("current_decay", current_decay, self.units, of_current)

    @property
    def current_decay(self) -> Float[Array, "*units"]:
        """α in (0, 1), per unit."""
        return decay_of(self.raw_current_decay)

    def init_state(self, batch: int, dtype: Any = None) -> Any:
        """An empty membrane and no current."""
        return CurrentState(self._zeros(batch, dtype), self._zeros(batch, dtype))

    def constants(self) -> Any:
        """β, α and θ."""
        return self.decay, self.current_decay, self.threshold

    def advance(self, constants: Any, state: Any, x: Floats) -> tuple[Any, Floats]:
        """One step."""
        decay, current_decay, threshold = constants
        spikes = self.surrogate(state.voltage - threshold)
        current = current_decay * state.current + x
        voltage = decay * self._after_reset(state.voltage, spikes, threshold) + current
        return CurrentState(voltage, current), spikes
