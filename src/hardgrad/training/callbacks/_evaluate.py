"""Scores between epochs: figures of the model that no objective can compute inside a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from jaxtyping import PyTree

from ...core import UsageError, whole_number
from .._record import EpochRecord
from ._base import Callback

if TYPE_CHECKING:
    from .._run import Run


class Evaluate(Callback):
    """Measure the model on the host after every so many epochs, and after the last.

    The figures join the epoch's record under ``val_`` and their name, so that `Best`, `EarlyStopping`, telemetry and
    reports see them like any other metric. Epochs in between do not have them: they are not carried over, and not
    filled in. Which epochs are measured follows from the epoch's number alone, so that a run that was stopped and
    resumed measures the same ones.

    Args:
        function: ``function(model) -> {name: number}``. The same model must give the same numbers: anything random
            in it needs a fixed seed. It is called between epochs, outside of compiled steps; compile what it does.
        names: the names it returns, known beforehand so that a misspelt monitor is an error in the first epoch.
        every: epochs between two evaluations, at least 1.

    Raises:
        UsageError: no names, one given twice, `every` out of range; while training, other names returned than given,
            something that is no number, a name the run records already.

    Examples:
        >>> import jax.numpy as jnp, optax, hardgrad as hg
        >>> objective = lambda model, batch, controls, key: (jnp.sum((model - batch) ** 2), {})
        >>> evaluate = hg.Evaluate(lambda model: {"size": jnp.abs(model).max()}, ["size"], every=2)
        >>> trainer = hg.Trainer(
        ...     hg.GradientMethod(hg.Autodiff(), optax.sgd(0.25)), callbacks=[evaluate, hg.Best("val_size", "max")]
        ... )
        >>> result = trainer.fit(jnp.zeros(2), objective, jnp.ones(2), epochs=5)
        >>> [record.metrics.get("val_size") for record in result.history]
        [None, 0.75, None, 0.9375, 0.96875]
        >>> result.best
        {'epoch': 4, 'metric': 'val_size', 'value': 0.96875}
    """

    order: ClassVar[int] = 5

    def __init__(self, function: Callable[[Any], Mapping[str, Any]], names: Sequence[str], *, every: int = 1):
        if isinstance(names, str) or not names or len(set(names)) < len(names):
            raise UsageError(f"Evaluate needs the names of what it measures, each once, got {names!r}.")
        self.function, self.names = function, tuple(names)
        self.every = whole_number("every", every, least=1)
        self.measures = tuple(f"val_{name}" for name in names)

    def scores(self, model: PyTree) -> dict[str, float]:
        """The figures of a model, by the names they have in records."""
        found = self.function(model)
        if not isinstance(found, Mapping) or set(found) != set(self.names):
            said = sorted(found) if isinstance(found, Mapping) else found
            raise UsageError(f"Evaluate was to measure {sorted(self.names)}, its function returned {said!r}.")
        try:
            return {f"val_{name}": float(found[name]) for name in self.names}
        except (TypeError, ValueError) as error:
            raise UsageError(f"what Evaluate measures must be numbers, got {dict(found)!r}.") from error

    def first(self, epochs: int) -> int:
        """How many of `epochs` epochs are done when the first one is measured."""
        return min(self.every, epochs)

    def measure(self, run: Run, record: EpochRecord) -> Mapping[str, float]:
        """The figures, if it is time."""
        done = record.epoch + 1
        return self.scores(run.model) if done % self.every == 0 or done == run.epochs else {}
