"""Handwritten digits as spikes, learned in four ways: what does each reach, and with how many spikes?

    hardgrad run digits-lif                          the surrogate gradient, five seeds
    hardgrad run digits-lif --variant eprop          the local rule, on the same network
    hardgrad run digits-lif --variant conversion     a ReLU network turned into spikes
    hardgrad run digits-lif --variant hybrid         the surrogate with random directions beside it, and without

The images are scikit-learn's 1797 of 8 × 8 pixels. Each seed deals them out anew: some to learn from, half of the time
shifted by a pixel; some to choose the best epoch by; some that are looked at once, at the end. Every pixel sends spikes
at the rate of its brightness to Linear(64, 100) → recurrent LIF(100) → Linear(100, 10) → leaky integrator(10), and the
mean of what comes out over time decides. The conversion's source sees the brightness itself; its spiking neurons get it
as a current.

"hybrid" trains each seed twice in one run, by `Hybrid` and by the surrogate alone: the same start, data and batches. It
does not help here, nor is there a reason why it should: a surrogate with tails reaches every unit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np
import optax
from numpy.typing import NDArray

from ..core import control
from ..estimators import Autodiff
from ..schedules import Cosine, Plan
from ..spiking import (
    CrossEntropy,
    EProp,
    LeakyIntegrator,
    Network,
    RecurrentLIF,
    SpikingObjective,
    SuperSpike,
    run,
    unpack_bits,
)
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
from ..training.callbacks import Best, Evaluate
from ._digits_config import Config
from ._digits_conversion import (
    SourceObjective,
    at_once,
    converted,
    transfer,
    transfer_figure,
    transfer_lines,
    transfer_traces,
)
from ._digits_data import CLASSES, PIXELS, TEST, TRAIN, VALIDATION
from ._digits_hybrid import EachMember, estimators, hybrid_lines, work
from ._digits_scores import ACTIVITY, Watch, examples, judge
from ._recipe import Conclusion, Experiment, Recipe
from ._spiking_report import run_figures
from ._spiking_traces import KeepTraces, Trace, traces_of
from ._verdicts import spread

_DECAY, _STEEPNESS, _WEIGHT_SCALE = 0.9, 5.0, 0.05
_LABELS = {
    "surrogate": "spikes, surrogate gradient",
    "eprop": "spikes, e-prop",
    "hybrid": "spikes, hybrid",
    "conversion": "source of the conversion, ReLU",
    "linear": "logistic regression on pixels",
    "majority": "most frequent digit",
}


def data(config: Config) -> tuple[NDArray[Any], NDArray[Any]]:
    """Training examples and labels."""
    return examples(config, TRAIN)


def network(config: Config, key: Any) -> Network:
    """One spiking member at its start."""
    first, cell, last = jax.random.split(key, 3)
    return Network(
        [
            eqx.nn.Linear(PIXELS, config.hidden, key=first),
            RecurrentLIF(
                config.hidden,
                decay=_DECAY,
                surrogate=SuperSpike(_STEEPNESS),
                detach_reset=True,
                weight_scale=_WEIGHT_SCALE,
                key=cell,
            ),
            eqx.nn.Linear(config.hidden, CLASSES, key=last),
            LeakyIntegrator(CLASSES, decay=_DECAY),
        ]
    )


def source(config: Config, key: Any) -> eqx.nn.MLP:
    """One network to be converted, at its start."""
    return eqx.nn.MLP(PIXELS, CLASSES, config.source_hidden, depth=2, activation=jax.nn.relu, key=key)


def build(config: Config) -> Any:
    """The members, one ensemble, arm by arm."""
    make = source if config.variant == "conversion" else network
    return make_ensemble(lambda key: make(config, key), config.seeds * len(config.arms))


def objective(config: Config) -> EnsembleObjective:
    """The mean over members. e-prop's gradient is its own; the others differentiate."""
    loss = CrossEntropy(readout="mean", smoothing=config.smoothing)
    own: Any = SpikingObjective(loss, steps=config.steps)
    if config.variant == "conversion":
        own = SourceObjective(loss)
    elif config.variant == "eprop":
        own = EProp(at_once(loss), readout="mean", mode=config.eprop_mode, steps=config.steps)
    return EnsembleObjective(own, own_data=True)


def traces(config: Config, model: Any) -> list[Trace]:
    """What the first member of the last arm does with a test image; rates are those of 64."""
    first = config.members * (len(config.arms) - 1)
    x = examples(config, TEST)[0][:64, first]
    if config.variant == "conversion":
        spiking = converted(model, config.digits.pixels(TRAIN)[0][:, :1])[0]
        return transfer_traces(spiking, x, config.steps)
    inputs = unpack_bits(x, config.steps)
    found = eqx.filter_jit(lambda model, x: run(model, x, record=True))(member(model, first), inputs)
    return traces_of(inputs, found.spikes, found.voltages, names=["hidden", "outputs"])


