"""The published hypercausal run: can a chain be trained while its recursion depth changes?

    hardgrad run hypercausal-depth                       about 5 s, most of it compiling
    hardgrad run hypercausal-depth --execution host      the same to the last published digit

Three recursive nodes see 48 steps of three sinusoids and are drawn to zero by task, consistency and
coherence. Depth grows 1 → 2 → 3; the epoch after a change is frozen; rate, difference step and clipping
threshold follow the depth. Expect ``total_after=0.023147`` in epoch 15.

``--execution compiled`` agrees with the published figures to 3e-16; ``host`` evaluates the chain as a
NumPy black box in the published order of summation and agrees in every bit. ``--config FILE`` takes
this config as JSON, under the names below or those of the published configuration.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from numpy.typing import NDArray

from ..core import Params, UsageError, control, split_parameters
from ..export import Exportable
from ..hypercausal import (
    Chain,
    HostChain,
    HostObjective,
    HypercausalObjective,
    LinearProjector,
    MeanPolicy,
    MedianPolicy,
    Node,
    TanhCell,
    overshoot,
    rmse,
    robustness,
    smape,
)
from ..schedules import DecayByDepthAndEpoch, FreezeAfterChange, LinearDepth, Plan, ThresholdByDepth
from ..training import (
    FitResult,
    GradientMethod,
    Outcome,
    RunFolder,
    Trainer,
    clip_by_global_norm,
    controlled,
)
from ..training.callbacks import Best, EarlyStopping
from ._choices import EstimatorName, make_estimator
from ._config import alias, check_range
from ._hypercausal_figures import futures_figure, parameters_figure
from ._hypercausal_published import closing_lines, epoch_as_published, epoch_line, parameters
from ._launch import EpochLines, recipe_of
from ._recipe import Conclusion, Experiment, Recipe


@dataclasses.dataclass(frozen=True)
class DepthSchedule:
    """Recursion depth over epochs."""

    start: int = 1
    """depth in epoch 0"""
    end: int = 3
    """depth at the end, higher or lower"""
    epochs: int = 15
    """over how many epochs"""


@dataclasses.dataclass(frozen=True)
class Consistency:
    """Weights inside the consistency loss."""

    alpha: float = 0.8
    """of a state's movement"""
    beta: float = 1.2
    """of its distance to its own projection"""


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights of the three losses."""

    task: float = 1.0
    """of the task"""
    cons: float = 0.5
    """of the consistency"""
    coh: float = 0.3
    """of the coherence"""


@dataclasses.dataclass(frozen=True)
class ClipThreshold:
    """The norm to clip at while the depth is below a bound; the last has none."""

    depth_mean_below: float | None
    max_norm: float


@dataclasses.dataclass(frozen=True)
class NodeConfig:
    """First weight and bias of a node, and the span of its projection."""

    weight: float = field(metadata=alias("w"))
    bias: float = field(metadata=alias("b"))
    span: float = 0.25


@dataclasses.dataclass(frozen=True)
class Signal:
    """``amplitude · function(omega · t + phase)``."""

    amplitude: float = field(metadata=alias("amp"))
    function: Literal["sin", "cos"] = field(metadata=alias("fn"))
    omega: float
    phase: float

    def values(self, steps: int) -> NDArray[Any]:
        """The signal at t = 0 … steps - 1, float64."""
        t = np.arange(steps, dtype=np.float64)
        wave: NDArray[Any] = {"sin": np.sin, "cos": np.cos}[self.function](self.omega * t + self.phase)
        return self.amplitude * wave


@dataclasses.dataclass(frozen=True)
class Config:
    """The published settings. Lists (nodes, signals, thresholds) are set by --config."""

    channels: int = field(default=3, metadata=alias("D"))
    """D: channels of input, states and target"""
    branches: int = field(default=5, metadata=alias("K"))
    """K: projected futures a step"""
    steps: int = field(default=48, metadata=alias("T"))
    """T: time steps of the one sequence"""
    epochs: int = 16
    """epochs of training"""
    learning_rate: float = field(default=0.05, metadata=alias("base_lr"))
    """rate at depth 1 in epoch 0"""
    eps: float = field(default=1e-3, metadata=alias("base_eps"))
    """difference step at depth 1 in epoch 0"""
    learning_rate_depth_coefficient: float = field(default=0.5, metadata=alias("lr_depth_coef"))
    """how fast the rate falls with depth"""
    learning_rate_epoch_coefficient: float = field(default=0.5, metadata=alias("lr_epoch_coef"))
    """how fast the rate falls with epochs"""
    eps_depth_coefficient: float = field(default=0.3, metadata=alias("eps_depth_coef"))
    """how fast the step falls with depth"""
    eps_epoch_coefficient: float = field(default=0.3, metadata=alias("eps_epoch_coef"))
    """how fast the step falls with epochs"""
    depth_schedule: DepthSchedule = DepthSchedule()
    policy: Literal["mean", "median"] = "mean"
    """how K futures become one"""
    task_loss: Literal["mse", "mae"] = "mse"
    """distance of the state to the target"""
    consistency: Consistency = Consistency()
    coherence_mode: Literal["variance", "mad"] = "variance"
    """how the spread of the futures is measured"""
    weights: Weights = Weights()
    clip_thresholds: Annotated[tuple[ClipThreshold, ...], tyro.conf.Suppress] = (
        ClipThreshold(1.5, 0.05),
        ClipThreshold(2.5, 0.075),
        ClipThreshold(None, 0.1),
    )
    patience: int = 1
    """epochs without improvement that are borne"""
    span_floor: float = 0.1
    """least half-width of a projection"""
    span_depth_coefficient: float = field(default=0.3, metadata=alias("span_depth_coef"))
    """how fast the half-width shrinks with depth"""
    nodes: Annotated[tuple[NodeConfig, ...], tyro.conf.Suppress] = (
        NodeConfig(0.90, 0.03, 0.22),
        NodeConfig(0.97, 0.02, 0.25),
        NodeConfig(1.05, 0.00, 0.30),
    )
    input_channels: Annotated[tuple[Signal, ...], tyro.conf.Suppress] = (
        Signal(0.30, "sin", 0.35, 0.00),
        Signal(0.20, "sin", 0.35, 0.70),
        Signal(0.10, "cos", 0.35, 0.30),
    )
    target_channels: Annotated[tuple[Signal, ...] | None, tyro.conf.Suppress] = None
    metric_channel: int = 0
    """channel the final metrics are computed on"""
    smape_eps: float = 1e-8
    """least denominator of the SMAPE"""
    estimator: EstimatorName = "central"
    """how the gradient is found"""
    execution: Literal["compiled", "host"] = "compiled"
    """compiled by JAX, or a NumPy black box in the published order of summation"""
    seed: int = 0
    """used by spsa and nes only"""

    def __post_init__(self) -> None:
        check_range(self, channels=1, branches=2, steps=1, epochs=0, patience=0, span_floor=0, seed=0)
        if not self.eps > 0:
            raise UsageError(f"eps must be positive, got {self.eps!r}.")
        LinearDepth(self.depth_schedule.start, self.depth_schedule.end, self.depth_schedule.epochs)
        if not self.nodes:
            raise UsageError("nodes must hold at least one node.")
        for name in ("input_channels", "target_channels"):
            signals = getattr(self, name)
            if signals is not None and len(signals) != self.channels:
                raise UsageError(
                    f"{name} holds {len(signals)} signals for {self.channels} channels. Give one a channel by --config."
                )
        if not 0 <= self.metric_channel < self.channels:
            raise UsageError(f"metric_channel must be between 0 and {self.channels - 1}, got {self.metric_channel}.")
        bounds = [c.depth_mean_below for c in self.clip_thresholds]
        if None in bounds[:-1] or not bounds:
            raise UsageError("clip_thresholds must hold at least one, and only the last may have no bound.")
        if self.execution == "host" and self.estimator == "autodiff":
            raise UsageError(
                "--execution host is a NumPy black box without a derivative: "
                "take --estimator central, forward, spsa or nes."
            )


def data(config: Config) -> tuple[NDArray[Any], NDArray[Any]]:
    """Inputs and targets, ``[time, channel]``, float64."""
    inputs = np.stack([signal.values(config.steps) for signal in config.input_channels], axis=-1)
    if config.target_channels is None:
        return inputs, np.zeros_like(inputs)
    return inputs, np.stack([signal.values(config.steps) for signal in config.target_channels], axis=-1)


def build(config: Config) -> Chain:
    """The chain with its first parameters: a scalar weight and bias a node."""
    policy = MeanPolicy() if config.policy == "mean" else MedianPolicy()

    def node(settings: NodeConfig) -> Node:
        projector = LinearProjector(
            span=settings.span,
            span_floor=config.span_floor,
            span_depth_coefficient=config.span_depth_coefficient,
        )
        return Node(TanhCell(settings.weight, settings.bias), projector, policy)

    return Chain([node(settings) for settings in config.nodes], branches=config.branches)


def host_chain(config: Config) -> HostChain:
    """The chain and its objective as a NumPy function, summed in the published order."""
    return HostChain(
        spans=tuple(node.span for node in config.nodes),
        branches=config.branches,
        span_floor=config.span_floor,
        span_depth_coefficient=config.span_depth_coefficient,
        policy=config.policy,
        task=config.task_loss,
        coherence_mode=config.coherence_mode,
        **_loss_weights(config),
    )


def plan(config: Config) -> Plan:
    """Depth first; everything else follows it."""
    depth = config.depth_schedule
    bounded = [(c.depth_mean_below, c.max_norm) for c in config.clip_thresholds if c.depth_mean_below is not None]
    last = config.clip_thresholds[-1]
    return Plan(
        depth=LinearDepth(depth.start, depth.end, depth.epochs),
        learning_rate=DecayByDepthAndEpoch(
            config.learning_rate,
            config.learning_rate_depth_coefficient,
            config.learning_rate_epoch_coefficient,
        ),
        eps=DecayByDepthAndEpoch(config.eps, config.eps_depth_coefficient, config.eps_epoch_coefficient),
        max_norm=ThresholdByDepth(
            tuple(bounded), otherwise=last.max_norm if last.depth_mean_below is None else math.inf
        ),
        freeze=FreezeAfterChange(("depth",)),
    )


def experiment(config: Config) -> Experiment:
    """The whole run. It validates on its training data: that is the loss after the update."""
    host = config.execution == "host"
    model: Any = build(config)
    objective: Any = HypercausalObjective(
        task=config.task_loss, coherence_mode=config.coherence_mode, **_loss_weights(config)
    )
    if host:
        model = host_chain(config).black_box([(node.weight, node.bias) for node in config.nodes])
        objective = HostObjective()
    optimizer = optax.chain(clip_by_global_norm(control("max_norm")), controlled(optax.sgd, control("learning_rate")))
    method = GradientMethod(make_estimator(config.estimator, eps=control("eps")), optimizer)
    trainer = Trainer(
        method,
        plan=plan(config),
        callbacks=[
            EpochLines(epoch_line(len(config.nodes))),
            EarlyStopping("val_loss", "min", patience=config.patience),
            Best("val_loss", "min", describe=parameters),
        ],
        record=record,
        execution="eager" if host else "compiled",
    )
    both = data(config)
    return Experiment(
        trainer=trainer,
        model=model,
        objective=objective,
        data=both,
        validation=both,
        epochs=config.epochs,
        seed=config.seed,
        conclude=lambda result: conclude(config, result),
    )


def _loss_weights(config: Config) -> dict[str, Any]:
    return {
        "alpha": config.consistency.alpha,
        "beta": config.consistency.beta,
        "task_weight": config.weights.task,
        "consistency_weight": config.weights.cons,
        "coherence_weight": config.weights.coh,
    }


def record(params: Params, outcome: Outcome) -> dict[str, jax.Array]:
    """Kept of every step: parameters after it and the raw gradient, in the order w, b of each node."""
    return {"parameters": _flat(params), "gradient": _flat(outcome.gradient)}


def _flat(params: Params) -> jax.Array:
    return jnp.stack([jnp.reshape(leaf, ()) for leaf in jax.tree.leaves(params)])


def final_states(config: Config, model: Any, depth: int) -> NDArray[Any]:
    """The last node's states ``[time, channel]``, float64."""
    return host_chain(config).states(_pairs(model), data(config)[0], depth)


