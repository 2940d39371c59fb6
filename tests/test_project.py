"""The project keeps its own promises: the front door, the documentation and its examples."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import griffe
import jax
import pytest
from mkdocstrings import Inventory, InventoryItem

import hardgrad as hg

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "hardgrad"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_docs = _tool("check_docs")


# ---------------------------------------------------------------------------- the front door


@pytest.mark.parametrize("name", sorted(hg._HOME))
def test_every_name_of_the_front_door_is_the_one_of_its_package(name: str) -> None:
    home = importlib.import_module(f"hardgrad.{hg._HOME[name]}")
    assert getattr(hg, name) is getattr(home, name)


@pytest.mark.parametrize("name", hg._PACKAGES)
def test_every_package_is_reached_from_the_front_door(name: str) -> None:
    assert getattr(hg, name) is importlib.import_module(f"hardgrad.{name}")


def test_type_checkers_and_users_see_the_same_names() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    (block,) = [n for n in tree.body if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    seen: dict[str, str | None] = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            assert alias.name == alias.asname
            seen[alias.name] = node.module
    assert seen == {**hg._HOME, **dict.fromkeys(hg._PACKAGES)}


def test_no_name_stands_in_two_packages() -> None:
    names = [name for group in hg._NAMES.values() for name in group]
    assert len(names) == len(set(names))


def test_dir_lists_names_packages_and_version() -> None:
    assert set(dir(hg)) == {*hg._HOME, *hg._PACKAGES, "__version__"}


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="module 'hardgrad' has no attribute 'Trainr'") as caught:
        hg.Trainr  # noqa: B018
    # From these two Python adds "Did you mean: 'Trainer'?".
    assert caught.value.name == "Trainr"
    assert caught.value.obj is hg


def _loaded_after(code: str) -> set[str]:
    script = f"import sys; {code}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, check=True
    )
    return set(done.stdout.decode().split())


def test_importing_the_package_or_the_command_line_does_not_import_jax() -> None:
    assert not _loaded_after("import hardgrad") & {"jax", "numpy", "equinox"}
    assert "jax" not in _loaded_after("import hardgrad.cli")


def test_the_package_names_its_own_licence_and_entry_point() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "MIT"
    module, _, function = project["scripts"]["hardgrad"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


def test_every_dependency_has_a_tested_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(r for g in project["optional-dependencies"].values() for r in g)]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+", line) for line in lines)

    def normal(requirement: str) -> str:
        return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=! ]", requirement)[0]).lower()

    missing = {normal(r) for r in wanted} - {normal(line) for line in lines} - {"hardgrad"}
    assert not missing


# ---------------------------------------------------------------------------- the documentation


def test_every_public_name_has_a_docstring() -> None:
    assert check_docs.undocumented(SOURCE) == []


def test_every_public_package_has_a_page_and_every_page_is_in_the_navigation() -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "api").glob("*.md"))}
    shown = {name for text in pages.values() for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)}
    packages = {name for name, _ in check_docs.public_packages(SOURCE)} - {"hardgrad"}
    assert shown == packages
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [path.name for path in pages if f"api/{path.name}" not in navigation] == []


def test_the_api_page_lists_exactly_the_names_of_the_front_door() -> None:
    text = (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[`(\w+)`\]\[([\w.]+)\] \|", text, re.MULTILINE)
    assert sorted(listed) == sorted((name, f"hardgrad.{home}.{name}") for name, home in hg._HOME.items())


def test_the_gallery_shows_every_recipe_as_its_runs_were() -> None:
    tool = ROOT / "tools" / "gallery.py"
    done = subprocess.run([sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folder = ROOT / "docs" / "gallery"
    shown = re.findall(r"\]\(([\w-]+\.png)\)", (folder / "index.md").read_text(encoding="utf-8"))
    assert {*shown, "overview.png"} == {path.name for path in folder.glob("*.png")}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package in which some names are documented and some are not."""
    source = tmp_path / "sample"
    (source / "inner").mkdir(parents=True)
    (source / "_hidden").mkdir()
    (source / "_hidden" / "__init__.py").write_text("from ._x import NotPublic as NotPublic\n")
    (source / "__init__.py").write_text('"""Documented."""\nfrom .inner import Thing as Thing\n')
    (source / "inner" / "__init__.py").write_text(
        '"""Documented."""\n'
        "from os import path as path\n"
        "from ._code import bare as bare\n"
        "from ._code import helper\n"
        "from ._code import Thing as Thing\n"
        "from ._code import told as told\n"
        "from ._code import Number as Number\n"
        "from ._code import Bare as Bare\n"
        "from ._gone import Gone as Gone\n"
        "if TYPE_CHECKING:\n"
        "    from ._code import later as later\n"
    )
    (source / "inner" / "_code.py").write_text(
        "def bare(): ...\n\n"
        "def helper(): ...\n\n"
        'def told():\n    """Documented."""\n\n'
        'Number = int\n"""Documented."""\n\n'
        "Bare = float\n\n"
        "def later(): ...\n\n"
        'class Thing:\n    """Documented."""\n\n'
        '    def told(self):\n        """Documented."""\n\n'
        "    def silent(self): ...\n\n"
        "    def _private(self): ...\n\n"
        "    @property\n    def quiet(self): ...\n"
    )
    return source


