"""When do samples of the true loss help a surrogate gradient? Arms at equal evaluations, on three tasks with a dial.

    hardgrad run hybrid-study                         units that start silent
    hardgrad run hybrid-study --task delays           whole-numbered delays
    hardgrad run hybrid-study --task plant            gradients through a wrong model of the plant
    hardgrad run hybrid-study --tune                  how settings were chosen: the whole grid, on other seeds

Every arm may spend the same number of evaluations of a minibatch's loss; a reverse pass counts as two. So an arm that
samples takes fewer steps. The dial goes from where the surrogate serves to where it fails, and what each arm reaches is
the true loss, with hard spikes, rounded delays or the true plant, on held-out samples.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ..core import UsageError, did_you_mean
from ..training import FitResult, InMemory, Trainer, over_members
from ..training.callbacks import Best, Evaluate
from ._config import check_range, member_seeds
from ._race import Race, RaceObjective
from ._recipe import Conclusion, Experiment, Recipe
from ._study_arms import BUDGET, Entry, Row, chosen_rows, entries, grid_rows
from ._study_report import figures, study_lines, tune_lines
from ._study_tasks import TEST, Delays, Plant, Silent, Task

TASKS: dict[str, tuple[type[Silent | Delays | Plant], tuple[float, ...]]] = {
    "silent": (Silent, (0.0, 0.5, 0.9, 1.0)),
    "delays": (Delays, (0.0, 0.3, 0.6, 1.0)),
    "plant": (Plant, (0.0, 0.5, 1.0, 2.0)),
}
"""The tasks, each with its levels."""
TUNING_SEED = 100


@dataclasses.dataclass(frozen=True)
class Config:
    """Settings of the arms were chosen by ``--tune``, on seeds that the study does not use."""

    task: Literal["silent", "delays", "plant"] = "silent"
    """what is learned"""
    arms: tuple[str, ...] = ()
    """which to run, by name; none: all"""
    members: int = 12
    """seeds of each arm at each level"""
    epochs: int = 19
    """epochs of training"""
    rounds: int = 5
    """rounds an epoch; in each an arm has 60 evaluations to spend"""
    minibatches: int = 256
    """in the pool to learn from"""
    batch_size: int = 32
    """samples in one"""
    held_out: int = 2048
    """samples to judge by"""
    tune: bool = False
    """instead of the study, try the grid of settings, from seed 100 on"""
    seed: int = 0
    """members take seeds SEED·MEMBERS and on: no two seeds share one"""

    def __post_init__(self) -> None:
        check_range(self, members=1, epochs=0, rounds=1, minibatches=1, batch_size=1, held_out=1, seed=0)
        known = entries(TASKS[self.task][0](1, 1))
        for name in self.arms:
            if name not in known:
                raise UsageError(f"'{name}' is no arm of the task {self.task}. {did_you_mean(name, known)}")
        if self.arms and "surrogate" not in self.arms:
            raise UsageError(
                f"arms must have the surrogate among them, which others are compared with; got {self.arms}."
            )

    @property
    def member_seeds(self) -> list[int]:
        """One a member."""
        first = TUNING_SEED if self.tune else 0
        return [first + seed for seed in member_seeds(self.seed, self.members)]

    @property
    def levels(self) -> tuple[float, ...]:
        """Of the dial."""
        return TASKS[self.task][1]

    @property
    def evaluations(self) -> int:
        """What each arm spends."""
        return self.epochs * self.rounds * BUDGET


def make_task(config: Config) -> Task:
    """The task with its samples."""
    return TASKS[config.task][0](config.minibatches, config.batch_size)


def entries_of(config: Config, task: Task) -> dict[str, Entry]:
    """The arms to run."""
    return {name: entry for name, entry in entries(task).items() if not config.arms or name in config.arms}


def rows_of(config: Config, name: str, entry: Entry) -> list[Row]:
    """The settings an arm is run with."""
    return grid_rows(entry, len(config.levels)) if config.tune else chosen_rows(config.task, name, entry)


def members(config: Config, name: str, entry: Entry) -> Any:
    """An arm's models: rows × levels × seeds."""
    rows = len(rows_of(config, name, entry))
    keys = jax.vmap(jax.random.key)(jnp.asarray(config.member_seeds))
    levels = [eqx.filter_vmap(lambda key, level=level: entry.build(key, level))(keys) for level in config.levels]
    arrays, rest = eqx.partition(levels[0], eqx.is_array)
    stacked = jax.tree.map(
        lambda *x: jnp.tile(jnp.concatenate(x), (rows, *(1,) * (x[0].ndim - 1))),
        arrays,
        *(eqx.filter(one, eqx.is_array) for one in levels[1:]),
    )
    return eqx.combine(stacked, rest)


