"""What S5 and LRU share: sequence layers over one recurrence, told apart by how its numbers are parametrised."""

from __future__ import annotations

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError, whole_number
from ._diagonal_scan import diagonal_scan, diagonal_step

State = Float[Array, "batch 2 n"]


class StateSpaceLayer(eqx.Module):
    """Base of diagonal state-space layers: a *sequence layer*, which does all time steps at once or one at a time.

    The state is ``[batch, 2, d_state]``: real and imaginary parts.
    """

    @abc.abstractmethod
    def prepared(self) -> DiscreteStateSpace:
        """The recurrence these parameters stand for; work it out once where steps are taken one by one."""

    def init_state(self, batch: int) -> State:
        """The state before the first step: zeros."""
        into = self.prepared().into
        return jnp.zeros((whole_number("batch", batch, least=1), 2, into.shape[1]), into.dtype)

    def step(self, state: State, x: Float[Array, "batch d"]) -> tuple[State, Float[Array, "batch d"]]:
        """One time step: the new state and the output."""
        layer = self.prepared()
        layer.check(x)
        after, y = diagonal_step(state, x, layer.pole, layer.into, layer.out)
        return after, layer.with_skip(y, x)

    def advance(self, state: State, inputs: Float[Array, "batch time d"]) -> tuple[State, Float[Array, "batch time d"]]:
        """Many time steps at once, from a state: what as many calls of `step` give."""
        layer = self.prepared()
        layer.check(inputs)
        y, after = diagonal_scan(inputs, layer.pole, layer.into, layer.out, state=state, form=layer.form)
        return after, layer.with_skip(y, inputs)

    def sequence(self, inputs: Float[Array, "batch time d"]) -> Float[Array, "batch time d"]:
        """All time steps, from a state of zeros."""
        layer = self.prepared()
        return layer.advance(layer.init_state(inputs.shape[0]), inputs)[1]


class DiscreteStateSpace(StateSpaceLayer):
    """x_t = λ ⊙ x_{t-1} + B u_t, y_t = Re(C x_t) + D ⊙ u_t, with these numbers as they are.

    Attributes:
        pole: λ, real and imaginary, ``[2, d_state]``.
        into: B ``[2, d_state, d_model]``.
        out: C ``[2, d_model, d_state]``.
        skip: D ``[d_model]``, or None for 0.
        form: of `diagonal_scan`.
    """

    pole: Float[Array, "2 n"]
    into: Float[Array, "2 n d"]
    out: Float[Array, "2 d n"]
    skip: Float[Array, " d"] | None = None
    form: str = eqx.field(static=True, default="auto")

    def prepared(self) -> DiscreteStateSpace:
        """This very layer."""
        return self

    def with_skip(self, y: Any, u: Any) -> Any:
        """y + D ⊙ u."""
        return y if self.skip is None else y + self.skip * u

    def check(self, x: Any) -> None:
        """Refuse an input of another width.

        Raises:
            UsageError: naming both widths.
        """
        if x.shape[-1] != self.into.shape[2]:
            raise UsageError(f"this layer takes {self.into.shape[2]} features; got an input of shape {x.shape}.")
