"""`language-s5`: its texts, the n-grams against their definition, the model, and what a run keeps."""

from __future__ import annotations

import json
import math
import re
import sys
from collections import Counter, defaultdict

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardgrad.core import UsageError
from hardgrad.zoo import _language_grammar as grammar
from hardgrad.zoo import _language_text, language_s5
from hardgrad.zoo._language_model import _PIECE, CharacterModel, NextCharacter, read, write
from hardgrad.zoo._language_ngrams import KneserNey, most_orders
from hardgrad.zoo._language_report import table_lines, verdict_lines
from hardgrad.zoo._language_text import BOUNDARY, UNKNOWN, corpus, documentation, split
from hardgrad.zoo._launch import launch

TINY = language_s5.Config(**language_s5.RECIPE.smoke)


# The grammar, read back by a parser of its own that adds up all ways to read a text.


def probability_of(text, topic):
    nouns, transitive, intransitive = grammar._TOPICS[topic]

    def weights(words, ending=""):
        listed = words.split()
        total = sum(1 / k for k in range(1, len(listed) + 1))
        return {word + ending: 1 / k / total for k, word in enumerate(listed, 1)}

    def word(table, tokens, i):
        return {i + 1: table[tokens[i]]} if i < len(tokens) and tokens[i] in table else {}

    def then(found, following):
        ends = defaultdict(float)
        for i, p in found.items():
            for j, q in following(i).items():
                ends[j] += p * q
        return ends

    def either(*weighted):
        ends = defaultdict(float)
        for share, found in weighted:
            for i, p in found.items():
                ends[i] += share * p
        return ends

    def subject(tokens, i, many, depth):
        found = word(weights(grammar._DETERMINERS[many]), tokens, i)
        adjective = then(found, lambda i: word(weights(grammar._ADJECTIVES), tokens, i))
        found = either((1 - grammar._ADJECTIVE, found), (grammar._ADJECTIVE, adjective))
        found = then(found, lambda i: word(weights(nouns, "s" * many), tokens, i))
        if depth == grammar._DEEPEST:
            return found
        clause_ = then(found, lambda i: clause(tokens, i, many, depth + 1))
        return either((1 - grammar._CLAUSE, found), (grammar._CLAUSE, clause_))

    def clause(tokens, i, many, depth):
        found = word({"that": 1.0}, tokens, i)
        if not found:
            return {}
        by_object = [
            then(
                then(found, lambda i, m=m: subject(tokens, i, m, depth)),
                lambda i, m=m: word(weights(transitive, "s" * (not m)), tokens, i),
            )
            for m in (False, True)
        ]
        by_subject = then(found, lambda i: predicate(tokens, i, many, depth))
        share = grammar._OBJECT_CLAUSE
        return either((1 - share, by_subject), (share / 2, by_object[0]), (share / 2, by_object[1]))

    def predicate(tokens, i, many, depth):
        ending = "s" * (not many)
        acting = word(weights(transitive, ending), tokens, i)
        objects = [then(acting, lambda i, m=m: subject(tokens, i, m, depth)) for m in (False, True)]
        still = word(weights(intransitive, ending), tokens, i)
        adverb = then(still, lambda i: word(weights(grammar._ADVERBS), tokens, i))
        still = either((1 - grammar._ADVERB, still), (grammar._ADVERB, adverb))
        share = grammar._TRANSITIVE
        return either((1 - share, still), (share / 2, objects[0]), (share / 2, objects[1]))

    def sentence(tokens):
        whole = [
            then(subject(tokens, 0, many, 0), lambda i, many=many: predicate(tokens, i, many, 0)).get(len(tokens), 0.0)
            for many in (False, True)
        ]
        return 0.5 * sum(whole)

    sentences = text.removesuffix(".\n").split(". ")
    lengths = grammar._MOST + 1 - grammar._FEWEST
    return [1 / len(grammar._TOPICS) / lengths, *(sentence(one.lower().split()) for one in sentences)]


def test_the_bits_of_a_document_are_those_of_all_ways_to_read_it():
    for written in grammar.documents(6, np.random.default_rng(3)):
        ways = [probability_of(written.text, topic) for topic in grammar._TOPICS]
        readable = [way for way in ways if all(way)]
        assert len(readable) == 1  # a topic owns its words
        assert -sum(map(math.log2, readable[0])) == pytest.approx(written.bits, abs=1e-9)


