"""Pictures of a spiking network: who fires when, what membranes do, and who has fallen silent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..training import RunFolder
from ._figures import BLUE, INK, SKY, SOFT, VERMILLION, new_figure
from ._spiking_traces import Trace, read_traces

_LAYER_COLOURS = (BLUE, VERMILLION, "#009e73", "#aa4499", SKY)
_LAYER_DASHES = ("-", "--", ":", "-.")
_MEASURES = {
    "silent": "silent units",
    "saturated": "saturated units",
    "firing_rate": "spikes a unit and step",
}
_MEASURED = re.compile(r"(val_)?(?:(silent|saturated)_(?:units|share)|firing_rate)(?:[._/](.+))?")


def run_figures(folder: RunFolder) -> dict[str, Any]:
    """The pictures of a run: of the traces its recipe kept, and of the activity its telemetry tells of.

    Raises:
        UsageError: the traces or the telemetry are damaged.
    """
    return spiking_figures(read_traces(folder), [(record.epoch, record.metrics) for record in folder.records()])


def spiking_figures(traces: Sequence[Trace], epochs: Iterable[tuple[int, Mapping[str, Any]]] = ()) -> dict[str, Any]:
    """Every picture there is something to draw for, by title.

    Args:
        traces: one a layer, the input's first.
        epochs: an epoch's number and its metrics; those used are ``firing_rate``, ``silent_units`` and
            ``saturated_units`` (or ``_share``), for one layer followed by a dot, slash or underscore and its name, on
            validation data after ``val_``.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    spiking = [trace for trace in traces if trace.binary]
    membranes = [trace for trace in traces if trace.voltages is not None]
    measured = _by_measure(epochs)
    figures: dict[str, Any] = {}
    if traces:
        figures["Spikes of one sample"] = raster_figure(traces)
    if membranes:
        figures["Membranes of a few units"] = membrane_figure(membranes)
    if spiking:
        figures["Firing rates"] = rates_figure(spiking)
    if measured:
        figures["Activity while training"] = activity_figure(measured)
    return figures


