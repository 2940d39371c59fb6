"""Real sunspots, 1700 to 2008: are K futures any better than a straight line?

    hardgrad run hypercausal-sunspots                    about 10 s

Five chains of recursive nodes, each from its own seed, read the last eleven yearly sunspot numbers and
project K futures of the next year. They are trained together on the first 70 % of the years. On the rest they
are compared with persistence (next year is like this one) and with a linear autoregression of the same
eleven lags, fitted to the same years by least squares. The fan of futures is given the width that holds
``coverage`` of the training years; the autoregression gets an interval in the same way. The closing lines say
who won, from the figures.

Data: yearly sunspot numbers of SIDC, shipped with statsmodels (``pip install 'hardgrad[data]'``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray

from ..core import UsageError, control, require
from ..hypercausal import Chain, HypercausalObjective, LinearProjector, Node, TanhCell, rmse
from ..schedules import Cosine, Plan
from ..training import EnsembleObjective, FitResult, GradientMethod, RunFolder, Trainer, controlled, make_ensemble
from ..training.callbacks import Best
from ._choices import EstimatorName, make_estimator
from ._config import check_range, member_seeds
from ._figures import BLUE, INK, SKY, VERMILLION, new_figure
from ._recipe import Conclusion, Experiment, Recipe

_TOP = 0.8  # the largest training value in the chain's units: tanh has room above it


@dataclasses.dataclass(frozen=True)
class Config:
    """Chosen on the first half of the training years, never on the test years."""

    epochs: int = 1500
    """epochs of training, each over all training years"""
    lags: int = 11
    """years the chain sees; a solar cycle takes about eleven"""
    nodes: int = 2
    """nodes of a chain"""
    branches: int = 9
    """K: projected futures of the next year"""
    members: int = 5
    """chains, each from its own seed"""
    learning_rate: float = 0.01
    """Adam's, at the start; falls to 0 along a cosine"""
    train_share: float = 0.7
    """share of the years, the earliest, that is trained on"""
    coverage: float = 0.9
    """share of the training years the fan is widened to hold"""
    recurrent: bool = False
    """let each node remember its state of the year before"""
    estimator: EstimatorName = "autodiff"
    """how the gradient is found"""
    eps: float = 1e-3
    """step or spread of estimators of order 0"""
    seed: int = 0
    """members take seeds SEED·MEMBERS and on: no two seeds share one"""

    def __post_init__(self) -> None:
        check_range(self, epochs=0, lags=1, nodes=1, branches=2, members=1, seed=0)
        if not 0 < self.train_share < 1 or not 0 < self.coverage < 1:
            raise UsageError(
                f"train_share and coverage lie between 0 and 1, got {self.train_share!r} and {self.coverage!r}."
            )


@dataclasses.dataclass(frozen=True)
class Years:
    """The series cut into windows.

    Attributes:
        year: the year that is foretold, ``[time]``.
        windows: the years before it, latest first, in the chain's units, ``[time, lag]``.
        targets: each window one year on: channel 0 is the year foretold, ``[time, lag]``.
        train: how many of them are trained on.
        scale: sunspots in one of the chain's units.
    """

    year: NDArray[Any]
    windows: NDArray[Any]
    targets: NDArray[Any]
    train: int
    scale: float


def years(config: Config) -> Years:
    """The yearly series, scaled by the largest training value.

    Raises:
        MissingExtraError: statsmodels is not installed.
    """
    frame = require("statsmodels.datasets", extra="data").sunspots.load_pandas().data
    series, year = frame["SUNACTIVITY"].to_numpy(float), frame["YEAR"].to_numpy(int)
    count = len(series) - config.lags
    train = int(config.train_share * count)
    if train < 2 * config.lags:
        raise UsageError(
            f"{config.lags} lags leave {train} years to train on; take fewer lags or a larger train_share."
        )
    scale = float(series[: train + config.lags].max()) / _TOP
    rows = np.lib.stride_tricks.sliding_window_view(series / scale, config.lags)[:, ::-1]
    return Years(year[config.lags :], rows[:-1].copy(), rows[1:].copy(), train, scale)


def data(config: Config) -> tuple[NDArray[Any], NDArray[Any]]:
    """Training windows and targets, ``[time, lag]``."""
    all_years = years(config)
    return all_years.windows[: all_years.train], all_years.targets[: all_years.train]


