"""Configs: frozen dataclasses to JSON and back, strictly.

A field may carry ``metadata={"alias": "D"}``: a second name it is known by in published files.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from ..core import UsageError, did_you_mean, dumps

Config = TypeVar("Config")


def alias(name: str) -> dict[str, str]:
    """Metadata of a dataclass field that files may also call `name`."""
    return {"alias": name}


def read_config(config: type[Config], path: Path) -> Config:
    """A config from a JSON file.

    Raises:
        UsageError: no such file, not JSON, or not this config: every wrong field is named.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no config file {path}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read the config file {path}: {error}.") from error
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is not JSON: {error.msg} at line {error.lineno}, column {error.colno}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON that makes a config: {error}.") from error
    try:
        return from_json(config, content)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def from_json(config: type[Config], content: Any, *, where: str = "") -> Config:
    """A config from the value that JSON text stands for. Fields left out keep their defaults.

    Raises:
        UsageError: a field unknown, given twice, of another type, or out of range.
    """
    return typing.cast(Config, _dataclass(config, content, where))


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """A config with other values, checked like one that was read.

    Args:
        config: the config.
        settings: new values of fields, as JSON has them; a field of a field has a dotted name.

    Raises:
        UsageError: a field that there is not, or a value that does not fit.
    """
    content = json.loads(dumps(dataclasses.asdict(config)))  # type: ignore[call-overload]
    for name, value in settings.items():
        *way, last = name.split(".")
        place: Any = content
        for step in way:
            place = place.get(step) if isinstance(place, dict) else None
        if not isinstance(place, dict) or last not in place:
            known = place if isinstance(place, dict) else content
            raise UsageError(f"'{name}' is not a field of this config. {did_you_mean(last, known)}")
        place[last] = value
    return from_json(type(config), content)


def _dataclass(kind: Any, content: Any, where: str) -> Any:
    if not isinstance(content, dict):
        raise UsageError(f"{where or 'the config'} must be a JSON object, got {_shown(content)}.")
    hints = typing.get_type_hints(kind)
    names = {f.name: f.name for f in dataclasses.fields(kind)}
    names |= {f.metadata["alias"]: f.name for f in dataclasses.fields(kind) if "alias" in f.metadata}
    values: dict[str, Any] = {}
    for given, value in content.items():
        if given not in names:
            raise UsageError(f"'{where}{given}' is not a field of this config. {did_you_mean(given, names)}")
        if names[given] in values:
            raise UsageError(f"'{where}{given}' is given twice, under two names.")
        values[names[given]] = _value(hints[names[given]], value, f"{where}{given}")
    missing = [
        f.name
        for f in dataclasses.fields(kind)
        if f.name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise UsageError(f"{where or 'the config'} lacks {', '.join(map(repr, missing))}.")
    return kind(**values)


def _value(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is typing.Annotated:
        return _value(arguments[0], value, where)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        return _value(next(a for a in arguments if a is not type(None)), value, where)
    if origin is Literal:
        if value not in arguments:
            raise UsageError(f"'{where}' must be one of {', '.join(map(repr, arguments))}; got {_shown(value)}.")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise UsageError(f"'{where}' must be a list, got {_shown(value)}.")
        return tuple(_value(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, f"{where}.")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < 2**1023 else math.inf
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"'{where}' must be {_NAMES.get(kind, kind.__name__)}, got {_shown(value)}.")
    if kind is float and not math.isfinite(value):
        raise UsageError(f"'{where}' must be finite, got {value}.")
    return value


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def member_seeds(seed: int, members: int) -> list[int]:
    """The seeds of a run's members: no two runs share one, so that a search compares what is different."""
    return list(range(seed * members, (seed + 1) * members))


def check_range(config: Any, **at_least: float | int) -> None:
    """Raise `UsageError` naming the first field of `config` that is not finite or below its least value."""
    _check_finite(config, "")
    for name, least in at_least.items():
        value = getattr(config, name)
        if value is not None and not value >= least:
            raise UsageError(f"{name} must be at least {least}, got {value!r}.")


def _check_finite(value: Any, name: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{name} must be finite, got {value!r}.")
    if isinstance(value, tuple):
        for i, item in enumerate(value):
            _check_finite(item, f"{name}[{i}]")
    if dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            _check_finite(getattr(value, field.name), f"{name}.{field.name}" if name else field.name)
