"""What is minimised: an objective, and an objective bound to a batch.

An *objective* is a function ``objective(model, batch, controls, key) -> (loss, metrics)`` with a
scalar loss and a flat dict of scalar metrics; one whose model has running state returns the changed model
as well. The trainer binds it to the step's batch, controls
and key; what estimators and methods see is the bound `Loss`, a function of the parameters alone.

Three things are done here once, for every method:

* accumulation: a batch of m microbatches gives their mean, and its gradient is found microbatch by
  microbatch, so that memory does not grow with m;
* mixed precision: parameters and inputs are cast on the way in, the loss is widened on the way out;
* loss scaling: cotangents are multiplied after the loss and divided again before the parameters, so
  that float16 gradients do not underflow and nobody outside sees the scale
  (Micikevicius et al. 2018, "Mixed Precision Training", section 3.2).
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from ._controls import Controls, NamedControls
from ._errors import UsageError
from ._trees import Params, cast_floats, float_dtype, running_state

Metrics = dict[str, Array]
"""Name to scalar array."""

_RUNNING = "running state"  # it travels with the metrics, which every estimator hands on from the point itself


@runtime_checkable
class Objective(Protocol):
    """``objective(model, batch, controls, key) -> (loss, metrics)``, or ``(loss, metrics, model)``."""

    def __call__(
        self, model: Any, batch: Any, controls: Controls, key: Key[Array, ""], /
    ) -> tuple[Float[Array, ""], Metrics] | tuple[Float[Array, ""], Metrics, Any]:
        """The scalar loss of `model` on `batch`, and a flat dict of scalars worth recording.

        A model with `Running` state is returned third, with that state as it is to be after the step; of this
        model only what stands in `Running` is read. In validation the ``inference`` fields of the model are True, as
        `equinox.nn.inference_mode` sets them, and nothing is kept.
        """
        ...


@runtime_checkable
class LossFunction(Protocol):
    """``loss_fn(params) -> (loss, metrics)``: what estimators and methods are given."""

    def __call__(self, params: Params, /) -> tuple[Float[Array, ""], Metrics]:
        """The scalar loss at `params`, and metrics."""
        ...


@eqx.filter_custom_vjp
def _multiply_cotangent(x: Any, scale: Any) -> Any:
    return x


@_multiply_cotangent.def_fwd  # type: ignore[untyped-decorator]
def _multiply_cotangent_fwd(perturbed: Any, x: Any, scale: Any) -> tuple[Any, None]:
    return x, None


@_multiply_cotangent.def_bwd  # type: ignore[untyped-decorator]
def _multiply_cotangent_bwd(residuals: None, grad: Any, perturbed: Any, x: Any, scale: Any) -> Any:
    return jax.tree.map(lambda g: g * scale.astype(g.dtype), grad)


class Loss(eqx.Module):
    """An objective bound to one step: ``loss(params) -> (value, metrics)``.

    Attributes:
        objective: the objective.
        rest: the model without its parameters.
        batch: the step's batch; with a leading axis of microbatches if `microbatches` > 1.
        controls: the step's controls.
        key: the step's key.
        microbatches: how many microbatches the batch holds.
        compute_dtype: dtype of the model's arithmetic, or None to leave it alone.
        scale: the loss scale, a scalar, or None.
        running: the model's running state, or None; it stands in for what `rest` holds of it.
        inference: whether the model is only evaluated: its ``inference`` fields are then True.
    """

    objective: Any
    rest: PyTree
    batch: PyTree
    controls: Controls
    key: Key[Array, ""]
    microbatches: int = eqx.field(static=True, default=1)
    compute_dtype: Any = eqx.field(static=True, default=None)
    scale: Float[Array, ""] | None = None
    running: PyTree = None
    inference: bool = eqx.field(static=True, default=False)

    def model(self, params: Params) -> PyTree:
        """The whole model with these parameters."""
        whole = eqx.combine(params, self.rest) if self.running is None else eqx.combine(params, self.running, self.rest)
        return eqx.nn.inference_mode(whole) if self.inference else whole

    def __call__(self, params: Params) -> tuple[Float[Array, ""], Metrics]:
        """The loss at `params` and the objective's metrics."""
        if self.microbatches == 1:
            value, metrics = _single(params, (self, self.batch, self.key))
        else:
            value, metrics = _mean_over_microbatches(params, self)
        return value, metrics


