"""A cell whose threshold rises with its own spikes.

    h = θ + A,   s = S(V - h),   V ← β·V + x - s·h,   A ← γ·A + (1 - γ)·s

Reset to zero: V ← β·(1 - s)·V + x. After Bellec et al. 2018, "Long short-term memory and learning-to-learn in networks
of spiking neurons", section 2, with the adaptation's strength 1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Key

from .._surrogates import Surrogate
from ._base import SUPERSPIKE, Floats
from ._integrate import LIF
from ._parameters import decay_of, raw_decay


class AdaptiveState(NamedTuple):
    """State of an `AdaptiveLIF`.

    Attributes:
        voltage: V ``[batch, *units]``.
        adaptation: A ``[batch, *units]``, what the threshold has risen by.
    """

    voltage: Any
    adaptation: Any


class AdaptiveLIF(LIF):
    """Leaky integrate and fire with an adaptive threshold θ + A.

    Attributes:
        raw_adaptation_decay: logit of γ per unit.
    """

    raw_adaptation_decay: Float[Array, "*units"]

    def __init__(
        self,
        units: int | tuple[int, ...],
        *,
        decay: float | None = None,
        adaptation_decay: float | None = None,
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
            adaptation_decay: every unit's γ at first, likewise.
            threshold: θ at first.
            learn_threshold: whether θ is a parameter, one a unit.
            surrogate: the spike function.
            reset: ``"subtract"`` or ``"zero"``.
            detach_reset: whether gradients ignore that the reset depends on the spike; A is never detached.
            key: for decays to draw.

        Raises:
            UsageError: a value out of range, or decays to draw without a key.
        """
        of_decay, of_adaptation = (None, None) if key is None else jax.random.split(key)
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
        self.raw_adaptation_decay = raw_decay("adaptation_decay", adaptation_decay, self.units, of_adaptation)

    @property
    def adaptation_decay(self) -> Float[Array, "*units"]:
        """γ in (0, 1), per unit."""
        return decay_of(self.raw_adaptation_decay)

    def init_state(self, batch: int, dtype: Any = None) -> Any:
        """An empty membrane, an unadapted threshold."""
        return AdaptiveState(self._zeros(batch, dtype), self._zeros(batch, dtype))

    def constants(self) -> Any:
        """β, γ and θ."""
        return self.decay, self.adaptation_decay, self.threshold

    def advance(self, constants: Any, state: Any, x: Floats) -> tuple[Any, Floats]:
        """One step."""
        decay, adaptation_decay, threshold = constants
        height = threshold + state.adaptation
        spikes = self.surrogate(state.voltage - height)
        voltage = self._leak(decay, height, state.voltage, spikes) + x
        adaptation = adaptation_decay * state.adaptation + (1.0 - adaptation_decay) * spikes
        return AdaptiveState(voltage, adaptation), spikes
