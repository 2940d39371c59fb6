"""Push a point mass home with spikes: control by evolution, with no gradient of plant or neuron.

    hardgrad run control-lif-es
    hardgrad search control-lif-es --seeds 0-4        five starts, side by side or in turn
    hardgrad run control-lif-es --strategy cma_es

Position and velocity go through Linear(2, 8) → LIF(8) → Linear(8, 1) → leaky integrator(1), 42 parameters; what comes
out is a force. The cost is Σ x² over 20 steps. Evolution sees that number and nothing else: spikes are hard, and the
plant might as well be a motor on a table. What it reaches stands beside doing nothing, and beside the best linear
controller under the same largest force.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize  # type: ignore[import-untyped]
from jaxtyping import Array, Float
from numpy.typing import NDArray

from ..core import Controls, Metrics
from ..spiking import LIF, HardThreshold, LeakyIntegrator, Network, run
from ..training import CMAES, SNES, EvolutionMethod, FitResult, InMemory, OpenES, RunFolder, Trainer
from ..training.callbacks import Best, Evaluate
from ._config import check_range
from ._figures import BLUE, SOFT, new_figure
from ._recipe import Conclusion, Experiment, Recipe
from ._spiking_report import run_figures
from ._spiking_traces import KeepTraces, Trace, traces_of

DT = 0.1
"""seconds a step"""
SOLVED = 1 / 8
"""share of the cost of doing nothing below which the task counts as solved"""
TRAIN, VALIDATION, TEST = range(3)


@dataclasses.dataclass(frozen=True)
class Config:
    """The published task, population and widths; fresh starts in every step, and held-out ones to report."""

    strategy: Literal["open_es", "snes", "cma_es"] = "open_es"
    """who proposes parameters"""
    population: int = 24
    """members a generation"""
    sigma: float = 0.3
    """their spread at the start"""
    learning_rate: float = 0.1
    """Adam's, of open_es alone"""
    epochs: int = 40
    """epochs of training"""
    generations: int = 16
    """generations an epoch"""
    batch_size: int = 32
    """starts that every member is judged by"""
    horizon: int = 20
    """steps of an episode"""
    hidden: int = 8
    """spiking units"""
    held_out: int = 1024
    """starts to choose the best epoch by, and as many to report"""
    seed: int = 0
    """of network, starts and search"""

    def __post_init__(self) -> None:
        check_range(
            self,
            population=2,
            sigma=0.0,
            learning_rate=0.0,
            epochs=0,
            generations=1,
            batch_size=1,
            horizon=1,
            hidden=1,
            held_out=1,
            seed=0,
        )


def starts(config: Config, part: int) -> NDArray[np.float32]:
    """Positions and velocities ``[starts, 2]``, uniform in [-1, 1]²."""
    count = config.generations * config.batch_size if part == TRAIN else config.held_out
    rng = np.random.default_rng((config.seed, part) if part == TRAIN else (0, part))
    return rng.uniform(-1.0, 1.0, (count, 2)).astype(np.float32)


def data(config: Config) -> NDArray[np.float32]:
    """Starts to train from."""
    return starts(config, TRAIN)


def build(config: Config) -> Network:
    """The controller at its start."""
    return controller(config.hidden, jax.random.key(config.seed))


def controller(hidden: int, key: Any) -> Network:
    """Linear(2, hidden) → LIF(hidden) → Linear(hidden, 1) → leaky integrator(1), with hard spikes."""
    first, cell, last, integrator = jax.random.split(key, 4)
    return Network(
        [
            eqx.nn.Linear(2, hidden, key=first),
            LIF(hidden, surrogate=HardThreshold(), key=cell),
            eqx.nn.Linear(hidden, 1, key=last),
            LeakyIntegrator(1, key=integrator),
        ]
    )