def _single(params: Params, bound: tuple[Loss, PyTree, Any]) -> tuple[Array, Metrics]:
    loss, batch, key = bound
    out_dtype = float_dtype(params)
    if loss.scale is not None:
        params = _multiply_cotangent(params, 1.0 / loss.scale)
    model, controls = loss.model(params), loss.controls
    if loss.compute_dtype is not None:
        model, batch, controls = cast_floats((model, batch, dict(controls)), loss.compute_dtype)
        model = model if loss.running is None else eqx.combine(loss.running, model)
    value, metrics, running = _checked(loss.objective(model, batch, NamedControls(controls), key))
    if loss.compute_dtype is not None:
        value, metrics = cast_floats((value, metrics), out_dtype)
    if loss.scale is not None:
        value = _multiply_cotangent(value, loss.scale)
    if loss.running is not None and not loss.inference:
        metrics |= _running_metrics(running, loss.running)
    return value, metrics


def _running_metrics(model: PyTree, before: PyTree) -> Metrics:
    """The running state of a returned model, by name.

    Raises:
        UsageError: it is not that of the model that was given, or none was returned.
    """
    after = running_state(model)
    if _layout(after) != _layout(before):
        raise UsageError(
            "the model has running state: its objective must return (loss, metrics, model), the model as it was given "
            "but for the values in Running."
        )
    leaves = jax.lax.stop_gradient(jax.tree.leaves(after))
    return {f"{_RUNNING} {i}": jnp.asarray(leaf) for i, leaf in enumerate(leaves)}


def _layout(tree: PyTree) -> Any:
    return jax.tree.structure(tree), [leaf.shape for leaf in jax.tree.leaves(tree)]


def take_running(metrics: Metrics, before: PyTree) -> tuple[Metrics, PyTree]:
    """Metrics, and the running state that travels with them, of the dtypes it had before."""
    if before is None:
        return metrics, None
    leaves, structure = jax.tree.flatten(before)
    after = [metrics[f"{_RUNNING} {i}"].astype(leaf.dtype) for i, leaf in enumerate(leaves)]
    shown = {name: value for name, value in metrics.items() if not name.startswith(_RUNNING)}
    return shown, jax.tree.unflatten(structure, after)


def _checked(result: Any) -> tuple[Array, Metrics, PyTree]:
    """What an objective returned, as arrays, and the model it returned, if any.

    Raises:
        UsageError: it is not a scalar and a dict of scalars.
    """
    if not (isinstance(result, tuple) and len(result) in (2, 3) and isinstance(result[1], dict)):
        raise UsageError(
            "an objective must return (loss, metrics), metrics a dict of scalars, "
            f"got {type(result).__name__}. Without metrics: return loss, {{}}."
        )
    for name, metric in result[1].items():
        if not eqx.is_array_like(metric):
            raise UsageError(f"an objective's metrics are scalars by name, but '{name}' is a {type(metric).__name__}.")
    value, metrics = jnp.asarray(result[0]), {name: jnp.asarray(m) for name, m in result[1].items()}
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise UsageError(f"a loss must be a real floating-point number, got {value.dtype}. Cast it to float32.")
    for name, array in {"loss": value, **metrics}.items():
        if array.shape != ():
            raise UsageError(f"an objective's '{name}' must be a scalar, got shape {array.shape}. Take its mean.")
    return value, metrics, result[2] if len(result) == 3 else None


def _mean_dtype(dtype: Any) -> Any:
    return dtype if jnp.issubdtype(dtype, jnp.inexact) else jnp.float32


def _microbatch_scan(each: Any, loss: Loss) -> Any:
    """Mean over microbatches of ``each(batch, key)``; integers and booleans become floats first."""
    items = loss.batch, jax.random.split(loss.key, loss.microbatches)
    out = jax.eval_shape(each, *jax.tree.map(lambda x: x[0], items))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, _mean_dtype(x.dtype)), out)

    def add(total: Any, item: Any) -> tuple[Any, None]:
        return jax.tree.map(lambda t, x: t + x.astype(t.dtype), total, each(*item)), None

    total, _ = jax.lax.scan(add, zeros, items)
    return jax.tree.map(lambda x: x / loss.microbatches, total)


@eqx.filter_custom_vjp
def _mean_over_microbatches(params: Params, loss: Loss) -> Any:
    return _microbatch_scan(lambda batch, key: _single(params, (loss, batch, key)), loss)


@_mean_over_microbatches.def_fwd  # type: ignore[untyped-decorator]
def _mean_over_microbatches_fwd(perturbed: Any, params: Params, loss: Loss) -> Any:
    gradient_of = eqx.filter_value_and_grad(_single, has_aux=True)
    mean, gradient = _microbatch_scan(lambda batch, key: gradient_of(params, (loss, batch, key)), loss)
    return mean, gradient


@_mean_over_microbatches.def_bwd  # type: ignore[untyped-decorator]
def _mean_over_microbatches_bwd(gradient: Any, grad_out: Any, perturbed: Any, params: Params, loss: Loss) -> Any:
    cotangent = grad_out[0]  # metrics are carried along, never differentiated
    if cotangent is None:
        return jax.tree.map(jnp.zeros_like, gradient)
    return jax.tree.map(lambda g: g * cotangent.astype(g.dtype), gradient)
