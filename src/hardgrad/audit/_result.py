"""What an audit found."""

from __future__ import annotations

import dataclasses
import math
import textwrap
from collections.abc import Iterator
from typing import Any

from ._agreement import Agreement
from ._growth import Growth
from ._noise import Scatter
from ._shares import Blind, Rows
from ._statistics import Interval, short

_WIDTH = 80
_MOST_METRICS = 12
_VAGUE = 0.5  # an interval of a share that is wider than this says little


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A judgement in plain words.

    Attributes:
        about: ``"trust"``, ``"scale"``, ``"noise"``, ``"growth"``, ``"blind"``, ``"rows"``, ``"activity"`` or
            ``"non-finite"``.
        level: ``"good"``, ``"note"``, ``"warn"`` or ``"bad"``.
        text: the judgement, with the figures it rests on.
        next: what to try: names that can be typed, or commands; empty where nothing need be done.
    """

    about: str
    level: str
    text: str
    next: str = ""


@dataclasses.dataclass(frozen=True)
class Audit:
    """How far a gradient can be trusted, at one point in training.

    Attributes:
        title: what was audited.
        estimator: the gradient in use, by the name of its class.
        order: the information it uses.
        promised_bias: what its contract says of its bias.
        parameters: how many scalars.
        loss: mean over the batches looked at.
        metrics: the objective's, likewise.
        no_derivative: why there is no gradient; empty where there is one.
        non_finite: share of the gradient's entries that are not finite, over all estimates.
        agreements: one a radius, rising.
        directions: directions at each radius.
        own: scatter by the estimator's own random numbers; None where it draws none, or nothing could be said.
        batches: scatter over batches and all random numbers; None where there is one batch and no random number.
        cost: evaluations of one estimate, a backward pass counted as two.
        growth: of the norm with a control; None if it was not asked for.
        blind: parameters without a gradient; None without a gradient at all.
        rows: of single rows; None if rows were not examined.
        controls: the controls it was measured at.
        evaluations: of the objective in all, a backward pass counted as two; one on a single row counts in full.
        seconds: that it took.
        notes: what could not be done, and why.
        verdicts: the page in plain words, the answer first.
    """

    title: str
    estimator: str
    order: str
    promised_bias: str
    parameters: int
    loss: float
    metrics: dict[str, float]
    no_derivative: str
    non_finite: float
    agreements: tuple[Agreement, ...]
    directions: int
    own: Scatter | None
    batches: Scatter | None
    cost: int
    growth: Growth | None
    blind: Blind | None
    rows: Rows | None
    controls: dict[str, float | int]
    evaluations: int
    seconds: float
    notes: tuple[str, ...]
    verdicts: tuple[Verdict, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Everything, in types that `hardgrad.core.dumps` writes."""
        return {"schema": "hardgrad.audit", "version": 1, **dataclasses.asdict(self)}

    def lines(self) -> list[str]:
        """The page, of lines of at most 80 letters."""
        return list(_lines(self))


def _lines(found: Audit) -> Iterator[str]:
    head = f"{found.title}: {found.estimator} (order {found.order}), {found.parameters:,} parameters"
    yield from _wrap(head, 2)
    controls = ", ".join(f"{name}={_plain(value)}" for name, value in found.controls.items())
    yield from _wrap(f"loss {found.loss:.6g}" + (f"; {controls}" if controls else ""), 2)
    yield ""
    for verdict in found.verdicts:
        yield from _wrap(f"{_SIGNS[verdict.level]} {verdict.text}", 2)
        if verdict.next:
            yield from _wrap(f"  next: {verdict.next}", 8)
    yield "(+ good, o to know, ! beware, x bad)"
    yield ""
    yield from _agreement_lines(found)
    yield from _noise_lines(found)
    yield from _growth_lines(found)
    yield from _shares_lines(found)
    for note in found.notes:
        yield from _wrap(note, 0)
    yield f"{found.evaluations:,} evaluations (a backward pass counts as two), {found.seconds:.1f} s"


_SIGNS = {"good": "+", "note": "o", "warn": "!", "bad": "x"}