def episode(
    controller: Any, memory: Any, start: Float[Array, "batch 2"], horizon: int
) -> tuple[Float[Array, "steps batch 2"], Float[Array, "steps batch"]]:
    """Position and velocity after each step, and forces: v ← v + dt·f, then x ← x + dt·v.

    Args:
        controller: ``controller(memory, observation [batch, 2]) -> (memory, force [batch, 1])``.
        memory: its own, at the start.
        start: position and velocity.
        horizon: steps.
    """

    def step(carry: Any, _: None) -> Any:
        memory, seen = carry
        memory, force = controller(memory, seen)
        v = seen[:, 1] + DT * force[:, 0]
        seen = jnp.stack([seen[:, 0] + DT * v, v], axis=-1)
        return (memory, seen), (seen, force[:, 0])

    _, (seen, forces) = jax.lax.scan(step, (memory, start), None, length=horizon)
    return seen, forces


@dataclasses.dataclass(frozen=True)
class ControlObjective:
    """Mean over starts of Σ x² over an episode. Metrics: ``rest``, the mean \\|x\\| after its last step."""

    horizon: int

    def __call__(self, model: Network, batch: Any, controls: Controls, key: Any) -> tuple[Array, Metrics]:
        """Cost of the controller from a batch of starts."""
        x = episode(model.step, model.init_state(batch.shape[0]), batch, self.horizon)[0][..., 0]
        return jnp.mean(jnp.sum(jnp.square(x), axis=0)), {"rest": jnp.mean(jnp.abs(x[-1]))}


@eqx.filter_jit
def _spiking_episode(model: Network, start: Any, horizon: int) -> Any:
    return episode(model.step, model.init_state(len(start)), start, horizon)


def traces(config: Config, model: Network) -> list[Trace]:
    """What the trained network sees and does in the first held-out episode; the rates are those of 64."""
    start = jnp.asarray(starts(config, TEST)[:64])
    after, _ = _spiking_episode(model, start, config.horizon)
    # Its own closed loop once more, as a sequence: the cells do the same on what they saw then.
    seen = jnp.swapaxes(jnp.concatenate([start[None], after[:-1]]), 0, 1)
    found = eqx.filter_jit(lambda model, seen: run(model, seen, record=True))(model, seen)
    return traces_of(seen, found.spikes, found.voltages)


