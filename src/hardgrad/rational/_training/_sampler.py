"""Drawing rows more often where the model is wrong about poles.

    p_i  = σ((τ - |Q_i|) / β)                        how singular the model takes row i to be
    p̄_i ← γ p_i + (1 - γ) p̄_i                        after each epoch
    w_i  = max(s_min, 1 + α |p̄_i - [row i is ⊥]|)     drawn in proportion, with replacement

Source: the published adaptive sampler.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpy.typing import NDArray

from ...core import CheckpointError, UsageError
from ...training import EpochRecord
from ...training.callbacks import Callback

if TYPE_CHECKING:
    from ...training import Run

Number = float | int
_STREAM = 0x5A3F1E  # keeps these draws apart from those of a shuffled order of the same seed


def singularity_probability(q: Any, *, tau_train: Number = 1e-4, beta: Number = 0.1) -> NDArray[Any]:
    """σ((τ - |q|) / β): near 1/2 where |q| is near τ, falling to 0 far from a pole.

    Args:
        q: denominators of any shape. NaN, which decodes as ⊥, counts as 0.
        tau_train: τ.
        beta: β > 0, the width of the transition.
    """
    magnitude = np.nan_to_num(np.abs(np.asarray(q, np.float64)), nan=0.0)
    with np.errstate(over="ignore"):
        distance = (tau_train - magnitude) / beta
        return np.asarray(1.0 / (1.0 + np.exp(-distance)))


def ema_update(previous: Any, current: Any, *, gamma: Number = 0.1) -> NDArray[Any]:
    """γ · current + (1 - γ) · previous."""
    return np.asarray(gamma * np.asarray(current, np.float64) + (1.0 - gamma) * np.asarray(previous, np.float64))


def sampling_weights(p: Any, bottom: Any = None, *, alpha: Number = 1.0, s_min: Number = 0.1) -> NDArray[Any]:
    """max(s_min, 1 + α |p - bottom|).

    Args:
        p: probabilities of any shape.
        bottom: which rows are ⊥; None takes none to be.
        alpha: α; negative draws those less often where the model is wrong.
        s_min: the least weight, above 0.
    """
    is_bottom = 0.0 if bottom is None else np.asarray(bottom, np.float64)
    return np.asarray(np.maximum(s_min, 1.0 + alpha * np.abs(np.asarray(p, np.float64) - is_bottom)))


class AdaptiveSampler(Callback):
    """Rows drawn in proportion to how wrong the model is about their being ⊥.

    Give it as ``TrainingConfig(sampler=AdaptiveSampler())`` with training data in memory: after each epoch the model
    is evaluated on all rows, forward only, and the next epoch's rows are drawn with replacement, as many as there
    are. The draws follow from the run's seed and the epoch; the averages are kept in checkpoints. With several
    outputs a row's |Q| is its smallest.

    Args:
        tau_train: τ > 0, the threshold on |Q|.
        beta: β > 0, the width of the transition.
        gamma: γ in (0, 1], the weight of the latest epoch.
        alpha: α.
        s_min: the least weight, above 0.
        chunk_size: rows evaluated together.

    Raises:
        UsageError: a number out of range.
    """

    order: ClassVar[int] = 40

    def __init__(
        self,
        *,
        tau_train: Number = 1e-4,
        beta: Number = 0.1,
        gamma: Number = 0.1,
        alpha: Number = 1.0,
        s_min: Number = 0.1,
        chunk_size: int = 65536,
    ):
        for name, value in {"tau_train": tau_train, "beta": beta, "s_min": s_min, "chunk_size": chunk_size}.items():
            if not 0 < value < np.inf:
                raise UsageError(f"{name} must be a number above 0, got {value!r}.")
        if not 0 < gamma <= 1 or not np.isfinite(alpha):
            raise UsageError(f"gamma must lie in (0, 1] and alpha be finite, got gamma={gamma!r}, alpha={alpha!r}.")
        self.tau_train, self.beta, self.gamma = tau_train, beta, gamma
        self.alpha, self.s_min, self.chunk_size = alpha, s_min, chunk_size
        self._inputs: Any = None
        self._bottom: NDArray[Any] = np.zeros(0, bool)
        self._average: NDArray[Any] = np.zeros(0, np.float32)

    def attach(self, inputs: Any, bottom: Any) -> None:
        """The rows to draw from.

        Args:
            inputs: what the model is called on, of shape ``[row, ...]``.
            bottom: which rows are ⊥, ``[row]`` or ``[row, output]`` (⊥ where any output is).
        """
        bottom = np.asarray(bottom, bool)
        self._inputs = inputs
        self._bottom = bottom.reshape(len(bottom), -1).any(axis=1)
        self._average = np.zeros(len(bottom), np.float32)

    @property
    def weights(self) -> NDArray[Any]:
        """The present weights, ``[row]``."""
        return sampling_weights(self._average, self._bottom, alpha=self.alpha, s_min=self.s_min)

    def update(self, q: Any) -> None:
        """Take the denominators of all rows, ``[row]``, into the averages."""
        now = singularity_probability(q, tau_train=self.tau_train, beta=self.beta)
        self._average = ema_update(self._average, now, gamma=self.gamma).astype(np.float32)

    def rows(self, epoch: int, seed: int) -> NDArray[Any]:
        """The rows of an epoch: what `hardgrad.training.InMemory` calls an order."""
        weights = self.weights
        random = np.random.default_rng((seed, epoch, _STREAM))
        return random.choice(len(weights), size=len(weights), p=weights / weights.sum())

    def on_run_begin(self, run: Run) -> None:
        """Begin anew."""
        if self._inputs is None:
            raise UsageError("the sampler has no rows: give it as TrainingConfig(sampler=...), or attach them first.")
        self._average = np.zeros(len(self._bottom), np.float32)

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        """Evaluate the model on all rows."""
        model = eqx.nn.inference_mode(run.model)
        chunks = range(0, len(self._bottom), self.chunk_size)
        q = [np.asarray(_smallest_denominator(model, self._inputs[i : i + self.chunk_size])) for i in chunks]
        self.update(np.concatenate(q))

    def state(self) -> Any:
        """The averages, as text: their bytes in base 64."""
        return {"average": base64.b64encode(self._average.astype("<f4").tobytes()).decode("ascii")}

    def restore(self, state: Any, run: Run) -> None:
        """Take them back."""
        average = np.frombuffer(base64.b64decode(state["average"]), "<f4").astype(np.float32)
        if average.shape != self._bottom.shape:
            raise CheckpointError(
                f"the checkpoint holds the sampler's averages of {len(average)} rows, and the data has "
                f"{len(self._bottom)}. Resume with the same data."
            )
        self._average = average


@eqx.filter_jit
def _smallest_denominator(model: Any, inputs: Any) -> Array:
    outputs = model(inputs)
    if not isinstance(outputs, tuple) or len(outputs) != 2:
        raise UsageError(f"the sampler reads a model's (P, Q), and this one returns {type(outputs).__name__}.")
    magnitude = jnp.abs(outputs[1])
    return jnp.min(magnitude.reshape(magnitude.shape[0], -1), axis=1)