def test_words_belong_to_one_topic_and_take_an_s():
    words = Counter(word for lists in grammar._TOPICS.values() for word in set(" ".join(lists).split()))
    assert max(words.values()) == 1
    assert not [word for word in words if re.search(r"(s|sh|ch|x|z|[^aeiou]y)$", word)]


def test_a_document_is_drawn_again_from_its_seed():
    one, two = (grammar.documents(3, np.random.default_rng(5)) for _ in range(2))
    assert one == two
    assert all(12 <= text.count(".") <= 27 and text.endswith(".\n") for text, _ in one)


def test_documentation_repeats_no_paragraph():
    texts = documentation()
    assert len(texts) > 60
    assert sum(map(len, texts.values())) > 250_000
    paragraphs = Counter(
        " ".join(part.split()) for text in texts.values() for part in re.split(r"\n\s*\n", text) if part.strip()
    )
    assert max(paragraphs.values()) == 1


def test_missing_documentation_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(UsageError, match=r"lacks the module pydoc_data\.topics"):
        corpus("documentation", 0, documents=20)


@pytest.mark.parametrize("text", ["grammar", "documentation"])
def test_a_corpus_is_split_by_document(text):
    found = corpus(text, 1, documents=60)
    names = [name for part in found.names.values() for name in part]
    assert len(names) == len(set(names))
    sizes = {part: len(stream) for part, stream in found.streams.items()}
    for part in ("validation", "test"):
        assert 0.05 < sizes[part] / sum(sizes.values()) < 0.13
    for part, stream in found.streams.items():
        assert stream[0] == stream[-1] == BOUNDARY
        assert np.sum(stream == BOUNDARY) == len(found.names[part]) + 1
        assert stream.max() < len(found.alphabet)
        assert found.unknown_share[part] < 1e-3
    assert corpus(text, 1, documents=60).digest == found.digest
    assert corpus(text, 2, documents=60).names != found.names
    if text == "documentation":
        shown = found.text(found.streams["test"])
        first = documentation()[found.names["test"][0]]
        assert shown.startswith("\f" + re.sub(f"[^{re.escape(found.alphabet)}]", "�", first) + "\f")
        assert not found.least
    else:
        assert 0.4 < found.least["test"] < 0.7


def test_rare_characters_are_unknown(monkeypatch):
    texts = {f"{i}": "plain text. " * 20 for i in range(30)}
    monkeypatch.setattr(_language_text, "documentation", lambda: {**texts, "odd": "ß" + "plain text. " * 25})
    found = corpus("documentation", 0, documents=20)
    part = next(part for part, names in found.names.items() if "odd" in names)
    assert np.sum(found.streams[part] == UNKNOWN) == 1
    assert "ß" not in found.alphabet


def test_too_few_documents_are_refused():
    with pytest.raises(UsageError, match="too few for training"):
        corpus("grammar", 0, documents=2)


def test_splits_fill_up():
    parts = split({str(i): "x" * 100 for i in range(100)}, 0)
    assert {part: len(names) for part, names in parts.items()} == {"training": 76, "validation": 12, "test": 12}


# The n-grams.


def kneser_ney(text, symbols, order):
    """The definition, in dictionaries: p of a symbol after a context."""
    tables = {}
    for n in range(1, order + 1):
        grams = Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))
        if n < order:
            longer = {tuple(text[i : i + n + 1]) for i in range(len(text) - n)}
            grams = Counter(gram[1:] for gram in longer)
        of = Counter(grams.values())
        one = of[1] / (of[1] + 2 * of[2]) if of[1] and of[2] else 0.5
        cuts = [0.0, one, one, one]
        if of[1] and of[2]:
            for k in (1, 2, 3):
                above = sum(m for count, m in of.items() if count >= 5) if k + 1 == 5 else of[k + 1]
                cuts[k] = min(max(k - (k + 1) * one * above / of[k] if of[k] and above else one, 0.05), k)
        tables[n] = grams, cuts

    def probability(symbol, context):
        p = 1 / symbols
        for n in range(1, min(order, len(context) + 1) + 1):
            grams, cuts = tables[n]
            past = tuple(context[len(context) - n + 1 :])
            counts = {s: grams[(*past, s)] for s in range(symbols) if (*past, s) in grams}
            total = sum(counts.values())
            if total:
                held = sum(cuts[min(c, 3)] for c in counts.values())
                count = counts.get(symbol, 0)
                p = (max(count - cuts[min(count, 3)], 0.0) + held * p) / total
        return p

    return probability


