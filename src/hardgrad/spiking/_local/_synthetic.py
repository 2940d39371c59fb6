"""Synthetic gradients: truncated backpropagation whose missing future is predicted.

Jaderberg, Czarnecki, Osindero, Vinyals, Graves, Silver, Kavukcuoglu 2017, "Decoupled neural interfaces using synthetic
gradients", ICML, arXiv:1608.05343, section 2.1. Time is cut into segments. With s_k the state at the start of segment k
and E_k the segment's loss, the gradient that backpropagation would carry into segment k from the later ones is replaced
by a prediction M(s_{k+1}), and what comes out at the segment's start is what M should have said there:

    ∇_θ:      ∂/∂θ  (E_k + ⟨M(s_{k+1}), s_{k+1}⟩)          M and s_k held fixed
    target:   g_k = ∂/∂s_k (E_k + ⟨M(s_{k+1}), s_{k+1}⟩)     it bootstraps on the next prediction
    M:        ∂/∂M  ½ |M(s_k) - g_k|²                        averaged over the inner boundaries

The gradient is gathered segment by segment, forwards in time: memory is that of one segment.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from ...core import Controls, Metrics, UsageError, whole_number
from ._readouts import accuracy, check_readout, cross_entropy, once, step_weight


class DecoupledModel(eqx.Module):
    """A network and the predictor of its gradients, trained together.

    Attributes:
        network: a `Network`, or anything with ``init_state(batch) -> state`` and ``step(state, x) -> (state, out)``.
        predictor: ``predictor(features) -> gradient`` for one sample, as `SyntheticGradients.prepare` makes it.
    """

    network: Any
    predictor: Any

    def __call__(self, inputs: Any) -> Array:
        """The network's outputs ``[batch, time, ...]`` for inputs ``[batch, time, ...]``."""
        out: Array = self.network(inputs)
        return out


class SyntheticGradients(eqx.Module):
    """An objective whose gradient is that of truncated backpropagation with a predicted future.

    Its models are those of `prepare`. Batches are ``(inputs [batch, time, ...], targets)``. The loss returned is the
    task's; the predictor's has its gradient added and is a metric.

    Predictions and targets are gradients of one sample's loss, batch times that of the mean. The predictor's features,
    in a row: the network's state, the sum over time that the loss reads, with `classes` the label as one-hot (the
    paper's conditional DNI), and, where the sequence has an end, the share of the segments still to come.

    Metrics: "synthetic_loss", the predictor's, and "synthetic_error": Σ|M - g|² / Σ(|M|² + |g|²) over boundaries and
    batch; 0 where predictions are true, 1 where they are 0 or at right angles, 2 at most. Predicting 0 is plain
    truncation. "accuracy" for integer labels.

    Attributes:
        loss: ``loss(outputs [batch, classes], targets) -> scalar``, a mean over the batch.
        segment: time steps of a segment; the time is a multiple of it.
        readout: what the loss reads: the outputs' "sum", "mean" or "last", or every step, averaged over time: "steps"
            with one target, "sequence" with targets ``[batch, time, ...]``.
        classes: number of classes to condition the predictor on, or None.
        end: "known": nothing follows the last step, its future gradient is 0. "predicted": the batch is cut from a
            stream, and the last segment bootstraps too.
        weight: factor on the predictor's loss.

    Raises:
        UsageError: an unknown setting; when called, shapes that do not fit.

    Examples:
        >>> from hardgrad.spiking import LIF, LeakyIntegrator, Network
        >>> a, b, c = jax.random.split(jax.random.key(0), 3)
        >>> network = Network([eqx.nn.Linear(3, 8, key=a), LIF(8, decay=0.9), eqx.nn.Linear(8, 2, key=b),
        ...                    LeakyIntegrator(2)])
        >>> batch = (jnp.ones((4, 12, 3)), jnp.array([0, 1, 1, 0]))
        >>> objective = SyntheticGradients(segment=4)
        >>> model = objective.prepare(network, batch, key=c)
        >>> loss, metrics = objective(model, batch, {}, jax.random.key(0))
        >>> float(metrics["synthetic_error"])  # the predictor starts at 0
        1.0
    """

    loss: Callable[[Any, Any], Any] = eqx.field(static=True, default=cross_entropy)
    segment: int = eqx.field(static=True, kw_only=True)
    readout: str = eqx.field(static=True, default="sum", kw_only=True)
    classes: int | None = eqx.field(static=True, default=None, kw_only=True)
    end: str = eqx.field(static=True, default="known", kw_only=True)
    weight: float = eqx.field(static=True, default=1.0, kw_only=True)

    def __check_init__(self) -> None:
        whole_number("segment", self.segment, least=1)
        check_readout(self.readout)
        if self.classes is not None:
            whole_number("classes", self.classes, least=2)
        if self.end not in ("known", "predicted"):
            raise UsageError(f"end is 'known' or 'predicted', got {self.end!r}.")
        if self.end == "predicted" and once(self.readout):
            raise UsageError(f"readout {self.readout!r} needs the last step: with end='predicted' use 'sequence'.")
        if not self.weight > 0:
            raise UsageError(f"weight must be positive, got {self.weight!r}.")

    def prepare(
        self, network: Any, batch: Any, *, width: int = 64, depth: int = 1, key: Key[Array, ""]
    ) -> DecoupledModel:
        """The network with a predictor of the right sizes, which says 0 at first.

        Args:
            network: to be trained.
            batch: one batch of the data, for its shapes.
            width: of the predictor's hidden layers.
            depth: number of hidden layers; 0 makes it linear.
            key: of its weights.
        """
        width, depth = whole_number("width", width, least=1), whole_number("depth", depth, least=0)
        inputs, targets = map(jnp.asarray, batch)
        self._check(inputs, targets)
        row = jax.eval_shape(lambda: _flat(self, _start(self, network, inputs)))
        predicted = row.shape[1]
        features = predicted + (self.classes or 0) + (self.end == "known")
        predictor = eqx.nn.MLP(features, predicted, width, depth, key=key, dtype=row.dtype)
        last = lambda mlp: (mlp.layers[-1].weight, mlp.layers[-1].bias)
        return DecoupledModel(network, eqx.tree_at(last, predictor, replace_fn=jnp.zeros_like))

    def __call__(self, model: Any, batch: Any, controls: Controls, key: Key[Array, ""]) -> tuple[Array, Metrics]:
        """The task's loss, whose gradient is the rule's, and metrics."""
        if not isinstance(model, DecoupledModel):
            raise UsageError(
                f"SyntheticGradients trains a DecoupledModel, got a {type(model).__name__}. Make one: "
                "SyntheticGradients(...).prepare(network, batch, key=...)."
            )
        inputs, targets = map(jnp.asarray, batch)
        self._check(inputs, targets)
        params, static = eqx.partition(model, eqx.is_inexact_array)
        loss, (read, misfit, error) = _decoupled(params, (static, _Batch(inputs, targets, self)))
        metrics = {} if self.readout == "sequence" else accuracy(read, targets)
        metrics |= {"synthetic_loss": misfit, "synthetic_error": error}
        return loss, jax.lax.stop_gradient(metrics)

    def _check(self, inputs: Array, targets: Array) -> None:
        """Raises `UsageError` for shapes that do not fit."""
        if inputs.ndim < 3 or 0 in inputs.shape or inputs.shape[1] % self.segment:
            raise UsageError(
                f"inputs must be [batch, time, ...] with a time that is a multiple of segment={self.segment}, got "
                f"shape {inputs.shape}."
            )
        expected = inputs.shape[:2] if self.readout == "sequence" else inputs.shape[:1]
        if targets.shape[: len(expected)] != expected:
            raise UsageError(f"targets must start with axes {expected}, got shape {targets.shape}.")
        integers = jnp.issubdtype(targets.dtype, jnp.integer) and targets.ndim == 1
        if self.classes is not None and not integers:
            raise UsageError(
                f"classes={self.classes} conditions the predictor on integer labels [batch], got targets "
                f"{targets.dtype} of shape {targets.shape}."
            )


