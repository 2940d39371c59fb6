"""Controls: what schedules set for one step, by name, and references to them.

Any number of an estimator or an optimiser may be a `Control` instead of a number; it is then
looked up when the step runs: ``CentralDifference(eps=control("eps"))``.
"""

from __future__ import annotations

import dataclasses
import keyword
from collections.abc import Mapping
from typing import Any

import jax

from ._errors import UsageError, did_you_mean

Controls = Mapping[str, Any]
"""Name to scalar: dynamic ones are arrays inside a step, static ones are Python ints."""


@dataclasses.dataclass(frozen=True)
class Control:
    """A reference to a control by name. Make one with `control`."""

    name: str


def control(name: str) -> Any:
    """A stand-in for a number that a schedule sets.

    Args:
        name: the name under which the plan holds the schedule.

    Returns:
        A `Control`; typed ``Any`` because it stands wherever a number may.
    """
    return Control(name)


@jax.tree_util.register_pytree_with_keys_class
class NamedControls(dict[str, Any]):
    """What an objective is given as its controls: a dict that says which control the plan lacks."""

    def __missing__(self, name: str) -> Any:
        """Refuse.

        Raises:
            UsageError: always.
        """
        hint = did_you_mean(name, self) if isinstance(name, str) else ""
        # `lambda` is a name like any other to a plan, but not to Python.
        plain = isinstance(name, str) and name.isidentifier() and not keyword.iskeyword(name)
        added = f"{name}=..." if plain else f'**{{"{name}": ...}}'
        raise UsageError(f"no control named '{name}' is set by the plan. {hint} Add it: Plan({added}).")

    def tree_flatten_with_keys(self) -> tuple[list[tuple[Any, Any]], tuple[str, ...]]:
        """For JAX: the values by name."""
        names = tuple(sorted(self))
        return [(jax.tree_util.DictKey(name), self[name]) for name in names], names

    @classmethod
    def tree_unflatten(cls, names: tuple[str, ...], values: Any) -> NamedControls:
        """For JAX."""
        return cls(zip(names, values, strict=True))


def resolve(value: Any, controls: Controls) -> Any:
    """`value` itself, or what the controls hold if it is a reference.

    Raises:
        UsageError: the plan has no such control.
    """
    return NamedControls(controls)[value.name] if isinstance(value, Control) else value