def build(config: Config) -> Chain:
    """The members as one chain whose parameters have a leading axis of members."""

    def member(key: jax.Array) -> Chain:
        def node(key: jax.Array) -> Node:
            noise = 0.1 * jax.random.normal(key, (config.lags, config.lags))
            weight = jnp.eye(config.lags) + noise  # close to persistence
            recurrence = jnp.zeros(config.lags) if config.recurrent else None
            # Trained, so that futures spread about the state and not about its tanh.
            projector = LinearProjector(jnp.ones(config.lags), jnp.zeros(config.lags), span=0.1)
            return Node(TanhCell(weight, jnp.zeros(config.lags), recurrence), projector)

        return Chain([node(k) for k in jax.random.split(key, config.nodes)], branches=config.branches)

    chains: Chain = make_ensemble(member, member_seeds(config.seed, config.members))
    return chains


def objective() -> EnsembleObjective:
    """The mean over members: their gradients do not mix."""
    return EnsembleObjective(HypercausalObjective(alpha=0.0, beta=1.0, consistency_weight=0.1, coherence_weight=0.0))


def experiment(config: Config) -> Experiment:
    """The whole run. Best is judged on the training loss: the test years are never looked at."""
    method = GradientMethod(
        make_estimator(config.estimator, eps=config.eps), controlled(optax.adam, control("learning_rate"))
    )
    trainer = Trainer(
        method,
        plan=Plan(learning_rate=Cosine(config.learning_rate, 0.0, config.epochs)),
        callbacks=[Best("loss", "min")],
    )
    return Experiment(
        trainer=trainer,
        model=build(config),
        objective=objective(),
        data=data(config),
        epochs=config.epochs,
        seed=config.seed,
        conclude=lambda result: conclude(config, result),
    )


def foretell(config: Config, model: Chain, span: float) -> tuple[Any, Any]:
    """States ``[member, time]`` and futures ``[member, branch, time]`` of channel 0, for all years.

    Args:
        config: the recipe's.
        model: the members.
        span: half-width of the last node's projection, before its tanh.
    """
    windows = jnp.asarray(years(config).windows)

    @eqx.filter_jit
    def each(chain: Chain) -> Any:
        states = chain(windows).states[-1]
        trained: Any = chain.nodes[-1].projector
        fan = LinearProjector(trained.weight, trained.bias, span=span)(states, branches=config.branches)
        return states[:, 0], fan[..., 0]

    states, fan = eqx.filter_vmap(each)(model)
    return np.asarray(states), np.asarray(fan)


def conclude(config: Config, result: FitResult) -> Conclusion:
    """Errors on the test years, in sunspots, and how often the truth lay inside the fan."""
    known = years(config)
    truth, test = known.targets[:, 0], slice(known.train, None)
    autoregression, interval = _autoregression(config, known)
    states, middle = foretell(config, result.model, 0.0)

    # Futures are tanh(z ± span): the span that holds the wanted share of training years.
    distance = np.abs(np.arctanh(np.clip(truth, -0.999, 0.999)) - np.arctanh(middle[:, 0]))[:, : known.train]
    span = float(np.quantile(distance, config.coverage))
    _, fan = foretell(config, result.model, span)
    inside = (truth >= fan.min(axis=1)) & (truth <= fan.max(axis=1))
    covered = np.abs(truth - autoregression) <= interval

    def error(prediction: Any) -> float:
        return known.scale * rmse(truth[test], prediction[test])

    members = [error(state) for state in states]
    spread = float(np.std(members, ddof=1)) if len(members) > 1 else 0.0
    table = {
        "persistence": {"rmse": error(known.windows[:, 0])},
        "autoregression": {
            "rmse": error(autoregression),
            "coverage": float(covered[test].mean()),
            "width": float(2 * interval * known.scale),
        },
        "hypercausal": {
            "rmse": float(np.mean(members)),
            "rmse_spread": spread,
            "coverage": float(inside[:, test].mean()),
            "width": float((fan.max(axis=1) - fan.min(axis=1))[:, test].mean() * known.scale),
        },
    }
    content = {
        "metrics": table,
        "rmse_of_members": members,
        "test_years": [int(known.year[known.train]), int(known.year[-1])],
        "predictions": {
            "year": known.year[test].tolist(),
            "truth": (known.scale * truth[test]).tolist(),
            "autoregression": (known.scale * autoregression[test]).tolist(),
            "hypercausal": (known.scale * states[0, test]).tolist(),
            "low": (known.scale * fan[0].min(axis=0)[test]).tolist(),
            "high": (known.scale * fan[0].max(axis=0)[test]).tolist(),
        },
    }
    return Conclusion(content, tuple(_lines(config, table, content["test_years"])), _headline(table))


