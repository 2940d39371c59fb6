"""A function with poles inside its domain: can a network learn 1/(x₁ - x₂), poles and all?

    hardgrad run rational-pole                        about 30 s, five seeds of six arms side by side
    hardgrad run rational-pole --float64

One sample in twenty lies exactly on the diagonal and is labelled +∞. Six arms train on the same batches:

* projective   the guides' perceptron, read as a tuple (P, Q): chordal fit, orientation by projection, and a start
               away from the origin of the tuple, on the side of the labels
* published    the same perceptron with the published losses, start and constant rate
* published*   the published losses with the start and the falling rate of the projective arm: what the losses are worth
* two stages   a classifier for the poles, a regressor for the rest
* rational+ε   the same perceptron, read as P·Q/(Q² + ε²)
* perceptron   an ordinary regressor

The regressors minimise the very error that is reported. Each arm's rejection is calibrated on held-out labels to
lose 1 % of the finite samples; what it then finds of the poles is counted on a test set. "Wrong side" counts poles
whose P points to -∞.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
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
    Calibration,
    LossConfig,
    ProjectiveMLP,
    SCMObjective,
    SCMTrainingLoss,
    StrictModel,
    Targets,
    calibrate,
    lift_targets,
    rejection_score,
)
from ..schedules import Cosine, Plan, UniformDraw
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
    over_members,
)
from ..training.callbacks import Best
from ._arms import ArmsObjective
from ._baselines import EpsilonRational, Perceptron, RegressionObjective, TwoStage, TwoStageObjective
from ._config import check_range, member_seeds
from ._figures import BLUE, SOFT, new_figure
from ._recipe import Conclusion, Experiment, Recipe
from ._verdicts import compare, spread

ARMS = {
    "projective": "projective",
    "published": "published",
    "started": "published*",
    "two_stage": "two stages",
    "epsilon": "rational+ε",
    "perceptron": "perceptron",
}
"""The arms, and what they are called where people read."""
TRAIN, CALIBRATE, TEST = range(3)
_MODERATE = 10.0  # |y| up to here counts in the root mean square


@dataclasses.dataclass(frozen=True)
class Config:
    """The set-up of the published timing task. Rates were chosen on other seeds than those reported."""

    samples: int = 8192
    """of each member, for training, for calibration and for the test"""
    pole_share: float = 0.05
    """share of the samples that lie exactly on a pole"""
    epochs: int = 50
    """epochs of training"""
    batch_size: int = 256
    """rows a step"""
    members: int = 5
    """seeds, each with data, start and test of its own"""
    learning_rate: float = 3e-3
    """Adam's, at the start; falls to 0 along a cosine"""
    width: int = 64
    """of the two hidden layers"""
    false_rejection: float = 0.01
    """share of finite samples that calibration may give away"""
    float64: bool = False
    """train in double precision"""
    seed: int = 0
    """members take seeds SEED·MEMBERS and on: no two seeds share one"""

    def __post_init__(self) -> None:
        check_range(self, samples=64, epochs=0, batch_size=1, members=1, width=1, seed=0)
        for name in ("pole_share", "false_rejection"):
            if not 0 < getattr(self, name) < 1:
                raise UsageError(f"{name} lies between 0 and 1, got {getattr(self, name)!r}.")
        if self.batch_size > self.samples:
            raise UsageError(f"a batch of {self.batch_size} rows is more than the {self.samples} samples.")

    @property
    def seeds(self) -> list[int]:
        """One a member."""
        return member_seeds(self.seed, self.members)

    @property
    def dtype(self) -> Any:
        """Of data and parameters."""
        return np.dtype(np.float64 if self.float64 else np.float32)


