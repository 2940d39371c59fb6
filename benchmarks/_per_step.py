"""The published training loop, step by step, as peers run it: the slow end of the comparison.

One object a node, one call a node and time step, parameters probed one at a time, events at every step.
`loop_of_objects` is our own plain NumPy; `published_package` is the same loop on the classes of the
package qml-hcs, where it is installed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

NODES = ((0.90, 0.03, 0.22), (0.97, 0.02, 0.25), (1.05, 0.00, 0.30))
EPOCHS, STEPS, BRANCHES = 16, 48, 5


def inputs() -> np.ndarray:
    """The published signal ``[time, channel]``."""
    t = np.arange(STEPS, dtype=float)
    return np.stack([0.3 * np.sin(0.35 * t), 0.2 * np.sin(0.35 * t + 0.7), 0.1 * np.cos(0.35 * t + 0.3)], axis=1)


# -- our own objects ------------------------------------------------------------------------------


class Backend:
    """A recursive tanh cell with its projection."""

    def __init__(self, w: float, b: float, span: float):
        self.w, self.b, self.span, self.depth = w, b, span, 1
        self.x: np.ndarray | None = None

    def encode(self, x: np.ndarray) -> None:
        self.x = np.asarray(x, dtype=float).reshape(-1)

    def run(self) -> np.ndarray:
        s = self.x
        for _ in range(max(1, int(self.depth))):
            s = np.tanh(self.w * s + self.b)
        return s

    def project(self, s: np.ndarray, branches: int) -> np.ndarray:
        span = max(0.10, self.span / (1.0 + 0.3 * (self.depth - 1)))
        return np.stack([np.tanh(s + delta) for delta in np.linspace(-span, span, branches)], axis=0)


class Node:
    """A backend and the mean of its branches."""

    def __init__(self, backend: Backend):
        self.backend = backend

    def forward(self, x: np.ndarray, before: Any, branches: int) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        self.backend.encode(x)
        s = self.backend.run()
        found = self.backend.project(s, branches)
        return s, found.mean(axis=0), {"branches": found, "s_tm1": before}


class Telemetry:
    """A record a step begun, ended, and an epoch begun and ended; flushed every eight."""

    def __init__(self, path: Path):
        self.file, self.buffer = open(path, "w"), []  # noqa: SIM115 - lives as long as the loop

    def record(self, **fields: Any) -> None:
        self.buffer.append(json.dumps({"ts": time.time(), **fields}))
        if len(self.buffer) >= 8:
            self.file.write("\n".join(self.buffer) + "\n")
            self.file.flush()
            self.buffer = []

    def on_step_begin(self, step: int, context: dict[str, Any]) -> None:
        self.record(tag="step_begin", step=step)

    def on_step_end(self, step: int, context: dict[str, Any]) -> None:
        self.record(tag="step_end", step=step, context=context)

    def on_epoch_begin(self, epoch: int, context: dict[str, Any]) -> None:
        self.record(tag="epoch_begin", epoch=epoch)

    def on_epoch_end(self, epoch: int, context: dict[str, Any]) -> None:
        self.record(tag="epoch_end", epoch=epoch, context=context)


def _chain(nodes: list[Node]) -> Callable[..., Any]:
    def forward(x: np.ndarray, before: Any, branches: int) -> Any:
        infos, s, future = [], x, None
        for i, node in enumerate(nodes):
            s, future, info = node.forward(s, before if i == 0 else s, branches)
            infos.append(info)
        return s, future, infos

    return forward


def _mse(p: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean((np.ravel(p) - np.ravel(y)) ** 2))


def _consistency(before: np.ndarray, s: np.ndarray, future: np.ndarray) -> float:
    return float(0.8 * np.mean((s - before) ** 2) + 1.2 * np.mean((s - future) ** 2))


def _coherence(branches: np.ndarray) -> float:
    return float(np.mean((branches - branches.mean(axis=0, keepdims=True)) ** 2))


def own_objects(path: Path) -> SimpleNamespace:
    """The loop's parts in plain NumPy."""
    backends = [Backend(*settings) for settings in NODES]
    return SimpleNamespace(
        backends=backends,
        forward=_chain([Node(b) for b in backends]),
        callbacks=Telemetry(path),
        mse=_mse,
        consistency=_consistency,
        coherence=_coherence,
    )


# -- the published package ------------------------------------------------------------------------


