"""Find the texts closest to a query with scikit-learn's TF-IDF over words, without a network or a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

# Cut words to five letters, so that endings do not matter. Ignore words of one or two letters.
_STEM = re.compile(r"([a-z0-9@]{3,5})[a-z0-9@]*")

# Remember this many recent queries: the parents of a round share some.
ANSWERS = 64


class Corpus:
    """Texts by name, weighted by TF-IDF among themselves.

    tf-idf = (1 + ln tf) (1 + ln((1 + n) / (1 + df))), as in scikit-learn.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        # Import here, because scikit-learn loads slowly.
        from sklearn.feature_extraction.text import TfidfVectorizer

        words = {name: found for name, text in texts.items() if (found := stems(text))}
        self._names = list(words)
        self._answers = lru_cache(ANSWERS)(self._compare)
        self._vectorizer = TfidfVectorizer(analyzer=list, sublinear_tf=True)
        self._rows = self._vectorizer.fit_transform(words.values()) if words else None

    def similarities(self, query: str) -> Mapping[str, float]:
        """The cosine similarity, in [0, 1], of the query and each text that has words."""
        return self._answers(query)

    def _compare(self, query: str) -> Mapping[str, float]:
        if self._rows is None:
            return {}
        found = (self._rows @ self._vectorizer.transform([stems(query)]).T).toarray()[:, 0]
        return {name: min(float(value), 1.0) for name, value in zip(self._names, found, strict=True)}


def stems(text: str) -> list[str]:
    """The words of a text, without their endings."""
    return _STEM.findall(text.lower())
