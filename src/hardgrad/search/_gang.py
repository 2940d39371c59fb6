"""Runs that train as one: each in a thread of its own, their blocks of steps in one program, vmapped.

Every member goes through epochs, callbacks, telemetry and checkpoints as if it were alone. Only its blocks are not
sent to the device: they wait until all members have theirs. What all have in common, such as the data or a rate, is
passed once and stays unbatched, so that a branch on a control remains a branch. A member that ends leaves, and the
rest go on in a smaller program. Which members a block was computed with is a function of the epoch alone, and so are
the bits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..training._program import Flat, Packed, Program, Static, run_block
from ..training._together import TOGETHER
from ..training._together import NotAlike as NotAlike
from ._alike import difference, same_array
from ._lift import Parts, lift

_SHARED, _STACKED, _OWN = range(3)  # how a leaf travels: once; as one array that stays; one of each member's


class Request(NamedTuple):
    """The arguments of `run_block`, of one member."""

    program: Program
    state: Flat
    values: Flat
    arrays: Flat
    block: dict[str, Any]
    seed: Any
    validation: Flat | None

    @property
    def constants(self) -> tuple[Any, ...]:
        """What is the same in every block of a run."""
        return self.values, self.arrays, self.seed, self.validation

    def of(self, parts: Parts) -> Request:
        """The same with other sides of method, objective and model."""
        if parts.values is self.values:
            return self
        return self._replace(program=dataclasses.replace(self.program, parts=parts.static), values=parts.values)


class _Constants(NamedTuple):
    """The constants of some members, laid out for their program.

    Attributes:
        kinds: how each leaf travels.
        shared: the leaves that are the same for all.
        stacked: the others that are arrays, a leading axis of members each.
    """

    kinds: tuple[int, ...]
    shared: list[Any]
    stacked: list[Any]


Answer = tuple[Flat, Packed]


class Gang:
    """The meeting place of some runs.

    Args:
        members: their numbers. Each must come, by `member`; the others wait for it.
    """

    def __init__(self, members: Iterable[int]):
        self.rounds = 0
        self._here = set(members)
        self._asked: dict[int, Request] = {}
        self._answers: dict[int, Answer] = {}
        self._parts: dict[int, Parts] = {}
        self._constants: dict[bool, _Constants] = {}
        self._known: set[tuple[Program, Program]] = set()
        self._end: Callable[[], BaseException] | None = None
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def member(self, number: int) -> Iterator[None]:
        """Around the training of a member, in its own thread: it is one of us until it is done."""
        token = TOGETHER.set(partial(self._ask, number))
        try:
            yield
        finally:
            TOGETHER.reset(token)
            with self._changed:
                self._here.discard(number)
                self._go_if_all_have_asked()

    def stop(self) -> None:
        """Interrupt all who wait, or ask from now on."""
        with self._changed:
            self._end = self._end or KeyboardInterrupt
            self._changed.notify_all()

    def _ask(self, number: int, *arguments: Any) -> Answer:
        """A member's block; returns when all members' blocks have been sent to the device."""
        with self._changed:
            if self._end is None:
                self._asked[number] = Request(*arguments)
                self._go_if_all_have_asked()
                self._changed.wait_for(lambda: number in self._answers or self._end is not None)
            if number in self._answers:
                return self._answers.pop(number)
            assert self._end is not None
            raise self._end()

    def _go_if_all_have_asked(self) -> None:
        if not self._asked or set(self._asked) != self._here or self._end is not None:
            return
        asked, self._asked = {n: self._asked[n] for n in sorted(self._asked)}, {}
        try:
            self._answers.update(self._run(asked))
            self.rounds += 1
        except NotAlike as error:
            self._end = partial(NotAlike, error.reason)
        except Exception as error:  # whatever befalls one program befalls all who are in it
            failure = error
            self._end = lambda: failure
        self._changed.notify_all()

    def _run(self, asked: dict[int, Request]) -> dict[int, Answer]:
        if tuple(asked) != tuple(self._parts):  # somebody has left, and takes along what was laid out for all
            runs = [Parts(request.program.parts, request.values) for request in asked.values()]
            self._parts = dict(zip(asked, lift(runs), strict=True))
            self._constants = {}
        before, asked = asked, {number: request.of(self._parts[number]) for number, request in asked.items()}
        first = next(iter(asked.values()))
        key = first.validation is None
        self._check(asked, anew=key not in self._constants)
        if key not in self._constants:
            self._constants[key] = _lay_out(asked)
        constants = self._constants[key]
        blocks = [jax.tree.leaves(request.block) for request in asked.values()]
        block_kinds = tuple(_SHARED if _all_same(leaves) else _OWN for leaves in zip(*blocks, strict=True))
        shared = constants.shared + _of_kind(_SHARED, blocks[0], block_kinds)
        own = [
            [
                *request.state.leaves,
                *_of_kind(_OWN, jax.tree.leaves(request.constants), constants.kinds),
                *_of_kind(_OWN, block, block_kinds),
            ]
            for request, block in zip(asked.values(), blocks, strict=True)
        ]
        kinds = (_OWN,) * len(first.state.leaves) + constants.kinds + block_kinds
        structure = Static.of(jax.tree.structure((first.state, first.constants, first.block)))
        try:
            found = _run_together(first.program, structure, kinds, shared, constants.stacked, own)
        except jax.errors.ConcretizationTypeError:  # code that asks a number's value can't be given all of them
            self._check(before, anew=False)
            raise
        return {
            number: (Flat(leaves, request.state.structure), packed)
            for (number, request), (leaves, packed) in zip(asked.items(), found, strict=True)
        }

    def _check(self, asked: dict[int, Request], *, anew: bool) -> None:
        """Raise `NotAlike` with the first difference between a member and the first one.

        Args:
            asked: the members' blocks.
            anew: whether what stays the same throughout a run is to be compared as well.
        """
        (head, first), *others = asked.items()
        for number, request in others:
            programs = first.program, request.program
            found = None if programs in self._known else difference(*programs)
            compared: dict[str, Any] = {"steps": (first.block, request.block)}
            if anew:
                compared |= {
                    "data": (first.arrays, request.arrays),
                    "validation data": (first.validation, request.validation),
                    "model and method": ((first.state, first.values), (request.state, request.values)),
                }
            for what, (mine, theirs) in compared.items():
                found = found or _shapes_differ(what, jax.tree.leaves(mine), jax.tree.leaves(theirs))
            if found is None:
                self._known.add(programs)
            else:
                raise NotAlike(f"candidates {head} and {number} can't train in one program: they differ in {found}")


def _shapes_differ(what: str, one: list[Any], other: list[Any]) -> str | None:
    if len(one) != len(other):
        return f"the number of arrays of their {what}: {len(one)} and {len(other)}"
    for mine, theirs in zip(one, other, strict=True):
        kinds = [(np.shape(x), getattr(x, "dtype", type(x).__name__)) for x in (mine, theirs)]
        if kinds[0] != kinds[1]:
            return f"an array of their {what}: {kinds[0][1]} of {kinds[0][0]} and {kinds[1][1]} of {kinds[1][0]}"
    return None


def _of_kind(kind: int, leaves: list[Any], kinds: tuple[int, ...]) -> list[Any]:
    return [leaf for leaf, its in zip(leaves, kinds, strict=True) if its == kind]


def _all_same(leaves: tuple[Any, ...]) -> bool:
    return all(same_array(leaves[0], leaf) for leaf in leaves[1:])


def _lay_out(asked: dict[int, Request]) -> _Constants:
    kinds: list[int] = []
    shared, stacked = [], []
    each = [jax.tree.leaves(request.constants) for request in asked.values()]
    for leaves in zip(*each, strict=True):
        if _all_same(leaves):
            kinds.append(_SHARED)
            shared.append(leaves[0])
        elif isinstance(leaves[0], float | int):  # stacked inside of the program, where it stays weakly typed
            kinds.append(_OWN)
        else:
            kinds.append(_STACKED)
            stacked.append(jnp.stack(leaves))
    return _Constants(tuple(kinds), shared, stacked)


@partial(jax.jit, static_argnames=("program", "structure", "kinds"))
def _run_together(
    program: Program,
    structure: Static,
    kinds: tuple[int, ...],
    shared: list[Any],
    stacked: list[Any],
    own: list[list[Any]],
) -> list[tuple[list[Any], Packed]]:
    """`run_block` for all members: state leaves and report of each."""

    def alone(mine: list[Any], rows: list[Any]) -> tuple[list[Any], Packed]:
        sources = {_SHARED: iter(shared), _STACKED: iter(rows), _OWN: iter(mine)}
        state, (values, arrays, seed, validation), block = jax.tree.unflatten(
            structure.tree, [next(sources[kind]) for kind in kinds]
        )
        after, packed = run_block(program, state, values, arrays, block, seed, validation)
        return after.leaves, packed

    gathered = [jnp.stack(leaves) for leaves in zip(*own, strict=True)]
    after = jax.vmap(alone)(gathered, stacked)
    return [jax.tree.map(lambda x, i=i: x[i], after) for i in range(len(own))]
