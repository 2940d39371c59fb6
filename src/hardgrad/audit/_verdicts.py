"""Judgements in plain words, from the figures.

Where the thresholds are from: a cosine of 0.9 is a direction 26° off, along which a short step falls by 0.9 of what it
could; at 0.5 it is half. A signal-to-noise of 1 is where noise takes half of a step's expected square.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from ._agreement import Agreement
from ._result import Audit, Verdict
from ._statistics import Interval, short

_RIGHT, _USEFUL = 0.9, 0.5
_LENGTH = 1.25
_LINEAR, _ROUGH = 0.9, 0.5
_QUIET, _LOUD = 1.0, 0.3
_BIASED = 0.03
_NEAR, _CURVED = 0.1, 2.0
_FEW_ROWS, _WORST_ROW = 0.05, 100.0
_SOME = 0.25
_FEW, _SOME_HUNDRED = 64, 300
_LEVELS = ("bad", "warn", "note", "good")
_LENGTHLESS = "an optimiser that does not read lengths (optax.adam), or Hybrid"


def judge(found: Audit) -> tuple[Verdict, ...]:
    """The answer first, then what it rests on, the worst first."""
    if found.no_derivative:
        return (_no_derivative(found), *_scale(found, _reference(found)))
    reference = _reference(found)
    answer = _trust(found, reference)
    others = [
        *_noise(found),
        *_growth(found),
        *_blind(found),
        *_rows(found),
        *_scale(found, reference),
        *_activity(found),
    ]
    others.sort(key=lambda one: _LEVELS.index(one.level))
    worst = min(
        (one for one in others if one.level in ("bad", "warn")), default=None, key=lambda o: _LEVELS.index(o.level)
    )
    if answer.level == "good" and worst is not None:
        text = answer.text.replace("Trust it:", "Trust its direction here, with a reservation:", 1)
        answer = dataclasses.replace(answer, level="note", text=text)
    return (answer, *others)


def _reference(found: Audit) -> Agreement | None:
    """The smallest ball on which the loss is about as near to linear as on any that is not large."""
    judged = [one for one in found.agreements if one.judged and math.isfinite(one.linear.value)]
    judged = [one for one in judged if one.radius <= _NEAR] or judged
    if not judged:
        return None
    most = max(one.linear.value for one in judged)
    return next(one for one in judged if one.linear.value >= _LINEAR * most)


def _trust(found: Audit, reference: Agreement | None) -> Verdict:
    if found.non_finite > 0:
        text = f"Do not trust it: {_share(found.non_finite)} of its entries are not finite."
        return Verdict("non-finite", "bad", text, _without(found))
    if found.blind is not None and found.blind.share == 1.0:
        if found.blind.responds:
            text = "Do not trust it: the gradient is exactly 0 everywhere, and the loss does change."
            return Verdict("trust", "bad", text, _without(found))
        text = "There is nothing to follow: the gradient is 0, and the loss does not change at any of the radii."
        return Verdict("trust", "bad", text, "another start, larger radii (radii=...), or more data in a batch")
    if reference is None:
        text = (
            "Can't tell: at no radius is there a slope to compare with, for rounding or because the loss is flat there."
        )
        return Verdict("trust", "warn", text, "larger radii (radii=...), or float64")
    cosine, where = reference.cosine, f"radius {reference.radius:g}"
    beside = f"at {where} its cosine with the slope of the averaged loss is {_words(cosine)}"
    if not math.isfinite(cosine.value) or not cosine.known:
        noisy = found.own is not None and not found.own.signal_to_noise.low > 0
        if noisy:
            text = f"Can't tell: over {found.own.estimates if found.own else 0} estimates its noise hides its mean."
            return Verdict("trust", "warn", text, "more estimates (estimates=...), or more directions in each of them")
        text = f"Can't tell: {beside} with {found.directions} directions."
        return Verdict("trust", "warn", text, _more(found))
    ratio = reference.norm_ratio
    wrong_length = ratio.low > _LENGTH or ratio.high < 1 / _LENGTH
    if cosine.low >= _RIGHT:
        reach = _reach(found, reference)
        if wrong_length:
            text = f"Trust its direction, not its length: {beside}{reach}; its norm is {_words(ratio)} of the slope's."
            return Verdict("trust", "note", text, _LENGTHLESS)
        right = "its length is right:" if 0.95 <= ratio.value <= 1.05 else "its length is"
        text = f"Trust it: {beside}{reach}, and {right} {_words(ratio)} of the slope's."
        if reference.bias.low > _BIASED:
            text += f" A bias is there: {_words(reference.bias)} of the slope."
        return Verdict("trust", "good", text)
    wider = _wider(found, reference)
    if wider is not None and wider.cosine.low >= _RIGHT:
        text = (
            f"Trust it for longer steps only: {beside}, and {_words(wider.cosine)} at radius {wider.radius:g}. Its "
            f"bias there is {_words(wider.bias)} of the slope."
        )
        return Verdict("trust", "note", text, f"shorter steps need samples: {_corrected(found)}")
    if cosine.high >= _RIGHT and wrong_length:
        text = (
            f"Its direction may be right, its length is not: {beside}, and its norm is {_words(ratio)} of the slope's."
        )
        return Verdict("trust", "note", text, f"{_LENGTHLESS}; {_more(found)}")
    if cosine.high >= _RIGHT:
        text = f"It may be right, and can't be told from one that is not: {beside}."
        return Verdict("trust", "note", text, _more(found))
    rate = f"{beside}; its error is {_words(reference.bias)} of the slope"
    if wider is not None:
        rate += f". At radius {wider.radius:g} the cosine is {_words(wider.cosine)}"
    if cosine.high < 0:
        text = f"Do not trust it: it points uphill. {_capital(rate)}."
        return Verdict("trust", "bad", text, _without(found))
    if cosine.low >= _USEFUL:
        text = f"Use it with care: it points down, but not where the loss falls fastest. {_capital(rate)}."
        return Verdict("trust", "warn", text, _corrected(found))
    if cosine.low > 0:
        text = f"Trust it little: it points down, and far from where the loss falls fastest. {_capital(rate)}."
        return Verdict("trust", "warn", text, _corrected(found))
    text = f"Do not trust it: it may have nothing to do with the loss. {_capital(rate)}."
    return Verdict("trust", "bad", text, _without(found))


def _wider(found: Audit, reference: Agreement) -> Agreement | None:
    """The ball with a clearly better cosine than a smaller one's, if there is any that is not large."""
    wider = [one for one in found.agreements if one.judged and reference.radius < one.radius <= _NEAR]
    best = max(wider, key=lambda one: one.cosine.low if one.cosine.known else -2.0, default=None)
    return best if best is not None and best.cosine.low > reference.cosine.high else None


