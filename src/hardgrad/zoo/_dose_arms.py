"""The arms of `rational-dose`: their losses, and what they answer."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key
from numpy.typing import NDArray

from ..core import Controls
from ..rational import Targets, rejection_score
from ..training import over_members
from ._baselines import TwoStage
from ._dose import ABOVE, BELOW, IN_RANGE

CENTRE, UNIT = -7.0, 2.0
"""The assay, log10 IC50 from -9 to -5, is -1 to 1 to the models."""
BEYOND = 4.6 / UNIT
"""Label of the clamped arms beyond the range: -11.6 and -2.4, in the middle of the censored regimes."""
EMPHASIS = 3.0
"""Weight of labels in range, where one network learns those and the censored ones too."""
_SQUARED = 0.02  # errors up to here are squared


def robust(error: Any) -> Array:
    """Huber's loss over its threshold: |error| but for a rounded bottom."""
    return jnp.asarray(optax.losses.huber_loss(error, delta=_SQUARED)) / _SQUARED


def angular_loss(outputs: Any, targets: Targets) -> Float[Array, ""]:
    """How far θ = atan2(P, Q) is from the label's, by the arc on which -∞ and +∞ are the ends.

    For a finite label y the factor 1 + y² makes it |P/Q - y| near the label. On the way from a wrong end to the right
    one the slope is 1 everywhere; and where a curve may lie on either side, absolute angles settle for the likelier.
    """
    P, Q = outputs
    Y_n, Y_d, finite = (jnp.asarray(part) for part in targets[:3])
    weight = jnp.where(finite, EMPHASIS * (1.0 + jnp.square(Y_n)), 1.0)
    return jnp.mean(weight * robust(jnp.arctan2(P, Q) - jnp.arctan2(Y_n, Y_d)))


class ClampedObjective(eqx.Module):
    """The robust error of a regressor for which censored labels are numbers beyond the range."""

    def __call__(self, model: Any, batch: Any, controls: Controls, key: Key[Array, ""]) -> Any:
        """Loss and no metrics."""
        x, targets = batch
        error = model(x) - jnp.where(targets.finite, 1.0, BEYOND) * targets.numerator
        return jnp.mean(jnp.where(targets.finite, EMPHASIS, 1.0) * robust(error)), {}


class TwoStageObjective(eqx.Module):
    """Cross-entropy of the classifier and robust error of the regressor in range; their gradients do not mix."""

    def __call__(self, model: TwoStage, batch: Any, controls: Controls, key: Key[Array, ""]) -> Any:
        """Loss and its parts."""
        x, targets = batch
        classes = IN_RANGE + targets.orientation
        entropy = jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(model.classifier(x), classes))
        error = jnp.where(targets.finite, model.regressor(x) - targets.numerator, 0.0)
        regression = jnp.mean(robust(error))
        return entropy + regression, {"cross_entropy": entropy, "regression": regression}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What an arm says, all ``[members, curve]``.

    Attributes:
        value: log10 IC50, whether or not it is then rejected.
        score: the lower, the likelier censored.
        upward: whether it is above, if it is censored.
    """

    value: NDArray[Any]
    score: NDArray[Any]
    upward: NDArray[Any]


def answer(ensemble: Any, x: NDArray[Any]) -> Answer:
    """What an arm says of inputs ``[curve, members, 20]``."""
    value, score, direction = (np.asarray(array) for array in _of_members(ensemble, jnp.asarray(x)))
    return Answer(CENTRE + UNIT * value.astype(np.float64), score, direction >= 0)


@eqx.filter_jit
def _of_members(ensemble: Any, x: Any) -> Any:
    return over_members(_outputs, ensemble, x, axis=1)


def _outputs(model: Any, x: Any) -> tuple[Any, Any, Any]:
    """Value, score and direction. A regressor's value y is scored as the tuple (y, 1)."""
    if isinstance(model, TwoStage):
        logits = model.classifier(x)
        return model.regressor(x), jax.nn.softmax(logits)[:, IN_RANGE], logits[:, ABOVE] - logits[:, BELOW]
    found = model(x)
    P, Q = (found, jnp.ones_like(found)) if isinstance(found, jax.Array) else found
    return P / Q, rejection_score(P, Q), P
