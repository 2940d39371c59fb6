"""Every setting of a `SCMTrainer`, checked when it is given."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax

from ...core import UsageError, finite_number, one_of, whole_number
from ...training.callbacks import Callback
from .._policies import GradientPolicy
from ._curriculum import LossWeightsCurriculum, check_weights
from ._metric_log import Record
from ._sampler import AdaptiveSampler

Number = float | int
Cadence = Literal["per_optimizer_update", "per_batch", "per_epoch", "per_validation_metric"]
AmpDtype = Literal["float16", "bfloat16"]
Execution = Literal["compiled", "eager"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Settings of a `SCMTrainer`. Those down to `scheduler_cadence` have the published names and defaults.

    Attributes:
        learning_rate: the rate of an optimiser given as a function of it (``optax.adam``). A transformation that
            is built already has its own, which can't be read: another number here is warned about.
        max_epochs: epochs in all, at least 1; a resumed run's included.
        gradient_accumulation_steps: batches an update, at least 1. The update takes the mean of their gradients;
            what is left at the end of an epoch makes a smaller group. A stream that does not say how many batches
            an epoch has carries it over.
        mixed_precision: arithmetic of the model in `amp_dtype`, parameters as they are.
        use_amp: the same; if given, it decides.
        amp_dtype: ``"float16"``, with a loss scale that adapts, or ``"bfloat16"``. Labels and thresholds are rounded
            to it too.
        tau_train_min: the training threshold is drawn anew for each batch from here …
        tau_train_max: … to here; where both are equal there is nothing to draw. Validation takes their mean.
        tau_infer: the threshold that decides in ``strict_...`` metrics; at most `tau_train_min`.
        allow_bottom_unreachable: train on labels that are ⊥ a model that can't answer ⊥.
        coverage_threshold: coverage from here on, in [0, 1], is enough; 0 switches the early stop off.
        coverage_patience: stop after so many epochs in a row with less, at least 1. Watched is the coverage of the
            validation data, or without them the mean over the epoch's training batches.
        gradient_policy: what gradients become at ⊥; None leaves it to the model's layers.
        log_hook: called with a record (see `metric_log_record`) for every step (phase ``"train"``) and every
            validation (phase ``"eval"``), in order, at the end of each epoch.
        val_loader: validation data, in any form of the training data, evaluated after every epoch. All but a
            `hardgrad.training.Stream` is read once.
        device: where to train: a JAX device, or a platform such as ``"gpu"``; None takes JAX's default.
        loss_weights: weights of the loss's terms by name: see `LossWeightsCurriculum`.
        loss_curriculum: weights that follow schedules, over those of `loss_weights`.
        scheduler_cadence: what an Optax schedule counts: updates, batches or epochs. (A schedule of
            `hardgrad.schedules` says so itself.) ``"per_validation_metric"`` is refused: a schedule here is a
            function of progress alone; chain `optax.contrib.reduce_on_plateau` into the optimiser instead.
        batch_size: rows a step, for training data given as arrays; None gives them whole to every step.
        shuffle: draw a new order of those rows each epoch.
        validation_batch_size: rows of the validation data evaluated together; None takes all. Metrics of parts are
            averaged by their rows.
        seed: decides everything random.
        sampler: draws the rows of arrays, in place of shuffling.
        run: a folder for checkpoints, telemetry and result, so that ``fit(resume=True)`` can go on.
        checkpoint_every: epochs between two checkpoints.
        checkpoint_keep: how many to keep; None keeps all.
        callbacks: more of `hardgrad.training.callbacks`.
        max_nonfinite: stop after so many batches in a row whose loss or gradient is not finite. Each is left out,
            and weights stay as they were.
        execution: ``"compiled"`` or ``"eager"``, as of `hardgrad.training.Trainer`.

    Raises:
        UsageError: a value out of range or of the wrong kind.

    Examples:
        >>> config = TrainingConfig(max_epochs=50, batch_size=256, tau_train_min=5e-5, tau_train_max=2e-4)
        >>> config.coverage_patience
        3
    """

    learning_rate: Number = 1e-3
    max_epochs: int = 1
    gradient_accumulation_steps: int = 1
    mixed_precision: bool = False
    use_amp: bool | None = None
    amp_dtype: AmpDtype = "float16"
    tau_train_min: Number = 1e-4
    tau_train_max: Number = 1e-4
    tau_infer: Number = 1e-6
    allow_bottom_unreachable: bool = False
    coverage_threshold: Number = 0.95
    coverage_patience: int = 3
    gradient_policy: GradientPolicy | None = None
    log_hook: Callable[[Record], object] | None = None
    val_loader: Any = None
    device: jax.Device | str | None = None
    loss_weights: Mapping[str, Number] | None = None
    loss_curriculum: LossWeightsCurriculum | None = None
    scheduler_cadence: Cadence = "per_optimizer_update"
    batch_size: int | None = None
    shuffle: bool = True
    validation_batch_size: int | None = None
    seed: int = 0
    sampler: AdaptiveSampler | None = None
    run: str | os.PathLike[str] | None = None
    checkpoint_every: int = 1
    checkpoint_keep: int | None = 3
    callbacks: Sequence[Callback] = ()
    max_nonfinite: int = 10
    execution: Execution = "compiled"

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_thresholds()
        for name in ("mixed_precision", "allow_bottom_unreachable", "shuffle"):
            _check_kind(name, getattr(self, name), bool, "True or False")
        if self.use_amp is not None:
            _check_kind("use_amp", self.use_amp, bool, "True, False or None")
            object.__setattr__(self, "mixed_precision", self.use_amp)
        one_of("amp_dtype", self.amp_dtype, AmpDtype)
        one_of("scheduler_cadence", self.scheduler_cadence, Cadence)
        one_of("execution", self.execution, Execution)
        finite_number("learning_rate", self.learning_rate, above=0.0)
        if self.gradient_policy is not None:
            _check_kind("gradient_policy", self.gradient_policy, GradientPolicy, "a GradientPolicy or None")
        if self.loss_curriculum is not None:
            kind = "a LossWeightsCurriculum or None"
            _check_kind("loss_curriculum", self.loss_curriculum, LossWeightsCurriculum, kind)
        if self.log_hook is not None and not callable(self.log_hook):
            raise UsageError(f"log_hook must take a record, as JsonlLogger(path) does; got {self.log_hook!r}.")
        if self.loss_weights is not None:
            _check_kind("loss_weights", self.loss_weights, Mapping, "a mapping from names to numbers")
            check_weights(self.loss_weights)

    def _check_counts(self) -> None:
        for name in (
            "max_epochs",
            "gradient_accumulation_steps",
            "coverage_patience",
            "checkpoint_every",
            "max_nonfinite",
        ):
            whole_number(name, getattr(self, name), least=1)
        for name in ("batch_size", "validation_batch_size", "checkpoint_keep"):
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name), least=1)
        whole_number("seed", self.seed, least=0, most=2**32 - 1)

    def _check_thresholds(self) -> None:
        for name in ("tau_infer", "tau_train_min", "tau_train_max"):
            finite_number(name, getattr(self, name), above=0.0)
        if not self.tau_infer <= self.tau_train_min <= self.tau_train_max:
            raise UsageError(
                "thresholds must be in the order tau_infer <= tau_train_min <= tau_train_max, got "
                f"{self.tau_infer!r}, {self.tau_train_min!r}, {self.tau_train_max!r}."
            )
        if finite_number("coverage_threshold", self.coverage_threshold, least=0.0) > 1.0:
            raise UsageError(f"coverage_threshold must lie in [0, 1], got {self.coverage_threshold!r}.")

    @property
    def tau_eval(self) -> float:
        """The threshold of validation: the mean of the training thresholds' bounds."""
        return 0.5 * (float(self.tau_train_min) + float(self.tau_train_max))

    @property
    def precision(self) -> str | None:
        """The dtype of the model's arithmetic, or None to leave it alone."""
        return self.amp_dtype if self.mixed_precision else None

    def described(self) -> dict[str, Any]:
        """The settings as JSON: for the run's config.json. Data and functions are left out."""
        plain = (bool, int, float, str)
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        out: dict[str, Any] = {
            name: value for name, value in fields.items() if value is None or isinstance(value, plain)
        }
        if self.gradient_policy is not None:
            out["gradient_policy"] = self.gradient_policy.value
        if self.loss_weights is not None:
            out["loss_weights"] = dict(self.loss_weights)
        if self.loss_curriculum is not None:
            out["loss_curriculum"] = {name: repr(ramp) for name, ramp in self.loss_curriculum.ramps.items()}
        return out


def _check_kind(name: str, value: Any, kind: type, wanted: str) -> None:
    if not isinstance(value, kind):
        raise UsageError(f"{name} must be {wanted}, got {value!r}.")
