"""Choose other candidates for a context: references of three tiers, and failures."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import nlargest
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from poise_git.archive.entries import ROOT, Candidate, Proposal, Status
from poise_git.archive.genealogy import Genealogy, own_mechanisms
from poise_git.search.context.context import Kind
from poise_git.search.literature import Card
from poise_git.search.selection.interface import Survey
from poise_git.search.selection.pareto import Vector, pareto_term
from poise_git.search.selection.terms import Mask, incidence

Places = NDArray[np.int64]

# The number of references per tier.
TIERS: Mapping[Kind, int] = {Kind.PARETO: 2, Kind.COMPLEMENTARY: 2, Kind.EXPLORATORY: 2}
FAILURES = 8


@dataclass(frozen=True)
class Reference:
    """The name of a candidate, and the reason to show it."""

    name: str
    reason: str


@dataclass(frozen=True)
class Rejected:
    """A proposal that screening rejected in a round."""

    proposal: Proposal
    reason: str
    round: int


@dataclass(frozen=True)
class ReferencePool:
    """The pool of references: every candidate of one state of the archive."""

    genealogy: Genealogy
    survey: Survey
    protocol: str
    stages: Mapping[str, frozenset[str]]
    """Stages that each card touches, by the card's name."""

    @classmethod
    def of(cls, genealogy: Genealogy, survey: Survey, protocol: str, cards: Iterable[Card]) -> ReferencePool:
        return cls(genealogy, survey, protocol, {card.name: frozenset(card.stages) for card in cards})

    def words(self, name: str) -> frozenset[str]:
        """The mechanisms of a candidate and all its ancestors: the cards that they cite, and their families."""
        return self._mechanisms.of[name]

    def touched(self, name: str) -> frozenset[str]:
        """The stages that a candidate and its ancestors have changed, as far as their mechanisms have cards."""
        return self._stages.of[name]

    def nearest(self, name: str, count: int) -> list[str]:
        """The evaluated candidates, except the root, with the mechanisms closest to a candidate's by Jaccard
        distance."""
        # Skip the root: it has no parent to compare with, and its reflection does not describe a mechanism.
        places = [place for place, node in enumerate(self.survey.nodes) if node.name != ROOT]
        distances = self._mechanisms.distances(name)[self._rows[places]]
        return [self._name(places[each]) for each in np.argsort(distances, kind="stable")[:count].tolist()]

    def _contrasts(self, name: str) -> Vector:
        """The distance of each node from a candidate, in [0, 1]: the mean of the distances of mechanisms and of
        stages."""
        return np.asarray(0.5 * (self._mechanisms.distances(name) + self._stages.distances(name))[self._rows])

    def tiers(self, parent: str, seed: int) -> dict[Kind, tuple[Reference, ...]]:
        """The references of each tier, without repetition and without the parent's ancestors and children."""
        taken = {parent, *(each.name for each in self.genealogy.ancestors(parent))}
        taken |= {child.name for child in self.genealogy.children(parent)}
        found: dict[Kind, tuple[Reference, ...]] = {}
        for kind, choose in (
            (Kind.PARETO, self._leading),
            (Kind.COMPLEMENTARY, self._complementary),
            (Kind.EXPLORATORY, self._exploratory),
        ):
            found[kind] = choose(parent, taken, seed)
            taken |= {chosen.name for chosen in found[kind]}
        return found

    def failures(self, parent: str, rejected: Sequence[Rejected]) -> tuple[tuple[Candidate | Rejected, str], ...]:
        """The failed candidates and rejected proposals closest to the parent, by kinship and mechanism, with
        reasons."""
        own = self.words(parent)
        line = {parent, *(ancestor.name for ancestor in self.genealogy.ancestors(parent))}
        found: list[tuple[int, float, Candidate | Rejected]] = []
        entries: list[Candidate | Rejected] = [*self._failed, *rejected]
        for entry in entries:
            of, words = self._origin(entry)
            kinship = 2 if of == parent else 1 if of in line else 0
            found.append((kinship, 1.0 - _distance(words, own), entry))
        found.reverse()
        nearest = nlargest(FAILURES, found, key=lambda each: each[0] + each[1])
        where = ("another lineage", "an ancestor of the parent", "this parent")
        return tuple(
            (entry, f"{_what(entry)} on top of {where[kinship]}; similarity of mechanisms {likeness:.2f}")
            for kinship, likeness, entry in nearest
        )

    def _origin(self, entry: Candidate | Rejected) -> tuple[str, frozenset[str]]:
        """The parent, and the mechanisms of its whole lineage."""
        if isinstance(entry, Candidate):
            return (*entry.parents, "")[0], self.words(entry.name)
        proposal = entry.proposal
        return proposal.parent, own_mechanisms(proposal) | self._mechanisms.of.get(proposal.parent, frozenset())

    def _leading(self, parent: str, taken: Collection[str], seed: int) -> tuple[Reference, ...]:
        """The best by utility of the first front that is not used up, then the least crowded nodes, front by front."""
        best = next((place for place in self._by_front if self._name(place) not in taken), None)
        if best is None:
            return ()
        free = (place for place in self._by_pareto if place != best and self._name(place) not in taken)
        rest = islice(free, TIERS[Kind.PARETO] - 1)
        return tuple(
            Reference(self._name(place), f"{_front(self._fronts[1][place])}, {why}")
            for place, why in (
                (best, "with the highest utility on it"),
                *((place, "with few others near it") for place in rest),
            )
        )

    def _complementary(self, parent: str, taken: Collection[str], seed: int) -> tuple[Reference, ...]:
        """The nodes of the better half by utility that differ most from the parent in mechanisms and stages."""
        contrasts = self._contrasts(parent)
        half = self._upper_half[np.argsort(-contrasts[self._upper_half], kind="stable")].tolist()
        unlike = islice((place for place in half if self._name(place) not in taken), TIERS[Kind.COMPLEMENTARY])
        return tuple(
            Reference(
                self._name(place),
                f"in the better half by utility, with a different structure from the parent ({contrasts[place]:.2f})",
            )
            for place in unlike
            if contrasts[place] > 0
        )

    def _exploratory(self, parent: str, taken: Collection[str], seed: int) -> tuple[Reference, ...]:
        """A random draw outside the parent's lineage."""
        kin = {each.name for each in self.genealogy.descendants(parent)}
        names = [node.name for node in self.survey.nodes if node.name not in kin and node.name not in taken]
        lot = random.Random(f"{seed} {parent}").sample(names, min(len(names), TIERS[Kind.EXPLORATORY]))
        return tuple(Reference(name, "outside the parent's lineage, drawn at random") for name in lot)

    def _name(self, place: int) -> str:
        return self.survey.nodes[place].name

    @cached_property
    def _failed(self) -> list[Candidate]:
        return [each for each in self.genealogy if each.status_under(self.protocol) is Status.FAILED]

    @cached_property
    def _rows(self) -> Places:
        """The rows of mechanisms and stages for the nodes of the survey."""
        row = {name: place for place, name in enumerate(self.genealogy.mechanisms)}
        return np.array([row[node.name] for node in self.survey.nodes], dtype=np.int64)

    @cached_property
    def _utilities(self) -> tuple[Vector, Mask]:
        nodes = self.survey.nodes
        return np.array([node.utility for node in nodes]), np.array([node.feasible for node in nodes], dtype=np.bool_)

    @cached_property
    def _upper_half(self) -> Places:
        """Places of the better half by utility, best first."""
        utility, feasible = self._utilities
        return np.asarray(np.lexsort((-utility, ~feasible))[: (len(utility) + 1) // 2], dtype=np.int64)

    @cached_property
    def _fronts(self) -> tuple[Vector, Vector]:
        """U_pareto and the rank of its front, for each node of the survey."""
        nodes = self.survey.nodes
        if not nodes:
            return np.empty(0), np.empty(0)
        return pareto_term(
            np.array([node.metrics for node in nodes]),
            np.array([node.metric_errors for node in nodes]),
            *self._utilities,
        )

    @cached_property
    def _by_front(self) -> list[int]:
        """Places front by front, highest utility first."""
        utility, feasible = self._utilities
        return list(map(int, np.lexsort((-utility, ~feasible, self._fronts[1]))))

    @cached_property
    def _by_pareto(self) -> list[int]:
        return list(map(int, np.argsort(-self._fronts[0], kind="stable")))

    @cached_property
    def _mechanisms(self) -> _Sets:
        return _Sets(self.genealogy.mechanisms)

    @cached_property
    def _stages(self) -> _Sets:
        def own(candidate: Candidate) -> frozenset[str]:
            return frozenset().union(*(self.stages.get(prior, ()) for prior in candidate.priors))

        return _Sets(self.genealogy.along_lines(own))


class _Sets:
    """A set of words per candidate, and the distances between the sets."""

    def __init__(self, of: Mapping[str, frozenset[str]]) -> None:
        self.of = of
        self._has = incidence(of.values())
        self._sizes = self._has.sum(1)
        self._row = {name: row for row, name in enumerate(of)}

    def distances(self, name: str) -> Vector:
        """Jaccard distances from one candidate to each (n,); 0 between two empty sets."""
        own = self._has[self._row[name]]
        shared = self._has @ own
        union = self._sizes + own.sum() - shared
        return np.asarray(np.where(union > 0, 1.0 - shared / np.maximum(union, 1.0), 0.0), dtype=np.float64)


def _front(rank: float) -> str:
    return "on the Pareto front" if rank == 0 else f"on front {rank + 1:.0f}; the Pareto front is front 1"


def _what(entry: Candidate | Rejected) -> str:
    return "a candidate that failed" if isinstance(entry, Candidate) else f"a proposal rejected in round {entry.round}"


def _distance(left: frozenset[str], right: frozenset[str]) -> float:
    """The Jaccard distance; 0 for two empty sets."""
    union = len(left | right)
    return 1.0 - len(left & right) / union if union else 0.0