def experiment(config: Config) -> Experiment:
    """The whole run."""
    strategies: dict[str, Any] = {
        "open_es": lambda: OpenES(config.population, config.sigma, optax.adam(config.learning_rate)),
        "snes": lambda: SNES(config.population, config.sigma),
        "cma_es": lambda: CMAES(config.population, config.sigma),
    }
    held_out = jnp.asarray(starts(config, VALIDATION))
    objective = ControlObjective(config.horizon)
    scored = eqx.filter_jit(lambda model: objective(model, held_out, {}, None)[0])
    trainer = Trainer(
        EvolutionMethod(strategies[config.strategy]()),
        callbacks=[
            Evaluate(lambda model: {"cost": float(scored(model))}, ["cost"], every=max(1, config.epochs // 20)),
            Best("val_cost", "min"),
            KeepTraces(lambda model: traces(config, model)),
        ],
    )
    return Experiment(
        trainer=trainer,
        model=build(config),
        objective=objective,
        data=InMemory(data(config), batch_size=config.batch_size),
        epochs=config.epochs,
        seed=config.seed,
        conclude=lambda result: conclude(config, result),
    )


def linear_controller(gains: Any, largest: float) -> Any:
    """f = clip(-k·x - c·v, ±largest), as `episode` takes it."""
    return lambda memory, seen: (memory, jnp.clip(-(seen @ gains), -largest, largest)[:, None])


def best_linear(config: Config, largest: float) -> Any:
    """Gains (k, c) of the least cost on the validation starts."""
    start = jnp.asarray(starts(config, VALIDATION))

    @jax.jit
    def cost(gains: Any) -> Any:
        x = episode(linear_controller(gains, largest), (), start, config.horizon)[0][..., 0]
        return jnp.mean(jnp.sum(jnp.square(x), axis=0))

    measured = lambda gains: float(cost(jnp.asarray(gains, jnp.float32)))
    return jnp.asarray(scipy.optimize.minimize(measured, [10.0, 5.0], method="Nelder-Mead").x, jnp.float32)


def conclude(config: Config, result: FitResult) -> Conclusion:
    """Cost from held-out starts, beside doing nothing and a linear controller of the same largest force."""
    model = result.model if result.best_model is None else result.best_model
    start = jnp.asarray(starts(config, TEST))
    seen, force = (np.asarray(array, np.float64) for array in _spiking_episode(model, start, config.horizon))
    x = seen[..., 0]
    largest = float(np.max(np.abs(force)))
    begun = np.asarray(start, np.float64)
    idle = begun[:, :1] + DT * begun[:, 1:] * np.arange(1, config.horizon + 1)
    costs = {"nothing": float(np.mean(np.sum(idle**2, axis=1))), "spikes": float(np.mean(np.sum(x**2, axis=0)))}
    gains = best_linear(config, largest)
    walk = jax.jit(lambda start: episode(linear_controller(gains, largest), (), start, config.horizon)[0])
    linear = np.asarray(walk(start), np.float64)[..., 0]
    costs["linear"] = float(np.mean(np.sum(linear**2, axis=0)))
    rest = {"spikes": float(np.mean(np.abs(x[-1]))), "nothing": float(np.mean(np.abs(idle[:, -1])))}
    rest["linear"] = float(np.mean(np.abs(linear[-1])))
    solved = costs["spikes"] <= SOLVED * costs["nothing"]
    evaluations = config.population * config.generations * result.epochs
    lines = [
        f"{config.held_out} held-out starts, {config.horizon} steps; {evaluations} members judged",
        "",
        f"{'':<34}{'cost':>9}{'of nothing':>13}{'|x| at the end':>17}",
    ]
    for name, label in (
        ("nothing", "doing nothing"),
        ("spikes", f"spiking controller, {config.strategy}"),
        ("linear", f"best linear, |force| ≤ {largest:.1f}"),
    ):
        lines.append(f"{label:<34}{costs[name]:>9.3f}{costs[name] / costs['nothing']:>13.1%}{rest[name]:>17.3f}")
    word = "solved" if solved else "not solved"
    lines += ["", f"{word}: the task counts as solved below {SOLVED:.1%} of the cost of doing nothing"]
    sample = {"x": x[:, :8].T.tolist(), "force": force[:, :8].T.tolist(), "start": np.asarray(start[:8, 0]).tolist()}
    return Conclusion(
        {"cost": costs, "rest": rest, "solved": solved, "linear_gains": gains.tolist(), "episodes": sample},
        tuple(lines),
        f"{word}: cost {costs['spikes']:.2f}; doing nothing {costs['nothing']:.1f}, best linear {costs['linear']:.2f}",
    )


def figures(folder: RunFolder) -> Mapping[str, Any]:
    """Some held-out episodes, and the spikes of the first."""
    shown = folder.read_json(folder.result_path).get("episodes")
    if not shown:
        return {}
    return {"Held-out starts": episodes_figure(shown), **run_figures(folder)}


def episodes_figure(shown: Mapping[str, Any]) -> Any:
    """Position and force over time.

    Args:
        shown: ``start [episodes]``, ``x`` and ``force [episodes, steps]``.
    """
    figure = new_figure(7.5, 2.9)
    panels = figure.subplots(1, 2)
    for start, x, force in zip(shown["start"], shown["x"], shown["force"], strict=True):
        time = DT * np.arange(len(x) + 1)
        panels[0].plot(time, [start, *x], color=BLUE, lw=1)
        panels[1].step(time[:-1], force, color=SOFT, lw=1, where="post")
    for axis, label in zip(panels, ("position", "force"), strict=True):
        axis.set_xlabel("seconds")
        axis.set_ylabel(label)
        axis.axhline(0.0, color="#d9dee3", lw=0.7)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


RECIPE = Recipe(
    config=Config,
    build=build,
    data=data,
    experiment=experiment,
    smoke={"population": 6, "epochs": 2, "generations": 2, "batch_size": 4, "held_out": 16, "hidden": 4},
    figures=figures,
)
