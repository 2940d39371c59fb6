"""What does a spiking network cost to train? Against BLAS + C, snnTorch, SpikingJelly and Spyx, in one process.

    python benchmarks/spiking.py [--quick]   needs: a C compiler for the floor; pip install snntorch spikingjelly spyx

LIF 128→64→64→20, a leaky readout, cross-entropy of its sum over time, Adam, float32. Before anything is timed, losses
and gradients are compared on a small batch: with the floor's and Spyx's as they are, with snnTorch's and SpikingJelly's
where biases are 0 and our settings are theirs (`_torch_spiking.py`). Times are the least of several runs,
taken in turns. Tables:

* step     one training step, metrics of activity included in ours; PyTorch on one core or on all, whichever is faster;
           what ours allocate besides arguments and results, by XLA's account, and seconds to trace and compile
* NES      evaluations a second, perturbations vmapped, against a Python loop over a compiled loss
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _spiking_common import (
    PEAKED,
    QUICK,
    RATE,
    SMOOTHING,
    WIDTHS,
    Sizes,
    by_name,
    data,
    network,
    parameters,
    target_of,
    training_step,
)
from _spiking_evaluations import evaluations
from threadpoolctl import threadpool_limits

from hardgrad.spiking import ArcTan, CrossEntropy, pack_bits, run

try:
    import _torch_spiking as peers
    import torch
except ImportError:
    peers = torch = None
try:
    import _spiking_spyx as spyx
except ImportError:
    spyx = None

FLOOR = "BLAS + C floor, one thread"
FORMS: dict[str, dict[str, Any]] = {"hardgrad, scan": {"form": "scan"}, "hardgrad, layers": {"form": "layers"}}


@dataclasses.dataclass(frozen=True)
class Turn:
    """What is timed, how often a round, and within what."""

    step: Callable[[], Any]
    repeats: int
    within: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext


def best(turns: dict[str, Turn], rounds: int) -> dict[str, float]:
    """Milliseconds of each, the least of all runs; in each round all have their turn, as the cores are shared.

    A turn begins with one run that does not count.
    """
    least = dict.fromkeys(turns, math.inf)
    for _ in range(rounds):
        for name, turn in turns.items():
            with turn.within():
                jax.block_until_ready(turn.step())
                for _ in range(turn.repeats):
                    begin = time.perf_counter()
                    jax.block_until_ready(turn.step())
                    least[name] = min(least[name], 1e3 * (time.perf_counter() - begin))
    return least


def floor_of(given: dict[str, Any], inputs: Any, labels: Any) -> Any:
    """The floor on this batch."""
    from _spiking_floor import SpikingFloor

    names = [f"{kind}{i}" for i in (1, 2, 3) for kind in ("w", "b")] + ["beta1", "beta2", "beta3"]
    flat = np.concatenate([given[name].ravel() for name in names])
    time_first = np.ascontiguousarray(inputs.swapaxes(0, 1))
    surrogate = PEAKED.steepness, PEAKED.scale / math.pi
    return SpikingFloor(flat, time_first, target_of(labels), WIDTHS, surrogate, RATE), names


def check(floor: bool) -> None:
    """What is timed computes the same."""
    inputs, labels = data(20, 16)
    close = lambda ours, theirs, name: np.testing.assert_allclose(
        theirs, ours, rtol=0, atol=2e-3 * np.abs(ours).max() + 1e-6, err_msg=name
    )

    def ours(given: Any, **settings: Any) -> tuple[float, dict[str, Any]]:
        loss = lambda model: CrossEntropy(smoothing=SMOOTHING)(run(model, inputs).outputs, jnp.asarray(labels))
        value, gradient = eqx.filter_value_and_grad(loss)(network(given, **settings))
        return float(value), by_name(gradient)

    given = parameters()
    value, gradient = ours(given)
    if floor:
        program, names = floor_of(given, inputs, labels)
        with threadpool_limits(1, "blas"):
            found, flat = program.loss_and_gradient()
        np.testing.assert_allclose(found, value, rtol=1e-4)
        at = 0
        for name in names:
            size = given[name].size
            close(gradient[name].ravel(), flat[at : at + size], f"floor {name}")
            at += size
    if spyx is not None:
        _, found = spyx.training_step(given, inputs, labels, 1.0, SMOOTHING, RATE)
        np.testing.assert_allclose(found, ours(given, surrogate=ArcTan(1.0))[0], rtol=1e-4)
    given = parameters(bias=False)
    for name, make in (peers.libraries() if peers else {}).items():
        settings = {"detach": True} if name == "snnTorch" else {"leak_reset": True}
        value, gradient = ours(given, **settings)
        found, theirs = peers.loss_and_gradient(make, given, inputs, target_of(labels), 2)
        np.testing.assert_allclose(found, value, rtol=1e-4)
        for which, array in theirs.items():
            if not which.startswith("b") or which.startswith("beta"):
                close(gradient[which], array, f"{name} {which}")


@contextlib.contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """On so many of PyTorch's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