def _agreement_lines(found: Audit) -> Iterator[str]:
    yield f"beside the slope of the loss averaged over a ball; {found.directions} directions"
    if found.no_derivative:
        yield f"{'radius':>7}{'sigma':>9}{'linear':>8}{'slope':>22}"
        for one in found.agreements:
            figures = f"{one.linear.value:>8.0%}{one.slope!s:>22}" if one.judged else f"  {_why(one)}"
            yield f"{one.radius:>7g}{one.sigma:>9.1e}{figures}"
        yield "linear: of the slopes' mean square, what any one gradient could explain"
        yield from _wrap(_step(found), 2)
        yield ""
        return
    yield f"{'radius':>7}{'sigma':>9}{'linear':>8}{'cosine':>20}{'norm ratio':>18}{'bias':>18}"
    for one in found.agreements:
        start = f"{one.radius:>7g}{one.sigma:>9.1e}"
        if not one.judged:
            yield f"{start}  {_why(one)}"
            continue
        linear = f"{one.linear.value:.0%}" if math.isfinite(one.linear.value) else "-"
        linear += "" if _clear(one.linear) else "?"
        ratio, off = _compact(one.norm_ratio), _compact(one.bias)
        yield f"{start}{linear:>8}{_compact(one.cosine):>20}{ratio:>18}{off:>18}"
    yield "linear: of the slopes' mean square, what any one gradient could explain;"
    yield "norm ratio, bias: relative to the averaged loss's slope; [95 % intervals]"
    yield from _wrap(_step(found), 2)
    if any(not _clear(one.linear) for one in found.agreements if one.judged):
        yield "?: too few directions to say"
    yield ""


def _step(found: Audit) -> str:
    """What connects radii with the steps of an optimiser: Adam moves each parameter by about its rate."""
    rate, one = found.controls.get("learning_rate"), found.agreements[0]
    text = "sigma: change of each parameter; a step of Adam changes each by about its rate"
    if isinstance(rate, float) and one.sigma > 0:
        text += f": here by {rate:.2g}, a radius of {rate * one.radius / one.sigma:.2g}"
    return text


def _clear(one: Interval) -> bool:
    return one.high - one.low <= _VAGUE


def _compact(one: Interval) -> str:
    text = str(one).replace(", ", " ")
    return text if len(text) <= 17 else short(one.value)


def _why(one: Agreement) -> str:
    if one.state == "rounding":
        return f"not judged: {one.rounding:.0%} of the slopes is rounding of the loss"
    if one.state == "flat":
        return "not judged: the loss does not change, or by less than rounding"
    return f"not judged: {one.non_finite:.0%} of the losses are not finite"


def _noise_lines(found: Audit) -> Iterator[str]:
    columns = [("own random numbers", found.own), ("batches", found.batches)]
    shown = [(name, one) for name, one in columns if one is not None and not one.quiet]
    if not shown:
        return
    rows: dict[int, dict[str, float]] = {}
    cost = {}
    for name, one in shown:
        for mean in one.averaged:
            rows.setdefault(mean.estimates, {})[name] = mean.signal_to_noise
            cost[mean.estimates] = mean.evaluations
    yield f"{'estimates':>9}{'evaluations':>13}" + "".join(f"{f'S/N, {name}':>25}" for name, _ in shown)
    for count in sorted(rows):
        figures = "".join(f"{_figure(rows[count].get(name)):>25}" for name, _ in shown)
        yield f"{count:>9}{cost[count]:>13,}{figures}"
    for name, one in shown:
        needed = "unknown: the mean can't be told from 0"
        if math.isfinite(one.evaluations_for_one):
            needed = f"{math.ceil(one.evaluations_for_one):,} evaluations"
        yield from _wrap(f"S/N of one, {name}: {one.signal_to_noise}; S/N 1 takes {needed}", 2)
    yield ""


def _figure(value: float | None) -> str:
    return "-" if value is None else short(value)


def _growth_lines(found: Audit) -> Iterator[str]:
    if found.growth is None:
        return
    one = found.growth
    yield f"{one.control:>9}{'median norm':>15}{'largest':>12}{'not finite':>12}"
    for value, median, largest, lost in zip(one.values, one.median, one.largest, one.non_finite, strict=True):
        yield f"{value:>9}{median:>15.4g}{largest:>12.4g}{lost:>12.0%}"
    yield f"{one.law}: x{short(one.per_doubling)} a doubling, x{one.per_step:.5g} a step"
    yield ""


def _shares_lines(found: Audit) -> Iterator[str]:
    if found.rows is not None:
        one = found.rows
        text = f"rows: {len(one.norms)} examined; "
        if math.isfinite(one.half):
            largest = f", the largest is {short(one.largest)} times the median" if math.isfinite(one.largest) else ""
            text += f"half of all norm is in {one.half:.0%} of them{largest}; "
        yield from _wrap(f"{text}{one.silent:.0%} have no gradient", 2)
    if found.blind is not None and found.blind.share > 0:
        blind = found.blind
        yield from _wrap(
            f"gradient exactly 0: {blind.share:.1%} of the parameters"
            + (f"; the loss's slope along them {blind.response}" if math.isfinite(blind.radius) else ""),
            2,
        )
    if found.metrics:
        shown = list(found.metrics.items())[:_MOST_METRICS]
        yield from _wrap("the objective says: " + ", ".join(f"{name} {value:.4g}" for name, value in shown), 2)


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _wrap(text: str, indent: int) -> list[str]:
    lead = text[: len(text) - len(text.lstrip(" "))]
    return textwrap.wrap(
        text.strip(), _WIDTH, initial_indent=lead, subsequent_indent=" " * indent, break_long_words=True
    ) or [""]
