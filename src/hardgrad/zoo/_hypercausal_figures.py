"""Pictures of hypercausal runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._figures import BLUE, SKY, SOFT, VERMILLION, new_figure

_INPUT, _STATE, _TARGET, _FAN = SOFT, BLUE, VERMILLION, SKY


def futures_figure(
    inputs: NDArray[Any],
    targets: NDArray[Any],
    states: NDArray[Any],
    branches: NDArray[Any],
) -> Any:
    """A panel a channel: input, target, state, and the fan of projected futures.

    Args:
        inputs: ``[time, channel]``.
        targets: ``[time, channel]``.
        states: the last node's, ``[time, channel]``.
        branches: its futures, ``[branch, time, channel]``.
    """
    channels = states.shape[-1]
    figure = new_figure(7.5, 1.7 * channels + 0.5)
    axes = figure.subplots(channels, 1, sharex=True, squeeze=False)[:, 0]
    t = np.arange(len(states))
    for channel, axis in enumerate(axes):
        fan = branches[..., channel]
        axis.fill_between(t, fan.min(0), fan.max(0), color=_FAN, alpha=0.25, lw=0, label=f"{len(branches)} futures")
        axis.plot(t, inputs[:, channel], color=_INPUT, lw=1.2, label="input")
        axis.plot(t, targets[:, channel], color=_TARGET, lw=1.2, ls="--", label="target")
        axis.plot(t, states[:, channel], color=_STATE, lw=1.6, label="state")
        axis.set_ylabel(f"channel {channel}")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(ncols=4, frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes[-1].set_xlabel("time step")
    return figure


def parameters_figure(epochs: Sequence[Mapping[str, float]]) -> Any:
    """Each parameter over epochs, as its change since the first.

    Args:
        epochs: parameters by name, after each epoch.
    """
    figure = new_figure(7.5, 3.2)
    axis = figure.subplots()
    for name in epochs[0]:
        values = np.array([epoch[name] for epoch in epochs])
        axis.plot(values - values[0], lw=1.4, ls="-" if name.endswith("w") else "--", label=name)
    axis.set_xlabel("epoch")
    axis.set_ylabel("change since epoch 0")
    axis.legend(ncols=6, frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axis.spines[["top", "right"]].set_visible(False)
    return figure
