"""What a matrix compares, and its folder."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core import UsageError, number, whole_number
from ...training._held_folder import Folder
from ...training._storage import disk_errors, write_text
from ._names import APPLICATIONS, METHODS, check_application, check_method

SCHEMA, VERSION = "hardgrad.matrix", 1
FIRST_TUNING_SEED = 10_000
"""Settings are chosen on seeds from here on, which are never reported."""


def _check_several(name: str, given: tuple[Any, ...]) -> None:
    if not given:
        raise UsageError(f"{name} is empty: give at least one.")
    twice = [one for i, one in enumerate(given) if one in given[:i]]
    if twice:
        raise UsageError(f"'{twice[0]}' stands twice in {name}.")


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is compared.

    Attributes:
        applications: columns.
        methods: rows.
        seeds: that are reported, each below 10,000.
        tuning_seeds: how many settings are chosen on.
        budget: evaluations of every cell.
        rows: settings that each method chooses from, 2, 3 or 6.
        smoke: programs that are quick to compile instead of quick, and little care with time: not for reading figures.

    Raises:
        UsageError: a value out of range, an unknown name, or one that stands twice.
    """

    applications: tuple[str, ...] = APPLICATIONS
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = tuple(range(12))
    tuning_seeds: int = 2
    budget: int = 3000
    rows: int = 6
    smoke: bool = False

    def __post_init__(self) -> None:
        for name, known in (("applications", check_application), ("methods", check_method)):
            given = getattr(self, name)
            for one in given:
                known(one)
            _check_several(name, given)
        _check_several("seeds", self.seeds)
        for seed in self.seeds:
            whole_number("seeds", seed, least=0)
            if seed >= FIRST_TUNING_SEED:
                raise UsageError(
                    f"seeds from {FIRST_TUNING_SEED} on are those that settings are chosen on; got {seed}. "
                    f"Report others: --seeds 0-11."
                )
        whole_number("tuning_seeds", self.tuning_seeds, least=1)
        whole_number("budget", self.budget, least=1)
        if self.rows not in (2, 3, 6):
            raise UsageError(f"rows must be 2, 3 or 6, of the six that every method has; got {self.rows!r}.")

    @property
    def chosen_on(self) -> tuple[int, ...]:
        """The tuning seeds."""
        return tuple(range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.tuning_seeds))

    @property
    def width(self) -> int:
        """Members that are trained side by side."""
        return 1 if self.smoke else min(12, len(self.seeds))

    @classmethod
    def from_json(cls, content: Any) -> Setup:
        """The setup in a folder's setup.json.

        Raises:
            UsageError: it is none.
        """
        try:
            if content["schema"] != SCHEMA or content["version"] != VERSION:
                raise UsageError(f"it has schema {content['schema']!r}, version {content['version']!r}.")
            return cls(
                applications=tuple(map(str, content["applications"])),
                methods=tuple(map(str, content["methods"])),
                seeds=tuple(map(int, content["seeds"])),
                tuning_seeds=int(content["tuning_seeds"]),
                budget=int(content["budget"]),
                rows=int(content["rows"]),
                smoke=bool(content["smoke"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"this is no setup of a matrix: {error}") from error


SMOKE = Setup(
    methods=tuple(name for name in METHODS if name not in ("forward", "spsa", "snes", "sep-cma-es")),
    seeds=(0, 1),
    tuning_seeds=1,
    budget=300,
    rows=2,
    smoke=True,
)
"""The smallest that still exercises every application and every kind of method."""


class MatrixFolder(Folder):
    """The files of a matrix.

    Attributes:
        path: the folder.
    """

    @property
    def setup_path(self) -> Path:
        """What is compared, on what, and since when."""
        return self.path / "setup.json"

    @property
    def matrix_path(self) -> Path:
        """Every figure."""
        return self.path / "matrix.json"

    @property
    def table_path(self) -> Path:
        """What was printed."""
        return self.path / "table.txt"

    def cell_path(self, application: str, method: str) -> Path:
        """A finished cell: settings, scores, seconds a step."""
        return self.path / "cells" / application / f"{method}.json"

    def equal_path(self, application: str, method: str) -> Path:
        """Its scores at equal seconds."""
        return self.path / "equal-seconds" / application / f"{method}.json"

    def is_matrix(self) -> bool:
        """Whether the folder holds a matrix."""
        return self.setup_path.is_file()

    def read_setup(self) -> Setup:
        """What is compared.

        Raises:
            UsageError: the folder holds no matrix, or its setup is damaged.
        """
        if not self.is_matrix():
            raise UsageError(f"{self.path} is no matrix: it has no setup.json.")
        try:
            return Setup.from_json(self.read_json(self.setup_path))
        except UsageError as error:
            raise UsageError(f"{self.setup_path}: {error}") from error

    def begin(self, setup: Setup, about: Mapping[str, Any]) -> None:
        """Make the folder, or check that what it holds is this matrix, begun before.

        Raises:
            UsageError: it holds something else.
        """
        with disk_errors(self.path):
            self.check_no_file()
            if self.is_matrix():
                before = self.read_setup()
                if before != setup:
                    differing = [
                        field.name
                        for field in dataclasses.fields(Setup)
                        if getattr(before, field.name) != getattr(setup, field.name)
                    ]
                    raise UsageError(
                        f"{self.path} holds a matrix of other {', '.join(differing)}. Leave the options out to go on "
                        "with it, or give another folder."
                    )
                return
            if self.path.is_dir() and any(self.path.iterdir()):
                raise UsageError(f"{self.path} already holds files, which stay untouched. Give another folder.")
            self.path.mkdir(parents=True, exist_ok=True)
        self.write_json(self.setup_path, {"schema": SCHEMA, "version": VERSION, **dataclasses.asdict(setup), **about})

    def kept(self, path: Path) -> dict[str, Any] | None:
        """What an earlier call has finished, or None.

        Raises:
            UsageError: it is damaged.
        """
        if not path.is_file():
            return None
        found = self.read_json(path)
        if not isinstance(found, dict):
            raise UsageError(f"{path} is damaged: delete it, and it is computed again.")
        read: dict[str, Any] = numbers(found)
        return read

    def keep(self, path: Path, content: Mapping[str, Any]) -> None:
        """Write what is finished, at once."""
        with disk_errors(path):
            os.makedirs(path.parent, exist_ok=True)
        self.write_json(path, content)

    def keep_text(self, path: Path, text: str) -> None:
        """Replace a text file at once."""
        write_text(path, text)


def numbers(value: Any) -> Any:
    """JSON that was read, with non-finite numbers in the place of the strings that stand for them."""
    if isinstance(value, dict):
        return {name: numbers(one) for name, one in value.items()}
    return number(value)