def samples(config: Config, part: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Inputs ``[samples, members, 2]`` in [-1, 1]² and labels ``[samples, members]``, +∞ on the poles.

    Args:
        config: the recipe's.
        part: `TRAIN`, `CALIBRATE` or `TEST`.
    """
    inputs, labels = [], []
    for seed in config.seeds:
        rng = np.random.default_rng((seed, part))
        x = rng.uniform(-1.0, 1.0, (config.samples, 2)).astype(config.dtype)
        pole = rng.random(config.samples) < config.pole_share
        x[pole, 1] = x[pole, 0]
        with np.errstate(divide="ignore"):
            labels.append(np.where(pole, np.inf, 1.0 / (x[:, 0] - x[:, 1])).astype(config.dtype))
        inputs.append(x)
    return np.stack(inputs, axis=1), np.stack(labels, axis=1)


def data(config: Config) -> tuple[NDArray[Any], Targets]:
    """Training inputs and lifted labels."""
    x, y = samples(config, TRAIN)
    return x, lift_targets(y)


def build(config: Config) -> dict[str, Any]:
    """The arms by name, each an ensemble of members."""
    hidden, dtype = (config.width, config.width), config.dtype

    def tuples(key: Any, **start: Any) -> ProjectiveMLP:
        return ProjectiveMLP(2, hidden=hidden, key=key, dtype=dtype, **start)

    def perceptron(key: Any) -> Perceptron:
        return Perceptron(2, width=config.width, depth=2, key=key, dtype=dtype)

    def two_stage(key: Any) -> TwoStage:
        return TwoStage(*(perceptron(k) for k in jax.random.split(key)))

    makers = {
        "projective": lambda key: tuples(key, start=(1.0, 0.0)),
        "published": tuples,
        "started": lambda key: tuples(key, start=(1.0, 0.0)),
        "two_stage": two_stage,
        "epsilon": lambda key: EpsilonRational(tuples(key)),
        "perceptron": perceptron,
    }
    return {name: make_ensemble(makers[name], config.seeds) for name in ARMS}


def objective() -> ArmsObjective:
    """The arms' losses, each over its members."""
    projective = LossConfig(fit="chordal", orientation="projection")
    published = LossConfig(fit="implicit", orientation="cosine", rejection="hard")
    objectives = {
        "projective": SCMObjective(SCMTrainingLoss(projective)),
        "published": SCMObjective(SCMTrainingLoss(published)),
        "started": SCMObjective(SCMTrainingLoss(published)),
        "two_stage": TwoStageObjective(),
        "epsilon": RegressionObjective(),
        "perceptron": RegressionObjective(),
    }
    return ArmsObjective({name: EnsembleObjective(objectives[name], own_data=True) for name in ARMS})


def experiment(config: Config) -> Experiment:
    """The whole run."""
    rates = {name: controlled(optax.adam, control("learning_rate")) for name in ARMS}
    rates["published"] = optax.adam(1e-3)
    steps = config.epochs * (config.samples // config.batch_size)
    trainer = Trainer(
        GradientMethod(Autodiff(), optax.partition(rates, {name: name for name in ARMS})),
        plan=Plan(
            learning_rate=Cosine(config.learning_rate, 0.0, steps, unit="step"),
            tau=UniformDraw(5e-5, 2e-4, seed=config.seed),
        ),
        callbacks=[Best("projective_loss", "min")],
    )
    return Experiment(
        trainer=trainer,
        model=build(config),
        objective=objective(),
        data=InMemory(data(config), batch_size=config.batch_size),
        epochs=config.epochs,
        seed=config.seed,
        conclude=lambda result: conclude(config, result),
    )


@dataclasses.dataclass(frozen=True)
class Answer:
    """What an arm says of some inputs, all ``[members, samples]``.

    Attributes:
        value: the number, whether or not it is then rejected.
        score: the lower, the nearer to a pole.
        upward: whether a pole there would be +∞; None for arms without a side.
    """

    value: NDArray[Any]
    score: NDArray[Any]
    upward: NDArray[Any] | None


def answer(name: str, ensemble: Any, x: NDArray[Any]) -> Answer:
    """What an arm says of ``[samples, members, 2]``."""
    found = jax.jit(lambda x: over_members(_outputs, ensemble, x, axis=1))(jnp.asarray(x))
    first, second = (np.asarray(array, np.float64) for array in found)
    if name == "two_stage":
        return Answer(first, 1.0 / (1.0 + np.exp(np.clip(second, -500, 500))), None)
    with np.errstate(divide="ignore", invalid="ignore"):
        upward = first > 0 if name in ("projective", "published", "started") else None
        return Answer(first / second, np.asarray(rejection_score(first, second)), upward)


def _outputs(model: Any, x: Any) -> tuple[Any, Any]:
    """A value with the logit of a pole, or the tuple (P, Q)."""
    if isinstance(model, TwoStage):
        return model.regressor(x), model.classifier(x)
    found = model(x)
    return (found, jnp.ones_like(found)) if isinstance(found, jax.Array) else tuple(found)


def conclude(config: Config, result: FitResult) -> Conclusion:
    """Calibrate each arm, and judge it on the test samples."""
    (calibration_x, calibration_y), (test_x, test_y) = samples(config, CALIBRATE), samples(config, TEST)
    figures: dict[str, dict[str, Any]] = {}
    for name in ARMS:
        ensemble = result.model[name]
        held_out, tested = answer(name, ensemble, calibration_x), answer(name, ensemble, test_x)
        members = []
        for i in range(config.members):
            bottom = np.isinf(calibration_y[:, i])
            calibration = calibrate(held_out.score[i], bottom, false_rejection_rate=config.false_rejection)
            members.append(judge(tested, i, test_y[:, i].astype(np.float64), calibration))
        figures[name] = {key: [one[key] for one in members] for key in members[0]}
    ours = figures["projective"]
    headline = (
        f"{np.mean(ours['poles_rejected']):.1%} of the poles refused; "
        f"relative error {np.mean(ours['relative_error']):.4f} ± {spread(ours['relative_error']):.4f} elsewhere"
    )
    return Conclusion({"seeds": config.seeds, "arms": figures}, tuple(_lines(config, figures)), headline)


def judge(tested: Answer, i: int, truth: NDArray[Any], calibration: Calibration) -> dict[str, Any]:
    """The figures of one member.

    Args:
        tested: what its arm says of the test inputs.
        i: which member.
        truth: labels ``[samples]``, +∞ on poles.
        calibration: its threshold.
    """
    pole = np.isinf(truth)
    value, score = tested.value[i], tested.score[i]
    with np.errstate(invalid="ignore"):
        error = np.abs(value - truth)[~pole]
    small = np.abs(truth[~pole]) <= _MODERATE
    return {
        "relative_error": float(np.median(error / (1.0 + np.abs(truth[~pole])))),
        "rmse_moderate": float(np.sqrt(np.mean(np.square(error[small])))),
        "poles_rejected": float(np.mean(score[pole] < calibration.tau_infer)),
        "false_rejection": float(np.mean(score[~pole] < calibration.tau_infer)),
        "wrong_side": None if tested.upward is None else float(np.mean(~tested.upward[i][pole])),
        "tau_infer": calibration.tau_infer,
    }


def _lines(config: Config, figures: dict[str, dict[str, Any]]) -> list[str]:
    precision = "float64" if config.float64 else "float32"
    lines = [
        f"{config.members} seeds, {precision}; refused is what scores below a threshold, set on held-out",
        f"samples so that {config.false_rejection:.1%} of the finite ones are lost",
        "",
        f"{'':<13}{'relative error, median':>27}{'poles found':>15}{'finite lost':>13}{'wrong side':>12}",
        f"{'':<13}{'mean ± sd      worst':>27}{'mean   worst':>15}{'mean':>13}{'seeds':>12}",
    ]
    for name, label in ARMS.items():
        found = figures[name]
        error, poles = found["relative_error"], found["poles_rejected"]
        wrong = [share for share in found["wrong_side"] if share is not None]
        seeds = f"{sum(share > 0 for share in wrong)} of {len(wrong)}" if wrong else "-"
        lines.append(
            f"{label:<13}{np.mean(error):>10.4f} ± {spread(error):.4f}{max(error):>8.4f}"
            f"{np.mean(poles):>7.1%}{min(poles):>8.1%}{np.mean(found['false_rejection']):>13.2%}{seeds:>12}"
        )
    lines += [
        "",
        "projective: a perceptron read as (P, Q); published: with the published losses;",
        "published*: those with the start and the falling rate of projective;",
        "two stages: a classifier of poles, a regressor of the rest;",
        "rational+ε: P·Q/(Q² + ε²); perceptron: a regressor.",
        "A tie: the mean difference is within its standard deviation over seeds.",
        "",
    ]
    return [*lines, *_verdict(figures)]


def _verdict(figures: dict[str, dict[str, Any]]) -> list[str]:
    """Who won, from the figures."""
    others = [name for name in ARMS if name != "projective"]
    lines = []
    for key, what, best, sign in (
        ("relative_error", "relative error", min, 1.0),
        ("poles_rejected", "poles found", max, -1.0),
    ):
        rival = best(others, key=lambda name: np.mean(figures[name][key]))
        word = compare(figures["projective"][key], figures[rival][key], sign)
        lines.append(f"By {what}, projective {word} the best other, {ARMS[rival]}.")
    return lines


def exportable(folder: RunFolder, config: Config, model: Any) -> Exportable:
    """The strict decision of the first member's projective arm, at a threshold calibrated for it.

    Args:
        folder: the run; not looked at.
        config: the recipe's; held-out labels are drawn again from it.
        model: the arms, trained.

    Raises:
        UsageError: the arm has learned too little for a threshold.
    """
    (calibration_x, calibration_y), (test_x, _) = samples(config, CALIBRATE), samples(config, TEST)
    arm = member(model["projective"], 0)
    bottom = np.isinf(calibration_y[:, 0])
    calibration = calibrate(arm(calibration_x[:, 0]), bottom, false_rejection_rate=config.false_rejection)
    edge = np.array([[0.5, 0.5], [0.0, 0.0], [-1.0, 1.0], [np.nan, 0.0], [np.inf, 0.0], [3e38, -3e38]], config.dtype)
    return Exportable(
        StrictModel(arm, calibration.config()),
        {"x": test_x[:64, 0]},
        metadata={"calibration": calibration.as_json(), "seed": config.seed},
        edge_rows={"x": edge},
    )


def figures(folder: RunFolder) -> Mapping[str, Any]:
    """Error and poles found, a dot a seed."""
    shown = folder.read_json(folder.result_path).get("arms")
    if not shown:
        return {}
    figure = new_figure(7.5, 2.9)
    panels = figure.subplots(1, 2, sharey=True)
    for axis, key, label in zip(
        panels,
        ("relative_error", "poles_rejected"),
        ("median relative error of finite samples", "share of the poles that are rejected"),
        strict=True,
    ):
        for row, name in enumerate(reversed(ARMS)):
            values = [np.nan if v is None else float(v) for v in shown[name][key]]
            axis.plot(values, [row] * len(values), "o", color=BLUE if name == "projective" else SOFT, ms=6, alpha=0.75)
        axis.set_xlabel(label)
        axis.set_yticks(range(len(ARMS)), list(reversed(ARMS.values())))
        axis.grid(axis="y", color="#d9dee3", lw=0.7)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(left=False)
    panels[0].set_xscale("log")
    panels[1].set_xlim(-0.03, 1.03)
    return {"Held-out samples, a dot a seed": figure}


RECIPE = Recipe(
    config=Config,
    build=build,
    data=data,
    experiment=experiment,
    smoke={"samples": 512, "epochs": 4, "members": 2},
    figures=figures,
    float64=lambda config: bool(config.float64),
    export=exportable,
)
