"""Which texts are nearest to a query: scikit-learn's TF-IDF over words. No network, no model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import HashingVectorizer

# Words count by their first letters, so that endings do not matter, and shorter ones than three letters not at all.
STEM = 5
SHORTEST = 3
# Words are told apart by a hash of so many values, which needs no vocabulary: a text's words are counted once.
FEATURES = 2**16


class Corpus:
    """Texts by name, whose words are counted when they are first asked about."""

    def __init__(self) -> None:
        self._rows: dict[str, Any] = {}

    def similarities(self, texts: Mapping[str, str], query: str) -> dict[str, float]:
        """The cosine, in [0, 1], of each text and the query, weighted by TF-IDF among these texts.

        tf-idf = (1 + ln tf) (1 + ln((1 + n) / (1 + df))), as scikit-learn has it. A name means the same text always.
        """
        # scikit-learn takes long to load.
        from scipy.sparse import vstack
        from sklearn.feature_extraction.text import TfidfTransformer

        if not texts or not stems(query):
            return dict.fromkeys(texts, 0.0)
        fresh = [name for name in texts if name not in self._rows]
        if fresh:
            counts = self._counter.transform([texts[name] for name in fresh])
            self._rows |= {name: counts[place] for place, name in enumerate(fresh)}
        counts = vstack([self._rows[name] for name in texts], format="csr")
        weighting = TfidfTransformer(sublinear_tf=True)
        weighted = weighting.fit_transform(counts)
        asked = weighting.transform(self._counter.transform([query]))
        found = (weighted @ asked.T).toarray()[:, 0]
        return {name: min(float(value), 1.0) for name, value in zip(texts, found, strict=True)}

    @cached_property
    def _counter(self) -> HashingVectorizer:
        from sklearn.feature_extraction.text import HashingVectorizer

        return HashingVectorizer(analyzer=stems, n_features=FEATURES, norm=None, alternate_sign=False)


def stems(text: str) -> Sequence[str]:
    """The words of a text, without their endings."""
    return [word[:STEM] for word in re.findall(r"[a-z0-9@]+", text.lower()) if len(word) >= SHORTEST]