def _more(found: Audit) -> str:
    if found.own is not None and not found.own.quiet:
        estimates, directions = 4 * found.own.estimates, 4 * found.directions
        return f"--estimates {estimates} --directions {directions}, so that the intervals shrink"
    return f"--directions {4 * found.directions}, so that the intervals shrink"


def _reach(found: Audit, reference: Agreement) -> str:
    """How far the direction stays right."""
    last = reference.radius
    for one in found.agreements:
        if one.radius > last and one.judged:
            if not one.cosine.low >= _RIGHT:
                break
            last = one.radius
    return f" and at least {_RIGHT} up to radius {last:g}" if last > reference.radius else ""


def _no_derivative(found: Audit) -> Verdict:
    why = found.no_derivative.rstrip(".")
    return Verdict("trust", "bad", f"No gradient to trust: {why}.", _without(found))


def _widest(found: Audit) -> Agreement | None:
    """The widest ball on which the loss is about as near to linear as on any: samples there show most."""
    reference = _reference(found)
    if reference is None:
        return None
    near = [one for one in found.agreements if one.judged and reference.radius <= one.radius <= _NEAR]
    near = [one for one in near if one.linear.value >= _LINEAR * reference.linear.value]
    return near[-1] if near else reference


def _sigma(found: Audit) -> str:
    widest = _widest(found)
    return "0.1" if widest is None else f"{widest.sigma:.1g}"


def _at(found: Audit, radius: float) -> Agreement | None:
    return next((one for one in found.agreements if one.radius == radius), None)


