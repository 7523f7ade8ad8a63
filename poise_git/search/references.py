"""Which other candidates an agent is shown besides a parent's own line: references of three tiers, and failures."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from poise_git.archive.entries import Candidate, Proposal, Status
from poise_git.archive.genealogy import Genealogy
from poise_git.search.context import Kind
from poise_git.search.literature import Card
from poise_git.search.nodes import mechanism_words, own_words
from poise_git.search.pareto import pareto_term
from poise_git.search.policies.interface import Survey

# How many of each tier are shown.
TIERS: Mapping[Kind, int] = {Kind.PARETO: 2, Kind.COMPLEMENTARY: 2, Kind.EXPLORATORY: 2}
FAILURES = 8


@dataclass(frozen=True)
class Chosen:
    """The name of a candidate, and why it is shown."""

    name: str
    reason: str


@dataclass(frozen=True)
class Rejected:
    """A proposal that screening turned down in a round."""

    proposal: Proposal
    reason: str
    round: int


@dataclass(frozen=True)
class Field:
    """What references are chosen from: every candidate of one state of the archive."""

    genealogy: Genealogy
    survey: Survey
    protocol: str
    stages: Mapping[str, frozenset[str]]
    """Stages that each card touches, by the card's name."""

    @classmethod
    def of(cls, genealogy: Genealogy, survey: Survey, protocol: str, cards: Iterable[Card]) -> Field:
        return cls(genealogy, survey, protocol, {card.name: frozenset(card.stages) for card in cards})

    def words(self, name: str) -> frozenset[str]:
        """Mechanisms of a candidate and all its ancestors: the cards they cite and their families."""
        return self._words[name]

    def stages_of(self, words: Iterable[str]) -> frozenset[str]:
        """The stages that mechanisms touch, as far as they are cards'."""
        return frozenset().union(*(self.stages.get(word, frozenset()) for word in words))

    def distance(self, left: str, right: str) -> float:
        """Jaccard's, of the mechanisms of two candidates."""
        return _distance(self.words(left), self.words(right))

    def contrast(self, parent: str, other: str) -> float:
        """How unlike two candidates are in structure, in [0, 1]: Jaccard distance of mechanisms and of stages, mean."""
        stages = _distance(self.stages_of(self.words(parent)), self.stages_of(self.words(other)))
        return 0.5 * (self.distance(parent, other) + stages)

    def tiers(self, parent: str, seed: int) -> dict[Kind, tuple[Chosen, ...]]:
        """References of each tier; none of them twice, and neither the parent's ancestors nor its children."""
        taken = {parent, *(each.name for each in self.genealogy.ancestors(parent))}
        taken |= {child.name for child in self.genealogy.children(parent)}
        found: dict[Kind, tuple[Chosen, ...]] = {}
        for kind, choose in (
            (Kind.PARETO, self._leading),
            (Kind.COMPLEMENTARY, self._complementary),
            (Kind.EXPLORATORY, self._exploratory),
        ):
            found[kind] = choose(parent, taken, seed)
            taken |= {chosen.name for chosen in found[kind]}
        return found

    def failures(self, parent: str, rejected: Sequence[Rejected]) -> tuple[tuple[Candidate | Rejected, str], ...]:
        """The failed candidates and rejected proposals nearest to the parent, by kinship and mechanism, and why."""
        own = self.words(parent)
        line = {parent, *(ancestor.name for ancestor in self.genealogy.ancestors(parent))}
        failed = (each for each in self.genealogy if each.status_under(self.protocol) is Status.FAILED)
        found: list[tuple[int, float, Candidate | Rejected]] = []
        entries: list[Candidate | Rejected] = [*failed, *rejected]
        for entry in entries:
            of, words = self._origin(entry)
            kinship = 2 if of == parent else 1 if of in line else 0
            found.append((kinship, 1.0 - _distance(words, own), entry))
        found.reverse()
        nearest = sorted(found, key=lambda each: -each[0] - each[1])[:FAILURES]
        where = ("another line", "an ancestor of the parent", "this parent")
        return tuple(
            (entry, f"{_what(entry)} on top of {where[kinship]}; likeness of mechanisms {likeness:.2f}")
            for kinship, likeness, entry in nearest
        )

    def _origin(self, entry: Candidate | Rejected) -> tuple[str, frozenset[str]]:
        """The parent, and the mechanisms of the whole line."""
        if isinstance(entry, Candidate):
            return (*entry.parents, "")[0], self.words(entry.name)
        proposal = entry.proposal
        return proposal.parent, own_words(proposal) | self._words.get(proposal.parent, frozenset())

    def _leading(self, parent: str, taken: Collection[str], seed: int) -> tuple[Chosen, ...]:
        """The best by utility of the first front that is not taken whole, then the least crowded, front by front."""
        values, ranks = self._fronts
        free = [place for place in range(len(ranks)) if self._name(place) not in taken]
        if not free:
            return ()
        first = min(ranks[place] for place in free)
        best = max((place for place in free if ranks[place] == first), key=self._standing)
        rest = sorted((place for place in free if place != best), key=lambda place: -values[place])
        return tuple(
            Chosen(self._name(place), f"{_front(ranks[place])}, {why}")
            for place, why in (
                (best, "with the highest utility there"),
                *((place, "where few others stand near it") for place in rest[: TIERS[Kind.PARETO] - 1]),
            )
        )

    def _complementary(self, parent: str, taken: Collection[str], seed: int) -> tuple[Chosen, ...]:
        """Among the upper half by utility, those least like the parent in mechanisms and stages."""
        order = sorted(range(len(self.survey.nodes)), key=self._standing, reverse=True)
        half = [place for place in order[: (len(order) + 1) // 2] if self._name(place) not in taken]
        contrasts = {place: self.contrast(parent, self._name(place)) for place in half}
        unlike = sorted(half, key=lambda place: -contrasts[place])[: TIERS[Kind.COMPLEMENTARY]]
        return tuple(
            Chosen(
                self._name(place),
                f"of the better half by utility, unlike the parent in mechanisms and stages ({contrasts[place]:.2f})",
            )
            for place in unlike
            if contrasts[place] > 0
        )

    def _exploratory(self, parent: str, taken: Collection[str], seed: int) -> tuple[Chosen, ...]:
        """By lot, outside the direct line of descent."""
        kin = {each.name for each in self.genealogy.descendants(parent)}
        names = [node.name for node in self.survey.nodes if node.name not in kin and node.name not in taken]
        lot = random.Random(f"{seed} {parent}").sample(names, min(len(names), TIERS[Kind.EXPLORATORY]))
        return tuple(Chosen(name, "outside the parent's line, drawn by lot") for name in lot)

    def _standing(self, place: int) -> tuple[bool, float]:
        node = self.survey.nodes[place]
        return node.feasible, node.utility

    def _name(self, place: int) -> str:
        return self.survey.nodes[place].name

    @cached_property
    def _fronts(self) -> tuple[list[float], list[float]]:
        """U_pareto and the rank of its front of each node of the survey."""
        nodes = self.survey.nodes
        if not nodes:
            return [], []
        value, ranks = pareto_term(
            np.array([node.metrics for node in nodes]),
            np.array([node.metric_errors for node in nodes]),
            np.array([node.utility for node in nodes]),
            np.array([node.feasible for node in nodes]),
        )
        return value.tolist(), ranks.tolist()

    @cached_property
    def _words(self) -> dict[str, frozenset[str]]:
        return mechanism_words(self.genealogy)


def _front(rank: float) -> str:
    return "on the Pareto front" if rank == 0 else f"on front {rank + 1:.0f}, the Pareto front being 1"


def _what(entry: Candidate | Rejected) -> str:
    return "a candidate that failed" if isinstance(entry, Candidate) else f"a proposal rejected in round {entry.round}"


def _distance(left: frozenset[str], right: frozenset[str]) -> float:
    """Jaccard's; 0 for two empty sets."""
    union = len(left | right)
    return 1.0 - len(left & right) / union if union else 0.0
