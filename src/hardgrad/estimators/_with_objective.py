"""An estimator on an objective of its own.

A differentiable stand-in is often trained in place of what counts: a simulator with soft contacts, a smoothed count of
errors. The part of a hybrid that needs no derivative can then look at what counts itself.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxtyping import Array, Key

from ..core import AbstractEstimator, Contract, Controls, Estimate, Loss, LossFunction, Params, UsageError
from ._combine import check_estimator


class WithObjective(AbstractEstimator):
    """Estimates the gradient of another objective, on the step's own batch, controls and key.

    Its loss is also reported as the diagnostic ``own_loss``. The usual place is inside `Hybrid`, whose two parts
    otherwise see the same objective.

    Attributes:
        estimator: the estimator.
        objective: ``objective(model, batch, controls, key) -> (loss, metrics)``.

    Raises:
        UsageError: the loss to be replaced is not one that the trainer bound to a batch.

    Examples:
        >>> import hardgrad as hg
        >>> def errors(model, batch, controls, key):
        ...     inputs, targets = batch
        ...     return (((inputs @ model) > 0) != targets).mean(), {}
        >>> estimator = hg.Hybrid(hg.Autodiff(), hg.WithObjective(hg.AntitheticNES(sigma=0.1), errors))
    """

    estimator: AbstractEstimator
    objective: Any

    def __check_init__(self) -> None:
        check_estimator("estimator", self.estimator)
        if not callable(self.objective):
            raise UsageError(f"objective must be a function (model, batch, controls, key), got {self.objective!r}.")

    @property
    def contract(self) -> Contract:
        """The estimator's."""
        return self.estimator.contract

    def init(self, params: Params) -> Any:
        """The estimator's state."""
        return self.estimator.init(params)

    def estimate(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Estimate, Any]:
        """What the estimator finds for the other objective."""
        if not isinstance(loss_fn, Loss):
            raise UsageError(
                "WithObjective puts its objective in the place of the trainer's, bound to the same batch. Here the "
                f"loss is a plain {type(loss_fn).__name__}: bind it with Loss(objective, rest, batch, controls, key)."
            )
        own = dataclasses.replace(loss_fn, objective=self.objective)
        found, state = self.estimator.estimate(own, params, state, controls=controls, key=key)
        return found._replace(diagnostics={**found.diagnostics, "own_loss": found.loss}), state
