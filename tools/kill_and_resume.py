"""Kill a recipe's run at random moments, resume it, and compare it with a run that was never touched.

    python tools/kill_and_resume.py 20

Moments are drawn from a seed and spread over the whole life of the process: while it starts and compiles,
at any epoch, and while it winds up. The kill is SIGKILL: the process gets no chance to tidy. Equal must be
the telemetry, record by record but for `time`; the newest checkpoint's arrays; the best parameters; and
result.json but for `wall_seconds`. Exit code 1 if anything differs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time

_START, _END = 0.2, 0.9  # shares of the moments before the first epoch and after the last


def command(*arguments: str) -> list[str]:
    """The command line, by the Python that runs this."""
    return [sys.executable, "-m", "hardgrad", *arguments, "--quiet"]


def call(*arguments: str) -> None:
    """Run to the end."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed with {done.returncode}:\n{done.stderr}")


def content(run: pathlib.Path) -> dict[str, object]:
    """All that must be equal."""
    lines = (run / "telemetry.jsonl").read_text(encoding="utf-8").splitlines()
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    newest = max((run / "checkpoints").iterdir())
    return {
        "telemetry": [{k: v for k, v in json.loads(line).items() if k != "time"} for line in lines],
        **{f"result.{k}": v for k, v in result.items() if k != "wall_seconds"},
        "checkpoint": (newest.name, (newest / "arrays.safetensors").read_bytes()),
        "best": [(run / "best" / name).read_bytes() for name in ("arrays.safetensors", "best_params.json")],
    }


def size(path: pathlib.Path) -> int:
    """Of a file, 0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@dataclasses.dataclass
class Life:
    """How an uninterrupted run went: seconds before and after its epochs, and its telemetry's size."""

    before: float
    after: float
    telemetry: int


def live(arguments: list[str], run: pathlib.Path) -> Life:
    """Run to the end and watch."""
    log, began = run / "telemetry.jsonl", time.monotonic()
    process = subprocess.Popen(command(*arguments, "--out", str(run)), stdout=subprocess.DEVNULL)
    first = last = None
    while process.poll() is None:
        first = first or (time.monotonic() if size(log) else None)
        last = last or (time.monotonic() if (run / "result.json").exists() else None)
        time.sleep(0.001)
    ended = time.monotonic()
    if process.returncode or first is None or last is None:
        sys.exit(f"{' '.join(arguments)} failed with {process.returncode}")
    return Life(first - began, ended - last, size(log))


def kill(arguments: list[str], run: pathlib.Path, life: Life, moment: float) -> str:
    """Start the run, kill it at `moment` in [0, 1) of its life, and say where that was."""
    log = run / "telemetry.jsonl"
    process = subprocess.Popen(
        command(*arguments, "--out", str(run)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    if moment < _START:
        time.sleep(moment / _START * life.before)
    else:
        wanted = min((moment - _START) / (_END - _START), 1.0) * life.telemetry
        while size(log) < wanted and process.poll() is None:
            time.sleep(0.0005)
        time.sleep(max(0.0, (moment - _END) / (1.0 - _END)) * life.after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.returncode == 0:
        return "after its end"
    epochs = log.read_bytes().count(b'"epoch_end"') if log.exists() else 0
    torn = " in a line" if log.exists() and not log.read_bytes().endswith(b"\n") else ""
    saved = [p.name for p in (run / "checkpoints").glob("*")]
    newest = max((int(name) for name in saved if name.isdigit()), default=0)
    half = ", a checkpoint half written" if any(name.endswith(".tmp") for name in saved) else ""
    if not (run / "config.json").exists():
        return "before the run began"
    return f"epoch {epochs}{torn}, checkpoint {newest}{half}"


def main() -> int:
    """Run the trial and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moments", type=int, help="how many kills")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", type=float, nargs=2, default=(0.0, 1.0), help="first and last moment, of a life of 1")
    parser.add_argument("--recipe", default="hypercausal-depth")
    parser.add_argument(
        "--options", default="--epochs 4000 --patience 10000", help="the recipe's; long enough for some checkpoints"
    )
    given = parser.parse_args()
    draw = random.Random(given.seed)
    first, last = given.only
    moments = [first + (last - first) * (i + draw.random()) / given.moments for i in range(given.moments)]
    arguments = ["run", given.recipe, *given.options.split()]
    failures = 0
    with tempfile.TemporaryDirectory() as place:
        root = pathlib.Path(place)
        live(arguments, root / "warm")  # so that what is timed below has its programs compiled
        life = live(arguments, root / "straight")
        expected = content(root / "straight")
        print(f"{'moment':>8}  {'killed at':<44}  then")
        for i, moment in enumerate(moments):
            run = root / f"killed{i}"
            where = kill(arguments, run, life, moment)
            if (run / "config.json").exists():
                call("resume", str(run))
            else:
                call(*arguments, "--out", str(run))
            found = content(run)
            differing = [name for name in expected if found.get(name) != expected[name]]
            failures += bool(differing)
            print(f"{moment:8.3f}  {where:<44}  {'differs: ' + ', '.join(differing) if differing else 'identical'}")
            sys.stdout.flush()
    print(f"{given.moments - failures} of {given.moments} identical")
    return 1 if failures else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
