"""Pictures of spiking runs: what is drawn is what was recorded, and files that are damaged are refused."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import safetensors.numpy

from hardgrad.core import UsageError
from hardgrad.training import EpochRecord, RunFolder
from hardgrad.zoo._spiking_report import membrane_figure, raster_figure, rates_figure, run_figures, spiking_figures
from hardgrad.zoo._spiking_traces import Trace, read_traces, traces_of, write_traces

pytest.importorskip("matplotlib")

TIME = 20


@pytest.fixture
def traces():
    """An input, a layer of which one unit is silent, and a readout that does not spike."""
    rng = np.random.default_rng(0)
    hidden = (rng.random((TIME, 6)) < np.linspace(0.0, 0.9, 6)).astype(np.float32)
    readout = rng.normal(size=(TIME, 3)).astype(np.float32)
    return [
        Trace("input", (rng.random((TIME, 8)) < 0.3).astype(np.float32)),
        Trace("hidden", hidden, rng.normal(size=(TIME, 6)).astype(np.float32), 1.5),
        Trace("readout", readout, readout),
    ]


@pytest.fixture
def folder(tmp_path):
    """A run of three epochs that measured its activity."""
    folder = RunFolder.create(tmp_path / "run")
    folder.config_path.write_text("{}")
    records = []
    for epoch in range(3):
        metrics = {
            "loss": 1.0,
            "silent_share.hidden": 0.5 - 0.1 * epoch,
            "saturated_units": 0.0,
            "firing_rate/hidden": 0.2,
            "val_firing_rate": 0.3,
        }
        records.append({"kind": "epoch_end", **EpochRecord(epoch, epoch + 1, {}, metrics).as_json()})
    folder.telemetry_path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_a_raster_has_a_tick_for_every_spike(traces):
    figure = raster_figure(traces)
    shown, hidden, readout = figure.axes
    for axis, trace in ((shown, traces[0]), (hidden, traces[1])):
        (line,) = axis.lines
        assert sorted(zip(*line.get_data(), strict=True)) == sorted(zip(*np.nonzero(trace.spikes), strict=True))
    assert hidden.get_title(loc="left") == "hidden: 6 units, 1 silent in this sample"
    (image,) = readout.images  # numbers that are no spikes, as shades
    assert np.array_equal(image.get_array(), traces[2].spikes.T)
    assert figure.get_label().startswith("Raster")


def test_membranes_go_from_the_busiest_unit_to_the_quietest(traces):
    axes = membrane_figure(traces[1:2], units=3).axes
    rates = traces[1].unit_rates
    shown = [int(axis.get_ylabel().split()[-1]) for axis in axes]
    assert shown[0] == np.argmax(rates)
    assert shown[-1] == 0  # never fires
    assert list(rates[shown]) == sorted(rates[shown], reverse=True)
    for axis, unit in zip(axes, shown, strict=True):
        membrane, threshold, spikes = axis.lines
        assert np.array_equal(membrane.get_ydata(), traces[1].voltages[:, unit])
        assert set(threshold.get_ydata()) == {1.5}
        assert np.array_equal(spikes.get_xdata(), np.nonzero(traces[1].spikes[:, unit])[0])
    assert len(membrane_figure(traces[1:2], units=99).axes) == 6


def test_rates_are_shares_of_units(traces):
    many = dataclasses.replace(traces[1], rates=np.array([0.0, 0.1, 0.1, 0.2, 0.5, 1.0]))
    axis = rates_figure([many]).axes[0]
    (outline,) = axis.patches
    values, edges, _ = outline.get_data()
    assert values.sum() == pytest.approx(1.0)
    assert values[0] == pytest.approx(1 / 6)
    assert edges[0] == 0.0
    assert edges[-1] >= 1.0
    assert "mean 0.317" in axis.get_legend().get_texts()[0].get_text()


def test_every_picture_there_is_something_for(traces, folder, tmp_path):
    assert spiking_figures([]) == {}
    assert list(spiking_figures(traces[:1])) == ["Spikes of one sample", "Firing rates"]
    write_traces(folder, traces)
    figures = run_figures(folder)
    assert list(figures) == [
        "Spikes of one sample",
        "Membranes of a few units",
        "Firing rates",
        "Activity while training",
    ]
    silent, saturated, rate = figures["Activity while training"].axes
    assert silent.lines[0].get_label() == "hidden"
    assert list(silent.lines[0].get_ydata()) == pytest.approx([0.5, 0.4, 0.3])
    assert list(saturated.lines[0].get_ydata()) == [0.0] * 3
    assert list(rate.lines[0].get_xdata()) == [0, 1, 2]
    assert [line.get_label() for line in (*saturated.lines, *rate.lines)] == ["training", "hidden", "validation"]
    for index, figure in enumerate(figures.values()):
        figure.savefig(tmp_path / f"{index}.png", dpi=40)
        assert (tmp_path / f"{index}.png").stat().st_size > 1000


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (300, 1)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_networks_that_are_silent_saturated_or_tiny(tmp_path, shape, value):
    spikes = np.full(shape, value)
    figures = spiking_figures([Trace("only", spikes, np.zeros(shape))], [(0, {"silent_share": 1.0 - value})])
    assert len(figures) == 4
    for figure in figures.values():
        figure.savefig(tmp_path / "figure.png", dpi=30)


def test_what_is_no_number_is_not_drawn():
    epochs = [(0, {"silent_share": float("nan"), "firing_rate": "Infinity", "silent_sharing": 1.0}), (1, {"loss": 2.0})]
    assert spiking_figures([], epochs) == {}


def test_traces_come_back_as_they_went(traces, folder):
    assert read_traces(folder) == []
    full = [dataclasses.replace(traces[1], rates=np.linspace(0, 1, 6, dtype=np.float32)), *traces]
    write_traces(folder, full)
    write_traces(folder, full)  # again, in their place
    assert not [path for path in folder.path.iterdir() if path.name.endswith(".tmp")]
    for ours, theirs in zip(read_traces(folder), full, strict=True):
        assert (ours.name, ours.threshold) == (theirs.name, theirs.threshold)
        for part in ("spikes", "voltages", "rates"):
            one, other = getattr(ours, part), getattr(theirs, part)
            assert (one is None) == (other is None)
            assert one is None or np.array_equal(one, other)


def test_traces_of_a_recorded_run():
    rng = np.random.default_rng(1)
    inputs, spikes = rng.random((4, TIME, 2, 2)), [(rng.random((4, TIME, 3)) < 0.5).astype(float)]
    voltages = [rng.normal(size=(4, TIME, 3))]
    given, cell = traces_of(inputs, spikes, voltages, sample=2)
    assert (given.name, cell.name) == ("input", "cell 0")
    assert np.array_equal(given.spikes, inputs[2].reshape(TIME, 4))
    assert np.array_equal(cell.spikes, spikes[0][2])
    assert np.array_equal(cell.voltages, voltages[0][2])
    assert np.allclose(cell.unit_rates, spikes[0].mean((0, 1)))
    assert [trace.name for trace in traces_of(inputs, spikes, voltages, names=["hidden"])] == ["input", "hidden"]
    with pytest.raises(UsageError, match="2 names for 1 cells"):
        traces_of(inputs, spikes, voltages, names=["a", "b"])


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"not this",
        lambda data: safetensors.numpy.save({"0.spikes": np.zeros((4, 2))}, metadata={"0.name": "no threshold"}),
        lambda data: safetensors.numpy.save(
            {"0.spikes": np.zeros(4), "0.threshold": np.ones(1)}, metadata={"0.name": "no units"}
        ),
        lambda data: safetensors.numpy.save({"0.spikes": np.zeros((4, 2))}, metadata={"other": "no name"}),
        lambda data: safetensors.numpy.save(
            {"0.spikes": np.zeros((4, 2)), "0.threshold": np.ones(2)}, metadata={"0.name": "two thresholds"}
        ),
    ],
)
def test_damaged_traces_are_refused(traces, folder, damage):
    write_traces(folder, traces)
    (path,) = folder.path.glob("*.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UsageError, match=r"is damaged .* Delete it to report without"):
        read_traces(folder)


def test_shapes_that_do_not_belong_together():
    spikes = np.zeros((5, 3))
    with pytest.raises(UsageError, match=r"spikes of 'x' must be \[time, units\], got shape \(5,\)"):
        Trace("x", np.zeros(5))
    with pytest.raises(UsageError, match="spikes of 'x'"):
        Trace("x", np.zeros((0, 3)))
    with pytest.raises(UsageError, match=r"voltages of 'x' must have shape \(5, 3\), got \(3, 5\)"):
        Trace("x", spikes, np.zeros((3, 5)))
    with pytest.raises(UsageError, match=r"rates of 'x' must have shape \(3,\), got \(5,\)"):
        Trace("x", spikes, rates=np.zeros(5))
