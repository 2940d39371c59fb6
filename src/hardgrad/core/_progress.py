"""Where a run stands: the argument of every schedule."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands at one step, counted from 0.

    Attributes:
        epoch: the present epoch.
        step: the present optimiser step, counted over the whole run.
        epochs: how many epochs the run was asked for.
        steps_per_epoch: steps in an epoch, or None while a stream's length is unknown.
        controls: the controls that earlier schedules of the plan have set for this step.
        previous: the controls of the previous epoch's last step, or of the step before while the
            length of an epoch is unknown; None in epoch 0.
    """

    epoch: int
    step: int
    epochs: int
    steps_per_epoch: int | None = None
    controls: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    previous: Mapping[str, Any] | None = None

    @property
    def total_steps(self) -> int | None:
        """Steps in the whole run, or None while unknown."""
        return None if self.steps_per_epoch is None else self.epochs * self.steps_per_epoch
