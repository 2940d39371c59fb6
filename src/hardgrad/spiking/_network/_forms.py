"""The forms of a run: one scan over time with all layers in its body, or layer after layer over all of time.

Inside, time is the first axis. Both are functions of a state and a stretch of inputs; `over_segments` strings stretches
together. Packed inputs stay packed: the scan takes one bit plane a step.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from ...core import UsageError
from .._encoding import check_bits
from ._layers import (
    advance,
    apply_sequence,
    apply_stateless,
    constants,
    init_state,
    is_cell,
    is_sequence,
    is_stateless,
    takes_state,
)
from ._time import over_segments, over_steps

FORMS = ("auto", "scan", "layers")


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to run; checked already. See `run`."""

    record: bool = False
    count: bool = False
    segment: int | None = None
    truncate: int | None = None
    form: str = "auto"
    steps: int | None = None


class Found(NamedTuple):
    """What comes out a step, or of all of them: the last layer's output, and what is recorded of each cell."""

    outputs: Any
    spikes: tuple[Any, ...] = ()
    voltages: tuple[Any, ...] = ()


Look = Callable[[Any], Any]
"""From an item of the scanned inputs to one step's input."""


def execute(layers: Sequence[Any], inputs: Any, state: Any, settings: Settings) -> tuple[Found, Any, Any]:
    """What came out ``[batch, time, ...]``, the state, and counts."""
    inputs = jnp.asarray(inputs)
    if inputs.ndim < 2 or 0 in inputs.shape[:2]:
        raise UsageError(f"inputs are [batch, time, ...], neither of them 0; got shape {inputs.shape}.")
    dtype = _state_dtype(layers, inputs)
    parallel = _is_parallel(layers, settings, state is not None)
    if state is None:
        state = tuple(init_state(layer, inputs.shape[0], dtype) for layer in layers)
    items, look = _items(inputs, settings.steps, dtype)
    counts = _zero_counts(layers, state) if settings.count else ()
    steps_of = _by_layers if parallel else _by_steps
    (state, counts), found = over_segments(steps_of(layers, look, settings), (state, counts), items, settings.segment)
    found = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), found)
    unknown = parallel and any(is_sequence(layer) and not takes_state(layer) for layer in layers)
    return found, None if unknown else state, counts


def _is_parallel(layers: Sequence[Any], settings: Settings, from_state: bool) -> bool:
    """Whether to go layer by layer.

    Raises:
        UsageError: that is asked for and cannot be.
    """
    sequences = [layer for layer in layers if is_sequence(layer)]
    in_parts = from_state or settings.segment is not None
    stepwise = any(settings.truncate is not None or (in_parts and not takes_state(layer)) for layer in sequences)
    if settings.form == "layers" and stepwise:
        names = ", ".join(sorted({type(layer).__name__ for layer in sequences}))
        raise UsageError(
            f"layer by layer, a sequence layer ({names}) does all steps at once: truncate, and without a method "
            'advance(state, inputs) also state and segment, need form="scan".'
        )
    if settings.form != "auto":
        return settings.form == "layers"
    return not stepwise and not (any(map(is_cell, layers)) and jax.default_backend() == "cpu")


def _state_dtype(layers: Sequence[Any], inputs: Any) -> Any:
    """That of float inputs, else that of the first real parameter."""
    if jnp.issubdtype(inputs.dtype, jnp.floating):
        return inputs.dtype
    parameters = [x.dtype for x in jax.tree.leaves(layers) if eqx.is_inexact_array(x)]
    real = [dtype for dtype in parameters if jnp.issubdtype(dtype, jnp.floating)]
    return real[0] if real else jnp.zeros(()).dtype


