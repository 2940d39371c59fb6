"""The network of `spiking.py` in snnTorch and in SpikingJelly, eager, on the CPU. Either may be missing.

Both read the spike from the membrane after the input is added, so that a layer's output comes a step sooner than ours:
after two spiking layers their readout at step t is ours at t + 2, where biases are 0. snnTorch's reset is detached;
SpikingJelly leaks what a spike takes off, and has one decay a layer. Inputs lie ``[time, batch, channels]``, as both
want them, and the readout of all but the last `cut` steps is summed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

try:
    import snntorch
except ImportError:
    snntorch = None
try:
    from spikingjelly.activation_based import functional, layer, neuron, surrogate
except ImportError:
    neuron = None

Step = Callable[[], Any]


def _linear(make: Any, given: dict[str, Any], i: int, **options: Any) -> Any:
    after, before = given[f"w{i}"].shape
    linear = make(before, after, **options)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(given[f"w{i}"]))
        linear.bias.copy_(torch.from_numpy(given[f"b{i}"]))
    return linear


class _SnnTorch(nn.Module):
    """Step by step, as its tutorials have it."""

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        self.linear = nn.ModuleList([_linear(nn.Linear, given, i) for i in (1, 2, 3)])
        common = {"learn_beta": True, "spike_grad": snntorch.surrogate.atan(alpha=2.0)}
        betas = [torch.from_numpy(given[f"beta{i}"].copy()) for i in (1, 2, 3)]
        last = snntorch.Leaky(betas[2], reset_mechanism="none", **common)
        self.cells = nn.ModuleList([*(snntorch.Leaky(beta, **common) for beta in betas[:2]), last])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, found = [cell.init_leaky() for cell in self.cells], []
        for x_t in x:
            for i, (linear, cell) in enumerate(zip(self.linear, self.cells, strict=True)):
                x_t, states[i] = cell(linear(x_t), states[i])
            found.append(states[2])
        return torch.stack(found)

    def named_gradient(self) -> dict[str, Any]:
        found = {}
        for i, (linear, cell) in enumerate(zip(self.linear, self.cells, strict=True), 1):
            found |= {f"w{i}": linear.weight.grad, f"b{i}": linear.bias.grad, f"beta{i}": cell.beta.grad}
        return {name: array.numpy() for name, array in found.items()}


class _Readout(nn.Module):
    """A leaky integrator, which SpikingJelly has none of with a decay to learn."""

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.raw = nn.Parameter(torch.tensor(math.log(decay / (1 - decay))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        v, found, decay = torch.zeros_like(x[0]), [], self.raw.sigmoid()
        for x_t in x:
            v = decay * v + x_t
            found.append(v)
        return torch.stack(found)


class _SpikingJelly(nn.Module):
    """Layer by layer over all time steps, its faster mode."""

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        self.linear = nn.ModuleList([_linear(layer.Linear, given, i, step_mode="m") for i in (1, 2, 3)])
        decays = [float(given[f"beta{i}"][0]) for i in (1, 2, 3)]
        cell = lambda decay: neuron.ParametricLIFNode(
            init_tau=1 / (1 - decay),
            decay_input=False,
            v_reset=None,
            surrogate_function=surrogate.ATan(alpha=2.0),
            step_mode="m",
        )
        self.cells = nn.ModuleList([cell(decays[0]), cell(decays[1]), _Readout(decays[2])])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        for linear, cell in zip(self.linear, self.cells, strict=True):
            x = cell(linear(x))
        return x

    def named_gradient(self) -> dict[str, Any]:
        return {f"w{i}": linear.weight.grad.numpy() for i, linear in enumerate(self.linear, 1)}


def libraries() -> dict[str, Any]:
    """Those that are installed, by name and version."""
    found = {}
    if snntorch is not None:
        found["snnTorch"] = _SnnTorch
    if neuron is not None:
        found["SpikingJelly"] = _SpikingJelly
    return found


def _loss(model: Any, x: Any, target: Any, cut: int) -> Any:
    traces = model(x)
    return F.cross_entropy(traces[: len(traces) - cut].sum(0), target)


def loss_and_gradient(make: Any, given: Any, inputs: Any, target: Any, cut: int) -> tuple[float, dict[str, Any]]:
    """Of inputs ``[batch, time, channels]`` and class probabilities; the last `cut` steps of the readout left out."""
    model = make(given)
    x = torch.from_numpy(np.ascontiguousarray(inputs.swapaxes(0, 1)))
    loss = _loss(model, x, torch.from_numpy(target), cut)
    loss.backward()
    return loss.item(), model.named_gradient()


def training_step(make: Any, given: Any, inputs: Any, target: Any, rate: float) -> Step:
    """A step of Adam."""
    model = make(given)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    x, wanted = torch.from_numpy(np.ascontiguousarray(inputs.swapaxes(0, 1))), torch.from_numpy(target)

    def step() -> float:
        optimizer.zero_grad()
        loss = _loss(model, x, wanted, 0)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
