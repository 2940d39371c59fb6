"""Whether two programs are the same, though every object in them was made anew.

A compiled program's static side holds functions, and functions made by the same code are different objects: an
optimiser of Optax is two closures. They do the same if their code is the same and what they close over is.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..training._program import Static

_PLAIN = (str, bytes, int, float, complex, bool, type(None), type, types.ModuleType, types.BuiltinFunctionType)


def difference(one: Any, other: Any, where: str = "") -> str | None:
    """The first difference between two values, in words; None where there is none.

    Args:
        one: anything.
        other: anything.
        where: how to call the place.

    Examples:
        >>> import optax
        >>> from hardgrad.search._alike import difference
        >>> difference(optax.sgd(0.1), optax.sgd(0.1)) is None
        True
        >>> difference({"width": 8}, {"width": 16})
        'width: 8 and 16'
    """
    return _difference(one, other, where, {})


def _difference(one: Any, other: Any, where: str, seen: dict[tuple[int, int], Any]) -> str | None:
    if one is other or (id(one), id(other)) in seen:
        return None
    seen[id(one), id(other)] = one, other  # kept, so that no other object gets their numbers
    if type(one) is not type(other):
        return f"{where}: {_shown(one)} and {_shown(other)}"
    if isinstance(one, np.ndarray | np.generic | jax.Array):
        return None if same_array(one, other) else f"{where}: two arrays that differ"
    parts = _parts(one, other)
    if parts is None:
        same = one == other or (one != one and other != other)
        return None if same is True else f"{where}: {_shown(one)} and {_shown(other)}"
    for name, mine, theirs in parts:
        found = _difference(mine, theirs, f"{where}.{name}" if where and name else where or name, seen)
        if found is not None:
            return found
    return None


def _parts(one: Any, other: Any) -> Iterator[tuple[str, Any, Any]] | None:
    """The parts of two objects of a type, side by side; None where equality itself is the question."""
    if isinstance(one, _PLAIN):
        return None
    if isinstance(one, Static):
        return iter([("", one.tree, other.tree)])
    if isinstance(one, types.FunctionType):
        return _function(one, other)
    if isinstance(one, types.MethodType):
        return iter([("", one.__func__, other.__func__), ("self", one.__self__, other.__self__)])
    if isinstance(one, functools.partial):
        names = ("func", "args", "keywords")
        return iter([(name, getattr(one, name), getattr(other, name)) for name in names])
    if isinstance(one, types.CellType):
        return iter([("", _content(one), _content(other))])
    if isinstance(one, dict):
        return _named(one, other)
    if isinstance(one, tuple | list):
        if len(one) != len(other):
            return iter([("its length", len(one), len(other))])
        places = getattr(one, "_fields", None) or [f"[{i}]" for i in range(len(one))]
        return zip(places, one, other, strict=True)
    if dataclasses.is_dataclass(one):
        fields = [field.name for field in dataclasses.fields(one)]
        return iter([(name, getattr(one, name, None), getattr(other, name, None)) for name in fields])
    if callable(one) and hasattr(one, "__wrapped__"):  # jit, custom derivatives
        return iter([("", one.__wrapped__, other.__wrapped__)])
    kind: Any = type(one)
    if kind.__eq__ is object.__eq__ and hasattr(one, "__dict__"):
        return _named(vars(one), vars(other))
    return None


def _function(one: types.FunctionType, other: types.FunctionType) -> Iterator[tuple[str, Any, Any]]:
    if _only_checks(one) and _only_checks(other):
        yield "", one.__wrapped__, other.__wrapped__  # type: ignore[attr-defined]
        return
    yield "module", one.__module__, other.__module__
    yield "code", one.__code__, other.__code__
    yield "defaults", one.__defaults__, other.__defaults__
    yield "defaults", one.__kwdefaults__, other.__kwdefaults__
    names = one.__code__.co_freevars
    yield from zip(names, one.__closure__ or (), other.__closure__ or (), strict=False)


def _only_checks(function: types.FunctionType) -> bool:
    """Whether it wraps another to check its types and does nothing else."""
    home = str(function.__globals__.get("__name__", "")).partition(".")[0]
    return home in ("jaxtyping", "beartype") and hasattr(function, "__wrapped__")


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _named(one: dict[Any, Any], other: dict[Any, Any]) -> Iterator[tuple[str, Any, Any]]:
    if list(one) != list(other):
        yield "its names", [str(name) for name in one], [str(name) for name in other]
        return
    for name in one:
        yield str(name), one[name], other[name]


def same_array(one: Any, other: Any) -> bool:
    """Whether two arrays, or plain numbers, are the same to the bit, dtype and weak type included."""
    if one is other:
        return True
    if isinstance(one, float | int) or isinstance(other, float | int):
        return type(one) is type(other) and bits(one) == bits(other)
    kinds = [(x.shape, x.dtype, getattr(x, "weak_type", False)) for x in (one, other)]
    return kinds[0] == kinds[1] and bits(one) == bits(other)


def bits(x: Any) -> bytes:
    """An array's content."""
    if isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        x = jax.random.key_data(x)
    return np.asarray(x).tobytes()


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, _PLAIN) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:59] + "…"
