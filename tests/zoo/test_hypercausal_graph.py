"""`hypercausal-graph`: what it says of its figures."""

from __future__ import annotations

import json

import pytest

from hardgrad.cli import main
from hardgrad.zoo.hypercausal_graph import _verdict


@pytest.mark.parametrize(
    ("auc", "recall", "said"),
    [
        (0.8, 0.5, "The alarm warns early ("),
        (0.8, 0.0, "does not warn early: it misses every jump ("),
        (0.5, 0.5, "does not warn early: no better than chance ("),
        (0.22, 0.0, "does not warn early: worse than chance ("),
    ],
)
def test_the_alarm_is_judged_by_both_figures(auc, recall, said):
    assert said in _verdict(auc, recall, 3)
    assert f"(ROC-AUC {auc:.2f} at 3 steps ahead, recall {recall:.2f})." in _verdict(auc, recall, 3)


def test_a_figure_that_says_nothing_is_marked(tmp_path, capsys):
    """The published MAPE divides by a target of zeros; it is printed as published."""
    assert main(["run", "hypercausal-graph", "--smoke", "--out", str(tmp_path / "run"), "--quiet"]) == 0
    said = capsys.readouterr()
    assert "MAPE (%): " in said.out
    note = "The target is 0 throughout, and MAPE divides by it: its figure says nothing."
    assert note in said.err
    assert note in json.loads((tmp_path / "run" / "result.json").read_text())["notes"]
