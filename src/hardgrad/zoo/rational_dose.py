"""Censored dose-response: can one rational model say a number, "below" or "above" as well as two networks can?

    hardgrad run rational-dose                        about 30 s, five seeds of four arms side by side
    hardgrad run rational-dose --plateau high         flat curves that can be told apart
    hardgrad run rational-dose --noise 0.2            classes that overlap

From ten responses a model foretells log10 IC50, or says that it lies below or above what the assay can measure. To a
tuple (P, Q) both are ⊥, the one at P < 0 and the other at P > 0: on the half circle of angles θ = atan2(P, Q) below is
-π/2, a finite y is atan y, above is π/2. Four arms train on the same batches, equally long, in layers of one width:

* projective   a perceptron read as (P, Q), trained to turn θ to the label's
* clamped      a regressor whose censored labels are a number beyond the range
* rational+ε   the same labels, for a perceptron read as P·Q/(Q² + ε²)
* two stages   a classifier and a regressor, so twice as many parameters

With a single output any score that ignores the scale of (P, Q) is a function of |P/Q|, so the projective arm decides
as the clamped one does; what the tuple spares it is the made-up number for what lies beyond the range.

The published baselines could not win: the clamped labels were edges of the assay, which lie inside the decision
thresholds, so that "censored" was never answered; and those of rational+ε were the thresholds themselves. Here they
are the middle of the censored regimes. All minimise a robust error (squared up to 0.04 decades, absolute beyond), since
squared errors put curves that may lie on either side into the range. Rates from 0.004 to 0.032 and, where one network
learns all labels, weights of 1, 3 and 10 for those in range were tried for each arm on validation sets of other seeds:
0.016 and 3 are the best of every arm, or within its spread of it.

Each arm's threshold is the one of least cost on the same held-out labels. Between it and the score that 99 % of
curves in range exceed lies the gap: accepted, but doubtful. The line "exact" is no arm: it knows the simulator and its
noise, and answers the likeliest class and the median. The closing lines say who won, from the figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from ..core import UsageError, control
from ..estimators import Autodiff
from ..export import Exportable
from ..rational import (
    CensoredClass,
    InferenceConfig,
    ProjectiveMLP,
    SCMObjective,
    Targets,
    calibrate,
    decode_strict_censored_3way,
    lift_targets,
    rejection_score,
    strict_inference,
)
from ..schedules import Cosine, Plan
from ..training import (
    EnsembleObjective,
    FitResult,
    GradientMethod,
    InMemory,
    RunFolder,
    Trainer,
    controlled,
    make_ensemble,
    member,
)
from ..training.callbacks import Best
from ._arms import ArmsObjective
from ._baselines import EpsilonRational, Perceptron, TwoStage
from ._config import check_range, member_seeds
from ._dose import (
    ABOVE,
    ARMS,
    BELOW,
    CONCENTRATIONS,
    IN_RANGE,
    Curves,
    Plateau,
    classes,
    confusion,
    exact_answer,
    judge,
    simulate,
)
from ._dose_arms import CENTRE, UNIT, Answer, ClampedObjective, TwoStageObjective, angular_loss, answer
from ._dose_report import angle_figure, confusion_figure, headline, seeds_figure, table_lines, verdict_lines
from ._recipe import Conclusion, Experiment, Recipe

TRAIN, CALIBRATE, TEST = range(3)
_INSIDE = 0.99  # share of curves in range that lie above the gap


@dataclasses.dataclass(frozen=True)
class Config:
    """The published task with a tenth of its curves."""

    samples: int = 20_000
    """training curves of each member"""
    held_out: int = 5000
    """curves that thresholds are chosen on"""
    test: int = 10_000
    """curves that are judged"""
    noise: float = 0.05
    """standard deviation of a response"""
    flat_share: float = 0.1
    """share of curves without a response, which count as above"""
    plateau: Plateau = "low"
    """where these lie: at full inhibition ("low") or at none ("high")"""
    epochs: int = 30
    """epochs of training"""
    batch_size: int = 512
    """rows a step"""
    members: int = 5
    """seeds, each with data and start of its own"""
    learning_rate: float = 0.016
    """Adam's, at the start; falls to 0 along a cosine"""
    width: int = 64
    """of the two hidden layers"""
    cost_in_range: float = 1.0
    """of a number for a censored curve, where refusing one in range costs 1"""
    seed: int = 0
    """members take seeds SEED·MEMBERS and on: no two seeds share one"""

    def __post_init__(self) -> None:
        check_range(self, samples=64, held_out=100, test=1, epochs=0, batch_size=1, members=1, width=1, seed=0)
        for name in ("noise", "learning_rate", "cost_in_range"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be above 0, got {getattr(self, name)!r}.")
        if not 0 <= self.flat_share < 1:
            raise UsageError(f"flat_share lies between 0 and 1, got {self.flat_share!r}.")
        if self.batch_size > self.samples:
            raise UsageError(f"a batch of {self.batch_size} rows is more than the {self.samples} samples.")

    @property
    def seeds(self) -> list[int]:
        """One a member."""
        return member_seeds(self.seed, self.members)

    @property
    def simulator(self) -> dict[str, Any]:
        """Its settings."""
        return {"noise": self.noise, "flat_share": self.flat_share, "plateau": self.plateau}


def samples(config: Config, part: int) -> list[Curves]:
    """Each member's curves.

    Args:
        config: the recipe's.
        part: `TRAIN`, `CALIBRATE` or `TEST`.
    """
    count = (config.samples, config.held_out, config.test)[part]
    return [simulate(count, np.random.default_rng((seed, part)), **config.simulator) for seed in config.seeds]


@dataclasses.dataclass(frozen=True)
class Scale:
    """Brings features to mean 0 and deviation 1, each member's by its training curves: both ``[members, 20]``."""

    mean: NDArray[Any]
    deviation: NDArray[Any]

    @classmethod
    def of(cls, curves: list[Curves]) -> Scale:
        """That of training curves. What never changes, as the concentrations, becomes 0."""
        mean = np.stack([one.features.mean(axis=0) for one in curves])
        deviation = np.stack([one.features.std(axis=0) for one in curves])
        return cls(mean, np.where(deviation > 1e-9, deviation, 1.0))

    def __call__(self, curves: list[Curves]) -> NDArray[Any]:
        """The models' inputs, ``[curve, members, 20]``."""
        features = np.stack([one.features for one in curves], axis=1)
        inputs: NDArray[Any] = ((features - self.mean) / self.deviation).astype(np.float32)
        return inputs


def data(config: Config) -> tuple[NDArray[Any], Targets]:
    """Training inputs ``[curve, members, 20]`` and lifted labels ``[curve, members]``, in the models' units."""
    curves = samples(config, TRAIN)
    labels = np.stack([(one.label - CENTRE) / UNIT for one in curves], axis=1)
    return Scale.of(curves)(curves), lift_targets(labels.astype(np.float32))


def build(config: Config) -> dict[str, Any]:
    """The arms by name, each an ensemble of members."""
    features = 20

    def tuples(key: Any) -> ProjectiveMLP:
        # From (0, 1), the middle of the half circle, both of its ends are equally far.
        return ProjectiveMLP(features, hidden=(config.width, config.width), start=(0.0, 1.0), key=key)

    def perceptron(key: Any, out_size: Any = "scalar") -> Perceptron:
        return Perceptron(features, out_size, width=config.width, depth=2, key=key, dtype=jnp.float32)

    def two_stage(key: Any) -> TwoStage:
        for_classes, for_values = jax.random.split(key)
        return TwoStage(perceptron(for_classes, 3), perceptron(for_values))

    makers: dict[str, Callable[[Any], Any]] = {
        "projective": tuples,
        "clamped": perceptron,
        "epsilon": lambda key: EpsilonRational(tuples(key)),
        "two_stage": two_stage,
    }
    return {name: make_ensemble(makers[name], config.seeds) for name in ARMS}


def objective() -> ArmsObjective:
    """The arms' losses, each over its members."""
    objectives = {
        "projective": SCMObjective(angular_loss),
        "clamped": ClampedObjective(),
        "epsilon": ClampedObjective(),
        "two_stage": TwoStageObjective(),
    }
    return ArmsObjective({name: EnsembleObjective(objectives[name], own_data=True) for name in ARMS})


def experiment(config: Config) -> Experiment:
    """The whole run. What is judged are the last parameters, not the best."""
    steps = config.epochs * (config.samples // config.batch_size)
    trainer = Trainer(
        GradientMethod(Autodiff(), controlled(optax.adam, control("learning_rate"))),
        plan=Plan(learning_rate=Cosine(config.learning_rate, 0.0, steps, unit="step")),
        callbacks=[Best("loss", "min")],
    )
    return Experiment(
        trainer=trainer,
        model=build(config),
        objective=objective(),
        data=InMemory(data(config), batch_size=config.batch_size, keep_remainder=False),
        epochs=config.epochs,
        seed=config.seed,
        conclude=lambda result: conclude(config, result),
    )


def thresholds(config: Config, score: NDArray[Any], regime: NDArray[Any]) -> tuple[float, float, str]:
    """``tau_infer`` of least cost and the upper end of the gap, from held-out labels; and why there is none, if so.

    Args:
        config: the recipe's.
        score: of one member's held-out curves, ``[curve]``.
        regime: their classes.
    """
    try:
        tau = calibrate(score, regime != IN_RANGE, cost=(config.cost_in_range, 1.0)).tau_infer
    except UsageError as refusal:  # scores of an arm that has learned nothing: everything is answered with a number
        return 0.0, 0.0, str(refusal)
    return tau, max(tau, float(np.quantile(score[regime == IN_RANGE], 1.0 - _INSIDE))), ""


def conclude(config: Config, result: FitResult) -> Conclusion:
    """Choose each arm's thresholds on held-out curves, and judge it on the test."""
    scale = Scale.of(samples(config, TRAIN))
    held_out, test = samples(config, CALIBRATE), samples(config, TEST)
    held_out_x, test_x = scale(held_out), scale(test)
    rows: dict[str, list[dict[str, float]]] = {}
    counts, refusals = {}, []
    angles: dict[str, Any] = {}
    for name, label in ARMS.items():
        ensemble = result.model[name]
        on_held_out, on_test = answer(ensemble, held_out_x), answer(ensemble, test_x)
        rows[name], counts[name] = [], np.zeros((3, 3), np.int64)
        for i, curves in enumerate(test):
            tau_infer, tau_train, refusal = thresholds(config, on_held_out.score[i], held_out[i].regime)
            if refusal:
                refusals.append(f"No threshold for {label}, seed {config.seeds[i]}: {refusal}")
            score, upward = on_test.score[i], on_test.upward[i]
            accepted = score >= tau_infer
            found = judge(curves, accepted, upward, on_test.value[i])
            gap = float(np.mean(accepted & (score < tau_train)))
            rows[name].append({**found, "gap_rate": gap, "tau_infer": tau_infer, "tau_train": tau_train})
            counts[name] += confusion(curves.regime, classes(accepted, upward))
        if name == "projective":
            angles = _angles(on_test, test[0], rows[name][0]["tau_infer"])
    rows["exact"], counts["exact"] = [], np.zeros((3, 3), np.int64)
    for curves in test:
        accepted, upward, medians = exact_answer(curves.features, **config.simulator)
        rows["exact"].append({**judge(curves, accepted, upward, medians), "gap_rate": 0.0})
        counts["exact"] += confusion(curves.regime, classes(accepted, upward))
    table = {name: {key: [one[key] for one in found] for key in found[0]} for name, found in rows.items()}
    title = f"{config.members} seeds, {config.test} test curves each; mean ± standard deviation over seeds"
    content = {
        "seeds": config.seeds,
        "arms": table,
        "confusion": {name: found.tolist() for name, found in counts.items()},
        "angles": angles,
        "without_threshold": refusals,
    }
    lines = (title, *table_lines(table), "", *verdict_lines(table), *refusals)
    return Conclusion(content, lines, headline(table))


def _angles(found: Answer, curves: Curves, tau: float) -> dict[str, Any]:
    """Histograms of the first member's angles, in degrees, by class."""
    angle = np.degrees(np.where(found.upward[0], 1.0, -1.0) * np.arccos(np.clip(found.score[0], 0.0, 1.0)))
    edges = np.linspace(-90.0, 90.0, 91)
    groups = {"below": curves.regime == BELOW, "in range": curves.regime == IN_RANGE}
    groups |= {"above": (curves.regime == ABOVE) & ~curves.flat, "flat": curves.flat}
    histograms = {name: np.histogram(angle[rows], edges)[0].tolist() for name, rows in groups.items()}
    return {"edges": edges.tolist(), "counts": histograms, "threshold": float(np.degrees(np.arccos(min(tau, 1.0))))}


def exportable(folder: RunFolder, config: Config, model: Any) -> Exportable:
    """The strict decision of the first member's projective arm, from raw features to log10 IC50 or a side.

    Args:
        folder: the run; not looked at.
        config: the recipe's; data, scales and thresholds are found again from it.
        model: the arms, trained.

    Raises:
        UsageError: the arm has learned too little for a threshold.
    """
    training, held_out, test = (samples(config, part)[0] for part in (TRAIN, CALIBRATE, TEST))
    scale, arm = Scale.of([training]), member(model["projective"], 0)
    score = np.asarray(rejection_score(*arm(scale([held_out])[:, 0])))
    tau_infer, tau_train, refusal = thresholds(config, score, held_out.regime)
    if refusal:
        raise UsageError(f"there is no decision to export: {refusal}")
    decision = InferenceConfig(tau_infer, tau_train, score="projective")
    mean, deviation = (part[0].astype(np.float32) for part in (scale.mean, scale.deviation))

    def decide(features: Any) -> dict[str, Any]:
        P, Q = arm((features - mean) / deviation)
        strict = strict_inference(P, Q, decision)
        return {
            "log10_ic50": CENTRE + UNIT * strict.decoded,
            "class_id": decode_strict_censored_3way(P, Q, decision).class_id,
            "bottom_mask": strict.bottom_mask,
            "gap_mask": strict.gap_mask,
            "fault_mask": strict.fault_mask,
        }

    rows = test.features.astype(np.float32)
    edge = np.stack([np.full(20, value, np.float32) for value in (np.nan, np.inf, -np.inf, 0.0, 1e30)])
    metadata = {
        "classes": {one.name.lower(): int(one) for one in CensoredClass},
        "score": decision.score,
        "tau_infer": tau_infer,
        "tau_train": tau_train,
        "concentrations": CONCENTRATIONS.tolist(),
        "seed": config.seeds[0],
    }
    return Exportable(decide, {"features": rows[:64]}, metadata=metadata, edge_rows={"features": edge})


def figures(folder: RunFolder) -> Mapping[str, Any]:
    """Confusions, angles and seeds."""
    found = folder.read_json(folder.result_path)
    if not found.get("arms"):
        return {}
    return {
        "Test curves, all seeds together": confusion_figure(found["confusion"]),
        "Where the projective arm puts the curves of the first seed": angle_figure(found["angles"]),
        "Test curves, a dot a seed": seeds_figure(found["arms"]),
    }


RECIPE = Recipe(
    config=Config,
    build=build,
    data=data,
    experiment=experiment,
    smoke={"samples": 1024, "held_out": 500, "test": 500, "epochs": 3, "batch_size": 128, "members": 2},
    figures=figures,
    export=exportable,
)
