"""Resonator peaks: does a rational network keep them where Q is higher than it has ever seen?

    hardgrad run rational-filter                      about 60 s, five seeds of six arms side by side

Given (ω₀, Q) of a second-order low-pass filter and a frequency, foretell its gain |H|. Filters with Q from 2 to 30 are
trained on, filters with Q up to 500 tested, whose peaks are up to 17 times as high and as narrow as any seen. Six
arms train on the same batches, equally long:

* perceptron   (log ω, log ω₀, log Q) → log |H|
* signed       the plain rational model: a perceptron of (ω₀, Q) gives the coefficients of |B(s)/A(s)|, both of degree 2
* published    the published form: B = 1, and the coefficients of A through a softplus
* positive     as signed, with the coefficients' logarithms in place of the coefficients
* powers       as positive, with logarithms linear in (log ω₀, log Q) in place of the perceptron
* implicit     as powers, trained by the published implicit loss

All but the last minimise the mean square of log(|H| foretold / |H|), the error that is reported. "Published" is told
that B is constant; "powers" that coefficients are products of powers of ω₀ and Q, as dimensional analysis has it for
quantities without a scale of their own. The true filter is one of those, so that where "powers" wins beyond the trained
range, it wins by construction: the comparison shows what each piece of structure is worth, not that networks
extrapolate. Each arm's rate is the best of those tried, from 1e-3 to 0.1, or within its spread of it, on filters of
other seeds with Q from 2 to 30.

A peak is kept if the highest gain foretold in the band is at least 0.9 of the true peak, as published; since a peak
of twice the height passes that, the share within 10 % of the true height is reported as well. A peak is false if it
is further from the true one than the resonance is wide, ω₀/Q. The closing lines say who won, from the figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from ..core import control
from ..estimators import Autodiff
from ..export import Exportable
from ..rational import InferenceConfig, Targets, implicit_loss, lift_targets, strict_inference
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
from ._arms import ArmsObjective
from ._config import check_range, member_seeds
from ._filter import (
    BAND,
    HIGHEST_Q,
    TRAINED_Q,
    Filters,
    FitObjective,
    Gain,
    PowerLaws,
    Transfer,
    gain,
    highest_point,
    log_gain,
    log_ratio_loss,
    simulate,
    transfer,
    true_peak,
)
from ._filter_report import ARMS, curve_figure, headline, heights_figure, table_lines, verdict_lines
from ._recipe import Conclusion, Experiment, Recipe

TRAIN, TEST = range(2)
RATES = {"perceptron": 0.8, "signed": 1.0, "published": 1.0, "positive": 1.0, "powers": 5.0, "implicit": 5.0}
"""Each arm's learning rate, as a multiple of the config's."""
# The curve in the report: its Q, at ω₀ = 1, and its frequencies, half of them at the resonance.
_SHOWN = (100.0, np.sort(np.concatenate([np.linspace(*BAND, 200), np.linspace(-0.1, 0.1, 201)])))


@dataclasses.dataclass(frozen=True)
class Config:
    """The published task at its published size."""

    filters: int = 2048
    """training filters of each member"""
    points: int = 64
    """frequencies of each filter"""
    test: int = 1024
    """test filters of each member, half of them beyond the trained range"""
    epochs: int = 20
    """epochs of training"""
    batch_size: int = 16
    """filters a step"""
    members: int = 5
    """seeds, each with data and start of its own"""
    learning_rate: float = 0.02
    """Adam's, at the start; falls to 0 along a cosine. Arms take fixed multiples of it"""
    width: int = 256
    """of the two hidden layers of the perceptron"""
    coefficient_width: int = 64
    """of the two hidden layers that give coefficients"""
    seed: int = 0
    """members take seeds SEED·MEMBERS and on: no two seeds share one"""

    def __post_init__(self) -> None:
        check_range(self, filters=1, points=1, test=8, epochs=0, batch_size=1, members=1, seed=0)
        check_range(self, width=1, coefficient_width=1, learning_rate=0.0)

    @property
    def seeds(self) -> list[int]:
        """One a member."""
        return member_seeds(self.seed, self.members)


