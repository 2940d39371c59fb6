"""What an estimator is: it turns an objective into a loss and a gradient."""

from __future__ import annotations

import abc
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, Key

from ._controls import Controls
from ._objective import LossFunction, Metrics
from ._order import Contract
from ._trees import Params


class Estimate(NamedTuple):
    """What an estimator found at one point.

    Attributes:
        loss: the objective at the point itself, a scalar.
        gradient: of the parameters' structure, shapes and dtypes: the direction in which the loss rises
            fastest. For a complex z = x + iy that is ∂L/∂x + i ∂L/∂y, the conjugate of what `jax.grad` gives.
        metrics: the objective's metrics at the point itself.
        diagnostics: what the estimator has to say about itself: a flat dict of scalars.
    """

    loss: Float[Array, ""]
    gradient: Params
    metrics: Metrics
    diagnostics: Metrics


class AbstractEstimator(eqx.Module):
    """Turns an objective into an `Estimate`. Pure: state in, state out."""

    @property
    @abc.abstractmethod
    def contract(self) -> Contract:
        """Order, cost and bias, as data."""

    @abc.abstractmethod
    def init(self, params: Params) -> Any:
        """The estimator's state before the first step; ``()`` for most."""

    @abc.abstractmethod
    def estimate(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Estimate, Any]:
        """Loss and gradient at `params`, and the next state.

        Args:
            loss_fn: ``loss_fn(params) -> (loss, metrics)``.
            params: any pytree of inexact arrays.
            state: what `init` or the last call returned.
            controls: the step's controls.
            key: the step's key; used only if the contract says so.
        """
