"""Cells of a converted network: integrate and fire from half the threshold, in step with the layers before.

A cell reads its spike before it adds its input, so that every spiking layer hands on its spikes one step late: layer k
sees the first of its input k steps after the network does. What came in until then, its bias above all, belongs to no
input. A converted cell waits so long. From then on it is the textbook neuron (integrate, fire, subtract the threshold),
k steps late.

Started at half the threshold, a neuron under a constant input z ≥ 0 has fired ceil(T·z/θ + 1/2) - 1 times after T
steps (at most T): T·z/θ to the nearest whole number, an error of half a spike in the place of one (Rueckauer et al.
2017, section 2.2; Bu et al. 2022, "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking neural
networks", theorem 2).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError, whole_number
from .._neurons import IF, Cell, VoltageState
from .._surrogates import SuperSpike, Surrogate

_SUPERSPIKE = SuperSpike()


class ConvertedState(NamedTuple):
    """State of a `ConvertedIF`.

    Attributes:
        voltage: V ``[batch, *units]``.
        waiting: ``[batch]``, steps until its input arrives.
    """

    voltage: Any
    waiting: Any


class WaitingState(NamedTuple):
    """State of a `ConvertedReadout`.

    Attributes:
        waiting: ``[batch]``, steps until its input arrives.
    """

    waiting: Any


def _wait(waiting: Array, x: Array) -> tuple[Array, Array]:
    """A step less to wait, and the input if there was none."""
    arrived = (waiting == 0).reshape(-1, *(1,) * (x.ndim - 1))
    return jnp.maximum(waiting - 1, 0), jnp.where(arrived, x, jnp.zeros_like(x))


class ConvertedIF(IF):
    """Integrate and fire from a membrane that starts part of the way up, once its input has arrived.

    Attributes:
        start: the membrane before the first input, as a share of the threshold.
        delay: steps until the first input arrives.

    Examples:
        >>> cell = ConvertedIF(1)
        >>> state, count = cell.init_state(1), 0
        >>> for _ in range(9):
        ...     state, spike = cell(state, jnp.full((1, 1), 0.7))
        ...     count += int(spike[0, 0])
        >>> count  # the step before last is the eighth that counts: 8 · 0.7 = 5.6
        6
    """

    start: float = eqx.field(static=True)
    delay: int = eqx.field(static=True)

    def __init__(
        self,
        units: int | tuple[int, ...],
        *,
        start: float = 0.5,
        delay: int = 0,
        threshold: float = 1.0,
        learn_threshold: bool = False,
        surrogate: Surrogate = _SUPERSPIKE,
    ) -> None:
        """Make the cell.

        Args:
            units: how many, or a shape of any rank.
            start: the membrane before the first input, from 0 up to 1 times the threshold.
            delay: steps until the first input arrives: how many spiking layers lie before.
            threshold: θ at first.
            learn_threshold: whether θ is a parameter, one a unit.
            surrogate: the spike function.

        Raises:
            UsageError: a value out of range.
        """
        super().__init__(units, threshold=threshold, learn_threshold=learn_threshold, surrogate=surrogate)
        if not 0.0 <= start <= 1.0:
            raise UsageError(f"start is a share of the threshold, from 0 to 1; got {start!r}.")
        self.start, self.delay = float(start), whole_number("delay", delay, least=0)

    def init_state(self, batch: int, dtype: Any = None) -> Any:
        """A membrane at its start, and all of the delay to wait."""
        empty = self._zeros(batch, dtype)
        height = jnp.asarray(self.start * self.threshold, empty.dtype)
        return ConvertedState(empty + height, jnp.full(batch, self.delay, jnp.int32))

    def advance(self, constants: Any, state: Any, x: Float[Array, " batch *units"]) -> tuple[Any, Any]:
        """One step."""
        waiting, x = _wait(state.waiting, x)
        after, spikes = super().advance(constants, VoltageState(state.voltage), x)
        return ConvertedState(after.voltage, waiting), spikes


class ConvertedReadout(Cell):
    """The last layer's output once its input has arrived, 0 before; it never spikes.

    Attributes:
        units: shape of one sample's units.
        delay: steps until the first input arrives.
    """

    units: tuple[int, ...] = eqx.field(static=True)
    delay: int = eqx.field(static=True)

    def __init__(self, units: tuple[int, ...], *, delay: int) -> None:
        """Make the cell.

        Args:
            units: a shape.
            delay: how many spiking layers lie before.
        """
        self.units, self.delay = units, delay

    def constants(self) -> Any:
        """Nothing."""
        return ()

    def init_state(self, batch: int, dtype: Any = None) -> Any:
        """All of the delay to wait."""
        return WaitingState(jnp.full(batch, self.delay, jnp.int32))

    def advance(self, constants: Any, state: Any, x: Float[Array, " batch *units"]) -> tuple[Any, Any]:
        """One step."""
        waiting, out = _wait(state.waiting, x)
        return WaitingState(waiting), out
