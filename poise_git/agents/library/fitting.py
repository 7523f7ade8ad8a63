"""Score how well ideas fit a direction."""

from __future__ import annotations

from collections.abc import Mapping

from poise_git.agents.library.ideas import Idea
from poise_git.archive.entries import Direction
from poise_git.search.context.context import Context, Kind
from poise_git.search.context.relevance import relevance
from poise_git.search.proposals.directions import DirectionKind, stages_of

# Words of cards that address a regime of the testbed's protocols; other regimes use their own name.
REGIME_WORDS: Mapping[str, frozenset[str]] = {
    "weak": frozenset(("validity", "hierarchy", "decoupled")),
    "capable": frozenset(("variance", "unbiased", "difficulty")),
    "mild": frozenset(("ratio", "clip", "baseline")),
    "stale": frozenset(("ratio", "trust-region", "off-policy")),
    "sharpen": frozenset(("diversity", "negative", "pass-at-k")),
    "long": frozenset(("entropy", "exploration", "stability")),
    "sparse": frozenset(("all-fail", "rare-success", "failure", "pass-at-k")),
    "length": frozenset(("length", "concise")),
    # Regimes of earlier protocols, which archives still have.
    "composite": frozenset(("validity", "hierarchy", "decoupled")),
    "accuracy": frozenset(("variance", "unbiased", "difficulty")),
    "reuse": frozenset(("ratio", "clip", "off-policy")),
}


def fit(idea: Idea, direction: Direction, context: Context) -> float:
    """How well an idea fits a direction, in [0, 1]; 0 means not at all."""
    match direction.kind:
        case DirectionKind.STAGE:
            return float(direction.name in stages_of(idea.card))
        case DirectionKind.FAMILY:
            return float(idea.card.family == direction.name)
        case DirectionKind.REGIME:
            return max(_speaks_to(idea, direction.name), _helped_in(idea, direction.name, context))
        case _:
            return 1.0


def _speaks_to(idea: Idea, regime: str) -> float:
    return relevance(idea.card, REGIME_WORDS.get(regime, frozenset((regime.lower(),))))


def _helped_in(idea: Idea, regime: str, context: Context) -> float:
    """Whether a shown candidate with this card has a better figure there than the root."""
    roots = [known for known in (*context.known(Kind.LINEAGE), context.parent) if not known.candidate.parents]
    root = next((known.metrics.values.get(regime) for known in roots if known.metrics), None)
    return float(
        root is not None
        and any(
            value.value > root.value + (value.se or 0.0)
            for known in context.known()
            if idea.card.name in known.candidate.priors and known.metrics
            if (value := known.metrics.values.get(regime))
        )
    )
