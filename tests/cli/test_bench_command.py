"""``hardgrad bench``: what it times, what it says, and that it leaves nothing behind."""

from __future__ import annotations

import json
import pathlib
import statistics

import pytest

from hardgrad import zoo
from hardgrad.cli import main
from hardgrad.core import UsageError
from hardgrad.zoo import _bench
from hardgrad.zoo._bench import bench


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("execution", ["compiled", "host"])
def test_figures_on_the_screen_and_in_a_file(capsys, execution):
    given = ["bench", "hypercausal-depth", "--patience", "99", "--execution", execution, "--json", "speed.json"]
    assert main(given) == 0
    said = capsys.readouterr()
    assert max(map(len, said.out.splitlines())) <= 80
    assert "all 16 epochs: about" in said.out
    assert said.err == "figures: speed.json\n"
    assert [path.name for path in pathlib.Path().iterdir()] == ["speed.json"]
    found = json.loads(pathlib.Path("speed.json").read_text())
    assert (found["schema"], found["recipe"], found["of"], found["steps"]) == (
        "hardgrad.bench",
        "hypercausal-depth",
        16,
        1,
    )
    assert len(found["epochs"]) == 15
    assert 2 * 6 - 2 < found["evaluations"] < 2 * 6  # central differences of 6 parameters, but for 2 epochs frozen
    assert found["epoch"] == statistics.median(found["epochs"])
    assert found["step_in_evaluations"] == pytest.approx(found["steps_alone"] / found["evaluation"])
    assert 0 < found["evaluation"] < found["first"]


def test_a_run_is_left_when_the_time_is_up(monkeypatch):
    config = zoo.find("song-coldstart").load()
    settings = config.config(**{**config.smoke, "birds": "source", "epochs": 50})
    found = bench("song-coldstart", settings, seconds=1e-9)
    assert len(found.epochs) == _bench._LEAST
    assert found.static == {"horizon": 512}
    assert found.of == 50
    assert found.steps == 2


def test_what_cannot_be_timed():
    config = zoo.find("hypercausal-graph").load()
    with pytest.raises(UsageError, match="epochs must be at least 3"):
        bench("hypercausal-graph", config.config(**{**config.smoke, "epochs": 2}))
    with pytest.raises(UsageError, match="seconds must be above 0, got nan"):
        bench("hypercausal-graph", config.config(), seconds=float("nan"))