class _Boundary(NamedTuple):
    """What one segment hands to the next.

    Attributes:
        state: the network's.
        read: the weighted sum of outputs over time ``[batch, ...]``.
    """

    state: Any
    read: Array


def _start(objective: SyntheticGradients, network: Any, inputs: Array) -> _Boundary:
    """Before the first step."""
    state = network.init_state(inputs.shape[0])
    out = jax.eval_shape(lambda: network.step(state, inputs[:, 0])[1])
    return _Boundary(state, jnp.zeros(out.shape, out.dtype))


def _flat(objective: SyntheticGradients, boundary: _Boundary) -> Float[Array, "batch size"]:
    """What of a boundary later losses depend on, or its gradient, in a row for each sample."""
    leaves = jax.tree.leaves(eqx.filter(boundary.state, eqx.is_inexact_array))
    leaves += [boundary.read] if objective.readout in ("sum", "mean") else []
    return jnp.concatenate([leaf.reshape(leaf.shape[0], -1) for leaf in leaves], axis=1)


class _Batch(NamedTuple):
    """Inputs, targets, and how to go over them.

    Attributes:
        inputs: ``[batch, time, ...]``.
        targets: ``[batch, ...]``.
        objective: its settings.
    """

    inputs: Array
    targets: Array
    objective: SyntheticGradients

    @property
    def segments(self) -> int:
        """How many."""
        return self.inputs.shape[1] // self.objective.segment

    def run(self, network: Any, boundary: _Boundary, index: Array) -> tuple[_Boundary, Array]:
        """One segment: the next boundary, and the segment's loss."""
        setting = self.objective
        first = index * setting.segment

        def cut(x: Array) -> Array:
            return jnp.swapaxes(jax.lax.dynamic_slice_in_dim(x, first, setting.segment, 1), 0, 1)

        stepwise = setting.readout == "sequence"
        targets = cut(self.targets) if stepwise else None
        time = self.inputs.shape[1]

        def step(carry: tuple[_Boundary, Array], seen: Any) -> tuple[Any, None]:
            (boundary, loss), (t, x, target) = carry, seen
            state, out = network.step(boundary.state, x)
            share = step_weight(setting.readout, t, time, out.dtype)
            if not once(setting.readout):
                loss = loss + share * setting.loss(out, target if stepwise else self.targets)
            return (_Boundary(state, boundary.read + share * out), loss), None

        times = first + jnp.arange(setting.segment)
        start = boundary, jnp.zeros((), boundary.read.dtype)
        (after, loss), _ = jax.lax.scan(step, start, (times, cut(self.inputs), targets))
        if once(setting.readout):
            loss = setting.loss(after.read, self.targets) * (index == self.segments - 1).astype(loss.dtype)
        return after, loss

    def predict(self, predictor: Any, boundary: _Boundary, index: Array) -> Array:
        """M at the boundary before segment `index`, ``[batch, size]``; features are held fixed."""
        setting = self.objective
        features = [jax.lax.stop_gradient(_flat(setting, boundary))]
        dtype = features[0].dtype
        if setting.classes is not None:
            features.append(jax.nn.one_hot(self.targets, setting.classes, dtype=dtype))
        if setting.end == "known":
            left = (self.segments - index).astype(dtype) / self.segments
            features.append(jnp.broadcast_to(left, (features[0].shape[0], 1)))
        out: Array = jax.vmap(predictor)(jnp.concatenate(features, axis=1))
        return out

    def future(self, predictor: Any, boundary: _Boundary, index: Array) -> Array:
        """What is said of the gradient that the segments from `index` on would bring."""
        prediction = jax.lax.stop_gradient(self.predict(predictor, boundary, index))
        if self.objective.end == "known":
            prediction = jnp.where(index == self.segments, jnp.zeros_like(prediction), prediction)
        return prediction


