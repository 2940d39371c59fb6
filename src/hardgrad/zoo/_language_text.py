"""A corpus of characters: documents split into training, validation and test, none in two of them.

Two texts. One is drawn from a grammar (`_language_grammar`), whose best possible prediction is known. The other every
CPython ships: `pydoc_data.topics`, what ``help()`` shows. It is the language reference cut into some 80 topics, half
a million characters under Python's own licence. Long topics repeat shorter ones, which would put test text into
training: a paragraph is kept in the shortest topic that has it and dropped from the others. Topics differ a little
between versions of Python, and figures with them: `Corpus.digest` says which text it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import re
from collections import Counter
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..core import UsageError
from . import _language_grammar

TextName = Literal["grammar", "documentation"]
"""The texts by the names the command line knows."""

BOUNDARY, UNKNOWN = 0, 1
"""Symbols: what stands between documents, and any character that training text hardly has."""

PARTS = ("training", "validation", "test")
_HELD_OUT = 0.12  # of all characters in validation and in test, at most
_SHORTEST = 200  # characters of a document
_COMMON = 5  # times a character occurs in the training text, else it is UNKNOWN


def documentation() -> dict[str, str]:
    """Topics by name, each paragraph in one of them.

    Raises:
        UsageError: this Python has been stripped of its topics.
    """
    try:
        topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    except ImportError:
        raise UsageError(
            "this Python lacks the module pydoc_data.topics, which CPython ships and this recipe reads. Install the "
            "whole standard library (on Debian the package libpython3-stdlib)."
        ) from None
    seen: set[str] = set()
    kept = {}
    for name in sorted(topics, key=lambda name: (len(topics[name]), name)):
        paragraphs = []
        for paragraph in re.split(r"\n\s*\n", topics[name]):
            words = " ".join(paragraph.split())
            if words not in seen:
                seen.add(words)
                paragraphs.append(paragraph.strip("\n"))
        text = "\n\n".join(paragraphs) + "\n"
        if len(text) >= _SHORTEST:
            kept[name] = text
    return kept


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Documents split into training, validation and test, as symbols.

    Attributes:
        names: of the documents in each part.
        streams: each part's documents in a row, a `BOUNDARY` before, between and after them; uint8 ``[symbol]``.
        alphabet: the character of each symbol; those of `BOUNDARY` and `UNKNOWN` are a form feed and "�".
        digest: of all text: SHA-256 in hexadecimal.
        least: of each part the bits a symbol that its author spent, or empty where they are not known.
    """

    names: dict[str, list[str]]
    streams: dict[str, NDArray[np.uint8]]
    alphabet: str
    digest: str
    least: dict[str, float]

    @cached_property
    def unknown_share(self) -> dict[str, float]:
        """Share of each part's characters that are `UNKNOWN`."""
        return {part: float(np.mean(stream == UNKNOWN)) for part, stream in self.streams.items()}

    def text(self, symbols: Any) -> str:
        """Symbols as text."""
        return "".join(self.alphabet[int(symbol)] for symbol in symbols)


def split(texts: dict[str, str], seed: int) -> dict[str, list[str]]:
    """Names of documents by part: test and validation take documents in random order while they have room."""
    total = sum(map(len, texts.values()))
    parts: dict[str, list[str]] = {part: [] for part in PARTS}
    sizes = dict.fromkeys(PARTS, 0)
    names = sorted(texts)
    for i in np.random.default_rng(seed).permutation(len(names)):
        size = len(texts[names[i]])
        room = (part for part in ("test", "validation") if sizes[part] + size <= _HELD_OUT * total)
        part = next(room, "training")
        parts[part].append(names[i])
        sizes[part] += size
    return parts


def corpus(text: TextName, seed: int, *, documents: int) -> Corpus:
    """The corpus.

    Args:
        text: which.
        seed: of the split, and of the grammar's draws.
        documents: how many the grammar writes; documentation has those it has.

    Raises:
        UsageError: too few documents to split, or documentation that this Python lacks.
    """
    spent: dict[str, float] = {}
    if text == "documentation":
        texts = documentation()
    else:
        written = _language_grammar.documents(documents, np.random.default_rng((seed, 1)))
        texts = {f"{i:05d}": one.text for i, one in enumerate(written)}
        spent = {f"{i:05d}": one.bits for i, one in enumerate(written)}
    names = split(texts, seed)
    if not all(names.values()):
        raise UsageError(f"{len(texts)} documents are too few for training, validation and test; take at least 20.")
    counts = Counter("".join(texts[name] for name in names["training"]))
    common = "".join(sorted(letter for letter, count in counts.items() if count >= _COMMON))
    symbol = {letter: i for i, letter in enumerate(common, 2)}

    def stream(part: str) -> NDArray[np.uint8]:
        symbols = [BOUNDARY]
        for name in names[part]:
            symbols += [symbol.get(letter, UNKNOWN) for letter in texts[name]] + [BOUNDARY]
        return np.array(symbols, np.uint8)

    streams = {part: stream(part) for part in PARTS}
    told = {part: len(stream) - 1 for part, stream in streams.items()}
    least = {part: sum(spent[name] for name in names[part]) / told[part] for part in PARTS} if spent else {}
    digest = hashlib.sha256("\f".join(texts[name] for name in sorted(texts)).encode()).hexdigest()
    return Corpus(names, streams, "\f\ufffd" + common, digest, least)
