"""What a column of the matrix is: a small problem that any method may be set to."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ...core import Controls, split_parameters
from ...estimators._probes import unflatten


@dataclasses.dataclass(frozen=True)
class Problem:
    """A model, what it is to minimise, its data, and how it is judged.

    Attributes:
        name: on the command line.
        title: in tables.
        about: model and task in a sentence.
        unit: what the score is; lower is better.
        build: ``build(key)``, the model at its start.
        objective: ``objective(model, rows, controls, key) -> (loss, metrics)``, the loss trained on.
        score: ``score(model, rows)``, a scalar array.
        train: a pytree of arrays ``[rows, ...]``; a step draws its minibatch from it.
        validation: rows that settings are chosen on.
        test: rows that are reported.
        batch_size: rows of a minibatch.
        trivial: the score on `test` of an answer that looks at no input, which scores are divided by.
        trivial_is: that answer, in words.
        best: the best score on `test` there can be, where it is known.
        controls: constants the objective reads.
        source: the problem in an easier form, whose trained model can be converted; None where there is none.
        deployed: whether the model is what `source` trains, to be converted before it is judged.
    """

    name: str
    title: str
    about: str
    unit: str
    build: Callable[[Any], Any]
    objective: Any
    score: Callable[[Any, Any], Array]
    train: Any
    validation: Any
    test: Any
    batch_size: int
    trivial: float
    trivial_is: str
    best: float | None = None
    controls: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    source: Source | None = None
    deployed: bool = False

    @property
    def shapes(self) -> Any:
        """The model with shapes in the place of arrays: nothing is computed."""
        return eqx.filter_eval_shape(self.build, jax.random.key(0))

    @property
    def parameters(self) -> int:
        """Numbers that are trained."""
        return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(self.shapes, _is_trained)))

    @property
    def example(self) -> Any:
        """A minibatch, for its shapes."""
        return jax.tree.map(lambda x: x[: self.batch_size], self.train)


@dataclasses.dataclass(frozen=True)
class Source:
    """A problem that is easier to train, and the way back.

    Attributes:
        build: ``build(key)``, a model that can be converted.
        objective: as of `Problem`, on its rows.
        convert: from a trained one to the model wanted; runs on the host.
        score: of what was converted, on the problem's rows.
    """

    build: Callable[[Any], Any]
    objective: Any
    convert: Callable[[Any], Any]
    score: Callable[[Any, Any], Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Flat:
    """An objective of all parameters end to end, on rows drawn by the step's key.

    One vector in the place of a tree of arrays keeps programs small, whatever the model. The batch is the whole of the
    training rows; all evaluations of a step see the same of them.

    Attributes:
        objective: of the model, on a minibatch.
        layout: the model with shapes in the place of its parameters.
        size: rows of a minibatch.
        constants: controls that the objective reads besides.
    """

    objective: Any
    layout: Any
    size: int
    constants: Mapping[str, Any]

    def __call__(self, model: Any, rows: Any, controls: Controls, key: Key[Array, ""]) -> Any:
        """Loss and metrics of ``(vector, rest)`` on neighbouring rows from a random one on; the rows have no order."""
        vector, rest = model
        count = len(jax.tree.leaves(rows)[0])
        # A key is two random words: it need not be hashed once more for a place to begin.
        first = (jax.random.key_data(key)[-1] % jnp.uint32(count - self.size + 1)).astype(jnp.int32)
        batch = jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, first, self.size), rows)
        whole = eqx.combine(unflatten(vector, self.layout), rest)
        loss, metrics, *_ = self.objective(whole, batch, {**controls, **self.constants}, key)
        return loss, metrics


def flat(problem: Problem) -> Flat:
    """The problem's objective as a method sees it."""
    return Flat(problem.objective, eqx.filter(problem.shapes, _is_trained), problem.batch_size, problem.controls)


def flattened(model: Any) -> tuple[Array, Any]:
    """All parameters of a model end to end, and the rest."""
    params, rest = split_parameters(model)
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(params)]), rest


def unflattened(problem: Problem, vector: Array, rest: Any) -> Any:
    """The model with these parameters."""
    return eqx.combine(unflatten(vector, eqx.filter(problem.shapes, _is_trained)), rest)


def _is_trained(leaf: Any) -> bool:
    """Whether a leaf, or the shape of one, is a parameter."""
    return isinstance(leaf, jax.ShapeDtypeStruct | jax.Array) and jnp.issubdtype(leaf.dtype, jnp.inexact)
