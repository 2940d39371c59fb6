"""Through singular postures: what do networks know of the steps of a robot arm where its Jacobian loses rank?

    hardgrad run rational-arm                         about 25 s, ten seeds of four arms side by side

A planar arm of two links is to move its hand by d. The exact joint step adj(J) d / det J has poles where the arm is
stretched or folded; three samples in ten lie there or within 0.01 of it. The step is known in closed form, so that
nobody needs a network for it: the question is what networks learn of it. Four of one shape train on the same batches.
All are given the angles' cosines and sines, so that det J = sin θ₂ is among their inputs, and that a step is linear
in d:

* projective   the tuple (P, Q), turned to the direction of (adj(J) d, det J)
* sign-blind   the same, up to the sign of the tuple
* rational+ε   P·Q/(Q² + ε²), trained on damped steps
* perceptron   a number, trained on damped steps

and a classical solver, damped least squares, is held beside them. As weights, labels of the first two know the length
of (adj(J) d, det J), and at a pole the direction of adj(J) d. Beyond that "projective" knows the sign of det J, which
is the side of the elbow; "sign-blind" shows what that is worth. The others learn damped steps, since the exact ones
are not finite. Of squared error, squared relative error and relative error the last made the better baselines; of
rates from 0.005 to 0.04, tried on samples of other seeds, 0.02 is the best of every arm or within its spread of it.

Each arm's threshold is chosen on held-out samples so that 1 % of regular postures, |det J| > 0.01, are refused. The
score is |Q|/√(Q² + |A|²) of the inverse Jacobian A/Q as a tuple, the same for all arms. What is refused goes to
damped least squares. The closing lines say who won, from the figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from ..core import UsageError, control
from ..estimators import Autodiff
from ..export import Exportable
from ..rational import (
    InferenceConfig,
    calibrate,
    pole_metrics_2d,
    rejection_score,
    route_to_analytic_solver,
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
    over_members,
)
from ..training.callbacks import Best
from ._arm import AngleObjective, ArmModel, Head, Labels, StepObjective, Steps, damped_step, labels, simulate, times
from ._arm_report import BUCKETS, LEARNED, headline, profile_figure, table_lines, verdict_lines
from ._arms import ArmsObjective
from ._config import check_range, member_seeds
from ._recipe import Conclusion, Experiment, Recipe

TRAIN, CALIBRATE, TEST = range(3)
_HEADS: dict[str, Head] = {"projective": "tuple", "blind": "tuple", "epsilon": "epsilon", "perceptron": "number"}
_PROFILE = np.geomspace(1e-6, 1.0, 19)
_BINS = range(1, len(_PROFILE))
_LEAST_TAU = 1e-30  # where nothing can be calibrated, nothing is refused


@dataclasses.dataclass(frozen=True)
class Config:
    """The published task with a tenth of its samples."""

    samples: int = 20_000
    """training samples of each member"""
    test: int = 10_000
    """samples that thresholds are chosen on, and as many that are judged"""
    near_share: float = 0.25
    """share of samples within 0.01 of a pole, down to 1e-6"""
    pole_share: float = 0.05
    """share exactly on a pole"""
    epochs: int = 30
    """epochs of training"""
    batch_size: int = 250
    """rows a step"""
    members: int = 10
    """seeds, each with data and start of its own"""
    learning_rate: float = 0.02
    """Adam's, at the start; falls to 0 along a cosine"""
    width: int = 64
    """of the two hidden layers"""
    false_rejection: float = 0.01
    """share of regular postures that calibration may refuse"""
    seed: int = 0
    """members take seeds SEED·MEMBERS and on: no two seeds share one"""

    def __post_init__(self) -> None:
        check_range(self, samples=64, test=500, epochs=0, batch_size=1, members=1, width=1, seed=0, learning_rate=0.0)
        if not (self.near_share > 0 and self.pole_share > 0 and self.near_share + self.pole_share < 1):
            raise UsageError(
                "near_share and pole_share are above 0 and leave room for regular postures, "
                f"got {self.near_share!r} and {self.pole_share!r}."
            )
        if not 0 < self.false_rejection < 1:
            raise UsageError(f"false_rejection lies between 0 and 1, got {self.false_rejection!r}.")
        if self.batch_size > self.samples:
            raise UsageError(f"a batch of {self.batch_size} rows is more than the {self.samples} samples.")

    @property
    def seeds(self) -> list[int]:
        """One a member."""
        return member_seeds(self.seed, self.members)