@pytest.mark.parametrize("order", [1, 2, 4])
def test_ngrams_are_their_definition(order):
    random = np.random.default_rng(0)
    text, other = (np.minimum(random.geometric(0.35, size), 6) - 1 for size in (400, 60))
    model = KneserNey(text, 6, 4)
    # A model of order n uses whole counts at n and continuation counts below it.
    wanted = kneser_ney(text.tolist(), 6, order)
    exact = [wanted(int(other[t]), other[max(t - order + 1, 0) : t].tolist()) for t in range(1, len(other))]
    np.testing.assert_allclose(model.probabilities(other, order), exact, rtol=1e-12)
    np.testing.assert_allclose(model.bits(other, order), -np.log2(exact), rtol=1e-12)


def test_probabilities_add_up_to_one():
    text = np.frombuffer(b"the cat sat on the mat; the dog sat on the log" * 3, np.uint8) % 32
    model = KneserNey(text, 32, 5)
    for context in (text[3:9], np.arange(6)):
        for order in (1, 3, 5):
            total = sum(model.probabilities(np.append(context, s), order)[-1] for s in range(32))
            assert total == pytest.approx(1.0, abs=1e-12)


def test_what_ngrams_refuse():
    text = np.zeros(50, np.uint8)
    assert most_orders(101) == 9
    with pytest.raises(UsageError, match="at most 9"):
        KneserNey(text, 101, 10)
    with pytest.raises(UsageError, match="at least 3 symbols"):
        KneserNey(text[:2], 4, 3)
    with pytest.raises(UsageError, match="order must be a whole number"):
        KneserNey(text, 4, 3).bits(text, 4)


# The model.


@eqx.filter_jit
def advance(model, text):
    """Logits of a text from its beginning."""
    return model.advance(model.init_state(len(text)), text)[1]


@eqx.filter_jit
def bound(window, model, rows, key):
    return NextCharacter(window)(model, rows, {}, key)


@pytest.fixture(scope="module")
def model():
    return CharacterModel(7, width=8, states=4, layers=2, reach=3, dropout=0.2, key=jax.random.key(0))


def test_the_past_decides_and_the_future_does_not(model):
    text = jax.random.randint(jax.random.key(1), (2, 12), 0, 7)
    logits = advance(model, text)
    changed = advance(model, text.at[:, 6].set((text[:, 6] + 1) % 7))
    np.testing.assert_array_equal(logits[:, :6], changed[:, :6])
    assert float(jnp.abs(logits[:, 11] - changed[:, 11]).max()) > 1e-6  # beyond the short look back


def test_reading_in_pieces_is_reading_at_once(model):
    stream = np.random.default_rng(0).integers(0, 7, _PIECE + 40).astype(np.uint8)
    bits = read(model, stream)
    assert bits.shape == (len(stream) - 1,)
    logits = advance(eqx.nn.inference_mode(model), jnp.asarray(stream[None, :-1]))
    exact = -np.asarray(jax.nn.log_softmax(logits))[0, np.arange(len(bits)), stream[1:]] / math.log(2)
    np.testing.assert_allclose(bits, exact, rtol=0, atol=1e-4)


def test_writing_follows_the_distribution(model):
    start = np.array([BOUNDARY, 3, 5])
    cold = write(model, start, 9, temperature=1e-4, key=jax.random.key(0))
    logits = advance(model, jnp.asarray([[*start, *cold]]))
    np.testing.assert_array_equal(cold, jnp.argmax(logits[0, 2:-1], axis=-1))  # the likeliest each time
    with pytest.raises(UsageError, match="temperature must be above 0"):
        write(model, start, 3, temperature=0.0, key=jax.random.key(0))


def test_the_objective_is_cross_entropy_of_a_window(model):
    rows = jax.random.randint(jax.random.key(2), (3, 6), 0, 7).astype(jnp.uint8)
    frozen = eqx.nn.inference_mode(model)
    loss, metrics = bound(5, frozen, rows, jax.random.key(0))
    logits = advance(frozen, rows[:, :-1])
    exact = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), np.asarray(rows[:, 1:, None], int), 2).mean()
    assert float(loss) == pytest.approx(exact, rel=1e-5)
    assert float(metrics["bits"]) == pytest.approx(exact / math.log(2), rel=1e-5)
    places = {float(bound(3, frozen, rows, jax.random.key(k))[0]) for k in range(6)}
    assert len(places) > 2  # windows lie anywhere in a row
    with pytest.raises(UsageError, match="rows must be longer"):
        NextCharacter(6)(frozen, rows, {}, jax.random.key(0))