def raster_figure(traces: Sequence[Trace]) -> Any:
    """A panel a layer: a tick a spike; numbers that are no spikes as shades."""
    heights = [float(np.clip(trace.spikes.shape[1] / 30, 0.5, 2.2)) for trace in traces]
    figure = new_figure(7.5, sum(heights) + 0.25 * len(traces) + 0.5)
    axes = figure.subplots(len(traces), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for axis, trace, height in zip(axes, traces, heights, strict=True):
        time, units = trace.spikes.shape
        if trace.binary:
            step, unit = np.nonzero(trace.spikes)
            size = float(np.clip(0.8 * 72 * height / units, 0.8, 9.0))
            axis.plot(step, unit, "|", ms=size, mew=min(1.2, 400 / time), color=INK)
            silent = int(np.sum(~np.any(trace.spikes, axis=0)))
            said = f"{trace.name}: {_units(units)}, {silent} silent in this sample"
        else:
            axis.imshow(
                trace.spikes.T,
                aspect="auto",
                origin="lower",
                cmap="Greys",
                extent=(-0.5, time - 0.5, -0.5, units - 0.5),
            )
            said = f"{trace.name}: {_units(units)}"
        axis.set_title(said, loc="left", fontsize="small", color=SOFT)
        axis.set_ylim(-0.5, units - 0.5)
        axis.set_yticks([0, units - 1] if units > 1 else [0])
        _plain(axis)
    axes[0].set_xlim(-0.5, max(len(trace.spikes) for trace in traces) - 0.5)
    axes[-1].set_xlabel("time step")
    figure.set_label("Raster of the spikes of one sample, a panel a layer, a row a unit.")
    return figure


def membrane_figure(traces: Sequence[Trace], units: int = 3) -> Any:
    """Membrane potential of `units` units a layer, from the busiest to the quietest, with threshold and spikes."""
    rows = [(trace, unit) for trace in traces for unit in _spread(trace.unit_rates, units)]
    figure = new_figure(7.5, 0.85 * len(rows) + 0.9)
    axes = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axis, (trace, unit) in zip(axes, rows, strict=True):
        assert trace.voltages is not None
        voltage = trace.voltages[:, unit]
        axis.plot(voltage, color=BLUE, lw=1.2, label="membrane")
        if trace.binary:
            axis.axhline(trace.threshold, color=SOFT, ls="--", lw=0.9, label="threshold")
            top = max(float(np.max(voltage)), trace.threshold)
            room = 0.12 * max(top - float(np.min(voltage)), 1e-9)
            fired = np.nonzero(trace.spikes[:, unit])[0]
            axis.plot(fired, np.full(len(fired), top + room), "v", color=VERMILLION, ms=4, label="spike")
        axis.set_ylabel(f"{trace.name}\nunit {unit}", fontsize="small")
        _plain(axis)
    handles = {label: line for axis in axes for line, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    axes[0].legend(
        handles.values(),
        handles,
        ncols=3,
        frameon=False,
        fontsize="small",
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
    )
    axes[-1].set_xlabel("time step")
    figure.set_label("Membrane potentials of a few units of each layer, with thresholds and spikes.")
    return figure


def rates_figure(traces: Sequence[Trace]) -> Any:
    """A histogram a layer: how many of its units fire how often."""
    figure = new_figure(7.5, 2.7)
    axis = figure.subplots()
    highest = max(float(np.max(trace.unit_rates)) for trace in traces)
    edges = np.linspace(0.0, max(highest, 1e-3), 25)
    for index, trace in enumerate(traces):
        counts, _ = np.histogram(trace.unit_rates, edges)
        mean = float(np.mean(trace.unit_rates))
        axis.stairs(counts / counts.sum(), edges, lw=1.6, label=f"{trace.name}, mean {mean:.3f}", **_style(index))
    axis.set_xlabel("spikes a step")
    axis.set_ylabel("share of units")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axis.set_ylim(bottom=0.0)
    axis.legend(frameon=False, fontsize="small")
    _plain(axis)
    figure.set_label("Histogram of firing rates, one outline a layer.")
    return figure


def activity_figure(measured: Mapping[str, Mapping[str, tuple[NDArray[Any], NDArray[Any]]]]) -> Any:
    """Shares of silent and of saturated units, and the mean firing rate, over epochs.

    Args:
        measured: measure → layer → epochs and values.
    """
    shown = [measure for measure in _MEASURES if measure in measured]
    layers = list(dict.fromkeys(layer for measure in shown for layer in measured[measure]))
    figure = new_figure(7.5, 2.7)
    for axis, measure in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        for layer, (epochs, values) in measured[measure].items():
            marker = "o" if len(epochs) < 25 else ""
            label = layer or "training"
            axis.plot(epochs, values, lw=1.4, marker=marker, ms=3, label=label, **_style(layers.index(layer)))
        axis.set_title(_MEASURES[measure], loc="left", fontsize="small", color=SOFT)
        axis.set_xlabel("epoch")
        if measure != "firing_rate":
            axis.set_ylim(-0.03, 1.03)
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        _plain(axis)
    if layers != [""]:
        lines = {line.get_label(): line for axis in figure.axes for line in axis.lines}
        figure.legend(lines.values(), lines, ncols=5, frameon=False, fontsize="small", loc="outside upper center")
    figure.set_label("Shares of silent and saturated units and the firing rate, over epochs.")
    return figure


def _by_measure(
    epochs: Iterable[tuple[int, Mapping[str, Any]]],
) -> dict[str, dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]]:
    """Measure → layer → epochs and finite values."""
    points: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for epoch, metrics in epochs:
        for name, value in metrics.items():
            match = _MEASURED.fullmatch(name)
            if match and isinstance(value, int | float) and np.isfinite(value):
                measure = match[2] or "firing_rate"
                layer = ", ".join(filter(None, (match[3], match[1] and "validation")))
                points.setdefault(measure, {}).setdefault(layer, []).append((epoch, float(value)))
    return {
        measure: {layer: (np.array(seen)[:, 0], np.array(seen)[:, 1]) for layer, seen in layers.items()}
        for measure, layers in points.items()
    }


def _spread(rates: NDArray[np.float64], count: int) -> list[int]:
    """Units from the busiest to the quietest, evenly by rank."""
    ranked = np.argsort(-rates, kind="stable")
    places = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int))
    return [int(ranked[place]) for place in places]


def _units(count: int) -> str:
    return f"{count} unit" if count == 1 else f"{count} units"


def _style(index: int) -> dict[str, Any]:
    return {
        "color": _LAYER_COLOURS[index % len(_LAYER_COLOURS)],
        "ls": _LAYER_DASHES[index // len(_LAYER_COLOURS) % len(_LAYER_DASHES)],
    }


def _plain(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
