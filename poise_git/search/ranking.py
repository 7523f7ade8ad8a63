"""What bears on a parent most: literature cards in order of relevance, and reflections on others."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from poise_git.archive import Archive
from poise_git.archive.entries import ROOT, Status
from poise_git.search.context import Known
from poise_git.search.literature import Card
from poise_git.search.references import Chosen, Field
from poise_git.search.retrieval import Corpus

# Reflections are read of so many candidates whose mechanisms are nearest to the parent's, and the best shown.
NEAREST = 64
RELATED = 3
CONTRAST_WEIGHT = 0.5


@dataclass(frozen=True)
class Ranking:
    """Relevance to parents of one state of the archive; the words of every text are counted once."""

    archive: Archive
    field: Field
    cards: Sequence[Card]
    directive: str
    corpus: Corpus

    def literature(self, parent: Known) -> tuple[tuple[Card, str], ...]:
        """Every card with why it stands where it stands, the most relevant first.

        relevance = the mean of what there is of these, the last with half weight
          weak spots   similarity to what the parent's reflection calls weak, over the largest of any card
          directive    similarity to the directive, likewise
          contrast     the share of the card's stages that no mechanism of the parent's line touches; of its own cards 0
        """
        words = self.field.words(parent.candidate.name)
        touched = self.field.stages_of(words)
        texts = {f"card {card.name}": searched(card) for card in self.cards}
        criteria = {
            name: _scaled(self.corpus.similarities(texts, query).values())
            for name, query in (("weak spots", weak_spots(parent)), ("directive", self.directive))
        }
        found = []
        for place, card in enumerate(self.cards):
            marks = {name: values[place] for name, values in criteria.items() if values}
            own = card.name in words
            contrast = 0.0 if own else len(set(card.stages) - touched) / len(card.stages)
            relevance = (sum(marks.values()) + CONTRAST_WEIGHT * contrast) / (len(marks) + CONTRAST_WEIGHT)
            marks["stages not touched so far"] = contrast
            details = ", ".join(f"{name} {mark:.2f}" for name, mark in marks.items())
            reason = f"relevance {relevance:.2f} ({details})" + ("; the parent's line has it already" if own else "")
            found.append((relevance, card, reason))
        return tuple((card, reason) for _, card, reason in sorted(found, key=lambda entry: (-entry[0], entry[1].name)))

    def reflections(self, parent: Known, shown: Collection[str]) -> tuple[Chosen, ...]:
        """The candidates, other than those `shown`, whose reflections bear most on the parent."""
        name = parent.candidate.name
        others = [
            candidate
            for candidate in self.field.genealogy
            if candidate.name not in (name, ROOT, *shown)
            and candidate.status_under(self.field.protocol) is Status.EVALUATED
        ]
        near = sorted(others, key=lambda candidate: self.field.distance(name, candidate.name))[:NEAREST]
        texts = {candidate.commit: self.archive.prose_of(candidate) for candidate in near}
        query = f"{parent.candidate.mechanism} {weak_spots(parent)} {self.directive}"
        found = self.corpus.similarities({commit: text for commit, text in texts.items() if text}, query)
        best = sorted((each for each in near if found.get(each.commit)), key=lambda each: -found[each.commit])
        return tuple(
            Chosen(
                each.name,
                f"its reflection is near the parent's mechanism and weak spots (similarity {found[each.commit]:.2f}, "
                f"read of the {NEAREST} with the nearest mechanisms)",
            )
            for each in best[:RELATED]
        )


def weak_spots(parent: Known) -> str:
    """What the parent's reflection would have addressed: its tags, else its advice, else all it says."""
    if parent.reflection is None:
        return ""
    for fact in (parent.reflection.facts.get("focus"), parent.reflection.facts.get("next")):
        if isinstance(fact, list | tuple) and fact:
            return " ".join(map(str, fact))
    return parent.reflection.prose


def searched(card: Card) -> str:
    """What retrieval knows of a card."""
    return " ".join((card.title, card.family, card.mechanism, card.helps, *card.tags))


def _scaled(similarities: Iterable[float]) -> list[float]:
    """Over the largest; nothing where all are 0."""
    values = list(similarities)
    largest = max(values, default=0.0)
    return [value / largest for value in values] if largest > 0 else []
