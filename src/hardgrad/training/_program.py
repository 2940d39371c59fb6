"""The compiled program: a block of steps as one scan, with validation at its end.

One program serves every block of the same shape. What can't be traced (functions, structures, static
controls) is the static argument; everything with a value, the method's plain floats included, is
passed in. All outputs leave in one flat vector a dtype: a transfer costs more than what it carries.
"""

from __future__ import annotations

import dataclasses
import numbers
import weakref
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from numpy.typing import NDArray

from ..core import Loss, UsageError, float_dtype, named_key
from ._method import AbstractMethod
from ._step import Recorder, StepOutput, TrainState, evaluate, train_step


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray | np.generic)


def _is_traced_in_method(x: Any) -> bool:
    return _is_array(x) or isinstance(x, float)


class Static:
    """A pytree of static leaves, or a structure, with a hash computed once. Make one with `Static.of`.

    There is one object for each content, so that comparing two, which JAX does at every call of a compiled
    program, takes no time. A leaf that can't be hashed counts by identity.

    Attributes:
        tree: the content.
    """

    __slots__ = ("__weakref__", "_hash", "tree")
    _known: ClassVar[weakref.WeakValueDictionary[Any, Static]] = weakref.WeakValueDictionary()

    def __init__(self, tree: PyTree, hashed: int):
        self.tree, self._hash = tree, hashed

    @classmethod
    def of(cls, tree: PyTree) -> Static:
        """The one object of this content."""
        leaves, structure = jax.tree.flatten(tree)
        # 1, 1.0 and True are equal, and not the same program.
        key = (structure, tuple((type(leaf), leaf if _hashable(leaf) else id(leaf)) for leaf in leaves))
        found = cls._known.get(key)
        if found is None:
            found = cls._known[key] = cls(tree, hash(key))
        return found

    def __hash__(self) -> int:
        return self._hash


def _hashable(leaf: Any) -> bool:
    try:
        hash(leaf)
    except TypeError:
        return False
    return True


@jax.tree_util.register_pytree_node_class
class Flat:
    """A pytree as its leaves. A call to a compiled program flattens its arguments, which for a model of many
    modules takes longer than a small step; this way it is done once a run.

    Attributes:
        leaves: the leaves, in flattening order.
        structure: the tree's structure, hashed once.
    """

    __slots__ = ("leaves", "structure")

    def __init__(self, leaves: list[Any], structure: Static):
        self.leaves, self.structure = leaves, structure

    @classmethod
    def of(cls, tree: PyTree) -> Flat:
        """Take a pytree apart."""
        leaves, structure = jax.tree.flatten(tree)
        return cls(leaves, Static.of(structure))

    def tree(self) -> Any:
        """Put it together."""
        return jax.tree.unflatten(self.structure.tree, self.leaves)

    def tree_flatten(self) -> tuple[list[Any], Static]:
        """For JAX."""
        return self.leaves, self.structure

    @classmethod
    def tree_unflatten(cls, structure: Static, leaves: Any) -> Flat:
        """For JAX."""
        return cls(list(leaves), structure)


@dataclasses.dataclass(frozen=True)
class Program:
    """The static side of a fit: with equal programs and shapes, nothing compiles twice.

    Attributes:
        parts: method, objective and the model's rest, without their arrays.
        controls: name and kind (``"float"``, ``"int"``, ``"bool"``) of the controls that are passed in.
        static_controls: name and value of the controls that decide shapes.
        microbatches: how many microbatches a step's batch is cut into.
        compute_dtype: name of the arithmetic's dtype, or None.
        validation_batch_size: rows of the validation data evaluated together; None takes all.
        record: arrays to report for each step.
    """

    parts: Static
    controls: tuple[tuple[str, str], ...] = ()
    static_controls: tuple[tuple[str, int], ...] = ()
    microbatches: int = 1
    compute_dtype: str | None = None
    validation_batch_size: int | None = None
    record: Recorder | None = None

    def restore(self, values: PyTree) -> tuple[AbstractMethod, Any, PyTree]:
        """Method, objective and rest of the model, whole again."""
        method, objective, rest = eqx.combine(values, self.parts.tree)
        return method, objective, rest

    def named(self, numbers: Any) -> dict[str, Any]:
        """The controls of one step by name, from the vectors they travel in: see `stack_controls`."""
        floats, integers = numbers
        found, next_float, next_integer = {}, 0, 1  # the first integer is the step's number
        for name, kind in self.controls:
            if kind == "float":
                found[name] = floats[next_float]
                next_float += 1
            else:
                value = integers[next_integer]
                found[name] = value != 0 if kind == "bool" else value
                next_integer += 1
        return {**found, **dict(self.static_controls)}

    def loss(
        self, values: PyTree, batch: PyTree, numbers: Any, key: Any, running: PyTree = None, *, train: bool
    ) -> Loss:
        """The objective bound to a batch; `running` is the model's running state."""
        _, objective, rest = self.restore(values)
        microbatches = self.microbatches if train else 1
        if microbatches > 1:
            batch = jax.tree.map(lambda x: x.reshape(microbatches, -1, *x.shape[1:]), batch)
        controls = self.named(numbers)
        return Loss(
            objective,
            rest,
            batch,
            controls,
            key,
            microbatches,
            self.compute_dtype,
            running=running,
            inference=not train,
        )


