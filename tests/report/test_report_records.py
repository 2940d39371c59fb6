"""Records are read, sorted and thinned without losing what matters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from hardgrad.core import UsageError, dumps
from hardgrad.report._records import (
    MOST_POINTS,
    lowest_loss,
    metric,
    metric_names,
    runs_of,
    split_metrics,
    thin,
)
from hardgrad.training import EpochRecord, RunFolder

NAN, INF = math.nan, math.inf


def record(epoch: int, frozen: bool = False, **metrics: float) -> EpochRecord:
    return EpochRecord(epoch, epoch + 1, {}, metrics, frozen=frozen)


def test_every_epoch_of_a_run_is_loaded(run: RunFolder) -> None:
    records = list(run.records())
    assert [r.epoch for r in records] == list(range(12))
    assert [r.steps for r in records] == list(range(2, 26, 2))
    assert [r.metrics["skipped"] for r in records] == [0.0] * 4 + [1.0] + [0.0] * 7
    assert all(math.isfinite(r.metrics["loss"]) for r in records)  # a skipped step counts in no mean
    assert sum(r.frozen for r in records) == 2


def test_a_run_without_telemetry_has_no_records(tmp_path) -> None:
    assert list(RunFolder(tmp_path).records()) == []


@pytest.mark.parametrize(
    "line",
    [
        '{"kind": "epoch_end"}',
        "[1, 2]",
        '{"kind": "epoch_end", "epoch": 0, "step": 1, "frozen": 0, "controls": {}, "metrics": {"a": "x"}}',
        '{"kind": "epoch_end", "epoch": "0", "step": 1, "frozen": false, "controls": {}, "metrics": {}}',
        '{"kind": "epoch_end", "epoch": 0, "step": 1, "frozen": false, "controls": {}, "metrics": [1]}',
    ],
)
def test_a_damaged_record_is_a_sentence_that_names_the_file(tmp_path, line: str) -> None:
    (tmp_path / "telemetry.jsonl").write_text(line + "\n")
    with pytest.raises(UsageError, match=r"telemetry\.jsonl.* is damaged"):
        list(RunFolder(tmp_path).records())


def test_infinities_come_back_as_numbers(tmp_path) -> None:
    written = record(0, loss=INF, other=-INF)
    (tmp_path / "telemetry.jsonl").write_text(dumps({"kind": "epoch_end", **written.as_json()}) + "\n")
    assert list(RunFolder(tmp_path).records()) == [written]


def test_a_series_tells_a_gap_from_a_value_that_is_not_finite() -> None:
    found = metric([record(0, a=1.0), record(1), record(2, a=NAN), record(3, a=INF), record(4, a=1e300)], "a")
    np.testing.assert_array_equal(found.present, [True, False, True, True, True])
    np.testing.assert_array_equal(found.drawable, [1.0, NAN, NAN, NAN, NAN])
    np.testing.assert_array_equal(found.lost, [2, 3, 4])


def test_loss_comes_first_and_validation_follows_its_metric() -> None:
    names = metric_names([record(0, mae=1.0, loss=1.0, val_mae=1.0), record(1, val_loss=1.0, extra=1.0)])
    assert names == ["loss", "val_loss", "mae", "val_mae", "extra"]


def test_terms_and_diagnostics_of_a_real_run(run: RunFolder) -> None:
    assert split_metrics(list(run.records())) == (["mae"], ["clipped_norm", "gradient_norm"])


def test_without_validation_a_metric_that_frozen_epochs_lack_is_a_diagnostic() -> None:
    records = [record(0, loss=1.0, mae=1.0, probe=1.0), record(1, frozen=True, loss=1.0, mae=1.0)]
    assert split_metrics(records) == (["mae"], ["probe"])


def test_without_any_other_sign_the_name_decides() -> None:
    assert split_metrics([record(0, loss=1.0, mae=1.0, gradient_norm=1.0)]) == (["mae"], ["gradient_norm"])


def test_the_lowest_loss_is_finite_and_that_of_the_validation_where_there_is_one() -> None:
    assert lowest_loss([record(0, loss=NAN), record(1, loss=2.0), record(2, loss=-INF)]) == {
        "epoch": 1,
        "metric": "loss",
        "value": 2.0,
    }
    assert lowest_loss([record(0, loss=1.0, val_loss=5.0), record(1, loss=2.0, val_loss=4.0)])["epoch"] == 1
    assert lowest_loss([record(0, loss=NAN)]) is None
    assert lowest_loss([]) is None


def test_thinning_keeps_spikes_holes_and_ends() -> None:
    x = np.arange(20_000.0)
    y = np.sin(x / 500)
    y[7777], y[11_111], y[13_000] = 50.0, -50.0, NAN
    few_x, few_y = thin(x, y)
    assert len(few_x) <= 1.1 * MOST_POINTS
    assert {0.0, 7777.0, 11_111.0, 13_000.0, 19_999.0} <= set(few_x)
    assert np.all(np.diff(few_x) > 0)
    np.testing.assert_array_equal(few_y, y[few_x.astype(int)])


def test_a_short_line_is_left_alone() -> None:
    x = np.arange(float(MOST_POINTS))
    assert thin(x, x)[0] is x


def test_stretches_reach_half_an_epoch_to_either_side() -> None:
    flags = [True, True, False, True]
    assert runs_of(flags, np.array([3.0, 4.0, 5.0, 6.0])) == [(2.5, 2.0), (5.5, 1.0)]
