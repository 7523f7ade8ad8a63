"""Retrieval compares texts by their words without endings; rare words weigh more than common ones."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from poise_git.search.context.retrieval import Corpus, stems

TEXTS = {
    "entropy": "Entropy collapses early; exploration ends.",
    "length": "Responses become longer, and longer, without being better.",
    "clip": "Tokens are clipped early.",
    "nothing": "a b !",
}


def test_words_lose_their_endings_and_short_words_are_dropped() -> None:
    assert stems("Exploring EXPLORATION of pass@8, a KL-term") == ["explo", "explo", "pass@", "term"]


def test_the_cosine_matches_the_formula() -> None:
    found = Corpus(TEXTS).similarities("exploring early")
    documents = {name: Counter(stems(text)) for name, text in TEXTS.items() if name != "nothing"}

    def weights(counts: Counter[str]) -> dict[str, float]:
        raw = {
            word: (1 + math.log(count))
            * (1 + math.log((1 + len(documents)) / (1 + sum(word in each for each in documents.values()))))
            for word, count in counts.items()
        }
        length = math.sqrt(sum(value**2 for value in raw.values()))
        return {word: value / length for word, value in raw.items()}

    asked = weights(Counter(stems("exploring early")))
    for name, counts in documents.items():
        own = weights(counts)
        assert found[name] == pytest.approx(sum(value * own.get(word, 0.0) for word, value in asked.items()))
    assert "nothing" not in found
    assert found["entropy"] > found["clip"] > found["length"] == 0


def test_a_text_is_most_similar_to_itself() -> None:
    corpus = Corpus(TEXTS)
    for name in ("entropy", "length", "clip"):
        assert corpus.similarities(TEXTS[name])[name] == pytest.approx(1.0)


def test_texts_without_words_have_no_similarity() -> None:
    assert Corpus({}).similarities("entropy") == {}
    assert Corpus({"nothing": "a b"}).similarities("entropy") == {}
    assert set(Corpus(TEXTS).similarities("").values()) == {0.0}
