"""A Griffe extension for the API reference: what Griffe cannot know about hardgrad's code.

* ``from ._file import Name as Name`` makes `Name` public. The packages keep code in private files and name
  what is public this way; Griffe reads an imported name as private unless told otherwise.
* An Equinox module is a dataclass without the decorator, so its constructor is made of its fields.
"""

from __future__ import annotations

import ast
from typing import Any

import griffe


class Hardgrad(griffe.Extension):
    """Marks re-exported names as public and gives Equinox modules their constructor."""

    def on_alias_instance(self, *, node: ast.AST | griffe.ObjectNode, alias: griffe.Alias, **kwargs: Any) -> None:
        """Called by Griffe for each imported name."""
        if isinstance(node, ast.ImportFrom) and any(n.name == n.asname == alias.name for n in node.names):
            alias.public = True

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        """Called by Griffe for each class whose members it has read."""
        bases = [str(base).rpartition(".")[2] for base in cls.bases]
        is_module = any(base == "Module" or base.startswith("Abstract") for base in bases)
        fields = [parameter for member in cls.attributes.values() if (parameter := _field(member))]
        if not is_module or not fields or "__init__" in cls.members:
            return
        this = griffe.Parameter("self", kind=griffe.ParameterKind.positional_or_keyword)
        init = griffe.Function("__init__", parameters=griffe.Parameters(this, *fields), returns="None")
        cls.set_member("__init__", init)


def _field(member: griffe.Attribute) -> griffe.Parameter | None:
    """The constructor's parameter for one attribute of an Equinox module; None if it is not a field."""
    if member.annotation is None or "property" in member.labels or "instance-attribute" not in member.labels:
        return None
    default = member.value
    if isinstance(default, griffe.ExprCall) and str(default.function).rpartition(".")[2] == "field":
        given = {a.name: a.value for a in default.arguments if isinstance(a, griffe.ExprKeyword)}
        if str(given.get("init")) == "False":
            return None
        factory = given.get("default_factory")
        default = f"{factory}()" if factory is not None else given.get("default")
    kind = griffe.ParameterKind.positional_or_keyword
    return griffe.Parameter(member.name, annotation=member.annotation, kind=kind, default=default)
