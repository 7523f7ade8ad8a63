"""Score how well a card matches the words of a directive, of a parent's weak spots, or of a regime."""

from __future__ import annotations

import re
from collections.abc import Iterable

from poise_git.search.literature import Card

_SMALL_WORDS = frozenset(("and", "are", "but", "for", "from", "into", "more", "not", "that", "the", "than", "with"))


def words_of(text: str) -> frozenset[str]:
    """The words of a text that can select mechanisms."""
    return frozenset(word for word in re.findall(r"[a-z0-9@]+", text.lower()) if len(word) > 2) - _SMALL_WORDS


def relevance(card: Card, words: frozenset[str]) -> float:
    """How well the card matches `words`: 1 for a tag, less for words of its text; at most 1."""
    tags = frozenset(part for tag in card.tags for part in (tag, *tag.split("-")))
    text = words_of(f"{card.title} {card.mechanism} {card.helps}")
    hits = [1.0 if _akin(word, tags) else 0.3 if _akin(word, text) else 0.0 for word in words]
    return min(sum(hits), 1.0)


def _akin(word: str, others: Iterable[str]) -> bool:
    """Whether two words are equal up to their endings."""
    return any(word == other or (min(len(word), len(other)) >= 5 and word[:5] == other[:5]) for other in others)
