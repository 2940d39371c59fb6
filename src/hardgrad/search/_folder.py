"""A search on disk: what it compares, the table of candidates, their runs, and the winner."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..core import UsageError, dumps, number
from ..training import RunFolder
from ..training._held_folder import Folder
from ..training._storage import disk_errors, write_text
from ._candidates import Candidate, Goal
from ._standing import Standing, State, ranked

SCHEMA, VERSION = "hardgrad.search", 1


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a search compares, and how.

    Attributes:
        candidates: all of them.
        goal: what they are ranked by.
        cull_fraction: after which part of its epochs each is judged; 0 culls none.
        keep: how many go on then.
        engine: ``"vmap"``, ``"processes"``, ``"turn"``, or ``"auto"`` while it is not decided.
        settings: what whoever began the search wants to find again.
        kept: those that went on, once that is decided.
    """

    candidates: tuple[Candidate, ...]
    goal: Goal
    _: dataclasses.KW_ONLY
    cull_fraction: float = 0.0
    keep: int = 1
    engine: str = "vmap"
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    kept: tuple[int, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """The content of search.json."""
        return {"schema": SCHEMA, "version": VERSION, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, content: Any) -> Setup:
        """The setup that `as_json` wrote.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is not one.
        """
        if content["schema"] != SCHEMA or content["version"] != VERSION:
            raise ValueError(f"it has schema {content['schema']!r}, version {content['version']!r}")
        candidates = [
            Candidate(int(one["number"]), int(one["seed"]), int(one["epochs"]), dict(one["settings"]))
            for one in content["candidates"]
        ]
        if [one.number for one in candidates] != list(range(len(candidates))) or not candidates:
            raise ValueError("its candidates are not numbered from 0")
        goal = content["goal"]
        kept = content["kept"]
        return cls(
            candidates=tuple(candidates),
            goal=Goal(str(goal["metric"]), goal["mode"], tuple((str(name), mode) for name, mode in goal["ties"])),
            cull_fraction=float(content["cull_fraction"]),
            keep=int(content["keep"]),
            engine=str(content["engine"]),
            settings=dict(content["settings"]),
            kept=None if kept is None else tuple(int(one) for one in kept),
        )


class SearchFolder(Folder):
    """The files of one search; see the table in the documentation.

    Attributes:
        path: the folder.
    """

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> SearchFolder:
        """A new folder.

        Raises:
            UsageError: something is there already, or it can't be made.
        """
        folder = cls(path)
        with disk_errors(folder.path):
            folder.check_no_file()
            if folder.is_search():
                raise UsageError(
                    f"{folder.path} already holds a search, which stays untouched. Resume it "
                    f"(hardgrad resume {folder.path}), or give another folder."
                )
            if folder.path.is_dir() and any(folder.path.iterdir()):
                raise UsageError(f"{folder.path} already holds files, which stay untouched. Give another folder.")
            folder.candidates_path.mkdir(parents=True)
        return folder

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> SearchFolder:
        """An existing search.

        Raises:
            UsageError: there is none.
        """
        folder = cls(path)
        if not folder.is_search():
            raise UsageError(f"{folder.path} is not a search: it has no search.json.")
        return folder

    def is_search(self) -> bool:
        """Whether the folder holds a search."""
        return self.setup_path.is_file()

    @property
    def setup_path(self) -> Path:
        """What is compared, and how."""
        return self.path / "search.json"

    @property
    def table_path(self) -> Path:
        """A row a candidate."""
        return self.path / "search.csv"

    @property
    def winner_path(self) -> Path:
        """The manifest of the winner."""
        return self.path / "winner.json"

    @property
    def candidates_path(self) -> Path:
        """One run folder a candidate, named by its number."""
        return self.path / "candidates"

    def run(self, number: int) -> RunFolder:
        """The run of a candidate, which may not have begun."""
        return RunFolder(self.candidates_path / str(number))

    def log(self, number: int) -> Path:
        """What a candidate's process said, or the traceback of its failure."""
        return self.candidates_path / f"{number}.log"

    def read_setup(self) -> Setup:
        """What is compared, and how.

        Raises:
            UsageError: search.json is damaged.
        """
        content = self.read_json(self.setup_path)
        try:
            return Setup.from_json(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UsageError(f"{self.setup_path} is damaged ({type(error).__name__}: {error}).") from error

    def write_setup(self, setup: Setup) -> None:
        """Replace search.json at once.

        Raises:
            UsageError: JSON can't hold the settings.
        """
        try:
            text = dumps(setup.as_json(), indent=2) + "\n"
        except TypeError as error:
            raise UsageError(f"settings must be what JSON can hold: {error}.") from error
        write_text(self.setup_path, text)

    def write_table(self, standings: Iterable[Standing], goal: Goal) -> None:
        """Replace search.csv at once: a row a candidate, in the order of their numbers."""
        standings = list(standings)
        places = {one.candidate.number: place for place, one in enumerate(ranked(standings, goal), start=1)}
        settings = list(standings[0].candidate.settings)
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(_columns(settings, goal))
        for one in sorted(standings, key=lambda one: one.candidate.number):
            candidate = one.candidate
            rows.writerow(
                [
                    candidate.number,
                    candidate.seed,
                    *(_word(candidate.settings[name]) for name in settings),
                    one.state.value,
                    one.epochs,
                    _word(one.score),
                    *(_word(one.ties.get(name)) for name, _ in goal.ties),
                    _word(one.best_epoch),
                    one.seconds,
                    places[candidate.number],
                    f"candidates/{candidate.number}",
                    " ".join(one.message.split()),
                ]
            )
        write_text(self.table_path, text.getvalue())

    def read_table(self, setup: Setup) -> list[Standing]:
        """The candidates as they stand, in the order of their numbers; waiting where there is no table yet.

        Raises:
            UsageError: search.csv is damaged.
        """
        if not self.table_path.is_file():
            return [Standing(one) for one in setup.candidates]
        try:
            with open(self.table_path, encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            if len(rows) != len(setup.candidates):
                raise ValueError(f"{len(rows)} rows for {len(setup.candidates)} candidates")
            return [_standing(row, one, setup.goal) for row, one in zip(rows, setup.candidates, strict=True)]
        except (KeyError, TypeError, ValueError, OSError, csv.Error) as error:
            raise UsageError(f"{self.table_path} is damaged ({type(error).__name__}: {error}).") from error

    def read_winner(self) -> dict[str, Any] | None:
        """The manifest of the winner; None before there is one.

        Raises:
            UsageError: winner.json is damaged.
        """
        if not self.winner_path.is_file():
            return None
        content = self.read_json(self.winner_path)
        if not isinstance(content, dict) or not isinstance(content.get("candidate"), int):
            raise UsageError(f"{self.winner_path} is damaged: it names no candidate.")
        return {name: number(value) for name, value in content.items()}


def _columns(settings: list[str], goal: Goal) -> list[str]:
    """The columns of search.csv: those of settings and ties are as many as there are."""
    return [
        *("candidate", "seed"),
        *(f"settings.{name}" for name in settings),
        *("status", "epochs", "score"),
        *(name for name, _ in goal.ties),
        *("best_epoch", "seconds", "rank", "run", "message"),
    ]


def _word(value: Any) -> str:
    """A value as it stands in a cell: numbers in full precision, nothing for None."""
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _standing(row: Mapping[str, str], candidate: Candidate, goal: Goal) -> Standing:
    if int(row["candidate"]) != candidate.number:
        raise ValueError(f"a row of candidate {row['candidate']} in place of {candidate.number}")
    return Standing(
        candidate,
        State(row["status"]),
        int(row["epochs"]),
        score=float(row["score"]) if row["score"] else None,
        ties={name: float(row[name]) for name, _ in goal.ties if row[name]},
        best_epoch=int(row["best_epoch"]) if row["best_epoch"] else None,
        seconds=float(row["seconds"]),
        message=row["message"],
    )
