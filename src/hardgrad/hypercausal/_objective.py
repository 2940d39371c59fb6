"""The hypercausal objective: reach the target, move smoothly as foreseen, keep the futures together.

    total = w_task · task + w_cons · cons + w_coh · coh          evaluated left to right

With states s, futures ŝ and branches F over steps t = 0 … T-1:

    task   loss of s against the target, mean over all steps
    cons   Σ_{t≥1} consistency(s_t, s_{t-1}, ŝ_t) / max(1, T-1)
    coh    coherence of F, mean over all steps and nodes

A chain: task and cons of its last node. A graph: task of its output node, cons averaged over all nodes.
Source: the published hypercausal system (its training examples, and its case study for graphs).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from ..core import Control, Controls, Metrics, UsageError, did_you_mean, one_of, resolve
from ._graph import Graph
from ._losses import (
    CoherenceMode,
    check_same_shape,
    coherence,
    consistency,
    cross_entropy,
    mae,
    mse,
)
from ._nodes import Prediction, check_sequences
from ._numbers import check_finite

Task = Literal["mse", "mae", "cross_entropy"]
_TASKS = {"mse": mse, "mae": mae, "cross_entropy": cross_entropy}


class HypercausalObjective(eqx.Module):
    """The objective of a `Chain`, a `Graph`, or any model that returns a `Prediction`.

    Called as ``objective(model, batch, controls, key)``, where ``batch = (inputs, targets)``: sequences
    ``[..., time, channel]`` (inputs of a graph may be a dict by node name) and targets of the states' shape.
    Returns the total and ``{"task", "cons", "coh"}``. It calls ``model(inputs, depth=...)`` and draws no
    random numbers. Arithmetic is in the parameters' dtype, losses in float32 at least.

    Attributes:
        task: ``"mse"``, ``"mae"`` or ``"cross_entropy"`` (states as scores).
        alpha: weight of a state's movement in the consistency.
        beta: weight of its distance to its projection in the consistency.
        coherence_mode: ``"variance"`` or ``"mad"``.
        task_weight: a number or a `control`, as are the other weights, alpha and beta.
        consistency_weight: as published, 0.5.
        coherence_weight: as published, 0.3.
        depth: name of the control that holds the recursion depth; 1 where the plan has none.
        output: which node of a graph meets the target; None takes the last in order of evaluation.

    Raises:
        UsageError: an unknown task, mode or output, a weight that is no finite number, or shapes that
            don't fit.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hardgrad.hypercausal import Chain, HypercausalObjective, Node, TanhCell
        >>> chain = Chain([Node(TanhCell(0.9, 0.03))], branches=5)
        >>> batch = (jnp.zeros((48, 3)), jnp.zeros((48, 3)))
        >>> total, terms = HypercausalObjective()(chain, batch, {"depth": 2}, jax.random.key(0))
        >>> sorted(terms)
        ['coh', 'cons', 'task']
    """

    task: Task = eqx.field(static=True, default="mse")
    _: dataclasses.KW_ONLY
    alpha: Any = eqx.field(static=True, default=1.0)
    beta: Any = eqx.field(static=True, default=1.0)
    coherence_mode: CoherenceMode = eqx.field(static=True, default="variance")
    task_weight: Any = eqx.field(static=True, default=1.0)
    consistency_weight: Any = eqx.field(static=True, default=0.5)
    coherence_weight: Any = eqx.field(static=True, default=0.3)
    depth: str = eqx.field(static=True, default="depth")
    output: str | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        one_of("task", self.task, Task)
        one_of("coherence_mode", self.coherence_mode, CoherenceMode)
        for name in ("alpha", "beta", "task_weight", "consistency_weight", "coherence_weight"):
            if not isinstance(value := getattr(self, name), Control):
                check_finite(name, value, also="control('...')")

    def __call__(
        self, model: Any, batch: PyTree, controls: Controls, key: Key[Array, ""] | None = None
    ) -> tuple[Float[Array, ""], Metrics]:
        """The total, and its three parts before they are weighted."""
        inputs, targets = batch
        prediction = model(inputs, depth=controls.get(self.depth, 1))
        state, consistent = self._of_interest(model, prediction)
        check_sequences("targets", targets)
        check_same_shape(states=state, targets=targets)
        dtype = _loss_dtype(state)

        def number(value: Any) -> Any:
            value = resolve(value, controls)
            return value.astype(dtype) if hasattr(value, "astype") else value

        alpha, beta = number(self.alpha), number(self.beta)
        task = _TASKS[self.task](state.astype(dtype), targets)
        cons = _mean([_over_time(s.astype(dtype), future, alpha, beta) for s, future in consistent])
        branches = prediction.branches.values() if _by_name(prediction) else prediction.branches
        coh = _mean([coherence(b.astype(dtype), mode=self.coherence_mode) for b in branches])
        total = number(self.task_weight) * task + number(self.consistency_weight) * cons
        total = total + number(self.coherence_weight) * coh
        return total, {"task": task, "cons": cons, "coh": coh}

    def _of_interest(self, model: Any, prediction: Prediction) -> tuple[Array, list[tuple[Array, Array]]]:
        """The state that meets the target, and the pairs (state, future) that must be consistent."""
        states, futures = prediction.states, prediction.futures
        if not _by_name(prediction):
            if self.output is not None:
                raise UsageError(f"output={self.output!r} names a node of a graph, but this model's have no names.")
            return states[-1], [(states[-1], futures[-1])]
        output = model.order[-1] if self.output is None and isinstance(model, Graph) else self.output
        if output not in states:
            raise UsageError(f"output={output!r} is no node of the graph. {did_you_mean(str(output), states)}")
        return states[output], [(states[name], futures[name]) for name in states]


def _by_name(prediction: Prediction) -> bool:
    return isinstance(prediction.states, Mapping)


def _loss_dtype(state: Array) -> Any:
    """Half precision sums badly: losses have 32 bits at least."""
    return state.dtype if state.dtype.itemsize >= 4 else jnp.dtype(jnp.float32)


def _over_time(state: Array, future: Array, alpha: Any, beta: Any) -> Array:
    """Consistency over steps t ≥ 1; 0 for a sequence of one step."""
    if state.shape[-2] == 1:
        return jnp.zeros((), state.dtype)
    return consistency(state[..., 1:, :], state[..., :-1, :], future[..., 1:, :], alpha=alpha, beta=beta)


def _mean(values: list[Array]) -> Array:
    return sum(values[1:], values[0]) / len(values)
