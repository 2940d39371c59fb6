"""A plan: an ordered set of named schedules, evaluated together for each step.

A schedule is any function of `Progress` to a number. Schedules run on the host, in float64, before
the step; a later one may read what earlier ones set (``progress.controls["depth"]``) and what all of
them set in the previous epoch (``progress.previous["depth"]``). Both are evaluated on demand, so a
plan has no state and a resumed run sees the same controls. What it keeps are results it has computed
before, so that a schedule that builds on its own previous value costs one evaluation an epoch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from ..core import Progress, UsageError, did_you_mean, finite_number

Schedule = Callable[[Progress], Any]
"""``schedule(progress) -> number``. An attribute ``per_epoch = True`` promises that the value is the
same for all steps of an epoch, which saves evaluating it at each."""

Number: TypeAlias = float | int
"""A plain number. Written out, since a runtime type check of ``float`` refuses an int."""

_KEPT = 64  # evaluations a plan remembers: more than it ever looks back by recursion
_DEEPEST = 40  # epochs looked back by recursion, before they are computed forwards from epoch 0


@dataclasses.dataclass(frozen=True)
class Constant:
    """The same value throughout.

    Attributes:
        value: the value; an int or a bool stays one.

    Raises:
        UsageError: it is not a finite number.
    """

    value: Number
    per_epoch = True

    def __post_init__(self) -> None:
        if not isinstance(self.value, bool):
            finite_number("value", self.value)

    def __call__(self, progress: Progress) -> Number:
        """The value."""
        return self.value


@dataclasses.dataclass(frozen=True)
class Static:
    """Marks a schedule whose value decides a shape: a Python int, one compiled program for each.

    Attributes:
        schedule: a schedule of few distinct values, such as powers of two, or one number.

    Raises:
        UsageError: it is neither a number nor a function of progress.
    """

    schedule: Schedule | Number

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", _as_schedule("Static", self.schedule))

    def __call__(self, progress: Progress) -> int:
        """The value as a Python int.

        Raises:
            UsageError: it is not a whole number.
        """
        value = self.schedule(progress)  # type: ignore[operator]  # a function since __post_init__
        if not float(value).is_integer():
            raise UsageError(f"a static control must be a whole number, got {value!r} at step {progress.step}.")
        return int(value)

    @property
    def per_epoch(self) -> bool:
        """As the schedule inside says."""
        return bool(getattr(self.schedule, "per_epoch", False))


def _as_schedule(name: str, value: Any) -> Schedule:
    if isinstance(value, bool | int | float):
        return Constant(value)
    if callable(value):
        return value  # type: ignore[no-any-return]
    raise UsageError(f"the schedule '{name}' must be a number or a function of Progress, got {value!r}.")


class Plan:
    """Named schedules in order.

    Args:
        schedules: a schedule, or a plain number for a constant, under the control's name.

    Raises:
        UsageError: a value is neither a number nor a function of progress.

    Examples:
        >>> import hardgrad as hg
        >>> plan = hg.Plan(depth=hg.LinearDepth(1, 3, over=4), lr=lambda p: 0.1 / p.controls["depth"])
        >>> plan.at(hg.Progress(epoch=4, step=4, epochs=5))
        {'depth': 3, 'lr': 0.03333333333333333}
    """

    def __init__(self, **schedules: Schedule | Number):
        self.schedules = {name: _as_schedule(name, value) for name, value in schedules.items()}
        self._position = {name: position for position, name in enumerate(self.schedules)}
        self._known: dict[_Moment, dict[str, Any]] = {}
        self._looking_back = 0

    def __repr__(self) -> str:
        return f"Plan({', '.join(f'{k}={v!r}' for k, v in self.schedules.items())})"

    def at(self, progress: Progress) -> dict[str, Any]:
        """Every control at one step, by name."""
        moment = (progress.epoch, progress.step, progress.epochs, progress.steps_per_epoch)
        evaluation = _Evaluation(self, moment, {})
        return {name: evaluation[name] for name in self.schedules}

    @property
    def per_epoch(self) -> bool:
        """Whether no control changes within an epoch."""
        return all(getattr(s, "per_epoch", False) for s in self.schedules.values())

    @property
    def static_names(self) -> frozenset[str]:
        """The names of the static controls."""
        return frozenset(name for name, s in self.schedules.items() if isinstance(s, Static))

    def _look_back(self, moment: _Moment, name: str) -> Any:
        """One control at the end of an earlier epoch."""
        known = self._known.get(moment, {})
        if name in known:
            return known[name]
        depth = self._looking_back
        try:
            if depth < _DEEPEST:
                self._looking_back = depth + 1
            else:  # a long chain, as at the first look of a resumed run: each epoch after the one before
                for earlier in _ends_of_epochs_before(moment):
                    self._looking_back = 0
                    self._look_back(earlier, name)
            value = _Evaluation(self, moment, known)[name]
        finally:
            self._looking_back = depth
        self._known.pop(moment, None)  # the latest last, the oldest forgotten
        self._known[moment] = known
        if len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
        return value


_Moment = tuple[int, int, int, int | None]
"""Epoch, step, epochs, steps per epoch."""


def _end_of_previous_epoch(moment: _Moment) -> _Moment:
    epoch, step, epochs, steps_per_epoch = moment
    last = epoch * steps_per_epoch - 1 if steps_per_epoch else max(step - 1, 0)
    return epoch - 1, last, epochs, steps_per_epoch


def _ends_of_epochs_before(moment: _Moment) -> list[_Moment]:
    """Epoch 0 first."""
    moments = []
    while moment[0] > 0:
        moment = _end_of_previous_epoch(moment)
        moments.append(moment)
    return moments[::-1]


class _Evaluation(Mapping[str, Any]):
    """A plan at one step: each control computed when first asked for.

    To a schedule it shows the controls set before it, and no others.
    """

    __slots__ = ("context", "known", "limit", "plan")

    def __init__(self, plan: Plan, moment: _Moment, known: dict[str, Any]):
        self.plan, self.known, self.limit = plan, known, len(plan.schedules)
        previous = _Previous(plan, _end_of_previous_epoch(moment)) if moment[0] > 0 else None
        self.context = Progress(*moment, controls=self, previous=previous)

    def __getitem__(self, name: str) -> Any:
        position = self.plan._position.get(name)
        if position is None or position >= self.limit:
            raise UsageError(self._unavailable(name))
        if name not in self.known:
            outside, self.limit = self.limit, position
            try:
                self.known[name] = self.plan.schedules[name](self.context)
            finally:
                self.limit = outside
        return self.known[name]

    def _unavailable(self, name: str) -> str:
        names = list(self.plan.schedules)
        if name not in names:
            hint = did_you_mean(name, names)
            return f"a schedule reads the control '{name}', which the plan does not set. {hint}"
        reader = names[self.limit]
        if reader == name:
            return (
                f"the schedule '{name}' reads itself. The value of the epoch before is "
                f"progress.previous['{name}']; in epoch 0 progress.previous is None."
            )
        return (
            f"the schedule '{reader}' reads '{name}', which the plan sets later. "
            f"Name '{name}' first: Plan({name}=..., {reader}=...)."
        )

    def get(self, name: str, default: Any = None) -> Any:
        """The control, or `default` where it is not set before the reader."""
        if name not in self:
            return default
        return self[name]

    def __contains__(self, name: object) -> bool:
        return self.plan._position.get(name, self.limit) < self.limit  # type: ignore[call-overload,no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.plan.schedules)[: self.limit])

    def __len__(self) -> int:
        return self.limit


class _Previous(Mapping[str, Any]):
    """The controls of the previous epoch's last step."""

    __slots__ = ("moment", "plan")

    def __init__(self, plan: Plan, moment: _Moment):
        self.plan, self.moment = plan, moment

    def __getitem__(self, name: str) -> Any:
        if name not in self.plan.schedules:
            hint = did_you_mean(name, self.plan.schedules)
            raise UsageError(f"a schedule reads the previous '{name}', which the plan does not set. {hint}")
        return self.plan._look_back(self.moment, name)

    def get(self, name: str, default: Any = None) -> Any:
        """The control, or `default` where the plan has no such."""
        return self[name] if name in self.plan.schedules else default

    def __contains__(self, name: object) -> bool:
        return name in self.plan.schedules

    def __iter__(self) -> Iterator[str]:
        return iter(self.plan.schedules)

    def __len__(self) -> int:
        return len(self.plan.schedules)
