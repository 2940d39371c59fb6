"""What `SCMTrainer` may be given to minimise, as one objective."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Key

from ...core import Controls, Progress, UsageError
from .._algebra._targets import Targets
from .._losses._objective import SCMObjective
from .._losses._training_loss import SCMTrainingLoss
from .._policies import GradientPolicy, policy_scope
from ._batches import HeldOut
from ._config import TrainingConfig
from ._curriculum import check_terms

_OFFERED = ("tau", "inputs", "targets", "epoch", "global_step", "loss_weights", "semantic_targets")


class TrainingObjective(eqx.Module):
    """An objective in training and in validation.

    A `HeldOut` batch is evaluated with the control ``tau_eval`` for ``tau``; its ``tau_train`` is reported as
    ``tau_eval``.

    Attributes:
        objective: what is evaluated.
        policy: gradient policy of the layers inside, or None.
        takes_missing: whether labels may be missing.
        schedules: controls it reads besides thresholds and weights.
    """

    objective: Any
    policy: GradientPolicy | None = eqx.field(static=True, default=None)
    takes_missing: bool = eqx.field(static=True, default=True)
    schedules: tuple[tuple[str, Any], ...] = eqx.field(static=True, default=())

    def __call__(self, model: Any, batch: Any, controls: Controls, key: Key[Array, ""]) -> Any:
        """Loss, metrics, and the changed model where there is one."""
        held_out = isinstance(batch, HeldOut)
        if held_out:
            controls = {**controls, "tau": controls["tau_eval"]}
        with policy_scope(self.policy):
            found = self.objective(model, tuple(batch), controls, key)
        if held_out and isinstance(found, tuple) and isinstance(found[1], Mapping):
            metrics = {"tau_eval" if name == "tau_train" else name: value for name, value in found[1].items()}
            found = (found[0], metrics, *found[2:])
        return found


class GuideLoss(eqx.Module):
    """A loss of the guides, ``loss_fn(outputs, (Y_n, Y_d), **keywords)``, as a loss of `SCMObjective`.

    Attributes:
        loss_fn: returns a scalar, or a scalar and a dict of scalars worth recording.
        keywords: those of the offered ones that it names.
        weights: the names of its weights.
    """

    loss_fn: Any
    keywords: tuple[str, ...] = eqx.field(static=True)
    weights: tuple[str, ...] = eqx.field(static=True)

    def __call__(self, outputs: Any, targets: Targets, *, tau: Any, inputs: Any, controls: Controls) -> Any:
        """What the loss function returns."""
        offered = {
            "tau": tau,
            "inputs": inputs,
            "targets": _raw(targets),
            "epoch": controls.get("epoch"),
            "global_step": controls.get("global_step"),
            "loss_weights": {name: controls[f"lambda_{name}"] for name in self.weights},
            "semantic_targets": targets,
        }
        given = {name: offered[name] for name in self.keywords}
        return self.loss_fn(outputs, (targets.numerator, targets.denominator), **given)


def _raw(targets: Targets) -> Array:
    """The labels as they were: ±inf where ⊥ has a side, NaN where it has none or the label is missing."""
    numerator, side = jnp.asarray(targets.numerator), jnp.asarray(targets.orientation)
    infinite = jnp.where(side > 0, jnp.inf, -jnp.inf).astype(numerator.dtype)
    absent = jnp.where(side == 0, jnp.asarray(jnp.nan, numerator.dtype), infinite)
    return jnp.where(targets.finite, numerator, absent)


def as_objective(loss_fn: Any, config: TrainingConfig) -> TrainingObjective:
    """An objective from a combined loss, an objective, or a loss of the guides.

    Raises:
        UsageError: it is none of them, or there are weights for terms it does not have.
    """
    weights = tuple({**(config.loss_weights or {}), **_ramps(config)})
    combined = loss_fn.loss if isinstance(loss_fn, SCMObjective) else loss_fn
    if isinstance(combined, SCMTrainingLoss):
        check_terms(weights)
    if isinstance(loss_fn, SCMTrainingLoss):
        return TrainingObjective(SCMObjective(loss_fn, policy=config.gradient_policy, tau_infer=config.tau_infer))
    if isinstance(loss_fn, type) or not callable(loss_fn):
        raise UsageError(
            "loss_fn must be SCMTrainingLoss(...), an objective (model, batch, controls, key), or a function "
            f"loss_fn(outputs, (Y_n, Y_d), *, tau, ...); got {loss_fn!r}."
        )
    if isinstance(loss_fn, SCMObjective) or not _is_of_guides(loss_fn):
        return TrainingObjective(loss_fn, policy=config.gradient_policy)
    keywords = _keywords(loss_fn)
    if weights and "loss_weights" not in keywords:
        raise UsageError(f"there are weights for {', '.join(weights)}, but the loss does not take `loss_weights`.")
    counts: dict[str, Any] = {"epoch": _epoch, "global_step": _global_step}
    return TrainingObjective(
        SCMObjective(
            GuideLoss(loss_fn, keywords, weights),
            policy=config.gradient_policy,
            tau_train=config.tau_eval,
            tau_infer=config.tau_infer,
        ),
        takes_missing="semantic_targets" in keywords,
        schedules=tuple((name, count) for name, count in counts.items() if name in keywords),
    )


def _ramps(config: TrainingConfig) -> Mapping[str, Any]:
    return {} if config.loss_curriculum is None else config.loss_curriculum.ramps


def _epoch(progress: Progress) -> int:
    return progress.epoch


_epoch.per_epoch = True  # type: ignore[attr-defined]  # what a plan looks for


def _global_step(progress: Progress) -> int:
    """Counted from 1, as published."""
    return progress.step + 1


def _is_of_guides(loss_fn: Callable[..., Any]) -> bool:
    """Whether a function is ``(outputs, (Y_n, Y_d), ...)``: an objective has more arguments that are not offered."""
    parameters = list(inspect.signature(loss_fn).parameters.values())
    ordered = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(ordered) < 2 and not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise UsageError(f"loss_fn must take (outputs, (Y_n, Y_d)) or (model, batch, controls, key); got {loss_fn!r}.")
    return all(p.name in _OFFERED or p.default is not p.empty for p in ordered[2:]) and len(ordered) >= 2


def _keywords(loss_fn: Callable[..., Any]) -> tuple[str, ...]:
    """Those of the offered keywords that a function names, or all if it takes ``**``."""
    parameters = inspect.signature(loss_fn).parameters
    everything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return tuple(name for name in _OFFERED if everything or name in parameters)