def _autoregression(config: Config, known: Years) -> tuple[NDArray[Any], float]:
    """Least squares on the training years, with intercept; and the half-width that holds `coverage` of them."""
    design = np.column_stack([np.ones(len(known.windows)), known.windows])
    truth = known.targets[:, 0]
    coefficients = np.linalg.lstsq(design[: known.train], truth[: known.train], rcond=None)[0]
    prediction = design @ coefficients
    residual = np.abs(truth - prediction)[: known.train]
    return prediction, float(np.quantile(residual, config.coverage))


def _lines(config: Config, table: dict[str, dict[str, float]], test_years: Any) -> list[str]:
    def row(name: str, key: str) -> str:
        m = table[key]
        spread = f" ± {m['rmse_spread']:.2f}" if "rmse_spread" in m else ""
        fan = f"{100 * m['coverage']:>8.1f} %{m['width']:>11.1f}" if "coverage" in m else ""
        return f"{name:<28}{m['rmse']:>7.2f}{spread:<8}{fan}"

    order = f"autoregression of {config.lags} lags"
    return [
        f"Test years {test_years[0]} to {test_years[1]}, one year ahead, in sunspots; "
        f"fans hold {100 * config.coverage:.0f} % of training years",
        f"{'':<28}{'RMSE':>7}{'':<8}{'inside':>10}{'width':>11}",
        row("persistence", "persistence"),
        row(order, "autoregression"),
        row(f"hypercausal, {config.members} seeds", "hypercausal"),
        "",
        _verdict(table),
    ]


def _headline(table: dict[str, dict[str, float]]) -> str:
    ours, line, naive = (table[name] for name in ("hypercausal", "autoregression", "persistence"))
    return (
        f"RMSE {ours['rmse']:.2f} ± {ours['rmse_spread']:.2f} sunspots; "
        f"autoregression {line['rmse']:.2f}, persistence {naive['rmse']:.2f}"
    )


def _verdict(table: dict[str, dict[str, float]]) -> str:
    """Who won, from the figures."""
    ours, spread = table["hypercausal"]["rmse"], table["hypercausal"]["rmse_spread"]
    line, naive = table["autoregression"]["rmse"], table["persistence"]["rmse"]
    against_naive = "beats" if ours + spread < naive else "does not beat"
    if abs(ours - line) <= spread:
        against_line = "is as good as the linear autoregression, within the spread of its seeds"
    else:
        against_line = f"{'beats' if ours < line else 'loses to'} the linear autoregression by {abs(ours - line):.2f}"
    return f"The chain {against_naive} persistence and {against_line}."


def figures(folder: RunFolder) -> Mapping[str, Any]:
    """The test years with the fan."""
    shown = folder.read_json(folder.result_path).get("predictions")
    if not shown:
        return {}
    figure = new_figure(7.5, 3.2)
    axis = figure.subplots()
    axis.fill_between(shown["year"], shown["low"], shown["high"], color=SKY, alpha=0.3, lw=0, label="fan")
    axis.plot(shown["year"], shown["truth"], "o-", color=INK, ms=2.5, lw=1.0, label="sunspots")
    axis.plot(shown["year"], shown["hypercausal"], color=BLUE, lw=1.5, label="chain")
    axis.plot(shown["year"], shown["autoregression"], color=VERMILLION, lw=1.2, ls="--", label="autoregression")
    axis.set_xlabel("year")
    axis.set_ylabel("sunspot number")
    axis.legend(ncols=4, frameon=False, fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axis.spines[["top", "right"]].set_visible(False)
    return {"Test years, one year ahead, by the first of the chains": figure}


RECIPE = Recipe(
    config=Config,
    build=build,
    data=data,
    experiment=experiment,
    smoke={"epochs": 20, "members": 2},
    figures=figures,
)
