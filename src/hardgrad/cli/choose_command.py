"""``hardgrad choose``: which method to train with, from a few answers."""

from __future__ import annotations

import dataclasses
import json
import sys
import textwrap
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Any, Literal

import tyro

from ..core import Order, UsageError, did_you_mean
from ..zoo._advice import OTHER, Advice, Question, advise, named, read_derivative
from ..zoo._families import Method, family
from ..zoo._guide import Basis, Row
from ..zoo._guide_applications import APPLICATIONS
from ..zoo._guide_architectures import ARCHITECTURES
from ..zoo._guide_derivatives import DERIVATIVES
from ..zoo._measured import about, conditions, measured, nearest_column
from ._options import parse, unset

GUIDE = "How do I train this thing?"
"""The page of the documentation with all tables."""

_WIDTH = 80

_QUESTIONS: dict[str, tuple[str, tuple[Row, ...]]] = {
    "application": ("What is the model to do?", (*APPLICATIONS, OTHER)),
    "architecture": ("What is it made of?", (*ARCHITECTURES, OTHER)),
    "derivative": ("What is there to learn from? A derivative that ...", DERIVATIVES),
}

_DERIVATIVES = "what there is to learn from; " + "; ".join(f"{row.name}: {row.title.lower()}" for row in DERIVATIVES)


@dataclasses.dataclass(frozen=True)
class Options:
    """What is to be trained. At a terminal, what is left out is asked for."""

    application: Literal["ask", "control", "classification", "language", "forecasting", "poles", "sound", "other"] = (
        "ask"
    )
    """what the model is to do"""
    architecture: Literal["ask", "lif", "state-space", "phasor", "recursive", "rational", "ode", "other"] = "ask"
    """what it is made of"""
    derivative: Annotated[
        Literal["ask", "exact", "surrogate", "explodes", "partial", "wrong", "online", "bits", "trained", "none"],
        tyro.conf.arg(help=_DERIVATIVES),
    ] = "ask"
    parameters: Annotated[int | None, unset("INT")] = None
    """how many numbers are trained"""
    budget: Annotated[int | None, unset("INT")] = None
    """evaluations of the objective that you can afford in all"""
    json: bool = False
    """as JSON"""


def run(arguments: list[str]) -> int:
    """Ask what is missing, and answer."""
    options = parse(
        Options,
        arguments,
        program="hardgrad choose",
        description="Say which method to train with, and why.\n\n"
        "Example: hardgrad choose --application control --architecture lif",
    )
    question = _question(options)
    advice = advise(question)
    if options.json:
        print(json.dumps([_as_json(one) for one in advice], indent=2, ensure_ascii=False))
    else:
        print("\n".join(_lines(question, advice)))
    return 0


def _question(options: Options) -> Question:
    missing = [name for name in _QUESTIONS if getattr(options, name) == "ask"]
    asking = bool(missing)
    if asking and not (sys.stdin and sys.stdin.isatty()):
        raise UsageError(
            f"there is no terminal to ask at. Give {', '.join(f'--{name}' for name in missing)}, such as:\n"
            "hardgrad choose --application control --architecture lif --derivative none"
        )
    numbers = {"parameters": options.parameters, "budget": options.budget}
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise UsageError(f"--{name} must be at least 1, got {value}.")
    rows = {
        name: _ask_row(*_QUESTIONS[name]) if name in missing else named(_QUESTIONS[name][1], getattr(options, name))
        for name in _QUESTIONS
    }
    if asking:
        wanted = {"parameters": "How many numbers are trained?", "budget": "How many evaluations in all?"}
        for name, words in wanted.items():
            if numbers[name] is None:
                numbers[name] = _ask_number(f"{words} (Enter: not known)")
    return Question(
        rows["application"], rows["architecture"], rows["derivative"], numbers["parameters"], numbers["budget"]
    )


def _ask_row(words: str, rows: Sequence[Row]) -> Row:
    _tell("")
    _tell(words)
    for number, row in enumerate(rows, 1):
        _tell(f"  {number}  {row.title}: {row.about}")
    names = [row.name for row in rows]
    while True:
        answer = _answer(f"1 to {len(rows)}: ")
        if answer in names:
            return rows[names.index(answer)]
        if answer.isdecimal() and 1 <= int(answer) <= len(rows):
            return rows[int(answer) - 1]
        if answer:
            _tell(f"'{answer}' is none of them. {did_you_mean(answer, names)}")
        else:
            _tell(f"There is no usual answer: type a number, or a name such as '{names[0]}'.")


