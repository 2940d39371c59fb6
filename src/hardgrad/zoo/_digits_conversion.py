"""The digits by transfer: ReLU networks trained on the images, and what becomes of them as spikes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import NDArray

from ..core import Controls, Metrics
from ..spiking import CrossEntropy, Network, accuracy_over_time, calibrate_biases, convert, latency, run
from ..training import member
from ._figures import BLUE, SKY, SOFT, new_figure
from ._spiking_traces import Trace, traces_of
from ._verdicts import spread


def at_once(loss: CrossEntropy) -> Callable[[Any, Any], Any]:
    """The same loss of outputs without time ``[batch, classes]``."""
    return lambda outputs, labels: loss(outputs[:, None], labels)


@dataclasses.dataclass(frozen=True)
class SourceObjective:
    """A loss of a network of images ``[batch, 64]``; metric ``accuracy``.

    Attributes:
        loss: that of the spiking networks.
    """

    loss: CrossEntropy

    def __call__(self, model: Any, batch: Any, controls: Controls, key: Any) -> tuple[Array, Metrics]:
        """The loss and the metric of ``(images, labels)``."""
        x, labels = batch
        logits = jax.vmap(model)(x)
        right = jnp.argmax(logits, axis=1) == labels
        return at_once(self.loss)(logits, labels), {"accuracy": jnp.mean(right.astype(logits.dtype))}


def converted(ensemble: Any, x: NDArray[Any]) -> list[Network]:
    """Each member as spikes, balanced on images ``[images, members, 64]``."""
    return [convert(member(ensemble, i), x[:, i]) for i in range(x.shape[1])]


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Accuracies and spikes on test images.

    Attributes:
        steps: time steps read.
        converted: accuracy of each member after each of them, ``[members, steps]``.
        calibrated: the same with biases calibrated for just so many steps.
        spikes: spikes an image until then, those of the latency included.
        curve: accuracy after 1, 2, 3, ... steps ``[members, time]``.
    """

    steps: tuple[int, ...]
    converted: list[list[float]]
    calibrated: list[list[float]]
    spikes: list[list[float]]
    curve: list[list[float]]

    @property
    def final(self) -> list[float]:
        """Each member's accuracy after the last step."""
        return [row[-1] for row in self.converted]


def transfer(
    ensemble: Any, train: NDArray[Any], tested: tuple[NDArray[Any], NDArray[Any]], steps: Sequence[int]
) -> Transfer:
    """Convert every member and test it.

    Args:
        ensemble: of ReLU networks.
        train: images to balance and calibrate on, ``[images, members, 64]``.
        tested: images and labels.
        steps: time steps to read the answer after.
    """
    found, (x, labels) = Transfer(tuple(sorted(steps)), [], [], [], []), tested
    for i, network in enumerate(converted(ensemble, train)):
        own = x[:, i]
        curve = np.asarray(accuracy_over_time(network, own, labels[:, i], found.steps[-1]), np.float64)
        counts = np.asarray(_spikes(network, jnp.asarray(own), found.steps[-1] + latency(network)), np.float64)
        found.curve.append(curve.tolist())
        found.converted.append([float(curve[step - 1]) for step in found.steps])
        found.spikes.append([float(counts[: step + latency(network)].sum()) for step in found.steps])
        found.calibrated.append(
            [
                float(
                    accuracy_over_time(
                        calibrate_biases(network, train[:, i], steps=step), own, labels[:, i], found.steps[-1]
                    )[step - 1]
                )
                for step in found.steps
            ]
        )
    return found


@eqx.filter_jit
def _spikes(network: Network, x: Array, steps: int) -> Array:
    """Spikes an image at every step ``[steps]``."""
    found = run(network, jnp.broadcast_to(x[:, None], (x.shape[0], steps, x.shape[1])), record=True)
    totals = [jnp.sum(spikes, axis=(0, 2)) for spikes in found.spikes if spikes is not None]
    return jnp.sum(jnp.stack(totals), axis=0) / x.shape[0]


def transfer_traces(network: Network, x: NDArray[Any], steps: int) -> list[Trace]:
    """What a converted network does with the first of images ``[images, 64]``."""
    held = np.repeat(x[:, None], steps + latency(network), axis=1)
    found = eqx.filter_jit(lambda network, x: run(network, x, record=True))(network, jnp.asarray(held))
    names = [f"hidden {i + 1}" for i in range(latency(network))] + ["outputs"]
    return traces_of(held, found.spikes, found.voltages, names=names)


def transfer_lines(source: list[float], found: Transfer) -> list[str]:
    """The table of accuracy against time."""
    lines = [f"{'steps':>5}{'converted':>21}{'worst':>9}{'biases calibrated':>22}{'spikes an image':>18}"]
    for i, step in enumerate(found.steps):
        plain, mended = ([row[i] for row in rows] for rows in (found.converted, found.calibrated))
        spikes = np.mean([row[i] for row in found.spikes])
        lines.append(
            f"{step:>5}{np.mean(plain):>13.2%} ± {spread(plain):.2%}{min(plain):>9.2%}"
            f"{np.mean(mended):>14.2%} ± {spread(mended):.2%}{spikes:>18.0f}"
        )
    gap = [100 * (after - before) for after, before in zip(found.final, source, strict=True)]
    lines += [
        "",
        f"Converted less source after {found.steps[-1]} steps: {np.mean(gap):+.2f} ± {spread(gap):.2f} points, "
        f"worst {min(gap):+.2f}.",
    ]
    return lines


def transfer_figure(shown: Mapping[str, Any]) -> Any:
    """Accuracy over time, a line a member; their sources' mean across.

    Args:
        shown: "curve", "calibrated", "steps" and "source" of a run's result.
    """
    figure = new_figure(7.5, 3.0)
    axis = figure.subplots()
    time = 1 + np.arange(len(shown["curve"][0]))
    for i, curve in enumerate(shown["curve"]):
        axis.plot(time, curve, color=BLUE, lw=1.2, label="converted, a seed a line" if i == 0 else None)
    axis.plot(
        shown["steps"], np.mean(shown["calibrated"], axis=0), "o", color=SKY, ms=5, label="biases calibrated, mean"
    )
    axis.axhline(float(np.mean(shown["source"])), color=SOFT, ls="--", lw=1.2, label="source, mean")
    axis.set_xscale("log", base=2)
    axis.set_xticks(shown["steps"], [str(step) for step in shown["steps"]])
    axis.set_xlabel("time steps")
    axis.set_ylabel("test accuracy")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.legend(frameon=False, fontsize="small")
    axis.spines[["top", "right"]].set_visible(False)
    figure.set_label("Test accuracy of converted networks over time steps, beside that of their sources.")
    return figure
