"""Documents drawn from a small grammar of English, and how many bits their author spent on each.

    document  →  12 to 27 sentences, all on one of five topics
    sentence  →  subject(n) predicate(n) "."                       n: one or many
    subject   →  determiner(n) [adjective] noun(n) [clause(n)]     a clause within a clause is the deepest
    clause    →  "that" predicate(n)  |  "that" subject(m) transitive(m)
    predicate →  intransitive(n) [adverb]  |  transitive(n) subject(m)

What comes next depends on words far away: on the topic, which owns every noun and verb, and on the number of a noun
whose verb follows after a clause. Every choice is drawn with known probabilities and no text can be read in two ways.
So -log₂ of their product, over the characters, is the least bits a character that a model can hope for on average.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from typing import NamedTuple

import numpy as np

from ..core import whole_number

_TOPICS = {
    "sea": (
        "sailor captain anchor harbour island lantern whale storm vessel diver gull current",
        "follow drag rescue sight greet signal tow haul",
        "drift sink float surface glisten return",
    ),
    "court": (
        "judge lawyer suspect verdict clerk thief juror letter prisoner bailiff claim statute",
        "accuse question pardon summon quote defend charge doubt",
        "appeal resign object plead hesitate adjourn",
    ),
    "kitchen": (
        "baker oven kettle waiter onion recipe pudding spoon butcher guest lemon platter",
        "boil season serve taste stir order spill weigh",
        "simmer burn rise cool overflow complain",
    ),
    "forest": (
        "hunter badger ranger oak trail owl beetle river mushroom raven heron thicket",
        "shelter scent track startle chase conceal circle observe",
        "hide rustle grow sleep howl wander",
    ),
    "workshop": (
        "welder hammer engine joiner drill valve pulley apprentice girder gasket motor bolt",
        "repair fasten paint measure replace lift grease align",
        "rattle stall rotate squeak spin overheat",
    ),
}
_DETERMINERS = ("the this every each", "the these some many")
_ADJECTIVES = "old quiet heavy strange green broken"
_ADVERBS = "slowly again often tonight"
_ADJECTIVE, _CLAUSE, _OBJECT_CLAUSE, _TRANSITIVE, _ADVERB = 0.25, 0.4, 0.4, 0.6, 0.3
_DEEPEST = 2
_FEWEST, _MOST = 12, 27  # sentences of a document


class Written(NamedTuple):
    """A document.

    Attributes:
        text: its characters.
        bits: -log₂ of the probability with which it was drawn.
    """

    text: str
    bits: float


@functools.lru_cache(maxsize=64)
def _shelf(words: str) -> tuple[list[str], list[float]]:
    """Words, and the sums of their weights 1/k."""
    listed = words.split()
    return listed, list(itertools.accumulate(1 / k for k in range(1, len(listed) + 1)))


class _Author:
    """Draws choices and keeps count of their bits."""

    def __init__(self, random: np.random.Generator):
        self.random, self.bits = random, 0.0

    def one_of(self, words: str) -> str:
        """A word, the k-th with probability in proportion to 1/k."""
        listed, upper = _shelf(words)
        place = bisect.bisect_right(upper, self.random.random() * upper[-1])
        self.bits += math.log2((place + 1) * upper[-1])
        return listed[place]

    def chance(self, probability: float) -> bool:
        """Whether something of that probability happens."""
        happens = bool(self.random.random() < probability)
        self.bits -= math.log2(probability if happens else 1.0 - probability)
        return happens

    def document(self) -> str:
        name = list(_TOPICS)[int(self.random.integers(len(_TOPICS)))]
        count = int(self.random.integers(_FEWEST, _MOST + 1))
        self.bits += math.log2(len(_TOPICS)) + math.log2(_MOST + 1 - _FEWEST)
        self.nouns, self.transitive, self.intransitive = _TOPICS[name]
        return " ".join(self.sentence() for _ in range(count)) + "\n"

    def sentence(self) -> str:
        many = self.chance(0.5)
        words = f"{self.subject(many, 0)} {self.predicate(many, 0)}."
        return words[0].upper() + words[1:]

    def subject(self, many: bool, depth: int) -> str:
        words = [self.one_of(_DETERMINERS[many])]
        if self.chance(_ADJECTIVE):
            words.append(self.one_of(_ADJECTIVES))
        words.append(self.one_of(self.nouns) + "s" * many)
        if depth < _DEEPEST and self.chance(_CLAUSE):
            words.append(self.clause(many, depth + 1))
        return " ".join(words)

    def clause(self, many: bool, depth: int) -> str:
        if not self.chance(_OBJECT_CLAUSE):
            return f"that {self.predicate(many, depth)}"
        others = self.chance(0.5)
        return f"that {self.subject(others, depth)} {self.one_of(self.transitive)}{'s' * (not others)}"

    def predicate(self, many: bool, depth: int) -> str:
        ending = "s" * (not many)
        if self.chance(_TRANSITIVE):
            verb = self.one_of(self.transitive) + ending
            return f"{verb} {self.subject(self.chance(0.5), depth)}"
        verb = self.one_of(self.intransitive) + ending
        return f"{verb} {self.one_of(_ADVERBS)}" if self.chance(_ADVERB) else verb


def documents(count: int, random: np.random.Generator) -> list[Written]:
    """Documents of about 900 characters.

    Args:
        count: how many, at least 1.
        random: what draws them.
    """
    written = []
    for _ in range(whole_number("count", count, least=1)):
        author = _Author(random)
        text = author.document()
        written.append(Written(text, author.bits))
    return written
