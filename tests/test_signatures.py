"""One name and one place for each thing, in every public signature.

What this holds to, over all public functions, constructors and methods:

* Two arguments that may be given by position stand in the same order wherever both occur.
* `key` is by name only, but in an objective, whose order is ``(model, batch, controls, key)``.
* A switch is by name only: ``fit(True)`` says nothing to its reader.
* At most four arguments with a default may be given by position: nobody counts to five.
* Synonyms are not used: `learning_rate` and not ``lr``, `steps` and not ``n_steps``, `chunk_size` and not ``chunk``.
* The parts a trainer calls have one signature each: estimators, methods, objectives, schedules, callbacks' hooks.
* A loss, which is a JAX array, takes what the model says before what is true, as Optax does; a score, which is a plain
  number or a report, takes the truth first, as scikit-learn does.

What is filled in by the library and read by its users, such as a result, is a record: its fields have an order of
their own. Exceptions stand below, each with its reason.
"""

from __future__ import annotations

import enum
import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from hardgrad.core import AbstractEstimator
from hardgrad.training import AbstractMethod, AbstractStrategy
from hardgrad.training.callbacks import Callback
from hardgrad.training.callbacks._base import HOOKS
from public_names import public_classes, public_names

RECORDS = {
    "audit.Agreement",
    "audit.Audit",
    "audit.Blind",
    "oscillators.AutonomyReport",
    "oscillators.StrictReport",
    "oscillators.StrictScore",
    "rational.Calibration",
    "report.Curve",
    "search.Poll",
    "search.SearchResult",
    "search.Standing",
    "training.EpochRecord",
    "training.FitResult",
    "training.Run",
}
"""Made by the library, read by users."""

BY_POSITION = {
    "core.Loss": "the objective's own order: model, batch, controls, key",
    "core.named_key": "its one subject is the key",
}
"""Functions whose `key` may be given by position."""

SWITCHES = {
    ("core.Loss", "inference"): "the trainer makes it",
    ("rational.SCMArray", "mask"): "value and tag: the published pair",
    ("rational.SCMValue", "is_bottom"): "value and tag: the published pair",
}
"""Switches that may be given by position."""

MANY = {
    "core.Loss": "the trainer makes it",
}
"""More than four defaults by position."""

ORDERS = {
    frozenset({"epoch", "seed"}): "rows of an epoch, drawn with a seed",
}
"""Pairs whose order differs with a reason."""

SYNONYMS = {
    "lr": "learning_rate",
    "rate": "learning_rate, or what it is the rate of",
    "n_steps": "steps",
    "num_steps": "steps",
    "n_epochs": "epochs",
    "num_epochs": "epochs",
    "bs": "batch_size",
    "batchsize": "batch_size",
    "chunk": "chunk_size",
    "rng": "key or seed",
    "random_state": "seed",
    "prng": "key",
    "thresh": "threshold",
    "thr": "threshold",
    "optimiser": "optimizer, Optax's word",
    "opt": "optimizer",
    "reference": "target",
    "truth": "target",
    "y_true": "target",
    "y_pred": "prediction",
    "pred": "prediction",
    "dataset": "data",
    "loss_function": "objective, or loss_fn where it is bound to a batch",
    "objective_fn": "objective",
    "dir": "folder",
    "directory": "folder",
    "filename": "path",
    "file": "path",
    "callback": "callbacks",
    "net": "network",
    "verbose": "a callback",
}
"""A name nobody gives, and the one to give."""

KEPT = {
    ("oscillators.SyrinxField", "rate"): "γ of the equation, a rate in 1/s",
    ("spiking.SpikeCountError", "rate"): "a firing rate",
}
"""Synonyms that mean something else where they stand."""

POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
OBJECTIVE = ["model", "batch", "controls", "key"]


def signatures() -> Iterator[tuple[str, inspect.Signature]]:
    """Every public function, constructor and method that is written in hardgrad, without its `self`."""
    for name, thing in public_names().items():
        if inspect.isfunction(thing):
            yield name, inspect.signature(thing)
        if not inspect.isclass(thing) or issubclass(thing, BaseException | enum.Enum):
            continue
        yield name, inspect.signature(thing)
        for method in dir(thing):
            function = getattr(inspect.getattr_static(thing, method), "__func__", inspect.getattr_static(thing, method))
            public = method == "__call__" or not method.startswith("_")
            if public and inspect.isfunction(function) and function.__module__.startswith("hardgrad"):
                yield f"{name}.{method}", without_self(inspect.signature(function))


def without_self(signature: inspect.Signature) -> inspect.Signature:
    kept = [p for p in signature.parameters.values() if p.name not in ("self", "cls")]
    return signature.replace(parameters=kept)


ALL = dict(signatures())


def given_by_position(signature: inspect.Signature) -> list[inspect.Parameter]:
    return [p for p in signature.parameters.values() if p.kind in POSITIONAL]


def names(signature: inspect.Signature) -> list[str]:
    return list(signature.parameters)


