"""Local rules and transfer: the problem as they train it. What does not fit is refused by the library's own code."""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax

from ...core import UsageError, named_key
from ...spiking import (
    DecoupledModel,
    EProp,
    FeedbackLinear,
    Network,
    SpikingObjective,
    SyntheticGradients,
    convert,
    quantise,
)
from ._problem import Problem

BITS = 4
"""Of a quantised weight."""
SEGMENT = 4
"""Steps of a segment between two synthetic gradients."""


def by_eprop(problem: Problem) -> Problem:
    """With `EProp`, online, in the place of the loss.

    Raises:
        UsageError: the problem has no labels; when it is called, the model has another architecture.
    """
    _check_labelled("EProp", problem)
    return dataclasses.replace(problem, objective=EProp(readout="sum"))


def by_synthetic_gradients(problem: Problem) -> Problem:
    """With `SyntheticGradients` in the place of the loss, and its predictor beside the network.

    Raises:
        UsageError: the problem has no labels.
    """
    _check_labelled("SyntheticGradients", problem)
    inputs, labels = problem.example
    rule = SyntheticGradients(segment=SEGMENT, readout="sum", classes=int(problem.train[1].max()) + 1)

    def build(key: Any) -> DecoupledModel:
        return rule.prepare(problem.build(key), (inputs, labels), width=8, key=named_key(key, "predictor"))

    return dataclasses.replace(
        problem, build=build, objective=rule, score=lambda model, rows: problem.score(model.network, rows)
    )


def _check_labelled(rule: str, problem: Problem) -> None:
    if not isinstance(problem.objective, SpikingObjective):
        raise UsageError(
            f"{rule} stands in the place of a SpikingObjective, a loss of traces and labels; here the objective is "
            f"{type(problem.objective).__name__}."
        )


def by_feedback_alignment(problem: Problem) -> Problem:
    """With every dense layer but the first a `FeedbackLinear` of the same weights.

    Raises:
        UsageError: the model is no `Network`, or has one dense layer, through which nothing travels back.
    """

    def build(key: Any) -> Network:
        return with_feedback(problem.build(key), named_key(key, "feedback"))

    eqx.filter_eval_shape(build, jax.random.key(0))
    return dataclasses.replace(problem, build=build)


def with_feedback(model: Any, key: Any) -> Network:
    """A network whose dense layers but the first send errors back through fixed random weights.

    Raises:
        UsageError: there are none.
    """
    if not isinstance(model, Network):
        raise UsageError(f"FeedbackLinear takes the place of dense layers in a Network; this is a {_name(model)}.")
    places = [i for i, layer in enumerate(model.layers) if isinstance(layer, eqx.nn.Linear)][1:]
    if not places:
        raise UsageError("FeedbackLinear needs two dense layers: below the first, no error is wanted.")
    layers = list(model.layers)
    for place in places:
        old = layers[place]
        new = FeedbackLinear(
            old.in_features, old.out_features, use_bias=old.bias is not None, key=jax.random.fold_in(key, place)
        )
        layers[place] = eqx.tree_at(
            lambda layer: (layer.weight, layer.bias), new, (old.weight, old.bias), is_leaf=lambda x: x is None
        )
    return Network(layers)


def quantised(problem: Problem) -> Problem:
    """With weights of few bits, trained through their rounding and judged rounded.

    Raises:
        UsageError: nothing in the model can be quantised, or the model cannot use what was.
    """

    def build(key: Any) -> Any:
        return quantise(problem.build(key), BITS)

    shapes = eqx.filter_eval_shape(build, jax.random.key(0))
    try:
        eqx.filter_eval_shape(problem.score, shapes, problem.example)
    except (AttributeError, TypeError) as error:  # under type checks it is the latter
        raise UsageError(
            f"a {_name(problem.shapes)} reads the weights of its layers and does not call them: quantise(model) puts "
            "layers in their place that are to be called."
        ) from error
    return dataclasses.replace(problem, build=build)


def by_conversion(problem: Problem) -> Problem:
    """The source, trained in the problem's stead and then converted.

    Raises:
        UsageError: there is no source; `convert` says why the model itself is none.
    """
    if problem.source is None:
        convert(problem.shapes, problem.example)
        raise UsageError("there is no ReLU network of this problem to convert.")
    source = problem.source
    return dataclasses.replace(problem, build=source.build, objective=source.objective, deployed=True)


def _name(model: Any) -> str:
    return type(model).__name__
