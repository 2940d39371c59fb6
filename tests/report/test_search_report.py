"""The report of a search: everyone in the table, everyone's curve, and nobody's files taken for markup."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from test_report_page import Page

from hardgrad.report import Curve, Table, write_search_report
from hardgrad.report._search_report import score_figure
from hardgrad.report._style import BLUE
from hardgrad.training import EpochRecord


def records(*values: float | None) -> list[EpochRecord]:
    return [EpochRecord(n, n + 1, {}, {} if value is None else {"val_score": value}) for n, value in enumerate(values)]


CURVES = [
    Curve("seed 0", records(0.1, 0.2, 0.3, 0.4)),
    Curve("seed 1", records(0.0, math.nan), culled=True),
    Curve("seed 2", records(0.2, None, 0.4, 0.5), won=True),
    Curve("seed 3", []),
]
TABLE = Table("Candidates", ["candidate", "status"], [[2, "finished ★"], [0, "finished"], [1, "culled"], [3, "failed"]])


def test_the_page(tmp_path: Path) -> None:
    path = write_search_report(
        tmp_path,
        title="<b>tiny</b>",
        metric="val_score",
        outcome="completed",
        reason="candidate 2 won.",
        curves=CURVES,
        table=TABLE,
        cull_epoch=2,
        settings={"recipe": "tiny", "config": {"width": 2}},
        commands=[("Report of the winner's run:", "hardgrad report x/candidates/2")],
    )
    page = Page(path)
    assert page.of("h1") == ["<b>tiny</b>"]
    assert page.badge == "completed"
    assert page.of("h2") == ["Candidates", "Scores", "Settings", "Go on"]
    assert "report of a search" in page.text
    assert {"finished ★", "culled", "failed"} <= set(page.of("td"))
    assert "val_score of 3 candidates over epochs, 1 of them culled after 2 epochs. The winner: seed 2, last 0.5." in (
        page.of("figcaption")
    )
    assert (tmp_path / "figures" / "val-score.png").is_file()
    assert not [
        attributes for _, attributes in page.elements if "src" in attributes and "data:" not in attributes["src"]
    ]


def test_the_winner_stands_out_and_the_culled_are_faint() -> None:
    figure = score_figure(CURVES, "val_score", 2)
    assert figure is not None
    (axis,) = figure.axes
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert lines["seed 2"].get_color() == BLUE
    assert lines["seed 1"].get_alpha() < lines["seed 0"].get_alpha() == lines["seed 2"].get_alpha() == 1.0
    assert list(lines["seed 2"].get_xdata()) == [0.0, 2.0, 3.0]  # measured now and then
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["the winner", "others", "culled"]


@pytest.mark.parametrize("curves", [[], [Curve("seed 0", [])], [Curve("seed 0", records(None, None))]])
def test_nothing_to_draw_yet(tmp_path: Path, curves: list[Curve]) -> None:
    assert score_figure(curves, "val_score", None) is None
    path = write_search_report(
        tmp_path,
        title="early",
        metric="val_score",
        outcome="still running",
        reason="Some candidates are not done.",
        curves=curves,
        table=TABLE,
    )
    page = Page(path)
    assert "Nothing to draw yet: no score has been found." in page.text
    assert page.of("h2") == ["Candidates", "Scores"]
