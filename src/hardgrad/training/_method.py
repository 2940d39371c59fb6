"""A method: turns an objective into new parameters."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Float, Key

from ..core import AbstractEstimator, Contract, Controls, LossFunction, Metrics, Params, UsageError, global_norm
from ._transforms import optimizer_diagnostics


class Outcome(NamedTuple):
    """What a step found, besides the new parameters.

    Attributes:
        loss: the objective before the update.
        gradient: the estimated gradient, or None for a method that has none.
        metrics: the objective's metrics before the update.
        diagnostics: what estimator and optimiser say about the step: a flat dict of scalars.
    """

    loss: Float[Array, ""]
    gradient: Params | None
    metrics: Metrics
    diagnostics: Metrics


class AbstractMethod(eqx.Module):
    """Turns an objective into new parameters. Pure: state in, state out.

    Python floats of a method are traced, so that another value does not compile again.
    """

    @property
    @abc.abstractmethod
    def contract(self) -> Contract:
        """Order and cost of one step, as data."""

    @abc.abstractmethod
    def init(self, params: Params, *, key: Key[Array, ""]) -> Any:
        """The method's state before the first step."""

    @abc.abstractmethod
    def update(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Params, Any, Outcome]:
        """New parameters, new state, and what the step found."""


class GradientMethod(AbstractMethod):
    """An estimator of the gradient with an Optax optimiser.

    Attributes:
        estimator: such as `Autodiff` or `CentralDifference`.
        optimizer: any Optax transformation. It gets as extra arguments ``controls``, and ``value``,
            ``grad`` and ``value_fn`` for those that search along a line.

    Raises:
        UsageError: one of the two is something else.
    """

    estimator: AbstractEstimator
    optimizer: optax.GradientTransformation

    def __check_init__(self) -> None:
        if not isinstance(self.estimator, AbstractEstimator):
            raise UsageError(f"the estimator must be one, such as hg.Autodiff(); got {self.estimator!r}.")
        if not all(callable(getattr(self.optimizer, name, None)) for name in ("init", "update")):
            rate = self.optimizer if isinstance(self.optimizer, float) else "1e-2"
            raise UsageError(
                f"the optimizer must be an Optax transformation, such as optax.adam({rate}); got {self.optimizer!r}."
            )

    @property
    def contract(self) -> Contract:
        """The estimator's."""
        return self.estimator.contract

    def init(self, params: Params, *, key: Key[Array, ""]) -> Any:
        """States of the estimator and of the optimiser."""
        return self.estimator.init(params), self.optimizer.init(params)

    def update(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Params, Any, Outcome]:
        """Estimate, transform, apply."""
        estimator_state, optimizer_state = state
        estimate, estimator_state = self.estimator.estimate(
            loss_fn, params, estimator_state, controls=controls, key=key
        )

        def value_fn(params: Params, controls: Controls | None = None) -> Any:
            """Optax hands on the extra arguments by name, and refuses those that are not taken."""
            return loss_fn(params)[0]

        # Optax raises numbers to integer counts, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, optimizer_state = optax.with_extra_args_support(self.optimizer).update(
                estimate.gradient,
                optimizer_state,
                params,
                controls=controls,
                value=estimate.loss,
                grad=estimate.gradient,
                value_fn=value_fn,
            )
            new_params = optax.apply_updates(params, updates)
        diagnostics = {
            "gradient_norm": global_norm(estimate.gradient),
            **estimate.diagnostics,
            **optimizer_diagnostics(optimizer_state),
        }
        outcome = Outcome(estimate.loss, estimate.gradient, estimate.metrics, diagnostics)
        return new_params, (estimator_state, optimizer_state), outcome
