"""`SCMTrainer`: the published trainer's words on the library's trainer.

Nothing is trained here. Thresholds, loss weights, learning rate and groups of batches are schedules of a plan; the
early stop, the log and the sampler are callbacks; the loop, checkpoints and resuming are `hardgrad.training.Trainer`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import equinox as eqx
import jax
import numpy as np
from numpy.typing import NDArray

from ...core import UsageError, float_dtype, split_parameters
from ...schedules import Plan, Schedule, UniformDraw
from ...training import EpochRecord, FitResult, Outcome, Run, RunFolder, Trainer
from ...training.callbacks import Callback, Checkpoints, History, StopBelow
from .._algebra._targets import Targets
from .._layers._heads import check_bottom_capability
from .._losses._training_loss import SCMTrainingLoss
from ._accumulation import GROUP_ENDS, GroupEnds
from ._batches import Lifter, training_feed, validation_feed
from ._config import TrainingConfig
from ._loss_function import as_objective
from ._metric_log import ResumableHook, metric_log_record
from ._optimizer import method_of

KEPT_THRESHOLDS = 4096
"""How many thresholds `SCMTrainer.last_thresholds` holds at most."""


class SCMTrainer:
    """Trains a model of projective tuples, as the published guides describe.

    Args:
        model: an Equinox module called on a whole batch: ``P, Q = model(x)``.
        optimizer: a function of the learning rate, such as ``optax.adam``; an Optax transformation that is built
            already; or a method such as ``GradientMethod(SPSA(), optax.adam(1e-3))``.
        loss_fn: `SCMTrainingLoss`, `SCMObjective`, any objective ``(model, batch, controls, key)``, or a loss of the
            guides, ``loss_fn(outputs, (Y_n, Y_d), *, tau=..., ...) -> scalar``. Of the keywords ``tau``, ``inputs``,
            ``targets``, ``epoch``, ``global_step``, ``loss_weights`` and ``semantic_targets`` it is given those it
            names.
        train_loader: arrays ``(x, y)``, ``(x, y, status)`` or ``(x, Targets)``; an `InMemory` or `Stream` of them;
            or any iterable of such batches. Labels may be ±inf (poles) and NaN (⊥).
        scheduler: of the learning rate: an Optax schedule, which counts by `TrainingConfig.scheduler_cadence`, or one
            of `hardgrad.schedules`. The optimiser must then be a function of the rate.
        config: settings.

    Raises:
        UsageError: arguments that don't fit each other; inputs that are not finite; labels beyond the model's dtype,
            or that are ⊥ where the model can't answer ⊥.

    Examples:
        >>> import jax
        >>> import numpy as np
        >>> import optax
        >>> from hardgrad.rational import ProjectiveMLP, SCMTrainer, SCMTrainingLoss, TrainingConfig
        >>> x = np.random.default_rng(0).uniform(-1, 1, (64, 2)).astype("float32")
        >>> x[::8, 1] = x[::8, 0]  # poles
        >>> with np.errstate(divide="ignore"):
        ...     y = 1 / (x[:, 0] - x[:, 1])
        >>> model = ProjectiveMLP(2, hidden=(8,), key=jax.random.key(0))
        >>> config = TrainingConfig(max_epochs=2, batch_size=16, learning_rate=1e-2)
        >>> trainer = SCMTrainer(model, optax.adam, SCMTrainingLoss(), (x, y), config=config)
        >>> trainer.fit().steps, trainer.current_epoch, len(trainer.last_thresholds)
        (8, 2, 8)
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        loss_fn: Any,
        train_loader: Any,
        *,
        scheduler: Any = None,
        config: TrainingConfig | None = None,
    ):
        config = TrainingConfig() if config is None else config
        if not isinstance(config, TrainingConfig):
            raise UsageError(f"config must be a TrainingConfig(...), got {config!r}.")
        self.config, self._given = config, model
        self._objective = as_objective(loss_fn, config)
        with self._on_device():
            self._feed, self._held_out = self._feeds(train_loader)
        method, rate = method_of(optimizer, scheduler, config)
        self._thresholds = UniformDraw(config.tau_train_min, config.tau_train_max, seed=config.seed)
        self._history = next((c for c in config.callbacks if isinstance(c, History)), History())
        self._log = _Log(config.log_hook)
        self._trainer = Trainer(
            method,
            plan=Plan(**self._schedules(rate)),
            callbacks=self._callbacks(),
            precision=config.precision,
            max_nonfinite=config.max_nonfinite,
            reduce={"strict_error": _mean_of_known, "strict_recall": _mean_of_known},
            record=None if config.log_hook is None else _every_metric,
            execution=config.execution,
        )

    def _feeds(self, train_loader: Any) -> tuple[Any, Any]:
        config, sampler = self.config, self.config.sampler
        dtype = float_dtype(split_parameters(self._given)[0])
        lift = Lifter(dtype, config.precision or dtype, self._check_labels)
        order = None if sampler is None else sampler.rows
        feed = training_feed(train_loader, lift, batch_size=config.batch_size, shuffle=config.shuffle, order=order)
        if sampler is not None:
            inputs, targets = feed.arrays  # type: ignore[union-attr]  # arrays, or the order was refused
            sampler.attach(inputs, targets.bottom)
        if config.val_loader is None:
            return feed, None
        return feed, validation_feed(config.val_loader, lift, batch_size=config.validation_batch_size)

    def _check_labels(self, targets: Targets) -> None:
        if not (self._objective.takes_missing or (targets.finite | targets.bottom).all()):
            raise UsageError("some labels are missing: the loss must take `semantic_targets` to leave them out.")
        if not self.config.allow_bottom_unreachable and targets.bottom.any():
            check_bottom_capability(self._given, self.config.tau_infer)

    def _schedules(self, rate: Schedule | None) -> dict[str, Any]:
        config = self.config
        weights: dict[str, Any] = dict(config.loss_weights or {})
        if config.loss_curriculum is not None:
            weights |= config.loss_curriculum.ramps
        schedules: dict[str, Any] = {"tau": self._thresholds, "tau_eval": config.tau_eval}
        if rate is not None:
            schedules["learning_rate"] = rate
        if config.gradient_accumulation_steps > 1:
            schedules[GROUP_ENDS] = GroupEnds(config.gradient_accumulation_steps)
        schedules |= {f"lambda_{name}": weight for name, weight in weights.items()}
        return schedules | dict(self._objective.schedules)

    def _callbacks(self) -> list[Callback]:
        config = self.config
        given = list(config.callbacks)
        added: list[Callback] = [self._log]
        if self._history not in given:
            added.append(self._history)
        if config.coverage_threshold > 0:
            watched = "coverage" if config.val_loader is None else "val_coverage"
            added.append(StopBelow(watched, config.coverage_threshold, patience=config.coverage_patience))
        if config.sampler is not None:
            added.append(config.sampler)
        if not any(isinstance(callback, Checkpoints) for callback in given):
            added.append(Checkpoints(every=config.checkpoint_every, keep=config.checkpoint_keep))
        return given + added

    def fit(self, *, resume: bool = False) -> FitResult:
        """Train up to `TrainingConfig.max_epochs`.

        Args:
            resume: go on from the newest checkpoint in `TrainingConfig.run`, to the bits of a run never stopped.

        Raises:
            UsageError: called again without `resume`, or data that can't be used.
        """
        if self.current_epoch and not resume:
            raise UsageError(
                "this trainer has trained already. To go on, keep the run in a folder, TrainingConfig(run=...), and "
                "call fit(resume=True); to begin anew, make a new SCMTrainer."
            )
        settings = self._settings()
        if resume and self.config.run is not None:
            _check_same(self.config.run, settings)
        self._log.resuming = resume
        with self._on_device() as device:
            return self._trainer.fit(
                self._given if device is None else eqx.filter_shard(self._given, device),
                self._objective,
                self._feed,
                epochs=self.config.max_epochs,
                validation=self._held_out,
                seed=self.config.seed,
                run=self.config.run,
                resume=resume,
                settings={"training": settings},
            )

    def _settings(self) -> dict[str, Any]:
        """What the run's config.json says of it."""
        loss = getattr(self._objective.objective, "loss", None)
        combined = {"loss": repr(loss.config)} if isinstance(loss, SCMTrainingLoss) else {}
        return {**self.config.described(), **combined}

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[Any]:
        wanted = self.config.device
        if wanted is None:
            yield None
            return
        try:
            device = jax.devices(wanted)[0] if isinstance(wanted, str) else wanted
        except RuntimeError as error:
            raise UsageError(f"there is no device '{wanted}' here: {error}.") from error
        with jax.default_device(device):
            yield device

    @property
    def model(self) -> Any:
        """The model as it is now; the one that was given, until `fit` is called."""
        return self._given if self._log.run is None else self._log.run.model

    @property
    def current_epoch(self) -> int:
        """Epochs finished."""
        return 0 if self._log.run is None else self._log.run.epoch

    @property
    def global_step(self) -> int:
        """Batches trained on."""
        return 0 if self._log.run is None else self._log.run.step

    @property
    def last_thresholds(self) -> list[float]:
        """The training thresholds of the latest batches, at most 4096, the newest last.

        In a step they are rounded to the model's dtype.
        """
        done = self.global_step
        return [self._thresholds.at(step) for step in range(max(0, done - KEPT_THRESHOLDS), done)]

    @property
    def val_history(self) -> list[dict[str, float]]:
        """The metrics of each validation, under ``val_...``, and ``epoch``; those of a resumed run included."""
        return [found for record in self._history.records if (found := _validation(record))]