def samples(config: Config, part: int) -> list[Steps]:
    """Each member's samples.

    Args:
        config: the recipe's.
        part: `TRAIN`, `CALIBRATE` or `TEST`.
    """
    count = config.samples if part == TRAIN else config.test
    shares = config.near_share, config.pole_share
    return [simulate(count, *shares, np.random.default_rng((seed, part))) for seed in config.seeds]


def inputs(steps: list[Steps]) -> NDArray[Any]:
    """(θ₁, θ₂, dx, dy) of all members, ``[row, members, 4]``, in float32."""
    return np.stack([one.inputs for one in steps], axis=1).astype(np.float32)


def data(config: Config) -> tuple[NDArray[Any], Labels]:
    """Training inputs and labels, ``[row, members, ...]``."""
    steps = samples(config, TRAIN)
    parts = zip(*(labels(one) for one in steps), strict=True)
    return inputs(steps), Labels(*(np.stack(part, axis=1).astype(np.float32) for part in parts))


def build(config: Config) -> dict[str, Any]:
    """The arms by name, each an ensemble of members."""

    def maker(head: Head) -> Callable[[Any], ArmModel]:
        return lambda key: ArmModel(head, width=config.width, key=key)

    return {name: make_ensemble(maker(head), config.seeds) for name, head in _HEADS.items()}


def objective() -> ArmsObjective:
    """The arms' losses, each over its members."""
    objectives = {
        "projective": AngleObjective(oriented=True),
        "blind": AngleObjective(oriented=False),
        "epsilon": StepObjective(),
        "perceptron": StepObjective(),
    }
    return ArmsObjective({name: EnsembleObjective(one, own_data=True) for name, one in objectives.items()})


