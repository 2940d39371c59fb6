"""The figures of a run: which there are, what is in them, and that none is too odd to draw."""

from __future__ import annotations

import math
import sys

import matplotlib
import numpy as np
import pytest

from hardgrad.core import MissingExtraError
from hardgrad.report import training_figures
from hardgrad.report._records import MOST_POINTS
from hardgrad.report._style import house_style, png
from hardgrad.training import EpochRecord, RunFolder

NAN, INF = math.nan, math.inf


def records_of(losses: list[float], **controls) -> list[EpochRecord]:
    return [EpochRecord(n, n + 1, controls, {"loss": value}) for n, value in enumerate(losses)]


def texts(figure) -> set[str]:
    entries = [legend.get_texts() for legend in [axis.get_legend() for axis in figure.axes] if legend]
    return {text.get_text() for group in entries for text in group}


def titles(figure) -> list[str]:
    return [axis.get_title(loc="left") for axis in figure.axes if axis.get_visible()]


def test_the_figures_of_a_real_run(run: RunFolder) -> None:
    best = {"epoch": 11, "metric": "val_mae", "value": 0.5}
    figures = training_figures(list(run.records()), best=best)
    assert list(figures) == ["Loss", "Terms", "Gradient", "Schedules"]
    said = {"training", "validation", "not finite", "frozen", "1 step skipped", "best val_mae: 0.5, epoch 11"}
    assert texts(figures["Loss"]) == said
    assert titles(figures["Terms"]) == ["mae"]
    assert titles(figures["Gradient"]) == ["gradient_norm"]
    # `weight` never changes, so it has no panel.
    flags = ["freeze (shaded: yes)", "breaks (shaded: yes)"]
    assert titles(figures["Schedules"]) == ["depth", "learning_rate", *flags]
    assert all(figure.get_label() for figure in figures.values())
    assert figures["Loss"].axes[0].get_xlabel() == "epoch"
    assert figures["Loss"].axes[0].get_ylabel() == "loss"


def test_no_epoch_has_no_figures() -> None:
    assert training_figures([]) == {}


def test_one_epoch_is_a_dot() -> None:
    figures = training_figures(records_of([0.5], depth=3))
    assert list(figures) == ["Loss"]
    (axis,) = figures["Loss"].axes
    assert any(line.get_marker() == "o" and list(line.get_xdata()) == [0.0] for line in axis.get_lines())
    png(figures["Loss"])


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([1.0, 0.01], "log"),
        ([1.0, 0.2], "linear"),
        ([1.0, 0.01, -0.01], "linear"),
        ([1.0, 0.01, 0.0], "linear"),
        ([1.0, 0.01, NAN, INF], "log"),
        ([NAN, INF], "linear"),
        ([1e-310, 1.0], "linear"),
    ],
)
def test_the_scale_is_logarithmic_only_for_positive_values_over_a_decade(losses, expected) -> None:
    figure = training_figures(records_of(losses))["Loss"]
    assert figure.axes[0].get_yscale() == expected
    png(figure)


def test_values_that_are_not_finite_are_gaps_and_marked() -> None:
    axis = training_figures(records_of([1.0, NAN, 2.0, INF, 3.0]))["Loss"].axes[0]
    line = next(line for line in axis.get_lines() if line.get_label() == "training")
    np.testing.assert_array_equal(line.get_ydata(), [1.0, NAN, 2.0, NAN, 3.0])
    marks = next(line for line in axis.get_lines() if line.get_marker() == "^")
    assert list(marks.get_xdata()) == [1.0, 3.0]


def test_the_best_epoch_is_the_lowest_where_none_is_given() -> None:
    figure = training_figures(records_of([3.0, 1.0, 2.0]))["Loss"]
    ring = next(line for line in figure.axes[0].get_lines() if line.get_markerfacecolor() == "none")
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([1.0], [1.0])


def test_thousands_of_epochs_become_a_line_of_few_points() -> None:
    records = [
        EpochRecord(n, n, {"flip": n % 2 == 0, "lr": 0.999**n}, {"loss": 1 / (n + 1)}, frozen=n % 2 == 0)
        for n in range(5000)
    ]
    figures = training_figures(records)
    for figure in figures.values():
        assert all(len(line.get_xdata()) <= 1.1 * MOST_POINTS for axis in figure.axes for line in axis.lines)
    png(figures["Loss"])


def test_the_control_lines_are_steps_and_odd_controls_are_left_out() -> None:
    controls = [{"depth": 1, "mode": "a", "odd": [1]}, {"depth": 2, "mode": "b", "odd": [2]}, {"depth": None}]
    records = [EpochRecord(n, n, control, {"loss": 1.0}) for n, control in enumerate(controls)]
    figure = training_figures(records)["Schedules"]
    assert titles(figure) == ["depth"]
    assert figure.axes[0].get_lines()[0].get_drawstyle() == "steps-mid"


@pytest.mark.parametrize("name", ["$\\frac{", "$x$", "_hidden", "a\nb", "误差", "\ud800", "x" * 500, "<b>"])
def test_any_name_can_be_drawn(name: str) -> None:
    metrics = [{"loss": 1.0, name: 1.0, f"val_{name}": 2.0, "val_loss": 1.0} for _ in range(2)]
    records = [EpochRecord(n, n, {name: n}, each) for n, each in enumerate(metrics)]
    best = {"epoch": 0, "metric": name, "value": 1.0}
    for figure in training_figures(records, best=best).values():
        assert png(figure).startswith(b"\x89PNG")


def test_many_terms_stay_one_page_and_say_so() -> None:
    metrics = {"loss": 1.0, **{f"term{n}": 1.0 for n in range(20)}}
    figure = training_figures([EpochRecord(0, 1, {}, metrics)])["Terms"]
    assert len(figure.axes) == 16
    assert figure.get_label().endswith("; 4 more are in the telemetry.")


def test_the_users_settings_and_backend_are_left_alone() -> None:
    before = dict(matplotlib.rcParams)
    with house_style():
        assert matplotlib.rcParams["legend.frameon"] is False
    training_figures(records_of([1.0, 2.0]))
    assert dict(matplotlib.rcParams) == before


def test_a_missing_matplotlib_is_a_sentence_with_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hardgrad\[plots\]'"):
        training_figures(records_of([1.0]))
