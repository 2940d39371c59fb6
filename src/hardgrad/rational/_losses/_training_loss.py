"""The combined loss: fit + λ_margin·margin + λ_sign·sign + λ_rej·rejection.

Source: the published system, with its defaults. Different are the fit (a distance without a preferred scale), the
orientation term (a form without a dead point), the rejection term (one with a gradient), and that the loss computes
the fit itself; `LossConfig` selects the published forms.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ...core import UsageError, did_you_mean, one_of
from .._shapes import alike
from ._coverage import rejection_loss, soft_rejection_loss
from ._losses import Mask, Reduction, Scalar, Values, Weights, check_static, chordal_loss, implicit_loss, margin_loss
from ._orientation import DEFAULT_ORIENTATION, Orientation, sign_consistency_loss

Fit = Literal["chordal", "implicit"]
Rejection = Literal["soft", "hard"]
LAMBDAS = ("lambda_fit", "lambda_margin", "lambda_sign", "lambda_rej")
"""The weights of the terms, as fields of `LossConfig` and as names of controls."""


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The settings of `SCMTrainingLoss`. Hashable.

    Attributes:
        gamma: γ of the fit and the orientation.
        tau_train: the training threshold on |Q|, where a call gives none.
        epsilon_sing: labels with |Y_d| up to this are poles, where a call gives no mask.
        lambda_margin: weight of the margin.
        lambda_sign: weight of the orientation.
        lambda_rej: weight of the rejection.
        target_coverage: what the rejection aims at, in [0, 1].
        lambda_fit: weight of the fit.
        fit: ``"chordal"`` or, as published, ``"implicit"``: see `chordal_loss` and `implicit_loss`.
        detach_scale: whether the implicit fit's denominator is a constant in the backward pass.
        orientation: ``"angle"``, ``"projection"`` or, as published, ``"cosine"``: see `sign_consistency_loss`.
        rejection: ``"soft"``, `soft_rejection_loss` among finite labels; or ``"hard"``, as published, which
            counts the given ⊥ mask and trains nothing.
        margin_reduction: ``"population"`` or ``"conditional"``: see `margin_loss`.

    Raises:
        UsageError: a number that is not finite or negative, a coverage above 1, an unknown form.
    """

    _: dataclasses.KW_ONLY
    gamma: float = 1e-9
    tau_train: float = 1e-4
    epsilon_sing: float = 1e-3
    lambda_margin: float = 0.1
    lambda_sign: float = 1.0
    lambda_rej: float = 0.01
    target_coverage: float = 0.95
    lambda_fit: float = 1.0
    fit: Fit = "chordal"
    detach_scale: bool = False
    orientation: Orientation = DEFAULT_ORIENTATION
    rejection: Rejection = "soft"
    margin_reduction: Reduction = "population"

    def __post_init__(self) -> None:
        for name in ("gamma", "tau_train", "epsilon_sing", *LAMBDAS):
            check_static(name, getattr(self, name))
        check_static("target_coverage", self.target_coverage, most=1.0)
        one_of("fit", self.fit, Fit)
        if self.detach_scale and self.fit != "implicit":
            raise UsageError(f"detach_scale is for fit='implicit'; fit={self.fit!r} has no scale to detach.")
        one_of("orientation", self.orientation, Orientation)
        one_of("rejection", self.rejection, Rejection)
        one_of("margin_reduction", self.margin_reduction, Reduction)


