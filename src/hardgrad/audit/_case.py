"""What is audited: a point in training."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..core import AbstractEstimator
from ..estimators import Autodiff


@dataclasses.dataclass(frozen=True)
class AuditCase:
    """The arguments of `audit` in one place: what the function of ``hardgrad audit --model module:function`` returns.

    Attributes:
        model: any pytree; its inexact arrays are the parameters.
        objective: ``objective(model, batch, controls, key) -> (loss, metrics)``.
        data: as `Trainer.fit` takes it.
        batch_size: likewise.
        estimator: the gradient in use.
        controls: the step's controls. Python ints are static.
        growth: name of a control and its values, or None.
        trainable: which inexact arrays are trained: an Equinox filter specification.
        title: what it is, for people.
        notes: sentences that belong on the page.
    """

    model: Any
    objective: Any
    data: Any
    _: dataclasses.KW_ONLY
    batch_size: int | None = None
    estimator: AbstractEstimator = dataclasses.field(default_factory=Autodiff)
    controls: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    growth: tuple[str, Sequence[int]] | None = None
    trainable: Any = None
    title: str = "a model"
    notes: tuple[str, ...] = ()