def samples(config: Config, part: int) -> tuple[Filters, NDArray[Any]]:
    """Filters, their arrays ``[filter, members, ...]`` in float32, and their gains ``[filter, members, point]``.

    Args:
        config: the recipe's.
        part: `TRAIN`, with Q up to 30, or `TEST`, with Q up to 500.
    """
    count, highest = (config.filters, config.test)[part], (TRAINED_Q[1], HIGHEST_Q)[part]
    drawn = [simulate(count, config.points, highest, np.random.default_rng((seed, part))) for seed in config.seeds]
    filters = Filters(*(np.stack(arrays, axis=1).astype(np.float32) for arrays in zip(*drawn, strict=True)))
    return filters, gain(Filters(*(array.astype(np.float64) for array in filters))).astype(np.float32)


def data(config: Config) -> tuple[Filters, Targets]:
    """Training filters and lifted gains."""
    filters, gains = samples(config, TRAIN)
    return filters, lift_targets(gains)


def build(config: Config) -> dict[str, Any]:
    """The arms by name, each an ensemble of members."""
    width = config.coefficient_width
    makers: dict[str, Callable[[Any], Any]] = {
        "perceptron": lambda key: Gain(config.width, key=key),
        "signed": lambda key: transfer("signed", width=width, key=key),
        "published": lambda key: transfer("published", width=width, key=key),
        "positive": lambda key: transfer("positive", width=width, key=key),
        "powers": lambda key: Transfer(PowerLaws(6), "positive"),
        "implicit": lambda key: Transfer(PowerLaws(6), "positive"),
    }
    return {name: make_ensemble(makers[name], config.seeds) for name in ARMS}


def objective() -> ArmsObjective:
    """The arms' losses, each over its members."""

    def published(outputs: tuple[Any, Any], targets: Targets) -> Any:
        return implicit_loss(*outputs, targets.numerator, targets.denominator)

    losses = {name: published if name == "implicit" else log_ratio_loss for name in ARMS}
    return ArmsObjective({name: EnsembleObjective(FitObjective(losses[name]), own_data=True) for name in ARMS})


