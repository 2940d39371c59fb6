"""The rational perceptron in PyTorch: an ordinary eager loop, and the published trainer where it is installed.

Data, first weights and order of the batches come from NumPy, so that every program trains the same run.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SAMPLES, BATCH, SIZES = 8192, 256, (2, 64, 64, 2)
TAU = (5e-5, 2e-4)


def data(dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Inputs ``[8192, 2]`` and labels of 1/(x₁ - x₂), one in twenty an exact pole."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.0, 1.0, (SAMPLES, 2)).astype(dtype)
    pole = rng.random(SAMPLES) < 0.05
    x[pole, 1] = x[pole, 0]
    with np.errstate(divide="ignore"):
        return x, np.where(pole, np.inf, 1.0 / (x[:, 0] - x[:, 1])).astype(dtype)


def first_weights(seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights ``[out, in]`` and biases of the layers, uniform in ±1/√in."""
    rng = np.random.default_rng(seed)
    draw = lambda a, *shape: rng.uniform(-1.0, 1.0, shape) / np.sqrt(a)
    return [(draw(a, b, a), draw(a, b)) for a, b in itertools.pairwise(SIZES)]


def order(epoch: int) -> np.ndarray:
    """Rows of the batches of an epoch, as the library draws them: ``[32, 256]``."""
    return np.random.default_rng((0, epoch)).permutation(SAMPLES).reshape(-1, BATCH)


def _model(dtype: Any) -> Any:
    import torch

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[Any] = []
            for weight, bias in first_weights():
                linear = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=dtype)
                with torch.no_grad():
                    linear.weight.copy_(torch.from_numpy(weight))
                    linear.bias.copy_(torch.from_numpy(bias))
                layers += [linear, torch.nn.ReLU()]
            self.layers = torch.nn.Sequential(*layers[:-1])

        def forward(self, x: Any) -> Any:
            last = self.layers(x)
            return last[:, 0], last[:, 1]

    return Model()


def _published_loss(P: Any, Q: Any, Y_n: Any, Y_d: Any, tau: float) -> Any:
    """The published formulas: implicit fit, margin, orientation, rejection, with the published weights."""
    import torch

    cross = P * Y_d - Q * Y_n
    fit = (cross**2 / (Q**2 * Y_d**2 + P**2 * Y_n**2 + 1e-9)).mean()
    margin = torch.relu(tau - Q.abs()).square()
    margin = torch.where(Y_d != 0, margin, 0.0).mean()
    cosine = (P * Y_n + Q * Y_d) / (torch.sqrt(P**2 + Q**2 + 1e-9) * torch.sqrt(Y_n**2 + Y_d**2 + 1e-9))
    sign = torch.where(Y_d == 0, 1.0 - cosine.clamp(-1.0, 1.0), 0.0).mean()
    coverage = 1.0 - (Q.abs() < tau).float().mean()
    rejection = torch.relu(0.95 - coverage).square()
    return fit + 0.1 * margin + sign + 0.01 * rejection, coverage


def eager_loop(dtype_name: str, *, logged: bool) -> Callable[[int], list[float]]:
    """``run(epochs)``: the losses of every step; with `logged`, four numbers are read back each step."""
    import torch

    torch.set_num_threads(1)
    dtype = getattr(torch, dtype_name)
    x, y = (torch.from_numpy(a) for a in data(dtype_name))
    finite = torch.isfinite(y)
    Y_n, Y_d = torch.where(finite, y, torch.sign(y)), finite.to(dtype)
    model = _model(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    draws = np.random.default_rng(0)
    epochs_done = 0

    def run(epochs: int) -> list[float]:
        nonlocal epochs_done
        losses: list[Any] = []
        for _ in range(epochs):
            for rows in torch.from_numpy(order(epochs_done)):
                tau = float(draws.uniform(*TAU))
                optimizer.zero_grad()
                P, Q = model(x[rows])
                loss, coverage = _published_loss(P, Q, Y_n[rows], Y_d[rows], tau)
                loss.backward()
                optimizer.step()
                size = Q.detach().abs()
                numbers = (loss.detach(), coverage, size.min(), size.mean())
                if logged:
                    numbers = tuple(map(float, numbers))
                losses.append(numbers[0])
            epochs_done += 1
        return [float(loss) for loss in losses]

    return run


def published_trainer(dtype_name: str) -> Callable[[], float]:
    """``run()``: seconds an epoch of the published trainer on batches made beforehand, once it runs warm.

    Raises:
        ImportError: it is not installed.
    """
    import torch
    from zeroproofml.losses import LossConfig, SCMTrainingLoss
    from zeroproofml.losses.implicit import implicit_loss
    from zeroproofml.training import SCMTrainer, TrainingConfig

    torch.set_num_threads(1)
    dtype = getattr(torch, dtype_name)
    x, y = (torch.from_numpy(a) for a in data(dtype_name))
    combined = SCMTrainingLoss(LossConfig())

    def loss_fn(outputs: Any, lifted: Any, *, tau: float) -> Any:
        P, Q = outputs
        Y_n, Y_d = lifted
        fit = implicit_loss(P, Q, Y_n, Y_d)
        return combined(fit, P, Q, Y_n, Y_d, is_bottom=Q.abs() < tau, mask_finite=Y_d != 0, tau_train=tau)[0]

    batches = [(x[rows], y[rows]) for rows in torch.from_numpy(order(0))]

    def run() -> float:
        model = _model(dtype)
        config = TrainingConfig(max_epochs=4, tau_train_min=TAU[0], tau_train_max=TAU[1], log_hook=lambda record: None)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        trainer = SCMTrainer(model, optimizer, loss_fn, batches, config=config)
        start = time.perf_counter()
        trainer.fit()
        return (time.perf_counter() - start) / 4

    return run
