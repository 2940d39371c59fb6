"""`kill -9` of a search in a process of its own, then resume: the same winner with the same figures, to the bit."""

from __future__ import annotations

import pathlib
import subprocess
import sys
import time

import pytest
import searching
from test_search import newest, table

from hardgrad.search import SearchFolder
from hardgrad.training import RunFolder

PROGRAM = pathlib.Path(searching.__file__)


def epochs(path, number):
    """Epochs that a candidate's telemetry tells of."""
    telemetry = RunFolder(path / "candidates" / str(number)).telemetry_path
    return telemetry.read_bytes().count(b'"epoch_end"') if telemetry.exists() else 0


def finish(engine, path, **given):
    """The search without pauses, in this process."""
    searching.look(searching.ENGINES[engine](searching.train), path, **given)


@pytest.fixture(scope="module", params=["vmap", "turn"])
def straight(request, tmp_path_factory):
    """Engine and folder of a search that was never stopped."""
    path = tmp_path_factory.mktemp("straight") / "search"
    finish(request.param, path)
    return request.param, path


@pytest.mark.parametrize("seconds", ["first", "last"])
def test_killed_half_way(tmp_path, straight, seconds):
    """Before anyone is culled, and after."""
    engine, expected = straight
    path = tmp_path / "search"
    winner = SearchFolder(expected).read_winner()["candidate"]
    wanted = 3 if seconds == "first" else 9
    process = subprocess.Popen([sys.executable, str(PROGRAM), engine, str(path), "0.03"], stdout=subprocess.DEVNULL)
    while process.poll() is None and epochs(path, winner) < wanted:
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (path / "winner.json").exists()
    states = {row["status"] for row in table(path)}
    assert ("culled" in states) == (seconds == "last")
    finish(engine, path, resume=True)
    assert SearchFolder(path).read_winner()["score"] == SearchFolder(expected).read_winner()["score"]
    assert table(path) == table(expected)
    for number in range(4):
        assert newest(path, number) == newest(expected, number)
        assert epochs(path, number) == epochs(expected, number)