class SCMTrainingLoss(eqx.Module):
    """The combined loss of projective outputs.

    ``loss(P, Q, Y_n, Y_d)`` returns the total and its terms before they are weighted. Hand it to `SCMTrainer`, or
    to `SCMObjective` for the library's trainer, which lift the labels and make the masks.

    Attributes:
        config: its settings.

    Examples:
        >>> P, Q = jnp.array([3.0, 1.0]), jnp.array([2.0, 0.5])
        >>> total, terms = SCMTrainingLoss()(P, Q, jnp.array([1.5, 1.0]), jnp.array([1.0, 0.0]))
        >>> {name: round(float(term), 3) for name, term in terms.items()}
        {'fit': 0.224, 'margin': 0.0, 'sign': 0.003, 'rejection': 0.0, 'total': 0.226}
    """

    config: LossConfig = eqx.field(static=True)

    def __init__(self, config: LossConfig | None = None):
        self.config = LossConfig() if config is None else config
        if not isinstance(self.config, LossConfig):
            raise UsageError(f"SCMTrainingLoss takes a LossConfig, got {config!r}. Try SCMTrainingLoss(LossConfig()).")

    def __call__(
        self,
        P: Values,
        Q: Values,
        Y_n: Values,
        Y_d: Values,
        *,
        fit_loss: Scalar | None = None,
        is_bottom: Mask | None = None,
        mask_finite: Mask | None = None,
        mask_singular: Mask | None = None,
        tau_train: Any = None,
        weights: Weights | None = None,
        lambdas: Mapping[str, Any] | None = None,
    ) -> tuple[Scalar, dict[str, Array]]:
        """The total, and ``fit``, ``margin``, ``sign``, ``rejection`` and ``total``, detached.

        Args:
            P: numerators ``[B]`` or ``[B, K]``, real; the results have their dtype, at least float32.
            Q: denominators, of P's shape or ``[B]``.
            Y_n: numerators of the labels, of P's shape.
            Y_d: denominators of the labels, of P's shape.
            fit_loss: the fit, where it is neither of the two.
            is_bottom: where the outputs are ⊥; the hard rejection counts it, and is 0 without.
            mask_finite: where labels are finite: the entries of the margin and of the soft rejection.
                None: all.
            mask_singular: where labels are poles with a side. None goes by `LossConfig.epsilon_sing`.
            tau_train: the threshold, a number or a traced scalar; None takes the config's.
            weights: of each sample or entry, ≥ 0, in all terms but the hard rejection.
            lambdas: weights of terms in place of the config's, by the names of its fields.

        Raises:
            UsageError: shapes that don't fit, or an unknown name in `lambdas`.
        """
        config = self.config
        (P,) = alike(P)
        for unknown in set(lambdas or {}) - set(LAMBDAS):
            raise UsageError(f"no term has the weight '{unknown}'. {did_you_mean(unknown, LAMBDAS)}")
        tau = config.tau_train if tau_train is None else tau_train
        if fit_loss is None and config.fit == "chordal":
            fit = chordal_loss(P, Q, Y_n, Y_d, config.gamma, weights=weights)
        elif fit_loss is None:
            fit = implicit_loss(P, Q, Y_n, Y_d, config.gamma, detach_scale=config.detach_scale, weights=weights)
        else:
            fit = fit_loss
        if config.rejection == "soft":
            rejection = soft_rejection_loss(Q, tau, config.target_coverage, mask_finite, weights=weights)
        elif is_bottom is not None:
            rejection = rejection_loss(is_bottom, config.target_coverage)
        else:
            rejection = jnp.zeros((), P.dtype)
        terms = {
            "fit": fit,
            "margin": margin_loss(Q, tau, mask_finite, reduction=config.margin_reduction, weights=weights),
            "sign": sign_consistency_loss(
                *(P, Q, Y_n, Y_d, config.gamma, mask_singular, config.epsilon_sing),
                form=config.orientation,
                weights=weights,
            ),
            "rejection": rejection,
        }
        factors = {name: getattr(config, name) for name in LAMBDAS} | dict(lambdas or {})
        total = jnp.zeros((), P.dtype)
        for name, term in zip(LAMBDAS, terms.values(), strict=True):
            # In the term's own dtype, as published: a hard rejection counts in float32.
            total = total + (jnp.asarray(factors[name]).astype(term.dtype) * term).astype(P.dtype)
        return total, {name: jax.lax.stop_gradient(term) for name, term in {**terms, "total": total}.items()}
