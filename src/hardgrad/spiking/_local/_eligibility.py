"""Eligibility traces: how a unit's output depends on its own parameters through its own past.

A unit j with state s_j and input current I_j = Σ_i W_ji p_i + b_j + Σ_i R_ji z_i goes s_j ← f(s_j, I_j, κ_j) and sends
z_j = g(s_j, I_j, κ_j), κ_j its constants (decays, threshold). With f and g differentiated by themselves, p and z taken
as given (Bellec et al. 2020, Nature Communications 11:3625, Methods, "Mathematical basis for e-prop"):

    ε_ji ← ∂f/∂s ε_ji + ∂f/∂I p_i,        e_ji = ∂g/∂s ε_ji + ∂g/∂I p_i        (eligibility vector and trace)

and the same with ∂f/∂κ, ∂g/∂κ in place of the last term for a constant. ∂g/∂s is the surrogate derivative ψ, and ∂f/∂s
what the cell says it is: for LIF it is β, less θψ where the reset is not detached; for AdaptiveLIF a matrix of two by
two. Both derivatives are taken from the cell itself, so that any cell whose units go each by themselves has traces.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._synapses import Layer, Weights, step


class Slopes(NamedTuple):
    """Derivatives of one step of a layer, unit by unit, each ``[batch, units]``.

    Attributes:
        state: state[i][k]: of state i after the step with respect to state k before.
        current: of each state with respect to the current.
        constants: constants[i][p]: of state i with respect to constant p.
        out: of what is sent with respect to each state before.
        out_current: of what is sent with respect to the current.
        out_constants: of what is sent with respect to each constant.
    """

    state: list[list[Array]]
    current: list[Array]
    constants: list[list[Array]]
    out: list[Array]
    out_current: Array
    out_constants: list[Array]


class Eligibility(NamedTuple):
    """Eligibility traces or vectors of a layer, or what is gathered of them.

    Attributes:
        inputs: of the weights, ``[..., units, inputs]``.
        recurrent: of the recurrent weights, ``[..., units, units]``, or None.
        constants: of the bias, where there is one, and of the cell's constants, ``[..., units, constants]``.
    """

    inputs: Array
    recurrent: Array | None
    constants: Array


def no_eligibility(weights: Weights, batch: int) -> Eligibility:
    """Zeros ``[batch, units, ...]``."""
    constants = (weights.bias is not None) + len(jax.tree.leaves(weights.constants))

    def zeros(size: int) -> Array:
        return jnp.zeros((batch, weights.weight.shape[0], size), weights.weight.dtype)

    recurrent = None if weights.recurrent is None else zeros(weights.recurrent.shape[1])
    return Eligibility(zeros(weights.weight.shape[1]), recurrent, zeros(constants))


def no_traces(weights: Weights, state: Any, batch: int) -> tuple[Eligibility, ...]:
    """Eligibility vectors before the first step, one entry a state: zeros."""
    return (no_eligibility(weights, batch),) * len(jax.tree.leaves(state))


def as_weights(weights: Weights, gradient: Eligibility) -> Weights:
    """What was gathered, summed over the batch, as gradients of the layer's parameters."""
    columns = [gradient.constants[:, place] for place in range(gradient.constants.shape[1])]
    bias = None if weights.bias is None else columns.pop(0)
    leaves, layout = jax.tree.flatten(weights.constants)
    constants = [column if leaf.ndim else jnp.sum(column) for leaf, column in zip(leaves, columns, strict=True)]
    adaptive = None if weights.adaptive is None else gradient.inputs
    return Weights(gradient.inputs, bias, gradient.recurrent, adaptive, jax.tree.unflatten(layout, constants))


def advance(
    weights: Weights, layer: Layer, state: Any, traces: tuple[Eligibility, ...], sent: Array
) -> tuple[Any, tuple[Eligibility, ...], Array, Eligibility]:
    """One step of a layer and of its traces.

    Returns:
        The new state, the new eligibility vectors, what the layer sends, and its eligibility traces.
    """
    after, out, received, spikes = step(weights, layer, state, sent)
    slopes = _slopes(weights, layer, state, received)

    def driven(by_current: Array, by_constants: list[Array]) -> Eligibility:
        recurrent = None if weights.recurrent is None else by_current[..., None] * spikes[:, None, :]
        columns = by_constants if weights.bias is None else [by_current, *by_constants]
        constants = jnp.stack(columns, axis=-1) if columns else jnp.zeros((*out.shape, 0), out.dtype)
        return Eligibility(by_current[..., None] * sent[:, None, :], recurrent, constants)

    def combined(start: Eligibility, row: list[Array]) -> Eligibility:
        for slope, trace in zip(row, traces, strict=True):
            start = jax.tree.map(lambda a, e, slope=slope: a + slope[..., None] * e, start, trace)
        return start

    eligibility = combined(driven(slopes.out_current, slopes.out_constants), slopes.out)
    starts = map(driven, slopes.current, slopes.constants)
    return after, tuple(map(combined, starts, slopes.state)), out, eligibility


def _slopes(weights: Weights, layer: Layer, state: Any, received: Array) -> Slopes:
    """The derivatives of one step: a push-forward with ones along each state, the current and each constant."""
    unflatten = jax.tree.unflatten
    states, state_layout = jax.tree.flatten(state)
    constants, constants_layout = jax.tree.flatten(weights.constants)

    def flat(states: list[Array], current: Array, constants: list[Array]) -> tuple[list[Array], Array]:
        after, out = layer.advance(unflatten(constants_layout, constants), unflatten(state_layout, states), current)
        return jax.tree.leaves(after), out

    point = (states, received, constants)
    _, push = jax.linearize(flat, *point)
    leaves, layout = jax.tree.flatten(point)
    rows = []
    for place in range(len(leaves)):
        tangent = [jnp.full_like(leaf, float(i == place)) for i, leaf in enumerate(leaves)]
        rows.append(push(*unflatten(layout, tangent)))
    count = len(states)
    return Slopes(
        state=[[rows[k][0][i] for k in range(count)] for i in range(count)],
        current=[rows[count][0][i] for i in range(count)],
        constants=[[row[0][i] for row in rows[count + 1 :]] for i in range(count)],
        out=[rows[k][1] for k in range(count)],
        out_current=rows[count][1],
        out_constants=[row[1] for row in rows[count + 1 :]],
    )
