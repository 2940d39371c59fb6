"""What a training method needs to know, as data that docs, reports and tests all read."""

from __future__ import annotations

import dataclasses
import enum

BACKWARD_COSTS = 2
"""Forward evaluations that one backward pass is counted as."""


class Order(enum.Enum):
    """The information a method uses."""

    ZERO = "0"  # only values of the loss
    ONE = "1"  # derivatives, true or surrogate
    MIXED = "0+1"  # both
    LOCAL = "local"  # only what one unit can see
    TRANSFER = "transfer"  # train something easier, then convert


@dataclasses.dataclass(frozen=True)
class Contract:
    """What an estimator promises.

    Attributes:
        order: the information it uses.
        needs_key: whether it draws random numbers.
        fixed_evaluations: evaluations of the objective in one step, whatever the model's size.
        evaluations_per_parameter: further evaluations for each scalar parameter.
        backward_passes: reverse-mode passes in one step.
        bias: what its expectation differs from the true gradient by, in one phrase.
    """

    order: Order
    needs_key: bool
    fixed_evaluations: int
    evaluations_per_parameter: int = 0
    backward_passes: int = 0
    bias: str = "none"

    def evaluations(self, parameter_count: int) -> int:
        """Forward evaluations of the objective in one step for `parameter_count` scalars."""
        return self.fixed_evaluations + self.evaluations_per_parameter * parameter_count

    def work(self, parameter_count: int) -> int:
        """The same with backward passes, each counted as `BACKWARD_COSTS` forward evaluations."""
        return self.evaluations(parameter_count) + BACKWARD_COSTS * self.backward_passes
