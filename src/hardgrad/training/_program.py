"""The compiled program: a block of steps as one scan, with validation at its end.

One program serves every block of the same shape. What can't be traced (functions, structures, static
controls) is the static argument; everything with a value, the method's plain floats included, is
passed in. All outputs leave in one flat vector a dtype: a transfer costs more than what it carries.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree
from numpy.typing import NDArray

from ..core import Loss, Params, named_key
from ._method import AbstractMethod
from ._step import Recorder, StepOutput, TrainState, evaluate, train_step


def _is_array(x: Any) -> bool:
    return isinstance(x, jax.Array | np.ndarray | np.generic)


def _is_traced_in_method(x: Any) -> bool:
    return _is_array(x) or isinstance(x, float)


class _Hashed:
    """A pytree of static leaves with a hash, computed once; a leaf without one counts by identity."""

    def __init__(self, tree: PyTree):
        self.tree = tree
        leaves, structure = jax.tree.flatten(tree)
        self._key = (structure, tuple(leaf if _hashable(leaf) else id(leaf) for leaf in leaves))
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, _Hashed) and self._hash == other._hash and self._key == other._key)


def _hashable(leaf: Any) -> bool:
    try:
        hash(leaf)
    except TypeError:
        return False
    return True


@dataclasses.dataclass(frozen=True)
class Program:
    """The static side of a fit: with equal programs and shapes, nothing compiles twice.

    Attributes:
        parts: method, objective and the model's rest, without their arrays.
        static_controls: name and value of the controls that decide shapes.
        microbatches: how many microbatches a step's batch is cut into.
        compute_dtype: name of the arithmetic's dtype, or None.
        validation_batch_size: rows of the validation data evaluated together; None takes all.
        record: arrays to report for each step.
    """

    parts: _Hashed
    static_controls: tuple[tuple[str, int], ...] = ()
    microbatches: int = 1
    compute_dtype: str | None = None
    validation_batch_size: int | None = None
    record: Recorder | None = None

    def restore(self, values: PyTree) -> tuple[AbstractMethod, Any, PyTree]:
        """Method, objective and rest of the model, whole again."""
        method, objective, rest = eqx.combine(values, self.parts.tree)
        return method, objective, rest

    def loss(self, values: PyTree, batch: PyTree, controls: dict[str, Any], key: Any, *, train: bool) -> Loss:
        """The objective bound to a batch."""
        _, objective, rest = self.restore(values)
        microbatches = self.microbatches if train else 1
        if microbatches > 1:
            batch = jax.tree.map(lambda x: x.reshape(microbatches, -1, *x.shape[1:]), batch)
        controls = {**controls, **dict(self.static_controls)}
        return Loss(objective, rest, batch, controls, key, microbatches, self.compute_dtype)


def split_program(method: AbstractMethod, objective: Any, rest: PyTree) -> tuple[PyTree, _Hashed]:
    """What is passed in, and what the program is compiled for."""
    method_values, method_static = eqx.partition(method, _is_traced_in_method)
    values, static = eqx.partition((objective, rest), _is_array)
    return (method_values, *values), _Hashed((method_static, *static))


@jax.tree_util.register_pytree_node_class
class Packed:
    """Named arrays in one flat vector a dtype.

    Attributes:
        vectors: one vector a dtype, in the order in which the dtypes first appear.
        layout: name, index of its vector, and shape of each array.
    """

    def __init__(self, vectors: list[Array], layout: tuple[tuple[str, int, tuple[int, ...]], ...]):
        self.vectors, self.layout = vectors, layout

    @classmethod
    def pack(cls, arrays: dict[str, Array]) -> Packed:
        """Lay arrays end to end; booleans travel with the integers."""
        groups: dict[Any, list[Array]] = {}
        layout = []
        for name, value in arrays.items():
            value = jnp.asarray(value)
            value = value.astype(jnp.int32) if value.dtype == bool else value
            groups.setdefault(value.dtype, []).append(value.ravel())
            layout.append((name, list(groups).index(value.dtype), value.shape))
        return cls([jnp.concatenate(group) for group in groups.values()], tuple(layout))

    def unpack(self) -> dict[str, NDArray[Any]]:
        """The arrays on the host, by name: one transfer a dtype."""
        vectors = [np.asarray(v) for v in self.vectors]
        offsets = [0] * len(vectors)
        out = {}
        for name, index, shape in self.layout:
            size = math.prod(shape)
            out[name] = vectors[index][offsets[index] : offsets[index] + size].reshape(shape)
            offsets[index] += size
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
    state: TrainState,
    values: PyTree,
    arrays: PyTree,
    block: dict[str, Any],
    key: Any,
    validation: PyTree,
) -> tuple[TrainState, Packed]:
    """Run a block of steps.

    Args:
        program: the static side.
        state: the state before the block.
        values: the arrays of method, objective and model.
        arrays: data in memory, or None for a stream.
        block: ``step`` int32 [steps], ``controls`` of [steps] each, and ``rows`` or ``batches``.
        key: the run's key; each step folds in its number.
        validation: arrays to evaluate on after the last step, or None.
    """
    method, _, _ = program.restore(values)
    step_key = named_key(key, "step")

    def step(state: TrainState, xs: dict[str, Any]) -> tuple[TrainState, StepOutput]:
        objective_key, method_key = jax.random.split(jax.random.fold_in(step_key, xs["step"]))
        if "rows" in xs:
            batch = jax.tree.map(lambda a: a[xs["rows"]], arrays)
        else:
            batch = xs.get("batches", arrays)
        loss = program.loss(values, batch, xs["controls"], objective_key, train=True)
        return train_step(method, loss, state, key=method_key, record=program.record)

    state, output = jax.lax.scan(step, state, block)
    out = {f"scalar:{name}": value for name, value in output.scalars.items()}
    out |= {f"diagnostic:{name}": value for name, value in output.diagnostics.items()}
    out |= {f"array:{name}": value for name, value in output.arrays.items()}
    out |= {"finite": output.finite, "frozen": output.frozen, "streak": output.streak}
    if validation is not None:
        last = jax.tree.map(lambda x: x[-1], block["controls"])
        found = _validate(program, values, state.params, validation, last, named_key(key, "validation"))
        out |= {f"validation:{name}": value for name, value in found.items()}
    return state, Packed.pack(out)


def _validate(
    program: Program, values: PyTree, params: Params, arrays: PyTree, controls: dict[str, Any], key: Any
) -> dict[str, Array]:
    """Mean of loss and metrics over the rows of the validation data."""
    batch_size = program.validation_batch_size

    def on(batch: PyTree) -> dict[str, Array]:
        return evaluate(program.loss(values, batch, controls, key, train=False), params)

    if batch_size is None:
        return on(arrays)
    rows = jax.tree.leaves(arrays)[0].shape[0]
    whole = rows // batch_size
    cut = jax.tree.map(lambda a: a[: whole * batch_size].reshape(whole, batch_size, *a.shape[1:]), arrays)
    means = jax.tree.map(lambda x: jnp.mean(x, axis=0), jax.lax.map(on, cut))
    left = rows - whole * batch_size
    if not left:
        return dict(means)
    rest = on(jax.tree.map(lambda a: a[whole * batch_size :], arrays))
    share = left / rows
    return {name: means[name] * (1.0 - share) + rest[name] * share for name in means}


run_compiled = jax.jit(run_block, static_argnames="program")
run_donating = jax.jit(run_block, static_argnames="program", donate_argnames="state")


def evaluate_batch(
    program: Program, values: PyTree, params: Params, batch: PyTree, controls: dict[str, Any], key: Any
) -> Packed:
    """Loss and metrics on one batch of a validation stream."""
    return Packed.pack(evaluate(program.loss(values, batch, controls, key, train=False), params))


evaluate_compiled = jax.jit(evaluate_batch, static_argnames="program")