def build(config: Config) -> dict[str, Any]:
    """The arms' members by name."""
    return {name: members(config, name, entry) for name, entry in entries_of(config, make_task(config)).items()}


def data(config: Config) -> dict[str, Any]:
    """What each member is told, the same in every round: by arm, ``[rounds, members]``."""
    found = {}
    for name, entry in entries_of(config, make_task(config)).items():
        rows = rows_of(config, name, entry)
        level, seed = (grid.ravel() for grid in np.meshgrid(config.levels, config.member_seeds, indexing="ij"))
        told = {
            "level": np.tile(level.astype(np.float32), len(rows)),
            "seed": np.tile(seed.astype(np.int32), len(rows)),
            "settings": {
                what: np.repeat(np.array([row.settings[what] for row in rows], np.float32).ravel(), config.members)
                for what in rows[0].settings
            },
        }
        found[name] = jax.tree.map(lambda x: np.tile(x, (config.rounds, 1)), told)
    return found


class Judge:
    """The true loss on held-out samples of every member."""

    def __init__(self, config: Config, task: Any):
        self.config = config
        self.rows = {name: rows_of(config, name, entry) for name, entry in entries_of(config, task).items()}
        self._samples = jax.tree.map(jnp.asarray, task.draw(TEST, config.held_out))
        levels = jnp.repeat(jnp.asarray(config.levels), config.members)
        self._levels = {name: jnp.tile(levels, len(rows)) for name, rows in self.rows.items()}

        @eqx.filter_jit
        def judge(arms: Any, samples: Any, levels: Any) -> Any:  # of constants, XLA would work out all that follows
            losses = lambda model, level: task.loss(model, level, samples)
            return {name: over_members(losses, arm, levels[name], axis=0) for name, arm in arms.items()}

        self._judge = judge

    def __call__(self, arms: Any) -> dict[str, NDArray[Any]]:
        """By arm, ``[rows, levels, seeds]``."""
        shape = (-1, len(self.config.levels), self.config.members)
        return {
            name: np.asarray(losses).reshape(shape)
            for name, losses in self._judge(arms, self._samples, self._levels).items()
        }

    def means(self, arms: Any) -> dict[str, float]:
        """The best row's mean over seeds, by arm and level."""
        return {
            f"{name}_at_{level:g}": float(value)
            for name, losses in self(arms).items()
            for level, value in zip(self.config.levels, losses.mean(axis=2).min(axis=0), strict=True)
        }


def experiment(config: Config) -> Experiment:
    """The whole run."""
    task = make_task(config)
    arms = {name: entry.arm for name, entry in entries_of(config, task).items()}
    judge = Judge(config, task)
    names = [f"{name}_at_{level:g}" for name in arms for level in config.levels]
    trainer = Trainer(
        Race(arms, budget=BUDGET, rounds=max(1, config.epochs * config.rounds)),
        callbacks=[
            Evaluate(judge.means, names, every=max(1, config.epochs // (1 if config.tune else 5))),
            Best("loss", "min"),
        ],
    )
    return Experiment(
        trainer=trainer,
        model=build(config),
        objective=RaceObjective({name: arm.objective for name, arm in arms.items()}),
        data=InMemory(data(config), batch_size=1),
        epochs=config.epochs,
        seed=config.seed,
        conclude=lambda result: conclude(config, judge, result),
    )


def conclude(config: Config, judge: Judge, result: FitResult) -> Conclusion:
    """What every arm reached at the end: `result.model`, not the epoch that was best for one of them."""
    found = judge(result.model)
    table = {
        row.label: {
            "arm": name,
            "settings": {what: list(values) for what, values in row.settings.items()},
            "loss": found[name][i].tolist(),
        }
        for name, rows in judge.rows.items()
        for i, row in enumerate(rows)
    }
    head = {"task": config.task, "levels": list(config.levels), "seeds": config.member_seeds}
    say: Any = tune_lines if config.tune else study_lines
    spent = result.epochs * config.rounds * BUDGET
    kept, lines = say(table, head, spent)
    last = {label: float(np.mean(row["loss"][-1])) for label, row in table.items()}
    best = min(last, key=lambda label: (not np.isfinite(last[label]), last[label]))
    beside = "" if config.tune else f", surrogate {last['surrogate']:.3f}"
    headline = f"{config.task} at {config.levels[-1]:g}: {best} {last[best]:.3f}{beside}"
    return Conclusion({**head, "evaluations": spent, "rows": table, **kept}, tuple(lines), headline)


RECIPE = Recipe(
    config=Config,
    build=build,
    data=data,
    experiment=experiment,
    smoke={
        "arms": ("surrogate", "hybrid"),
        "members": 2,
        "epochs": 2,
        "rounds": 1,
        "minibatches": 4,
        "batch_size": 8,
        "held_out": 16,
    },
    figures=figures,
)