def _pairs(model: Any) -> list[tuple[float, float]]:
    """Weight and bias of each node, of a chain or of its black box."""
    leaves = [float(leaf) for leaf in jax.tree.leaves(split_parameters(model)[0])]
    return list(zip(leaves[::2], leaves[1::2], strict=True))


def _with(config: Config, pairs: Sequence[tuple[float, float]]) -> Config:
    nodes = [replace(node, weight=w, bias=b) for node, (w, b) in zip(config.nodes, pairs, strict=True)]
    return replace(config, nodes=tuple(nodes))


def conclude(config: Config, result: FitResult) -> Conclusion:
    """Metrics of the last parameters at the last depth, and the published summary."""
    epochs = [epoch_as_published(len(config.nodes), record) for record in result.history]
    depth = epochs[-1]["depths"][0] if epochs else config.depth_schedule.start
    states = final_states(config, result.model, depth)
    y, p = data(config)[1][:, config.metric_channel], states[:, config.metric_channel]
    metrics = {
        "smape": smape(y, p, floor=config.smape_eps),
        "rmse": rmse(y, p),
        "overshoot": overshoot(y, p),
        "robustness": robustness(y, p),
    }
    best = None
    if result.best is not None:
        best_epoch = epochs[result.best["epoch"]]
        best = {"epoch": best_epoch["epoch"], **best_epoch["after"]}
    stopped = result.history[-1].epoch if result.status.value == "stopped" else None
    content = {
        "epochs": epochs,
        "best": None if best is None else {**(result.best or {}), **best},
        "best_params": None if result.best_model is None else parameters(result.best_model),
        "metrics": metrics,
        "early_stopped_at": stopped,
        "final_states": states.tolist(),
    }
    fallen = ""
    if best is not None:
        began = epochs[0]["before"]["total"] if "before" in epochs[0] else epochs[0]["after"]["total"]
        fallen = f"total loss {began:.6f} to {best['total']:.6f}, reached in epoch {best['epoch']}; "
    headline = f"{fallen}RMSE {metrics['rmse']:.6f}"
    notes = ["There is one sequence: 'validation' is the same one, after the epoch's last step."]
    if not np.any(y):
        notes.append("The target is 0 throughout: SMAPE is then 100 % whatever is learned.")
    return Conclusion(content, tuple(closing_lines(config.metric_channel, content, best)), headline, tuple(notes))


