"""The arms of `hybrid-study`, task by task, and the settings each was given."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import optax

from ..core import AbstractEstimator, control
from ..estimators import AntitheticNES, Autodiff, Blocks, Every, GuidedES, Hybrid, WithObjective
from ..spiking import SuperSpike, Triangular
from ..training import GradientMethod, by_block, controlled
from ._race import Arm
from ._study_settings import CHOSEN
from ._study_tasks import Delays, Plant, Silent, Task

BUDGET = 60
"""evaluations an arm has in a round; what every arm pays for is a divisor of it"""


@dataclasses.dataclass(frozen=True)
class Entry:
    """An arm, and how its model starts.

    Attributes:
        arm: the arm.
        build: ``build(key, level)``.
        grid: settings to choose from, by name.
    """

    arm: Arm
    build: Callable[[Any, float], Any]
    grid: Mapping[str, tuple[float, ...]]


class Row(NamedTuple):
    """One line of the table: an arm with settings.

    Attributes:
        label: what people read.
        settings: a number for each level: ``learning_rate`` at the start; ``sigma``, the spread of probes;
            ``fraction``, of a hybrid, or of the learning rate in the block that is sampled.
    """

    label: str
    settings: Mapping[str, tuple[float, ...]]


_FIRST = {"learning_rate": (0.01, 0.03, 0.1)}
_SAMPLED = {"learning_rate": (0.03, 0.1), "sigma": (0.1, 0.2)}
_MIXED = {**_SAMPLED, "fraction": (0.1, 0.3, 1.0)}


def entries(task: Task) -> dict[str, Entry]:
    """The arms of a task by name, the surrogate first."""
    if isinstance(task, Silent):
        found = _common(_with(task.build, Triangular()), task)
        found["tails"] = Entry(
            _arm("surrogate with tails", Autodiff(), task, 3), _with(task.build, SuperSpike()), _FIRST
        )
    elif isinstance(task, Delays):
        found = _common(task.build, task)
        blocks = Blocks({"delays.raw": Every(5, _nes(7)), ...: Autodiff()})
        rates = {"delays.raw": optax.chain(_adam(), controlled(optax.scale, control("fraction"))), ...: _adam()}
        method = GradientMethod(blocks, by_block(blocks, rates))
        found["blocks"] = Entry(Arm("delays alone sampled", method, task, 30, 5), task.build, _MIXED)
        found["interpolated"] = Entry(_arm("delays interpolated", Autodiff(), task, 3), _with(task.build, True), _FIRST)
    else:
        assert isinstance(task, Plant)
        found = _common(task.build, task, task.modelled)
        found["told"] = Entry(_arm("true plant's gradient", Autodiff(), task.told, 3), task.build, _FIRST)
        found = {name: _faster(entry) for name, entry in found.items()}
    return found


def _common(build: Callable[[Any, float], Any], true: Any, modelled: Any = None) -> dict[str, Entry]:
    """The arms that every task has. A pair costs 2 evaluations, a loss 1, a loss with its gradient 3.

    "few" takes as many steps as "hybrid" and throws the rest of its evaluations away.

    Args:
        build: the model.
        true: the objective that counts.
        modelled: the one that gradients go through, if it is another.
    """
    seen = true if modelled is None else modelled
    first = Autodiff() if modelled is None else WithObjective(Autodiff(), modelled)

    def mixed(zeroth: AbstractEstimator, normalize: bool = True) -> Hybrid:
        return Hybrid(first, zeroth, control("fraction"), normalize=normalize)

    return {
        "surrogate": Entry(_arm("surrogate", Autodiff(), seen, 3), build, _FIRST),
        "few": Entry(_arm("surrogate, few steps", Autodiff(), seen, 20), build, _FIRST),
        "es": Entry(_arm("evolution (NES)", _nes(7), true, 15), build, _SAMPLED),
        "hybrid": Entry(_arm("hybrid", mixed(_nes(8)), true, 20), build, _MIXED),
        "turns": Entry(_arm("hybrid, 1 step in 5", mixed(Every(5, _nes(7))), true, 30, 5), build, _MIXED),
        "raw": Entry(_arm("hybrid, unnormalised", mixed(_nes(8), normalize=False), true, 20), build, _MIXED),
        "guided": Entry(_arm("guided", GuidedES(first, control("sigma"), pairs=6), true, 15), build, _SAMPLED),
        "calibrated": Entry(
            _arm("guided, one pair", GuidedES(first, control("sigma"), pairs=1), true, 5), build, _SAMPLED
        ),
    }


def _faster(entry: Entry) -> Entry:
    """With higher rates in its grid: a controller of 42 parameters wants some."""
    return dataclasses.replace(entry, grid={**entry.grid, "learning_rate": (0.1, 0.3, 1.0)})


def _arm(label: str, estimator: AbstractEstimator, objective: Any, cost: int, period: int = 1) -> Arm:
    return Arm(label, GradientMethod(estimator, _adam()), objective, cost, period)


def _nes(pairs: int) -> AntitheticNES:
    return AntitheticNES(control("sigma"), pairs=pairs)


def _adam() -> Any:
    return controlled(optax.adam, control("learning_rate"))


def _with(build: Callable[..., Any], last: Any) -> Callable[[Any, float], Any]:
    return lambda key, level: build(key, level, last)


def grid_rows(entry: Entry, levels: int) -> list[Row]:
    """Every setting there is to try, the same at every level."""
    rows = []
    for values in itertools.product(*entry.grid.values()):
        label = f"{entry.arm.label}: " + ", ".join(f"{value:g}" for value in values)
        rows.append(Row(label, {what: (value,) * levels for what, value in zip(entry.grid, values, strict=True)}))
    return rows


def chosen_rows(task: str, name: str, entry: Entry) -> list[Row]:
    """What ``--tune`` chose; of the normalised hybrid for every fraction, since none may harm."""
    rows = []
    for levels in CHOSEN[task][name]:
        settings = dict(zip(entry.grid, zip(*levels, strict=True), strict=True))
        label = entry.arm.label + (f", fraction {settings['fraction'][0]:g}" if name == "hybrid" else "")
        rows.append(Row(label, settings))
    return rows
