"""Censored dose-response curves: a simulator, the exact answer to it, and the figures by which answers are judged.

    response(C) = E_min + (E_max - E_min) / (1 + (C / IC50)^h) + noise

falls from E_max to E_min around IC50, the concentration of half inhibition. An assay sees ten concentrations from
1e-9 to 1e-5. It can measure an IC50 among them, and no more than bound one below or above. Flat curves have no IC50
at all; they are labelled "above".

Source: the published dose benchmark. What it does not say is where flat curves lie; on the lower plateau they are
hard to tell from curves whose IC50 is far below, and the exact answer then reaches the macro-F1 of about 0.90 that its
best baseline has. So that is the default here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..rational import CensoredClass

Plateau = Literal["low", "high"]
"""Where flat curves lie: at E_min, as if far above their IC50; or at E_max, as if far below it."""

CONCENTRATIONS = np.linspace(-9.0, -5.0, 10)
"""log10 of the concentrations, mol/l."""
REGIMES = ((-13.0, -10.2), (-8.8, -5.2), (-3.8, -1.0))
"""log10 IC50 is uniform in one of these, below, in and above the range; all are equally likely."""
SLOPES = (0.8, 1.5)
"""The Hill slope h is uniform between these."""
PLATEAU_SPREAD = 0.02
"""Standard deviation of E_min about 0 and of E_max about 1."""

BELOW, IN_RANGE, ABOVE = (int(one) for one in CensoredClass)
ARMS = {
    "projective": "projective",
    "clamped": "clamped",
    "epsilon": "rational+ε",
    "two_stage": "two stages",
}
"""The arms of the comparison, and what they are called where people read."""


@dataclasses.dataclass(frozen=True)
class Curves:
    """Measured curves and their labels.

    Attributes:
        features: log10 concentration and response in turn, ``[curve, 20]``, float64.
        label: log10 IC50 in range, -inf below it and +inf above, ``[curve]``.
        regime: the label's `CensoredClass`, ``[curve]``.
        flat: curves without a response, ``[curve]``.
    """

    features: NDArray[Any]
    label: NDArray[Any]
    regime: NDArray[Any]
    flat: NDArray[Any]


def simulate(
    count: int, rng: np.random.Generator, *, noise: float, flat_share: float = 0.1, plateau: Plateau = "low"
) -> Curves:
    """Draw curves.

    Args:
        count: how many.
        rng: where from.
        noise: standard deviation of a response.
        flat_share: share of flat curves, whatever regime was drawn.
        plateau: where they lie.
    """
    drawn = rng.integers(0, len(REGIMES), count)
    low, high = np.asarray(REGIMES)[drawn].T
    ic50 = rng.uniform(low, high)
    slope = rng.uniform(*SLOPES, count)
    bottom, top = rng.normal(0.0, PLATEAU_SPREAD, count), rng.normal(1.0, PLATEAU_SPREAD, count)
    flat = rng.random(count) < flat_share
    share = np.where(flat[:, None], _flat_share(plateau), uninhibited(ic50[:, None], slope[:, None]))
    response = bottom[:, None] + (top - bottom)[:, None] * share + rng.normal(0.0, noise, share.shape)
    features = np.stack([np.broadcast_to(CONCENTRATIONS, response.shape), response], axis=-1).reshape(count, -1)
    regime = np.where(flat, ABOVE, drawn)
    label = np.where(regime == IN_RANGE, ic50, np.where(regime == BELOW, -np.inf, np.inf))
    return Curves(features, label, regime, flat)


def uninhibited(ic50: NDArray[Any], slope: NDArray[Any]) -> NDArray[Any]:
    """1 / (1 + (C / IC50)^h) at each concentration, from log10 IC50 and h of ``[..., 1]``."""
    share: NDArray[Any] = 1.0 / (1.0 + 10.0 ** (slope * (CONCENTRATIONS - ic50)))
    return share


def _flat_share(plateau: Plateau) -> float:
    return 0.0 if plateau == "low" else 1.0


def exact_answer(
    features: NDArray[Any], *, noise: float, flat_share: float, plateau: Plateau, cells: int = 60, slopes: int = 6
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """What whoever knows the simulator would answer: the likeliest class, and the median of log10 IC50 in range.

    The prior of IC50 and h is cut into cells. Given both, a curve is Gaussian: with s the uninhibited shares, its mean
    is s and its covariance noise²·I + spread²·(s sᵀ + (1-s)(1-s)ᵀ).

    Args:
        features: as `simulate` makes them, ``[curve, 20]``.
        noise: as `simulate` was given.
        flat_share: likewise.
        plateau: likewise.
        cells: of IC50, in each regime.
        slopes: cells of h.

    Returns:
        Whether in range is the likeliest, whether above is likelier than below, and medians: all ``[curve]``.
    """
    middle = (np.arange(cells) + 0.5) / cells
    slope = np.interp((np.arange(slopes) + 0.5) / slopes, (0.0, 1.0), SLOPES)
    ic50 = np.concatenate([low + (high - low) * middle for low, high in REGIMES])
    curves = uninhibited(np.repeat(ic50, slopes)[:, None], np.tile(slope, len(ic50))[:, None])
    curves = np.concatenate([curves, np.full((1, len(CONCENTRATIONS)), _flat_share(plateau))])
    prior = np.full(len(curves), (1.0 - flat_share) / (len(curves) - 1))
    prior[-1] = flat_share

    covariance = noise**2 * np.eye(len(CONCENTRATIONS)) + PLATEAU_SPREAD**2 * (_outer(curves) + _outer(1.0 - curves))
    precision = np.linalg.inv(covariance)
    linear = (precision @ curves[:, :, None])[:, :, 0]
    constant = (linear * curves).sum(axis=1) + np.linalg.slogdet(covariance)[1]

    accepted, upward, medians = [], [], []
    for response in np.array_split(features[:, 1::2], -(-len(features) // 2000)):  # a few MB at a time
        quadratic = _outer(response).reshape(len(response), -1) @ precision.reshape(len(curves), -1).T
        exponent = -0.5 * (quadratic - 2.0 * response @ linear.T + constant)
        weight = prior * np.exp(exponent - exponent.max(axis=1, keepdims=True))
        of_ic50 = weight[:, :-1].reshape(len(response), len(REGIMES), cells, slopes).sum(axis=-1)
        of_regime = of_ic50.sum(axis=-1)
        of_regime[:, ABOVE] += weight[:, -1]
        accepted.append(of_regime.argmax(axis=1) == IN_RANGE)
        upward.append(of_regime[:, ABOVE] > of_regime[:, BELOW])
        medians.append(_median(of_ic50[:, IN_RANGE], *REGIMES[IN_RANGE]))
    return np.concatenate(accepted), np.concatenate(upward), np.concatenate(medians)


def _outer(rows: NDArray[Any]) -> NDArray[Any]:
    """r rᵀ of each row, ``[row, 10, 10]``."""
    product: NDArray[Any] = rows[:, :, None] * rows[:, None, :]
    return product


def _median(weight: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    """Medians of histograms ``[row, cell]`` over [low, high], linear within a cell; the middle where all is 0."""
    upper = np.cumsum(weight, axis=1)
    half = upper[:, -1:] / 2.0
    cell = np.argmax(upper >= half, axis=1)
    rows = np.arange(len(weight))
    with np.errstate(divide="ignore", invalid="ignore"):
        within = 1.0 - (upper[rows, cell] - half[:, 0]) / weight[rows, cell]
    found = low + (high - low) * (cell + within) / weight.shape[1]
    return np.where(half[:, 0] > 0.0, found, (low + high) / 2.0)


def classes(accepted: NDArray[Any], upward: NDArray[Any]) -> NDArray[Any]:
    """The classes answered: in range where accepted, else above or below."""
    return np.where(accepted, IN_RANGE, np.where(upward, ABOVE, BELOW))


def confusion(truth: NDArray[Any], answer: NDArray[Any]) -> NDArray[np.int64]:
    """How often each class (a row) was answered by each (a column), ``[3, 3]``."""
    counts = np.zeros((3, 3), np.int64)
    np.add.at(counts, (truth, answer), 1)
    return counts


def macro_f1(counts: NDArray[Any], of: Sequence[int] = (BELOW, IN_RANGE, ABOVE)) -> float:
    """The mean over classes of 2·hits / (labelled so + answered so); a class that is neither counts 0."""
    hits = counts.diagonal()
    both = counts.sum(axis=0) + counts.sum(axis=1)
    return float(np.mean([2.0 * hits[k] / both[k] if both[k] else 0.0 for k in of]))


def judge(curves: Curves, accepted: NDArray[Any], upward: NDArray[Any], value: NDArray[Any]) -> dict[str, float]:
    """The figures of one answer.

    Args:
        curves: with their labels.
        accepted: which are answered with a number, ``[curve]``.
        upward: whether a rejected one is said to lie above, ``[curve]``.
        value: the numbers, log10 IC50, ``[curve]``; those rejected are not looked at.

    Returns:
        ``macro_f1`` of the three classes; ``direction_f1``, of below and above among curves that are truly censored,
        by direction alone; ``false_in_range``, the share of censored curves answered with a number; ``false_censored``,
        the share of curves in range that are not; ``finite_mae`` in decades, over curves in range that are
        (NaN if none is); ``accept_rate`` and ``bottom_rate``, of all curves.
    """
    direction = np.where(upward, ABOVE, BELOW)
    answer = classes(accepted, upward)
    in_range = curves.regime == IN_RANGE
    known = in_range & accepted
    return {
        "macro_f1": macro_f1(confusion(curves.regime, answer)),
        "direction_f1": macro_f1(confusion(curves.regime[~in_range], direction[~in_range]), (BELOW, ABOVE)),
        "false_in_range": float(np.mean(accepted[~in_range])),
        "false_censored": float(np.mean(~accepted[in_range])),
        "finite_mae": float(np.mean(np.abs(value - curves.label)[known])) if known.any() else float("nan"),
        "accept_rate": float(np.mean(accepted)),
        "bottom_rate": float(np.mean(~accepted)),
    }