def _gather(params: Any, rest: Any) -> tuple[Any, Any]:
    """Loss and notes, and the gradient: one scan over segments."""
    static, batch = rest
    setting, size = batch.objective, batch.inputs.shape[0]
    inner = max(batch.segments - 1, 1)

    def task(params: Any, boundary: _Boundary, index: Array) -> tuple[Array, tuple[_Boundary, Array]]:
        model = eqx.combine(params, static)
        after, loss = batch.run(model.network, boundary, index)
        future = batch.future(model.predictor, after, index + 1)
        return loss + jnp.sum(future * _flat(setting, after)) / size, (after, loss)

    def misfit(params: Any, boundary: _Boundary, index: Array, target: Array) -> tuple[Array, tuple[Array, Array]]:
        said = batch.predict(eqx.combine(params, static).predictor, boundary, index)
        counts = (index > 0).astype(said.dtype)
        error = counts * jnp.sum(jnp.square(said - target))
        norms = counts * (jnp.sum(jnp.square(said)) + jnp.sum(jnp.square(target)))
        return setting.weight * error / (2 * size * inner), (error, norms)

    def body(carry: Any, index: Array) -> tuple[Any, None]:
        boundary, gradient, *sums = carry
        traced, kept = eqx.partition(boundary, eqx.is_inexact_array)
        differentiate = jax.value_and_grad(
            lambda params, traced: task(params, eqx.combine(traced, kept), index), argnums=(0, 1), has_aux=True
        )
        (_, (after, lost)), (by_task, by_boundary) = differentiate(params, traced)
        target = size * _flat(setting, by_boundary)
        by_misfit, noted = jax.grad(misfit, has_aux=True)(params, boundary, index, target)
        gradient = jax.tree.map(lambda total, one, other: total + one + other, gradient, by_task, by_misfit)
        return (after, gradient, *map(jnp.add, sums, (lost, *noted))), None

    start = _start(setting, eqx.combine(params, static).network, batch.inputs)
    zero = jnp.zeros((), start.read.dtype)
    carry = (start, jax.tree.map(jnp.zeros_like, params), zero, zero, zero)
    (end, gradient, loss, error, norms), _ = jax.lax.scan(body, carry, jnp.arange(batch.segments))
    relative = error / jnp.where(norms == 0, jnp.ones_like(norms), norms)
    return (loss, (end.read, error / (2 * size * inner), relative)), gradient


@eqx.filter_custom_vjp
def _decoupled(params: Any, rest: Any) -> Any:
    return _gather(params, rest)[0]


@_decoupled.def_fwd  # type: ignore[untyped-decorator]
def _decoupled_fwd(perturbed: Any, params: Any, rest: Any) -> Any:
    return _gather(params, rest)


@_decoupled.def_bwd  # type: ignore[untyped-decorator]
def _decoupled_bwd(gradient: Any, cotangents: Any, perturbed: Any, params: Any, rest: Any) -> Any:
    cotangent = cotangents[0]  # the notes are for metrics, which are not differentiated
    if cotangent is None:
        return jax.tree.map(jnp.zeros_like, gradient)
    return jax.tree.map(lambda g: g * cotangent.astype(g.dtype), gradient)
