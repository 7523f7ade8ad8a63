"""The context of a proposing agent: a parent, and items with the reason why each is included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from poise_git.archive.entries import Candidate, Metrics, Proposal, Reflection
from poise_git.search.literature import Card
from poise_git.search.proposals.screening import Screened


class Kind(StrEnum):
    """Kinds of items, in the order of the text."""

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
class CandidateRecord:
    """One candidate with its evidence."""

    candidate: Candidate
    proposal: Proposal | None
    reflection: Reflection | None
    metrics: Metrics | None


@dataclass(frozen=True)
class Item:
    """One item of a context, which is included whole or omitted.

    `name` names a candidate, a proposal or a card; it is "" for items about the whole search. `reason` says why the
    item is included; only poise-git writes it. `text` is quoted as data, because it is untrusted. `known` is the
    candidate that the item describes, if it is not the parent.
    """

    kind: Kind
    name: str
    reason: str
    text: str
    known: CandidateRecord | None = None


@dataclass(frozen=True)
class Context:
    """All data that a proposal for a child of `parent` may depend on.

    A prompt shows `items` in order. `dropped` are the items that exceeded the budget of `budget` tokens. The other
    fields are for agents that work on code: `source` is the parent's `recipe/algorithm.py`, `root_source` the root
    candidate's, and `cards` the whole literature, for reading and writing code. `rejected` holds the proposals that
    were already rejected for this parent in this round, with reasons. `effects` holds, by prior, the gains over their
    parents of all candidates that cite the prior, in units of the noise. `unweighted` are suites without a part in U.
    """

    parent: CandidateRecord
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
    unweighted: frozenset[str] = frozenset()

    def of(self, *kinds: Kind) -> tuple[Item, ...]:
        """The items of these kinds, in order."""
        return tuple(item for item in self.items if item.kind in kinds)

    def known(self, *kinds: Kind) -> Iterator[CandidateRecord]:
        """The candidates that items of these kinds describe; without kinds, those of all items."""
        return (item.known for item in self.items if item.known and (not kinds or item.kind in kinds))
