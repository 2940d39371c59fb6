"""The two ways to e-prop's gradient: forwards in time with eligibility traces, and by reverse mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._eligibility import Eligibility, advance, as_weights, no_eligibility, no_traces
from ._feedback_alignment import feed_back
from ._readouts import once, step_weight, target_at
from ._synapses import Layer, Weights, step


class Setting(NamedTuple):
    """What stays the same in a compiled program: see `EProp`.

    Attributes:
        loss: of one time's outputs.
        readout: which outputs the loss reads.
        each: whether every class has a filter of its own.
        time: time steps.
        packed: whether the inputs are bits.
    """

    loss: Callable[[Any, Any], Any]
    readout: str
    each: bool
    time: int
    packed: bool


class Progress(NamedTuple):
    """What a pass has found so far.

    Attributes:
        loss: sum of the steps' losses, for a loss at every step.
        read: the weighted sum of outputs over time ``[batch, classes]``.
        rate: mean spikes a unit and step.
    """

    loss: Array
    read: Array
    rate: Array


def _input_at(setting: Setting, inputs: Array, t: Array, dtype: Any) -> Array:
    """Inputs of step `t`, ``[batch, features]``; taken out of the whole, which is never copied."""
    if not setting.packed:
        x: Array = jax.lax.dynamic_index_in_dim(inputs, t, 1, keepdims=False).astype(dtype)
        return x
    byte: Array = jax.lax.dynamic_index_in_dim(inputs, t // 8, 1, keepdims=False)
    return ((byte >> (7 - t % 8).astype(jnp.uint8)) & 1).astype(dtype)


def _begin(weights: tuple[Weights, ...], layers: tuple[Layer, ...], batch: int) -> tuple[tuple[Any, ...], Progress]:
    readout = weights[-1].weight
    dtype = readout.dtype
    states = tuple(layer.init_state(batch, dtype) for layer in layers)
    zero = jnp.zeros((), dtype)
    return states, Progress(zero, jnp.zeros((batch, readout.shape[0]), dtype), zero)


def _note(setting: Setting, progress: Progress, t: Array, y: Array, targets: Array, sent: list[Array]) -> Progress:
    """`progress` with one step's outputs and spikes."""
    weight = step_weight(setting.readout, t, setting.time, y.dtype)
    loss = progress.loss
    if not once(setting.readout):
        loss = loss + weight * setting.loss(y, target_at(setting.readout, targets, t))
    rate = sum(jnp.sum(jax.lax.stop_gradient(z)) for z in sent) / (sum(z.size for z in sent) * setting.time)
    return Progress(loss, progress.read + weight * y, progress.rate + rate)


def _finish(setting: Setting, progress: Progress, targets: Array) -> tuple[Array, tuple[Array, Array]]:
    loss = setting.loss(progress.read, targets) if once(setting.readout) else progress.loss
    return loss, (progress.read, progress.rate)


def _detached(weights: tuple[Weights, ...], rest: Any) -> tuple[Array, tuple[Array, Array]]:
    """The network with all spikes between units detached, and the learning signals' own ways back."""
    layers, feedback, inputs, targets, setting = rest

    def body(carry: Any, t: Array) -> tuple[Any, None]:
        states, progress = carry
        x = _input_at(setting, inputs, t, progress.read.dtype)
        after, sent = [], []
        for own, layer, state in zip(weights[:-1], layers[:-1], states[:-1], strict=True):
            new, z, _, _ = step(own, layer, state, x)
            after.append(new)
            sent.append(z)
            x = jax.lax.stop_gradient(z)
        # The current's forward value is the readout's; its way back is B for each hidden layer.
        received = _received(weights[-1], x)
        for z, matrix in zip(sent, feedback, strict=True):
            received = feed_back(received, z, matrix)
        new, y = layers[-1].advance(weights[-1].constants, states[-1], received)
        return ((*after, new), _note(setting, progress, t, y, targets, sent)), None

    start = _begin(weights, layers, inputs.shape[0])
    (_, progress), _ = jax.lax.scan(body, start, jnp.arange(setting.time))
    return _finish(setting, progress, targets)


def _received(weights: Weights, sent: Array) -> Array:
    received = sent @ weights.weight.T
    if weights.adaptive is not None:
        received = feed_back(received, jax.lax.stop_gradient(sent), weights.adaptive)
    return received if weights.bias is None else received + weights.bias


def reverse(weights: tuple[Weights, ...], rest: Any) -> tuple[Array, tuple[Array, Array]]:
    """Loss and notes; the gradient is found by reverse mode."""
    return _detached(weights, rest)


@eqx.filter_custom_vjp
def online(weights: tuple[Weights, ...], rest: Any) -> Any:
    """Loss and notes; the gradient is gathered on the way."""
    return _detached(weights, rest)


@online.def_fwd  # type: ignore[untyped-decorator]
def _online_fwd(perturbed: Any, weights: tuple[Weights, ...], rest: Any) -> Any:
    return _gather(weights, rest)


@online.def_bwd  # type: ignore[untyped-decorator]
def _online_bwd(gradient: Any, cotangents: Any, perturbed: Any, weights: Any, rest: Any) -> Any:
    cotangent = cotangents[0]  # the notes are for metrics, which are not differentiated
    if cotangent is None:
        return jax.tree.map(jnp.zeros_like, gradient)
    return jax.tree.map(lambda g: g * cotangent.astype(g.dtype), gradient)


