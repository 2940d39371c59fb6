"""A network over time."""

from __future__ import annotations

from typing import Any, NamedTuple

from ...core import UsageError, did_you_mean, whole_number
from ._forms import FORMS, Settings, execute
from ._network import Network


class Run(NamedTuple):
    """What `run` returns.

    Attributes:
        outputs: the last layer's, ``[batch, time, ...]``.
        state: after the last step, as `Network.init_state` makes it; a further `run` may start from it.
        spikes: one entry a cell in order, ``[batch, time, *units]``, None for cells that never spike; () unless
            recorded.
        voltages: one entry a cell, ``[batch, time, *units]``: the membrane that the step's spike was read from; for
            cells that never spike, the membrane after the step. () unless recorded.
        counts: spikes of each spiking cell in order, summed over time, ``[batch, *units]``; () unless counted.
    """

    outputs: Any
    state: Any
    spikes: Any
    voltages: Any
    counts: Any


def run(
    network: Network,
    inputs: Any,
    *,
    state: Any = None,
    record: bool = False,
    count: bool = False,
    segment: int | None = None,
    truncate: int | None = None,
    form: str = "auto",
    steps: int | None = None,
) -> Run:
    """Run a network over all time steps.

    Differentiable in forward and reverse mode, by parameters, inputs and state. For the backward pass a step keeps the
    cells' states and its input, nothing else; the rest is worked out again.

    Args:
        network: the network.
        inputs: ``[batch, time, ...]`` of a float dtype, booleans for spikes, or integers for a first layer that takes
            such; or bits along time, as `pack_bits` makes them, uint8 ``[batch, bytes, ...]``, then `steps` is needed.
            Bits are the fastest too: float inputs are the largest part of what a step moves through memory.
        state: to start from; None: an empty one.
        record: whether to return cells' spikes and voltages too.
        count: whether to return spike counts, which take no memory over time.
        segment: keep states only every so many steps, and run each segment once more in the backward pass: memory for
            time/segment + segment states in the place of time, for a third more work. √time is a good choice.
        truncate: cut the gradient before steps truncate, 2·truncate, ...: truncated backpropagation through time
            (Williams and Peng 1990). The values stay the same.
        form: ``"scan"``: one scan over time, all layers in its body; on a CPU the faster at large batches, as one
            step's working set stays in the cache. ``"layers"``: each layer over all steps before the next, so that
            linear layers become one product; for GPUs, and small batches on a CPU. ``"auto"``: by layers on a GPU and
            for networks without cells, whose sequence layers are then parallel in time; else the scan. All give the
            same numbers to rounding.
        steps: time steps of packed inputs.

    Raises:
        UsageError: shapes that do not fit, an unknown form, a number out of range.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.spiking import IF, Network
        >>> result = run(Network([IF(1)]), jnp.full((1, 4, 1), 0.75), record=True)
        >>> result.spikes[0].ravel(), result.voltages[0].ravel()
        (Array([0., 0., 1., 1.], dtype=float32), Array([0.  , 0.75, 1.5 , 1.25], dtype=float32))
    """
    if form not in FORMS:
        raise UsageError(f"form is not {form!r}. {did_you_mean(str(form), FORMS)}")
    segment = None if segment is None else whole_number("segment", segment, least=1)
    truncate = None if truncate is None else whole_number("truncate", truncate, least=1)
    steps = None if steps is None else whole_number("steps", steps, least=1)
    settings = Settings(record, count, segment, truncate, form, steps)
    found, state, counts = execute(network.layers, inputs, state, settings)
    return Run(found.outputs, state, found.spikes, found.voltages, counts)