def _ask_number(words: str) -> int | None:
    _tell("")
    _tell(words)
    while True:
        answer = _answer("a whole number: ").replace(",", "").replace("_", "")
        if not answer:
            return None
        if answer.isdecimal() and int(answer) >= 1:
            return int(answer)
        _tell(f"'{answer}' is not a whole number of 1 or more.")


def _answer(prompt: str) -> str:
    print(prompt, end="", file=sys.stderr, flush=True)
    try:
        return input().strip()
    except EOFError:
        raise UsageError("the answers ended before the questions. See: hardgrad choose --help.") from None


def _tell(text: str) -> None:
    """To the person, kept out of what is piped on."""
    print("\n".join(_wrap(text, 5)), file=sys.stderr)


def _lines(question: Question, advice: Sequence[Advice]) -> Iterator[str]:
    derivative, said = read_derivative(question)
    size = f", {question.parameters:,} parameters" if question.parameters else ""
    asked = f"{question.application.title} · {question.architecture.title} · derivative: {derivative.name}{size}"
    yield from _wrap(asked, 2)
    if said:
        yield said
    best, *others = [one for one in advice if one.possible]
    yield ""
    yield f"Take {_name(best)}"
    for subject, cell in best.reasons:
        yield from _item(subject, f"{cell.verdict.value}: {cell.why} [{cell.basis.value}]")
    if best.method:
        yield from _item("what it is", best.method.idea)
        yield from _item("evaluations", _cost(best.method))
        yield from _item("in Python", best.method.code)
    for note in best.notes:
        yield from _item("note", note)
    if best.recipe:
        yield from _item("recipe", f"{best.recipe}, which shows {best.shows}")
        yield f"\n  hardgrad run {best.recipe} --smoke"
    else:
        yield from _item("recipe", "none shows this")
        yield "\n  hardgrad list"
    if others:
        yield "\nThen, in this order:"
        for place, one in enumerate(others, 2):
            reason = one.reasons[0][1]
            why = f"{reason.why} [{reason.basis.value}]"
            yield from _wrap(f"  {place}  {_name(one)}: {' '.join([f'{why}.', *one.notes] if one.notes else [why])}", 5)
    yield from _measured(question, derivative, {one.order for one in advice if one.possible})
    refused = [family(one.order).title.lower() for one in advice if not one.possible]
    if refused:
        yield from _wrap(f"Not possible here: {', '.join(refused)}.", 0)
    yield f"\n[{'], ['.join(basis.value for basis in Basis)}]: what a verdict rests on."
    yield f"All of it: the page '{GUIDE}' of the documentation."


def _measured(question: Question, derivative: Row, possible: Collection[Order]) -> Iterator[str]:
    """The figures of the matrix's nearest problem, of the families that are possible here."""
    column = nearest_column(question.application, derivative)
    figures = {order: figure for order, figure in measured(column).items() if order in possible}
    if figures:
        yield ""
        yield from _wrap(f"Measured by hardgrad matrix ({conditions()}) on this problem: {about(column)}.", 0)
        for figure in sorted(figures.values(), key=lambda figure: figure.median):
            yield from _wrap(f"  {figure}{', none better' if figure.best else ''}", 4)
        yield "Shares of what a trivial answer scores: 1 has learned nothing, 0 is perfect."
        yield ""


def _name(one: Advice) -> str:
    kind = family(one.order)
    what = f"{kind.title.lower()}, order {one.order.value}" if one.order.value[0].isdigit() else kind.title.lower()
    return f"{one.method.shown} ({what})" if one.method else what


def _cost(method: Method) -> str:
    if method.cost is None:
        return method.price
    letters = {"n": method.cost.per_parameter, "m": method.cost.per_sample}
    meanings = [f"{letter} {what}" for letter, what in (("n", "parameters"), ("m", "samples")) if letters[letter]]
    return f"{method.cost} a step" + (f", for {' and '.join(meanings)}" if meanings else "")


def _item(title: str, text: str) -> Iterator[str]:
    yield from _wrap(f"  {title:<14}{text}", 16)


def _wrap(text: str, indent: int) -> list[str]:
    return textwrap.wrap(text, _WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def _as_json(one: Advice) -> dict[str, Any]:
    return {
        "order": one.order.value,
        "family": family(one.order).title,
        "possible": one.possible,
        "method": one.method.name if one.method else None,
        "package": one.method.package if one.method else None,
        "code": one.method.code if one.method else None,
        "evaluations": one.method.evaluations if one.method else None,
        "reasons": [
            {"subject": subject, "verdict": cell.verdict.value, "why": cell.why, "basis": cell.basis.value}
            for subject, cell in one.reasons
        ],
        "recipe": one.recipe,
        "notes": list(one.notes),
    }