class _Gathered(NamedTuple):
    """What is gathered of the layers' eligibility traces, one entry a layer, the readout's last.

    Attributes:
        traces: filtered by the readout, or summed over time: ``[batch, units, ...]``, with an axis of classes in front
            where each has a filter of its own. Of a loss at every step the readout's own need no filter and have no
            entry.
        gradient: the gradient so far, ``[units, ...]``; none for a loss taken once, whose gradient comes at the end.
    """

    traces: tuple[Eligibility, ...]
    gradient: tuple[Eligibility, ...]


def _gather(weights: tuple[Weights, ...], rest: Any) -> tuple[Any, tuple[Weights, ...]]:
    """Loss and notes, and the gradient: one scan over time."""
    layers, feedback, inputs, targets, setting = rest
    batch, at_end = inputs.shape[0], once(setting.readout)
    decays = _filter_decays(weights[-1], setting)
    states, progress = _begin(weights, layers, batch)
    traces = tuple(no_traces(own, state, batch) for own, state in zip(weights, states, strict=True))

    def body(carry: Any, seen: tuple[Array, Array | None]) -> tuple[Any, None]:
        (states, traces, progress, gathered), (t, share) = carry, seen
        x = _input_at(setting, inputs, t, progress.read.dtype)
        after, moved, sent, found = [], [], [], []
        for own, layer, state, trace in zip(weights, layers, states, traces, strict=True):
            new, new_trace, x, eligibility = advance(own, layer, state, trace, x)
            after.append(new)
            moved.append(new_trace)
            sent.append(x)
            found.append(eligibility)
        *sent, y = sent
        if share is not None:
            shares = (*(share for _ in feedback), step_weight(setting.readout, t, setting.time, y.dtype))
            gathered = _Gathered(tuple(map(_add_share, gathered.traces, shares, found)), ())
        else:
            kept = tuple(_filtered(trace, decays, e) for trace, e in zip(gathered.traces, found[:-1], strict=True))
            error = jax.grad(setting.loss)(y, target_at(setting.readout, targets, t)) / setting.time
            parts = _times_signals((*kept, found[-1]), error, feedback)
            gathered = _Gathered(kept, jax.tree.map(jnp.add, gathered.gradient, parts))
        progress = _note(setting, progress, t, y, targets, sent)
        return (tuple(after), tuple(moved), progress, gathered), None

    zeros = tuple(no_eligibility(own, batch) for own in weights)
    spread = lambda e: jnp.zeros((*decays.shape, *e.shape), e.dtype)
    empty = (*jax.tree.map(spread, zeros[:-1]), zeros[-1])
    if at_end:
        gathered, shares = _Gathered(empty, ()), _shares(setting, decays)
    else:
        gathered = _Gathered(empty[:-1], jax.tree.map(lambda e: e[0], zeros))
        shares = None
    start = (states, traces, progress, gathered)
    (_, _, progress, gathered), _ = jax.lax.scan(body, start, (jnp.arange(setting.time), shares))
    gradient = gathered.gradient
    if at_end:
        error = jax.grad(setting.loss)(progress.read, targets)
        gradient = _times_signals(gathered.traces, error, feedback)
    slopes = [as_weights(own, part) for own, part in zip(weights, gradient, strict=True)]
    if not setting.each:
        slopes[-1] = slopes[-1]._replace(
            constants=jax.tree.map(lambda g: jnp.full_like(g, jnp.mean(g)), slopes[-1].constants)
        )
    return _finish(setting, progress, targets), tuple(slopes)


def _filter_decays(readout: Weights, setting: Setting) -> Array:
    """κ of each filter; 0 for a readout that does not integrate."""
    decays = jax.tree.leaves(readout.constants)
    if not decays:
        return jnp.zeros((), readout.weight.dtype)
    return decays[0] if setting.each else jnp.mean(decays[0])


def _shares(setting: Setting, decays: Array) -> Array:
    """c^t = Σ_{t'≥t} a_{t'} κ^{t'-t}: how much a spike at t adds to the sum over time; ``[time, filters]``."""

    def back(after: Array, t: Array) -> tuple[Array, Array]:
        share = decays * after + step_weight(setting.readout, t, setting.time, decays.dtype)
        return share, share

    return jax.lax.scan(back, jnp.zeros_like(decays), jnp.arange(setting.time), reverse=True)[1]


def _filtered(before: Eligibility, decays: Array, found: Eligibility) -> Eligibility:
    filtered: Eligibility = jax.tree.map(lambda f, e: decays[..., None, None, None] * f + e, before, found)
    return filtered


def _add_share(before: Eligibility, shares: Array, found: Eligibility) -> Eligibility:
    total: Eligibility = jax.tree.map(lambda f, e: f + shares[..., None, None, None] * e, before, found)
    return total


def _times_signals(
    traces: tuple[Eligibility, ...], error: Array, feedback: tuple[Array, ...]
) -> tuple[Eligibility, ...]:
    """Traces times learning signals, summed over filters and batch; `error` is ``[batch, classes]``."""

    def signal_of(trace: Eligibility, matrix: Array) -> Array:
        """``[batch, units]``, or, for filters of their own, ``[classes, batch, units]``."""
        return error @ matrix if trace.inputs.ndim == 3 else error.T[:, :, None] * matrix[:, None, :]

    def summed(trace: Array, signal: Array) -> Array:
        return jnp.sum(signal[..., None] * trace, axis=tuple(range(trace.ndim - 2)))

    return tuple(
        jax.tree.map(lambda e, signal=signal: summed(e, signal), trace)
        for trace, signal in zip(traces, (*map(signal_of, traces, feedback), error), strict=True)
    )