def steps(time_steps: int, batch: int, sizes: Sizes, *, floor: bool) -> None:
    """The table of training steps of one shape, and what ours allocate."""
    given, (inputs, labels) = parameters(), data(time_steps, batch)
    bits = np.asarray(pack_bits(inputs))
    segment = math.isqrt(time_steps)
    turns: dict[str, Turn] = {}
    accounts: dict[str, tuple[float, float]] = {}
    if floor:
        one_thread = functools.partial(threadpool_limits, 1, "blas")
        turns[FLOOR] = Turn(floor_of(given, inputs, labels)[0].step, sizes.repeats, one_thread)
    forms = {
        **{label: (inputs, settings) for label, settings in FORMS.items()},
        "hardgrad, scan, packed inputs": (bits, {"form": "scan", "steps": time_steps}),
        f"hardgrad, segments of {segment}, packed": (bits, {"segment": segment, "steps": time_steps}),
    }
    for label, (x, settings) in forms.items():
        step, *accounts[label] = training_step(network(given), x, labels, **settings)
        turns[label] = Turn(step, sizes.repeats)
    if spyx is not None:
        step = spyx.training_step(given, inputs, labels, 1.0, SMOOTHING, RATE)[0]
        turns["Spyx"] = Turn(step, sizes.repeats)
    threads = sorted({1, os.cpu_count() or 1}) if peers else []
    for name, make in (peers.libraries() if peers else {}).items():
        step = peers.training_step(make, given, inputs, target_of(labels), RATE)
        for count in threads:
            turns[f"{name} {count}"] = Turn(step, 1, functools.partial(torch_threads, count))
    rows = best(turns, sizes.rounds)
    for name in peers.libraries() if peers else ():
        rows[name] = min(rows.pop(f"{name} {count}") for count in threads)
    ours, least = rows["hardgrad, scan"], rows.get(FLOOR)
    heading = f"step, T {time_steps}, batch {batch}"
    print(f"\n{heading:<36}{'ms':>9}{'× floor':>9}{'÷ scan':>9}{'scratch MiB':>13}{'compile s':>11}")
    for label, took in rows.items():
        over = f"{took / least:>9.2f}" if least else f"{'–':>9}"
        account = "".join(
            f"{number:>{width}.1f}" for number, width in zip(accounts.get(label, ()), (13, 11), strict=False)
        )
        print(f"{label:<36}{took:>9.1f}{over}{took / ours:>9.2f}{account}")


def has_compiler() -> bool:
    """Whether the floor can be had."""
    try:
        return subprocess.run(["cc", "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def main() -> None:
    """Check, measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: that it works, not how fast")
    sizes, floor = QUICK if parser.parse_args().quick else Sizes(), has_compiler()
    for name, there in (
        ("snntorch", peers and peers.snntorch),
        ("spikingjelly", peers and peers.neuron),
        ("spyx", spyx),
    ):
        if not there:
            print(f"{name} is not installed: its rows are left out (pip install {name})")
    if not floor:
        print("no C compiler: the floor is left out")
    load = lambda: "load average " + " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, {load()} at the start")
    begin = time.perf_counter()
    check(floor)
    for time_steps, batch in sizes.shapes:
        steps(time_steps, batch, sizes, floor=floor)
    evaluations(sizes.pairs, sizes.repeats)
    print(f"\n{load()} at the end; {time.perf_counter() - begin:.0f} s in all")


if __name__ == "__main__":
    main()