def _every_metric(params: Any, outcome: Outcome) -> dict[str, Any]:
    return {"loss": outcome.loss, **outcome.metrics}


def _mean_of_known(values: NDArray[Any]) -> float:
    """A batch may have nothing to average, and then says NaN."""
    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else math.nan


def _validation(record: EpochRecord) -> dict[str, float]:
    found = {name: value for name, value in record.metrics.items() if name.startswith("val_")}
    return {**found, "epoch": float(record.epoch)} if found else {}


_MAY_CHANGE = {
    *("max_epochs", "run", "device", "checkpoint_every", "checkpoint_keep", "max_nonfinite"),
    *("coverage_threshold", "coverage_patience", "validation_batch_size"),
}
"""Settings that a resumed run may be given anew: they change how long it goes on and what is kept."""


def _check_same(run: Any, settings: dict[str, Any]) -> None:
    """Refuse to go on with a run under settings that would make another run of it.

    Raises:
        UsageError: a setting has changed.
    """
    folder = RunFolder.open(run)
    began = folder.read_json(folder.config_path).get("settings", {}).get("training", {})
    for name in sorted((settings.keys() | began.keys()) - _MAY_CHANGE):
        if settings.get(name) != began.get(name):
            raise UsageError(
                f"{folder.path} was begun with {name}={began.get(name)!r}; resume it with that, not "
                f"{settings.get(name)!r}, or begin another run."
            )


class _Log(Callback):
    """Hands the records of an epoch to a hook, and keeps hold of the run."""

    name: ClassVar[str] = "SCMTrainer"
    order: ClassVar[int] = 30

    def __init__(self, hook: Callable[[dict[str, Any]], object] | None):
        self.hook, self.resuming = hook, False
        self.run: Run | None = None

    def on_run_begin(self, run: Run) -> None:
        self.run = run
        if self.resuming and isinstance(self.hook, ResumableHook):
            self.hook.resume()

    def on_epoch_end(self, run: Run, record: EpochRecord) -> None:
        if self.hook is None:
            return
        names = list(record.arrays)
        steps = zip(*(record.arrays[name].tolist() for name in names), strict=True)
        first = record.steps - len(record.arrays["loss"]) + 1
        for step, values in enumerate(steps, start=first):
            metrics = dict(zip(names, values, strict=True))
            self.hook(metric_log_record(metrics, phase="train", step=step, epoch=record.epoch))
        if found := _validation(record):
            self.hook(metric_log_record(found, phase="eval", step=record.steps, epoch=record.epoch))
