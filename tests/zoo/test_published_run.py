"""`hypercausal-depth` against the published figures, and against a plain loop on other configurations."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import math
import pathlib
import random
import re

import pytest
from published import train

from hardgrad import zoo
from hardgrad.cli import main
from hardgrad.zoo._config import read_config

pytestmark = pytest.mark.optimised  # published to the last digit

GOLDEN = json.loads((pathlib.Path(__file__).parents[1] / "golden" / "hypercausal.json").read_text(encoding="utf-8"))
SEED = GOLDEN["config"]


def equal(found, expected, *, rtol=0.0, atol=0.0, where=""):
    """The same names and numbers; numbers within a tolerance, none by default."""
    if isinstance(expected, dict):
        assert set(found) == set(expected), where
        for name in expected:
            equal(found[name], expected[name], rtol=rtol, atol=atol, where=f"{where}.{name}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for i, value in enumerate(expected):
            equal(found[i], value, rtol=rtol, atol=atol, where=f"{where}[{i}]")
    elif isinstance(expected, float):
        assert math.isclose(found, expected, rel_tol=rtol, abs_tol=atol), (where, found, expected)
    else:
        assert found == expected, where


def change(**settings):
    config = copy.deepcopy(SEED)
    config.update(settings)
    return config


def signal(draw):
    return {
        "amp": draw.choice([0.2, 0.35, 0.5]),
        "fn": draw.choice(["sin", "cos"]),
        "omega": draw.choice([0.21, 0.35, 0.6]),
        "phase": round(draw.uniform(0.0, 1.5), 2),
    }


def random_config(seed, **settings):
    """Another configuration in the published form."""
    draw = random.Random(seed)
    channels, nodes = settings.pop("D"), settings.pop("N")
    config = change(
        D=channels,
        K=settings.pop("K", 5),
        T=settings.pop("T", 24),
        epochs=settings.pop("epochs", 7),
        nodes=[
            {"w": round(draw.uniform(0.8, 1.1), 3), "b": round(draw.uniform(-0.05, 0.05), 3), "span": 0.2 + 0.05 * i}
            for i in range(nodes)
        ],
        input_channels=[signal(draw) for _ in range(channels)],
    )
    if settings.pop("target", False):
        config["target_channels"] = [signal(draw) for _ in range(channels)]
        config["metric_channel"] = channels - 1
    return {**config, **settings}


CONFIGS = {
    "median, mad, falling depth": random_config(
        1,
        D=2,
        N=2,
        policy="median",
        coherence_mode="mad",
        depth_schedule={"start": 4, "end": 1, "epochs": 6},
        patience=9,
    ),
    "early stop on a target": random_config(2, D=5, N=4, target=True, base_lr=4.0, patience=1, epochs=9),
    "many futures, wide depth": random_config(
        3, D=4, N=3, K=12, depth_schedule={"start": 1, "end": 5, "epochs": 4}, patience=9, span_floor=0.15
    ),
    "an even number of futures, absolute errors": random_config(
        4, D=3, N=2, K=6, policy="median", task_loss="mae", target=True, patience=9, smape_eps=1e-3
    ),
    "other weights and coefficients": random_config(
        5,
        D=2,
        N=4,
        K=2,
        target=True,
        weights={"task": 0.5, "cons": 2.0, "coh": 0.7},
        consistency={"alpha": 0.1, "beta": 2.5},
        lr_depth_coef=1.0,
        lr_epoch_coef=0.0,
        eps_depth_coef=0.0,
        eps_epoch_coef=1.0,
        span_depth_coef=0.6,
        clip_thresholds=[{"depth_mean_below": 2.5, "max_norm": 0.3}, {"depth_mean_below": None, "max_norm": 1e9}],
        patience=9,
    ),
    "one step of time, stopped in a freeze": random_config(
        6, D=3, N=2, T=1, depth_schedule={"start": 3, "end": 1, "epochs": 4}, patience=0, base_lr=0.01
    ),
}


_plain = functools.cache(lambda name: train(CONFIGS[name]))


def plain(name):
    """What the plain loop makes of a configuration: computed once, a copy for each."""
    return copy.deepcopy(_plain(name))


def run_config(tmp_path, config, execution):
    path = tmp_path / "my.json"
    path.write_text(json.dumps(config))
    read = read_config(zoo.find("hypercausal-depth").load().config, path)
    given = ["run", "hypercausal-depth", "--config", str(path), "--out", str(tmp_path / "run"), "--quiet"]
    code = main([*given, "--execution", execution])
    assert code == 0
    assert len(read.nodes) == len(config["nodes"])
    return json.loads((tmp_path / "run" / "result.json").read_text())


def test_the_plain_loop_is_the_published_run():
    result = train(SEED)
    published = {name: GOLDEN["result"][name] for name in result}
    equal(result, published)


@pytest.mark.parametrize("name", CONFIGS)
def test_other_configurations_compiled(tmp_path, capsys, name):
    expected = plain(name)
    found = run_config(tmp_path, CONFIGS[name], "compiled")
    for ours, theirs in zip(found["epochs"], expected["epochs"], strict=True):
        assert set(ours) == set(theirs)
        raw = {k: theirs.pop(k) for k in list(theirs) if k.startswith("grad")}
        equal({k: ours.pop(k) for k in raw}, raw, atol=1e-10, rtol=1e-10)
        equal(ours, theirs, atol=1e-12)
    found["best"] = {k: found["best"][k] for k in expected["best"]}
    for part in ("best", "best_params", "metrics", "early_stopped_at", "final_states"):
        equal(found[part], expected[part], atol=1e-12, rtol=1e-12 if part == "metrics" else 0.0, where=part)


@pytest.mark.parametrize("name", CONFIGS)
def test_other_configurations_on_the_host_bit_by_bit(tmp_path, capsys, name):
    expected = plain(name)
    found = run_config(tmp_path, CONFIGS[name], "host")
    found["best"] = {k: found["best"][k] for k in expected["best"]}
    equal({part: found[part] for part in expected}, expected)


def test_the_configurations_reach_what_they_are_named_for():
    results = {name: plain(name) for name in CONFIGS}
    assert results["early stop on a target"]["early_stopped_at"] is not None
    stopped = results["one step of time, stopped in a freeze"]
    assert stopped["epochs"][stopped["early_stopped_at"]]["freeze"]
    assert [e["depths"][0] for e in results["median, mad, falling depth"]["epochs"]] == [4, 4, 3, 2, 2, 2, 1]
    assert any(e["freeze"] for e in results["many futures, wide depth"]["epochs"])


LONG = re.compile(r"\d\.\d{13,}(?:e[-+]\d+)?")


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """Stdout lines, stderr and folder of both executions."""
    found = {}
    for execution in ("compiled", "host"):
        folder = tmp_path_factory.mktemp("published") / execution
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            assert main(["run", "hypercausal-depth", "--out", str(folder), "--execution", execution]) == 0
        found[execution] = (out.getvalue().splitlines(), err.getvalue(), folder)
    return found


@pytest.mark.parametrize("execution", ["compiled", "host"])
def test_the_printed_run(printed, execution):
    ours, golden = printed[execution][0], GOLDEN["stdout_lines"]
    folder = printed[execution][2]
    assert len(ours) == len(golden)
    paths = {"Best parameters saved at: ": "best/best_params.json", "Telemetry JSONL → ": "telemetry.jsonl"}
    for line, published in zip(ours, golden, strict=True):
        start = next((p for p in paths if published.startswith(p)), None)
        if start:
            assert line == f"{start}{folder}/{paths[start]}"
            assert pathlib.Path(line.removeprefix(start)).is_file()
        elif execution == "host" or published.startswith("[Epoch"):
            assert line == published
        else:
            assert LONG.sub("#", line) == LONG.sub("#", published)
            for a, b in zip(LONG.findall(line), LONG.findall(published), strict=True):
                assert abs(float(a) - float(b)) <= 3e-16


def test_the_result_file_of_the_published_run(printed):
    for execution in ("compiled", "host"):
        result = json.loads((printed[execution][2] / "result.json").read_text())
        result["best"] = {k: result["best"][k] for k in GOLDEN["result"]["best"]}
        expected = {k: GOLDEN["result"][k] for k in ("epochs", "best", "best_params", "metrics", "final_states")}
        tolerance = 0.0 if execution == "host" else 1e-10
        equal({k: result[k] for k in expected}, expected, atol=tolerance)
        assert result["status"] == "completed"
        assert result["steps"] == result["epochs_completed"] == 16
        # Two evaluations a parameter and one at the point; frozen epochs only the last.
        assert result["objective_evaluations"] == 14 * 13 + 2


def test_the_best_parameters_file(printed):
    for execution in ("compiled", "host"):
        text = (printed[execution][2] / "best" / "best_params.json").read_text()
        found = json.loads(text)
        assert list(found) == list(GOLDEN["result"]["best_params"])
        equal(found, GOLDEN["result"]["best_params"], atol=0.0 if execution == "host" else 1e-15)
    assert text == json.dumps(GOLDEN["result"]["best_params"], indent=2)


def test_a_run_says_where_it_is(printed):
    _, said, folder = printed["compiled"]
    assert "completed: all 16 epochs done" in said
    assert f"run: {folder}    report: hardgrad report {folder}" in said
    assert "\r" not in said  # no bar where there is no terminal