def _without(found: Audit) -> str:
    """What needs no derivative, by the number of parameters; first what the matrix has ahead on its black box."""
    n, sigma, widest = found.parameters, _sigma(found), _widest(found)
    spread = f"{found.agreements[-1].sigma:.1g}"  # a population begins wide
    if n <= _FEW:
        smooth = widest is not None and widest.linear.value >= _LINEAR
        second = (
            f"CentralDifference({widest.distance:.1g})" if smooth and widest is not None else f"AntitheticNES({sigma})"
        )
        return f"EvolutionMethod(CMAES(16, {spread})): {n} parameters are few; else {second}"
    if n <= _SOME_HUNDRED:
        return f"EvolutionMethod(CMAES(32, {spread})) or AntitheticNES({sigma}, pairs=32), for {n} parameters"
    return (
        f"EvolutionMethod(OpenES(64, {spread}, optax.adam(1e-2))), AntitheticNES({sigma}, pairs=64) or SPSA({sigma}, "
        f"directions=64); with {n:,} parameters expect noise about {math.sqrt(n / 64):.0f} times the signal"
    )


def _corrected(found: Audit) -> str:
    if found.order == "0":
        return "more directions or pairs, or a spread nearer to the radius at which the loss is nearly linear"
    return f"Hybrid(Autodiff(), AntitheticNES({_sigma(found)})), or GuidedES(Autodiff(), {_sigma(found)})"


def _noise(found: Audit) -> Iterator[Verdict]:
    every = found.batches
    if every is None or every.quiet:
        if found.own is None or found.own.quiet:
            return
        every = found.own
    ratio = every.signal_to_noise
    if ratio.value >= _QUIET:
        yield Verdict("noise", "good", f"One estimate is more signal than noise: signal-to-noise {_words(ratio)}.")
        return
    needed = "no number measured here would do"
    if math.isfinite(every.evaluations_for_one):
        times = _times(every.evaluations_for_one / found.cost)
        needed = f"about {math.ceil(every.evaluations_for_one):,} evaluations, {times}"
    text = f"A step is mostly noise: signal-to-noise {_words(ratio)}; to reach 1 takes {needed} an estimate's."
    if not math.isfinite(every.evaluations_for_one):
        text = (
            f"The mean gradient can't be told from 0: signal-to-noise {_words(ratio)} over {every.estimates} estimates."
        )
    own = found.own
    by_itself = own is not None and not own.quiet and own.signal_to_noise.value < 2 * max(ratio.value, 1e-12)
    cure = "a larger batch, or a smaller learning rate"
    if by_itself:
        exact = f", or CentralDifference: {2 * found.parameters + 1} evaluations" if found.parameters <= _FEW else ""
        cure = f"more pairs or directions in each estimate: its own random numbers make the noise{exact}"
    yield Verdict("noise", "warn" if ratio.value < _LOUD else "note", text, cure)


def _times(value: float) -> str:
    return f"{short(value)} times" if value < 99.5 else f"{value:,.0f} times"


def _growth(found: Audit) -> Iterator[Verdict]:
    one = found.growth
    if one is None:
        return
    first, last = one.values[0], one.values[-1]
    reached = f"from {one.control} {first} to {last} its norm goes from {one.median[0]:.3g} to {one.median[-1]:.3g}"
    if one.law == "overflow":
        lost = next(v for v, m in zip(one.values, one.median, strict=True) if not math.isfinite(m))
        yield Verdict("growth", "bad", f"It overflows at {one.control} {lost}.", _shorter(one.control))
    elif one.law == "exponential":
        text = f"It grows exponentially with {one.control}: {one.per_step:.4g} times a step; {reached}."
        yield Verdict("growth", "bad", text, _shorter(one.control))
    elif one.law in ("flat", "falling", "linear"):
        word = {"flat": "does not grow", "falling": "falls", "linear": "grows linearly"}[one.law]
        yield Verdict("growth", "good", f"It {word} with {one.control}: {reached}.")
    else:
        law = "as a power of" if one.law == "polynomial" else "steeply, by no clear law, with"
        level = "note" if one.law == "polynomial" else "warn"
        cure = "" if level == "note" else _shorter(one.control)
        yield Verdict(
            "growth", level, f"It grows {law} {one.control}: {_times(one.per_doubling)} a doubling; {reached}.", cure
        )


def _shorter(name: str) -> str:
    return f"a shorter {name} that grows while training (Horizon, LinearDepth), clip_by_global_norm, or AntitheticNES"


