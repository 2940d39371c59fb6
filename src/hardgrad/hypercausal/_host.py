"""The chain and its objective on the host, in NumPy float64, to the last bit of the published system.

The same formulas as `Chain` with `HypercausalObjective`, for scalar w and b, vectorised over time and over
probes. Floating-point sums depend on their order; the published order is kept:

    mean over branches      k = 0, 1, … one after another      (one channel and K ≥ 8: pairwise)
    coherence of a step     its K·D terms in row-major order, NumPy's pairwise rule
    means over channels, over nodes                             NumPy's pairwise rule
    sums over time          left to right, then one division
    total                   (w_task · task + w_cons · cons) + w_coh · coh

tanh must be NumPy's, and w·s is rounded before b is added: a compiler that fuses the two ends on other bits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree
from numpy.typing import ArrayLike, NDArray

from ..core import BlackBox, Controls, Metrics, UsageError, finite_number, one_of
from ._losses import CoherenceMode, check_same_shape
from ._nodes import check_sequences
from ._numbers import check_branches
from ._projectors import even_offsets

HostPolicy = Literal["mean", "median"]
HostTask = Literal["mse", "mae"]
HostParams = Sequence[tuple[Any, Any]]
"""``(w, b)`` of each node: numbers or arrays."""

_Block = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class HostChain:
    """A chain of tanh nodes and its objective, as a NumPy function of its parameters.

    Calling it gives the four terms. Axes in front of the parameters (probes) must stand in front of inputs,
    targets and, if it differs between them, depth as well, and come out in front of the result; it can
    therefore be a vectorised `BlackBox` (see `black_box`).

    Attributes:
        spans: σ of each node's linear projector at depth 1; as many as there are nodes.
        branches: K, at least 2.
        span_floor: σ never falls below it.
        span_depth_coefficient: κ in σ / (1 + κ (depth - 1)).
        policy: ``"mean"`` or ``"median"``.
        task: ``"mse"`` or ``"mae"``.
        alpha: weight of a state's movement in the consistency.
        beta: weight of its distance to its projection in the consistency.
        coherence_mode: ``"variance"`` or ``"mad"``.
        task_weight: weight of the task; a plain number here, as all weights: the host sees no controls.
        consistency_weight: weight of the consistency.
        coherence_weight: weight of the coherence.

    Raises:
        UsageError: a value out of range.

    Examples:
        >>> import numpy as np
        >>> from hardgrad.hypercausal import HostChain
        >>> host = HostChain(spans=(0.22, 0.25), branches=5)
        >>> x = np.zeros((48, 3))
        >>> host([(0.9, 0.03), (1.05, 0.0)], x, x, 2).shape
        (4,)
    """

    spans: tuple[float, ...]
    branches: int = 2
    _: dataclasses.KW_ONLY
    span_floor: float = 0.0
    span_depth_coefficient: float = 0.0
    policy: HostPolicy = "mean"
    task: HostTask = "mse"
    alpha: float = 1.0
    beta: float = 1.0
    coherence_mode: CoherenceMode = "variance"
    task_weight: float = 1.0
    consistency_weight: float = 0.5
    coherence_weight: float = 0.3

    def __post_init__(self) -> None:
        object.__setattr__(self, "spans", tuple(self.spans))  # a list would not hash
        check_branches(self.branches)
        one_of("policy", self.policy, HostPolicy)
        one_of("task", self.task, HostTask)
        one_of("coherence_mode", self.coherence_mode, CoherenceMode)
        for name in ("alpha", "beta", "task_weight", "consistency_weight", "coherence_weight"):
            finite_number(name, getattr(self, name))
        if not self.spans or min(*self.spans, self.span_floor, self.span_depth_coefficient) < 0:
            raise UsageError(
                "a HostChain needs a span for each node, and no span, floor or coefficient below 0, got "
                f"spans={self.spans}, span_floor={self.span_floor}, "
                f"span_depth_coefficient={self.span_depth_coefficient}."
            )

    def __call__(
        self, params: HostParams, inputs: ArrayLike, targets: ArrayLike, depth: Any = 1
    ) -> NDArray[np.float64]:
        """``[total, task, cons, coh]`` along the last axis, float64.

        Args:
            params: ``(w, b)`` of each node, scalars or with leading axes.
            inputs: ``[..., time, channel]``.
            targets: of the same shape.
            depth: recursion depth, a whole number; below 1 counts as 1.

        Raises:
            UsageError: not as many parameters as spans, a depth that isn't whole, or shapes that don't fit.
        """
        state, target = (np.asarray(v, dtype=np.float64) for v in (inputs, targets))
        check_sequences("inputs", state)
        check_same_shape(inputs=state, targets=target)
        depth = _align(_whole(depth), state)
        steps, coherences, future = state.shape[-2], [], state
        for (weight, bias), span in zip(self._checked(params, state), self.spans, strict=True):
            state = _recurse(weight, bias, state, depth)
            branches = self._project(state, span, depth)
            mean = _mean_over_branches(branches)
            future = mean if self.policy == "mean" else np.median(branches, axis=0)
            coherences.append(self._coherence(branches - mean))
        error = state - target
        task = _in_order(np.mean(error**2 if self.task == "mse" else np.abs(error), axis=-1)) / steps
        cons = self._consistency(state, future) / max(1, steps - 1)
        coh = _in_order(np.mean(np.stack(coherences, axis=-1), axis=-1)) / steps
        total = (self.task_weight * task + self.consistency_weight * cons) + self.coherence_weight * coh
        return np.stack([total, task, cons, coh], axis=-1)

    def states(self, params: HostParams, inputs: ArrayLike, depth: Any = 1) -> NDArray[np.float64]:
        """The last node's states, of the shape of `inputs`: what final metrics are computed from.

        Args:
            params: ``(w, b)`` of each node, scalars or with leading axes.
            inputs: ``[..., time, channel]``.
            depth: recursion depth, a whole number; below 1 counts as 1.

        Raises:
            UsageError: not as many parameters as spans, a depth that isn't whole, or shapes that don't fit.
        """
        state = np.asarray(inputs, dtype=np.float64)
        check_sequences("inputs", state)
        depth = _align(_whole(depth), state)
        for weight, bias in self._checked(params, state):
            state = _recurse(weight, bias, state, depth)
        return state

    def black_box(self, params: HostParams) -> BlackBox:
        """This function as a model with these parameters, for `HostObjective`.

        The published bits need ``jax_enable_x64``: parameters, inputs and result pass through JAX arrays.

        Raises:
            UsageError: not as many parameters as spans.
        """
        self._check_count(params)
        return BlackBox(self, [tuple(node) for node in params], output_shape=_terms_shape, vectorized=True)

    def _check_count(self, params: HostParams) -> None:
        if len(params) != len(self.spans):
            raise UsageError(
                f"one (w, b) a node is needed: {len(self.spans)} by the number of spans, got {len(params)}."
            )

    def _checked(self, params: HostParams, inputs: _Block) -> list[tuple[_Block, _Block]]:
        self._check_count(params)
        return [
            (_align(np.asarray(w, np.float64), inputs), _align(np.asarray(b, np.float64), inputs)) for w, b in params
        ]

    def _project(self, state: _Block, span: float, depth: Any) -> _Block:
        """Branches ``[K, ..., time, channel]``."""
        narrowed = np.maximum(self.span_floor, span / (1.0 + self.span_depth_coefficient * (np.maximum(depth, 1) - 1)))
        offsets = even_offsets(narrowed[..., None], self.branches)
        branches: _Block = np.tanh(state + np.moveaxis(offsets, -1, 0))
        return branches

    def _coherence(self, deviation: _Block) -> _Block:
        """``[..., time]`` from deviations ``[K, ..., time, channel]``."""
        terms = deviation**2 if self.coherence_mode == "variance" else np.abs(deviation)
        rows = np.moveaxis(terms, 0, -2)
        return np.asarray(np.mean(np.ascontiguousarray(rows).reshape(*rows.shape[:-2], -1), axis=-1))

    def _consistency(self, state: _Block, future: _Block) -> Any:
        """The sum over steps t ≥ 1."""
        moved = np.mean((state[..., 1:, :] - state[..., :-1, :]) ** 2, axis=-1)
        missed = np.mean((state[..., 1:, :] - future[..., 1:, :]) ** 2, axis=-1)
        return _in_order(self.alpha * moved + self.beta * missed)


def _whole(depth: Any) -> Any:
    array = np.asarray(depth)
    if not np.issubdtype(array.dtype, np.integer):
        raise UsageError(f"depth must be a whole number, got {depth!r}. LinearDepth gives such.")
    return array


def _align(array: Any, inputs: _Block) -> Any:
    """`array` with its axes, if any, standing under the leading axes of `inputs`."""
    if array.shape != inputs.shape[: array.ndim] or array.ndim > inputs.ndim - 2:
        raise UsageError(
            "parameters and depth must be scalars, or have the leading axes of the inputs: got shape "
            f"{array.shape} with inputs of shape {inputs.shape} [..., time, channel]."
        )
    return array.reshape(array.shape + (1,) * (inputs.ndim - array.ndim))


def _recurse(weight: Any, bias: Any, state: _Block, depth: Any) -> _Block:
    deepest = max(1, int(np.max(depth)))
    for level in range(deepest):
        deeper = np.tanh(weight * state + bias)
        state = deeper if np.min(depth) > level or level == 0 else np.where(depth > level, deeper, state)
    return state


def _mean_over_branches(branches: _Block) -> _Block:
    if branches.shape[-1] == 1:  # NumPy sees one contiguous row of K, and sums it pairwise
        return np.asarray(np.mean(np.ascontiguousarray(np.moveaxis(branches, 0, -1)), axis=-1))
    total = branches[0]
    for slab in branches[1:]:
        total = total + slab
    mean: _Block = total / len(branches)
    return mean


def _in_order(values: _Block) -> Any:
    """The sum over the last axis, strictly from left to right; 0 if it is empty."""
    return np.cumsum(values, axis=-1)[..., -1] if values.shape[-1] else np.zeros(values.shape[:-1])


def _terms_shape(inputs: Any, targets: Any, depth: Any) -> tuple[int, ...]:
    return (*inputs.shape[:-2], 4)


class HostObjective(eqx.Module):
    """`HypercausalObjective`'s counterpart for a `HostChain.black_box`: order 0 only, bits as published.

    Called as ``objective(model, batch, controls, key)`` with ``batch = (inputs, targets)``, both
    ``[..., time, channel]``; terms are averaged over leading axes. Returns the total and
    ``{"task", "cons", "coh"}``.

    Attributes:
        depth: name of the control that holds the recursion depth; 1 where the plan has none.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hardgrad.hypercausal import HostChain, HostObjective
        >>> box = HostChain(spans=(0.2,), branches=5).black_box([(0.9, 0.03)])
        >>> batch = (jnp.zeros((48, 3)), jnp.zeros((48, 3)))
        >>> total, terms = HostObjective()(box, batch, {"depth": 2}, jax.random.key(0))
        >>> total.shape
        ()
    """

    depth: str = eqx.field(static=True, default="depth")

    def __call__(
        self, model: BlackBox, batch: PyTree, controls: Controls, key: Key[Array, ""] | None = None
    ) -> tuple[Float[Array, ""], Metrics]:
        """The total, and its three parts before they are weighted."""
        inputs, targets = batch
        check_sequences("inputs", inputs)
        check_same_shape(inputs=inputs, targets=targets)
        terms = model(inputs, targets, jnp.asarray(controls.get(self.depth, 1)))
        total, task, cons, coh = (jnp.mean(term) for term in jnp.moveaxis(terms, -1, 0))
        return total, {"task": task, "cons": cons, "coh": coh}