def test_the_check_finds_public_names(package: Path) -> None:
    assert [name for name, _ in check_docs.public_packages(package)] == ["sample", "sample.inner"]
    names = ["bare", "Thing", "told", "Number", "Bare", "Gone", "later"]
    assert check_docs.public_names(package) == [f"sample.inner.{name}" for name in names]


def test_the_check_finds_names_that_come_by_way_of_a_private_room(tmp_path: Path) -> None:
    room = tmp_path / "whole" / "_room"
    room.mkdir(parents=True)
    (tmp_path / "whole" / "__init__.py").write_text('"""Documented."""\nfrom ._room import bare as bare\n')
    (room / "__init__.py").write_text("from ._code import bare as bare\n")
    (room / "_code.py").write_text("def bare(): ...\n")
    assert check_docs.public_names(tmp_path / "whole") == ["whole.bare"]
    assert check_docs.undocumented(tmp_path / "whole") == ["whole.bare"]


def test_the_check_names_what_has_no_docstring(package: Path) -> None:
    assert check_docs.undocumented(package) == [
        "sample.inner.bare",
        "sample.inner.Thing.silent",
        "sample.inner.Thing.quiet",
        "sample.inner.Bare",
        "sample.inner.Gone, which is imported from a place that does not have it",
        "sample.inner.later",
    ]


def test_the_check_names_what_stands_on_no_page(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    inventory = Inventory([InventoryItem("sample.inner.told", "py", "function", "api/inner.html#told")])
    (site / "objects.inv").write_bytes(inventory.format_sphinx())
    assert check_docs.main(["--source", str(package), "--site", str(site)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert "no docstring: sample.inner.bare" in said
    assert "on no page of docs/api: sample.inner.Thing" in said
    assert "on no page of docs/api: sample.inner.told" not in said


def test_the_check_passes_when_nothing_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "whole"
    source.mkdir()
    (source / "__init__.py").write_text('"""Documented."""\nfrom ._code import told as told\n')
    (source / "_code.py").write_text('def told():\n    """Documented."""\n')
    assert check_docs.main(["--source", str(source)]) == 0
    assert "all 1 public names" in capsys.readouterr().out


def test_the_reference_shows_the_constructor_of_an_equinox_module(tmp_path: Path) -> None:
    (tmp_path / "modules.py").write_text(
        "from typing import Any, ClassVar\n"
        "import equinox as eqx\n\n"
        "class Sample(eqx.Module):\n"
        "    table: ClassVar[int] = 3\n"
        "    eps: Any = 1e-3\n"
        "    size: int = eqx.field(static=True, default=2)\n"
        "    parts: list = eqx.field(default_factory=list)\n"
        "    inner: int = eqx.field(init=False)\n"
    )
    extensions = griffe.load_extensions(_tool("griffe_hardgrad").Hardgrad)
    sample = griffe.load("modules", search_paths=[tmp_path], extensions=extensions)["Sample"]
    shown = [(parameter.name, str(parameter.default)) for parameter in sample.parameters]
    assert shown == [("self", "None"), ("eps", "0.001"), ("size", "2"), ("parts", "list()")]


# ---------------------------------------------------------------------------- examples


def _blocks(page: Path) -> list[tuple[int, str]]:
    """First line and code of each fenced block marked ``python``."""
    text = page.read_text(encoding="utf-8")
    fenced = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, block.start(1)), block[1]) for block in fenced]


@pytest.mark.parametrize("page", [p for p in PAGES if _blocks(p)], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_examples_run_in_order(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, code in _blocks(page):
        # Blank lines in front make a traceback point into the page.
        exec(compile("\n" * line + code, str(page), "exec"), namespace)


def test_the_pages_meant_to_have_examples_have_them() -> None:
    with_examples = {page.relative_to(ROOT).as_posix() for page in PAGES if _blocks(page)}
    assert {"README.md", "docs/index.md", "docs/tutorial.md", "docs/how-to/schedules.md"} <= with_examples


def test_a_model_of_ones_own_takes_under_twenty_lines() -> None:
    (_, code), *_ = _blocks(ROOT / "README.md")
    assert sum(bool(line.strip()) for line in code.splitlines()) < 20


def test_the_suite_runs_strictly() -> None:
    assert jax.device_count() == 2
    assert jax.config.jax_numpy_dtype_promotion == "strict"


def test_double_precision_is_on_inside_the_fixture(x64: None) -> None:
    assert jax.numpy.zeros(()).dtype == "float64"