def found(problems: list[str]) -> None:
    assert not problems, "\n" + "\n".join(sorted(problems))


def test_the_walk_finds_what_users_call() -> None:
    assert {"hardgrad.Trainer", "hardgrad.Trainer.fit", "spiking.readout", "core.AbstractEstimator.init"} <= set(ALL)
    assert len(ALL) > 700


def test_two_arguments_stand_in_one_order() -> None:
    seen: dict[tuple[str, str], str] = {}
    problems = []
    for name, signature in ALL.items():
        if name in RECORDS or name in MANY:
            continue
        given = [p.name for p in given_by_position(signature)]
        for pair in itertools.combinations(given, 2):
            seen.setdefault(pair, name)
            other = seen.get(pair[::-1])
            if other and frozenset(pair) not in ORDERS and frozenset(pair) & TRUTH == set():
                problems.append(f"{name} takes {pair[0]}, {pair[1]}; {other} takes {pair[1]}, {pair[0]}")
    found(problems)


def test_a_key_is_given_by_name() -> None:
    problems = []
    for name, signature in ALL.items():
        given = [p.name for p in given_by_position(signature)]
        if "key" in given and given != OBJECTIVE and name not in BY_POSITION:
            problems.append(f"{name}: put a * before key")
    found(problems)


def test_a_switch_is_given_by_name() -> None:
    problems = []
    for name, signature in ALL.items():
        for p in given_by_position(signature):
            if isinstance(p.default, bool) and name not in RECORDS and (name, p.name) not in SWITCHES:
                problems.append(f"{name}: put a * before {p.name}")
    found(problems)


def test_nobody_counts_to_five() -> None:
    problems = []
    for name, signature in ALL.items():
        many = [p.name for p in given_by_position(signature) if p.default is not p.empty]
        if len(many) > 4 and name not in RECORDS and name not in MANY:
            problems.append(f"{name}: {len(many)} arguments with a default by position: {', '.join(many)}")
    found(problems)


def test_no_synonyms() -> None:
    problems = [
        f"{name}: not {given}, but {SYNONYMS[given]}"
        for name, signature in ALL.items()
        for given in names(signature)
        if given in SYNONYMS and (name.removesuffix(".__call__"), given) not in KEPT
    ]
    found(problems)


SAID = ("prediction", "generated", "traces", "P")
TRUTH = frozenset({"target", "labels", "events", "Y_n"})


def test_losses_take_the_models_word_first_and_scores_the_truth() -> None:
    problems = []
    for name, signature in ALL.items():
        given = [p.name for p in given_by_position(signature)]
        said, truth = [n for n in given if n in SAID], [n for n in given if n in TRUTH]
        if not said or not truth or name in RECORDS:
            continue
        array = any(word in str(signature.return_annotation) for word in ("Array", "Scalar"))
        model_first = given.index(said[0]) < given.index(truth[0])
        if array != model_first:
            problems.append(f"{name}{signature}: {'a loss' if array else 'a score'}")
    found(problems)


@pytest.mark.parametrize("kind", [AbstractEstimator, AbstractMethod, AbstractStrategy], ids=lambda kind: kind.__name__)
def test_a_kind_has_one_signature(kind: type) -> None:
    same_as_base(kind, sorted(kind.__abstractmethods__))  # type: ignore[attr-defined]


def test_callbacks_hooks_are_the_base_class_s() -> None:
    same_as_base(Callback, [*HOOKS, "measure", "state", "restore"])


def same_as_base(kind: type, methods: list[str]) -> None:
    problems = []
    for one in public_classes(kind):
        for method in methods:
            base, ours = getattr(kind, method), getattr(one, method)
            if inspect.isfunction(base) and shape(ours) != shape(base):
                problems.append(f"{one.__name__}.{method}{inspect.signature(ours)}")
    found(problems)


def shape(function: Any) -> list[tuple[str, Any]]:
    return [(p.name, p.kind) for p in inspect.signature(function).parameters.values()]


def test_an_objective_is_called_with_model_batch_controls_key() -> None:
    objectives = {n: s for n, s in ALL.items() if n.endswith(".__call__") and {"batch", "controls"} & set(names(s))}
    assert len(objectives) > 5
    found([f"{name}{signature}" for name, signature in objectives.items() if names(signature) != OBJECTIVE])


def test_the_exceptions_are_needed() -> None:
    """A list of exceptions that outlives what it excused hides the next mistake."""
    assert set(BY_POSITION) | set(MANY) | RECORDS <= set(ALL)
    for name, argument in [*SWITCHES, *KEPT]:
        assert argument in names(ALL[name]), (name, argument)
    for name in BY_POSITION:
        assert "key" in [p.name for p in given_by_position(ALL[name])], name
    for pair in ORDERS:
        both = [[p.name for p in given_by_position(s) if p.name in pair] for s in ALL.values()]
        assert len({tuple(b) for b in both if len(b) == 2}) == 2, pair
