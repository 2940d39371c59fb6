"""The objective of rational models: a loss of what they emit, gradient policies on the way back, and the masks that
a strict decision would give at this point of training.

    loss      `SCMTrainingLoss` of (P, Q), or any function of outputs and targets
    policy    acts where the outputs are ⊥: |Q| below the training threshold, 0 or not finite

Metric names are those of the published trainer; ``strict_...`` are ours: the decision at `tau_infer` against the
labels, which the published trainer never takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, PyTree

from ...core import Controls, Metrics, UsageError
from .._algebra._targets import Targets, lift_targets
from .._decisions._decode import InferenceConfig, strict_inference
from .._policies import OUTPUT_LAYER, GradientPolicy, check_policy, current_policy, in_scope, policy_scope, with_policy
from .._shapes import align, append_axes, loss_dtype
from ._coverage import batch_coverage, bottom_of
from ._losses import check_static
from ._training_loss import LAMBDAS, SCMTrainingLoss

_DEFAULT_TAU = 1e-4


class SCMObjective(eqx.Module):
    """What `hardgrad.training.Trainer` minimises for a rational model.

    Called as ``objective(model, (x, targets), controls, key)``; targets are `Targets`, or labels to be lifted
    (`lift_targets`). The model is called on the whole batch, ``model(x)``, and emits one of

    - ``(P, Q)``: numerators ``[B]`` or ``[B, K]`` and denominators of that shape or ``[B]``;
    - ``(y, mask)``: values and where they are ⊥ (a boolean array), or ``y`` alone, ⊥ where not finite.

    A model with running state has a method ``update(x) -> (outputs, model)``. It is called instead, and the model it
    returns comes third in the result, unless the model has an attribute ``inference`` that is True, as
    `equinox.nn.inference_mode` makes it.

    Controls it reads where the plan has them: ``tau``, the training threshold, and ``lambda_fit``, ``lambda_margin``,
    ``lambda_sign``, ``lambda_rej``, in place of the weights in `LossConfig`.

    Missing labels count in no loss. Labels without a side are not oriented.

    Attributes:
        loss: an `SCMTrainingLoss`, or a function ``loss(outputs, targets, ...)`` of a scalar, or of a scalar and a
            dict of scalars. Of ``tau``, ``inputs``, ``controls`` and ``key`` it is passed those that it names.
        policy: the gradient policy of outputs and of layers that have none of their own. None: that of a
            ``with gradient_policy(...)`` around the call, else around the construction of this objective,
            else the registered defaults, which for outputs is to pass everything.
        tau_train: the training threshold; None takes the loss's, or 1e-4 where a function has none.
        tau_infer: the threshold of the ``strict_...`` metrics, above 0.

    Raises:
        UsageError: a number out of range, something that is no loss or no policy, or outputs that the loss can't take.

    Examples:
        >>> from hardgrad.rational import SCMObjective
        >>> model = lambda x: (jnp.ones_like(x), x)  # 1/x
        >>> x, y = jnp.array([0.5, -4.0, 0.0]), jnp.array([2.0, -0.25, jnp.inf])
        >>> loss, metrics = SCMObjective()(model, (x, y), {"tau": 1e-3}, jax.random.key(0))
        >>> {name: round(float(metrics[name]), 3) for name in ("fit", "sign", "coverage", "strict_error")}
        {'fit': 0.0, 'sign': 0.0, 'coverage': 0.667, 'strict_error': 0.0}
    """

    loss: Any
    policy: GradientPolicy | None = eqx.field(static=True)
    tau_train: float = eqx.field(static=True)
    tau_infer: float = eqx.field(static=True)
    built_under: GradientPolicy | None = eqx.field(static=True)
    _offered: frozenset[str] = eqx.field(static=True)

    def __init__(
        self,
        loss: Any = None,
        *,
        policy: Any = None,
        tau_train: Any = None,
        tau_infer: Any = 1e-6,
    ):
        self.loss = SCMTrainingLoss() if loss is None else loss
        if isinstance(self.loss, type) or not callable(self.loss):
            raise UsageError(f"a loss is an SCMTrainingLoss or a function of outputs and targets; got {loss!r}.")
        combined = isinstance(self.loss, SCMTrainingLoss)
        if tau_train is None:
            tau_train = self.loss.config.tau_train if combined else _DEFAULT_TAU
        check_static("tau_train", tau_train)
        check_static("tau_infer", tau_infer, above=True)
        self.policy = None if policy is None else check_policy(policy)
        self.tau_train, self.tau_infer = float(tau_train), float(tau_infer)
        self.built_under = None if self.policy is not None else current_policy()
        self._offered = frozenset() if combined else _named(self.loss)

    def __call__(
        self, model: Any, batch: PyTree, controls: Controls, key: Key[Array, ""] | None = None
    ) -> tuple[Array, Metrics] | tuple[Array, Metrics, Any]:
        """The loss and its metrics, and the model if it has changed.

        Metrics, all in the loss's dtype:

        - ``fit``, ``margin``, ``sign``, ``rejection``: terms of the combined loss; other losses bring their own;
        - ``coverage``, ``bottom_frac`` (1 - coverage) and ``tau_train``, the threshold of both;
        - ``denom_abs_min``, ``denom_abs_mean``: of finite |Q|; NaN where ``denom_abs_available`` is 0;
        - ``strict_coverage``: the share of samples without ⊥ at `tau_infer`;
        - ``strict_error``: mean |decoded - y| over finite labels that are accepted; NaN where none is;
        - ``strict_recall``: the share of ⊥ labels that are decoded as ⊥; NaN where there are none.
        """
        x, targets = batch
        if not isinstance(targets, Targets):
            targets = lift_targets(targets)
        tau = controls.get("tau", self.tau_train)
        scope = self.policy
        if scope is None and not in_scope() and current_policy() is None:  # nobody around the call has decided
            scope = self.built_under
        update = None if getattr(model, "inference", False) is True else getattr(model, "update", None)
        with policy_scope(scope):
            outputs, changed = (model(x), None) if update is None else update(x)
            outputs = guard_outputs(_checked(outputs), tau)
        loss, terms = self._evaluate(outputs, targets, tau, {"inputs": x, "controls": controls, "key": key})
        metrics = {**terms, **self._metrics(jax.lax.stop_gradient(outputs), targets, tau)}
        metrics = {name: jnp.asarray(value).astype(loss.dtype) for name, value in metrics.items()}
        return (loss, metrics) if update is None else (loss, metrics, changed)

    def _evaluate(self, outputs: Any, targets: Targets, tau: Any, more: dict[str, Any]) -> tuple[Array, dict[str, Any]]:
        if not isinstance(self.loss, SCMTrainingLoss):
            offered = {name: value for name, value in {"tau": tau, **more}.items() if name in self._offered}
            found = self.loss(outputs, targets, **offered)
            loss, terms = found if isinstance(found, tuple) else (found, {})
            return jnp.asarray(loss), dict(terms)
        if not _projective(outputs):
            raise UsageError(
                "SCMTrainingLoss is a loss of projective outputs (P, Q), and this model emits values. Give "
                "SCMObjective a function of outputs and targets instead."
            )
        loss, terms = self.loss(
            *(*outputs, targets.numerator, targets.denominator),
            is_bottom=bottom_of(outputs, tau),
            mask_finite=jnp.asarray(targets.finite),
            mask_singular=jnp.asarray(targets.orientation) != 0,
            tau_train=tau,
            weights=(jnp.asarray(targets.finite) | targets.bottom).astype(loss_dtype(outputs[0])),
            lambdas={name: more["controls"][name] for name in LAMBDAS if name in more["controls"]},
        )
        return loss, {name: term for name, term in terms.items() if name != "total"}

    def _metrics(self, outputs: Any, targets: Targets, tau: Any) -> dict[str, Any]:
        decoded, bottom = self._decide(outputs)
        return {
            **output_metrics(outputs, tau),
            "strict_coverage": batch_coverage((decoded, bottom)),
            **_against_labels(decoded, bottom, targets),
        }

    def _decide(self, outputs: Any) -> tuple[Array, Array]:
        if not _projective(outputs):
            values = outputs[0] if isinstance(outputs, tuple) else outputs
            return values, bottom_of(outputs) | ~jnp.isfinite(values)
        P, Q = (part.astype(loss_dtype(part)) for part in outputs)
        decoded, bottom, _ = strict_inference(P, Q, InferenceConfig(self.tau_infer))
        return decoded, bottom


def _named(loss: Callable[..., Any]) -> frozenset[str]:
    """Which of the keywords on offer a loss names, or takes as ``**``."""
    known = frozenset({"tau", "inputs", "controls", "key"})
    parameters = inspect.signature(loss).parameters
    everything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return known if everything else known.intersection(parameters)


def _checked(outputs: Any) -> Any:
    """Outputs as an array, or as a tuple of two.

    Raises:
        UsageError: they are something else.
    """
    if isinstance(outputs, tuple | list):
        if len(outputs) != 2:
            raise UsageError(f"a rational model emits (P, Q), (y, mask) or y; this one emits {len(outputs)} outputs.")
        return tuple(jnp.asarray(part) for part in outputs)
    if isinstance(outputs, Mapping) or not hasattr(outputs, "dtype"):
        raise UsageError(f"a rational model emits (P, Q), (y, mask) or y; this one emits a {type(outputs).__name__}.")
    return outputs


def _projective(outputs: Any) -> bool:
    return isinstance(outputs, tuple) and outputs[1].dtype != bool


def guard_outputs(outputs: Any, tau: Any) -> Any:
    """A model's outputs, with the gradient policy of ``"projective_output"`` where they are ⊥ at `tau`."""
    if not _projective(outputs):
        values, mask = outputs if isinstance(outputs, tuple) else (outputs, bottom_of(outputs))
        values = with_policy(values, mask, layer=OUTPUT_LAYER)
        return (values, mask) if isinstance(outputs, tuple) else values
    P, Q = outputs
    bottom = bottom_of(outputs, tau)
    # A numerator that is not finite is a fault of its own, though the published coverage looks at Q alone.
    bottom_P = append_axes(bottom, P.ndim) | ~jnp.isfinite(P)
    return with_policy(P, bottom_P, layer=OUTPUT_LAYER), with_policy(Q, bottom, layer=OUTPUT_LAYER)