def figures(folder: RunFolder) -> Mapping[str, Any]:
    """States and futures at the best parameters, and the path of the parameters."""
    config = recipe_of(folder)[1]
    result = folder.read_json(folder.result_path)
    if not result.get("epochs") or not result.get("best"):
        return {}
    best, depth = result["best_params"], result["epochs"][result["best"]["epoch"]]["depths"][0]
    pairs = [(best[f"b{i}_w"], best[f"b{i}_b"]) for i in range(len(config.nodes))]
    inputs, targets = data(config)
    prediction = build(_with(config, pairs))(inputs, depth=depth)
    return {
        "Inputs, states and futures": futures_figure(
            inputs, targets, np.asarray(prediction.states[-1]), np.asarray(prediction.branches[-1])
        ),
        "Parameters": parameters_figure([epoch["params_after"] for epoch in result["epochs"]]),
    }


def export(folder: RunFolder, config: Config, model: Any) -> Exportable:
    """States and futures of the last node, for sequences each with a depth of its own."""
    chain = build(_with(config, _pairs(model)))

    def predict(inputs: jax.Array, depth: jax.Array) -> dict[str, jax.Array]:
        found = jax.vmap(lambda x, d: chain(x, depth=d))(inputs, depth)
        return {"states": found.states[-1], "futures": found.futures[-1]}

    ends = config.depth_schedule.start, config.depth_schedule.end
    depths = np.arange(min(ends), max(ends) + 1, dtype=np.int32)
    signal = data(config)[0]
    odd = np.stack([np.full_like(signal, value) for value in (0.0, np.nan, np.inf, 1e300, 5e-324)])
    return Exportable(
        predict,
        {"inputs": np.repeat(signal[None], len(depths), axis=0), "depth": depths},
        metadata={"depth_at_the_end": ends[1], "branches": config.branches, "policy": config.policy},
        edge_rows={"inputs": odd, "depth": np.full(len(odd), ends[1], np.int32)},
    )


RECIPE = Recipe(
    config=Config,
    build=build,
    data=data,
    experiment=experiment,
    smoke={"epochs": 6, "depth_schedule": DepthSchedule(1, 2, 4)},
    figures=figures,
    float64=lambda config: True,
    export=export,
)