def experiment(config: Config) -> Experiment:
    """The whole run. What is judged are the last parameters, not the best."""
    steps = config.epochs * (config.samples // config.batch_size)
    trainer = Trainer(
        GradientMethod(Autodiff(), controlled(optax.adam, control("learning_rate"))),
        plan=Plan(learning_rate=Cosine(config.learning_rate, 0.0, steps, unit="step")),
        callbacks=[Best("projective_loss", "min")],
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


def inverses(ensemble: Any, x: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The inverse Jacobians that an arm foretells for ``[row, members, 4]``, as tuples.

    Returns:
        P ``[members, row, 4]`` and Q ``[members, row]``, in float32.
    """
    P, Q = _inverses(ensemble, jnp.asarray(x))
    return np.asarray(P), np.asarray(Q)


@eqx.filter_jit
def _inverses(ensemble: Any, x: Any) -> Any:
    return over_members(ArmModel.inverse, ensemble, x, axis=1)


def threshold(config: Config, score: NDArray[Any], determinant: NDArray[Any]) -> float:
    """What refuses the stated share of held-out regular postures; all but nothing if none can be chosen.

    Args:
        config: the recipe's.
        score: of one member's held-out samples, ``[row]``.
        determinant: their det J.
    """
    try:
        return calibrate(
            score, np.abs(determinant) <= BUCKETS[-2], false_rejection_rate=config.false_rejection
        ).tau_infer
    except UsageError:  # scores of an arm that has learned nothing
        return _LEAST_TAU


def by_bucket(values: NDArray[Any], determinant: NDArray[Any], statistic: Any) -> list[float]:
    """A statistic of the rows with det J = 0, then of those in each bucket of |det J|; NaN for one that is empty."""
    bucket = np.searchsorted(BUCKETS, np.abs(determinant), side="left")
    groups = (values[bucket == i] for i in range(len(BUCKETS)))
    return [float(statistic(group)) if group.size else float("nan") for group in groups]


def distance(step: NDArray[Any], truth: NDArray[Any]) -> NDArray[Any]:
    """|step - truth| / |truth|, ``[row]``."""
    with np.errstate(all="ignore"):
        found: NDArray[Any] = np.linalg.norm(step - truth, axis=1) / np.linalg.norm(truth, axis=1)
    return found


METRICS = ("pole_localisation_error", "sign_consistency", "slope_error", "residual_consistency")
"""The published metrics of an arm near its poles."""


def judge(steps: Steps, found: NDArray[Any], refused: NDArray[Any]) -> dict[str, Any]:
    """The figures of one member, or of a solver.

    Args:
        steps: test samples.
        found: the steps foretold, whether or not they are refused, ``[row, 2]``.
        refused: which are, ``[row]``.
    """
    served = route_to_analytic_solver(found, refused, inputs=steps.inputs, solver=damped_step)
    error, determinant = distance(found, steps.exact), steps.determinant
    bins = np.digitize(np.abs(determinant), _PROFILE)
    return {
        "exact_error": by_bucket(error, determinant, np.median),
        "served_error": by_bucket(distance(served, steps.damped), determinant, np.median),
        "refused": by_bucket(refused, determinant, np.mean),
        "profile": [float(np.median(error[bins == i])) if (bins == i).any() else np.nan for i in _BINS],
        "refused_profile": [float(np.mean(refused[bins == i])) if (bins == i).any() else np.nan for i in _BINS],
        **pole_metrics(steps, found),
        "served_residual": pole_metrics(steps, served)["residual_consistency"],
    }


def pole_metrics(steps: Steps, found: NDArray[Any]) -> dict[str, float]:
    """The published metrics, of those rows where steps are finite."""
    finite = np.isfinite(found).all(axis=1)
    if not finite.any():
        return dict.fromkeys(METRICS, np.nan)
    return dict(zip(METRICS, map(float, pole_metrics_2d(steps.inputs[finite], found[finite])), strict=True))


def conclude(config: Config, result: FitResult) -> Conclusion:
    """Calibrate each arm, and judge it and the two solvers on the test samples."""
    held_out, test = samples(config, CALIBRATE), samples(config, TEST)
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in LEARNED:
        scores = np.asarray(rejection_score(*inverses(result.model[name], inputs(held_out))))
        P, Q = inverses(result.model[name], inputs(test))
        rows[name] = []
        for i, steps in enumerate(test):
            tau = threshold(config, scores[i], held_out[i].determinant)
            refused = np.asarray(strict_inference(P[i], Q[i], decision(tau)).bottom_mask)
            with np.errstate(divide="ignore", invalid="ignore"):
                found = times(P[i].astype(np.float64), steps.inputs[:, 2:]) / Q[i][:, None]
            rows[name].append({**judge(steps, found, refused), "tau_infer": tau})
    none = np.zeros(config.test, bool)
    rows["damped"] = [judge(steps, steps.damped, none) for steps in test]
    rows["exact"] = [judge(steps, steps.exact, none) for steps in test]
    table = {name: {key: [one[key] for one in found] for key in found[0]} for name, found in rows.items()}
    title = f"{config.members} seeds, {config.test} test samples each; mean ± standard deviation over seeds"
    content = {"seeds": config.seeds, "buckets": list(BUCKETS), "profile": _PROFILE.tolist(), "arms": table}
    return Conclusion(content, (title, "", *table_lines(table), "", *verdict_lines(table)), headline(table))


def decision(tau: float) -> InferenceConfig:
    """The strict decision on inverse Jacobians at a threshold."""
    return InferenceConfig(tau, score="projective")


def exportable(folder: RunFolder, config: Config, model: Any) -> Exportable:
    """The strict step of the first member's projective arm, from (θ₁, θ₂, dx, dy); ⊥ where to ask a solver.

    Args:
        folder: the run; not looked at.
        config: the recipe's; held-out samples and the threshold are found again from it.
        model: the arms, trained.
    """
    held_out, test = (samples(config, part)[0] for part in (CALIBRATE, TEST))
    arm, x = member(model["projective"], 0), held_out.inputs.astype(np.float32)
    tau = threshold(config, np.asarray(rejection_score(*arm.inverse(x))), held_out.determinant)

    def decide(inputs: Any) -> dict[str, Any]:
        P, Q = arm.inverse(inputs)
        strict = strict_inference(P, Q, decision(tau))
        return {
            "step": times(strict.decoded, inputs[:, 2:]),
            "bottom_mask": strict.bottom_mask,
            "fault_mask": strict.fault_mask,
        }

    poles = [[0.3, 0.0, 0.05, -0.05], [0.3, np.pi, 0.05, -0.05], [0.3, -np.pi, 0.0, 0.0]]
    edge = np.array([*poles, *np.full((3, 4), [[np.nan], [np.inf], [1e30]])], np.float32)
    metadata = {"tau_infer": tau, "score": "projective", "links": [1.0, 1.0], "seed": config.seeds[0]}
    rows = test.inputs[:64].astype(np.float32)
    return Exportable(decide, {"inputs": rows}, metadata=metadata, edge_rows={"inputs": edge})


def figures(folder: RunFolder) -> Mapping[str, Any]:
    """Error and refusals against the distance from a pole."""
    found = folder.read_json(folder.result_path)
    if not found.get("arms"):
        return {}
    return {"Test samples; lines are medians of seeds, bands all of them": profile_figure(found)}


RECIPE = Recipe(
    config=Config,
    build=build,
    data=data,
    experiment=experiment,
    smoke={"samples": 1000, "test": 1000, "epochs": 3, "members": 2},
    figures=figures,
    export=exportable,
)
