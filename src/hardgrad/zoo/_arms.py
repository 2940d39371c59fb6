"""Arms of a comparison, trained side by side: one run, the same batches, the same steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Key

from ..core import Controls


class ArmsObjective(eqx.Module):
    """The sum of the arms' losses; their gradients do not mix.

    The model is a dict of the arms' models by name. ``NAME_loss`` and ``NAME_`` followed by each metric are
    recorded. An arm may be an `EnsembleObjective`.

    Attributes:
        arms: name to objective.
        own_data: whether each arm has data of its own: the batch is then a dict of the arms' batches by name.
    """

    arms: Mapping[str, Any]
    own_data: bool = eqx.field(static=True, default=False, kw_only=True)

    def __call__(self, model: Mapping[str, Any], batch: Any, controls: Controls, key: Key[Array, ""]) -> Any:
        """Loss, metrics, and the changed models where an arm has running state."""
        keys = jax.random.split(key, len(self.arms))
        found = {
            name: arm(model[name], batch[name] if self.own_data else batch, controls, k)
            for (name, arm), k in zip(self.arms.items(), keys, strict=True)
        }
        metrics: dict[str, Array] = {}
        for name, (loss, terms, *_) in found.items():
            metrics |= {f"{name}_loss": loss, **{f"{name}_{term}": value for term, value in terms.items()}}
        total = sum((one[0] for one in list(found.values())[1:]), start=next(iter(found.values()))[0])
        changed = {name: one[2] if len(one) == 3 else model[name] for name, one in found.items()}
        return total, metrics, changed
