"""The zoo: named, runnable recipes.

`entries` and `find` are light; the rest is imported when asked for.
"""

from typing import TYPE_CHECKING, Any

from ._registry import Entry as Entry
from ._registry import entries as entries
from ._registry import find as find

if TYPE_CHECKING:
    from ._launch import Launched as Launched
    from ._launch import RunInterrupted as RunInterrupted
    from ._launch import launch as launch
    from ._launch import recipe_of as recipe_of
    from ._launch import resume as resume
    from ._recipe import Conclusion as Conclusion
    from ._recipe import Experiment as Experiment
    from ._recipe import Recipe as Recipe
    from ._rescore import Rescored as Rescored
    from ._rescore import rescore as rescore
    from ._search import Found as Found
    from ._search import resume_search as resume_search
    from ._search import search as search
    from ._search import searched_recipe as searched_recipe

_LATER = {
    "Launched": "_launch",
    "RunInterrupted": "_launch",
    "launch": "_launch",
    "recipe_of": "_launch",
    "resume": "_launch",
    "Conclusion": "_recipe",
    "Experiment": "_recipe",
    "Recipe": "_recipe",
    "Rescored": "_rescore",
    "rescore": "_rescore",
    "Found": "_search",
    "resume_search": "_search",
    "search": "_search",
    "searched_recipe": "_search",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        import importlib

        return getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
