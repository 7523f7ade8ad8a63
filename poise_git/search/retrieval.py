"""Which texts are nearest to a query: scikit-learn's TF-IDF over words. No network, no model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# Words count by their first letters, so that endings do not matter, and shorter ones than three letters not at all.
STEM = 5
SHORTEST = 3


class Corpus:
    """Texts by name, weighted by TF-IDF among themselves.

    tf-idf = (1 + ln tf) (1 + ln((1 + n) / (1 + df))), as scikit-learn has it.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        # scikit-learn takes long to load.
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._names = [name for name, text in texts.items() if stems(text)]
        self._answers: dict[str, dict[str, float]] = {}
        self._vectorizer = TfidfVectorizer(analyzer=stems, sublinear_tf=True)
        self._rows = self._vectorizer.fit_transform([texts[name] for name in self._names]) if self._names else None

    def similarities(self, query: str) -> Mapping[str, float]:
        """The cosine, in [0, 1], of the query and each text that has words."""
        if self._rows is None:
            return {}
        if query in self._answers:
            return self._answers[query]
        found = (self._rows @ self._vectorizer.transform([query]).T).toarray()[:, 0]
        self._answers[query] = {name: min(float(value), 1.0) for name, value in zip(self._names, found, strict=True)}
        return self._answers[query]


def stems(text: str) -> Sequence[str]:
    """The words of a text, without their endings."""
    return [word[:STEM] for word in re.findall(r"[a-z0-9@]+", text.lower()) if len(word) >= SHORTEST]
