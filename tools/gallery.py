"""Makes docs/gallery/: each recipe's picture, command, figure and cost, from a full run of it.

A run is kept under ``--runs`` and not repeated while it is there. The page itself is written from
docs/gallery/gallery.json and the pictures beside it, so that ``--check`` needs no run.

Usage: python tools/gallery.py [--runs FOLDER] [--check] [RECIPE ...]
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from _overview import NEEDED, overview
from hardgrad.report._style import png
from hardgrad.training import RunFolder
from hardgrad.zoo import Entry, entries, find

ROOT = Path(__file__).resolve().parents[1]
GALLERY = ROOT / "docs" / "gallery"
_INTRODUCTION = """# Gallery

Every recipe with its picture, its command, its figure and what it costs. All are full runs at default settings, made by
`python tools/gallery.py`; the other pictures are in the report of a run, `hardgrad report FOLDER`.
"""
_APPLICATIONS = {
    "hypercausal": "Hypercausal prediction",
    "rational": "Rational models",
    "oscillators": "Oscillators that sing",
    "spiking": "Spiking networks",
}


def run_recipe(entry: Entry, folder: Path) -> None:
    """Run it as a user does, and note what that took.

    Raises:
        CalledProcessError: the run failed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "hardgrad", "run", entry.name, "--out", str(folder), "--quiet"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = {
        "seconds": time.perf_counter() - begin,
        "processor_seconds": after.ru_utime - before.ru_utime,
        "cores": os.cpu_count(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
    (folder / "cost.json").write_text(json.dumps(took) + "\n", encoding="utf-8")


def collect(entry: Entry, path: Path) -> dict[str, Any]:
    """What the gallery shows of a finished run; its first picture is written beside the page."""
    folder = RunFolder.open(path)
    title, figure = next(iter(entry.load().figures(folder).items()))
    GALLERY.mkdir(parents=True, exist_ok=True)
    (GALLERY / f"{entry.name}.png").write_bytes(png(figure))
    return {
        "headline": folder.read_json(folder.result_path)["headline"],
        "picture": title,
        **json.loads((path / "cost.json").read_text(encoding="utf-8")),
    }


def page(found: dict[str, Any], shown: Iterable[Entry]) -> Iterator[str]:
    """The page's lines."""
    yield _INTRODUCTION
    application = None
    for entry in shown:
        one = found[entry.name]
        if entry.application != application:
            application = entry.application
            yield f"## {_APPLICATIONS[application]}\n"
        yield f"### {entry.name}\n"
        yield f"{entry.summary}\n"
        yield f"![{entry.name}: {one['picture']}.]({entry.name}.png)\n"
        yield f"*{one['picture']}.* **{one['headline'].rstrip('.')}.**\n"
        yield f"```sh\nhardgrad run {entry.name}\n```\n"
        yield (
            f"Order {entry.order}, {entry.method}; {entry.architecture}. "
            f"Cost: {_duration(one['processor_seconds'])} of processor time, on {one['cores']} cores ({one['date']}).\n"
        )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def main(arguments: list[str] | None = None) -> int:
    """Make the gallery, or say whether the page is what its data make."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="those to run or read again; none: all")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "gallery", help="where the runs are kept")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if the page is out of date")
    options = parser.parse_args(arguments)
    data, written = GALLERY / "gallery.json", GALLERY / "index.md"
    found = json.loads(data.read_text(encoding="utf-8")) if data.is_file() else {}
    if not options.check:
        for entry in [find(name) for name in options.recipes] or entries():
            path = options.runs / entry.name
            if not (path / "cost.json").is_file():
                run_recipe(entry, path)
            found[entry.name] = collect(entry, path)
            data.write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    missing = [entry.name for entry in entries() if entry.name not in found]
    text = "\n".join(page(found, [entry for entry in entries() if entry.name in found]))
    if options.check:
        stale = [*missing, *(set(found) - {entry.name for entry in entries()})]
        if stale or written.read_text(encoding="utf-8") != text:
            print(f"{written} is out of date: python tools/gallery.py {' '.join(stale)}".rstrip(), file=sys.stderr)
            return 1
        return 0
    written.write_text(text, encoding="utf-8")
    if all((options.runs / name / "cost.json").is_file() for name in NEEDED):
        (GALLERY / "overview.png").write_bytes(png(overview(options.runs)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
