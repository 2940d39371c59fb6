"""Controls: what schedules set for one step, by name, and references to them.

Any number of an estimator or an optimiser may be a `Control` instead of a number; it is then
looked up when the step runs: ``CentralDifference(eps=control("eps"))``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

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


def resolve(value: Any, controls: Controls) -> Any:
    """`value` itself, or what the controls hold if it is a reference.

    Raises:
        UsageError: the plan has no such control.
    """
    if not isinstance(value, Control):
        return value
    if value.name not in controls:
        hint = did_you_mean(value.name, controls)
        raise UsageError(f"no control named '{value.name}' is set by the plan. {hint} Add it: Plan({value.name}=...).")
    return controls[value.name]
