"""A cell of the matrix: one method on one problem, trained from several seeds at once.

Compiling is what a small cell costs most, so that each has one program for a number of seeds side by side: seeds,
settings and numbers of steps are its arguments, and the grid of settings, the seeds that are reported and the run at
equal seconds are calls of it. Starts and scores are the problem's own programs, which methods share.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ...core import named_key
from .._race import Lane
from ._methods import Entry
from ._problem import Problem, flat, flattened, unflattened

Judge = Literal["validation", "test", "curve"]
POINTS = 10
"""Scores along a run, besides the first."""


class Trained(NamedTuple):
    """What came of members.

    Attributes:
        scores: at the start and after each of the points, ``[members, points + 1]``; of a model that is converted only
            the last, the others NaN. Where only the end is judged, ``[members, 1]``.
        refused: steps that were not finite and not taken, ``[members]``.
    """

    scores: NDArray[np.float64]
    refused: NDArray[np.int64]

    @property
    def final(self) -> NDArray[np.float64]:
        """At the end."""
        return self.scores[:, -1]


class Shared:
    """The programs that cells of one column share: starts and scores, by the functions that define them."""

    def __init__(self, *, optimise: bool = True):
        self.options = None if optimise else _quick()
        self._made: dict[tuple[int, int, int], Any] = {}
        self._kept: list[Problem] = []  # their identities are the keys

    def compiled(self, function: Callable[..., Any]) -> Any:
        """The function as a program."""
        return jax.jit(function, compiler_options=self.options)

    def start(self, problem: Problem) -> Any:
        """From seeds to vectors of parameters and the other arrays of the models, ``[members, ...]``."""

        def one(seed: Any) -> Any:
            vector, rest = flattened(problem.build(named_key(jax.random.key(seed), "start")))
            return vector, eqx.filter(rest, eqx.is_array)

        return self._once(0, problem, problem.build, lambda: self.compiled(jax.vmap(one)))

    def score(self, problem: Problem) -> Any:
        """From vectors ``[members, parameters]``, the other arrays and rows to scores ``[members]``."""
        static = _static(problem)

        def one(vector: Any, arrays: Any, rows: Any) -> Any:
            return problem.score(unflattened(problem, vector, eqx.combine(arrays, static)), rows)

        return self._once(1, problem, problem.score, lambda: jax.jit(jax.vmap(one, in_axes=(0, 0, None))))

    def _once(self, kind: int, problem: Problem, function: Any, make: Callable[[], Any]) -> Any:
        key = kind, id(problem.build), id(function)
        if key not in self._made:
            self._made[key] = make()
            self._kept.append(problem)
        return self._made[key]


@functools.cache
def _quick() -> dict[str, Any] | None:
    """Options with which a program takes a third of the time to compile, and longer to run; None if there are none."""
    options = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(jnp.negative, compiler_options=options)(jnp.zeros(()))
    except jax.errors.JaxRuntimeError:  # another version of XLA has others
        return None
    return options


def _static(problem: Problem) -> Any:
    """What of a model is no array."""
    return eqx.filter(problem.shapes, lambda leaf: not isinstance(leaf, jax.ShapeDtypeStruct))


class Cell:
    """One method on one problem.

    Args:
        entry: the method.
        problem: as the method trains it.
        width: members that are trained side by side.
        shared: programs of the column.
    """

    def __init__(self, entry: Entry, problem: Problem, *, width: int, shared: Shared):
        self.entry, self.problem, self.width = entry, problem, width
        self.parameters = problem.parameters
        self._train, self._validation, self._test = (
            jax.tree.map(jnp.asarray, rows) for rows in (problem.train, problem.validation, problem.test)
        )
        self._start, self._static = shared.start(problem), _static(problem)
        self._run = shared.compiled(jax.vmap(self._member, in_axes=(0, 0, 0, 0, None, None)))
        source = problem.source if problem.deployed else None
        self._score: Any = shared.score(problem) if source is None else eqx.filter_jit(source.score)

    def __call__(
        self, seeds: Sequence[int], settings: Sequence[Mapping[str, float]], steps: int, *, judge: Judge = "curve"
    ) -> Trained:
        """Train a member for each seed with its settings.

        Args:
            seeds: of starts, minibatches and the method's own draws.
            settings: as many.
            steps: how many each takes.
            judge: "validation" or "test": the end on those rows; "curve": all points on the test rows.

        Raises:
            UsageError: the method cannot train this problem, in the words of the code that refuses.
        """
        count = len(seeds)
        found = []
        for first in range(0, count, self.width):
            # The last members stand in for those that are missing: a program has one width.
            chosen = [min(first + i, count - 1) for i in range(self.width)]
            vectors, arrays, refused = self._trained(chosen, seeds, settings, steps)
            if judge == "curve":
                scores = self._curve(vectors, arrays)
            else:
                scores = self._judged(vectors, arrays, self._validation if judge == "validation" else self._test)
            found.append((scores, np.asarray(refused, np.int64)))
        scores, refused = (np.concatenate(parts)[:count] for parts in zip(*found, strict=True))
        return Trained(scores, refused)

    def train(self, seed: int, settings: Mapping[str, float], steps: int) -> None:
        """Train one member in each place and wait for it; nothing is judged: for measuring time."""
        chosen = [0] * self.width
        self._trained(chosen, [seed], [settings], steps)[0].block_until_ready()

    def _trained(
        self, chosen: list[int], seeds: Sequence[int], settings: Sequence[Mapping[str, float]], steps: int
    ) -> tuple[Any, Any, Any]:
        keys = jnp.asarray([seeds[i] for i in chosen], jnp.uint32)
        numbers = {name: jnp.asarray([settings[i][name] for i in chosen], jnp.float32) for name in settings[0]}
        vectors, arrays = self._start(keys)
        trained, refused = self._run(vectors, arrays, keys, numbers, jnp.asarray(spans(steps)), self._train)
        return trained, arrays, refused

    def _curve(self, vectors: Any, arrays: Any) -> NDArray[np.float64]:
        """Scores on the test rows at all points ``[members, points + 1]``."""
        points = vectors.shape[1]
        if self.problem.deployed:
            unknown = np.full((len(vectors), points - 1), np.nan)
            return np.concatenate([unknown, self._judged(vectors, arrays, self._test)], axis=1)
        scores = [self._score(vectors[:, point], arrays, self._test) for point in range(points)]
        return np.stack([np.asarray(one, np.float64) for one in scores], axis=1)

    def _judged(self, vectors: Any, arrays: Any, rows: Any) -> NDArray[np.float64]:
        """Scores at the end ``[members, 1]``."""
        ends = vectors[:, -1]
        if not self.problem.deployed:
            return np.asarray(self._score(ends, arrays, rows), np.float64)[:, None]
        assert self.problem.source is not None
        scores = []
        for i in range(len(ends)):  # balancing is work of the host
            rest = eqx.combine(jax.tree.map(lambda x, i=i: x[i], arrays), self._static)
            model = unflattened(self.problem, ends[i], rest)
            scores.append(float(self._score(self.problem.source.convert(model), rows)))
        return np.asarray(scores, np.float64)[:, None]

    def _member(self, vector: Any, arrays: Any, seed: Any, settings: Any, stretches: Any, train: Any) -> Any:
        """Parameters after each stretch, and how many steps were refused."""
        key = jax.random.key(seed)
        method = self.entry.make(settings)
        lane = Lane(method, flat(self.problem), (None, eqx.combine(arrays, self._static)))
        params, last = (vector, None), stretches[-1, 1]

        def step(index: Any, carried: Any) -> Any:
            trained, refused = carried
            share = index.astype(jnp.float32) / last.astype(jnp.float32)
            after, _, good = lane.step(
                trained, batch=train, settings=settings, share=share, key=jax.random.fold_in(key, index)
            )
            return after, refused + jnp.where(good, 0, 1)

        def stretch(carried: Any, span: Any) -> Any:
            carried = jax.lax.fori_loop(span[0], span[1], step, carried)
            return carried, carried[0][0][0]

        state = method.init(params, key=named_key(key, "method"))
        (_, refused), vectors = jax.lax.scan(stretch, _strong(((params, state), jnp.zeros((), jnp.int32))), stretches)
        return vectors, refused


def spans(steps: int) -> NDArray[np.int32]:
    """Where each stretch between scores begins and ends, ``[points + 1, 2]``; the first is empty."""
    ends = np.round(np.linspace(0, steps, POINTS + 1)).astype(np.int32)
    return np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1).astype(np.int32)


def _strong(tree: Any) -> Any:
    """A loop must hand on the types it was given, and a weak one becomes strong at its first update."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), tree)
