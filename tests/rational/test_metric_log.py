"""Metric records: the published form, strict JSON, nothing twice."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import rational_golden as golden

from hardgrad.core import UsageError
from hardgrad.rational import JsonlLogger, metric_log_record, read_jsonl


def metrics_of(case: Any) -> dict[str, Any]:
    """The metrics of a golden case; what stands there as ``tensor(2.5000)`` is an array here."""
    found: dict[str, Any] = {}
    for name, value in case["metrics"].items():
        tensor = value.startswith("tensor(")
        found[name] = jnp.float32(value[7:-1]) if tensor else float(value)
    return found


@pytest.mark.parametrize("case", golden.cases("metric_log_record"))
def test_the_published_record(case: Any) -> None:
    context = case["out"]["context"]
    place = {"phase": case["phase"], "step": case["step"], "epoch": case["epoch"], "context": context}
    record = metric_log_record(metrics_of(case), **place)
    assert record == case["out"]
    assert list(record)[:5] == ["schema_name", "schema_version", "record_type", "phase", "metrics"]


@pytest.mark.parametrize("case", golden.cases("jsonl_logger"))
def test_the_published_lines(case: Any, tmp_path: Path) -> None:
    (source,) = golden.cases("metric_log_record")
    logger = JsonlLogger(tmp_path / "deep" / "log.jsonl")
    logger(metric_log_record(metrics_of(source), phase="eval", step=1))
    logger({"z": math.nan, "a": 1})
    assert logger.path.read_text() == case["out"]["text"]
    assert read_jsonl(logger.path) == case["out"]["records"]


def test_arrays_and_text_have_a_form() -> None:
    values = {"one": np.ones((1, 1)), "many": np.array([[1.0, math.inf]]), "flag": np.bool_(True), "name": "a", "n": 3}
    assert metric_log_record(values, phase="eval")["metrics"] == {
        "one": 1.0,
        "many": [[1.0, None]],
        "flag": True,
        "name": "a",
        "n": 3,
    }


def test_what_has_no_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="phase must not be empty"):
        metric_log_record({}, phase="")
    with pytest.raises(UsageError, match="a record holds numbers, text and lists of them, not object"):
        metric_log_record({"x": object()}, phase="train")
    with pytest.raises(UsageError, match="not complex"):
        JsonlLogger(tmp_path / "log")({"x": 1j})
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": NaN}\n', "line 2 .* is not JSON: NaN is no number of JSON"),
        ('{"a": 1}\n{"a"', "line 2 .* is not JSON"),
        ("[1]\n", "line 1 .* is no JSON object"),
    ],
)
def test_reading_is_strict(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_jsonl(tmp_path / "log")
    with pytest.raises(UsageError, match="cannot be read"):
        read_jsonl(tmp_path / "none")


def test_a_line_separator_inside_text_is_no_end_of_line(tmp_path: Path) -> None:
    JsonlLogger(tmp_path / "log")({"note": "a\u2028b\x85c"})
    assert read_jsonl(tmp_path / "log") == [{"note": "a\u2028b\x85c"}]


def train(step: int) -> dict[str, Any]:
    return metric_log_record({"loss": 1.0 / step}, phase="train", step=step, epoch=0)


def test_a_resumed_run_writes_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "log"
    first = JsonlLogger(path)
    for step in (1, 2, 3):  # an earlier run that used the same file
        first(train(step))
    for step in (1, 2):
        first(train(step))
    with open(path, "a") as file:
        file.write('{"loss": 0.3')  # torn by a kill
    second = JsonlLogger(path)
    second.resume()
    for step in (2, 3, 4):
        second(train(step))
    assert [record["step"] for record in read_jsonl(path)] == [1, 2, 3, 1, 2, 3, 4]
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_resuming_without_a_file_is_beginning(tmp_path: Path) -> None:
    logger = JsonlLogger(tmp_path / "log")
    logger.resume()
    logger(train(1))
    assert [record["step"] for record in read_jsonl(logger.path)] == [1]