def published_objects(path: Path) -> SimpleNamespace:
    """The loop's parts from qml-hcs. ImportError where it is not installed."""
    from qmlhc.callbacks import CallbackList, TelemetryLogger
    from qmlhc.core import BackendConfig, HCModel, QuantumBackend
    from qmlhc.hc import HCNode, MeanPolicy
    from qmlhc.loss import CoherenceLoss, ConsistencyLoss, MSELoss
    from qmlhc.predictors import LinearProjector

    class Recursive(QuantumBackend):
        """The published examples' backend: a recursive tanh cell."""

        def __init__(self, w: float, b: float, span: float):
            super().__init__(BackendConfig(output_dim=3, seed=11))
            self.w, self.b, self.base, self.depth = w, b, span, 1

        def run(self, params: Any = None) -> np.ndarray:
            s = self._require_input().astype(float)
            for _ in range(max(1, int(self.depth))):
                s = np.tanh(self.w * s + self.b)
            return self._validate_state(s)

        def project_future(self, s_t: np.ndarray, branches: int = 2) -> np.ndarray:
            span = max(0.10, self.base / (1.0 + 0.3 * (self.depth - 1)))
            future = LinearProjector(weight=1.0, bias=0.0, span=span).project(self._validate_state(s_t), branches)
            return self._validate_branches(future)

        def capabilities(self) -> dict[str, Any]:
            return {}

    backends = [Recursive(*settings) for settings in NODES]
    model = HCModel([HCNode(b, MeanPolicy()) for b in backends])
    return SimpleNamespace(
        backends=backends,
        forward=lambda x, before, branches: model.forward_chain(x, before, branches),
        callbacks=CallbackList([TelemetryLogger(path=path, flush_interval=8)]),
        mse=MSELoss(),
        consistency=ConsistencyLoss(0.8, 1.2),
        coherence=CoherenceLoss("variance"),
    )


# -- the loop, the same for both ------------------------------------------------------------------


def train(parts: SimpleNamespace) -> dict[str, float]:
    """Sixteen epochs as published; the losses after the last."""
    x, target = inputs(), np.zeros((STEPS, 3))
    backends, callbacks = parts.backends, parts.callbacks

    def forward_pass() -> dict[str, float]:
        task = cons = coh = 0.0
        before = None
        for t in range(STEPS):
            callbacks.on_step_begin(t, {"step": t})
            s, future, infos = parts.forward(x[t], before, BRANCHES)
            task += parts.mse(s, target[t])
            if before is not None:
                cons += parts.consistency(before, s, future)
            coh += float(np.mean([parts.coherence(info["branches"]) for info in infos]))
            before = s
            callbacks.on_step_end(t, {"step": t})
        task, cons, coh = task / STEPS, cons / max(1, STEPS - 1), coh / STEPS
        return {"task": task, "cons": cons, "coh": coh, "total": task + 0.5 * cons + 0.3 * coh}

    names = [(i, name) for i in range(len(backends)) for name in ("w", "b")]
    depths_before, after = None, {}
    for epoch in range(EPOCHS):
        depth = round(1 + 2 * min(1.0, epoch / 15))
        for backend in backends:
            backend.depth = depth
        depths = tuple(b.depth for b in backends)
        rate = (5e-2 / (1 + 0.5 * (depth - 1))) * (1 / (1 + 0.5 * epoch))
        eps = (1e-3 / (1 + 0.3 * (depth - 1))) * (1 / (1 + 0.3 * epoch))
        callbacks.on_epoch_begin(epoch, {"epoch": epoch, "depth": list(depths)})
        loss_before = forward_pass()
        frozen, depths_before = depths_before not in (None, depths), depths
        after = loss_before
        if not frozen:
            forward_pass()
            gradient = []
            for i, name in names:
                base = getattr(backends[i], name)
                setattr(backends[i], name, base + eps)
                up = forward_pass()["total"]
                setattr(backends[i], name, base - eps)
                down = forward_pass()["total"]
                setattr(backends[i], name, base)
                gradient.append((up - down) / (2 * eps))
            norm = float(np.sqrt(sum(g * g for g in gradient)))
            limit = 0.05 if depth < 1.5 else 0.075 if depth < 2.5 else 0.1
            scale = 1.0 if norm <= limit else limit / norm
            for (i, name), g in zip(names, gradient, strict=True):
                setattr(backends[i], name, getattr(backends[i], name) - rate * (g * scale))
            after = forward_pass()
        callbacks.on_epoch_end(epoch, {"epoch": epoch, "loss_before": loss_before, "loss_after": after})
    forward_pass()
    return after
