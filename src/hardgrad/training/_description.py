"""What trains and on what, in words for a run's config.json: equal where a resumed run is the same."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ..core import UsageError
from ._data import Feed, InMemory

_DEEPEST = 12
_SAMPLE = 1_000_000  # numbers of an array that are looked at
_NEAR = 1e-3  # in standard deviations: simulated on another machine, data differ by rounding
_WIDTH = 100
_FLOAT = re.compile(r"(?<![\w.])\d+(?:\.\d+(?:e[-+]\d+)?|e[-+]\d+)(?![\w.])")  # as `repr` writes it; no whole number


def describe(thing: Any) -> str:
    """A method or an objective with all its numbers, those held by an optimiser's functions too, and no address.

    An Optax transformation is shown as the function that made it: ``scale_by_adam(b1=0.9, ...)``. Of a function there
    is its name and what it holds on to, and not its code.
    """
    return "\n".join(_laid_out(_node(thing, ()), 0))


@dataclasses.dataclass(frozen=True)
class _Node:
    """A value, or what is made from parts; the head of a tuple is empty."""

    head: str
    parts: tuple[tuple[str, _Node], ...] = ()

    def __str__(self) -> str:
        inside = ", ".join(f"{name}={part}" if name else str(part) for name, part in self.parts)
        return f"{self.head}({inside})" if self.parts or not self.head else self.head


def _node(thing: Any, within: tuple[int, ...]) -> _Node:
    if thing is None or isinstance(thing, bool | int | float | complex | str | np.generic):
        return _Node(repr(thing.item() if isinstance(thing, np.generic) else thing))
    if isinstance(thing, jax.Array | np.ndarray):
        return _Node(repr(thing.item()) if thing.ndim == 0 and _plain(thing) else f"{thing.dtype}{list(thing.shape)}")
    if id(thing) in within or len(within) > _DEEPEST:
        return _Node("...")
    if isinstance(thing, type):
        return _Node(thing.__qualname__)
    parts = [(name, part) for name, part in _parts(thing) if name != "self"]
    if _head(thing) == "with_extra_args_support" and len(parts) == 1:  # Optax wraps what it is given
        return _node(parts[0][1], within)
    if _head(thing) == "chain" and [name for name, _ in parts] == ["update_fns"]:
        parts = [("", part) for part in parts[0][1]]
    return _Node(_head(thing), tuple((name, _node(part, (*within, id(thing)))) for name, part in parts))


def _plain(array: Any) -> bool:
    """Whether it holds numbers, and no keys of random numbers."""
    return bool(jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool)


def _head(thing: Any) -> str:
    if isinstance(thing, functools.partial):
        return _head(thing.func)
    if isinstance(thing, optax.GradientTransformation):
        return _head(thing.update)
    if type(thing) in (tuple, list):
        return ""
    name: str = getattr(thing, "__qualname__", None) or type(thing).__qualname__
    return name.split(".<locals>")[0]


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, Mapping):
        yield from ((str(name), part) for name, part in thing.items())
    elif isinstance(thing, optax.GradientTransformation):  # its functions are closures over what it was made with
        used = dict(_closure(thing.update))
        yield from used.items()
        yield from ((name, part) for name, part in _closure(thing.init) if name not in used and _is_plain(part))
    elif isinstance(thing, tuple | list):
        names = getattr(thing, "_fields", None) or [""] * len(thing)
        yield from zip(names, thing, strict=True)
    elif dataclasses.is_dataclass(thing):
        yield from ((field.name, getattr(thing, field.name)) for field in dataclasses.fields(thing))
    elif isinstance(thing, functools.partial):
        yield from (("", part) for part in thing.args)
        yield from thing.keywords.items()
    else:
        yield from _closure(thing)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value) and all(map(_is_plain, value.values()))
    return isinstance(value, bool | int | float | str | np.generic | np.ndarray | jax.Array)


def _closure(function: Any) -> Iterator[tuple[str, Any]]:
    try:
        held = inspect.getclosurevars(inspect.unwrap(function)).nonlocals
    except (TypeError, ValueError):  # built in, or no function
        return
    yield from held.items()


def _laid_out(node: _Node, indent: int) -> Iterator[str]:
    """On one line where it fits, else a part a line."""
    line = f"{' ' * indent}{node}"
    if len(line) <= _WIDTH or not node.parts:
        yield line
        return
    yield f"{' ' * indent}{node.head}("
    for name, part in node.parts:
        first, *rest = _laid_out(part, indent + 2)
        yield f"{' ' * (indent + 2)}{name + '=' if name else ''}{first.strip()}{',' if not rest else ''}"
        if rest:
            yield from rest[:-1]
            yield f"{rest[-1]},"
    yield f"{' ' * indent})"


def check_same_thing(path: Any, what: str, before: Any, now: str, *, rounded: bool = False) -> None:
    """Refuse another method or objective than a run was begun with.

    Args:
        path: the run.
        what: ``"method"`` or ``"objective"``.
        before: its description then, as the run's config.json has it.
        now: its description now.
        rounded: whether its numbers may come from data, and so differ by rounding on another machine.

    Raises:
        UsageError: it differs; says where.
    """
    if before == now or (rounded and isinstance(before, str) and _alike_but_for_rounding(before, now)):
        return
    way_out = "begin a new run from its parameters (hg.training.trained_model)"
    if not isinstance(before, str):
        raise UsageError(f"{path} can't be resumed: its config.json names no {what}. To go on, {way_out}.")
    changes = [line for line in difflib.ndiff(before.splitlines(), now.splitlines()) if line[0] in "-+"]
    raise UsageError(
        f"{path} was begun with another {what}. Resume it with the same one; to go on with this one, {way_out}. "
        "What it was is marked -, what it is now +:\n" + "\n".join(changes)
    )


def _alike_but_for_rounding(before: str, now: str) -> bool:
    (words, numbers), (others, other_numbers) = ((_FLOAT.split(text), _FLOAT.findall(text)) for text in (before, now))
    return words == others and all(
        math.isclose(float(one), float(other), rel_tol=_NEAR) for one, other in zip(numbers, other_numbers, strict=True)
    )


def summarise(feed: Feed | None) -> list[dict[str, Any]] | None:
    """Of each array its shape, dtype, mean and standard deviation, these of its first million numbers; else None."""
    if not isinstance(feed, InMemory):
        return None
    found = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(feed.arrays):
        one: dict[str, Any] = {
            "name": jax.tree_util.keystr(path, simple=True, separator="."),
            "shape": list(leaf.shape),
        }
        one["dtype"] = str(leaf.dtype)
        if _plain(leaf):
            with np.errstate(all="ignore"):
                sample = np.abs if np.iscomplexobj(leaf) else np.asarray
                values = sample(np.asarray(leaf).ravel()[:_SAMPLE]).astype(np.float64)
                one |= {"mean": float(values.mean()), "deviation": float(values.std())}
        found.append(one)
    return found


def check_same_data(path: Any, before: Any, now: list[dict[str, Any]] | None) -> None:
    """Refuse other data than those a run was begun with, as far as shapes, means and deviations tell.

    Raises:
        UsageError: they differ.
    """
    if now is None or not isinstance(before, list):
        return
    if len(before) == len(now) and all(map(_alike, before, now)):
        return
    raise UsageError(
        f"{path} was begun on other data: {_shown(before)}; these are {_shown(now)}. Resume it with the same data; "
        "to go on with others, begin a new run from its parameters (hg.training.trained_model)."
    )


def _alike(before: Any, now: Mapping[str, Any]) -> bool:
    if not isinstance(before, Mapping) or any(before.get(name) != now[name] for name in ("shape", "dtype")):
        return False
    if "mean" not in now:
        return True
    try:
        was = float(before["mean"]), float(before["deviation"])  # "NaN" and "Infinity" are read as what they are
    except (KeyError, TypeError, ValueError):
        return False
    mean, deviation = now["mean"], now["deviation"]
    reach = _NEAR * max(deviation, _NEAR * abs(mean)) if math.isfinite(mean) and math.isfinite(deviation) else 0.0
    return all(
        one == other or (math.isnan(one) and math.isnan(other)) or abs(one - other) <= reach
        for one, other in zip(was, (mean, deviation), strict=True)
    )


def _shown(arrays: Any) -> str:
    texts = []
    for one in arrays if isinstance(arrays, list) else []:
        if isinstance(one, Mapping):
            about = f", mean {one['mean']:.4g}" if isinstance(one.get("mean"), float) else ""
            texts.append(f"{one.get('dtype')}{one.get('shape')}{about}")
    return "; ".join(texts[:4]) + (" ..." if len(texts) > 4 else "") or "nothing"
