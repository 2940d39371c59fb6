"""How fast is the published hypercausal run? Ratios against peers and floors, measured in one process.

    python benchmarks/hypercausal.py [--repeats 5]

All train the same 16 epochs to the same losses, which is checked first. Rows:

* published package  the published loop on qml-hcs, where it is installed
* per-step loop      the same loop on our own NumPy objects: 1 by definition
* NumPy floor        vectorised over time and probes, redundant passes left out, no events
* hardgrad           the trainer with telemetry on, timed around `fit`: 16 epochs with all that a run folder takes
                     (checkpoint, best, result), and 16 epochs' share of a long run, the steady state
* whole process      `hardgrad run hypercausal-depth`: start, compile, files and all; without and with the
                     cache of compiled programs that an earlier run leaves
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _per_step as peers
import numpy as np

import hardgrad as hg
from hardgrad.hypercausal import HostChain
from hardgrad.zoo import hypercausal_depth as recipe
from hardgrad.zoo._launch import float64

LONG = 512


def wall(repeats: int, function: Callable[[], object]) -> list[float]:
    """Seconds of several calls, by the clock on the wall, from outside."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds


def numpy_floor() -> float:
    """The run in vectorised NumPy: 13 probes at once, the loss after each update; the last total."""
    config = recipe.Config()
    host = dataclasses.replace(recipe.host_chain(config), spans=tuple(n.span for n in config.nodes))
    assert isinstance(host, HostChain)
    x, y = recipe.data(config)
    plan = recipe.plan(config)
    theta = np.array([v for node in config.nodes for v in (node.weight, node.bias)])
    probes_x, probes_y = np.broadcast_to(x, (13, *x.shape)), np.broadcast_to(y, (13, *y.shape))
    total = 0.0
    for epoch in range(config.epochs):
        c = plan.at(hg.Progress(epoch=epoch, step=epoch, epochs=config.epochs, steps_per_epoch=1))
        if c["freeze"]:
            total = host(theta.reshape(3, 2).tolist(), x, y, c["depth"])[0]
            continue
        probes = theta + c["eps"] * np.concatenate([np.zeros((1, 6)), np.eye(6), -np.eye(6)])
        losses = host([(probes[:, 2 * i], probes[:, 2 * i + 1]) for i in range(3)], probes_x, probes_y, c["depth"])
        gradient = (losses[1:7, 0] - losses[7:, 0]) / (2 * c["eps"])
        norm = np.sqrt(np.sum(gradient**2))
        theta = theta - c["learning_rate"] * gradient * min(1.0, c["max_norm"] / norm)
        total = host(theta.reshape(3, 2).tolist(), x, y, c["depth"])[0]
    return float(total)


def trainer_run() -> Callable[[int, Path], Any]:
    """The recipe's trainer with telemetry, early stopping and best on, its printed lines left out."""
    experiment = recipe.experiment(recipe.Config(patience=10**9))
    quiet = [c for c in experiment.trainer.callbacks if type(c).__name__ != "EpochLines"]
    trainer = dataclasses.replace(experiment.trainer, callbacks=quiet)

    def run(epochs: int, folder: Path) -> Any:
        return trainer.fit(
            experiment.model,
            experiment.objective,
            experiment.data,
            epochs=epochs,
            validation=experiment.validation,
            run=folder,
        )

    return run


def whole_process(cache: Path, folder: Path) -> None:
    """The command as a user types it."""
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(cache)}
    command = [sys.executable, "-m", "hardgrad", "run", "hypercausal-depth", "--quiet", "--out", str(folder)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rows: list[tuple[str, list[float]]] = []
    with tempfile.TemporaryDirectory() as name, float64():
        scratch = Path(name)
        fresh = iter(range(10**6))

        def folder() -> Path:
            return scratch / f"run{next(fresh)}"

        def check(total: float) -> None:
            assert abs(total - 0.023146860278082843) < 1e-12, total

        loop = wall(3, lambda: check(peers.train(peers.own_objects(scratch / "own.jsonl"))["total"]))
        try:
            parts = peers.published_objects
            published = wall(3, lambda: check(peers.train(parts(scratch / "published.jsonl"))["total"]))
            rows.append(("published package, 16 epochs", published))
        except ImportError:
            print("qml-hcs is not installed: its row is left out (pip install --no-deps qml-hcs)")
        rows.append(("per-step loop, 16 epochs", loop))
        check(numpy_floor())
        rows.append(("vectorised NumPy floor, 16 epochs", wall(4 * repeats, numpy_floor)))
        train = trainer_run()
        check(train(16, folder()).history[-1].metrics["val_loss"])
        rows.append(("hardgrad, fit of 16 epochs, run folder and all", wall(4 * repeats, lambda: train(16, folder()))))
        long = wall(repeats, lambda: train(LONG, folder()))
        rows.append((f"hardgrad, 16 of {LONG} epochs, telemetry on", [t * 16 / LONG for t in long]))
        for label, cache in (("empty", None), ("warm", scratch / "cache")):
            if cache is not None:
                whole_process(cache, folder())
            runs = wall(3, lambda c=cache: whole_process(c or folder(), folder()))
            rows.append((f"whole process, {label} cache", runs))
    print(f"\n{'':<48}{'best ms':>9}{'× loop':>8}{'median ms':>11}{'× loop':>8}")
    for label, seconds in rows:
        best, median = min(seconds), statistics.median(seconds)
        ratios = min(loop) / best, statistics.median(loop) / median
        print(f"{label:<48}{1e3 * best:>9.1f}{ratios[0]:>8.1f}{1e3 * median:>11.1f}{ratios[1]:>8.1f}")


if __name__ == "__main__":
    main()
