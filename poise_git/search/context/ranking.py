"""Rank literature cards and reflections on other candidates by their relevance to a parent."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from poise_git.archive import Archive
from poise_git.search.context.context import CandidateRecord
from poise_git.search.context.references import Reference, ReferencePool
from poise_git.search.context.retrieval import Corpus
from poise_git.search.literature import Card

# Read the reflections of this many candidates with the closest mechanisms, and show the best ones.
NEAREST = 64
RELATED = 3
CONTRAST_WEIGHT = 0.5


@dataclass(frozen=True)
class Ranking:
    """Relevance to parents of one state of the archive."""

    archive: Archive
    among: ReferencePool
    cards: Sequence[Card]
    literature_corpus: Corpus
    directive: str
    _corpora: dict[frozenset[str], Corpus] = field(default_factory=dict)

    def literature(self, parent: CandidateRecord) -> tuple[tuple[Card, str], ...]:
        """Every card with the reason for its rank, the most relevant first.

        relevance = the mean of the available scores below, the last with half weight
          weak spots   similarity to the weak spots of the parent's reflection, divided by the largest of any card
          directive    similarity to the directive, divided in the same way
          contrast     share of the card's stages that the mechanisms of the parent's lineage do not touch; 0 for a card
                       in the lineage
        """
        words = self.among.words(parent.candidate.name)
        touched = self.among.touched(parent.candidate.name)
        criteria = {
            name: _scaled(self.literature_corpus.similarities(query))
            for name, query in (("weak spots", weak_spots(parent)), ("directive", self.directive))
        }
        found = []
        for card in self.cards:
            marks = {name: values.get(card.name, 0.0) for name, values in criteria.items() if values}
            own = card.name in words
            contrast = 0.0 if own else len(set(card.stages) - touched) / len(card.stages)
            relevance = (sum(marks.values()) + CONTRAST_WEIGHT * contrast) / (len(marks) + CONTRAST_WEIGHT)
            marks["stages not changed so far"] = contrast
            details = ", ".join(f"{name} {mark:.2f}" for name, mark in marks.items())
            reason = f"relevance {relevance:.2f} ({details})" + ("; the parent's lineage already has it" if own else "")
            found.append((relevance, card, reason))
        return tuple((card, reason) for _, card, reason in sorted(found, key=lambda entry: (-entry[0], entry[1].name)))

    def reflections(self, parent: CandidateRecord, shown: Collection[str]) -> tuple[Reference, ...]:
        """The candidates, other than those `shown`, whose reflections are most relevant to the parent."""
        name = parent.candidate.name
        near = self.among.nearest(name, NEAREST)
        query = f"{parent.candidate.mechanism} {weak_spots(parent)} {self.directive}"
        found = self._corpus_of(frozenset(near)).similarities(query)
        others = [each for each in near if each not in (name, *shown) and found.get(each)]
        best = sorted(others, key=lambda each: -found[each])
        return tuple(
            Reference(
                each,
                f"its reflection is similar to the parent's mechanism and weak spots (similarity {found[each]:.2f}, "
                f"among the {NEAREST} candidates with the closest mechanisms)",
            )
            for each in best[:RELATED]
        )

    def _corpus_of(self, names: frozenset[str]) -> Corpus:
        """The corpus of the reflections of `names`, cached: in a small archive every parent has the same corpus."""
        if names not in self._corpora:
            prose = {name: self.archive.prose_of(self.among.genealogy[name]) for name in sorted(names)}
            self._corpora[names] = Corpus(prose)
        return self._corpora[names]


def weak_spots(parent: CandidateRecord) -> str:
    """The weak spots of the parent's reflection: its tags, else its advice, else its whole text."""
    if parent.reflection is None:
        return ""
    facts = parent.reflection.facts
    return " ".join(facts.focus or facts.next) or parent.reflection.prose


def searched(card: Card) -> str:
    """The text of a card for retrieval."""
    return " ".join((card.title, card.family, card.mechanism, card.helps, *card.tags))


def _scaled(similarities: Mapping[str, float]) -> dict[str, float]:
    """Each value divided by the largest; 0 if all are 0."""
    largest = max(similarities.values(), default=0.0)
    return {name: value / largest for name, value in similarities.items()} if largest > 0 else {}