def output_metrics(outputs: Any, tau: Any) -> dict[str, Any]:
    """The published metrics of a batch of outputs: coverage at `tau`, and how large the denominators are."""
    covered = batch_coverage(outputs, tau)
    return {"coverage": covered, "tau_train": tau, "bottom_frac": 1.0 - covered, **_denominators(outputs)}


def _denominators(outputs: Any) -> dict[str, Any]:
    if not _projective(outputs):
        return {"denom_abs_min": jnp.nan, "denom_abs_mean": jnp.nan, "denom_abs_available": 0.0}
    magnitude = jnp.abs(outputs[1]).astype(loss_dtype(jnp.abs(outputs[1])))
    finite = jnp.isfinite(magnitude)
    count = jnp.sum(finite, dtype=magnitude.dtype)
    least = jnp.min(jnp.where(finite, magnitude, jnp.inf))
    return {
        "denom_abs_min": jnp.where(count > 0, least, jnp.nan),
        "denom_abs_mean": jnp.sum(jnp.where(finite, magnitude, 0.0)) / count,
        "denom_abs_available": (count > 0).astype(magnitude.dtype),
    }


def _against_labels(decoded: Array, bottom: Array, targets: Targets) -> dict[str, Any]:
    """How a decision compares with the labels."""
    numerator = jnp.asarray(targets.numerator).astype(decoded.dtype)
    finite, wanted = jnp.asarray(targets.finite), jnp.asarray(targets.bottom)
    decoded, bottom, numerator, finite, wanted = align(
        decoded=decoded, mask=bottom, labels=numerator, finite=finite, bottom=wanted
    )
    accepted = finite & ~bottom
    error = jnp.where(accepted, jnp.abs(decoded - numerator), 0.0)
    rejected = wanted & bottom
    wanted = jnp.broadcast_to(wanted, rejected.shape)
    return {
        "strict_error": jnp.sum(error) / jnp.sum(accepted, dtype=error.dtype),
        "strict_recall": jnp.sum(rejected, dtype=error.dtype) / jnp.sum(wanted, dtype=error.dtype),
    }
