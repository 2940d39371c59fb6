"""The C program of a rollout: the file beside this one, with a field's polynomial written out in front of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from .._fields import Exponents
from ._terms import WRITTEN_OUT

_REAL = {
    "float32": ("float", "int32_t", "INT32_MAX", "tanhf"),
    "float64": ("double", "int64_t", "INT64_MAX", "tanh"),
}
_KIND = {"none": "NONE", "tanh": "TANH", "knee": "KNEE"}
_FIELD = "/* FIELD */\n"
_ARGUMENTS = "const vec *c, vec x, vec v"
_BACK = f"{_ARGUMENTS}, vec a, vec *by_x, vec *by_v, vec *g"


@lru_cache(maxsize=32)
def kernel_source(exponents: Exponents, kind: str, dtype: str) -> str:
    """The program for one field, one kind of bounds and one dtype."""
    real, integer, signless, tanh = _REAL[dtype]
    front = [
        f"typedef {real} real;",
        f"typedef {integer} integer;",
        f"#define SIGNLESS {signless}",
        f"#define TANH_OF {tanh}",
        f"#define TERMS {len(exponents)}",
        f"#define KIND {_KIND[kind]}",
    ]
    body = Path(__file__).with_name("_kernel.c").read_text(encoding="utf-8")
    return "#include <stdint.h>\n" + "\n".join(front) + "\n\n" + body.replace(_FIELD, _field(exponents))


class _Lines:
    """Statements of a C function, with names for what they work out."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._powers: dict[tuple[str, int], str] = {}

    def let(self, expression: str) -> str:
        name = f"t{len(self.lines)}"
        self.lines.append(f"  const vec {name} = {expression};")
        return name

    def power(self, u: str, n: int) -> str:
        """u^n for n ≥ 1, a product of two smaller powers, worked out once."""
        if n == 1:
            return u
        if (u, n) not in self._powers:
            self._powers[u, n] = self.let(f"{self.power(u, n // 2)} * {self.power(u, n - n // 2)}")
        return self._powers[u, n]

    def horner(self, terms: dict[int, str], u: str, *, slope: bool = False) -> tuple[str, str | None]:
        """Σ terms[n] u^n and, if asked for, its derivative; None where that is 0."""
        order = sorted(terms, reverse=True)
        value, change = terms[order[0]], None
        for above, n in zip(order, [*order[1:], 0], strict=True):
            gap = above - n
            if gap and slope:
                rise = value if gap == 1 else f"{gap} * {value} * {self.power(u, gap - 1)}"
                change = self.let(rise if change is None else f"{change} * {self.power(u, gap)} + {rise}")
            added = f" + {terms[n]}" if n != above and n in terms else ""
            if gap:
                value = self.let(f"{value} * {self.power(u, gap)}{added}")
        return value, change


def _rows(exponents: Exponents) -> dict[int, dict[int, str]]:
    rows: dict[int, dict[int, str]] = {}
    for j, (p, k) in enumerate(exponents):
        rows.setdefault(p, {})[k] = f"c[{j} * UNITS]"
    return rows


def _field(exponents: Exponents) -> str:
    """The four functions that the program expects, Horner's scheme in v inside Horner's scheme in x."""
    how = "INLINE" if len(exponents) <= WRITTEN_OUT else "APART"

    lines = _Lines()
    value, _ = lines.horner({p: lines.horner(row, "v")[0] for p, row in _rows(exponents).items()}, "x")
    field = [f"{how} vec field({_ARGUMENTS}) {{", *lines.lines, f"  return {value};", "}"]

    lines = _Lines()
    both = {p: lines.horner(row, "v", slope=True) for p, row in _rows(exponents).items()}
    _, by_x = lines.horner({p: value for p, (value, _) in both.items()}, "x", slope=True)
    slopes = {p: slope for p, (_, slope) in both.items() if slope is not None}
    by_v = lines.horner(slopes, "x")[0] if slopes else None
    of_x = {p: "a" if p == 0 else lines.let(f"a * {lines.power('x', p)}") for p in sorted({p for p, _ in exponents})}
    sums = [
        f"  g[{j}] += {of_x[p]}" + (f" * {lines.power('v', k)};" if k else ";") for j, (p, k) in enumerate(exponents)
    ]
    back = [f"{how} void field_back({_BACK}) {{", *lines.lines, *sums, *_given(by_x, by_v), "}"]

    place = {pair: j for j, pair in enumerate(exponents)}
    x, v = (place.get(pair) for pair in ((1, 0), (0, 1)))
    parts = [f"c[{j} * UNITS] * {u}" for j, u in ((x, "x"), (v, "v")) if j is not None]
    linear = [f"INLINE vec linear({_ARGUMENTS}) {{", f"  return {' + '.join(parts) or '(vec){0}'};", "}"]
    sums = [f"  g[{j}] += a * {u};" for j, u in ((x, "x"), (v, "v")) if j is not None]
    slopes_of = [None if j is None else f"c[{j} * UNITS]" for j in (x, v)]
    linear_back = [f"INLINE void linear_back({_BACK}) {{", *sums, *_given(*slopes_of), "}"]
    return "\n".join([*field, "", *back, "", *linear, "", *linear_back, ""])


def _given(by_x: str | None, by_v: str | None) -> list[str]:
    product: Callable[[str | None], str] = lambda slope: "(vec){0}" if slope is None else f"a * {slope}"
    return [f"  *by_x = {product(by_x)};", f"  *by_v = {product(by_v)};"]
