"""Plain numbers that differ between programs become inputs of one program.

A float in an objective or a model, such as the weight of a loss, is part of a compiled program. Where programs differ
in nothing but such floats, they are passed in like arrays, and one program serves all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from ..training._program import Flat, Static


class Parts(NamedTuple):
    """The two sides of a run's method, objective and model.

    Attributes:
        static: what its program is compiled for; None in the places of the rest.
        values: what is passed in; None in the places of the former.
    """

    static: Static
    values: Flat


def lift(runs: Sequence[Parts]) -> list[Parts]:
    """The same with the floats that differ among the values; what differs otherwise is left as it is."""
    static = [jax.tree.flatten(one.static.tree, is_leaf=_is_none) for one in runs]
    values = [jax.tree.flatten(one.values.tree(), is_leaf=_is_none) for one in runs]
    if len({len(leaves) for leaves, _ in (*static, *values)}) > 1:
        return list(runs)
    columns = zip(*(leaves for leaves, _ in static), strict=True)
    places = [i for i, column in enumerate(columns) if _floats_that_differ(column)]
    if not places:
        return list(runs)
    found = []
    for (fixed, structure), (passed, of_values) in zip(static, values, strict=True):
        for place in places:
            fixed[place], passed[place] = None, fixed[place]
        found.append(
            Parts(Static.of(jax.tree.unflatten(structure, fixed)), Flat.of(jax.tree.unflatten(of_values, passed)))
        )
    return found


def _is_none(x: Any) -> bool:
    return x is None


def _floats_that_differ(column: tuple[Any, ...]) -> bool:
    return all(type(x) is float for x in column) and len({x.hex() for x in column}) > 1