def control_kinds(controls: list[dict[str, Any]], static: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Name and kind of the controls that are passed in, for some steps together: 0 and then 0.5 are floats."""

    def kind(name: str) -> str:
        types = {type(step[name]) for step in controls}
        for odd in (t for t in types if not issubclass(t, numbers.Number) and not hasattr(t, "__float__")):
            raise UsageError(f"the schedule '{name}' must return a number, got {odd.__name__}.")
        return "bool" if types == {bool} else "int" if types <= {bool, int} else "float"

    if all(step is controls[0] for step in controls):  # an epoch of the same controls: look once
        controls = controls[:1]
    return tuple((name, kind(name)) for name in controls[0] if name not in static)


def stack_controls(
    controls: list[dict[str, Any]], kinds: tuple[tuple[str, str], ...], dtype: Any, *, step: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The controls of steps from number `step` on, as ``[steps, floats]`` in `dtype` and ``[steps, integers]``.

    Each argument of a compiled program costs time, so that two are better than one a control. The step's number
    is the first of the integers.
    """
    floats = [name for name, kind in kinds if kind == "float"]
    integers = [name for name, kind in kinds if kind != "float"]
    return (
        np.array([[now[name] for name in floats] for now in controls], dtype),
        np.array([[step + i, *(now[name] for name in integers)] for i, now in enumerate(controls)], np.int32),
    )


def split_program(method: AbstractMethod, objective: Any, rest: PyTree) -> tuple[PyTree, Static]:
    """What is passed in, and what the program is compiled for."""
    method_values, method_static = eqx.partition(method, _is_traced_in_method)
    values, static = eqx.partition((objective, rest), _is_array)
    return (method_values, *values), Static.of((method_static, *static))


Named = dict[str, dict[str, Any]]
"""What a block reports, by kind and name: ``scalar`` (loss and metrics), ``diagnostic``, ``array`` and ``flag``
(``finite``, ``frozen``, ``streak``) of every step, and ``validation``."""


@jax.tree_util.register_pytree_node_class
class Packed:
    """Arrays by kind and name in one flat vector a dtype.

    Attributes:
        vectors: one vector a dtype, in the order in which the dtypes first appear.
        layout: kind, name, index of its vector, where it starts and stops there, and shape of each array.
    """

    def __init__(self, vectors: list[Array], layout: tuple[tuple[str, str, int, int, int, tuple[int, ...]], ...]):
        self.vectors, self.layout = vectors, layout

    @classmethod
    def pack(cls, arrays: Named) -> Packed:
        """Lay arrays end to end; booleans travel with the integers."""
        groups: dict[Any, list[Array]] = {}
        layout = []
        for kind, members in arrays.items():
            for name, value in members.items():
                value = jnp.asarray(value)
                value = value.astype(jnp.int32) if value.dtype == bool else value
                group = groups.setdefault(value.dtype, [])
                start = sum(x.size for x in group)
                group.append(value.ravel())
                layout.append((kind, name, list(groups).index(value.dtype), start, start + value.size, value.shape))
        return cls([jnp.concatenate(group) for group in groups.values()], tuple(layout))

    def unpack(self) -> Named:
        """The arrays on the host: one transfer a dtype."""
        vectors = [np.asarray(v) for v in self.vectors]
        out: Named = {}
        for kind, name, index, start, stop, shape in self.layout:
            value = vectors[index][start:stop]
            out.setdefault(kind, {})[name] = value if len(shape) == 1 else value.reshape(shape)
        return out

    def tree_flatten(self) -> tuple[tuple[list[Array]], Any]:
        """For JAX."""
        return (self.vectors,), self.layout

    @classmethod
    def tree_unflatten(cls, layout: Any, children: tuple[list[Array]]) -> Packed:
        """For JAX."""
        return cls(children[0], layout)


def run_block(
    program: Program,
    state: Flat,
    values: Flat,
    arrays: Flat,
    block: dict[str, Any],
    seed: Any,
    validation: Flat | None,
) -> tuple[Flat, Packed]:
    """Run a block of steps.

    Args:
        program: the static side.
        state: the state before the block.
        values: the arrays of method, objective and model.
        arrays: data in memory, nothing for a stream.
        block: ``controls`` as `stack_controls` gives them, and ``rows`` or ``batches``, all of [steps, ...].
        seed: the run's, from which the key of each step is made.
        validation: arrays to evaluate on after the last step, or None.
    """
    parts, data = values.tree(), arrays.tree()
    method, _, _ = program.restore(parts)
    step_key = named_key(jax.random.key(seed), "step")

    def step(state: TrainState, xs: dict[str, Any]) -> tuple[TrainState, StepOutput]:
        objective_key, method_key = jax.random.split(jax.random.fold_in(step_key, xs["controls"][1][0]))
        if "rows" in xs:
            batch = jax.tree.map(lambda a: a[xs["rows"]], data)
        else:
            batch = xs.get("batches", data)
        loss = program.loss(parts, batch, xs["controls"], objective_key, train=True)
        return train_step(method, loss, state, key=method_key, record=program.record)

    final, output = jax.lax.scan(step, state.tree(), block)
    out: Named = {
        "scalar": output.scalars,
        "diagnostic": output.diagnostics,
        "array": output.arrays,
        "flag": {"finite": output.finite, "frozen": output.frozen, "streak": output.streak},
    }
    if validation is not None:
        last = jax.tree.map(lambda x: x[-1], block["controls"])
        out["validation"] = _validate(program, parts, final, validation.tree(), last, seed)
    return Flat.of(final), Packed.pack(out)


def _validate(
    program: Program, values: PyTree, state: TrainState, arrays: PyTree, numbers: Any, seed: Any
) -> dict[str, Array]:
    """Mean of loss and metrics over the rows of the validation data."""
    batch_size, key = program.validation_batch_size, named_key(jax.random.key(seed), "validation")

    def on(batch: PyTree) -> dict[str, Array]:
        return evaluate(program.loss(values, batch, numbers, key, state.running, train=False), state.params)

    if batch_size is None:
        return on(arrays)
    wide = float_dtype(state.params)  # a mean of counts is no count
    rows = jax.tree.leaves(arrays)[0].shape[0]
    whole = rows // batch_size
    cut = jax.tree.map(lambda a: a[: whole * batch_size].reshape(whole, batch_size, *a.shape[1:]), arrays)
    means = jax.tree.map(lambda x: jnp.mean(x.astype(wide), axis=0), jax.lax.map(on, cut))
    left = rows - whole * batch_size
    if not left:
        return dict(means)
    rest = on(jax.tree.map(lambda a: a[whole * batch_size :], arrays))
    share = left / rows
    return {name: means[name] * (1.0 - share) + rest[name].astype(wide) * share for name in means}


run_compiled = jax.jit(run_block, static_argnames="program")
run_donating = jax.jit(run_block, static_argnames="program", donate_argnames="state")


def validate_block(program: Program, values: Flat, state: Flat, validation: Flat, numbers: Any, seed: Any) -> Packed:
    """Loss and metrics on the validation data in memory, on their own."""
    found = _validate(program, values.tree(), state.tree(), validation.tree(), numbers, seed)
    return Packed.pack({"validation": found})


validate_compiled = jax.jit(validate_block, static_argnames="program")


def evaluate_batch(program: Program, values: Flat, state: Flat, batch: PyTree, numbers: Any, seed: Any) -> Packed:
    """Loss and metrics on one batch of a validation stream."""
    key = named_key(jax.random.key(seed), "validation")
    train_state: TrainState = state.tree()
    loss = program.loss(values.tree(), batch, numbers, key, train_state.running, train=False)
    return Packed.pack({"validation": evaluate(loss, train_state.params)})


evaluate_compiled = jax.jit(evaluate_batch, static_argnames="program")