def experiment(config: Config) -> Experiment:
    """The whole run.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    steps = config.epochs * (config.train * config.draws // config.batch_size)
    watch = Watch(config, examples(config, VALIDATION))
    estimator = EachMember(estimators(config)) if config.variant == "hybrid" else Autodiff()
    trainer = Trainer(
        GradientMethod(estimator, controlled(optax.adam, control("learning_rate"))),
        plan=Plan(learning_rate=Cosine(config.learning_rate, 0.0, max(1, steps), unit="step")),
        callbacks=[
            Evaluate(watch, watch.names),
            Best("val_accuracy", "max"),
            KeepTraces(lambda model: traces(config, model)),
        ],
    )
    return Experiment(
        trainer=trainer,
        model=build(config),
        objective=objective(config),
        data=InMemory(data(config), batch_size=config.batch_size, keep_remainder=False),
        epochs=config.epochs,
        seed=config.seed,
        conclude=lambda result: conclude(config, result),
    )


def conclude(config: Config, result: FitResult) -> Conclusion:
    """Test accuracy of every member beside what is easily had, and the spikes it takes."""
    ensemble = result.model if result.best_model is None else result.best_model
    scores = judge(config, ensemble, examples(config, TEST))
    each = np.split(scores.accuracy, len(config.arms))
    accuracy = {arm: values.tolist() for arm, values in zip(config.arms, each, strict=True)}
    accuracy |= config.digits.baselines()
    lines = [
        f"{config.members} seeds; each learns from {config.train} images, chooses by {config.validation}, is tested on "
        f"{config.test}",
        "",
        f"{'':<31}{'accuracy, mean ± sd':>21}{'worst':>9}",
        *(
            f"{_LABELS[name]:<31}{np.mean(values):>13.2%} ± {spread(values):.2%}{min(values):>9.2%}"
            for name, values in accuracy.items()
        ),
        "",
    ]
    found: dict[str, Any] = {"variant": config.variant, "seeds": config.seeds, "accuracies": accuracy}
    if config.variant == "conversion":
        of_sources = accuracy["conversion"]
        train, tested = config.digits.pixels(TRAIN)[0], config.digits.pixels(TEST)
        moved = transfer(ensemble, train, tested, config.conversion_steps)
        found |= {"accuracy": moved.final, "conversion": {"source": of_sources, **dataclasses.asdict(moved)}}
        headline = f"{_percent(moved.final)} of the test images after conversion; the source has {_percent(of_sources)}"
        return Conclusion(found, (*lines, *transfer_lines(of_sources, moved)), headline)
    activity = {name: np.split(getattr(scores, name), len(config.arms))[-1].tolist() for name in ACTIVITY}
    found |= {"accuracy": accuracy[config.variant], "activity": activity}
    lines += [
        f"Spikes an image: {np.mean(activity['spikes']):.0f} ± {spread(activity['spikes']):.0f}, "
        f"{np.mean(activity['firing_rate']):.3f} a unit and step.",
        f"Of the units {np.mean(activity['silent_units']):.1%} never spike, "
        f"{np.mean(activity['saturated_units']):.1%} at nearly every step.",
    ]
    if config.variant == "hybrid":
        found["work"] = work(config)
        lines += ["", *hybrid_lines(config, accuracy, result.history[-1] if result.history else None)]
    others = [_percent(accuracy[name]) for name in ("surrogate",) if name in accuracy and name != config.variant]
    beside = f"; the surrogate alone has {others[0]}" if others else ""
    headline = f"{config.variant}: {_percent(found['accuracy'])} of the test images told right{beside}"
    return Conclusion(found, tuple(lines), headline)


def _percent(accuracies: list[float]) -> str:
    return f"{100 * np.mean(accuracies):.1f} ± {100 * spread(accuracies):.1f} %"


def figures(folder: RunFolder) -> Mapping[str, Any]:
    """Spikes, membranes and activity; of a conversion also its accuracy over time."""
    shown = folder.read_json(folder.result_path).get("conversion")
    over_time = {"Accuracy of converted networks over time": transfer_figure(shown)} if shown else {}
    return {**over_time, **run_figures(folder)}


RECIPE = Recipe(
    config=Config,
    build=build,
    data=data,
    experiment=experiment,
    smoke={
        "train": 128,
        "validation": 64,
        "test": 64,
        "steps": 8,
        "draws": 1,
        "hidden": 16,
        "epochs": 3,
        "batch_size": 16,
        "members": 2,
        "source_hidden": 16,
        "conversion_steps": (4, 8),
        "pairs": 1,
    },
    figures=figures,
)
