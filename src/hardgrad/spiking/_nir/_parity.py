"""Whether a network and a graph do the same, tried on random input.

Membranes and outputs have to agree to rounding, spikes exactly. One thing stands between: a membrane within rounding of
its threshold spikes on one side and not on the other, and from there on the two go their own ways. So a sample is
compared up to the first step in which a spike differs, the membranes of that step included: if those agree, the spike
was a tie, and the rest of the sample says nothing. Were a rule wrong, membranes would differ before any spike does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._network import Network, run
from ._graph import chain, flatten_graph, kind, reset_of
from ._simulate import SPIKING, simulate_nir

_TOLERANCE = {"float32": 3e-5, "float64": 1e-10}


class NIRParity(NamedTuple):
    """What `nir_parity` found.

    Attributes:
        agrees: whether all membranes and outputs compared agree to rounding, and spikes exactly.
        max_error: largest difference of a membrane or output, relative to the largest value there, at least 1.
        worst: where that was: a node's name.
        spikes: how many there were in what was compared.
        ties: samples that ended early, at a membrane within rounding of its threshold.
        silent: names of the spiking neurons that never spiked, whose spikes were thus not tried.
        samples: how many were compared.
        steps: time steps.
    """

    agrees: bool
    max_error: float
    worst: str
    spikes: int
    ties: int
    silent: tuple[str, ...]
    samples: int
    steps: int


def nir_parity(
    network: Network,
    graph: Any,
    *,
    dt: float | None = None,
    reset: str = "zero",
    samples: int = 4,
    steps: int = 24,
    seed: int = 0,
) -> NIRParity:
    """Compare a network with a NIR graph run by its own equations (`simulate_nir`), on random input.

    Inputs are normal numbers, twice as large until every spiking layer spikes, at most 256 times as large.

    Args:
        network: of cells in the order of the graph's neurons.
        graph: a `nir.NIRGraph`, exported or imported.
        dt: time step; None: what the graph's metadata say.
        reset: for neurons whose metadata do not say.
        samples: of random input.
        steps: of time.
        seed: of the input.

    Raises:
        UsageError: a graph that cannot be run, or with other neurons than the network.
    """
    flat = flatten_graph(graph)
    neurons = {link.name: link.node for link in chain(flat) if kind(link.node) in (*SPIKING, "LI")}
    shape = tuple(int(n) for n in np.asarray(flat.nodes[flat.start].input_type["input"]))
    drawn = np.random.default_rng(seed).normal(size=(samples, steps, *shape))
    go = jax.jit(lambda x: run(network, x, record=True))
    for doubled in range(9):
        inputs = jnp.asarray(drawn * 2.0**doubled, float)
        ours = go(inputs)
        if all(part is None or bool(part.any()) for part in ours.spikes):
            break
    theirs = simulate_nir(graph, np.asarray(inputs), dt=dt, reset=reset)
    for name, node in neurons.items():
        if kind(node) in SPIKING and reset_of(name, node, reset) == "zero":
            theirs.voltages[name] -= node.v_reset  # from where an imported cell counts its membrane
    return _compare(list(neurons), ours, theirs, _TOLERANCE[str(inputs.dtype)])


def _compare(names: list[str], ours: Any, theirs: Any, tolerance: float) -> NIRParity:
    samples, steps = theirs.outputs.shape[:2]
    flat: Callable[[Any], Any] = lambda part: np.asarray(part, np.float64).reshape(samples, steps, -1)
    # For each sample the first step in which a spike differs.
    differ = np.zeros((samples, steps), bool)
    spikes = []
    for name, part in zip(names, ours.spikes, strict=True):
        if part is not None:
            spikes.append(flat(part))
            differ |= np.any(spikes[-1] != flat(theirs.spikes[name]), axis=-1)
    first = np.where(differ.any(axis=1), differ.argmax(axis=1), steps)[:, None]
    before = np.arange(steps) < first
    traces = [(name, flat(v), flat(theirs.voltages[name])) for name, v in zip(names, ours.voltages, strict=True)]
    found = []
    for name, mine, other in [*traces, ("output", flat(ours.outputs), flat(theirs.outputs))]:
        # What a spike is read from counts at the step of the first difference too.
        counted = np.arange(steps) <= first if name in theirs.spikes else before
        error = np.where(counted[..., None], np.abs(mine - other), 0.0).max(initial=0.0)
        found.append((float(error / max(1.0, np.abs(other).max(initial=0.0))), name))
    worst, where = max(found, key=lambda pair: pair[0])
    return NIRParity(
        agrees=bool(worst <= tolerance),
        max_error=worst,
        worst=where,
        spikes=int(sum((part * before[..., None]).sum() for part in spikes)),
        ties=int(differ.any(axis=1).sum()),
        silent=tuple(
            name for name, part in zip(names, ours.spikes, strict=True) if part is not None and not part.any()
        ),
        samples=samples,
        steps=steps,
    )