def _items(inputs: Any, steps: int | None, dtype: Any) -> tuple[Any, Look]:
    """Inputs as scanned, time first, and what makes of an item the step's input."""
    if steps is None:
        cast = (lambda x: x.astype(dtype)) if inputs.dtype == jnp.bool_ else (lambda x: x)
        return jnp.swapaxes(inputs, 0, 1), cast
    check_bits(inputs, steps)
    packed = jnp.swapaxes(inputs, 0, 1)

    def bit(time: Any) -> Any:
        return ((packed[time // 8] >> (7 - time % 8).astype(jnp.uint8)) & jnp.uint8(1)).astype(dtype)

    return jnp.arange(steps), bit


def _spikes(cell: Any) -> bool:
    return hasattr(cell, "surrogate")


def _zero_counts(layers: Sequence[Any], state: Any) -> tuple[Any, ...]:
    """One entry a spiking cell; float32 at least, which counts to 2^24."""
    pairs = zip(layers, state, strict=True)
    voltages = [before.voltage for layer, before in pairs if is_cell(layer) and _spikes(layer)]
    wide: Any = lambda dtype: dtype if dtype.itemsize >= 4 else jnp.float32
    return tuple(jnp.zeros(v.shape, wide(v.dtype)) for v in voltages)


def _recorded(cell: Any, before: Any, after: Any, out: Any) -> tuple[Any, Any]:
    """Spikes and voltage of one step."""
    return (out, before.voltage) if _spikes(cell) else (None, getattr(after, "voltage", None))


def _by_steps(layers: Sequence[Any], look: Look, settings: Settings) -> Any:
    made = [constants(layer) for layer in layers]

    def step(carried: Any, item: Any) -> tuple[Any, Found]:
        (states, counts), x = carried, look(item)
        after, spikes, voltages, fired = [], [], [], []
        for index, layer in enumerate(layers):
            new, x = advance(index, layer, made[index], states[index], x)
            after.append(new)
            if is_cell(layer):
                spike, voltage = _recorded(layer, states[index], new, x)
                spikes.append(spike)
                voltages.append(voltage)
                fired += [x] if _spikes(layer) else []
        counts = tuple(n + s.astype(n.dtype) for n, s in zip(counts, fired, strict=False))
        found = Found(x, tuple(spikes), tuple(voltages)) if settings.record else Found(x)
        return (tuple(after), counts), found

    return lambda carried, items, times: over_steps(step, carried, items, times, settings.truncate)


def _by_layers(layers: Sequence[Any], look: Look, settings: Settings) -> Any:
    made = [constants(layer) for layer in layers]

    def over_cell(index: int, before: Any, x: Any, times: Any) -> tuple[Any, Any]:
        def step(state: Any, x: Any) -> tuple[Any, Any]:
            after, out = advance(index, layers[index], made[index], state, x)
            return after, (out, *(_recorded(layers[index], state, after, out) if settings.record else (None, None)))

        return over_steps(step, before, x, times, settings.truncate)

    def stretch(carried: Any, items: Any, times: Any) -> tuple[Any, Found]:
        (states, counts), x = carried, jax.vmap(look)(items)
        after, spikes, voltages, fired = [], [], [], []
        for index, layer in enumerate(layers):
            new = None
            if is_stateless(layer):
                flat = apply_stateless(index, made[index], x.reshape(-1, *x.shape[2:]))
                x = flat.reshape(*x.shape[:2], *flat.shape[1:])
            elif is_sequence(layer):
                new, y = apply_sequence(made[index], states[index], jnp.swapaxes(x, 0, 1))
                x = jnp.swapaxes(y, 0, 1)
            else:
                new, (x, spike, voltage) = over_cell(index, states[index], x, times)
                spikes.append(spike)
                voltages.append(voltage)
                fired += [x] if _spikes(layer) else []
            after.append(new)
        counts = tuple(n + jnp.sum(s.astype(n.dtype), axis=0) for n, s in zip(counts, fired, strict=False))
        found = Found(x, tuple(spikes), tuple(voltages)) if settings.record else Found(x)
        return (tuple(after), counts), found

    return stretch
