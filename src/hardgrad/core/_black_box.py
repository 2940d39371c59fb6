"""Models that JAX cannot trace: a NumPy function, a simulator, a predictor behind a call.

A `BlackBox` is a model like any other whose forward pass runs on the host. It fits into compiled
steps and trains with every estimator of order 0; asking for its derivative is an error that says so.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import traceback
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ._errors import NoDerivativeError, RunError
from ._trees import float_dtype


class BlackBox(eqx.Module):
    """A host function of parameters and inputs, as a model.

    Calling it runs ``function(params, *inputs)`` on the host, with NumPy arrays in place of every
    array. Gradients of order 0 only.

    Attributes:
        function: ``function(params, *inputs) -> array``. Pure: the same arguments, the same result.
        params: what is trained, any pytree of floating-point arrays.
        output_shape: the result's shape, or a function from the inputs to it. ``()`` suits a
            function that returns a loss.
        vectorized: whether `function` accepts extra leading axes on parameters and inputs alike
            and returns them in front of its result. Probes then come in one call instead of one each.

    Raises:
        NoDerivativeError: when differentiated.
        RunError: when the result's shape is not the one declared. A trainer passes on this and every other error of
            the function as it is; compiled code of one's own gets it as `jax.errors.JaxRuntimeError`.

    Examples:
        >>> import numpy as np
        >>> import hardgrad as hg
        >>> box = hg.BlackBox(lambda w, x: np.tanh(w * x), np.float32(0.5), output_shape=lambda x: x.shape)
        >>> box(np.float32([0.0, 1.0])).shape
        (2,)
    """

    function: Callable[..., Any] = eqx.field(static=True)
    params: PyTree
    output_shape: tuple[int, ...] | Callable[..., tuple[int, ...]] = eqx.field(static=True, default=())
    vectorized: bool = eqx.field(static=True, default=False)

    def __init__(
        self,
        function: Callable[..., Any],
        params: PyTree,
        *,
        output_shape: tuple[int, ...] | Callable[..., tuple[int, ...]] = (),
        vectorized: bool = False,
    ):
        self.function = function
        # A dtype given by name makes it strong: a plain float would compile again after its first update.
        self.params = jax.tree.map(lambda x: jnp.asarray(x, jnp.asarray(x).dtype), params)
        self.output_shape = output_shape
        self.vectorized = vectorized

    def __call__(self, *inputs: Any) -> Any:
        """Run the host function; the result has the parameters' widest dtype."""
        shape = self.output_shape(*inputs) if callable(self.output_shape) else self.output_shape
        ranks = tuple(jnp.ndim(x) for x in jax.tree.leaves((self.params, inputs)))
        host = _Host(self.function, tuple(shape), float_dtype(self.params), ranks)
        return _on_host(host, "broadcast_all" if self.vectorized else "sequential", self.params, inputs)


@dataclasses.dataclass(frozen=True)
class _Host:
    """The function as the callback sees it: NumPy in, a checked NumPy array out.

    Equal for equal functions and shapes, so that a second call finds the first one's program.
    """

    function: Callable[..., Any]
    shape: tuple[int, ...]
    dtype: Any
    ranks: tuple[int, ...]  # of the arguments' leaves, before any vmap

    @property
    def name(self) -> str:
        """What messages call it."""
        return getattr(self.function, "__qualname__", None) or type(self.function).__qualname__

    def __call__(self, params: Any, inputs: Any) -> Any:
        arguments = jax.tree.map(np.asarray, (params, *inputs))
        try:
            return self._checked(arguments)
        except Exception as error:
            _failures.append(error)
            raise

    def _checked(self, arguments: Any) -> Any:
        value = np.asarray(self.function(*arguments), dtype=self.dtype)
        first, rank = next(zip(jax.tree.leaves(arguments), self.ranks, strict=True), (np.zeros(()), 0))
        leading = first.shape[: first.ndim - rank]
        if value.shape == leading + self.shape:
            return value
        said = f"the black box '{self.name}' returned shape {value.shape}, its declared shape is {self.shape}"
        if leading:
            raise RunError(
                f"{said} and the leading axes are {leading}. Mend the function, or say "
                "BlackBox(..., vectorized=False) if it takes no leading axes."
            )
        rule = _rule(value.shape, arguments[1:])
        fixed = f"output_shape={value.shape}"
        hint = f"output_shape={rule}), or {fixed} if that never changes" if rule else f"{fixed})"
        raise RunError(f"{said}. Mend the function, or say BlackBox(..., {hint}.")


def _rule(shape: tuple[int, ...], inputs: Any) -> str:
    """The shape as it follows from the first input, whose number of rows may change; empty where it does not."""
    if not inputs or not isinstance(inputs[0], np.ndarray):
        return ""
    of = inputs[0].shape
    same = itertools.takewhile(lambda sizes: sizes[0] == sizes[1], zip(shape, of, strict=False))
    common = len(list(same))
    if not common:
        return ""
    if common == len(shape):
        said = "x.shape" if common == len(of) else f"x.shape[:{common}]"
    else:
        said = f"({', '.join([*(f'x.shape[{i}]' for i in range(common)), *map(str, shape[common:])])})"
    return f"lambda x{', *others' if len(inputs) > 1 else ''}: {said}"


def _of_something_else(record: logging.LogRecord) -> bool:
    """Whether a record is not about a black box: whoever called that is told by the exception itself."""
    frames = traceback.walk_tb(record.exc_info[2] if record.exc_info else None)
    return all(frame.f_code is not _Host.__call__.__code__ for frame, _ in frames)


logging.getLogger("jax._src.callback").addFilter(_of_something_else)


_failures: list[Exception] = []


def black_box_failure() -> Exception | None:
    """What a black box raised since this was last asked: JAX passes on only the text of it."""
    failure = _failures[0] if _failures else None
    _failures.clear()
    return failure


def _on_host(host: _Host, method: str, params: Any, inputs: Any) -> Any:
    result = jax.ShapeDtypeStruct(host.shape, host.dtype)  # type: ignore[no-untyped-call]

    @jax.custom_jvp
    def call(params: Any, inputs: Any) -> Any:
        return jax.pure_callback(host, result, params, inputs, vmap_method=method)

    @call.defjvp
    def no_derivative(primals: Any, tangents: Any) -> Any:
        raise NoDerivativeError(
            f"the black box '{host.name}' has no derivative: it runs outside JAX. Use an estimator "
            "of order 0 instead: CentralDifference(), ForwardDifference(), SPSA() or AntitheticNES()."
        )

    return call(params, inputs)
