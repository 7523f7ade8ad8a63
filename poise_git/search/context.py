"""What an agent is told before it proposes: the parent, its line, references of three kinds, literature, directive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from poise_git.archive.entries import Candidate, Metrics, Proposal, Reflection
from poise_git.search.literature import Card
from poise_git.search.screening import Screened


@dataclass(frozen=True)
class Known:
    """One candidate with what its evidence says of it."""

    candidate: Candidate
    proposal: Proposal | None
    reflection: Reflection | None
    metrics: Metrics | None


@dataclass(frozen=True)
class Context:
    """Everything a proposal may depend on.

    `line` is the parent's ancestors, root first; `references` are grouped by why they are shown: "performance",
    "complementary", "exploratory", "failed" and "sibling". `source` is the parent's `recipe/algorithm.py`,
    `root_source` the root candidate's. `rejected` is what was refused for this parent in this round already, with
    reasons. `effects`: prior -> the gains over their parents of all candidates that cite it, in units of the noise.
    """

    parent: Known
    source: str
    root_source: str
    line: tuple[Known, ...]
    references: dict[str, tuple[Known, ...]]
    cards: tuple[Card, ...]
    directive: str
    taken_names: frozenset[str]
    rejected: tuple[Screened, ...] = ()
    effects: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