def _blind(found: Audit) -> Iterator[Verdict]:
    one = found.blind
    if one is None or one.share == 0 or one.share == 1:
        return
    what = f"It is exactly 0 for {_share(one.share)} of the parameters"
    arrays = f" (all of {', '.join(one.whole[:3])}{' …' if len(one.whole) > 3 else ''})" if one.whole else ""
    if not one.responds:
        text = f"{what}{arrays}; the loss does not respond to them either, up to radius {one.radius:g}."
        yield Verdict("blind", "note", text)
        return
    at = _at(found, one.radius)
    whole = at.slope.value if at is not None else math.nan
    serious = math.isfinite(whole) and one.response.value > 0.1 * whole
    text = (
        f"{what}{arrays}, though the loss responds to them: at radius {one.radius:g} with a slope of "
        f"{_words(one.response)}, where that of all parameters is {short(whole)}."
    )
    part = ", ".join(f'"{name}"' for name in one.whole[:2])
    cure = f"Hybrid(Autodiff(), AntitheticNES({_sigma(found)}))"
    if part:
        cure = f"Blocks({{{part.split(', ')[0]}: AntitheticNES({_sigma(found)}), ...: Autodiff()}}), or {cure}"
    yield Verdict("blind", "warn" if serious else "note", text, cure if serious else "")


def _rows(found: Audit) -> Iterator[Verdict]:
    one = found.rows
    if one is None:
        return
    if one.non_finite > 0:
        text = (
            f"{_share(one.non_finite)} of the rows give a gradient that is not finite: they sit on a pole or overflow."
        )
        yield Verdict("rows", "bad", text, _tamed())
    elif one.half <= _FEW_ROWS or one.largest >= _WORST_ROW:
        text = (
            f"Few rows make the gradient: {_share(one.half)} of {len(one.norms)} carry half of all norm, the largest "
            f"is {short(one.largest)} times the median."
        )
        yield Verdict("rows", "warn", text, _tamed())
    if one.silent >= _SOME:
        yield Verdict("rows", "note", f"{_share(one.silent)} of the rows have no gradient.")


def _tamed() -> str:
    return (
        "a loss that is bounded at poles (rational.SCMObjective, recipe rational-pole), gradients clipped row by row "
        "(oscillators.clip_examples), or clip_by_global_norm"
    )


def _scale(found: Audit, reference: Agreement | None) -> Iterator[Verdict]:
    if reference is None:
        return
    right = reference.cosine.low >= _RIGHT
    for one in found.agreements:
        if not (right and one.judged and reference.radius < one.radius <= _NEAR):
            continue
        if one.norm_ratio.value > _CURVED or (one.cosine.known and one.cosine.high < _RIGHT):
            text = (
                f"It holds near by only: at radius {one.radius:g} its cosine is {_words(one.cosine)} and its norm "
                f"{short(one.norm_ratio.value)} times the slope of the averaged loss."
            )
            yield Verdict("scale", "warn", text, "shorter steps (clip_by_global_norm, a smaller learning rate)")
            break
    drowned = [one.radius for one in found.agreements if one.state == "rounding"]
    if drowned:
        radii = ", ".join(f"{r:g}" for r in drowned)
        yield Verdict("scale", "note", f"At radius {radii} rounding drowns the loss's slope: probes must be longer.")
    rough = [one for one in found.agreements if one.judged and one.linear.high < _ROUGH]
    if rough and (below := [one for one in rough if one.radius < reference.radius]):
        text = (
            f"The loss is rough below radius {reference.radius:g}: at {below[0].radius:g} no gradient explains more "
            f"than {below[0].linear.high:.0%} of what it does. Smoothing with sigma {reference.sigma:.2g} fits it."
        )
        yield Verdict("scale", "note", text, f"AntitheticNES({reference.sigma:.1g}) to see the loss at that scale")


def _activity(found: Audit) -> Iterator[Verdict]:
    for name, value in found.metrics.items():
        if ("silent" in name or "saturated" in name) and value >= _SOME:
            kind = "silent" if "silent" in name else "saturated"
            text = f"The objective counts {_share(value)} {kind} units: little or no gradient passes them."
            yield Verdict(
                "activity", "note", text, "spiking.SilencePenalty, or a larger weight scale" if kind == "silent" else ""
            )


def _words(one: Interval) -> str:
    if not one.known:
        return f"{short(one.value)} (unbounded)"
    if short(one.low) == short(one.value) == short(one.high):
        return short(one.value)
    return f"{short(one.value)} ({short(one.low)} to {short(one.high)})"


def _share(value: float) -> str:
    return f"{value:.1%}" if 0 < value < 0.1 or 0.995 <= value < 1 else f"{value:.0%}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
