"""One sample of a rollout: classical Runge-Kutta steps, then the bounds.

    x₁ = x,            v₁ = v,            a₁ = a(x₁, v₁)
    x₂ = x + h/2 v₁,   v₂ = v + h/2 a₁,   a₂ = a(x₂, v₂)
    x₃ = x + h/2 v₂,   v₃ = v + h/2 a₂,   a₃ = a(x₃, v₃)
    x₄ = x + h v₃,     v₄ = v + h a₃,     a₄ = a(x₄, v₄)
    x ← x + h v + h²/6 (a₁ + a₂ + a₃),    v ← v + h/6 (a₁ + 2a₂ + 2a₃ + a₄)

which is the scheme for (x, v)' = (v, a) with the sums of x multiplied out. Where the state is bounded by a knee, the
non-linear terms see the bent state (X, V) and the linear ones the state itself:

    a(x, v) = Σ W[p][k] X^p V^k + W[1][0] (x - X) + W[0][1] (v - V)

States have any shape ``[..., batch]``, so that the same lines run one sample or all samples of a stretch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._saturation import knee, saturate
from ._scheme import Scheme
from ._terms import Table, acceleration

State = tuple[Array, Array]
Tables = tuple[Table, Table, Table]


def tables_of(scheme: Scheme, left: Array, right: Array, i: Array, j: Array) -> Tables:
    """Coefficients at the beginning, the middle and the end of a step.

    Args:
        scheme: the rollout.
        left: the frame at or before the sample, ``[..., P, Q, batch]``.
        right: the frame after it.
        i: how many samples this one is after the left frame; a float ``[..., 1]``.
        j: which of the sample's steps it is; a float ``[..., 1]``.
    """
    if scheme.held:
        return (Table(left),) * 3
    first, middle, last = (Table(left, right, place) for place in places_of(scheme, i, j))
    return first, middle, last


def places_of(scheme: Scheme, i: Array, j: Array) -> tuple[Array, Array, Array]:
    """How far, from the left frame to the right, the beginning, the middle and the end of a step are."""
    if not scheme.linear:
        return (i / scheme.hop,) * 3
    first, middle, last = ((i + (j + at) / scheme.substeps) / scheme.hop for at in (0.0, 0.5, 1.0))
    return first, middle, last


def bent(scheme: Scheme, state: State) -> State:
    """What the non-linear terms see of a state."""
    bounds = scheme.saturation
    if bounds.kind != "knee":
        return state
    return knee(state[0], bounds.x_bound), knee(state[1], bounds.v_bound)


def field(scheme: Scheme, table: Table, state: State) -> Array:
    """x'' of a state."""
    if scheme.saturation.kind != "knee":
        return acceleration(scheme.exponents, table, *state)
    (x, v), (X, V) = state, bent(scheme, state)
    return acceleration(scheme.exponents, table, X, V) + table.entry(1, 0) * (x - X) + table.entry(0, 1) * (v - V)


def stages(scheme: Scheme, tables: Tables, state: State) -> tuple[list[State], list[Array]]:
    """The four states at which the field is evaluated, and the first three accelerations."""
    h = 1.0 / scheme.substeps
    x, v = state
    a1 = field(scheme, tables[0], state)
    second = (x + 0.5 * h * v, v + 0.5 * h * a1)
    a2 = field(scheme, tables[1], second)
    third = (x + 0.5 * h * second[1], v + 0.5 * h * a2)
    a3 = field(scheme, tables[1], third)
    return [state, second, third, (x + h * third[1], v + h * a3)], [a1, a2, a3]


def runge_kutta(scheme: Scheme, tables: Tables, state: State) -> tuple[State, list[State]]:
    """The state after a step, and its four stages."""
    h = 1.0 / scheme.substeps
    x, v = state
    states, (a1, a2, a3) = stages(scheme, tables, state)
    a4 = field(scheme, tables[2], states[3])
    after = x + h * v + (h * h / 6.0) * (a1 + a2 + a3), v + (h / 6.0) * (a1 + 2.0 * (a2 + a3) + a4)
    return after, states


def sample(scheme: Scheme, left: Array, right: Array, i: Array, state: State) -> State:
    """The next sample.

    Args:
        scheme: the rollout.
        left: table ``[P, Q, batch]`` of the frame at or before this sample.
        right: that of the frame after it; not looked at where coefficients are held.
        i: how many samples this one is after the left frame, ``[1]``.
        state: x and v, ``[batch]``.
    """

    def step(state: State, j: Array) -> tuple[State, None]:
        return runge_kutta(scheme, tables_of(scheme, left, right, i, j), state)[0], None

    numbers = jnp.arange(scheme.substeps, dtype=left.dtype)[:, None]
    state, _ = step(state, numbers[0]) if scheme.substeps == 1 else jax.lax.scan(step, state, numbers)
    bounds = scheme.saturation
    return saturate(bounds.kind, state[0], bounds.x_bound), saturate(bounds.kind, state[1], bounds.v_bound)
