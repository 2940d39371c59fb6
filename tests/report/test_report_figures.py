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


def test_what_is_measured_now_and_then_is_dots_joined_by_a_line() -> None:
    measured = {2: 0.5, 5: NAN, 8: 0.25, 11: 0.125}
    records = [
        EpochRecord(n, n + 1, {}, {"loss": 1.0} | ({"val_score": measured[n]} if n in measured else {}))
        for n in range(12)
    ]
    figure = training_figures(records)["Terms"]
    (axis,) = figure.axes
    assert titles(figure) == ["val_score"]
    drawn, dots = (line.get_xydata() for line in axis.get_lines()[:2])
    np.testing.assert_array_equal(drawn, [[2, 0.5], [5, NAN], [8, 0.25], [11, 0.125]])  # NaN is a gap, absence is not
    np.testing.assert_array_equal(dots, [[2, 0.5], [8, 0.25], [11, 0.125]])
    assert axis.get_xlim() == (-0.5, 11.5)
    png(figure)


def with_weights(**weights: list[float]) -> list[EpochRecord]:
    """Records of an objective with a term, and a loss that is 1."""
    columns = [dict(zip(weights, values, strict=True)) for values in zip(*weights.values(), strict=True)]
    return [EpochRecord(n, n, controls, {"loss": 1.0, "spec": 2.0}) for n, controls in enumerate(columns)]


def dashed_at(axis) -> list[float]:
    """Where the axis has the marks of a warm-up's end."""
    where = axis.get_xaxis_transform()
    return [line.get_xdata()[0] for line in axis.get_lines() if line.get_transform() == where and line.is_dashed()]


def test_the_end_of_a_warm_up_is_marked_in_loss_and_terms() -> None:
    ramps = {"lambda_spec": [0.0, 0.5, 0.995, 1.0, 1.0], "lambda_env": [1.0, 2.0, 4.0, 4.0, 4.0]}
    figures = training_figures(with_weights(**ramps, lambda_tf=[1.0] * 5, horizon=[1, 2, 3, 3, 3]))
    for title in ("Loss", "Terms"):
        assert [epoch for epoch in dashed_at(figures[title].axes[0]) if epoch != 0] == [2.0]
        assert "Dashed: full size of lambda_spec in epoch 2, lambda_env in epoch 2." in figures[title].get_label()
    assert "end of warm-up" in texts(figures["Loss"])
    assert [text.get_text() for text in figures["Terms"].legends[0].get_texts()] == ["end of warm-up"]
    png(figures["Terms"])


@pytest.mark.parametrize(
    "weight",
    [
        [1.0, 1.0, 1.0, 1.0],  # constant
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.3, 0.6, 1.0],  # still growing
        [1.0, 0.5, 0.2, 0.2],  # falling
        [0.2, 1.0, 0.4, 1.0],  # drawn anew
        [0.999, 1.0, 1.0, 1.0],  # no growth to speak of
        [-1.0, 1.0, 1.0, 1.0],
        [0.0, NAN, 1.0, 1.0],
        [0.0, INF, INF, INF],
    ],
)
def test_a_weight_that_does_not_ramp_has_no_mark(weight: list[float]) -> None:
    figure = training_figures(with_weights(lambda_spec=weight))["Loss"]
    assert "end of warm-up" not in texts(figure)
    assert "Dashed" not in figure.get_label()


def test_a_weight_that_some_epochs_lack_has_no_mark() -> None:
    records = with_weights(lambda_spec=[0.0, 0.5, 1.0, 1.0])
    records[1] = EpochRecord(1, 1, {}, {"loss": 1.0})
    assert "end of warm-up" not in texts(training_figures(records)["Loss"])
