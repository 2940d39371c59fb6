"""``hardgrad matrix``: two cells from the command line, and again from what is kept."""

from __future__ import annotations

import json

from hardgrad.cli import main


def test_two_cells_of_a_smoke_run(tmp_path, capsys):
    out = tmp_path / "matrix"
    given = ["matrix", "--smoke", "--applications", "regression", "--methods", "autodiff,spsa", "--out", str(out)]
    assert main(given) == 0
    said = capsys.readouterr()
    assert max(map(len, said.out.splitlines())) <= 80
    assert "This is a smoke run" in said.out
    assert "At equal seconds" in said.out
    assert said.err.count("of trivial") == 2
    page = (out / "matrix.html").read_text()
    assert page.count("<img ") == 2
    assert "hardgrad matrix --applications regression --methods autodiff,spsa" in page
    assert b"<svg" in (out / "figures" / "at-equal-evaluations.svg").read_bytes()
    content = json.loads((out / "matrix.json").read_text())
    assert (content["budget"], content["seeds"]) == (300, [0, 1])
    assert not set(content["tuning"]) & set(content["seeds"])

    # What is left out is as it was; nothing is computed again.
    before = (out / "matrix.json").read_bytes()
    for again in (["matrix", "--out", str(out)], ["resume", str(out)]):
        assert main(again) == 0
        assert "of trivial" not in capsys.readouterr().err
        assert (out / "matrix.json").read_bytes() == before
    assert main(["resume", str(out), "--until", "3"]) == 2
    assert "--until is about a run; a matrix knows" in capsys.readouterr().err
    assert main(["report", str(out)]) == 2
    assert f"is a matrix; its page is {out / 'matrix.html'}" in capsys.readouterr().err
    assert main(["matrix", "--out", str(out), "--budget", "301"]) == 2
    assert "holds a matrix of other budget" in capsys.readouterr().err


def test_help_names_every_row_and_column(capsys):
    from hardgrad.zoo._matrix._names import APPLICATIONS, METHODS

    assert main(["matrix", "--help"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in (*APPLICATIONS, *METHODS))