def experiment(config: Config) -> Experiment:
    """The whole run. What is judged are the last parameters, not the best."""
    steps = config.epochs * -(-config.filters // config.batch_size)
    rates = {
        name: optax.chain(controlled(optax.adam, control("learning_rate")), optax.scale(RATES[name])) for name in ARMS
    }
    trainer = Trainer(
        GradientMethod(Autodiff(), optax.partition(rates, {name: name for name in ARMS})),
        plan=Plan(learning_rate=Cosine(config.learning_rate, 0.0, steps, unit="step")),
        callbacks=[Best("powers_loss", "min")],
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


def judge(height: NDArray[Any], where: NDArray[Any], error: NDArray[Any], parameters: NDArray[Any]) -> dict[str, float]:
    """Figures of some filters.

    Args:
        height: log of the highest gain foretold, ``[filter]``.
        where: log of its frequency.
        error: of log |H|, ``[filter, point]``.
        parameters: (log ω₀, log Q), ``[filter, 2]``.
    """
    true_height, true_where = true_peak(parameters)
    ratio, shift = np.exp(height - true_height), np.abs(where - true_where) * np.exp(parameters[:, 1])
    return {
        "kept": float(np.mean(ratio >= 0.9)),
        "within": float(np.mean((ratio >= 0.9) & (ratio <= 1.1))),
        "false_peaks": float(np.mean(~(shift <= 1.0))),
        "shift": float(np.median(shift)),
        "log_error": float(np.mean(np.square(error))),
    }


def conclude(config: Config, result: FitResult) -> Conclusion:
    """Judge every arm on the test filters, inside and beyond the trained range."""
    filters, gains = samples(config, TEST)
    truth = np.log(gains.astype(np.float64)).swapaxes(0, 1)
    quality, frequency = _SHOWN
    qualities = np.geomspace(TRAINED_Q[0], HIGHEST_Q, 60)
    shown = np.log(np.stack([np.ones(60), qualities], axis=1))
    all_parameters = np.concatenate([filters.parameters, _for_members(config, shown)])
    parameters = filters.parameters.astype(np.float64)
    curve = Filters(np.log([[1.0, quality]]), frequency[None])
    asked: Any = all_parameters, filters, Filters(*(_for_members(config, one) for one in curve))
    asked = jax.tree.map(jnp.asarray, asked)
    table: dict[str, dict[str, dict[str, list[float]]]] = {}
    curves, heights = {}, {}
    for name in ARMS:
        height, where, found, gain_of_curve = (
            np.asarray(array, np.float64) for array in foretell(result.model[name], *asked)
        )
        table[name] = {}
        for part in ("inside", "beyond"):
            rows = []
            for i in range(config.members):
                inside = parameters[:, i, 1] <= np.log(TRAINED_Q[1])
                pick = np.flatnonzero(inside if part == "inside" else ~inside)
                rows.append(judge(height[i, pick], where[i, pick], (found - truth)[i, pick], parameters[pick, i]))
            table[name][part] = {key: [row[key] for row in rows] for key in rows[0]}
        curves[name] = np.exp(gain_of_curve[0, 0]).tolist()
        heights[name] = np.exp(height[0, config.test :] - true_peak(shown)[0]).tolist()
    title = f"{config.members} seeds, {config.test} test filters each; mean ± standard deviation over seeds"
    content = {
        "seeds": config.seeds,
        "arms": table,
        "curve": {
            "quality": quality,
            "frequency": np.exp(frequency).tolist(),
            "truth": gain(curve)[0].tolist(),
            "arms": curves,
        },
        "heights": {"quality": qualities.tolist(), "arms": heights},
    }
    return Conclusion(content, (title, *table_lines(table), "", *verdict_lines(table)), headline(table))


@eqx.filter_jit
def foretell(ensemble: Any, parameters: Any, filters: Filters, curve: Filters) -> Any:
    """What an arm says; arguments have their members on the second axis.

    Returns:
        Logarithms of the height and of the frequency of the highest point, both ``[members, filter]``, for
        `parameters`; log \\|H\\| of `filters` and of `curve`, both ``[members, filter, point]``.
    """

    def each(model: Any, parameters: Any, filters: Filters, curve: Filters) -> Any:
        return *highest_point(model, parameters), log_gain(model, filters), log_gain(model, curve)

    return over_members(each, ensemble, parameters, filters, curve, axis=1)


def _for_members(config: Config, array: NDArray[Any]) -> NDArray[Any]:
    """The same for all members, in float32."""
    return np.repeat(array[:, None].astype(np.float32), config.members, axis=1)


def exportable(folder: RunFolder, config: Config, model: Any) -> Exportable:
    """The strict gain of the first member's power laws, from (log10 ω, log10 ω₀, log10 Q).

    Args:
        folder: the run; not looked at.
        config: the recipe's.
        model: the arms, trained.
    """
    arm, decision = member(model["powers"], 0), InferenceConfig()

    def decide(logarithms: Any) -> dict[str, Any]:
        natural = logarithms * np.asarray(np.log(10.0), logarithms.dtype)
        P, Q = arm(Filters(natural[:, 1:], natural[:, :1]))
        strict = strict_inference(P[:, 0], Q[:, 0], decision)
        return {"gain": strict.decoded, "bottom_mask": strict.bottom_mask, "fault_mask": strict.fault_mask}

    filters, _ = samples(config, TEST)
    rows = np.concatenate([filters.frequency[:, 0, :1], filters.parameters[:, 0]], axis=1) / np.log(10.0)
    edge = np.stack([np.full(3, value, np.float32) for value in (np.nan, np.inf, -np.inf, 0.0, 60.0, -60.0)])
    metadata = {"tau_infer": decision.tau_infer, "trained_q": list(TRAINED_Q), "seed": config.seeds[0]}
    return Exportable(
        decide,
        {"logarithms": rows[:64].astype(np.float32)},
        metadata=metadata,
        edge_rows={"logarithms": edge},
    )


def figures(folder: RunFolder) -> Mapping[str, Any]:
    """A resonance beyond the trained range, and the height of peaks against Q."""
    found = folder.read_json(folder.result_path)
    if not found.get("arms"):
        return {}
    return {
        f"A resonance of Q = {found['curve']['quality']:g}, foretold by the first seed": curve_figure(found["curve"]),
        "Height of the peak foretold by the first seed, relative to the true one": heights_figure(found["heights"]),
    }


RECIPE = Recipe(
    config=Config,
    build=build,
    data=data,
    experiment=experiment,
    smoke={"filters": 64, "test": 32, "epochs": 2, "members": 2, "width": 32},
    figures=figures,
    export=exportable,
)