# The recipe.


def test_mixtures_are_means_of_probabilities():
    ours, theirs = np.array([1.0, 3.0]), np.array([2.0, 1.0])
    np.testing.assert_allclose(2.0 ** -language_s5.mixture(ours, theirs, 0.25), 0.25 * 2.0**-ours + 0.75 * 2.0**-theirs)
    np.testing.assert_allclose(language_s5.mixture(ours, theirs, 0.0), theirs)
    np.testing.assert_allclose(language_s5.mixture(ours, theirs, 1.0), ours)
    assert language_s5.best_share(np.array([1.0, 5.0]), np.array([2.0, 9.0])) == 1.0


def test_bits_by_position():
    starts = np.array([0, 3, 8])  # documents of three and five symbols
    found = language_s5.by_position(starts, {"s5": np.array([5.0, 1, 1, 7, 3, 3, 2, 2])})
    assert found["edges"] == [1, 2, 4, 8]
    assert found["s5"] == [6.0, 2.0, 2.0]


def test_verdicts_follow_the_figures():
    sizes = np.array([100, 100, 100])
    better, worse, same = np.array([[1.0, 1.1, 0.9], [1.5, 1.5, 1.5], [1.4, 1.0, 1.1]])
    assert verdict_lines(better, worse, sizes, 6)[0] == "S5 beats the 6-gram by 0.500 ± 0.058 bits a character."
    assert "loses to" in verdict_lines(worse, better, sizes, 6)[0]
    tie = ["S5 ties with the 6-gram.", "It is better on 2 of 3 test documents."]
    assert verdict_lines(better, same, sizes, 6) == tie
    assert "ties with" in verdict_lines(better[:1], same[:1], sizes[:1], 6)[0]
    bits = {"validation": 1.0, "test": 2.0}
    lines = table_lines({"12": bits}, {"S5 and 12-gram, mixed": bits})
    assert max(map(len, lines)) <= 80
    assert lines[1].split()[-1] == "4.0000"


def test_training_and_validation_windows():
    rows, held = language_s5.data(TINY), language_s5.validation(TINY)
    assert rows.dtype == np.uint8
    assert rows.shape[1] == 2 * TINY.window
    assert held.shape[1] == TINY.window + 1
    np.testing.assert_array_equal(rows[0, TINY.window :], rows[1, : TINY.window])  # every character is in a row


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"documents": 3}, "documents must be at least 20"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"dropout": 1.0}, "dropout is a probability"),
    ],
)
def test_wrong_settings_are_named(settings, said):
    with pytest.raises(UsageError, match=said):
        language_s5.Config(**settings)


def test_a_window_longer_than_the_text_is_refused():
    with pytest.raises(UsageError, match="take a shorter one"):
        language_s5.data(language_s5.Config(documents=20, window=20_000))


def test_what_a_run_keeps(tmp_path):
    done = launch("language-s5", TINY, run=tmp_path / "run")
    result = json.loads(done.folder.result_path.read_text())
    bits = result["bits"]
    assert list(bits["ngrams"]) == ["1", "2", "3", "4", "5"]
    assert {"S5", "the grammar itself"} < set(bits)
    assert result["order"] == int(min(bits["ngrams"], key=lambda n: bits["ngrams"][n]["validation"]))
    assert all(bits["the grammar itself"]["test"] < row["test"] for row in bits["ngrams"].values())
    documents = result["documents"]
    mean = np.average(documents["s5"], weights=documents["sizes"])
    assert mean == pytest.approx(bits["S5"]["test"])
    assert len(result["sample"]) == TINY.sample
    assert result["corpus"]["symbols"]["test"] == 1 + sum(documents["sizes"])
    assert max(map(len, done.lines)) <= 80
    assert len(language_s5.figures(done.folder)) == 3


@pytest.mark.slow
def test_it_beats_the_best_ngram(tmp_path):
    """In an eighth of the full budget."""
    config = language_s5.Config(documents=120, epochs=8, batch_size=4, width=64, window=128)
    bits = json.loads(launch("language-s5", config, run=tmp_path / "run").folder.result_path.read_text())["bits"]
    assert bits["S5"]["test"] < min(row["test"] for row in bits["ngrams"].values()) - 0.05
