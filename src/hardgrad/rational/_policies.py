"""Gradient policies: what becomes of a gradient where the forward value is ⊥.

    policy        elsewhere                         at ⊥
    CLAMP         clip(g, -1, 1), complex g as is   0
    PROJECT       g                                 0
    REJECT        0                                 0
    PASSTHROUGH   g                                 g

A layer hands its output through `with_policy`; the policy is read then, and acts on the way back. It is, in this
order: what the layer was given explicitly; what the objective was given (`SCMObjective`); the innermost
``with gradient_policy(...)`` around the call; the registered default of the layer's name; CLAMP.

The context and the registry are contexts of JAX: each is part of the key of every compiled function, so that a step
compiled before is traced again, once, under another policy.

Source of the table and the defaults: the published system. There a context around the backward pass alone does
nothing, and says nothing. Here that raises, as does a context that no layer has ever asked for.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from functools import partial
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact

from ..core import UsageError
from ._shapes import align, append_axes


class GradientPolicy(enum.Enum):
    """What becomes of a gradient where the forward value is ⊥: see the table above."""

    CLAMP = "clamp"
    PROJECT = "project"
    REJECT = "reject"
    PASSTHROUGH = "pass"


OUTPUT_LAYER = "projective_output"
"""The name under which an objective asks for the policy of a model's output."""

_DEFAULTS = {
    "scm_rational": GradientPolicy.PROJECT,
    "scm_norm": GradientPolicy.CLAMP,
    "scm_softmax": GradientPolicy.CLAMP,
    "coverage": GradientPolicy.CLAMP,
    "rejection_loss": GradientPolicy.CLAMP,
    OUTPUT_LAYER: GradientPolicy.PASSTHROUGH,
}


def _frozen(registry: Mapping[str, GradientPolicy]) -> tuple[tuple[str, GradientPolicy], ...]:
    return tuple(sorted(registry.items(), key=lambda item: item[0]))


def _new_context(value: Any) -> Any:
    return jax.make_user_context(value)  # type: ignore[no-untyped-call]


_context = _new_context(None)  # of this thread: the innermost block's policy
_scope = _new_context(None)  # of this thread: the policy of the objective that is being evaluated
_registry = _new_context(_frozen(_DEFAULTS))  # of all threads: only its global value is ever set

# A JAX context belongs to a thread. This one belongs to an asyncio task, and tells whose block is open.
_task_context: ContextVar[GradientPolicy | None] = ContextVar("gradient_policy", default=None)

# Policies of blocks that some layer has asked for. A compiled function that acts by one was traced under it.
_consulted: set[GradientPolicy] = set()


def check_policy(policy: Any) -> GradientPolicy:
    """`policy`, if it is a `GradientPolicy`; else raise `UsageError`."""
    if not isinstance(policy, GradientPolicy):
        names = ", ".join(f"GradientPolicy.{member.name}" for member in GradientPolicy)
        raise UsageError(f"a gradient policy is one of {names}; got {policy!r}.")
    return policy


def _layer_name(layer: Any) -> str:
    name = layer.strip().lower() if isinstance(layer, str) else ""
    if not name:
        raise UsageError(f"a layer's name for gradient policies must be a non-empty string; got {layer!r}.")
    return name


def _block() -> GradientPolicy | None:
    """The policy of the innermost block, None outside of any.

    Raises:
        UsageError: the block is another thread's or asyncio task's.
    """
    policy: GradientPolicy | None = _context.value
    if policy is not _task_context.get():
        raise UsageError(
            "a gradient_policy block holds for one thread and can't be shared by asyncio tasks: "
            "open it where the step is called, and don't await inside."
        )
    return policy


def current_policy() -> GradientPolicy | None:
    """The policy of the innermost ``with gradient_policy(...)``, None outside of any.

    Whoever asks is taken to act by the answer.
    """
    policy = _block()
    if policy is not None:
        _consulted.add(policy)
    return policy


@contextlib.contextmanager
def gradient_policy(policy: Any) -> Iterator[None]:
    """Set the policy of every layer and objective that was given none, for the calls inside.

    Put it around the call of a (compiled) step, of a loss, of `jax.grad`; or around the construction of an
    `SCMObjective`, which then keeps it. It holds for this thread, and nested blocks restore the outer one.

    Args:
        policy: a `GradientPolicy`.

    Raises:
        UsageError: it is none. Or the block would do nothing: it is around a backward pass whose forward pass
            ran outside of it, or, noticed on leaving, no layer has ever asked for this policy in this process.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> def loss(x):
        ...     return jnp.sum(5.0 * with_policy(x, x == 0))
        >>> step = jax.jit(jax.grad(loss))
        >>> x = jnp.array([0.0, 2.0])
        >>> step(x)  # the default of rational layers, PROJECT
        Array([0., 5.], dtype=float32)
        >>> with gradient_policy(GradientPolicy.CLAMP):
        ...     step(x)
        Array([0., 1.], dtype=float32)
    """
    policy = check_policy(policy)
    outer = _block()
    with _context(policy):
        _task_context.set(policy)
        try:
            yield
        finally:
            _task_context.set(outer)
    if policy not in _consulted:
        raise UsageError(
            f"gradient_policy({policy}) did nothing: no layer or objective was asked for a policy inside. Either "
            "each of them was given one explicitly, or the model has none, or the block isn't around the call."
        )


