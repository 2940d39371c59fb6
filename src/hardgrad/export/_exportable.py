"""What there is to ship, as one pure program from arrays to arrays, traced once for any number of rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..core import BundleError, UsageError, did_you_mean
from ._manifest import BATCH, DTYPES, is_name

Rows = dict[str, NDArray[Any]]
"""A batch by name."""

# What tracing with a symbolic size comes to where a function needs to know the size.
_UNTRACEABLE = (
    TypeError,
    ValueError,
    NotImplementedError,
    LookupError,
    jax.errors.InconclusiveDimensionOperation,
)


@dataclasses.dataclass(frozen=True)
class Exportable:
    """What there is to ship of a model: usually its decision, thresholds included.

    Attributes:
        function: called with the arrays of `inputs` in their order; returns a dict, a NamedTuple or a
            dataclass (an Equinox module) of arrays.
            It must be traceable, and work for any number of rows.
        inputs: a few example rows by name. The first axis of each is the batch; dtypes and the other axes are
            those that the bundle will take.
        outputs: which results to ship, in order; None takes all.
        metadata: anything JSON can hold, kept in the bundle: thresholds, normalisation, settings, seed, ...
        edge_rows: further rows by name, on which the bundle must agree: NaN, infinities, exact poles, values on
            a threshold, denormal numbers; None for none.

    Examples:
        >>> import numpy as np
        >>> def decide(x):
        ...     score = x.sum(axis=1)
        ...     return {"score": score, "accepted": abs(score) >= 0.5}
        >>> ship = Exportable(decide, {"x": np.zeros((4, 3), np.float32)}, metadata={"threshold": 0.5})
    """

    function: Callable[..., Any]
    inputs: Mapping[str, ArrayLike]
    outputs: Sequence[str] | None = None
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    edge_rows: Mapping[str, ArrayLike] | None = None


class Program:
    """The exportable's function from arrays to the tuple of its outputs.

    Attributes:
        outputs: their names.
    """

    def __init__(self, exportable: Exportable, example: Rows, device: jax.Device):
        self._function, self._device = exportable.function, device
        found: list[str] = []

        def named(*arrays: Any) -> list[Any]:
            results = _named(self._function(*arrays))
            found[:] = results
            return list(results.values())

        _check_traced(jax.make_jaxpr(named)(*example.values()).jaxpr)
        self.outputs = tuple(found if exportable.outputs is None else exportable.outputs)
        for name in self.outputs:
            if name not in found:
                raise UsageError(f"the function returns no '{name}'. {did_you_mean(name, found)}")
            if not is_name(name):
                raise UsageError(
                    f"an output may not be called {name!r}: names are letters, digits and '_', 64 at most."
                )
        if not self.outputs or len(set(self.outputs)) < len(self.outputs):
            raise UsageError(f"outputs must name some of {', '.join(found)}, each once; got {self.outputs!r}.")
        self._jitted = jax.jit(self._results)

    def _results(self, *arrays: Any) -> tuple[Any, ...]:
        found = _named(self._function(*arrays))
        return tuple(found[name] for name in self.outputs)

    def __call__(self, rows: Rows) -> Rows:
        """The jitted function's own results by name."""
        with jax.default_device(self._device):
            results = self._jitted(*rows.values())
        return {name: np.asarray(value) for name, value in zip(self.outputs, results, strict=True)}

    def export(self, example: Rows, platforms: Sequence[str]) -> jax.export.Exported:
        """Trace once for any number of rows.

        Raises:
            BundleError: the function must know how many there are, or does what no other process can do.
        """
        (batch,) = jax.export.symbolic_shape(BATCH)
        struct: Any = jax.ShapeDtypeStruct
        given = [struct((batch, *value.shape[1:]), value.dtype) for value in example.values()]
        try:
            return jax.export.export(self._jitted, platforms=platforms)(*given)
        except _UNTRACEABLE as error:
            rows, said = len(next(iter(example.values()))), str(error).splitlines() or [type(error).__name__]
            raise BundleError(
                f"the function works for {rows} rows, and can't be exported for any number of them: {said[0][:300]}"
            ) from error


def _named(results: Any) -> dict[str, Any]:
    """What a function returned, by name; fields that are None are left out."""
    found = results._asdict() if hasattr(results, "_asdict") else results
    if dataclasses.is_dataclass(results) and not isinstance(results, type):
        found = {field.name: getattr(results, field.name) for field in dataclasses.fields(results)}
    if not isinstance(found, Mapping):
        kind = type(results).__name__
        raise UsageError(f"the function must return a dict, NamedTuple or dataclass of arrays, got {kind}.")
    for name, value in found.items():
        if value is not None and not (hasattr(value, "dtype") or isinstance(value, bool | int | float)):
            raise UsageError(f"the function's result '{name}' must be an array, got {type(value).__name__}.")
    return {str(name): jnp.asarray(value) for name, value in found.items() if value is not None}


def _check_traced(jaxpr: Any) -> None:
    """Raise `BundleError` if a program calls back into Python."""
    for equation in jaxpr.eqns:
        if "callback" in equation.primitive.name or equation.primitive.name == "debug_print":
            raise BundleError(
                f"the function calls Python while it runs ({equation.primitive.name}), which a bundle can't hold: "
                "export what is written in JAX only."
            )
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    _check_traced(inner)


def read_rows(exportable: Exportable) -> tuple[Rows, Rows]:
    """Example and edge rows as NumPy arrays that fit one another; the latter empty if there are none.

    Raises:
        UsageError: they don't, or are no rows of a dtype that a bundle holds.
    """
    example = {name: _as_rows(name, value) for name, value in exportable.inputs.items()}
    if not example:
        raise UsageError("inputs must hold at least one example row by name: inputs={'x': x[:8]}.")
    edge = {name: _as_rows(name, value) for name, value in (exportable.edge_rows or {}).items()}
    if edge and edge.keys() != example.keys():
        raise UsageError(
            f"edge_rows must hold the same inputs as inputs ({', '.join(example)}), got {', '.join(edge)}."
        )
    edge = {name: edge[name] for name in example if edge}
    for rows in (example, edge):
        for name, value in rows.items():
            like, first = example[name], next(iter(rows.values()))
            if (value.shape[1:], value.dtype) != (like.shape[1:], like.dtype):
                text = f"{value.dtype} {list(value.shape)} beside {like.dtype} {list(like.shape)}"
                raise UsageError(f"edge_rows must be rows like those of inputs: '{name}' is {text}.")
            if len(value) != len(first):
                raise UsageError(f"inputs must have as many rows each: '{name}' has {len(value)}, not {len(first)}.")
    return example, edge


def _as_rows(name: str, value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    if not is_name(name):
        raise UsageError(f"an input may not be called {name!r}: names are letters, digits and '_', 64 at most.")
    if array.dtype.name not in DTYPES:
        raise UsageError(f"input '{name}' is {array.dtype}, which a bundle can't hold. There are: {', '.join(DTYPES)}.")
    if array.ndim == 0 or len(array) == 0:
        raise UsageError(f"input '{name}' must be some rows [batch, ...], got shape {list(array.shape)}.")
    if array.dtype.itemsize == 8 and jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
        raise UsageError(
            f"input '{name}' is {array.dtype}, and JAX works in 32 bits. Give {array.dtype.name[:-2]}32, or have JAX "
            "work in 64: jax.config.update('jax_enable_x64', True)."
        )
    return array
