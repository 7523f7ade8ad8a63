"""What an agent is told before it proposes: a parent, and items, each of which says why it is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from poise_git.archive.entries import Candidate, Metrics, Proposal, Reflection
from poise_git.search.literature import Card
from poise_git.search.proposals.screening import Screened


class Kind(StrEnum):
    """Kinds of items, in the order in which they are told."""

    DIRECTIVE = "directive"
    OBJECTIVE = "objective"
    CODE = "code"
    PROPOSAL = "proposal"
    METRICS = "metrics"
    TRAJECTORY = "trajectory"
    REFLECTION = "reflection"
    LINEAGE = "lineage"
    PARETO = "pareto"
    COMPLEMENTARY = "complementary"
    EXPLORATORY = "exploratory"
    SIBLING = "sibling"
    REJECTED = "rejected"
    FAILURE = "failure"
    RELATED = "related"
    PRINCIPLE = "principle"
    CARD = "card"


REFERENCES = (Kind.PARETO, Kind.COMPLEMENTARY, Kind.EXPLORATORY)


@dataclass(frozen=True)
class Known:
    """One candidate with what its evidence says of it."""

    candidate: Candidate
    proposal: Proposal | None
    reflection: Reflection | None
    metrics: Metrics | None


@dataclass(frozen=True)
class Item:
    """One thing that an agent is told, whole or not at all.

    `name` is whose it is: a candidate's, a proposal's, a card's, "" for what belongs to the search. `reason` says why
    it is there, in words of ours alone. `text` is quoted as data: it may come from anybody. `known` is the candidate
    it tells of, if it tells of one other than the parent.
    """

    kind: Kind
    name: str
    reason: str
    text: str
    known: Known | None = None


@dataclass(frozen=True)
class Context:
    """Everything a proposal for a child of `parent` may depend on.

    `items` are what a prompt shows, in order, and `dropped` what the budget of `budget` tokens had no room for. The
    rest is for agents that work on code: `source` is the parent's `recipe/algorithm.py`, `root_source` the root
    candidate's, `cards` the whole literature, as a toolbox for reading and writing code, `rejected` what was refused
    for this parent in this round already, with reasons, and `effects` the gains over their parents of all candidates
    that cite a prior, in units of the noise, by prior.
    """

    parent: Known
    source: str
    root_source: str
    items: tuple[Item, ...]
    dropped: tuple[Item, ...]
    budget: int
    cards: tuple[Card, ...]
    directive: str
    taken_names: frozenset[str]
    rejected: tuple[Screened, ...] = ()
    effects: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def of(self, *kinds: Kind) -> tuple[Item, ...]:
        """The items of these kinds, in order."""
        return tuple(item for item in self.items if item.kind in kinds)

    def known(self, *kinds: Kind) -> Iterator[Known]:
        """The candidates that items of these kinds tell of; of all kinds where none is named."""
        return (item.known for item in self.items if item.known and (not kinds or item.kind in kinds))