def in_scope() -> bool:
    """Whether an objective that is being evaluated has a policy for what is inside."""
    return _scope.value is not None


@contextlib.contextmanager
def policy_scope(policy: GradientPolicy | None) -> Iterator[None]:
    """The policy of an objective, for the layers of the model it evaluates. None leaves things as they are."""
    if policy is None:
        yield
        return
    with _scope(policy):
        yield


def register_policy(layer: str, policy: Any) -> None:
    """Set the default of the layers of this name. Functions compiled before are traced again.

    Args:
        layer: the name; blanks around it and case don't matter.
        policy: a `GradientPolicy`.

    Raises:
        UsageError: an empty name, or no policy.
    """
    _registry.set_global(_frozen({**policy_registry_snapshot(), _layer_name(layer): check_policy(policy)}))


def policy_registry_snapshot() -> Mapping[str, GradientPolicy]:
    """The registered defaults by layer name, as they are now; read-only."""
    return MappingProxyType(dict(_registry.value))


def restore_policy_registry(snapshot: Mapping[str, GradientPolicy]) -> None:
    """Set the registered defaults to exactly those of a snapshot.

    Raises:
        UsageError: an empty name, or something that is no policy.
    """
    _registry.set_global(_frozen({_layer_name(name): check_policy(policy) for name, policy in snapshot.items()}))


def get_policy(layer: str | None = None) -> GradientPolicy:
    """The policy that a layer of this name takes here, if it was given none itself.

    Args:
        layer: its name; None, or a name without a registered default, ends at CLAMP.

    Raises:
        UsageError: an empty name.
    """
    name = None if layer is None else _layer_name(layer)
    scope: GradientPolicy | None = _scope.value
    found = current_policy() if scope is None else scope
    return policy_registry_snapshot().get(name or "", GradientPolicy.CLAMP) if found is None else found


def apply_policy(gradient: Any, bottom: Any, policy: Any = None) -> Inexact[Array, "*shape"]:
    """The gradient that a policy lets pass.

    Args:
        gradient: a number or an array, real or complex. CLAMP keeps NaN where the value is not ⊥.
        bottom: where the forward value is ⊥: a boolean, or a mask of the leading axes of `gradient`.
        policy: a `GradientPolicy`; None takes `get_policy`.

    Returns:
        An array of the gradient's shape and dtype.

    Raises:
        UsageError: `policy` is none.

    Examples:
        >>> apply_policy(jnp.array([3.0, 3.0]), jnp.array([False, True]), GradientPolicy.CLAMP)
        Array([1., 0.], dtype=float32)
    """
    policy = get_policy() if policy is None else check_policy(policy)
    g: Array = jnp.asarray(gradient)
    if policy is GradientPolicy.PASSTHROUGH:
        return g
    if policy is GradientPolicy.REJECT:
        return jnp.zeros_like(g)
    if policy is GradientPolicy.CLAMP and not jnp.iscomplexobj(g):
        g = jnp.clip(g, -1.0, 1.0)
    passed: Array = jnp.where(append_axes(jnp.asarray(bottom), g.ndim), jnp.zeros((), g.dtype), g)
    return passed


def with_policy(
    x: Inexact[Array, "*shape"], bottom: Bool[Array, "*mask"], policy: Any = None, *, layer: str = "scm_rational"
) -> Inexact[Array, "*shape"]:
    """`x`, with a policy on the gradient that comes back through it.

    The policy is chosen now, as the module says. Under PASSTHROUGH this is the identity for every transformation;
    under the others there is no forward-mode derivative.

    Args:
        x: what a layer returns, any shape.
        bottom: where it is ⊥; of the shape of `x` or of its leading axes.
        policy: what the layer was given explicitly, a `GradientPolicy` or None.
        layer: the name under which a default may be registered.

    Raises:
        UsageError: `policy` is none; or, when the gradient is taken, a `gradient_policy` block is around the
            backward pass only.
    """
    name = _layer_name(layer)
    policy = get_policy(name) if policy is None else check_policy(policy)
    if policy is GradientPolicy.PASSTHROUGH:
        return x
    wide, mask = align(x=x, bottom=bottom)
    if jnp.broadcast_shapes(wide.shape, mask.shape) != x.shape:
        raise UsageError(f"the ⊥ mask of layer '{name}' has the shape {bottom.shape}, and its output {x.shape}.")
    return _guarded((name, policy, _block()), x, bottom)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _guarded(how: tuple[str, GradientPolicy, GradientPolicy | None], x: Array, bottom: Array) -> Array:
    return x


def _guarded_fwd(how: Any, x: Array, bottom: Array) -> tuple[Array, Array]:
    return x, bottom


def _guarded_bwd(how: tuple[str, GradientPolicy, GradientPolicy | None], bottom: Array, g: Array) -> tuple[Any, None]:
    name, policy, before = how
    now = _block()
    if now is not None and now is not before and now is not policy:
        raise UsageError(
            f"gradient_policy({now}) is around the backward pass only, where layer '{name}' has already chosen "
            f"{policy}. Put the block around the call that computes the value."
        )
    return apply_policy(g, bottom, policy), None


_guarded.defvjp(_guarded_fwd, _guarded_bwd)
